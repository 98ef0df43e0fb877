"""Expressions over datasets, computed from the chunks that the wanted part of the result needs, and from no others.

A part of the result is computed at a time: what it needs is brought here, decompressed and computed in a thread, and
let go. So memory is bounded by the size of a part and that of the answer, however large the operands are. All
operands are read at one version each; when one changes meanwhile, the work starts again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from caterva2.errors import BadRequestError, TooLargeError, UnavailableError
from caterva2.evaluation import Bound, Form, Leaf, Region, cut, part_of, region_of
from caterva2.expressions import Expression, Field, Join, Node, Operand, Reduction
from caterva2.frames import Geometry
from caterva2.paths import DatasetPath
from caterva2.reductions import Accumulator, Array
from caterva2.slices import Axis, Selection, Slice
from caterva2.subscriber.answers import KeptAnswers, Query, Request, assemble, frame_of
from caterva2.subscriber.callers import ANONYMOUS, Caller
from caterva2.subscriber.decoding import geometry_of
from caterva2.subscriber.reader import Read, Reader

# Chunks that one part may touch: their numbers are listed.
_MOST_CHUNKS = 1 << 14
# Bytes of results of reductions that are kept for the next parts.
_MOST_KEPT = 64 << 20
# Computations at once, and those of one caller; others wait. They, and their parts, are few: whoever only reads is not
# to wait long for a processor.
_AT_ONCE, _EACH = 3, 2

# Bytes of a chunk of an operand on whose grid a join is laid.
_LARGE_CHUNK = 1 << 20

Grid = tuple[tuple[int, ...], tuple[int, ...]]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one computation may take.

    Attributes:
        nbytes: bytes of the result.
        seconds: until it is there, with the time that its chunks take to come.
        part: bytes that are computed with at once.
        patience: seconds that it waits for others to end before it begins.
    """

    nbytes: int = 64 << 20
    seconds: float = 30.0
    part: int = 8 << 20
    patience: float = 30.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values of an operand come from.

    Attributes:
        read: of its dataset.
        field: the field that it is; None if it is the array itself.
    """

    read: Read
    field: str | None = None

    @property
    def form(self) -> Form:
        """Its shape and dtype."""
        geometry = geometry_of(self.read.frame)
        item = geometry.dtype if self.field is None else geometry.dtype[self.field]
        return Form(geometry.shape + item.shape, item.base)


class Turns:
    """Lets few computations run at once, and never those of one caller alone.

    Args:
        patience: seconds that one waits for others to end.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._own: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, caller: Caller) -> AsyncIterator[None]:
        """Wait for a turn, and hold it.

        Raises:
            UnavailableError: if none comes.
        """
        own = self._own.get(caller.id) or self._own.setdefault(caller.id, asyncio.Semaphore(_EACH))
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._patience):
                    await stack.enter_async_context(own)
                    await stack.enter_async_context(self._turn)
            except TimeoutError:
                raise UnavailableError("too much is being computed at present", retry_after=5.0) from None
            yield


class Computation:
    """An expression at one version of each of its operands.

    Args:
        run: that computes.
        reads: of the operands.
        limits: what it may take.
    """

    def __init__(self, run: _Run, reads: Sequence[Read], limits: Limits) -> None:
        self._run = run
        self._limits = limits
        self.reads = reads

    @property
    def form(self) -> Form:
        """The shape and dtype of the result, for which no chunk was read."""
        return self._run.bound.form

    @property
    def grid(self) -> Grid | None:
        """The chunk and block shapes of an operand of the result's shape, or of one that is joined, if there is one."""
        for read in self.reads:
            geometry = geometry_of(read.frame)
            if geometry.shape == self.form.shape:
                return geometry.chunks, geometry.blocks
        grids = (self._joined_grid(geometry_of(read.frame)) for read in self.reads)
        return next((grid for grid in grids if grid is not None), None)

    def _joined_grid(self, geometry: Geometry) -> Grid | None:
        """That of an operand of a join, unless it would make many small chunks."""
        root, shape = self._run.bound.root, self.form.shape
        if not isinstance(root, Join) or math.prod(geometry.chunks) * self.form.dtype.itemsize < _LARGE_CHUNK:
            return None
        at, chunks, blocks = root.axis % len(shape), geometry.chunks, geometry.blocks
        if root.function == "stack":
            chunks, blocks = (*chunks[:at], 1, *chunks[at:]), (*blocks[:at], 1, *blocks[at:])
        fits = len(chunks) == len(shape) and all(side <= extent for side, extent in zip(chunks, shape, strict=True))
        return (chunks, blocks) if fits else None

    async def values(self, key: Slice, *, limited: bool = True) -> Array:
        """Compute a slice of the result.

        Args:
            key: the slice.
            limited: whether it may be as large only as a client may have at once.

        Raises:
            SliceError: if the slice does not fit the shape.
            TooLargeError: if it is more than the limits allow.
        """
        selection = key.resolve(self.form.shape)
        if limited:
            _check_size(selection.size * self.form.dtype.itemsize, self._limits)
        return (await self._run.values(region_of(selection))).reshape(selection.shape)


