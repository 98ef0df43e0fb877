"""The queue between a connection, which must never wait, and its consumer, who may be slow.

Up to `limit` changes (and other events) wait here. One more, and the backlog is thinned out: all
changes go, of every root and service only the latest word stays, of the connection only its latest
state; a `Resync` in front says so. That is all that a consumer needs to get right again, since
it can fetch what it missed from the source, and state is only ever of interest in its latest form.
"""

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Final

from bus.interface import Cleared, Connected, Disconnected, Event, Resync
from bus.messages import Changes, RootAnnouncement, ServiceStatus, TokenGrant
from bus.topics import RootTopic, ServiceTopic

DEFAULT_LIMIT: Final = 20_000


class Inbox:
    """A bounded queue of events, and the asynchronous iterator over it."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._events: deque[Event] = deque()
        self._weight = 0
        self._ready = asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        """Append `event`; thins out the backlog when there is too much of it."""
        if self._closed:
            return
        self._events.append(event)
        self._weight += _weight(event)
        if self._weight > self._limit:
            self._thin_out()
        self._ready.set()

    def close(self) -> None:
        """End the iteration once what waits is taken."""
        self._closed = True
        self._ready.set()

    def __aiter__(self) -> "Inbox":
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        event = self._events.popleft()
        self._weight -= _weight(event)
        return event

    def _thin_out(self) -> None:
        dropped = sum(_dropped(event) for event in self._events)
        latest: dict[Hashable, Event] = {}
        for event in self._events:
            if (key := _key(event)) is not None:
                latest.pop(key, None)  # so that the order is that of the latest ones
                latest[key] = event
        # Half the room, or else a flood of distinct names would thin out on every event.
        kept = list(latest.values())[-(self._limit // 2) :]
        self._events = deque([Resync(dropped), *kept])
        self._weight = len(self._events)


def _weight(event: Event) -> int:
    return len(event.changes) if isinstance(event, Changes) else 1


def _dropped(event: Event) -> int:
    """Changes that go with `event`, counting those that an earlier Resync stands for."""
    if isinstance(event, Resync):
        return event.dropped
    return len(event.changes) if isinstance(event, Changes) else 0


def _key(event: Event) -> Hashable:
    """What `event` is the latest word about; None if it is not kept."""
    match event:
        case RootAnnouncement():
            return "root", event.name
        case ServiceStatus():
            return "service", event.kind, event.id
        case TokenGrant():
            return "tokens", event.user, *event.tokens
        case Cleared(RootTopic(name)):
            return "root", name
        case Cleared(ServiceTopic(kind, id)):
            return "service", kind, id
        case Connected() | Disconnected():
            return "connection"
    return None
