"""Reductions of arrays that come in parts: sums, means and extremes are joined as NumPy would find them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_SUMS = {
    "sum": "add",
    "mean": "add",
    "count_nonzero": "add",
    "prod": "multiply",
    "any": "logical_or",
    "all": "logical_and",
}
# Those that nothing has, and that a NaN is.
EXTREMES = frozenset({"min", "max", "argmin", "argmax"})
# Those that are places.
PLACES = frozenset({"argmin", "argmax"})


def reduced_dtype(function: str, source: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that NumPy gives a reduction."""
    return np.asarray(getattr(np, function)(np.ones(1, source))).dtype


class Accumulator:
    """Reduces an array part by part.

    Args:
        function: one of the reductions.
        shape: of the array.
        axes: those that are reduced; for `argmin` and `argmax` one of them, or all.
        source: the dtype of the array.
    """

    def __init__(self, function: str, shape: Sequence[int], axes: frozenset[int], source: np.dtype[Any]) -> None:
        self._function = function
        self._shape = shape
        self._axes = tuple(sorted(axes))
        self._result = result = reduced_dtype(function, source)
        counts = [1 if i in axes else n for i, n in enumerate(shape)]
        # Many small numbers add up to a large one: the sum must not lose them.
        rounded = result.kind in "fc" and function not in EXTREMES
        self._dtype = np.result_type(result, np.float64) if rounded else source if function in PLACES else result
        if function in {"std", "var"}:
            self._dtype = np.result_type(source, np.float64)
        self._total = np.full(counts, 1 if function in {"prod", "all"} else 0, self._dtype)
        self._seen = np.zeros(counts, bool if function in EXTREMES else np.int64)
        self._spread = np.zeros(counts, np.float64) if function in {"std", "var"} else None
        self._places = np.zeros(counts, np.int64) if function in PLACES else None

    def add(self, where: tuple[slice, ...], part: Array) -> None:
        """Take in a part; `where` is its place in the array."""
        target = tuple(slice(0, 1) if i in self._axes else side for i, side in enumerate(where))
        with np.errstate(all="ignore"):
            if self._places is not None:
                self._place(target, part, [side.start for side in where])
            elif self._function in EXTREMES:
                self._extreme(target, part)
            elif self._spread is not None:
                self._moments(target, part)
            else:
                self._sum(target, part)

    def result(self) -> Array:
        """The result, with 1 for each axis that is reduced."""
        with np.errstate(all="ignore"):
            if self._places is not None:
                return self._places.astype(self._result)
            if self._function == "mean":
                return (self._total / self._seen).astype(self._result)
            if self._spread is not None:
                variance = self._spread / self._seen
                return (np.sqrt(variance) if self._function == "std" else variance).astype(self._result)
            return self._total.astype(self._result)

    def _sum(self, target: tuple[slice, ...], part: Array) -> None:
        combine = getattr(np, _SUMS[self._function])
        part = part != 0 if self._function == "count_nonzero" else part
        dtype = None if self._function in {"any", "all"} else self._dtype
        reduced = combine.reduce(part, axis=self._axes, keepdims=True, dtype=dtype)
        self._total[target] = combine(self._total[target], reduced)
        self._seen[target] += self._count(part)

    def _extreme(self, target: tuple[slice, ...], part: Array) -> None:
        combine = np.minimum if self._function == "min" else np.maximum
        if part.size:
            reduced = combine.reduce(part, axis=self._axes, keepdims=True)
            total = self._total[target]
            self._total[target] = np.where(self._seen[target], combine(total, reduced), reduced)
            self._seen[target] = True

    def _place(self, target: tuple[slice, ...], part: Array, start: Sequence[int]) -> None:
        """Of equal extremes the first one counts, and a NaN before all else, as in NumPy."""
        assert self._places is not None
        if not part.size:
            return
        values, places = self._found(part, start)
        total = self._total[target]
        values, places = values.reshape(total.shape), places.reshape(total.shape)
        nan, was_nan = np.isnan(values), np.isnan(total)
        beyond = values < total if self._function == "argmin" else values > total
        equal = (values == total) | (nan & was_nan)
        better = np.where(nan | was_nan, nan & ~was_nan, beyond) | (equal & (places < self._places[target]))
        better |= ~self._seen[target]
        self._total[target] = np.where(better, values, total)
        self._places[target] = np.where(better, places, self._places[target])
        self._seen[target] = True

    def _found(self, part: Array, start: Sequence[int]) -> tuple[Array, Array]:
        """The extremes of a part, and where they are among all that is reduced, counted from the first."""
        lines = np.moveaxis(part, self._axes, range(part.ndim - len(self._axes), part.ndim))
        lines = lines.reshape(*lines.shape[: part.ndim - len(self._axes)], -1)
        rest = np.asarray(getattr(np, self._function)(lines, axis=-1))
        values = np.take_along_axis(lines, rest[..., None], axis=-1)
        places, stride = np.zeros_like(rest), 1
        for i in reversed(self._axes):
            places = places + (rest % part.shape[i] + start[i]) * stride
            rest, stride = rest // part.shape[i], stride * self._shape[i]
        return values, places

    def _moments(self, target: tuple[slice, ...], part: Array) -> None:
        """Means and sums of squares of parts are joined as Chan, Golub and LeVeque do (1979)."""
        assert self._spread is not None
        if not (count := self._count(part)):
            return
        mean = np.mean(part, axis=self._axes, keepdims=True, dtype=self._dtype)
        spread = np.sum(np.abs(part - mean) ** 2, axis=self._axes, keepdims=True)
        seen = self._seen[target]
        delta = mean - self._total[target]
        self._spread[target] += spread + np.abs(delta) ** 2 * (seen * (count / (seen + count)))
        self._total[target] += delta * (count / (seen + count))
        self._seen[target] += count

    def _count(self, part: Array) -> int:
        return math.prod(part.shape[i] for i in self._axes)
