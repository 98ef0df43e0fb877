"""What a read answers with: a contiguous Blosc2 frame that holds the selection.

There are three ways to make one, and `compose` takes the cheapest that fits:

- *verbatim*: a selection of whole chunks is those chunks, as they are on disk, behind a new header;
- *packed*: a result of middling size is compressed once, to spare the network;
- *plain*: a small result is sent uncompressed, which takes microseconds; so is one too large to hold in memory,
  because the frame of uncompressed chunks has a known length, and can be sent while it is made.

Everything here is synchronous; the bytes come piece by piece, so that a thread can be asked for one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt

from caterva2.chunks import UNINIT, ZERO, ChunkSpec, stored_header
from caterva2.errors import BadRequestError, TooLargeError
from caterva2.frames import Geometry, frame_parts
from caterva2.slices import Axis, Selection, Slice
from caterva2.subscriber.mirror import StoredFrame

# Up to this many bytes, compressing costs more than it saves on any network.
_PLAIN = 128 << 10
# Above it a result is not held in memory as a whole.
_PACKED = 32 << 20
_MOST = 1 << 36
_MOST_CHUNKS = 1 << 22
_SLAB = 8 << 20
_PIECE = 1 << 20
# A block of a Blosc2 frame has less than 512 MiB.
_MOST_CHUNK = 1 << 28
# Blocks up to this many bytes are decompressed in the event loop: a thread would cost more than the work.
_QUICK = 1 << 20

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A frame that is sent.

    Attributes:
        length: in bytes.
        pieces: its bytes in order.
    """

    length: int
    pieces: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Request:
    """A selection of a stored frame.

    Attributes:
        frame: what is read.
        geometry: its shape; a frame that is no array is taken as one axis of raw items.
        selection: what of it.
        field: the only field wanted, None for all.
    """

    frame: StoredFrame
    geometry: Geometry
    selection: Selection
    field: str | None

    @classmethod
    def of(cls, frame: StoredFrame, key: Slice, field: str | None) -> Request:
        """Apply a slice to a frame.

        Raises:
            SliceError: if it does not fit the shape.
            BadRequestError: if there is no such field.
            TooLargeError: if the result would be larger than any client can want.
        """
        geometry = geometry_of(frame)
        request = cls(frame, geometry, key.resolve(geometry.shape), field)
        names = geometry.dtype.names or ()
        if field is not None and field not in names:
            known = f"its fields are {', '.join(names)}" if names else "it has no fields"
            raise BadRequestError(f"there is no field {field!r} in {frame.entry.path}: {known}")
        nchunks = math.prod(len(list(_spans(a, c))) for a, c in _bounded(request))
        if request.nbytes > _MOST or nchunks > _MOST_CHUNKS:
            raise TooLargeError(f"slice {key} selects {request.nbytes} bytes: ask for less than {_MOST} at a time")
        return request

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the result."""
        return self.geometry.dtype if self.field is None else self.geometry.dtype[self.field]

    @property
    def nbytes(self) -> int:
        """Of the result, uncompressed."""
        return self.selection.size * self.dtype.itemsize

    @property
    def numbers(self) -> list[int]:
        """The numbers of the chunks that hold the selection, ascending."""
        return self.selection.chunk_numbers(self.geometry.shape, self.geometry.chunks)

    @property
    def quick(self) -> bool:
        """Whether the answer is made in about a millisecond, once the chunks are there."""
        return self.nbytes <= _PLAIN and len(self.numbers) * max(self.frame.layout.blocksize, 1) <= _QUICK

    @property
    def whole(self) -> bool:
        """Whether the result is the frame itself."""
        return self.field is None and self.selection.whole(self.geometry.shape)


def _bounded(request: Request) -> Iterator[tuple[Axis, int]]:
    return zip(request.selection.axes, request.geometry.chunks, strict=True)


def _spans(axis: Axis, chunk: int) -> range:
    """At least as many items as the axis touches chunks, without making them."""
    return range(min(axis.count, (axis.high - axis.low) // max(chunk, 1) + 2))


def geometry_of(frame: StoredFrame) -> Geometry:
    """The shape of a frame; one that is no array has one axis of raw items."""
    layout = frame.layout
    if frame.kind == "array" and layout.geometry is not None:
        return layout.geometry
    size, chunk = layout.nbytes // layout.typesize, max(1, layout.chunksize // layout.typesize)
    return Geometry((size,), (chunk,), (chunk,), np.dtype(f"V{layout.typesize}"))


def compose(request: Request) -> Answer:
    """Make the answer; all chunks of the selection must be there."""
    if request.nbytes > _PLAIN and _whole_chunks(request):
        return _verbatim(request)
    if _PLAIN < request.nbytes <= _PACKED:
        return _packed(request)
    return _plain(request)


def assemble(request: Request) -> Array:
    """Decompress the selection.

    Returns:
        An array of `request.dtype`, shape `request.selection.counts`: axes that an int selected have length 1.
    """
    selection, frame = request.selection, request.frame
    out = np.empty(selection.counts, request.dtype)
    for pieces, n in zip(selection.pieces(request.geometry.chunks), request.numbers, strict=True):
        target = tuple(piece.target for piece in pieces)
        if frame.layout.special(n) == UNINIT:
            out[target] = np.zeros((), out.dtype)
            continue
        hull = tuple(slice(piece.source.start, piece.source.stop) for piece in pieces)
        items = _items(request, hull)[tuple(slice(None, None, piece.source.step) for piece in pieces)]
        out[target] = items if request.field is None else items[request.field]
    return out


def _items(request: Request, box: tuple[slice, ...]) -> Array:
    handle = request.frame.handle
    if isinstance(handle, blosc2.SChunk):
        return np.frombuffer(handle[box[0].start : box[0].stop], request.geometry.dtype)
    items: Array = np.asarray(handle[box])
    return items


def _whole_chunks(request: Request) -> bool:
    """Whether the selection is a box whose sides are those of chunks."""
    axes = zip(request.selection.axes, request.geometry.shape, request.geometry.chunks, strict=True)
    return request.field is None and all(
        a.kept and a.step == 1 and a.start % chunk == 0 and (a.high == extent or a.high % chunk == 0)
        for a, extent, chunk in axes
    )


def _verbatim(request: Request) -> Answer:
    frame, layout, numbers = request.frame, request.frame.layout, request.numbers
    stored = [layout.special(n) is None for n in numbers]
    lengths = np.array([frame.stored_length(n) if s else 0 for n, s in zip(numbers, stored, strict=True)], np.int64)
    places = np.cumsum(lengths) - lengths
    specials = np.array([_special_offset(layout.special(n)) for n in numbers], np.int64)
    cbytes, nbytes = int(lengths.sum()), len(numbers) * layout.chunksize
    if isinstance(frame.handle, blosc2.SChunk):
        nbytes = request.nbytes
    head, tail = frame_parts(_template(request), np.where(stored, places, specials), cbytes, nbytes)

    def pieces() -> Iterator[bytes]:
        yield head
        yield from _joined(frame.chunk(n) for n, s in zip(numbers, stored, strict=True) if s)
        yield tail

    return Answer(len(head) + cbytes + len(tail), pieces())


def _special_offset(kind: int | None) -> int:
    # A client that decodes UNINIT would see what its own memory happens to hold.
    return (-1 << 63) | ((ZERO if kind == UNINIT else kind or 0) << 56)


def _joined(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Join small chunks, so that each piece is worth a trip through the server."""
    batch: list[bytes] = []
    for chunk in chunks:
        batch.append(chunk)
        if sum(map(len, batch)) >= _PIECE:
            yield b"".join(batch)
            batch = []
    yield b"".join(batch)


