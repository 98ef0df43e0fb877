"""The events of a subscriber: what clients that follow along are told, in order.

There is one log with the latest events, and each client is a number: how far it has come. So a client that reads
slowly, or not at all, holds up nobody and costs no memory; one that the log has left behind is cut off, and when it
comes back it is told to look afresh (`reset`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property

from caterva2.models import ChangeEvent, ResetEvent, RootEvent
from caterva2.subscriber.callers import ANONYMOUS, Caller
from caterva2.subscriber.catalog import DatasetChange, TellChanges, TellRoot
from caterva2.subscriber.places import PERSONAL, SHARED

logger = logging.getLogger(__name__)

_KEPT = 10_000
_HEARTBEAT = 15.0  # seconds; less than any proxy waits for the next byte
_RETRY = 1000  # milliseconds after which a browser comes back
# Seconds for which a client is who it was when something is told, and after which it is looked at otherwise.
_TRUST, _LOOK = 1.0, 5.0
# Own roots of which only users hear.
_FOR_USERS = frozenset({PERSONAL, SHARED})
# Events that are written down in one go, in less than a millisecond.
_BATCH = 100


@dataclass(frozen=True)
class Event:
    """One event; it is written down when the first client wants it.

    Attributes:
        root: the root that it is about.
        change: what happened to a dataset; None when the root itself came or went.
        online: whether the root is there.
        time: when this subscriber knew it, in seconds since 1970.
        owner: the id of the user who alone is told; "" is everybody who may read the root.
    """

    root: str
    change: DatasetChange | None
    online: bool
    time: float
    owner: str = ""

    @cached_property
    def text(self) -> str:
        """Its lines in the stream, without the id."""
        if self.change is None:
            status = RootEvent(name=self.root, status="online" if self.online else "offline", time=self.time)
            return _text("root", status)
        entry = self.change.entry
        event = ChangeEvent(
            root=self.root, type=self.change.type, path=entry.path, kind=entry.kind, etag=entry.etag,
            nbytes=entry.nbytes, mtime=entry.mtime, time=self.time,
        )  # fmt: skip
        if self.change.type == "deleted":
            event = event.model_copy(update={"etag": None, "nbytes": 0, "mtime": 0.0})
        return _text("change", event)


def _anything(event: Event) -> bool:
    return True


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client wants to hear of.

    Attributes:
        root: a root; "" is all of them.
        path: a dataset of it, or a directory; "" is all of it.
        caller: who wants it; the own roots have more for a user than for others.
        sees: whether the caller may know of an event.
    """

    root: str = ""
    path: str = ""
    caller: Caller = ANONYMOUS
    sees: Callable[[Event], bool] = _anything

    def covers(self, event: Event) -> bool:
        """Whether an event is one of those."""
        if event.root in _FOR_USERS and not (self.caller.known and event.owner in {"", self.caller.id}):
            return False
        if self.root and event.root != self.root:
            return False
        if self.path and event.change is not None:
            path = event.change.entry.path
            if path != self.path and not path.startswith(f"{self.path}/"):
                return False
        return self.sees(event)


