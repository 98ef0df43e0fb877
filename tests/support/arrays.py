"""Arrays and frames of every kind, for tests that compare what comes out with what went in."""

import math
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

Array = np.ndarray[Any, Any]

DTYPES = [
    "?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16", "S7", "S300", "<U5",
    "<M8[ns]", "<m8[s]", [("a", "<i4"), ("b", "<f8"), ("c", "S10"), ("d", "?")], [("p", "<i2", (2, 3))],
]  # fmt: skip
# shape, chunks, blocks
GEOMETRIES: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = [
    ((), (), ()),
    ((1,), (1,), (1,)),
    ((1000,), (100,), (10,)),
    ((1003,), (100,), (30,)),
    ((50,), (50,), (50,)),
    ((7, 9), (7, 9), (7, 9)),
    ((10, 20), (3, 7), (2, 3)),
    ((0,), (0,), (0,)),
    ((3, 0, 2), (3, 0, 2), (3, 0, 2)),
    ((3, 4, 5), (2, 3, 4), (2, 2, 2)),
    ((2, 3, 4, 5), (1, 2, 3, 4), (1, 2, 2, 2)),
    ((2, 1, 3, 2, 2), (1, 1, 2, 2, 1), (1, 1, 2, 1, 1)),
    ((2, 2, 2, 2, 2, 3), (2, 1, 2, 1, 2, 2), (1, 1, 2, 1, 2, 2)),
    ((2, 2, 2, 1, 2, 2, 2), (1, 2, 2, 1, 2, 2, 1), (1, 1, 2, 1, 2, 1, 1)),
    ((2, 2, 1, 2, 2, 1, 2, 3), (2, 1, 1, 2, 1, 1, 2, 2), (1, 1, 1, 2, 1, 1, 1, 2)),
]


def example(shape: tuple[int, ...], dtype: Any = "<i8", seed: int = 0) -> Array:
    """Values of a dtype, different from item to item and neither trivial nor random to a compressor."""
    dtype = np.dtype(dtype)
    size = math.prod(shape)
    if dtype.kind in "SU":
        values = np.array([f"{i + seed}-{i % 7}" for i in range(size)], dtype)
    elif dtype.kind == "V":
        raw = np.random.default_rng(seed).integers(0, 90, size * dtype.itemsize, dtype="u1")
        values = _zero_gaps(np.frombuffer(raw.tobytes(), dtype))
    elif dtype.kind == "c":
        values = (np.arange(size) + seed) * (1 + 2j)
    else:
        values = np.arange(size) * 3 + seed
    return np.array(values.astype(dtype).reshape(shape), order="C")


def _zero_gaps(values: Array) -> Array:
    clean = values.copy()
    for name in values.dtype.names or ():
        if values.dtype[name] == np.dtype("?"):
            clean[name] = values[name].view("u1") % 2
    return clean


def write(file: Path, values: Array, *, contiguous: bool = True, **options: Any) -> Any:
    """Write an array as a frame, with one thread so that equal values make equal bytes."""
    cparams = options.pop("cparams", None) or blosc2.CParams(nthreads=1, typesize=values.dtype.itemsize)
    return blosc2.asarray(values, cparams=cparams, urlpath=str(file), contiguous=contiguous, **options)


def same(expected: Array, actual: Any) -> bool:
    """Whether two arrays agree in dtype, shape and every byte that counts."""
    actual = np.asarray(actual)
    return (expected.dtype, expected.shape) == (actual.dtype, actual.shape) and expected.tobytes() == actual.tobytes()
