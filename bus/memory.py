"""The bus inside one process: a broker and its members without a socket, for tests.

Delivery is immediate and in order, so a test needs no waiting; messages go through the codec all
the same. What a network does to a bus is simulated: `MemoryBroker.down` and `up` are an outage
(retained messages survive, wills are not sent), `drop` is the abrupt loss of one member (its will
is sent), `inject` is a foreign client that publishes anything.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

from bus.errors import BusUnavailableError, DecodeError
from bus.inbox import DEFAULT_LIMIT, Inbox
from bus.interface import Connected, Disconnected, Event, event_of
from bus.messages import Message, encode, topic_of
from bus.topics import Topics, check_filter, matches

logger = logging.getLogger(__name__)

URL: Final = "memory:"


class MemoryBroker:
    """Routes messages among the members in this process."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self._members: list[MemoryBus] = []
        self._up = True

    @property
    def is_up(self) -> bool:
        """Whether there is no outage."""
        return self._up

    def down(self, reason: str = "broker is down") -> None:
        """Cut off every member, until `up`."""
        self._up = False
        for member in self._members:
            member._disconnect(reason)

    def up(self) -> None:
        """Take every member in again."""
        self._up = True
        for member in list(self._members):
            member._connect()

    def drop(self, member: "MemoryBus", *, reconnect: bool = True) -> None:
        """Lose the connection of `member`: its will is sent, then it may come back."""
        will = member._will_message
        member._disconnect("connection lost")
        self._members.remove(member)
        if will is not None:
            self._route(member.topics, will)
        if reconnect:
            self._join(member)

    def inject(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish what no well-behaved member would."""
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for member in self._members:
            member._deliver(topic, payload)

    def _join(self, member: "MemoryBus") -> None:
        self._members.append(member)
        if self._up:
            member._connect()

    def _leave(self, member: "MemoryBus") -> None:
        if member in self._members:
            self._members.remove(member)

    def _route(self, topics: Topics, message: Message) -> None:
        self.inject(topic_of(topics, message), encode(message), retain=message.retained)


class MemoryBus:
    """A member of a MemoryBroker; see `bus.interface.Bus`."""

    def __init__(
        self,
        broker: MemoryBroker,
        *,
        topics: Topics | None = None,
        will: Callable[[int], Message] | None = None,
        birth: int = 0,
        queue_limit: int = DEFAULT_LIMIT,
    ) -> None:
        self.topics = topics or Topics()
        self._broker = broker
        self._will = will
        self._will_message: Message | None = None
        self._birth = birth
        self._connected = False
        self._filters: dict[str, None] = {}
        self._inbox = Inbox(queue_limit)

    async def __aenter__(self) -> "MemoryBus":
        self._broker._join(self)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._broker._leave(self)
        self._connected = False
        self._inbox.close()

    @property
    def connected(self) -> bool:
        """Whether the broker is up and has this member."""
        return self._connected

    @property
    def trouble(self) -> str:
        """Why it is not connected, in words; empty while it is."""
        return "" if self._connected else "the broker is down"

    @property
    def birth(self) -> int:
        """Number of the present, or else of the latest, connection."""
        return self._birth

    async def publish(self, message: Message) -> None:
        """Deliver at once; BusUnavailableError during an outage."""
        payload = encode(message)
        if not self._connected:
            raise BusUnavailableError("not connected", URL)
        self._broker.inject(topic_of(self.topics, message), payload, retain=message.retained)
        await asyncio.sleep(0)  # a real bus lets others run here, and so must its double

    async def subscribe(self, *filters: str) -> None:
        """Ask for what is published on `filters`, in this connection and all that follow it."""
        for each in filters:
            self._filters[check_filter(each)] = None
        if self._connected:
            self._replay(filters)

    async def unsubscribe(self, *filters: str) -> None:
        """Take back `subscribe`."""
        for each in filters:
            self._filters.pop(each, None)

    def messages(self) -> AsyncIterator[Event]:
        """Everything that arrives, for one consumer; ends when the bus is left."""
        return self._inbox

    def _connect(self) -> None:
        self._birth += 1
        self._will_message = self._will(self._birth) if self._will else None
        self._connected = True
        self._inbox.put(Connected(URL, self._birth))
        self._replay(tuple(self._filters))

    def _disconnect(self, reason: str) -> None:
        if self._connected:
            self._connected = False
            self._inbox.put(Disconnected(reason))

    def _replay(self, filters: tuple[str, ...]) -> None:
        for topic, payload in self._broker.retained.items():
            if any(matches(each, topic) for each in filters):
                self._receive(topic, payload)

    def _deliver(self, topic: str, payload: bytes) -> None:
        if self._connected and any(matches(each, topic) for each in self._filters):
            self._receive(topic, payload)

    def _receive(self, topic: str, payload: bytes) -> None:
        try:
            self._inbox.put(event_of(self.topics, topic, payload))
        except DecodeError as error:
            logger.warning("dropped: %s", error)
