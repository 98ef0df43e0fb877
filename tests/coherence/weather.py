"""A bus that loses, repeats and reorders messages as it is told to."""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Self

from bus.interface import Connected, Disconnected, Event, Resync
from bus.messages import Changes, Message, RootAnnouncement, ServiceStatus
from bus.topics import Topics
from tests.support.bus import Broker, Member

Fate = Literal["deliver", "lose", "repeat", "hold"]


class Weather:
    """What becomes of the next messages to one member.

    Attributes:
        bad: when the last message was lost or held back, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.bad = float("-inf")
        self._changes: deque[Fate] = deque()
        self._announcements: deque[Fate] = deque()

    def plan(self, changes: Iterable[Fate], announcements: Iterable[Fate] = ()) -> None:
        """Say what becomes of the next messages; those after them are delivered."""
        self._changes.extend(changes)
        self._announcements.extend(announcements)

    def clear(self) -> None:
        """Deliver all messages from now on."""
        self._changes.clear()
        self._announcements.clear()

    def next(self, event: RootAnnouncement | Changes) -> Fate:
        """The fate of a message."""
        fates = self._changes if isinstance(event, Changes) else self._announcements
        fate = fates.popleft() if fates else "deliver"
        if fate in ("lose", "hold"):
            self.bad = time.monotonic()
        return fate


class WeatheredBus:
    """A member of the bus whose incoming messages meet the weather."""

    def __init__(self, inner: Member, weather: Weather) -> None:
        self._inner = inner
        self._weather = weather

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._inner.__aexit__(*exc_info)

    @property
    def connected(self) -> bool:
        """As of the bus."""
        return self._inner.connected

    @property
    def trouble(self) -> str:
        """As of the bus."""
        return self._inner.trouble

    @property
    def birth(self) -> int:
        """As of the bus."""
        return self._inner.birth

    async def publish(self, message: Message) -> None:
        """As of the bus."""
        await self._inner.publish(message)

    async def subscribe(self, *filters: str) -> None:
        """As of the bus."""
        await self._inner.subscribe(*filters)

    async def unsubscribe(self, *filters: str) -> None:
        """As of the bus."""
        await self._inner.unsubscribe(*filters)

    async def messages(self) -> AsyncIterator[Event]:
        """What arrives, after the weather."""
        held: list[Event] = []
        async for event in self._inner.messages():
            if isinstance(event, Connected | Disconnected | Resync | ServiceStatus):
                held.clear()
                yield event
                continue
            fate = self._weather.next(event)
            if fate == "hold":
                held.append(event)
            elif fate != "lose":
                for each in [event, *([event] if fate == "repeat" else []), *held]:
                    yield each
                held.clear()


def weathered(broker: Broker, weather: Weather) -> Callable[[Any, Topics], AbstractAsyncContextManager[Any]]:
    """The `join_bus` of a subscriber in this weather."""
    return lambda _settings, topics: WeatheredBus(broker.member(topics), weather)
