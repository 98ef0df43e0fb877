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
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

import blosc2
import numpy as np

from caterva2.chunks import UNINIT, ZERO, ChunkSpec, stored_header
from caterva2.errors import BadRequestError, TooLargeError
from caterva2.formats import Format
from caterva2.frames import Geometry, frame_parts, schunk_template
from caterva2.paths import DatasetPath
from caterva2.points import Gather, Points
from caterva2.slices import Selection, Slice
from caterva2.subscriber.decoding import Array, Box, geometry_of, in_one_go, read_blocks, read_box
from caterva2.subscriber.stored import StoredFrame

# Up to this many bytes, compressing costs more than it saves on any network.
_PLAIN = 128 << 10
# Above it a result is not held in memory as a whole.
_PACKED = 16 << 20
_MOST = 1 << 36
# Points come in any order, so their result is put together in memory.
_MOST_POINTS = 256 << 20
_MOST_CHUNKS = 1 << 22
# While one is put together the event loop stands still, for most of the time.
_SLAB = 2 << 20
_PIECE = 2 << 20
# A block of a Blosc2 frame has less than 512 MiB.
_MOST_CHUNK = 1 << 28
# Blocks up to this many bytes are decompressed in the event loop: a thread would cost more than the work.
_QUICK = 1 << 20

# Bytes of answers that are kept, and of one of them.
_KEPT, _MOST_KEPT = 32 << 20, 64 << 10


@dataclass(frozen=True, slots=True)
class Query:
    """What a client asks for, as it says it: the parameters of `/api/fetch`.

    Attributes:
        slice_: the text of a slice; "" is all.
        field: the only field wanted.
        indices: the JSON of fancy indices, in place of a slice.
        filter: a condition over the fields; the slice is one of the rows where it holds.
        sortby: the field by which the rows are sorted.
        format: what the answer is to be; None is a Blosc2 frame.
    """

    slice_: str = ""
    field: str | None = None
    indices: str | None = None
    filter: str | None = None
    sortby: str | None = None
    format: Format | None = None

    @property
    def key(self) -> Slice | Points:
        """What is selected.

        Raises:
            SliceError: if it cannot be read.
        """
        return Slice.parse(self.slice_) if self.indices is None else Points.parse(self.indices)


class KeptAnswers:
    """Small answers that were given lately: what many clients look at is made once for each version."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[DatasetPath, str, Query], bytes] = OrderedDict()
        self._size = 0

    def get(self, frame: StoredFrame, query: Query) -> bytes | None:
        """The answer, if it was kept."""
        key = (frame.path, frame.etag, query)
        answer = self._kept.get(key)
        if answer is not None:
            self._kept.move_to_end(key)
        return answer

    def put(self, frame: StoredFrame, query: Query, answer: bytes) -> None:
        """Keep an answer, if it is small; those not asked for in the longest time give way."""
        key = (frame.path, frame.etag, query)
        if len(answer) > _MOST_KEPT or key in self._kept:
            return
        self._kept[key] = answer
        self._size += len(answer)
        while self._size > _KEPT:
            self._size -= len(self._kept.popitem(last=False)[1])


@dataclass(frozen=True, slots=True)
class Answer:
    """A frame that is sent.

    Attributes:
        length: in bytes.
        pieces: its bytes in order.
    """

    length: int
    pieces: Iterator[bytes]


@dataclass(frozen=True)
class Request:
    """What is wanted of a stored frame.

    Attributes:
        frame: what is read.
        geometry: its shape; a frame that is no array is taken as one axis of raw items.
        wanted: a box with steps, or points.
        field: the only field wanted, None for all.
        bring: what makes sure, in the thread that composes, that a chunk is there; None if all are.
    """

    frame: StoredFrame
    geometry: Geometry
    wanted: Selection | Gather
    field: str | None
    bring: Callable[[int], None] | None = None

    @classmethod
    def of(cls, frame: StoredFrame, key: Slice | Points, field: str | None) -> Request:
        """Apply a key to a frame.

        Raises:
            SliceError: if it does not fit the shape.
            BadRequestError: if there is no such field.
            TooLargeError: if the result would be larger than any client can want.
        """
        geometry = geometry_of(frame)
        names = geometry.dtype.names or ()
        if field is not None and field not in names:
            known = f"its fields are {', '.join(names)}" if names else "it has no fields"
            raise BadRequestError(f"there is no field {field[:100]!r} in {frame.path}: {known}")
        if isinstance(key, Points):
            request = cls(frame, geometry, key.resolve(geometry.shape, geometry.chunks), field)
            most, nchunks = _MOST_POINTS, 0
        else:
            selection = key.resolve(geometry.shape)
            request = cls(frame, geometry, selection, field)
            most, nchunks = _MOST, selection.most_chunks(geometry.chunks)
        if (request.nbytes > most or nchunks > _MOST_CHUNKS) and not request.whole:
            raise TooLargeError(f"{request.nbytes} bytes are selected of {frame.path}: ask for at most {most} at once")
        return request

    @property
    def item(self) -> np.dtype[Any]:
        """What each selected item contributes; a field may itself be an array."""
        return self.geometry.dtype if self.field is None else self.geometry.dtype[self.field]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        return self.wanted.shape + self.item.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the result."""
        return self.item.base

    @cached_property
    def nbytes(self) -> int:
        """Of the result, uncompressed."""
        return self.wanted.size * self.item.itemsize

    @cached_property
    def numbers(self) -> list[int]:
        """The numbers of the chunks that hold what is wanted, ascending."""
        if isinstance(self.wanted, Gather):
            return self.wanted.numbers
        return self.wanted.chunk_numbers(self.geometry.shape, self.geometry.chunks)

    @cached_property
    def quick(self) -> bool:
        """Whether the answer is made in about a millisecond, once the chunks are there."""
        layout = self.frame.layout
        few = self.bring is None and self.nbytes <= _PLAIN
        return few and len(self.numbers) * (layout.blocksize or layout.chunksize) <= _QUICK

    @cached_property
    def whole(self) -> bool:
        """Whether the result is the frame itself."""
        return self.field is None and isinstance(self.wanted, Selection) and self.wanted.whole(self.geometry.shape)

    @property
    def flat(self) -> bool:
        """Whether the frame is no array, so that the answer is none either."""
        return self.frame.kind != "array"


