"""More defects of amqtt 0.12.1, by the numbers in docs/design/0002-embedded-broker.md, and how ours does it.

Each test runs against our broker, against Mosquitto where that is right too, and against plain amqtt, which must
fail it. Others of the list are in test_connection.py, beside what they are about.
"""

import asyncio
import contextlib
import logging
import struct
from socket import SO_LINGER, SOL_SOCKET

import pytest

from tests.unit.bus.brokers import OpenBroker, Rules, corrects_amqtt, corrects_amqtt_alone, like_mosquitto, ours, run
from tests.unit.bus.raw import (
    CONNACK,
    PUBACK,
    PUBLISH,
    SUBACK,
    RawClient,
    Received,
    connect,
    publish,
    subscribe,
)

SOON = 1.0
"""Seconds that a broker gets for what it should do at once; amqtt does some of it never."""

ALICE = Rules(
    passwords={"alice": "right", "admin": "right"}, topics={"alice": ["alice/+"], "admin": ["#"], "anonymous": []}
)


def user(name: str, client_id: str = "", *, will: tuple[str, bytes] | None = None) -> bytes:
    """A CONNECT with the right password."""
    return connect(client_id or f"id-{name}", username=name, password="right", will=will)


async def watch(port: int, filter: str, *first: bytes, qos: int = 0) -> RawClient:
    """A client that has subscribed."""
    client = await RawClient.join(port, *(first or (connect("watcher"),)))
    await client.send(subscribe(filter, qos=qos))
    await client.read(SUBACK)
    return client


async def nothing_comes(client: RawClient) -> bool:
    """Whether nothing was published to a client up to now, nor soon after."""
    try:
        async with asyncio.timeout(SOON / 4):
            await client.read(PUBLISH)
    except TimeoutError:
        return True
    return False


# Taking over (B4), sessions (B8, B10)


@corrects_amqtt
def test_who_takes_over_a_session_gets_messages(open_broker: OpenBroker) -> None:
    """B4: amqtt answers the new connection's pings, but it is deaf."""

    async def scenario(port: int) -> None:
        first = await RawClient.join(port, connect("same", clean=False))
        second = await RawClient.open(port, connect("same", clean=False))
        await second.read(CONNACK)
        assert await first.ended(within=SOON)
        await second.send(subscribe("a", qos=1), publish("a", b"x"))
        async with asyncio.timeout(SOON):
            await second.read(SUBACK)
            assert b"x" == (await second.read(PUBLISH)).payload

    run(open_broker, scenario)


@corrects_amqtt
def test_a_clean_session_leaves_nothing_to_the_next(open_broker: OpenBroker) -> None:
    """B10: amqtt resumes it, with its subscriptions, when a persistent one follows soon."""

    async def scenario(port: int) -> None:
        first = await watch(port, "old", connect("same", clean=True))
        await first.leave()
        second = await RawClient.open(port, connect("same", clean=False))
        assert Received(0x20, b"\0\0") == await second.read()
        await second.send(publish("old", b"x"))
        assert [] == await second.received_until_pong()

    run(open_broker, scenario)


@corrects_amqtt
def test_a_will_that_is_set_anew_is_retained(open_broker: OpenBroker) -> None:
    """B8: amqtt takes the words of a will from a later CONNECT, but not that it is to be retained."""

    async def scenario(port: int) -> None:
        first = await RawClient.join(port, connect("same", clean=False, will=("will", b"1")))
        await first.leave()
        second = await RawClient.open(port, connect("same", clean=False, will=("will", b"2"), will_retain=True))
        await second.read(CONNACK)
        watcher = await watch(port, "will", connect("watcher"))
        await second.cut()
        async with asyncio.timeout(SOON):
            assert b"2" == (await watcher.read(PUBLISH)).payload
        late = await watch(port, "will", connect("late"))
        async with asyncio.timeout(SOON):
            assert (b"2", True) == ((again := await late.read(PUBLISH)).payload, again.retain)

    run(open_broker, scenario)


@corrects_amqtt
def test_qos_0_is_not_kept_for_who_is_away(open_broker: OpenBroker) -> None:
    """It fills the memory, for clients that may never come back."""

    async def scenario(port: int) -> None:
        away = await watch(port, "a", connect("away", clean=False), qos=1)
        await away.leave()
        sender = await RawClient.join(port)
        await sender.send(*[publish("a", b"x")] * 20)
        await sender.received_until_pong()
        back = await RawClient.open(port, connect("away", clean=False))
        await back.read(CONNACK)
        assert await nothing_comes(back)

    run(open_broker, scenario)


