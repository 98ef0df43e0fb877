"""Who gets which message, and what is retained; pure.

Corrects amqtt 0.12.1: a retained message goes only to whom it was asked for (B2), and
overlapping filters give one copy.
"""

import logging
from collections.abc import Mapping
from typing import Final, Protocol

from bus.packets import Publish
from bus.trie import TopicTrie

logger = logging.getLogger(__name__)

MAX_RETAINED: Final = 20_000
"""Retained messages. Ours is one for every root and service, so this is a flood or a mistake."""


class Subscriber(Protocol):
    """What the router knows of a connection."""

    def deliver(self, message: Publish, *, qos: int, retain: bool) -> None:
        """Take a message; must not wait, raise or publish."""


class Router:
    """Subscriptions and retained messages of a broker."""

    def __init__(self, retained: Mapping[str, bytes]) -> None:
        self._filters: TopicTrie[dict[Subscriber, int]] = TopicTrie()
        self._by_subscriber: dict[Subscriber, set[str]] = {}
        self._retained: TopicTrie[Publish] = TopicTrie()
        self._nretained = 0
        for topic, payload in retained.items():
            self._retain(Publish(topic, payload, qos=1, retain=True))

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
        """Hand `message` to all who asked for it, and retain it if it says so; how many they are."""
        if message.retain:
            self._retain(message)
        receivers: dict[Subscriber, int] = {}
        for subscribers in self._filters.matching(message.topic):
            for subscriber, qos in subscribers.items():
                receivers[subscriber] = max(qos, receivers.get(subscriber, 0))
        for subscriber, qos in receivers.items():
            subscriber.deliver(message, qos=min(qos, message.qos), retain=False)
        return len(receivers)

    def retained(self, filter: str = "#") -> list[Publish]:
        """The retained messages that `filter` matches."""
        return self._retained.below(filter)

    def retained_on(self, topic: str) -> Publish | None:
        """The retained message of `topic`."""
        return self._retained.get(topic)

    def subscribe(self, subscriber: Subscriber, filter: str, qos: int) -> None:
        """Add a subscription, or change its QoS."""
        if (subscribers := self._filters.get(filter)) is None:
            subscribers = {}
            self._filters.set(filter, subscribers)
        subscribers[subscriber] = qos
        self._by_subscriber.setdefault(subscriber, set()).add(filter)

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

    def _retain(self, message: Publish) -> None:
        known = self._retained.get(message.topic) is not None
        if not message.payload:
            # An empty payload takes the retained message back (MQTT 3.1.1, 3.3.1.3).
            self._retained.remove(message.topic)
            self._nretained -= known
        elif known or self._nretained < MAX_RETAINED:
            self._retained.set(message.topic, message)
            self._nretained += not known
        else:
            logger.warning("not retained, there are %d already: %r", MAX_RETAINED, message.topic[:300])
