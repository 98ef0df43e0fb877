"""Arrays as files of other formats, made part by part while they are sent.

All parts are of one version: when the publisher has another one before the first part is there, the work starts again;
after that the answer is cut off. A part's chunks are brought here, decompressed, written and let go, while the part
before is sent, so memory is bounded by two parts, however large the array is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from caterva2.daemon.ahead import ahead_of
from caterva2.errors import BadRequestError
from caterva2.formats import Encoding, Format, encoding_of
from caterva2.paths import DatasetPath
from caterva2.slices import Axis, Selection
from caterva2.subscriber.answers import Query, Request, assemble
from caterva2.subscriber.callers import ANONYMOUS, Caller
from caterva2.subscriber.reader import Read, Reader

# A part may be so many times larger than it should be, if it is a whole number of chunks then.
_NEAR: Final = 4


@dataclass(frozen=True, slots=True)
class Export:
    """A file that is made while it is sent.

    Attributes:
        encoding: what its values become.
        pieces: its bytes in order.
    """

    encoding: Encoding
    pieces: AsyncIterator[bytes]


async def export(
    reader: Reader, path: DatasetPath, query: Query, format_: Format, caller: Caller = ANONYMOUS
) -> tuple[Read, Export]:
    """Read what is asked for as a file of another format.

    Raises:
        BadRequestError: if the dataset is no array, or the format does not hold what is selected.
        SliceError: if the slice does not fit.
    """

    async def work(read: Read) -> tuple[Read, Export]:
        request = Request.of(read.frame, query.key, query.field)
        if request.flat:
            raise BadRequestError(f"{path} is no array: format={format_} is for arrays, download the file itself")
        encoding = encoding_of(format_, request.shape, request.dtype)
        parts = _parts(request, encoding)
        first = next(parts, None)
        if first is not None:
            await reader.ensure(read, first.numbers)
        return read, Export(encoding, _pieces(reader, read, encoding, first, parts))

    return await reader.run(path, work, caller)


async def _pieces(
    reader: Reader, read: Read, encoding: Encoding, first: Request | None, parts: Iterator[Request]
) -> AsyncIterator[bytes]:
    async def step() -> bytes | None:
        part = next(parts, None)
        if part is None:
            return None
        await reader.ensure(read, part.numbers)
        return await made(part)

    async def made(part: Request) -> bytes:
        piece = await asyncio.to_thread(_written, encoding, replace(part, frame=read.frame))
        read.release()
        return piece

    try:
        yield encoding.head + (await made(first) if first is not None else b"")
        async with aclosing(ahead_of(step)) as following:
            async for piece in following:
                yield piece
    finally:
        read.release()


def _written(encoding: Encoding, part: Request) -> bytes:
    return encoding.body(assemble(part))


def _parts(request: Request, encoding: Encoding) -> Iterator[Request]:
    """Cut a request into parts whose values follow each other in the file."""
    if not isinstance(request.wanted, Selection) or not request.wanted.axes:
        # Points come in any order: they are put together in memory, which their number is limited for.
        yield request
        return
    axes, counts = request.wanted.axes, request.wanted.counts
    if not request.wanted.size:
        return
    where = _axis_to_cut(request, encoding)
    row = math.prod(counts[where + 1 :]) * request.item.itemsize
    for before in product(*(range(count) for count in counts[:where])):
        fixed = [_part_of(axis, n, n + 1) for axis, n in zip(axes, before, strict=False)]
        for start, stop in _steps(axes[where], request.geometry.chunks[where], max(1, encoding.part // row)):
            part = (*fixed, _part_of(axes[where], start, stop), *axes[where + 1 :])
            yield replace(request, wanted=Selection(part))


def _axis_to_cut(request: Request, encoding: Encoding) -> int:
    """The axis along which parts follow each other: the first whose indices are small enough, or that of the rows."""
    assert isinstance(request.wanted, Selection)
    axes, counts = request.wanted.axes, request.wanted.counts
    if encoding.by_rows:
        return next((i for i, axis in enumerate(axes) if axis.kept), 0)
    sizes = (math.prod(counts[i + 1 :]) * request.item.itemsize for i in range(len(axes)))
    return next((i for i, size in enumerate(sizes) if size <= encoding.part), len(axes) - 1)


def _steps(axis: Axis, chunk: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut an axis into about `most` indices; where chunks meet if that is near, so that they are decompressed once."""
    size, start = max(1, most), 0
    if axis.step == 1 and chunk <= _NEAR * most:
        size = max(chunk, most // chunk * chunk)
        start = -(axis.start % chunk)
    for at in range(start, axis.count, size):
        yield max(0, at), min(axis.count, at + size)


def _part_of(axis: Axis, start: int, stop: int) -> Axis:
    return replace(axis, start=axis.start + start * axis.step, count=stop - start)