class Evaluator:
    """Computes expressions.

    Args:
        reader: reads their operands.
        limits: what one computation may take.
    """

    def __init__(self, reader: Reader, limits: Limits | None = None) -> None:
        self._reader = reader
        self._limits = limits or Limits()
        self._turns = Turns(self._limits.patience)
        self._kept = KeptAnswers()

    async def run(
        self,
        expression: Expression,
        operands: Mapping[str, DatasetPath],
        work: Callable[[Computation], Awaitable[Result]],
        caller: Caller = ANONYMOUS,
    ) -> Result:
        """Do some work with an expression, again from its start when an operand changes meanwhile.

        Args:
            expression: that is checked.
            operands: the dataset that each of its names stands for.
            work: that is done.
            caller: who asks; whether it may was decided before, but the own roots are other ones for each user.

        Raises:
            ExpressionError: if the expression does not fit its operands.
            NotFoundError: if an operand is not there.
            TooLargeError: if it takes more than the limits allow.
        """
        named = {name: operands[name] for name in expression.names if name in operands}
        paths = list(dict.fromkeys(named.values()))

        async def opened(reads: Sequence[Read]) -> Result:
            at = dict(zip(paths, reads, strict=True))
            sources = {name: Source(at[path]) for name, path in named.items()}
            try:
                run = _Run(self._reader, _bound(expression, sources), sources, self._limits)
                return await work(Computation(run, reads, self._limits))
            finally:
                for read in reads:
                    read.release()

        return await self._limited(self._reader.run_together(paths, opened, caller), caller)

    async def rows(
        self,
        path: DatasetPath,
        query: Query,
        caller: Caller = ANONYMOUS,
        encode: Callable[[Array], bytes] = frame_of,
    ) -> tuple[Read, bytes]:
        """The rows of a structured array where a condition holds, sorted by a field if that is wanted.

        Args:
            path: the dataset.
            query: what is asked for; it says what becomes of the rows.
            caller: who asks.
            encode: makes that of them.

        Returns:
            The read, and what was made of the slice of them that is asked for.

        Raises:
            ExpressionError: if the condition is none, or does not fit the fields.
            BadRequestError: if there is no such field, or the dataset has none.
            TooLargeError: if it takes more than the limits allow.
        """
        condition = Expression.parse(query.filter) if query.filter else None
        key = query.key
        if not isinstance(key, Slice):
            raise BadRequestError("indices= does not go with filter= or sortby=: use slice_=")

        async def work(read: Read) -> tuple[Read, bytes]:
            if (kept := self._kept.get(read.frame, query)) is not None:
                return read, kept
            try:
                values = await _Rows(self._reader, read, query, condition, self._limits).select(key)
            finally:
                read.release()
            answer = await asyncio.to_thread(encode, values)
            self._kept.put(read.frame, query, answer)
            return read, answer

        return await self._limited(self._reader.run(path, work, caller), caller)

    async def _limited(self, work: Coroutine[Any, Any, Result], caller: Caller) -> Result:
        """Wait for a turn, and do some work within the time that it may take."""
        seconds = self._limits.seconds
        try:
            async with self._turns.turn(caller):
                try:
                    async with asyncio.timeout(seconds):
                        return await work
                except TimeoutError:
                    raise TooLargeError(f"it takes more than {seconds:g} seconds: ask for a smaller part") from None
        finally:
            # One that never began would be complained about.
            work.close()


