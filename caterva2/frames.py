"""The layout of Blosc2 frames: where the header, the chunks, the offsets index and the trailer are.

The format is C-Blosc2's contiguous frame (README_CFRAME_FORMAT.rst and README_CHUNK_FORMAT.rst there): a msgpack
header at fixed offsets, the chunks, an index (one Blosc2 chunk of int64 offsets relative to the header's end,
negative for chunks that are one repeated value), a trailer with the variable-length metadata. Nothing here does
input or output, and nothing of a frame reaches the Blosc2 library before it was checked.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import blosc2
import msgpack
import numpy as np
import numpy.typing as npt

from caterva2.chunks import (
    CHUNK_HEADER,
    FILE_BLOCKSIZE,
    NAN,
    UNINIT,
    ZERO,
    ChunkSpec,
    decompress_chunk,
    file_chunksize,
    file_cparams,
    stored_header,
)
from caterva2.dtypes import parse_dtype
from caterva2.errors import FrameError, NotFoundError

Pread = Callable[[int, int], bytes]
Offsets = npt.NDArray[np.int64]

PAGE = 4096
_MAGIC = b"b2frame\0"
_MAX_HEADER = 1 << 20
_MAX_TAIL = 256 << 20
_MAX_CHUNKS = 1 << 24
_MAX_NDIM = 16
_CONTIGUOUS, _SPARSE = 0, 1


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shape of an array and how it is cut, in items along each axis."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    blocks: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class FrameLayout:
    """Where everything is in a frame. Offsets and lengths are in bytes from the frame's start.

    Attributes:
        header_length: of the header.
        length: of the whole frame.
        nbytes: of the data when decompressed, with the padding of border chunks.
        cbytes: of the chunks as stored.
        typesize: of an item.
        blocksize: of a block; 0 when each chunk may have its own.
        chunksize: of a chunk when decompressed.
        sparse: whether the chunks are files of their own beside the frame; then `offsets` are file numbers.
        geometry: shape and dtype, None for a frame that is not an array.
        offsets: int64, shape (nchunks,): where each chunk starts; negative for a special chunk.
    """

    header_length: int
    length: int
    nbytes: int
    cbytes: int
    typesize: int
    blocksize: int
    chunksize: int
    sparse: bool
    geometry: Geometry | None
    offsets: Offsets

    @classmethod
    def read(cls, pread: Pread, size: int) -> Self:
        """Parse the frame that `pread(offset, length)` reads from, of `size` bytes at most.

        Raises:
            FrameError: if this is no sound frame, or one of a kind that cannot be served.
        """
        header = _read_header(pread, size)
        layout = cls(*header, geometry=None, offsets=np.empty(0, np.int64))
        raw = pread(0, layout.header_length)
        values = dict(vars(layout), geometry=_geometry(raw, layout), offsets=_offsets(pread, layout))
        return cls(**values)

    @property
    def nchunks(self) -> int:
        """How many chunks there are."""
        return len(self.offsets)

    @property
    def index_offset(self) -> int:
        """Where the index starts; the trailer follows it."""
        return self.header_length + (0 if self.sparse else self.cbytes)

    @cached_property
    def ends(self) -> Offsets:
        """int64, shape (nchunks,): the byte before which each stored chunk must end."""
        bounds = np.sort(np.append(self.offsets[self.offsets >= 0], self.index_offset))
        return bounds[np.minimum(np.searchsorted(bounds, self.offsets, side="right"), len(bounds) - 1)]

    @cached_property
    def order(self) -> Offsets:
        """int64: the numbers of the stored chunks in the order of their offsets."""
        stored = np.flatnonzero(self.offsets >= 0)
        return stored[np.argsort(self.offsets[stored], kind="stable")]

    @cached_property
    def uninitialised(self) -> bool:
        """Whether there are chunks that Blosc2 decodes to whatever the reader's memory holds."""
        return bool((self.offsets[self.offsets < 0] >> 56 & 7 == UNINIT).any())

    def special(self, n: int) -> int | None:
        """The kind of special chunk that chunk n is (`ZERO`, `NAN`, `UNINIT`), None if it is stored."""
        offset = int(self.offsets[n])
        return offset >> 56 & 7 if offset < 0 else None

    def spec(self, n: int) -> ChunkSpec:
        """What chunk n must say of itself."""
        last = self.nbytes - n * self.chunksize
        return ChunkSpec(min(self.chunksize, last), self.blocksize, self.typesize)

    def check_number(self, n: int) -> int:
        """Return the number of a chunk that exists.

        Raises:
            NotFoundError: if there is no chunk of this number.
        """
        if not 0 <= n < self.nchunks:
            raise NotFoundError(f"there is no chunk {n}: chunks are numbered from 0 to {self.nchunks - 1}")
        return n


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A frame without its chunks: what must be there for Blosc2 to open it.

    Attributes:
        head: the header.
        first: the header of the first stored chunk, which Blosc2 looks at when it opens; b"" if all are special.
        first_offset: where `first` is.
        tail: index and trailer, to the frame's end.
        length: the frame's length in bytes.
    """

    head: bytes
    first: bytes
    first_offset: int
    tail: bytes
    length: int

    @classmethod
    def read(cls, pread: Pread, size: int) -> tuple[Self, FrameLayout]:
        """Take the skeleton out of a contiguous frame.

        Raises:
            FrameError: if this is no sound contiguous frame.
        """
        layout = FrameLayout.read(pread, size)
        if layout.sparse:
            raise FrameError("this is the index of a sparse frame, which cannot be read without its chunk files")
        first = int(layout.offsets[layout.order[0]]) if len(layout.order) else 0
        return cls(
            pread(0, layout.header_length),
            pread(first, CHUNK_HEADER) if first else b"",
            first,
            pread(layout.index_offset, layout.length - layout.index_offset),
            layout.length,
        ), layout

    def layout(self) -> FrameLayout:
        """Parse the skeleton, as if it came from an unknown place.

        Raises:
            FrameError: if it is not sound.
        """
        layout = FrameLayout.read(self.pread, self.length)
        stored = len(layout.order)
        first = int(layout.offsets[layout.order[0]]) if stored else 0
        lengths = (layout.header_length, CHUNK_HEADER if stored else 0, layout.length - layout.index_offset)
        fits = (len(self.head), len(self.first), len(self.tail)) == lengths and self.length == layout.length
        if layout.sparse or first != self.first_offset or not fits:
            raise FrameError("the skeleton of the frame contradicts itself")
        return layout

    def pread(self, offset: int, length: int) -> bytes:
        """Read as from the frame's file; what is not part of the skeleton reads as nothing."""
        for start, part in self.parts():
            if start <= offset < start + len(part):
                return part[offset - start : offset - start + length]
        return b""

    def parts(self) -> list[tuple[int, bytes]]:
        """The pieces with their offsets, in the order of the frame."""
        return [(0, self.head), (self.first_offset, self.first), (self.length - len(self.tail), self.tail)]


