"""Fancy indexing as it travels: `indices=[[3, 1], null, "0:4"]`, one entry an axis, read as NumPy reads it.

The form is `blosc2.C2Array`'s: an entry is a list of integers (nested lists gather into more dimensions), an
integer, the text `"start:stop"` of a slice, or null for all of the axis.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from caterva2.errors import SliceError
from caterva2.slices import Axis, Slice

_MOST_TEXT = 16 << 20
_MOST_AXES = 16
Indices = npt.NDArray[np.int64]
ReadBox = Callable[[int, tuple[slice, ...]], npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Gather:
    """Points applied to a shape.

    Attributes:
        shape: of the result.
        chunks: of the array.
        grid: how many chunks there are along each axis.
        points: for each axis that is indexed by numbers, int64 of shape (npoints,): all these go together.
        axes: for each other axis, what is selected along it.
        order: the result's axes, given as (points, *axes), in NumPy's order.
        points_shape: the shape that the points stand for in the result.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    grid: tuple[int, ...]
    points: dict[int, Indices]
    axes: dict[int, Axis]
    order: tuple[int, ...]
    points_shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many items the result has."""
        return math.prod(self.shape)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the chunks that hold the points, ascending."""
        return sorted({n for n, *_ in self._parts()})

    def read(self, box: ReadBox, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Put the result together.

        Args:
            box: reads a box of the array that lies in the chunk of a number.
            dtype: of the array.
        """
        npoints = math.prod(self.points_shape)
        out = np.empty((npoints, *(axis.count for axis in self.axes.values())), dtype)
        if self.size:
            for n, hull, inside, target in self._parts():
                # NumPy puts the points first when they index axes that others part; moving them there always does.
                items = np.moveaxis(box(n, hull), list(self.points), range(len(self.points)))
                out[target] = items[inside]
        made = out.reshape(*self.points_shape, *out.shape[1:]).transpose(self.order)
        return np.ascontiguousarray(made).reshape(self.shape)

    def _parts(self) -> Iterator[tuple[int, tuple[slice, ...], tuple[Any, ...], tuple[Any, ...]]]:
        """For each chunk that is touched: its number, a box in it, where in the box, and where in the result."""
        if not self.size:
            return
        stacked = np.stack([values // self.chunks[axis] for axis, values in self.points.items()])
        groups, which = np.unique(stacked, axis=1, return_inverse=True)
        along = [list(axis.pieces(self.chunks[i])) for i, axis in self.axes.items()]
        order = np.argsort(which.ravel(), kind="stable")
        bounds = np.searchsorted(which.ravel()[order], np.arange(groups.shape[1] + 1))
        for g in range(groups.shape[1]):
            chosen = order[bounds[g] : bounds[g + 1]]
            values = {axis: points[chosen] for axis, points in self.points.items()}
            for pieces in product(*along):
                places = dict(zip(self.points, map(int, groups[:, g]), strict=True))
                hull = {axis: slice(int(v.min()), int(v.max()) + 1) for axis, v in values.items()}
                for axis, piece in zip(self.axes, pieces, strict=True):
                    places[axis] = piece.chunk
                    hull[axis] = slice(piece.source.start, piece.source.stop)
                n = int(np.ravel_multi_index([places[i] for i in range(len(self.grid))], self.grid))
                inside = [values[axis] - hull[axis].start for axis in self.points]
                steps = [slice(None, None, piece.source.step) for piece in pieces]
                target = (chosen, *(piece.target for piece in pieces))
                yield n, tuple(hull[i] for i in range(len(self.grid))), (*inside, *steps), target


@dataclass(frozen=True, eq=False)
class Points:
    """Fancy indices that are not yet applied to a shape.

    Attributes:
        items: for each axis an int64 array, an int or a slice.
    """

    items: tuple[Indices | int | slice, ...]

    @classmethod
    def parse(cls, form: Any) -> Self | Slice:
        """Read the JSON text, or what it stands for; without any number, it is a slice.

        Raises:
            SliceError: if it is something else.
        """
        if isinstance(form, str):
            try:
                form = json.loads(form) if len(form) <= _MOST_TEXT else None
            except (ValueError, RecursionError):
                form = None
        if not isinstance(form, list) or len(form) > _MOST_AXES:
            raise SliceError("indices are not a JSON list with one entry for each axis")
        items = tuple(_item(entry) for entry in form)
        slices = tuple(item for item in items if isinstance(item, slice))
        return Slice(slices) if len(slices) == len(items) else cls(items)

    def resolve(self, shape: Sequence[int], chunks: Sequence[int]) -> Gather:
        """Apply the points to a shape.

        Raises:
            SliceError: if there are too many entries, a number is out of bounds, or lists do not go together.
        """
        if len(self.items) > len(shape):
            raise SliceError(f"indices have {len(self.items)} axes, which is too many for shape {tuple(shape)}")
        items = [*self.items, *[slice(None)] * (len(shape) - len(self.items))]
        numbered = [i for i, item in enumerate(items) if not isinstance(item, slice)]
        try:
            spread = np.broadcast_arrays(*(np.asarray(items[i], np.int64) for i in numbered))
        except ValueError:
            raise SliceError("indices have lists of different shapes, which do not go together") from None
        points = {i: _bounded(values, i, shape) for i, values in zip(numbered, spread, strict=True)}
        rest = {
            i: Slice((item,)).resolve([shape[i]]).axes[0] for i, item in enumerate(items) if isinstance(item, slice)
        }
        points_shape = spread[0].shape if spread else ()
        order = _order(numbered, list(rest), len(points_shape))
        counts = [*points_shape, *(axis.count for axis in rest.values())]
        grid = tuple(-(-n // c) if c else 0 for n, c in zip(shape, chunks, strict=True))
        return Gather(tuple(counts[i] for i in order), tuple(chunks), grid, points, rest, order, points_shape)


def _order(numbered: list[int], rest: list[int], ndim: int) -> tuple[int, ...]:
    """Where NumPy puts the axis of the points: in place of the axes they index if these are neighbours, else first."""
    neighbours = numbered == list(range(numbered[0], numbered[0] + len(numbered))) if numbered else False
    before = [ndim + k for k, axis in enumerate(rest) if neighbours and axis < numbered[0]]
    after = [ndim + k for k, _ in enumerate(rest) if ndim + k not in before]
    return (*before, *range(ndim), *after)


def _bounded(values: Indices, axis: int, shape: Sequence[int]) -> Indices:
    extent = shape[axis]
    flat = np.where(values < 0, values + extent, values).ravel()
    if flat.size and (flat.min() < 0 or flat.max() >= extent):
        raise SliceError(f"indices are out of bounds for shape {tuple(shape)}: axis {axis} has {extent} items")
    return flat


def _item(entry: Any) -> Indices | int | slice:
    if entry is None:
        return slice(None)
    if isinstance(entry, str):
        items = Slice.parse(entry).items
        if len(items) == 1 and isinstance(items[0], slice):
            return items[0]
    elif isinstance(entry, int) and not isinstance(entry, bool) and abs(entry) < 1 << 62:
        return entry
    elif isinstance(entry, list):
        try:
            array = np.asarray(entry)
        except (ValueError, OverflowError):
            array = np.empty(0, object)
        if array.dtype.kind in "iu" or not array.size:
            return array.astype(np.int64) if array.dtype.kind != "O" else _refuse(entry)
    return _refuse(entry)


def _refuse(entry: Any) -> int:
    raise SliceError(f"{str(entry)[:60]!r} is not an index: use lists of integers, integers, 'start:stop' or null")
