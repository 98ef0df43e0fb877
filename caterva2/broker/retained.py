"""Retained messages over a restart of the broker: who was online then is offline until heard of.

A broker that was killed sent no last wills, and a publisher that went away meanwhile will not say so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bus.errors import DecodeError
from bus.messages import RootAnnouncement, ServiceStatus, decode, encode
from bus.packets import Publish
from bus.store import RetainedStore
from bus.topics import Topics


class PresenceStore(RetainedStore):
    """A store of retained messages that takes all daemons for offline when it is opened.

    Args:
        file: where it is.
        topics: the topics of the bus.
    """

    def __init__(self, file: Path, topics: Topics) -> None:
        super().__init__(file)
        self._topics = topics

    def open(self, saved: Callable[[int], None]) -> list[Publish]:
        """Read what was saved, and begin to save; see `RetainedStore.open`."""
        return [self._offline(message) for message in super().open(saved)]

    def _offline(self, message: Publish) -> Publish:
        try:
            known = decode(self._topics, message.topic, message.payload)
        except DecodeError:
            return message
        if not isinstance(known, RootAnnouncement | ServiceStatus) or known.status == "offline":
            return message
        payload = encode(known.model_copy(update={"status": "offline"}))
        return Publish(message.topic, payload, qos=message.qos, retain=True)