def _read_header(pread: Pread, size: int) -> tuple[int, int, int, int, int, int, int, bool]:
    start = pread(0, 87)
    if len(start) < 87 or start[2:10] != _MAGIC:
        raise FrameError("this is not a Blosc2 frame: it does not begin as one")
    (header_length,) = struct.unpack_from(">i", start, 11)
    (length,) = struct.unpack_from(">q", start, 16)
    nbytes, cbytes = struct.unpack_from(">q", start, 30)[0], struct.unpack_from(">q", start, 39)[0]
    typesize, blocksize, chunksize = (struct.unpack_from(">i", start, at)[0] for at in (48, 53, 58))
    kind = start[26]
    if not nbytes and chunksize == -1:
        chunksize = 0  # Blosc2 leaves it open in a frame that never had a chunk
    if not 87 <= header_length <= min(length, _MAX_HEADER) or length > size or kind not in {_CONTIGUOUS, _SPARSE}:
        raise FrameError("the frame is truncated or its header is damaged")
    if min(nbytes, cbytes, blocksize, chunksize) < 0 or typesize < 1:
        raise FrameError("the frame's header is damaged: a size is negative")
    if kind == _CONTIGUOUS and header_length + cbytes > length:
        raise FrameError("the frame is truncated: its chunks do not fit in it")
    if nbytes and not chunksize:
        raise FrameError("the frame has chunks of different sizes, which is not supported")
    return header_length, length, nbytes, cbytes, typesize, blocksize, chunksize, kind == _SPARSE