def _template(request: Request) -> bytes:
    """A frame of the result's shape without data, cut as the source is."""
    schunk = getattr(request.frame.handle, "schunk", request.frame.handle)
    cparams = replace(schunk.cparams, nthreads=1)
    if schunk is request.frame.handle:
        return _as_bytes(blosc2.SChunk(chunksize=request.frame.layout.chunksize, cparams=cparams, contiguous=True))
    g = request.geometry
    return _as_bytes(
        blosc2.uninit(
            request.selection.shape, g.dtype, chunks=g.chunks, blocks=g.blocks, cparams=cparams, contiguous=True
        )
    )


def _as_bytes(made: Any) -> bytes:
    frame: bytes = made.to_cframe()
    return frame


def _packed(request: Request) -> Answer:
    data = np.ascontiguousarray(assemble(request)).reshape(request.selection.shape)
    if isinstance(request.frame.handle, blosc2.SChunk):
        cparams = blosc2.CParams(typesize=data.itemsize, codec=blosc2.Codec.LZ4, clevel=1, nthreads=1)
        frame = _as_bytes(blosc2.SChunk(data=data.tobytes(), cparams=cparams, contiguous=True))
    else:
        cparams = blosc2.CParams(codec=blosc2.Codec.LZ4, clevel=1, nthreads=1)
        frame = _as_bytes(blosc2.asarray(data, cparams=cparams, contiguous=True))
    return Answer(len(frame), iter((frame,)))


