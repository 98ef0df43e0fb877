"""Keeps the cache within its size: what was used longest ago gives its disk back, chunk by chunk.

The use of disk is counted as chunks are written, and measured afresh each time that room must be made. Room is made
before a batch is written, for a tenth of the cache at once, so that it is seldom needed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from caterva2.errors import StorageFullError
from caterva2.subscriber.disk import disk_use
from caterva2.subscriber.mirror import Mirror

_LOW_WATER = 0.9
# Chunks that share such a piece of a file go together: single small ones would give no page back.
_UNIT_BITS = 16
_ROUNDS = 4
# Seconds for which a use of disk that was added up is believed.
_ADDED_FOR = 5.0
# What a batch takes besides its chunks: pages at the ends, of the presence map and of the digests, and the file
# system's own.
_OVERHEAD = 32 << 10


@dataclass(frozen=True, slots=True)
class Holding:
    """Something that takes disk.

    Attributes:
        file: the mirror file.
        nbytes: what it takes.
        used: when it was last used, in seconds since 1970; 0 for what is hardly ever used again.
        mirror: that has it open; None if no one has.
    """

    file: Path
    nbytes: int
    used: float
    mirror: Mirror | None = None


Victim = tuple[Holding, npt.NDArray[np.int64]]


def choose(holdings: Iterable[Holding], excess: int) -> list[Victim]:
    """Choose what has not been used for longest, of at least `excess` bytes if there is so much.

    Returns:
        Holdings with the numbers of their chunks; with none for a file that is not open.
    """
    units = [(holding, *_units(holding)) for holding in holdings]
    ages = np.concatenate([ages for _, ages, _, _ in units] or [np.empty(0)])
    sizes = np.concatenate([sizes for _, _, sizes, _ in units] or [np.empty(0)])
    order = np.argsort(ages, kind="stable")
    enough = int(np.searchsorted(np.cumsum(sizes[order]), excess)) + 1
    chosen = np.zeros(len(ages), bool)
    chosen[order[:enough]] = True
    victims, at = list[Victim](), 0
    for holding, own, _, groups in units:
        picked = np.flatnonzero(chosen[at : at + len(own)])
        at += len(own)
        if len(picked):
            numbers = [groups[i] for i in picked.tolist()] if groups else [np.empty(0, np.int64)]
            victims.append((holding, np.concatenate(numbers)))
    return sorted(victims, key=lambda victim: victim[0].used)


def _units(
    holding: Holding,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Sequence[npt.NDArray[np.int64]]]:
    """What of a holding can go by itself: when it was last used, how many bytes, which chunks."""
    mirror = holding.mirror
    if mirror is None:
        return np.array([holding.used]), np.array([float(holding.nbytes)]), ()
    kept = mirror.kept
    free = kept[~mirror.in_use[kept]]
    if not len(free):
        return np.empty(0), np.empty(0), ()
    offsets, layout = mirror.layout.offsets[free], mirror.layout
    starts = np.flatnonzero(np.diff(offsets >> _UNIT_BITS, prepend=-1))
    # Slots are never used to their end.
    sizes = layout.ends[free] - offsets if mirror.compact else np.full(len(free), holding.nbytes / len(kept))
    ages = np.maximum.reduceat(mirror.ages(free), starts) if holding.used else np.zeros(len(starts))
    return ages, np.add.reduceat(sizes, starts).astype(float), np.split(free, starts[1:])


@dataclass(frozen=True, slots=True)
class Evicted:
    """What went since the start.

    Attributes:
        times: how often room was made.
        nbytes: how much.
    """

    times: int = 0
    nbytes: int = 0


class Budget:
    """How much disk the mirrors may take.

    Args:
        limit: in bytes; None for as much as there is.
        survey: lists what takes disk now.
        reopen: opens the mirror of a file for eviction; None if it is gone.
        discard: removes a file that no one has open, or only this mirror.
    """

    def __init__(
        self,
        limit: int | None,
        survey: Callable[[], list[Holding]],
        reopen: Callable[[Path], Mirror | None],
        discard: Callable[[Path, Mirror | None], None],
    ) -> None:
        self._limit = limit
        self._survey = survey
        self._reopen = reopen
        self._discard = discard
        self._evicting = threading.Lock()
        self._counting = threading.Lock()
        # Counted from the first measurement on.
        self._taken: int | None = None
        self._reserved = 0
        self._added = -math.inf, 0
        self.evicted = Evicted()

    def use(self) -> int:
        """Bytes that are taken; if they are not counted they are added up, at most once in some seconds."""
        if self._taken is not None:
            return self._taken
        when, nbytes = self._added
        if time.monotonic() > when + _ADDED_FOR:
            nbytes = sum(holding.nbytes for holding in self._survey())
            self._added = time.monotonic(), nbytes
        return nbytes

    def has_room(self, nbytes: int) -> bool:
        """Whether so much can be written without anything going for it; never takes long."""
        if self._limit is None:
            return True
        return self._taken is not None and self._taken + self._reserved + nbytes + _OVERHEAD <= self._limit

    @contextmanager
    def room(self, nbytes: int) -> Iterator[Callable[[int], None]]:
        """Make room, which may take some milliseconds, and hold it while something is written.

        Yields:
            What to call with the bytes that were taken in fact.

        Raises:
            StorageFullError: if what is in use leaves no room.
        """
        if self._limit is None:
            yield lambda taken: None
            return
        asked = nbytes + _OVERHEAD
        self._reserve(asked, self._limit)
        try:
            yield self._count
        finally:
            with self._counting:
                self._reserved -= asked

    def _count(self, taken: int) -> None:
        with self._counting:
            self._taken = (self._taken or 0) + taken

    def _reserve(self, asked: int, limit: int) -> None:
        if self._reserved_at_once(asked, limit):
            return
        with self._evicting:
            if self._reserved_at_once(asked, limit):
                return
            self._evict(asked, limit)
            if not self._reserved_at_once(asked, limit):
                raise StorageFullError(f"the cache of {limit} bytes has no room: all of it is in use")

    def _reserved_at_once(self, asked: int, limit: int) -> bool:
        with self._counting:
            if self._taken is None or self._taken + self._reserved + asked > limit:
                return False
            self._reserved += asked
            return True

    def _evict(self, asked: int, limit: int) -> None:
        for _ in range(_ROUNDS):
            holdings = self._survey()
            taken = sum(holding.nbytes for holding in holdings)
            with self._counting:
                self._taken = taken
                wanted = taken + self._reserved + asked
            if wanted <= limit:
                return
            excess = wanted - int(_LOW_WATER * limit)
            freed = self._free(holdings, excess)
            with self._counting:
                self._taken -= freed
            self.evicted = Evicted(self.evicted.times + 1, self.evicted.nbytes + freed)
            if not freed or freed >= excess:
                return

    def _free(self, holdings: Iterable[Holding], excess: int) -> int:
        freed = 0
        for holding, numbers in choose(holdings, excess):
            mirror = holding.mirror
            if mirror is None and holding.nbytes <= 2 * (excess - freed):
                self._discard(holding.file, None)
                freed += holding.nbytes
                continue
            if mirror is None:
                # A large one that is only partly too much.
                mirror = self._reopen(holding.file)
                if mirror is None:
                    continue
                part = Holding(holding.file, holding.nbytes, holding.used, mirror)
                numbers = next((chunks for _, chunks in choose([part], excess - freed)), numbers)
            before = disk_use(mirror.fd)
            try:
                mirror.drop(numbers)
            except OSError:
                # This file system has no holes.
                if not mirror.in_use.any():
                    self._discard(holding.file, mirror)
                    freed += before
            else:
                freed += before - disk_use(mirror.fd)
        return freed
