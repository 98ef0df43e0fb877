"""Lazy arrays: datasets that are an expression over others, computed when they are read.

A lazy array is read like any other array: it has a shape, chunks, and a version, which is made of its own and of those
of all its operands, so that a change of any of them is a new version of it. Operands may be lazy arrays too; their
expressions are put into the place of their names. Who reads it must be allowed to read every operand.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import blosc2
import numpy as np

from caterva2.errors import BadRequestError, ConflictError, ExpressionError, FrameError, NotFoundError
from caterva2.expressions import Expression
from caterva2.frames import Skeleton
from caterva2.metadata import describe
from caterva2.models import ArrayInfo, DatasetEntry, LazyArrayInfo, timestamp
from caterva2.paths import DatasetPath, RootName
from caterva2.records import digest_of, digest_text
from caterva2.reductions import Array
from caterva2.slices import Slice
from caterva2.subscriber.answers import Query, frame_of
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.definitions import Definition, hollow_array
from caterva2.subscriber.expressions import Computation, Evaluator, Grid
from caterva2.subscriber.permissions import Permissions
from caterva2.subscriber.reader import Read
from caterva2.subscriber.userroots import UserRoots

# Lazy arrays of lazy arrays.
_MOST_DEEP = 16

Result = TypeVar("Result")
Follow = Callable[[RootName], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Stored:
    """A lazy array as it is stored.

    Attributes:
        path: of the dataset.
        entry: of its definition.
        definition: the expression and its operands.
    """

    path: DatasetPath
    entry: DatasetEntry
    definition: Definition


@dataclass(frozen=True, slots=True)
class _Whole:
    """An expression with those of its lazy operands put in.

    Attributes:
        definition: over stored datasets alone.
        lazy: the lazy operands that are in it.
    """

    definition: Definition
    lazy: tuple[Stored, ...] = ()


class Version:
    """A lazy array at one version of each of its operands.

    Args:
        stored: the lazy array.
        lazy: those of its operands that are lazy arrays too.
        computation: over its operands.
    """

    def __init__(self, stored: Stored, lazy: Sequence[Stored], computation: Computation) -> None:
        self._stored = stored
        self._computation = computation
        self._entries = [each.entry for each in (stored, *lazy)] + [read.frame.entry for read in computation.reads]

    @property
    def etag(self) -> str:
        """The version: another one for each version of an operand."""
        etags = " ".join(entry.etag for entry in self._entries)
        return f"lazy-{digest_text(digest_of(etags.encode()))}"

    @property
    def reads(self) -> Sequence[Read]:
        """Those of the operands."""
        return self._computation.reads

    @property
    def info(self) -> LazyArrayInfo:
        """The metadata."""
        definition = self._stored.definition
        hollow, mtime = hollow_info(self._computation), timestamp(max(entry.mtime for entry in self._entries))
        return LazyArrayInfo(
            **dict(hollow) | {"mtime": mtime, "schunk": hollow.schunk.model_copy(update={"mtime": mtime})},
            expression=definition.expression.text,
            operands={name: str(path) for name, path in definition.operands.items()},
        )

    async def answer(self, query: Query, encode: Callable[[Array], bytes] = frame_of) -> bytes:
        """Compute what is asked for, as a Blosc2 frame, or what else is made of the values.

        Raises:
            BadRequestError: if it is asked for in a way that only stored arrays know.
            SliceError: if the slice does not fit.
            TooLargeError: if it takes more than the limits allow.
        """
        for name in ("field", "indices", "filter", "sortby"):
            if getattr(query, name):
                raise BadRequestError(
                    f"{self._stored.path} is an expression: {name}= is for stored arrays, use slice_="
                )
        assert isinstance(query.key, Slice)
        values = await self._computation.values(query.key)
        return await asyncio.to_thread(encode, values)

    async def chunk(self, n: int) -> bytes | None:
        """Compute a chunk, compressed; None if there is no such chunk."""
        there = 0 <= n < self.info.schunk.nchunks
        return await _chunk(self._computation, n) if there else None


class LazyArrays:
    """The lazy arrays of the own roots.

    Args:
        evaluator: computes.
        own: where they are stored.
        permissions: decides who may read which operand.
        follow: makes sure that a published root is known.
    """

    def __init__(self, evaluator: Evaluator, own: UserRoots, permissions: Permissions, follow: Follow) -> None:
        self._evaluator = evaluator
        self._own = own
        self._permissions = permissions
        self._follow = follow

    async def find(self, path: DatasetPath, caller: Caller) -> Stored | None:
        """The lazy array of this name; None if there is none."""
        if not path.root.own or not path.name:
            return None
        found = await asyncio.to_thread(self._own.definition, caller, path)
        return Stored(path, *found) if found is not None else None

    async def read(self, stored: Stored, work: Callable[[Version], Awaitable[Result]], caller: Caller) -> Result:
        """Do some work with a lazy array, again from its start when an operand changes meanwhile.

        Raises:
            AuthenticationError: if the caller must log in to read an operand.
            ForbiddenError: if the caller may not read an operand.
            ConflictError: if an operand is not there, or has become something that does not fit.
            TooLargeError: if it takes more than the limits allow.
        """
        try:
            whole = await self._resolved(stored.definition, caller, (stored.path,))

            async def versioned(computation: Computation) -> Result:
                return await work(Version(stored, whole.lazy, computation))

            return await self._run(whole, versioned, caller)
        except (ExpressionError, NotFoundError) as error:
            raise ConflictError(f"{stored.path} cannot be computed at present: {error.detail}") from None

    async def compute(
        self,
        definition: Definition,
        work: Callable[[Computation], Awaitable[Result]],
        caller: Caller,
        within: tuple[DatasetPath, ...] = (),
    ) -> Result:
        """Do some work with an expression, which need not be stored.

        Args:
            definition: the expression and its operands.
            work: that is done.
            caller: who asks.
            within: the lazy arrays that it is part of, or will be.

        Raises:
            ExpressionError: if it does not fit its operands.
            NotFoundError: if an operand is not there.
            ConflictError: if it would be made of itself.
        """
        return await self._run(await self._resolved(definition, caller, within), work, caller)

    async def _run(self, whole: _Whole, work: Callable[[Computation], Awaitable[Result]], caller: Caller) -> Result:
        definition = whole.definition

        async def possible(computation: Computation) -> Result:
            # What is too large is refused here; in a thread, since millions of chunks take a second to be listed.
            await asyncio.to_thread(hollow_info, computation)
            return await work(computation)

        try:
            return await self._evaluator.run(definition.expression, definition.operands, possible, caller)
        except NotFoundError as error:
            pairs = [(name, str(path)) for name, path in definition.operands.items()]
            missing = [pair for pair in pairs if pair[1] in error.detail] or pairs
            names = ", ".join(f"{name} = {path}" for name, path in missing)
            raise NotFoundError(f"an operand is not there: {error.detail} ({names})") from None

    async def _resolved(self, definition: Definition, caller: Caller, within: tuple[DatasetPath, ...]) -> _Whole:
        """Put the expressions of operands that are lazy into their places, down to stored datasets."""
        if len(within) > _MOST_DEEP:
            raise ConflictError(f"{within[0]} is made of lazy arrays in each other: at most {_MOST_DEEP}")
        parts: dict[str, Expression] = {}
        operands: dict[str, DatasetPath] = {}
        lazy: list[Stored] = []
        for name, path in definition.operands.items():
            if path in within:
                raise ConflictError(f"{path} would be computed from itself: {' > '.join(map(str, (*within, path)))}")
            await self._check_operand(name, path, caller)
            if (stored := await self.find(path, caller)) is None:
                operands[name] = path
                continue
            inner = await self._resolved(stored.definition, caller, (*within, path))
            lazy += [stored, *inner.lazy]
            parts[name] = inner.definition.expression
            operands |= {f"{name}.{below}": place for below, place in inner.definition.operands.items()}
        expression = definition.expression.substituted(parts) if parts else definition.expression
        return _Whole(Definition(expression, operands), tuple(lazy))

    async def _check_operand(self, name: str, path: DatasetPath, caller: Caller) -> None:
        self._permissions.check(caller, "read", path)
        if not path.name:
            raise BadRequestError(f"operand {name} is no array: {path} is a root")
        if not path.root.own:
            await self._follow(path.root)


async def chunks_of(computation: Computation) -> AsyncIterator[bytes]:
    """Compute all chunks of a result, compressed, in their order."""
    for n in range(hollow_info(computation).schunk.nchunks):
        yield await _chunk(computation, n)


async def _chunk(computation: Computation, n: int) -> bytes:
    form = computation.form
    info = hollow_info(computation)
    grid = [-(-extent // chunk) for extent, chunk in zip(form.shape, info.chunks, strict=True)]
    place = np.unravel_index(n, grid) if grid else ()
    sides = (slice(int(i) * chunk, (int(i) + 1) * chunk) for i, chunk in zip(place, info.chunks, strict=True))
    # Blosc2 chose its size.
    values = await computation.values(Slice.from_key(tuple(sides)), limited=False)
    return await asyncio.to_thread(_compressed, values, info)


def template_of(computation: Computation) -> bytes:
    """A result as a frame, without data."""
    return _template(computation.form.shape, computation.form.dtype, computation.grid)


def _compressed(values: Array, info: ArrayInfo) -> bytes:
    if values.shape != info.chunks:  # at a border
        padded = np.zeros(info.chunks, values.dtype)
        padded[tuple(map(slice, values.shape))] = values
        values = padded
    made = blosc2.asarray(values, chunks=info.chunks, blocks=info.blocks, cparams=blosc2.CParams(nthreads=1))
    chunk: bytes = made.schunk.get_chunk(0)
    return chunk


def _template(shape: tuple[int, ...], dtype: np.dtype[Any], grid: Grid | None) -> bytes:
    # On the grid of an operand, so that a chunk of the result takes one of it.
    cut = {} if grid is None else {"chunks": grid[0], "blocks": grid[1]}
    data: bytes = hollow_array(shape, dtype, **cut).to_cframe()
    return data


def hollow_info(computation: Computation) -> ArrayInfo:
    """The metadata of a result, however much of it is computed.

    Raises:
        ExpressionError: if it is too large for an array.
    """
    return _info(computation.form.shape, computation.form.dtype, computation.grid)


@lru_cache(256)
def _info(shape: tuple[int, ...], dtype: np.dtype[Any], grid: Grid | None) -> ArrayInfo:
    data = _template(shape, dtype, grid)
    try:
        skeleton, layout = Skeleton.read(lambda offset, length: data[offset : offset + length], len(data))
    except FrameError as error:
        raise ExpressionError(f"an array of shape {shape} is larger than can be kept: {error.detail}") from None
    info = describe("array", skeleton, layout, cbytes=0, mtime=0, accept_ranges="none")
    assert isinstance(info, ArrayInfo)
    return info
