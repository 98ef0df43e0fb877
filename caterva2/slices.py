"""Slices as they travel in URLs, and what they select of an array.

The text is upstream Caterva2's: the axes of NumPy basic indexing joined by commas (`"1"`, `"0:10"`, `":10"`,
`"0:2, 1, :3"`, `"::-2"`, `"..., 0"`); the empty text selects everything. Nothing is ever evaluated.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from types import EllipsisType
from typing import Any, Self

from caterva2.errors import SliceError

Item = int | slice | EllipsisType
_INT = r"\s*([+-]?[0-9]{1,19}|)\s*"
_ITEM = re.compile(f"{_INT}(?:(:){_INT}(?:(:){_INT})?)?")
_MAX_ITEMS = 64
# No axis is as long, so a larger number means the same; its text would be none that `parse` reads.
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Axis:
    """What is selected along one axis: the indices `start + i * step` for `0 <= i < count`.

    Attributes:
        start: the first index, 0 or more.
        step: the distance of two indices; negative when they descend.
        count: how many.
        kept: whether the result has this axis (an int drops it, a slice keeps it).
    """

    start: int
    step: int
    count: int
    kept: bool

    @property
    def low(self) -> int:
        """The smallest selected index."""
        return self.start if self.step > 0 else self.start + (self.count - 1) * self.step

    @property
    def high(self) -> int:
        """One more than the largest selected index."""
        return self.low + (self.count - 1) * abs(self.step) + 1 if self.count else self.low

    def within(self, low: int, high: int) -> slice:
        """Which of the selected indices `i` are `low <= i < high`, as places among them."""
        step = abs(self.step)
        # Counted in steps from the first one, where rounding up keeps what lies between.
        first, end = (low, high) if self.step > 0 else (-high + 1, -low + 1)
        start = self.start if self.step > 0 else -self.start
        places = [min(self.count, max(0, -((start - bound) // step))) for bound in (first, end)]
        return slice(*places)

    def chunks(self, size: int) -> Sequence[int]:
        """The indices, along this axis, of the chunks of `size` items that are touched, ascending."""
        if not self.count:
            return ()
        if self.step == 1:
            return range(self.start // size, (self.start + self.count - 1) // size + 1)
        return [piece.chunk for piece in self.pieces(size)]

    def pieces(self, size: int) -> Iterator[Piece]:
        """Cut the selection where chunks of `size` items meet, in ascending order of the chunks."""
        step, low, done = abs(self.step), self.low, 0
        while done < self.count:
            first = low + done * step
            chunk = first // size
            count = min(self.count - done, -(-((chunk + 1) * size - first) // step))
            source = slice(first, first + (count - 1) * step + 1, step)
            if self.step > 0:
                target = slice(done, done + count)
            else:
                # Reading ascends, the result descends: the piece lands mirrored.
                end = self.count - done - count - 1
                target = slice(self.count - done - 1, end if end >= 0 else None, -1)
            yield Piece(chunk, source, target)
            done += count


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of an axis that lies in one chunk.

    Attributes:
        chunk: the chunk's index along the axis.
        source: where the items are in the array (step above 0).
        target: where they go in the result.
    """

    chunk: int
    source: slice
    target: slice