def _bound(expression: Expression, sources: Mapping[str, Source]) -> Bound:
    for name, source in sources.items():
        if source.read.frame.kind != "array":
            raise BadRequestError(f"operand {name} is no array: {source.read.frame.path}")
    return Bound(expression, {name: source.form for name, source in sources.items()})


def _check_size(nbytes: int, limits: Limits) -> None:
    if nbytes > limits.nbytes:
        raise TooLargeError(f"the result has {nbytes} bytes: ask for at most {limits.nbytes} at once")


class _Run:
    """One computation.

    Args:
        reader: brings chunks.
        bound: the expression.
        sources: of its operands, by name.
        limits: what it may take.
    """

    def __init__(self, reader: Reader, bound: Bound, sources: Mapping[str, Source], limits: Limits) -> None:
        self.bound = bound
        self._reader = reader
        self._sources = sources
        self._limits = limits
        self._reduced: dict[tuple[Reduction, Region], Array] = {}

    async def values(self, region: Region) -> Array:
        """Compute a region of the result."""
        out = np.empty([axis.count for axis in region], self.bound.form.dtype)
        async for where, values in self._parts(self.bound.root, region):
            out[where] = values
        return out

    async def part(self, node: Node, region: Region, rows: Array | None = None) -> Array:
        """Compute a region of a node that is small enough to be held in memory with all that it needs.

        Args:
            node: of the expression.
            region: of the node.
            rows: the items of that very region, if the operands are their fields.
        """
        known: dict[tuple[Leaf, Region], Any] = {}
        requests: dict[tuple[Operand | Field, Region], Request] = {}
        for leaf, inner in self.bound.needs(node, region):
            if isinstance(leaf, Reduction):
                known[leaf, inner] = await self._reduction(leaf, inner)
            elif rows is not None and isinstance(leaf, Operand) and inner == region:
                known[leaf, inner] = rows[leaf.name]
            else:
                requests[leaf, inner] = self._request(leaf, inner)
        reads = await self._bring(requests)

        def compute() -> Array:
            for (leaf, inner), request in requests.items():
                known[leaf, inner] = self._read(leaf, inner, request)
            values = self.bound.compute(node, region, lambda leaf, inner: known[leaf, inner])
            return np.broadcast_to(values, [axis.count for axis in region])

        values = await asyncio.to_thread(compute)
        for read in reads:
            read.release()
        return values

    def most(self, node: Node, region: Region) -> int:
        """How many items of a region are computed at once."""
        most = self._limits.part // max(1, self.bound.width)
        for leaf, inner in self.bound.needs(node, region):
            if not isinstance(leaf, Reduction):
                strided = any(axis.step != 1 for axis in inner)
                most = min(most, _MOST_CHUNKS * (1 if strided else self._chunk_items(leaf)))
        return max(1, most)

    async def _parts(self, node: Node, region: Region) -> AsyncIterator[tuple[tuple[slice, ...], Array]]:
        for where in cut(region, self.most(node, region), self._grain(node, region)):
            yield where, await self.part(node, part_of(region, where))

    def _grain(self, node: Node, region: Region) -> Sequence[int] | None:
        """The sides of chunks of an operand that is computed with item by item."""
        for leaf, inner in self.bound.needs(node, region):
            if not isinstance(leaf, Reduction) and inner == region:
                chunks = geometry_of(self._source(leaf).read.frame).chunks
                return (*chunks, *[1] * (len(region) - len(chunks)))
        return None

    def _chunk_items(self, leaf: Operand | Field) -> int:
        return max(1, math.prod(geometry_of(self._source(leaf).read.frame).chunks))

    def _source(self, leaf: Operand | Field) -> Source:
        return self._sources[leaf.name if isinstance(leaf, Operand) else leaf.of.name]

    def _request(self, leaf: Operand | Field, region: Region) -> Request:
        source = self._source(leaf)
        geometry = geometry_of(source.read.frame)
        name = leaf.name if isinstance(leaf, Field) and source.field is None else source.field
        return Request(source.read.frame, geometry, Selection(region[: len(geometry.shape)]), name)

    async def _bring(self, requests: Mapping[tuple[Operand | Field, Region], Request]) -> Iterable[Read]:
        """Return when all chunks are here; each dataset is asked once."""
        numbers: dict[int, tuple[Read, set[int]]] = {}
        for (leaf, _), request in requests.items():
            read = self._source(leaf).read
            numbers.setdefault(id(read), (read, set()))[1].update(request.numbers)
        found = await asyncio.gather(
            *(self._reader.ensure(read, sorted(wanted)) for read, wanted in numbers.values()), return_exceptions=True
        )
        for error in found:
            if error is not None:
                raise error
        return [read for read, _ in numbers.values()]

    def _read(self, leaf: Operand | Field, region: Region, request: Request) -> Array:
        """Decompress a region of an operand; called in a thread."""
        source = self._source(leaf)
        ndim = len(request.geometry.shape)
        shape = [axis.count for axis in region[:ndim]]
        # Chunks that cannot be written are in another frame than the one that was opened.
        request = replace(request, frame=source.read.frame)
        values = assemble(request) if 0 not in shape else np.empty((*shape, *request.item.shape), request.dtype)
        if isinstance(leaf, Field) and source.field is not None:
            values = values[leaf.name]
        for i, axis in enumerate(region[ndim:], ndim):
            values = values.take([axis.start + k * axis.step for k in range(axis.count)], axis=i)
        return values

    async def _reduction(self, node: Reduction, region: Region) -> Array:
        """Reduce part by part; what other parts of the result need too is kept."""
        if (known := self._reduced.get((node, region))) is not None:
            return known
        source = self.bound.source_of(node, region)
        nbytes = math.prod(axis.count for axis in region) * self.bound.form_of(node).dtype.itemsize
        _check_size(nbytes, self._limits)
        shape = [axis.count for axis in source]
        total = Accumulator(node.function, shape, self.bound.reduced(node), self.bound.form_of(node.of).dtype)
        async for where, values in self._parts(node.of, source):
            await asyncio.to_thread(total.add, where, values)
        result = total.result().reshape([axis.count for axis in region])
        if sum(array.nbytes for array in self._reduced.values()) + result.nbytes <= _MOST_KEPT:
            self._reduced[node, region] = result
        return result