def compose(request: Request) -> Answer:
    """Make the answer; all chunks of the selection must be there, unless the request brings them."""
    if not isinstance(request.wanted, Selection):
        return _packed(request)
    if request.bring is None and request.nbytes > _PLAIN and _whole_chunks(request, request.wanted):
        return _verbatim(request)
    if _PLAIN < request.nbytes <= _PACKED:
        return _packed(request)
    if 0 < request.nbytes <= _PLAIN:
        return _small(request)
    return _plain(request, request.wanted)


def assemble(request: Request) -> Array:
    """Decompress what is wanted.

    Returns:
        An array of `request.dtype` and `request.shape`.
    """
    frame, geometry = request.frame, request.geometry
    if isinstance(request.wanted, Gather):
        items = request.wanted.read(lambda n, box: _read_box(request, box, n), geometry.dtype)
        return items if request.field is None else np.ascontiguousarray(items[request.field])
    selection = request.wanted
    one = request.quick and not (request.flat or request.field) and in_one_go(frame, request.numbers)
    if one and (box := selection.box) is not None:
        return read_blocks(frame, geometry, box).reshape(selection.shape)
    out = np.empty(selection.counts, request.item)
    for pieces, n in zip(selection.pieces(geometry.chunks), request.numbers, strict=True):
        box = tuple(slice(piece.source.start, piece.source.stop) for piece in pieces)
        items = _read_box(request, box, n)[tuple(slice(None, None, piece.source.step) for piece in pieces)]
        out[tuple(piece.target for piece in pieces)] = items if request.field is None else items[request.field]
    return out.reshape(request.shape)


def _read_box(request: Request, box: Box, n: int) -> Array:
    if request.bring is not None:
        request.bring(n)
    return read_box(request.frame, request.geometry, box, n)


def _whole_chunks(request: Request, selection: Selection) -> bool:
    """Whether the selection is a box whose sides are those of chunks."""
    axes = zip(selection.axes, request.geometry.shape, request.geometry.chunks, strict=True)
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
    if request.flat:
        nbytes = request.nbytes
    head, tail = frame_parts(_template(request), np.where(stored, places, specials), cbytes, nbytes)
    runs = _runs(zip(layout.offsets[numbers][stored].tolist(), lengths[stored].tolist(), strict=True))
    read = (frame.pread(start, stop - start) for start, stop in runs)
    return Answer(len(head) + cbytes + len(tail), _joined(chain([head], read, [tail])))


