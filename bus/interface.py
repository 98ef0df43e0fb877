"""What the product knows of the bus: the `Bus` protocol and the events that it yields.

What this layer does NOT do: it promises no delivery. A message may be lost, repeated or reordered
on its way; who consumes must be able to catch up from the source, and is told when to do so:

- `Connected`: the subscriptions are in place *now*. Publishers announce again, followers catch up.
  Retained messages of the new connection come after it, never before it.
- `Disconnected`: nothing comes any more; what is believed of others goes stale.
- `Cleared`: a retained message was taken back. What was cleared while nobody listened is not told.
- `Resync`: the connection holds, but this consumer was too slow and its backlog of changes was
  dropped. Followers catch up as after `Connected`. What is retained (announcements and status) was
  not dropped, only thinned out to the latest of each topic.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from bus.errors import TopicError
from bus.messages import Message, decode
from bus.topics import RootTopic, ServiceTopic, Topics


@dataclass(frozen=True, slots=True)
class Connected:
    """A broker was joined, all subscriptions are in place."""

    url: str
    birth: int
    """Number of this connection; the will left with the broker carries it too."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection was lost; the client is trying to get it back."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resync:
    """Changes were dropped, because the consumer did not take them in time."""

    dropped: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """A retained message was taken back, by an empty one: of a root that is gone for good, or of a daemon."""

    address: RootTopic | ServiceTopic


Event: TypeAlias = Connected | Disconnected | Resync | Cleared | Message


def event_of(topics: Topics, topic: str, payload: bytes) -> Event:
    """What a message of the network tells; DecodeError if that is nothing."""
    if not payload:
        with suppress(TopicError):
            address = topics.parse(topic)
            if isinstance(address, RootTopic | ServiceTopic):
                return Cleared(address)
    return decode(topics, topic, payload)


@runtime_checkable
class Bus(Protocol):
    """A member's end of the bus."""

    @property
    def connected(self) -> bool:
        """Whether a broker is joined and all subscriptions are in place."""

    @property
    def trouble(self) -> str:
        """Why it is not connected, in words; empty while it is."""

    @property
    def birth(self) -> int:
        """Number of the present, or else of the latest, connection."""

    async def publish(self, message: Message) -> None:
        """Return once the broker has the message; BusUnavailableError if it may not have it."""

    async def subscribe(self, *filters: str) -> None:
        """Ask for what is published on `filters`, in this connection and all that follow it."""

    async def unsubscribe(self, *filters: str) -> None:
        """Take back `subscribe`."""

    def messages(self) -> AsyncIterator[Event]:
        """Everything that arrives, for one consumer; ends when the bus is left."""