# Delivery (B2, B6) and what else is in the table


@corrects_amqtt
@pytest.mark.parametrize(("published", "subscribed", "delivered"), [(0, 1, 0), (0, 2, 0), (1, 2, 1)])
def test_qos_is_not_raised(open_broker: OpenBroker, published: int, subscribed: int, delivered: int) -> None:
    """The lower of what the publisher and the subscriber want."""

    async def scenario(port: int) -> None:
        watcher = await watch(port, "a", qos=subscribed)
        sender = await RawClient.join(port)
        await sender.send(publish("a", b"x", qos=published))
        assert delivered == (await watcher.read(PUBLISH)).qos

    run(open_broker, scenario)


@corrects_amqtt
def test_a_new_subscriber_gets_a_retained_message_once(open_broker: OpenBroker) -> None:
    """B2: amqtt sends it at the connection of whoever comes while it is subscribed to, and at the subscription."""

    async def scenario(port: int) -> None:
        sender = await watch(port, "a", connect("sender"))
        await sender.send(publish("a", b"x", qos=1, retain=True))
        await sender.received_until_pong()
        late = await RawClient.join(port, connect("late"))
        await late.send(subscribe("a"))
        received = []
        while not received or received[-1].kind != SUBACK:
            received.append(await late.read())
        assert b"x" == (await late.read(PUBLISH)).payload
        assert [SUBACK] == [each.kind for each in received]
        assert await nothing_comes(late)

    run(open_broker, scenario)


@corrects_amqtt
def test_nothing_is_lost_while_others_subscribe(open_broker: OpenBroker) -> None:
    """B6: with rules for topics, amqtt loses messages when subscriptions change meanwhile."""

    async def scenario(port: int) -> None:
        await watch(port, "a/+", user("admin", "first"))
        watcher = await watch(port, "a/#", user("admin", "watcher"))
        sender = await RawClient.join(port, user("admin", "sender"))
        churn = await RawClient.join(port, user("admin", "churn"))

        async def subscribe_meanwhile() -> None:
            for number in range(200):
                await churn.send(subscribe(f"b/{number}"))
                await churn.read(SUBACK)

        async def publish_all() -> None:
            for number in range(200):
                await sender.send(publish("a/b", b"%d" % number))
                await asyncio.sleep(0)
            await sender.received_until_pong()

        await asyncio.gather(subscribe_meanwhile(), publish_all())
        async with asyncio.timeout(1.5):
            assert list(range(200)) == [int((await watcher.read(PUBLISH)).payload) for _ in range(200)]

    run(open_broker, scenario, ALICE)


@corrects_amqtt
def test_a_filter_with_nul_is_refused(open_broker: OpenBroker) -> None:
    """It is no text (MQTT 3.1.1, 1.5.3), and the connection ends."""

    async def scenario(port: int) -> None:
        client = await RawClient.join(port)
        await client.send(subscribe("a\0b"))
        assert await client.ended(within=SOON)

    run(open_broker, scenario)


@like_mosquitto
def test_topics_of_the_broker_are_its_own(open_broker: OpenBroker) -> None:
    """What a client publishes on `$SYS` reaches nobody."""

    async def scenario(port: int) -> None:
        watcher = await watch(port, "$SYS/fake")
        client = await RawClient.join(port)
        await client.send(publish("$SYS/fake", b"x"))
        await client.ended(within=SOON / 4)
        assert [] == await watcher.received_until_pong()

    run(open_broker, scenario)


# Rights (B3, B7)


@corrects_amqtt
def test_a_will_obeys_the_rules(open_broker: OpenBroker) -> None:
    """B7: amqtt publishes a will wherever its client likes."""

    async def scenario(port: int) -> None:
        watcher = await watch(port, "#", user("admin"))
        alice = await RawClient.open(port, user("alice", will=("secret", b"x")))
        await alice.read(CONNACK)
        await alice.cut()
        assert await nothing_comes(watcher)

    run(open_broker, scenario, ALICE)


@corrects_amqtt
def test_a_wide_filter_gives_no_more_rights(open_broker: OpenBroker) -> None:
    """B7: whoever may have `alice/+` gets nothing more by asking for `alice/#`."""

    async def scenario(port: int) -> None:
        alice = await RawClient.join(port, user("alice"))
        await alice.send(subscribe("alice/#", "#"))
        await alice.read(SUBACK)
        admin = await RawClient.join(port, user("admin"))
        await admin.send(publish("alice/x/y", b"x", qos=1))
        await admin.read(PUBACK)
        assert await nothing_comes(alice)

    run(open_broker, scenario, ALICE)


