"""Arrays as files of other formats, made part by part while they are sent.

All parts are of one version: when the publisher has another one before the first part is there, the work starts again;
after that the answer is cut off. A part's chunks are brought here, decompressed, written and let go, while the part
before is sent, so memory is bounded by two parts, however large the array is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from caterva2.daemon.ahead import ahead_of
from caterva2.errors import BadRequestError
from caterva2.evaluation import cut
from caterva2.formats import Encoding, Format, encoding_of
from caterva2.paths import DatasetPath
from caterva2.slices import Selection
from caterva2.subscriber.answers import Query, Request, assemble
from caterva2.subscriber.callers import ANONYMOUS, Caller
from caterva2.subscriber.reader import Read, Reader


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
    if not isinstance(request.wanted, Selection):
        # Points come in any order: they are put together in memory, which their number is limited for.
        yield request
        return
    axes = request.wanted.axes
    most = max(1, encoding.part // request.item.itemsize)
    for where in _rows(request.wanted, most) if encoding.by_rows else cut(axes, most):
        part = tuple(
            replace(axis, start=axis.start + side.start * axis.step, count=side.stop - side.start)
            for axis, side in zip(axes, where, strict=True)
        )
        yield replace(request, wanted=Selection(part))


def _rows(selection: Selection, most: int) -> Iterator[tuple[slice, ...]]:
    """Cut a selection along the first axis of the result alone."""
    if not selection.size:
        return
    whole: tuple[Any, ...] = tuple(slice(0, count) for count in selection.counts)
    first = next((i for i, axis in enumerate(selection.axes) if axis.kept), None)
    if first is None:
        yield whole
        return
    count = selection.counts[first]
    step = max(1, most * count // selection.size)
    for start in range(0, count, step):
        yield (*whole[:first], slice(start, min(count, start + step)), *whole[first + 1 :])
