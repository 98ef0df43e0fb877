"""What a subscriber counts of its own work since it was started, for those who operate it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

# Seconds that a rate is of, and changes that a lag is of.
_SPAN: Final = 60.0
_LATEST: Final = 1000


@dataclass(slots=True)
class Figures:
    """Counters; whoever does the work calls, and a superuser reads.

    Attributes:
        started: when, in seconds since 1970.
        changes: changes of datasets that the bus told, by root.
        wanted: chunks of published datasets that reads needed.
        found: those of them that were on disk.
    """

    started: float = field(default_factory=time.time)
    changes: Counter[str] = field(default_factory=Counter)
    wanted: int = 0
    found: int = 0
    _lags: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def told(self, root: str, times: Sequence[float]) -> None:
        """Take note of changes that came over the bus.

        Args:
            root: whose they are.
            times: when the publisher noticed each, by its own clock, in seconds since 1970.
        """
        now = time.time()
        self.changes[root] += len(times)
        # A clock that is behind would make it negative.
        self._lags.extend(max(0.0, now - when) for when in times[-_LATEST:])
        self._recent.append((time.monotonic(), len(times)))
        self._forget()

    def needed(self, wanted: int, missing: int) -> None:
        """Take note of chunks that a read needs, and of those that are not on disk."""
        self.wanted += wanted
        self.found += wanted - missing

    @property
    def rate(self) -> float:
        """Changes a second, over the last minute or since the start."""
        self._forget()
        span = min(_SPAN, max(1.0, time.time() - self.started))
        return sum(count for _, count in self._recent) / span

    @property
    def lag(self) -> tuple[float, float, float] | None:
        """The latest, median and longest of the seconds from a change to the knowledge of it; None before any."""
        return (self._lags[-1], median(self._lags), max(self._lags)) if self._lags else None

    def _forget(self) -> None:
        while self._recent and self._recent[0][0] < time.monotonic() - _SPAN:
            self._recent.popleft()
