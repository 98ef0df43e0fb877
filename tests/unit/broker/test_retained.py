"""Retained messages over a restart."""

from pathlib import Path

from bus.messages import decode, encode, topic_of
from bus.packets import Publish
from bus.topics import Topics
from caterva2.broker.retained import PresenceStore
from tests.unit.broker.test_registry import root, service

TOPICS = Topics()


def test_presence_is_void(tmp_path: Path) -> None:
    """Who was there when the broker ended is offline when it is back; all else is as it was, in its order."""
    kept = [
        Publish("other", b"text", qos=0, retain=True),
        Publish(TOPICS.root("foo"), encode(root()), qos=1, retain=True),
        Publish(TOPICS.root("garbage"), b"{", qos=1, retain=True),
        Publish(TOPICS.root("gone"), encode(root(name="gone", status="offline")), qos=1, retain=True),
        Publish(TOPICS.service("subscriber", "s"), encode(service()), qos=1, retain=True),
    ]
    store = PresenceStore(tmp_path / "retained.sqlite", TOPICS)
    assert [] == store.open(lambda _number: None)
    for message in kept:
        store.put(message)
    store.close()

    found = PresenceStore(tmp_path / "retained.sqlite", TOPICS)
    messages = found.open(lambda _number: None)
    found.close()

    assert [each.topic for each in kept] == [each.topic for each in messages]
    assert [kept[0], kept[2], kept[3]] == [messages[0], messages[2], messages[3]]
    for before, after in zip((root(), service()), (messages[1], messages[4]), strict=True):
        assert (True, 1) == (after.retain, after.qos)
        assert before.model_copy(update={"status": "offline"}) == decode(TOPICS, after.topic, after.payload)
        assert topic_of(TOPICS, before) == after.topic
