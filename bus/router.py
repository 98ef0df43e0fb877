"""Who gets which message, and what is retained; pure.

Corrects amqtt 0.12.1: a retained message goes only to whom it was asked for (B2), and
overlapping filters give one copy.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from bus.access import Access, OpenAccess
from bus.chatter import Chatter
from bus.limits import Limits
from bus.packets import Publish
from bus.trie import TopicTrie

logger = logging.getLogger(__name__)


class Subscriber(Protocol):
    """What the router knows of a connection."""

    def may_receive(self, topic: str) -> bool:
        """Whether it gets what is published to a guarded topic."""

    def deliver(self, message: Publish, *, qos: int, retain: bool) -> None:
        """Take a message; must not wait, raise or publish."""


class Saver(Protocol):
    """What the router knows of a store."""

    def put(self, message: Publish) -> int:
        """Save a retained message, or that there is none if its payload is empty; the number of this save."""


@dataclass(frozen=True, slots=True)
class _Retained:
    message: Publish
    number: int


class Router:
    """Subscriptions and retained messages of a broker.

    Args:
        access: guards topics.
        limits: how much is retained.
        store: where retained messages are saved, those of `$` topics excepted.
    """

    def __init__(self, access: Access | None = None, limits: Limits | None = None, store: Saver | None = None) -> None:
        self._access = access or OpenAccess()
        self._limits = limits or Limits()
        self._store = store
        self._filters: TopicTrie[dict[Subscriber, int]] = TopicTrie()
        self._by_subscriber: dict[Subscriber, set[str]] = {}
        self._retained: TopicTrie[_Retained] = TopicTrie()
        self._nretained = 0
        self._nbytes = 0
        self._number = 0
        self._chatter = Chatter(logger, lines=1, seconds=60.0)

    @property
    def nretained(self) -> int:
        """How many messages are retained."""
        return self._nretained

    @property
    def nsubscriptions(self) -> int:
        """How many subscriptions there are."""
        return sum(map(len, self._by_subscriber.values()))

    def count(self, subscriber: Subscriber) -> int:
        """How many subscriptions a connection has."""
        return len(self._by_subscriber.get(subscriber, ()))

    def publish(self, message: Publish) -> int:
        """Hand `message` to all who asked for it; retain it if it says so, and give the number of its save, else 0."""
        saved = self._save(message) if message.retain else 0
        guarded = self._access.guarded(message.topic)
        for subscriber, qos in _merged(self._filters.matching(message.topic)).items():
            if not guarded or subscriber.may_receive(message.topic):
                subscriber.deliver(message, qos=qos if qos < message.qos else message.qos, retain=False)
        return saved

    def load(self, messages: Iterable[Publish]) -> None:
        """Retain what was saved earlier, in the order in which it was published."""
        for message in messages:
            self._retain(message)

    @property
    def number(self) -> int:
        """The number of the message that was retained last."""
        return self._number

    def retained(self, filter: str = "#", upto: float = math.inf) -> list[Publish]:
        """The retained messages that `filter` matches, in the order of publication, up to number `upto`."""
        found = sorted(self._retained.below(filter), key=lambda each: each.number)
        return [each.message for each in found if each.number <= upto]

    def retained_on(self, topic: str, upto: float = math.inf) -> Publish | None:
        """The retained message of `topic`, unless there is none up to number `upto`."""
        found = self._retained.get(topic)
        return found.message if found is not None and found.number <= upto else None

    def guarded(self, topic: str) -> bool:
        """Whether not everyone who asks for `topic` gets what is published there."""
        return self._access.guarded(topic)

    def subscribe(self, subscriber: Subscriber, filter: str, qos: int) -> None:
        """Add a subscription, or change its QoS."""
        if (subscribers := self._filters.get(filter)) is None:
            subscribers = {}
            self._filters.set(filter, subscribers)
        subscribers[subscriber] = qos
        self._by_subscriber.setdefault(subscriber, set()).add(filter)

    def subscribed(self, subscriber: Subscriber, filter: str) -> bool:
        """Whether a connection has this very subscription."""
        return filter in self._by_subscriber.get(subscriber, ())

    def unsubscribe(self, subscriber: Subscriber, filter: str) -> None:
        """End a subscription, if there is one."""
        subscribers = self._filters.get(filter)
        if subscribers is None or subscribers.pop(subscriber, None) is None:
            return
        self._by_subscriber[subscriber].discard(filter)
        if not subscribers:
            self._filters.remove(filter)

    def forget(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a connection."""
        for filter in tuple(self._by_subscriber.get(subscriber, ())):
            self.unsubscribe(subscriber, filter)
        self._by_subscriber.pop(subscriber, None)

    def _save(self, message: Publish) -> int:
        if not self._retain(message) or self._store is None or message.topic.startswith("$"):
            return 0
        return self._store.put(message)

    def _retain(self, message: Publish) -> bool:
        """Retain a message, or take one back; whether there was anything to do."""
        known = self._retained.get(message.topic)
        if not message.payload:
            # An empty payload takes the retained message back (MQTT 3.1.1, 3.3.1.3).
            if known is None:
                return False
            self._retained.remove(message.topic)
            self._count(-1, known.message)
            return True
        if not self._fits(message, known):
            self._chatter.log(logging.WARNING, "not retained, there is too much already: %.300r", message.topic)
            return False
        if known is not None:
            self._count(-1, known.message)
        self._count(+1, message)
        self._number += 1
        self._retained.set(message.topic, _Retained(message, self._number))
        return True

    def _fits(self, message: Publish, known: _Retained | None) -> bool:
        if known is None and self._nretained >= self._limits.retained:
            return False
        more = _size(message) - (_size(known.message) if known is not None else 0)
        return more <= 0 or self._nbytes + more <= self._limits.retained_bytes

    def _count(self, sign: int, message: Publish) -> None:
        self._nretained += sign
        self._nbytes += sign * _size(message)


def _merged(matching: list[dict[Subscriber, int]]) -> dict[Subscriber, int]:
    """Each subscriber once, with the highest QoS that it asked for."""
    if len(matching) == 1:
        return matching[0]
    receivers: dict[Subscriber, int] = {}
    for subscribers in matching:
        for subscriber, qos in subscribers.items():
            receivers[subscriber] = max(qos, receivers.get(subscriber, 0))
    return receivers


class RetainedMessages(Mapping[str, bytes]):
    """What is retained, by topic; a view, cheap to look something up in."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def __getitem__(self, topic: str) -> bytes:
        message = self._router.retained_on(topic)
        if message is None or topic.startswith("$"):
            raise KeyError(topic)
        return message.payload

    def __iter__(self) -> Iterator[str]:
        return (message.topic for message in self._router.retained())

    def __len__(self) -> int:
        return len(self._router.retained())


def _size(message: Publish) -> int:
    return len(message.topic) + len(message.payload)