def _offsets(pread: Pread, layout: FrameLayout) -> Offsets:
    nchunks = -(-layout.nbytes // layout.chunksize) if layout.nbytes else 0
    if not nchunks:
        return np.empty(0, np.int64)
    if nchunks > _MAX_CHUNKS:
        raise FrameError(f"the frame has {nchunks} chunks: at most {_MAX_CHUNKS} are supported")
    start, room = layout.index_offset, layout.length - layout.index_offset
    if room > _MAX_TAIL:
        raise FrameError(f"the frame's index and metadata have {room} bytes: at most {_MAX_TAIL} are supported")
    head = pread(start, CHUNK_HEADER)
    cbytes = struct.unpack_from("<i", head, 12)[0] if len(head) == CHUNK_HEADER else 0
    if not CHUNK_HEADER <= cbytes <= room:
        raise FrameError("the frame is truncated or its index is damaged")
    index = pread(start, cbytes)
    offsets = np.frombuffer(decompress_chunk(index, ChunkSpec(8 * nchunks, 0, 8), "the frame's index"), np.int64)
    offsets = np.where(offsets >= 0, offsets + (0 if layout.sparse else layout.header_length), offsets)
    _check_offsets(offsets, layout)
    return offsets


def _check_offsets(offsets: Offsets, layout: FrameLayout) -> None:
    stored = offsets[offsets >= 0]
    if not layout.sparse and len(stored):
        gaps = np.diff(np.append(np.sort(stored), layout.index_offset))
        if gaps.min() < CHUNK_HEADER or stored.min() < layout.header_length:
            raise FrameError("the frame's index is damaged: chunks overlap or lie outside of the frame")
    if layout.sparse and len(np.unique(stored)) != len(stored):
        raise FrameError("the frame's index is damaged: a chunk file is named twice")
    kinds = offsets[offsets < 0] >> 56 & 7
    if not np.isin(kinds, [ZERO, NAN, UNINIT]).all():
        raise FrameError("the frame's index is damaged: it names an unknown kind of chunk")


def metalayers(head: bytes) -> list[bytes]:
    """The names of the fixed metadata in a frame's header: what kind of thing Blosc2 makes of it.

    Raises:
        FrameError: if the header is damaged.
    """
    try:
        return [bytes(name) for name in msgpack.unpackb(head, raw=True, strict_map_key=False)[13][1]]
    except Exception as error:  # msgpack raises anything on damaged bytes
        raise FrameError("the frame's metadata is damaged") from error


def read_metalayers(pread: Pread, size: int) -> list[bytes]:
    """The same of a frame that `pread(offset, length)` reads from, of `size` bytes at most; only its header is read."""
    header_length, *_ = _read_header(pread, size)
    return metalayers(pread(0, header_length))


def _geometry(raw: bytes, layout: FrameLayout) -> Geometry | None:
    try:
        meta = msgpack.unpackb(raw, raw=True, strict_map_key=False)[13]
        names = list(meta[1])
        if b"b2nd" not in names:
            return None
        fields = msgpack.unpackb(meta[2][names.index(b"b2nd")], raw=True)
        _, ndim, shape, chunks, blocks = fields[:5]
        dtype = parse_dtype(fields[6].decode() if len(fields) > 6 else f"S{layout.typesize}")
        geometry = Geometry(tuple(shape), tuple(chunks), tuple(blocks), dtype)
        axes = list(zip(geometry.shape, geometry.chunks, geometry.blocks, strict=True))
        good = len(axes) == ndim <= _MAX_NDIM and all(_axis_fits(*axis) for axis in axes)
    except FrameError:
        raise
    except Exception as error:  # msgpack raises anything on damaged bytes
        raise FrameError("the frame's metadata is damaged") from error
    # Blosc2 may write 1 for items of more bytes than a chunk's header has room for.
    sized = dtype.itemsize == layout.typesize or (dtype.itemsize > 255 and layout.typesize == 1)
    if not good or not sized or not _adds_up(axes, dtype.itemsize, layout):
        raise FrameError("the frame's shape, chunks and blocks contradict each other")
    return geometry


def _axis_fits(extent: Any, chunk: Any, block: Any) -> bool:
    whole = all(isinstance(n, int) and 0 <= n < 1 << 62 for n in (extent, chunk, block))
    return whole and (block <= chunk and (chunk > 0 < block or not extent))


def _adds_up(axes: Sequence[tuple[int, int, int]], itemsize: int, layout: FrameLayout) -> bool:
    """Whether the sizes in the header follow from the geometry (chunks are padded to whole blocks)."""
    if any(not extent for extent, _, _ in axes):
        return layout.nbytes == 0
    chunksize = math.prod(-(-chunk // block) * block for _, chunk, block in axes) * itemsize
    nchunks = math.prod(-(-extent // chunk) for extent, chunk, _ in axes)
    return (layout.chunksize, layout.nbytes) == (chunksize, nchunks * chunksize)


def frame_parts(template: bytes, offsets: Offsets, cbytes: int, nbytes: int) -> tuple[bytes, bytes]:
    """Make header and tail of a contiguous frame with other chunks than the template's.

    Args:
        template: a frame, or its skeleton's head and tail joined, that has the right metadata.
        offsets: int64, shape (nchunks,): the chunks' offsets from the header's end; negative for special ones.
        cbytes: room for the chunks, in bytes.
        nbytes: of the data when decompressed.

    Returns:
        The header, and index with trailer, between which `cbytes` bytes of chunks belong.
    """
    (header_length,) = struct.unpack_from(">i", template, 11)
    (trailer_length,) = struct.unpack_from(">I", template, len(template) - 22)
    index = b""
    if len(offsets):
        index = blosc2.compress2(offsets.tobytes(), typesize=8, codec=blosc2.Codec.BLOSCLZ, clevel=1, nthreads=1)
    tail = index + template[len(template) - trailer_length :]
    head = bytearray(template[:header_length])
    head[26] = _CONTIGUOUS  # even when the template is the index of a sparse frame
    struct.pack_into(">q", head, 16, header_length + cbytes + len(tail))
    struct.pack_into(">q", head, 30, nbytes)
    struct.pack_into(">q", head, 39, cbytes)
    return bytes(head), tail


def hollow_frame(skeleton: Skeleton, layout: FrameLayout) -> bytes:
    """Make a frame of a few hundred bytes with the metadata of the skeleton's, and zeros for all its data."""
    zeros = np.full(layout.nchunks, (-1 << 63) | (ZERO << 56), np.int64)
    return b"".join(frame_parts(skeleton.head + skeleton.tail, zeros, 0, layout.nbytes))


def slot_size(largest: int) -> int:
    """The room for a chunk of at most `largest` bytes in a slotted frame.

    From 64 KiB up it is whole pages, so that a chunk's disk space can be given back by itself.
    """
    return -(-largest // PAGE) * PAGE if largest >= 64 << 10 else largest


def slotted_skeleton(template: bytes, layout: FrameLayout, specials: Offsets, first: bytes) -> Skeleton:
    """Make the skeleton of a frame in which every stored chunk has the same room.

    Args:
        template: as for `frame_parts`.
        layout: the geometry; its offsets are not used.
        specials: int64, shape (nchunks,): negative for special chunks, anything else for stored ones.
        first: the header of the first stored chunk, b"" if there is none.
    """
    slot = slot_size(layout.chunksize + CHUNK_HEADER)
    offsets = np.where(specials < 0, specials, np.arange(len(specials), dtype=np.int64) * slot)
    stored = np.flatnonzero(specials >= 0)
    head, tail = frame_parts(template, offsets, len(specials) * slot, layout.nbytes)
    first_offset = len(head) + int(offsets[stored[0]]) if len(stored) else 0
    return Skeleton(head, first, first_offset, tail, len(head) + len(specials) * slot + len(tail))


def sparse_skeleton(index: bytes, first_header: Callable[[int], bytes]) -> tuple[Skeleton, Offsets]:
    """Make the slotted skeleton of a frame that is stored as a directory.

    Args:
        index: the content of its `chunks.b2frame`.
        first_header: reads the first 32 bytes of the chunk file of a number.

    Returns:
        The skeleton, and int64, shape (nchunks,): the number of each chunk's file; negative for special chunks.

    Raises:
        FrameError: if this is not the index of a sparse frame.
    """
    layout = FrameLayout.read(lambda offset, length: index[offset : offset + length], len(index))
    if not layout.sparse:
        raise FrameError("chunks.b2frame is not the index of a sparse frame")
    stored = layout.offsets[layout.offsets >= 0]
    first = first_header(int(stored[0])) if len(stored) else b""
    if stored.size and len(first) != CHUNK_HEADER:
        raise FrameError("the sparse frame is truncated: its first chunk is missing")
    return slotted_skeleton(index, layout, layout.offsets, first), layout.offsets


def schunk_template(cparams: blosc2.CParams, spec: ChunkSpec) -> bytes:
    """Make an empty frame that is no array, as a template for `frame_parts`.

    Args:
        cparams: how its chunks are compressed.
        spec: of a full chunk.
    """
    frame = bytearray(blosc2.SChunk(chunksize=spec.nbytes, cparams=cparams, contiguous=True).to_cframe())
    # Blosc2 leaves these open until the first chunk comes.
    for at, value in ((48, spec.typesize), (53, spec.blocksize), (58, spec.nbytes)):
        struct.pack_into(">i", frame, at, value)
    return bytes(frame)


def file_skeleton(nbytes: int) -> Skeleton:
    """Make the slotted skeleton of a plain file; no byte of the file is needed."""
    chunksize = file_chunksize(nbytes)
    template = schunk_template(file_cparams(), ChunkSpec(chunksize, FILE_BLOCKSIZE, 1))
    header_length = struct.unpack_from(">i", template, 11)[0]
    layout = FrameLayout(
        header_length=header_length,
        length=len(template),
        nbytes=nbytes,
        cbytes=0,
        typesize=1,
        blocksize=FILE_BLOCKSIZE,
        chunksize=chunksize,
        sparse=False,
        geometry=None,
        offsets=np.zeros(-(-nbytes // chunksize), np.int64),
    )
    first = stored_header(layout.spec(0)) if layout.nchunks else b""
    return slotted_skeleton(template, layout, layout.offsets, first)
