import pytest

from bus.access import OpenAccess
from bus.limits import Limits
from bus.packets import Publish
from bus.router import Router


class Client:
    """A subscriber that writes down what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, int, bool]] = []

    def may_receive(self, topic: str) -> bool:
        return topic != "guarded/closed"

    def deliver(self, message: Publish, *, qos: int, retain: bool) -> None:
        self.got.append((message.payload, qos, retain))


def message(topic: str, payload: bytes = b"x", *, qos: int = 1, retain: bool = False) -> Publish:
    """A message."""
    return Publish(topic, payload, qos, retain)


def test_overlapping_filters_give_one_copy_of_the_highest_qos() -> None:
    """Plain amqtt gives one copy for each filter."""
    router, client = Router(), Client()
    for filter, qos in (("a/#", 0), ("a/+", 1), ("a/b", 0)):
        router.subscribe(client, filter, qos)

    router.publish(message("a/b"))

    assert [(b"x", 1, False)] == client.got


@pytest.mark.parametrize(("published", "subscribed", "expected"), [(0, 1, 0), (1, 0, 0), (1, 1, 1), (2, 1, 1)])
def test_the_lower_qos_wins(published: int, subscribed: int, expected: int) -> None:
    """Delivery is no more costly than either side asked for."""
    router, client = Router(), Client()
    router.subscribe(client, "a", subscribed)
    router.publish(message("a", qos=published))

    assert [(b"x", expected, False)] == client.got


def test_subscribing_again_replaces_the_qos() -> None:
    """A filter is subscribed to once (MQTT 3.1.1, 3.8.4)."""
    router, client = Router(), Client()
    router.subscribe(client, "a", 1)
    router.subscribe(client, "a", 0)
    router.publish(message("a"))

    assert (1, [(b"x", 0, False)]) == (router.nsubscriptions, client.got)


def test_unsubscribing_ends_only_that_subscription() -> None:
    """Other filters and other clients keep theirs."""
    router, one, two = Router(), Client(), Client()
    for client in (one, two):
        router.subscribe(client, "a", 0)
    router.subscribe(one, "b", 0)
    router.unsubscribe(one, "a")
    router.unsubscribe(one, "never")
    router.publish(message("a"))
    router.publish(message("b"))

    assert (1, 1) == (len(one.got), len(two.got))


def test_a_forgotten_client_gets_nothing() -> None:
    """Nothing of it stays behind."""
    router, client = Router(), Client()
    router.subscribe(client, "a", 0)
    router.subscribe(client, "b", 0)
    router.forget(client)
    router.forget(client)
    router.publish(message("a"))

    assert ([], 0, 0) == (client.got, router.nsubscriptions, router.count(client))


def test_the_latest_retained_message_of_a_topic_is_kept() -> None:
    """Until an empty one takes it back."""
    router = Router()
    router.load([message("a", b"0")])
    assert [b"0"] == [each.payload for each in router.retained()]
    router.publish(message("a", b"1", retain=True))
    router.publish(message("a", b"2"))
    assert [b"1"] == [each.payload for each in router.retained("+")]
    router.publish(message("a", b"", retain=True))
    router.publish(message("a", b"", retain=True))

    assert ([], 0, None) == (router.retained(), router.nretained, router.retained_on("a"))


def test_retained_messages_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    """A flood of topics cannot fill the memory; those known can still be updated."""
    router = Router(limits=Limits(retained=2))
    for topic, payload in (("a", b"1"), ("b", b"1"), ("c", b"1"), ("a", b"2")):
        router.publish(message(topic, payload, retain=True))

    assert {"a": b"2", "b": b"1"} == {each.topic: each.payload for each in router.retained()}
    assert "'c'" in caplog.text


def test_guarded_topics_reach_only_who_may_receive_them() -> None:
    """Though others have subscribed to more; what is not guarded costs no question."""

    class Guarded(OpenAccess):
        def guarded(self, topic: str) -> bool:
            return topic.startswith("guarded/")

    router, client = Router(Guarded()), Client()
    router.subscribe(client, "#", 0)
    for topic in ("guarded/open", "guarded/closed", "open"):
        router.publish(message(topic, topic.encode()))

    assert [b"guarded/open", b"open"] == [payload for payload, _, _ in client.got]


def test_retained_messages_come_in_the_order_of_publication() -> None:
    """Whatever their topics; and no later one for who asked before it."""
    router = Router()
    for topic in ("b/1", "a", "b/0", "c"):
        router.publish(message(topic, topic.encode(), retain=True))
    number = router.number
    router.publish(message("a", b"again", retain=True))

    assert [b"b/1", b"b/0", b"c", b"again"] == [each.payload for each in router.retained()]
    assert [b"b/1", b"b/0", b"c"] == [each.payload for each in router.retained("#", number)]
    assert router.retained_on("a", number) is None


def test_only_what_changes_is_saved() -> None:
    """Not what is taken back without having been there, nor what the broker says of itself."""
    saved: list[Publish] = []

    class Store:
        def put(self, message: Publish) -> int:
            saved.append(message)
            return len(saved)

    router = Router(store=Store())
    numbers = [
        router.publish(each)
        for each in (
            message("a", b"", retain=True),
            message("a", retain=True),
            message("a"),
            message("$SYS/a", retain=True),
            message("a", b"", retain=True),
        )
    ]

    assert [0, 1, 0, 0, 2] == numbers
    assert [b"x", b""] == [each.payload for each in saved]
