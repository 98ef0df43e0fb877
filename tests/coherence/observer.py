"""Reads through the subscriber, and judges each answer by the history."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random

import blosc2
import httpx

from tests.coherence.history import CHUNK, CoherenceError, History, matches, pieces, update, write
from tests.coherence.world import HEARTBEAT, MAX_STALENESS, SETTLE, World
from tests.integration.chain.daemons import ROOT

CALM = SETTLE + 0.05 + 2.0
"""Seconds from a change to its being seen where nothing is lost; most of them for a busy machine."""
ROUGH = 3 * HEARTBEAT + MAX_STALENESS + 2.5
"""The same where messages are lost, or the publisher went without a word."""
OUTAGE = 3.0
"""Seconds after an outage of the publisher in which a read may still be refused or stale."""
BUSY = 3.0
"""Seconds after a write in which a read may be refused, since the file does not come to rest."""


@dataclass(slots=True)
class Observer:
    """The reader, the writer, and what they know.

    Attributes:
        world: in which they are.
        histories: of the paths.
        down: when the publisher was last known to be down.
        reads: how many answers were right.
        stale: how many of them were said to be stale.
        refused: how many reads were refused, and rightly.
        found: what was wrong.
    """

    world: World
    histories: dict[str, History] = field(default_factory=dict)
    down: float = float("-inf")
    stamp: int = 0
    reads: int = 0
    stale: int = 0
    refused: int = 0
    found: list[CoherenceError] = field(default_factory=list)
    _floors: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def history(self, path: str) -> History:
        """The history of a path."""
        return self.histories.setdefault(path, History(SETTLE))

    # -- writing --------------------------------------------------------------------------------------

    def next_stamp(self) -> int:
        """A stamp that was never used."""
        self.stamp += 1
        return self.stamp

    def replace(self, path: str, changed: set[int], nchunks: int) -> None:
        """Write a new version, of which some chunks are those of the one before, and rename it over that."""
        old = self.history(path).last.stamps or ()
        keep = [n for n in range(min(nchunks, len(old))) if n not in changed]
        stamps = tuple(old[n] if n in keep else self.next_stamp() for n in range(nchunks))
        begun = time.monotonic()
        write(self.world.root / path, stamps)
        self.history(path).add(stamps, begun)

    def update(self, path: str, n: int) -> None:
        """Change one chunk where it is."""
        stamps = self.history(path).last.stamps
        if not stamps:
            return
        n %= len(stamps)
        stamp, begun = self.next_stamp(), time.monotonic()
        update(self.world.root / path, n, stamp)
        self.history(path).add((*stamps[:n], stamp, *stamps[n + 1 :]), begun)

    def rename(self, path: str, other: str) -> None:
        """Rename a dataset."""
        stamps = self.history(path).last.stamps
        if not stamps or path == other:
            return
        (self.world.root / other).parent.mkdir(exist_ok=True)
        begun = time.monotonic()
        (self.world.root / path).rename(self.world.root / other)
        self.history(path).add(None, begun)
        self.history(other).add(stamps, begun)

    def delete(self, path: str) -> None:
        """Delete a dataset."""
        if self.history(path).last.stamps:
            begun = time.monotonic()
            (self.world.root / path).unlink()
            self.history(path).add(None, begun)

    # -- reading --------------------------------------------------------------------------------------

    def read(self, path: str, start: int, stop: int) -> bool:
        """Read a slice and judge the answer.

        Returns:
            Whether it was the last version, and said to be current.

        Raises:
            CoherenceError: if the answer breaks the promise.
        """
        since = time.monotonic()
        answer = self.world.get(f"fetch/{ROOT}/{path}", slice_=f"{start}:{stop}")
        until = time.monotonic()
        try:
            return self._judge(path, start, stop, answer, since, until)
        except CoherenceError as error:
            told = self._told(path, answer, since, until)
            found = CoherenceError(f"{path}[{start}:{stop}], read {self.reads}: {error}\n  {told}")
            self.found.append(found)
            raise found from None

    def wait_for_last(self, path: str, timeout: float) -> None:
        """Read until the last version is read; whatever is read before that is judged too."""
        end = time.monotonic() + timeout
        while not self.read(path, 0, 6 * CHUNK):
            if time.monotonic() > end:
                raise CoherenceError(f"{path} is not at its last version after {timeout} s")
            time.sleep(0.02)

    def _judge(self, path: str, start: int, stop: int, answer: httpx.Response, since: float, until: float) -> bool:
        history = self.history(path)
        outage = not self.world.publisher.running or self.down >= since - OUTAGE
        if answer.status_code in (502, 503) and (outage or history.busy(since - BUSY, until)):
            self.refused += 1
            return False
        if answer.status_code not in (200, 404):
            raise CoherenceError(f"refused with {answer.status_code}: {answer.text}")
        stale = "stale" in answer.headers.get("cache-status", "")
        if stale and not outage:
            raise CoherenceError("said to be stale, though the publisher is there")
        bound = float("inf") if stale else self._bound(since)
        candidates = history.allowed(since, until, bound)
        if answer.status_code == 404:
            right = [i for i in candidates if history.versions[i].stamps is None]
        else:
            try:
                values = blosc2.ndarray_from_cframe(answer.content)[:]
            except (RuntimeError, ValueError) as error:
                raise CoherenceError(f"no sound array: {error}") from error
            found = pieces(values, start)
            right = [i for i in candidates if matches(history.versions[i], found, start, stop)]
            if not right:
                raise CoherenceError(f"read {found}, which is of no version that is allowed")
        if not right:
            raise CoherenceError("no such dataset, though there is one")
        self._check_order(path, since, until, right)
        self.reads += 1
        self.stale += stale
        return not stale and right[-1] == len(history.versions) - 1

    def _bound(self, since: float) -> float:
        rough = not self.world.publisher.running or max(self.world.weather.bad, self.down) > since - ROUGH - 2
        return ROUGH if rough else CALM

    def _check_order(self, path: str, since: float, until: float, right: list[int]) -> None:
        """Nobody is ever shown an older version than who asked before."""
        floors = self._floors.setdefault(path, [])
        floor = max((number for end, number in floors if end <= since), default=0)
        if right[-1] < floor:
            raise CoherenceError(f"version {right[-1]}, after version {floor} had been read")
        floors.append((until, right[0]))

    def _told(self, path: str, answer: httpx.Response, since: float, until: float) -> str:
        lines = [f"{answer.status_code} {dict(answer.headers)}", f"read from {since:.3f} to {until:.3f}"]
        lines += [
            f"version {i}: {v.stamps} from {v.begun - since:+.3f}, {v.done - since:+.3f} to {v.over - since:+.3f}"
            for i, v in enumerate(self.history(path).versions)
        ]
        return "\n  ".join(lines[:2] + lines[2:][-12:])

    def read_while(self, path: str, work: Callable[[], None], readers: int = 6) -> None:
        """Read random slices again and again, several at once, while something is done."""
        done: list[None] = []

        def reading(number: int) -> None:
            rng = Random(number)
            while not done:
                start = rng.choice([0, rng.randrange(5 * CHUNK)])
                self.read(path, start, start + rng.choice([10, CHUNK, 6 * CHUNK]))
                time.sleep(rng.uniform(0.0, 0.01))

        with ThreadPoolExecutor(readers) as pool:
            running = [pool.submit(reading, number) for number in range(readers)]
            try:
                work()
            finally:
                done.append(None)
        for each in running:
            each.result()