@dataclass(frozen=True, slots=True)
class Selection:
    """A slice applied to a shape.

    Attributes:
        axes: one for each axis of the array.
    """

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return tuple(axis.count for axis in self.axes if axis.kept)

    @property
    def counts(self) -> tuple[int, ...]:
        """The shape of the result before the axes selected by an int are dropped."""
        return tuple(axis.count for axis in self.axes)

    @property
    def size(self) -> int:
        """How many items are selected."""
        return math.prod(self.counts)

    def whole(self, shape: Sequence[int]) -> bool:
        """Whether the result is the array itself."""
        return all(a.kept and a.step == 1 and a.count == n for a, n in zip(self.axes, shape, strict=True))

    def pieces(self, chunks: Sequence[int]) -> Iterator[tuple[Piece, ...]]:
        """Cut the selection where chunks meet, in the order of the chunks."""
        return product(*(tuple(axis.pieces(size)) for axis, size in zip(self.axes, chunks, strict=True)))

    def most_chunks(self, chunks: Sequence[int]) -> int:
        """At least as many chunks as hold selected items, without listing them."""
        spans = (
            min(axis.count, (axis.high - axis.low) // max(size, 1) + 2)
            for axis, size in zip(self.axes, chunks, strict=True)
        )
        return math.prod(spans)

    def chunk_numbers(self, shape: Sequence[int], chunks: Sequence[int]) -> list[int]:
        """The numbers of the chunks that hold selected items, ascending."""
        numbers = [0]
        for axis, extent, size in zip(self.axes, shape, chunks, strict=True):
            along = -(-extent // size) if size else 0
            touched = axis.chunks(size)
            numbers = [number * along + chunk for number in numbers for chunk in touched]
        return numbers

    @property
    def box(self) -> tuple[slice, ...] | None:
        """The selection as a plain box; None if it has steps."""
        if any(axis.step != 1 for axis in self.axes):
            return None
        return tuple(slice(axis.start, axis.start + axis.count) for axis in self.axes)


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice that is not yet applied to a shape.

    Attributes:
        items: ints, slices and at most one Ellipsis; () selects everything.
    """

    items: tuple[Item, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a URL's `slice_`.

        Raises:
            SliceError: if the text is not a slice.
        """
        text = text.strip()
        if not text:
            return cls()
        parts = text.removesuffix(",").split(",")
        if len(parts) > _MAX_ITEMS:
            raise SliceError(f"slice {text[:40]!r}... has {len(parts)} axes: at most {_MAX_ITEMS} are possible")
        return cls._checked(tuple(_parse_item(part.strip(), text) for part in parts))

    @classmethod
    def from_key(cls, key: Any) -> Self:
        """Read the key of `dataset[key]`: ints (also NumPy's), slices, an Ellipsis, or a tuple of them.

        Raises:
            SliceError: for any other kind of index.
        """
        items = key if isinstance(key, tuple) else (key,)
        return cls._checked(tuple(_item_of(item) for item in items))

    @classmethod
    def _checked(cls, items: tuple[Item, ...]) -> Self:
        if sum(item is Ellipsis for item in items) > 1:
            raise SliceError(f"slice {cls(items)} is ambiguous: at most one ellipsis ('...') is possible")
        return cls(items)

    def resolve(self, shape: Sequence[int]) -> Selection:
        """Apply the slice to a shape, as NumPy means it: bounds of slices are clipped, ints must fit.

        Raises:
            SliceError: if there are more items than axes, or an int lies outside of its axis.
        """
        items = list(self.items)
        missing = len(shape) - sum(item is not Ellipsis for item in items)
        if missing < 0:
            raise SliceError(f"slice {str(self)!r} has too many axes for shape {tuple(shape)}")
        where = items.index(Ellipsis) if Ellipsis in items else len(items)
        items[where : where + 1] = [slice(None)] * missing
        return Selection(tuple(self._axis(item, n, shape) for item, n in zip(items, shape, strict=True)))

    def _axis(self, item: Item, extent: int, shape: Sequence[int]) -> Axis:
        if isinstance(item, int):
            index = item + extent if item < 0 else item
            if not 0 <= index < extent:
                raise SliceError(
                    f"slice {str(self)!r} is out of bounds for shape {tuple(shape)}:"
                    f" {item} is not within an axis of {extent}"
                )
            return Axis(index, 1, 1, kept=False)
        assert isinstance(item, slice)
        start, stop, step = item.indices(extent)
        return Axis(start, step, len(range(start, stop, step)), kept=True)

    def __str__(self) -> str:
        return ", ".join(_text_of(item) for item in self.items)


def _parse_item(part: str, text: str) -> Item:
    if part == "...":
        return Ellipsis
    match = _ITEM.fullmatch(part)
    if match is None:
        raise SliceError(f"{text[:100]!r} is not a slice: use numbers and start:stop:step joined by commas")
    start, first, stop, second, step = match.groups()
    if first is None:
        if not start:
            raise SliceError(f"{text[:100]!r} is not a slice: an axis is empty, use ':' for all of it")
        return int(start)
    return _slice(_bound(start), _bound(stop), _bound(step) if second else None)


def _bound(text: str | None) -> int | None:
    return int(text) if text else None


def _slice(start: int | None, stop: int | None, step: int | None = None) -> slice:
    if step == 0:
        raise SliceError("a slice's step cannot be zero")
    return slice(start, stop, step)


def _item_of(item: Any) -> Item:
    if item is Ellipsis:
        return item
    if isinstance(item, slice):
        return _slice(*(None if x is None else _index(x) for x in (item.start, item.stop, item.step)))
    return _index(item)


def _index(value: Any) -> int:
    if not isinstance(value, bool):
        try:
            return max(-_MOST, min(_MOST, operator.index(value)))
        except TypeError:
            pass
    raise SliceError(f"{value!r} is not an index: use integers, slices and '...'")


def _text_of(item: Item) -> str:
    if isinstance(item, slice):
        start, stop, step = ("" if x is None else str(x) for x in (item.start, item.stop, item.step))
        return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"
    return "..." if item is Ellipsis else str(item)
