"""What was written, when, and so which answers are right.

Each element of an array says which write it is from and where it stands: `stamp << 20 | index`. A version is one
stamp for each chunk. An answer must be one version as a whole, and one that was not yet over too long ago.
"""

import time
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import blosc2
import numpy as np
import numpy.typing as npt

CHUNK = 36_000
"""Elements."""
Stamps = tuple[int, ...]
Values = npt.NDArray[np.int64]


class CoherenceError(AssertionError):
    """An answer that breaks the promise."""


@dataclass(slots=True)
class Version:
    """One version of one path.

    Attributes:
        stamps: one for each chunk; None where there was no dataset.
        begun: when it may have been seen first.
        done: when it was there for sure.
        over: when it may have been seen last, as long as nobody is late.
    """

    stamps: Stamps | None
    begun: float
    done: float
    over: float = float("inf")


class History:
    """The versions of one path.

    Args:
        settle: seconds after which a change is told.
        patience: seconds after which a file that does not come to rest is told of.
    """

    def __init__(self, settle: float, patience: float = 2.0) -> None:
        self.versions = [Version(None, 0.0, 0.0)]
        self._settle = settle
        self._patience = patience

    @property
    def last(self) -> Version:
        """The present one."""
        return self.versions[-1]

    def add(self, stamps: Stamps | None, begun: float) -> None:
        """Note that another version is there since `begun` at the earliest and now at the latest."""
        now = time.monotonic()
        self.last.over = now
        self.versions.append(Version(stamps, begun, now))

    def allowed(self, since: float, until: float, bound: float) -> list[int]:
        """The numbers of the versions that a read may answer with.

        Args:
            since: when the read began.
            until: when it ended.
            bound: how long after its end a version may be taken for the present one.
        """
        return [i for i in range(len(self.versions)) if self.fits(i, since, until, bound)]

    def fits(self, i: int, since: float, until: float, bound: float) -> bool:
        """Whether version `i` is among those."""
        return self.versions[i].begun <= until and self._rest(i) >= since - bound

    def busy(self, since: float, until: float) -> bool:
        """Whether there was a write in this time."""
        return any(each.begun <= until and each.done >= since for each in self.versions[1:])

    def _rest(self, i: int) -> float:
        """When the file had come to rest after version `i` was over: until then nobody needs to know."""
        over = self.versions[i].over
        for each, after in pairwise(islice(self.versions, i + 1, None)):
            if after.begun - each.done > self._settle or each.done > over + self._patience:
                return min(each.done, over + self._patience)
        return min(self.last.done, over + self._patience) if i < len(self.versions) - 1 else over


def values_of(stamps: Stamps) -> Values:
    """The array of a version."""
    return np.concatenate([chunk_of(stamp, n) for n, stamp in enumerate(stamps)])


def chunk_of(stamp: int, n: int) -> Values:
    """The values of one chunk."""
    return (stamp << 20) + np.arange(n * CHUNK, (n + 1) * CHUNK, dtype=np.int64)


def write(file: Path, stamps: Stamps) -> None:
    """Write a version beside the file, then put it in the file's place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    # Not compressed, so that a chunk is more than what the subscriber writes without a thread (256 KB).
    cparams = blosc2.CParams(nthreads=1, clevel=0)
    blosc2.asarray(values_of(stamps), chunks=(CHUNK,), urlpath=str(part), mode="w", cparams=cparams)
    part.replace(file)


def update(file: Path, n: int, stamp: int) -> None:
    """Change one chunk where it is."""
    array = blosc2.open(str(file), mode="a")
    array[n * CHUNK : (n + 1) * CHUNK] = chunk_of(stamp, n)


def pieces(values: Values, start: int) -> dict[int, int]:
    """Take an answer apart: the stamp of each chunk that it touches.

    Raises:
        CoherenceError: if values stand where they do not belong, or one chunk has two stamps.
    """
    places, stamps = values & 0xFFFFF, values >> 20
    if not np.array_equal(places, np.arange(start, start + len(values))):
        raise CoherenceError(f"values stand where they do not belong: {values[:5]}")
    found: dict[int, int] = {}
    touched = range(start // CHUNK, -(-(start + len(values)) // CHUNK)) if len(values) else range(0)
    for n in touched:
        each = np.unique(stamps[max(0, n * CHUNK - start) : (n + 1) * CHUNK - start])
        if len(each) != 1:
            raise CoherenceError(f"chunk {n} is of several versions: {each}")
        found[n] = int(each[0])
    return found


def matches(version: Version, found: dict[int, int], start: int, stop: int) -> bool:
    """Whether what was read of `start:stop` is of this version."""
    if version.stamps is None:
        return False
    last = min(stop, len(version.stamps) * CHUNK)
    touched = range(start // CHUNK, -(-last // CHUNK)) if last > start else range(0)
    return found == {n: version.stamps[n] for n in touched}