class EventLog:
    """The latest events; those who follow wait here for the next one.

    Args:
        kept: how many events a client may miss and still be told.
        heartbeat: seconds of silence after which a client gets a sign of life.

    Attributes:
        listeners: how many clients follow now.
        closed: whether it has ended.
    """

    def __init__(self, kept: int = _KEPT, heartbeat: float = _HEARTBEAT) -> None:
        self.heartbeat = heartbeat
        self._kept = kept
        # Tells the numbers of this run from those of an earlier one.
        self._instance = secrets.token_hex(6)
        self._events: list[Event] = []
        self._first = 1
        self._news = asyncio.Event()
        self.listeners = 0
        self.closed = False

    @property
    def last(self) -> int:
        """The number of the latest event; they are counted from 1."""
        return self._first + len(self._events) - 1

    def add(self, effect: TellChanges | TellRoot, owner: str = "") -> None:
        """Take in what the catalog, or an own root, has from now on; with an owner, only this user is told."""
        now = time.time()
        if isinstance(effect, TellRoot):
            self._append([Event(effect.root, None, effect.online, now)])
            return
        # Of more than are kept, the first ones would be forgotten at once.
        dropped = max(0, len(effect.changes) - self._kept)
        self._first += dropped + (len(self._events) if dropped else 0)
        self._events = [] if dropped else self._events
        changes = effect.changes[dropped:]
        self._append(Event(effect.root, change, online=True, time=now, owner=owner) for change in changes)

    def _append(self, events: Iterable[Event]) -> None:
        self._events.extend(events)
        # Now and then, since what is cut off a list costs as much as what is left.
        if len(self._events) > 2 * self._kept:
            surplus = len(self._events) - self._kept
            del self._events[:surplus]
            self._first += surplus
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """End all streams, now."""
        self.closed = True
        self._wake()

    def id(self, number: int) -> str:
        """The id of an event, for `Last-Event-ID`."""
        return f"{self._instance}-{number}"

    def find(self, last_id: str) -> int | None:
        """The number of the last event that a client has; None if what came after it is not known any more."""
        instance, _, text = last_id.rpartition("-")
        if instance != self._instance or not (text.isascii() and text.isdigit() and len(text) < 19):
            return None
        number = int(text)
        return number if self._remembers(number) else None

    def _remembers(self, number: int) -> bool:
        return max(self._first, self.last - self._kept + 1) - 1 <= number <= self.last

    def after(self, number: int) -> list[Event] | None:
        """The next events, at most a batch of them; None if the log no longer has them."""
        if number < self._first - 1:
            return None
        start = number + 1 - self._first
        return self._events[start : start + _BATCH]

    async def news(self, number: int, timeout: float) -> None:
        """Return when there are events after a number, or it is time for something else."""
        if self.closed or number < self.last:
            return
        news = self._news
        try:
            async with asyncio.timeout(max(timeout, 0)):
                await news.wait()
        except TimeoutError:
            pass


def stream(
    log: EventLog, wanted: Wanted, last_id: str | None, still: Callable[[], Awaitable[bool]] = _always
) -> AsyncIterator[bytes]:
    """Write down what a client wants to hear of, for ever; what happens from this call on is told.

    Args:
        log: the events.
        wanted: those of them.
        last_id: of the last event that the client has; None if it comes for the first time.
        still: whether the client is still who it was; if not, that is the end. Nothing is told for more than a second
            after the answer.
    """
    found = log.last if last_id is None else log.find(last_id)
    number = log.last if found is None else found
    head = f"retry: {_RETRY}\nid: {log.id(number)}\n\n"
    if found is None:
        head += f"id: {log.id(number)}\n{_text('reset', ResetEvent(root=wanted.root or None, time=time.time()))}"
    return _stream(log, wanted, number, head, still)


async def _stream(
    log: EventLog, wanted: Wanted, number: int, head: str, still: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    log.listeners += 1
    try:
        async with aclosing(_told(log, wanted, number, head, still)) as told:
            async for piece in told:
                yield piece
    finally:
        log.listeners -= 1


async def _told(
    log: EventLog, wanted: Wanted, number: int, head: str, still: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes, None]:
    yield head.encode()
    alive = checked = time.monotonic()
    while not log.closed:
        if time.monotonic() >= checked + _TRUST:
            if not await still():
                return
            checked = time.monotonic()
        batch = log.after(number)
        if batch is None:
            logger.info("a client of /api/events reads too slowly: it is cut off")
            return
        text = "".join(f"id: {log.id(n)}\n{e.text}" for n, e in enumerate(batch, number + 1) if wanted.covers(e))
        number += len(batch)
        now = time.monotonic()
        if not text and now >= alive + log.heartbeat:
            # With the id, so that a client that wants little is not left behind by all the rest.
            text = f": still here\nid: {log.id(number)}\n\n"
        if text:
            alive = now
            yield text.encode()
        elif batch:
            # There may be many that this client does not want.
            await asyncio.sleep(0)
        else:
            await log.news(number, min(alive + log.heartbeat - now, _LOOK))


def _text(name: str, data: ChangeEvent | ResetEvent | RootEvent) -> str:
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n"
