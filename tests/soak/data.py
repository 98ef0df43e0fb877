"""The datasets of a soak: every value says of which version it is, and where it stands."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import blosc2
import numpy as np
import numpy.typing as npt

CHUNK, NCHUNKS = 16 * 1024, 8
LENGTH = CHUNK * NCHUNKS
_CPARAMS = {"clevel": 0, "nthreads": 1}
Values = npt.NDArray[np.int64]
Span = tuple[float, float]


def values_of(version: int, start: int = 0, stop: int = LENGTH) -> Values:
    """A part of a version."""
    return (version << 20) + np.arange(start, stop, dtype=np.int64)


def versions_in(values: Values, start: int) -> list[int] | None:
    """The versions that values are of; None if they are of none, or stand at another place."""
    if not np.array_equal(values & 0xFFFFF, np.arange(start, start + len(values))):
        return None
    return [int(each) for each in np.unique(values >> 20)]


def replace(file: Path, version: int) -> Iterator[Span]:
    """Write a version beside the file and rename it over that; give when each step began and ended."""
    part = file.with_name(f"{file.name}.part")
    blosc2.asarray(values_of(version), chunks=(CHUNK,), urlpath=str(part), mode="w", cparams=_CPARAMS)
    begun = time.monotonic()
    part.replace(file)
    yield begun, time.monotonic()


def update(file: Path, version: int) -> Iterator[Span]:
    """Change one chunk after the other where they are, through blosc2."""
    array = blosc2.open(str(file), mode="a")
    for n in range(NCHUNKS):
        values = values_of(version, n * CHUNK, (n + 1) * CHUNK)
        begun = time.monotonic()
        array[n * CHUNK : (n + 1) * CHUNK] = values
        yield begun, time.monotonic()


def rewrite(file: Path, version: int) -> Iterator[Span]:
    """Write a version over the bytes of the one before, in several writes."""
    array = blosc2.asarray(values_of(version), chunks=(CHUNK,), cparams=_CPARAMS)
    data = array.to_cframe()
    fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        begun = time.monotonic()
        os.ftruncate(fd, len(data))
        for at in range(0, len(data), 200_000):
            os.pwrite(fd, data[at : at + 200_000], at)
            yield begun, time.monotonic()
            begun = time.monotonic()
    finally:
        os.close(fd)


WAYS = {"replaced.b2nd": replace, "updated.b2nd": update, "rewritten.b2nd": rewrite}