@corrects_amqtt
def test_retained_messages_obey_the_rules(open_broker: OpenBroker) -> None:
    """Of what was retained before, nobody gets what is not his."""

    async def scenario(port: int) -> None:
        admin = await RawClient.join(port, user("admin"))
        await admin.send(subscribe("#"), publish("secret", b"x", qos=1, retain=True))
        await admin.received_until_pong()
        alice = await RawClient.join(port, user("alice"))
        await alice.send(subscribe("alice/+"))
        received = await alice.received_until_pong()
        assert [] == [each for each in received if each.kind == PUBLISH]
        assert await nothing_comes(alice)

    run(open_broker, scenario, ALICE)


@corrects_amqtt_alone
def test_a_refused_message_is_not_acknowledged(open_broker: OpenBroker) -> None:
    """B7: its publisher would believe that it was published; so does Mosquitto's, by the letter of MQTT 3.1.1."""

    async def scenario(port: int) -> None:
        alice = await RawClient.join(port, user("alice"))
        await alice.send(publish("secret", b"x", qos=1))
        assert b"" == await asyncio.wait_for(alice.reader.read(100), SOON)

    run(open_broker, scenario, ALICE)


def test_refused_clients_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """B3: amqtt keeps a session for each, for ever."""

    async def scenario(port: int) -> None:
        for number in range(50):
            client = await RawClient.open(port, connect(str(number), username="alice", password="wrong"))
            assert await client.ended()
            await client.cut()
        # Those that have ended may have a step to go.
        async with asyncio.timeout(SOON):
            while any(each.get_name().startswith("mqtt") for each in asyncio.all_tasks()):  # noqa: ASYNC110
                await asyncio.sleep(0)

    run(ours, scenario, ALICE)


# Too much (B11, B12), bad peers (B13)


@corrects_amqtt_alone
def test_a_stuck_reader_takes_no_tasks(open_broker: OpenBroker) -> None:
    """B11: amqtt has one for every message that waits; Mosquitto drops, in a process that we do not look into."""

    async def scenario(port: int) -> None:
        stuck = await watch(port, "a", connect("stuck"))
        sender = await RawClient.join(port)
        for number in range(700):
            await sender.send(publish("a", b"x" * 50_000))
            if number % 10 == 0:
                await sender.received_until_pong()
        assert len(asyncio.all_tasks()) < 30
        await stuck.cut()

    run(open_broker, scenario)


@corrects_amqtt
def test_one_too_many_does_not_wait(open_broker: OpenBroker) -> None:
    """B12: amqtt lets it wait, and says nothing, until another one goes."""

    async def scenario(port: int) -> None:
        for _ in range(3):
            await RawClient.join(port)
        one_more = await RawClient.open(port, connect("late"))
        assert await one_more.ended(within=SOON)

    run(open_broker, scenario, Rules(connections=3))


@corrects_amqtt
def test_bad_clients_take_no_places(open_broker: OpenBroker) -> None:
    """B12: each refused CONNECT that is reset costs amqtt a place for ever."""

    async def scenario(port: int) -> None:
        for number in range(8):
            bad = await RawClient.open(port, [connect(level=5), connect("", clean=False)][number % 2])
            bad.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            await bad.cut()
        answer = b""
        async with asyncio.timeout(SOON):
            while answer != b"\x20\2\0\0":  # the last ones may have a step to go
                client = await RawClient.open(port, connect("late"))
                with contextlib.suppress(ConnectionResetError):
                    answer = await client.reader.read(4)

    run(open_broker, scenario, Rules(connections=3))


@corrects_amqtt_alone
def test_a_port_scan_is_no_error(open_broker: OpenBroker, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is a client that resets its connection: nothing for the log, and no traceback."""
    caplog.set_level(logging.INFO)

    async def scenario(port: int) -> None:
        for first in (b"", connect()[:5]):
            scanner = await RawClient.open(port, first)
            scanner.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            await scanner.cut()
        client = await RawClient.join(port)
        await client.received_until_pong()
        caplog.clear()

    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        run(open_broker, scenario)
    finally:
        logging.getLogger().removeHandler(handler)
    assert [] == records