def _plain(request: Request) -> Answer:
    shape, flat = request.selection.shape, isinstance(request.frame.handle, blosc2.SChunk)
    if flat and not request.selection.axes[0].kept:
        shape = (1,)
    slabs = list(_slabs(request))
    rows = slabs[0].selection.shape[0] if shape and slabs else 1
    head, spec, tail = _plain_frame(shape, rows, len(slabs), request.dtype, flat=flat)

    def pieces() -> Iterator[bytes]:
        header = stored_header(spec) if slabs else b""
        last = b"" if flat else bytes(spec.nbytes)
        yield head
        for slab in slabs:
            data = assemble(slab).tobytes()
            if flat and len(data) != spec.nbytes:
                header = stored_header(replace(spec, nbytes=len(data)))
            yield header + data + last[len(data) :]
        yield tail

    length = len(head) + len(slabs) * (32 + spec.nbytes) + len(tail)
    if flat and slabs:
        length -= len(slabs) * spec.nbytes - request.nbytes
    return Answer(length, pieces())


def _slabs(request: Request) -> Iterator[Request]:
    """Cut a request along its first kept axis into results that fit in memory."""
    axes = request.selection.axes
    where = next((i for i, axis in enumerate(axes) if axis.kept), None)
    if not request.selection.size or where is None:
        yield from [request] * bool(request.selection.size)
        return
    axis = axes[where]
    row = request.nbytes // axis.count
    if row > _MOST_CHUNK:
        raise TooLargeError(f"a slice with rows of {row} bytes cannot be answered: select less along the last axes")
    rows = min(axis.count, max(1, _SLAB // row))
    for start in range(0, axis.count, rows):
        part = replace(axis, start=axis.start + start * axis.step, count=min(rows, axis.count - start))
        yield replace(request, selection=Selection((*axes[:where], part, *axes[where + 1 :])))


@lru_cache(1024)
def _plain_frame(
    shape: tuple[int, ...], rows: int, nslabs: int, dtype: np.dtype[Any], *, flat: bool
) -> tuple[bytes, ChunkSpec, bytes]:
    """Header and tail of a frame whose chunks are uncompressed slabs of `rows` rows, each one block in C order."""
    cut = (rows, *shape[1:]) if shape else ()
    nbytes = math.prod(cut) * dtype.itemsize
    spec = ChunkSpec(nbytes, nbytes, dtype.itemsize)
    filters = [blosc2.Filter.NOFILTER] * 6
    cparams = blosc2.CParams(clevel=0, nthreads=1, filters=filters, typesize=dtype.itemsize)
    if flat:
        template = _as_bytes(blosc2.SChunk(chunksize=max(nbytes, 1), cparams=cparams, contiguous=True))
    else:
        template = _as_bytes(blosc2.uninit(shape, dtype, chunks=cut, blocks=cut, cparams=cparams, contiguous=True))
    if not nslabs:
        return template, spec, b""
    offsets = np.arange(nslabs, dtype=np.int64) * (32 + nbytes)
    total = shape[0] * dtype.itemsize if flat else nslabs * nbytes
    stored = nslabs * 32 + total
    head, tail = frame_parts(template, offsets, stored, total)
    return head, spec, tail