def _runs(places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join places (offset, length) of a file that follow each other, up to a piece, to ranges that are read at once."""
    start = stop = 0
    for offset, length in places:
        if offset != stop or stop + length - start > _PIECE:
            if stop > start:
                yield start, stop
            start = offset
        stop = offset + length
    if stop > start:
        yield start, stop


def _special_offset(kind: int | None) -> int:
    # A client that decodes UNINIT would see what its own memory happens to hold.
    return (-1 << 63) | ((ZERO if kind == UNINIT else kind or 0) << 56)


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join small parts, so that each piece is worth a trip through the server; large ones are not copied again."""
    batch, size = list[bytes](), 0
    for part in parts:
        if batch and (size >= _PIECE // 4 or len(part) >= _PIECE // 4):
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(part)
        size += len(part)
    yield b"".join(batch)


def _template(request: Request) -> bytes:
    """A frame of the result's shape without data, cut as the source is."""
    frame = request.frame
    if request.flat:
        start, end = frame.layout.index_offset, frame.layout.length
        return frame.pread(0, frame.layout.header_length) + frame.pread(start, end - start)
    cparams = replace(frame.handle.schunk.cparams, nthreads=1)
    g = request.geometry
    return _as_bytes(
        blosc2.uninit(request.shape, g.dtype, chunks=g.chunks, blocks=g.blocks, cparams=cparams, contiguous=True)
    )


def _as_bytes(made: Any) -> bytes:
    frame: bytes = made.to_cframe()
    return frame


def _packed(request: Request) -> Answer:
    frame = _compressed(assemble(request), flat=request.flat)
    return Answer(len(frame), iter((frame,)))


def _compressed(data: Array, *, flat: bool) -> bytes:
    codec = {"codec": blosc2.Codec.LZ4, "clevel": 1, "nthreads": 1}
    if flat:
        cparams = blosc2.CParams(typesize=data.itemsize, **codec)
        return _as_bytes(blosc2.SChunk(data=data.tobytes(), cparams=cparams, contiguous=True))
    return _as_bytes(blosc2.asarray(data, cparams=blosc2.CParams(**codec), contiguous=True))


def frame_of(values: Array) -> bytes:
    """Make a frame of an array that was computed."""
    if values.nbytes > _PLAIN:
        return _compressed(np.ascontiguousarray(values), flat=False)
    shape = values.shape
    if not values.size:
        return _plain_frame(shape, 1, 0, values.dtype, flat=False)[0]
    head, spec, tail = _plain_frame(shape, shape[0] if shape else 1, 1, values.dtype, flat=False)
    return b"".join((head, stored_header(spec), values.tobytes(), tail))


def _small(request: Request) -> Answer:
    flat, shape = request.flat, request.shape
    if flat and not shape:
        shape = (1,)
    head, spec, tail = _plain_frame(shape, shape[0] if shape else 1, 1, request.dtype, flat=flat)
    frame = b"".join((head, stored_header(spec), assemble(request).tobytes(), tail))
    return Answer(len(frame), iter((frame,)))


def _plain(request: Request, selection: Selection) -> Answer:
    flat, shape = request.flat, request.shape
    slabs = list(_slabs(request, selection))
    rows = slabs[0].shape[0] if slabs and shape else 1
    head, spec, tail = _plain_frame(shape, rows, len(slabs), request.dtype, flat=flat)

    def pieces() -> Iterator[bytes]:
        header = stored_header(spec) if slabs else b""
        last = b"" if flat else bytes(spec.nbytes)
        yield head
        for slab in slabs:
            data = assemble(slab).reshape(-1).view(np.uint8).data
            if flat and len(data) != spec.nbytes:
                header = stored_header(replace(spec, nbytes=len(data)))
            yield b"".join((header, data, last[len(data) :]))
        yield tail

    length = len(head) + len(slabs) * (32 + spec.nbytes) + len(tail)
    if flat and slabs:
        length -= len(slabs) * spec.nbytes - request.nbytes
    return Answer(length, pieces())


def _slabs(request: Request, selection: Selection) -> Iterator[Request]:
    """Cut a request along its first kept axis into results that fit in memory."""
    axes = selection.axes
    where = next((i for i, axis in enumerate(axes) if axis.kept), None)
    if where is None or not selection.size:
        return
    axis = axes[where]
    row = request.nbytes // axis.count
    if row > _MOST_CHUNK:
        raise TooLargeError(f"a slice with rows of {row} bytes cannot be answered: select less along the last axes")
    rows = min(axis.count, max(1, _SLAB // row))
    for start in range(0, axis.count, rows):
        part = replace(axis, start=axis.start + start * axis.step, count=min(rows, axis.count - start))
        yield replace(request, wanted=Selection((*axes[:where], part, *axes[where + 1 :])))


@lru_cache(1024)
def _plain_frame(
    shape: tuple[int, ...], rows: int, nslabs: int, dtype: np.dtype[Any], *, flat: bool
) -> tuple[bytes, ChunkSpec, bytes]:
    """Header and tail of a frame whose chunks are uncompressed slabs of `rows` rows, each one block in C order."""
    cut = (rows, *shape[1:]) if shape else ()
    nbytes = max(1, math.prod(cut)) * dtype.itemsize
    spec = ChunkSpec(nbytes, nbytes, dtype.itemsize)
    filters = [blosc2.Filter.NOFILTER] * 6
    cparams = blosc2.CParams(clevel=0, nthreads=1, filters=filters, typesize=dtype.itemsize)
    if flat:
        template = schunk_template(cparams, spec)
    else:
        template = _as_bytes(blosc2.uninit(shape, dtype, chunks=cut, blocks=cut, cparams=cparams, contiguous=True))
    if not nslabs:
        return template, spec, b""
    offsets = np.arange(nslabs, dtype=np.int64) * (32 + nbytes)
    total = shape[0] * dtype.itemsize if flat else nslabs * nbytes
    stored = nslabs * 32 + total
    head, tail = frame_parts(template, offsets, stored, total)
    return head, spec, tail