class _Rows:
    """The rows of a structured array that are asked for.

    Args:
        reader: brings chunks.
        read: of the array.
        query: what is asked for.
        condition: that of the query.
        limits: what it may take.

    Raises:
        BadRequestError: if they do not fit the array.
    """

    def __init__(self, reader: Reader, read: Read, query: Query, condition: Expression | None, limits: Limits) -> None:
        self._reader = reader
        self._read = read
        self._query = query
        self._limits = limits
        self._geometry = geometry_of(read.frame)
        names = self._geometry.dtype.names
        if read.frame.kind != "array" or not names:
            raise BadRequestError(f"{read.frame.path} has no fields: filter= and sortby= are for structured arrays")
        for name in (query.field, query.sortby):
            if name is not None and name not in names:
                raise BadRequestError(
                    f"there is no field {name[:100]!r} in {read.frame.path}: its fields are {', '.join(names)}"
                )
        if query.sortby is not None and self._geometry.dtype[query.sortby].kind == "V":
            raise BadRequestError(f"rows cannot be sorted by {query.sortby}: it has several values in each row")
        if condition is None and len(self._geometry.shape) != 1:
            raise BadRequestError(f"{read.frame.path} is no table: only an array of one axis is sorted without filter=")
        self._run = self._conditional(condition, names) if condition is not None else None

    def _conditional(self, condition: Expression, names: Sequence[str]) -> _Run:
        path = self._read.frame.path
        for name in condition.names:
            if name not in names:
                raise BadRequestError(f"there is no field {name!a} in {path}: its fields are {', '.join(names)}")
        sources = {name: Source(self._read, name) for name in condition.names}
        bound = Bound(condition, {name: source.form for name, source in sources.items()})
        if bound.form != Form(self._geometry.shape, np.dtype(bool)):
            raise BadRequestError(
                f"filter {condition.text[:80]!r} is no condition for each row: it is {bound.form.dtype} of shape"
                f" {bound.form.shape}"
            )
        return _Run(self._reader, bound, sources, self._limits)

    async def select(self, key: Slice) -> Array:
        """Find the rows, and return the slice of them that is asked for."""
        first, enough = (0, None) if self._query.sortby else _span(key)
        region = tuple(Axis(0, 1, n, kept=True) for n in self._geometry.shape)
        found = [np.empty(0, self._item)]
        count = 0
        for where in self._parts(region, few=enough is not None):
            rows = await self._rows(part_of(region, where))
            found.append(rows[max(0, first - count) :])
            count += len(rows)
            _check_size((count - first) * self._item.itemsize, self._limits)
            if enough is not None and count >= enough:
                break
        if not self._query.sortby:
            # Those before the first one that is asked for were not kept.
            key.resolve((count, *self._item.shape))
        return await asyncio.to_thread(self._finished, found, _moved(key, first))

    def _parts(self, region: Region, *, few: bool) -> Iterator[tuple[slice, ...]]:
        """Cut the array, in the order of its items; where few rows may do, first one chunk, then more and more."""
        most = self._most(region)
        if len(region) != 1:
            yield from cut(region, most)
            return
        (chunk,), (axis,) = self._geometry.chunks, region
        largest = most // chunk * chunk or most
        size, start = min(chunk, largest) if few else largest, 0
        while start < axis.count:
            yield (slice(start, min(axis.count, start + size)),)
            start, size = start + size, min(2 * size, largest)

    @property
    def _item(self) -> np.dtype[Any]:
        """What is kept of each row until the end."""
        field = self._query.field if self._query.sortby is None else None
        return self._geometry.dtype if field is None else self._geometry.dtype[field]

    def _most(self, region: Region) -> int:
        most = min(self._limits.part // self._geometry.dtype.itemsize, _MOST_CHUNKS * math.prod(self._geometry.chunks))
        return max(1, min(most, self._run.most(self._run.bound.root, region)) if self._run is not None else most)

    async def _rows(self, region: Region) -> Array:
        """The rows of a region where the condition holds."""
        request = Request(self._read.frame, self._geometry, Selection(region), None)
        await self._reader.ensure(self._read, request.numbers)
        items = await asyncio.to_thread(assemble, replace(request, frame=self._read.frame))
        self._read.release()
        mask: Any = ...
        if self._run is not None:
            mask = await self._run.part(self._run.bound.root, region, rows=items)
        kept = items if self._query.sortby or not self._query.field else items[self._query.field]
        return await asyncio.to_thread(lambda: kept[mask])

    def _finished(self, found: Sequence[Array], key: Slice) -> Array:
        rows = np.concatenate(found)
        if self._query.sortby:
            rows = rows[np.argsort(rows[self._query.sortby], kind="stable")]
            rows = rows if self._query.field is None else rows[self._query.field]
            key.resolve(rows.shape)
        return np.asarray(rows[key.items])


def _span(key: Slice) -> tuple[int, int | None]:
    """The first row that a slice needs, and how many rows are sure to hold it; None if that depends on all of them."""
    first = key.items[0] if key.items else ...
    if isinstance(first, int) and first >= 0:
        return first, first + 1
    if isinstance(first, slice) and (first.step or 1) > 0 and (first.start or 0) >= 0 and (first.stop or 0) >= 0:
        return first.start or 0, first.stop
    return 0, None


def _moved(key: Slice, first: int) -> Slice:
    """The same slice of rows of which the first ones are missing."""
    if not first:
        return key
    item, *rest = key.items
    if isinstance(item, slice):
        stop = None if item.stop is None else max(0, item.stop - first)
        return Slice((slice(0, stop, item.step), *rest))
    return Slice((0, *rest))
