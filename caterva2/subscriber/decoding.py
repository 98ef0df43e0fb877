"""Boxes of a stored frame, decompressed.

Blosc2 reads a box by itself, decoding only the blocks that it touches, but keeps the interpreter's lock (GIL) while it
does, so that the event loop stands still. A box that takes much of a chunk is therefore cut out of the whole chunk,
which is decompressed without the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caterva2.chunks import UNINIT, decompress_chunk
from caterva2.errors import FrameError
from caterva2.frames import Geometry
from caterva2.subscriber.stored import StoredFrame

# Of a chunk's blocks at least this share is worth decoding all of them.
_MUCH = 1 / 4
# Bytes of blocks that Blosc2 decodes in a fraction of a millisecond, for which the event loop may stand still.
_LITTLE = 256 << 10

Array = npt.NDArray[Any]
Box = tuple[slice, ...]


def geometry_of(frame: StoredFrame) -> Geometry:
    """The shape of a frame; one that is no array has one axis of raw items."""
    layout = frame.layout
    if frame.kind == "array" and layout.geometry is not None:
        return layout.geometry
    size, chunk = layout.nbytes // layout.typesize, max(1, layout.chunksize // layout.typesize)
    return Geometry((size,), (chunk,), (chunk,), np.dtype(f"V{layout.typesize}"))


def read_box(frame: StoredFrame, geometry: Geometry, box: Box, n: int) -> Array:
    """Decompress a box that lies in chunk n, which must be there.

    Returns:
        An array of the geometry's dtype and the box's shape.

    Raises:
        FrameError: if the chunk is damaged.
    """
    if frame.layout.special(n) == UNINIT:
        return np.zeros(_shape(box), geometry.dtype)
    if frame.kind != "array":
        return _raw_items(frame, geometry, box[0], n)
    if box and (frame.delta or _is_much(geometry, box)):
        inside = tuple(
            slice(side.start % size, side.stop - side.start // size * size)
            for side, size in zip(box, geometry.chunks, strict=True)
        )
        return _whole_chunk(frame, geometry, n)[inside]
    return read_blocks(frame, geometry, box)


def read_blocks(frame: StoredFrame, geometry: Geometry, box: Box) -> Array:
    """Let Blosc2 decompress a box of an array, in one chunk or in several; none may be uninitialised.

    Raises:
        FrameError: if a chunk is damaged.
    """
    try:
        if not box:
            return np.asarray(frame.handle[()])
        items: Array = np.empty(_shape(box), geometry.dtype)
        # What `handle[box]` comes down to, at half its price: the file does not change, so nothing is looked up again.
        frame.handle.get_slice_numpy(items, ([side.start for side in box], [side.stop for side in box]))
        return items
    except (RuntimeError, ValueError) as error:
        # What was checked of a chunk is its form: its bytes may be damaged where they are published.
        raise FrameError(f"{frame.path} is damaged: a chunk does not decompress") from error


def in_one_go(frame: StoredFrame, numbers: Sequence[int]) -> bool:
    """Whether `read_blocks` reads these chunks rightly: none whose contents Blosc2 leaves to chance.

    With DELTA, blocks are differences to the chunk's first one; of a part of a chunk, Blosc2 4.14 decodes them
    wrongly, or hangs.
    """
    return not frame.delta and all(frame.layout.special(n) != UNINIT for n in numbers)


def _shape(box: Box) -> list[int]:
    return [side.stop - side.start for side in box]


def _is_much(geometry: Geometry, box: Box) -> bool:
    touched, there, nbytes = 1, 1, geometry.dtype.itemsize
    for side, chunk, block in zip(box, geometry.chunks, geometry.blocks, strict=True):
        first, last = side.start % chunk // block, (side.stop - 1) % chunk // block
        touched *= last - first + 1
        there *= -(-chunk // block)
        nbytes *= (last - first + 1) * block
    return nbytes > _LITTLE and touched >= _MUCH * there


def _whole_chunk(frame: StoredFrame, geometry: Geometry, n: int) -> Array:
    """The items of a chunk in the order of the array, with those that pad it."""
    data = decompress_chunk(frame.chunk(n), frame.layout.spec(n), f"chunk {n} of {frame.path}")
    grid = [-(-chunk // block) for chunk, block in zip(geometry.chunks, geometry.blocks, strict=True)]
    ndim = len(grid)
    # Blosc2 stores a chunk block by block (the b2nd format of C-Blosc2): axes (grid, block) become grid * block.
    blocks = np.frombuffer(data, geometry.dtype).reshape(*grid, *geometry.blocks)
    order = [axis for i in range(ndim) for axis in (i, ndim + i)]
    return blocks.transpose(order).reshape([g * b for g, b in zip(grid, geometry.blocks, strict=True)])


def _raw_items(frame: StoredFrame, geometry: Geometry, side: slice, n: int) -> Array:
    """Decompress items of a chunk of a frame that is no array."""
    layout = frame.layout
    start, stop = (at * layout.typesize - n * layout.chunksize for at in (side.start, side.stop))
    try:
        if stop - start < layout.chunksize * _MUCH and not frame.delta:
            return np.frombuffer(frame.handle[side.start : side.stop], geometry.dtype)
    except (RuntimeError, ValueError) as error:
        raise FrameError(f"{frame.path} is damaged: a chunk does not decompress") from error
    data = decompress_chunk(frame.chunk(n), layout.spec(n), f"chunk {n} of {frame.path}")
    return np.frombuffer(memoryview(data)[start:stop], geometry.dtype)
