import asyncio
import logging
import time
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus import outbox
from bus.broker import EmbeddedBroker
from bus.limits import Limits
from bus.messages import MAX_PAYLOAD
from tests.unit.bus.brokers import OpenBroker, Rules, corrects_amqtt, corrects_amqtt_alone, mosquitto, ours, run
from tests.unit.bus.raw import (
    CONNACK,
    DEADLINE,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    SUBACK,
    UNSUBACK,
    RawClient,
    Received,
    connect,
    packet,
    publish,
    subscribe,
    text,
    unsubscribe,
)

ALICE = Rules(passwords={"alice": "right"})


# Alive (B1)


@corrects_amqtt
def test_silence_beyond_the_keepalive_ends_a_connection(open_broker: OpenBroker) -> None:
    """After one and a half keep-alives the client is cut off, and its will published."""

    async def scenario(port: int) -> None:
        watcher = await RawClient.join(port, connect("watcher"))
        await watcher.send(subscribe("will"))
        await watcher.read(SUBACK)
        started = time.monotonic()
        silent = await RawClient.join(port, connect("silent", keepalive=1, will=("will", b"dead")))

        # Mosquitto looks only every five seconds.
        assert await silent.ended(within=7 if open_broker is mosquitto else 3)
        assert 1.4 < time.monotonic() - started
        assert b"dead" == (await watcher.read(PUBLISH)).payload
        await asyncio.gather(silent.cut(), watcher.cut())

    run(open_broker, scenario)


def test_a_client_that_pings_stays() -> None:
    """A ping in time is a sign of life."""

    async def scenario(port: int) -> None:
        client = await RawClient.join(port, connect("pinger", keepalive=1))
        for _ in range(4):
            assert not await client.ended(within=0.5)
            await client.send(PINGREQ)
            await client.read(PINGRESP)
        await client.leave()

    run(ours, scenario)


def test_a_connection_that_says_nothing_is_ended() -> None:
    """CONNECT must come within its time."""

    async def scenario(port: int) -> None:
        silent = await RawClient.open(port)
        slow = await RawClient.open(port, connect()[:5])

        assert [True, True] == await asyncio.gather(silent.ended(), slow.ended())
        await asyncio.gather(silent.cut(), slow.cut())

    run(partial(ours, limits=Limits(connect_timeout=0.2)), scenario)


# Retained (B2)


@corrects_amqtt
def test_retained_messages_go_only_to_whom_they_were_asked_for(open_broker: OpenBroker) -> None:
    """Who subscribed to nothing gets nothing, even though someone else subscribed."""

    async def scenario(port: int) -> None:
        one = await RawClient.join(port, connect("one"))
        await one.send(subscribe("secret/#"), publish("secret/x", b"s", qos=1, retain=True))
        await one.received_until_pong()
        two = await RawClient.join(port, connect("two"))

        assert [] == await two.received_until_pong()
        await asyncio.gather(one.leave(), two.leave())

    run(open_broker, scenario)


@corrects_amqtt_alone
def test_a_retained_message_comes_once(open_broker: OpenBroker) -> None:
    """Overlapping filters give one copy, for retained and live messages alike."""

    async def scenario(port: int) -> None:
        client = await RawClient.join(port)
        await client.send(publish("a/b", b"1", retain=True), subscribe("a/b", "a/+", "#"))
        await client.read(SUBACK)
        first = await client.read(PUBLISH)
        await client.send(publish("end", b"", qos=0))

        assert (b"1", True) == (first.payload, first.retain)
        assert "end" == (await client.read(PUBLISH)).topic
        await client.leave()

    run(open_broker, scenario)


def test_many_retained_messages_of_qos_1_all_arrive() -> None:
    """More than fit the output queue at once: they wait for room, acknowledgements are read meanwhile."""

    async def scenario(port: int) -> None:
        client = await RawClient.join(port)
        for number in range(200):
            await client.send(publish(f"a/{number}", b"x" * 1000, qos=1, retain=True))
        await client.received_until_pong()
        await client.send(subscribe("a/+", qos=1))
        await client.read(SUBACK)
        topics = set()
        for number in range(1, 201):
            received = await client.read(PUBLISH)
            assert (1, True) == (received.qos, received.retain)
            topics.add(received.topic)
            await client.send(packet(0x40, number.to_bytes(2, "big")))

        assert {f"a/{number}" for number in range(200)} == topics
        await client.leave()

    run(partial(ours, limits=Limits(outbox=50_000)), scenario)


def test_who_acknowledges_slowly_gets_all_retained_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than may be unacknowledged come as they are acknowledged: a client cut off for them would be so again."""
    monkeypatch.setattr(outbox, "MAX_UNACKNOWLEDGED", 50)
    monkeypatch.setattr(outbox, "_LEISURELY", 20)

    async def scenario(port: int) -> None:
        client = await RawClient.join(port)
        for number in range(200):
            await client.send(publish(f"a/{number}", b"x", qos=1, retain=True))
        await client.received_until_pong()
        await client.send(subscribe("a/+", qos=1))
        await client.read(SUBACK)
        topics: set[str] = set()
        while len(topics) < 200:
            came = await client.received_until_pong()
            topics |= {each.topic for each in came}
            first = len(topics) - len(came) + 1
            await client.send(*(packet(0x40, n.to_bytes(2, "big")) for n in range(first, len(topics) + 1)))

        assert {f"a/{number}" for number in range(200)} == topics
        await client.leave()

    run(ours, scenario)


# Authentication (B3)


@corrects_amqtt
def test_a_refused_client_disturbs_nobody(open_broker: OpenBroker) -> None:
    """Someone with the name of a client but without its password does it no harm."""

    async def scenario(port: int) -> None:
        victim = await RawClient.join(port, connect("victim", username="alice", password="right"))
        await victim.send(subscribe("a"))
        await victim.read(SUBACK)
        intruder = await RawClient.open(port, connect("victim", username="alice", password="wrong"))
        assert Received(0x20, b"\0\5") == await intruder.read()
        assert await intruder.ended()
        await victim.send(publish("a", b"still here"))

        async with asyncio.timeout(2):
            assert b"still here" == (await victim.read(PUBLISH)).payload
        await asyncio.gather(intruder.cut(), victim.leave())

    run(open_broker, scenario, ALICE)


# Take-over (B4)


@corrects_amqtt
def test_a_second_client_of_a_name_ends_the_first(open_broker: OpenBroker) -> None:
    """The first one is cut off, and its will comes before anything that the second one says."""

    async def scenario(port: int) -> None:
        watcher = await RawClient.join(port, connect("watcher"))
        await watcher.send(subscribe("status"))
        await watcher.read(SUBACK)
        first = await RawClient.join(port, connect("same", will=("status", b"offline")))
        second = await RawClient.join(port, connect("same", will=("status", b"offline")))
        await second.send(publish("status", b"online"))

        assert await first.ended(within=1)
        assert [b"offline", b"online"] == [(await watcher.read(PUBLISH)).payload for _ in range(2)]
        await second.send(subscribe("status"))
        await second.read(SUBACK)
        await asyncio.gather(first.cut(), second.leave(), watcher.leave())

    run(open_broker, scenario)


# Slow readers (B11)


def test_a_client_that_does_not_read_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    """What waits for it is bounded, and others are served meanwhile."""

    async def scenario(port: int) -> None:
        stuck = await RawClient.join(port, connect("stuck"))
        await stuck.send(subscribe("a"))
        await stuck.read(SUBACK)
        reader = await RawClient.join(port, connect("reader"))
        await reader.send(subscribe("b"))
        for _ in range(400):
            await reader.send(publish("a", b"x" * 50_000))
        await reader.send(publish("b", b"y"))
        await reader.read(SUBACK)

        assert b"y" == (await reader.read(PUBLISH)).payload
        assert await stuck.ended()
        assert ["client 'stuck'"] == [each.getMessage()[:14] for each in caplog.records]
        await asyncio.gather(stuck.cut(), reader.leave())

    run(partial(ours, limits=Limits(outbox=1_000_000)), scenario)


class StuckStream:
    """A client that pings for ever and reads nothing; no kernel in between that takes megabytes for it."""

    peer = "stuck"
    host = ""
    trusted = local = True
    certificate = None

    def __init__(self) -> None:
        self._said = connect("stuck")

    async def read(self, n: int) -> bytes:
        while len(self._said) < n:
            self._said += PINGREQ
        said, self._said = self._said[:n], self._said[n:]
        return said

    async def write(self, data: bytes) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


def test_a_client_that_reads_no_answers_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    """Answers to what it sends are bounded like messages."""

    async def play() -> None:
        async with EmbeddedBroker(limits=Limits(outbox=10_000)) as broker:
            await asyncio.wait_for(broker._running.clients.serve_until_gone(StuckStream()), DEADLINE)

    asyncio.run(play())
    assert "too slow" in caplog.text


# Packets (B13 and others)


@corrects_amqtt_alone
def test_packets_are_limited_in_size(open_broker: OpenBroker) -> None:
    """A huge packet is refused before it is read."""

    async def scenario(port: int) -> None:
        client = await RawClient.join(port)
        await client.send(b"\x30\xff\xff\xff\x7f" + text("a"))

        assert await client.ended(within=1)
        await client.cut()

    run(open_broker, scenario)


def test_the_largest_message_passes() -> None:
    """64 KiB of payload with a long topic are within the limit."""

    async def scenario(port: int) -> None:
        topic, payload = "t" * 1000, b"x" * MAX_PAYLOAD
        client = await RawClient.join(port)
        await client.send(subscribe(topic), publish(topic, payload))
        await client.read(SUBACK)

        assert payload == (await client.read(PUBLISH)).payload
        assert Limits().packet < len(payload) + 5000
        await client.leave()

    run(ours, scenario)


@corrects_amqtt
@pytest.mark.parametrize("topic", ["a/#", "a/+", b"\xff", "a\0"])
def test_some_topics_cannot_be_published_to(open_broker: OpenBroker, topic: str | bytes) -> None:
    """The client is cut off, nothing of the bad packet is taken for the next."""

    async def scenario(port: int) -> None:
        watcher = await RawClient.join(port, connect("watcher"))
        await watcher.send(subscribe("#", "$SYS/x"))
        await watcher.read(SUBACK)
        client = await RawClient.join(port)
        await client.send(publish(topic, b"\x30\x04\0\1ax"))

        assert await client.ended(within=1)
        assert [] == await watcher.received_until_pong()
        await asyncio.gather(client.cut(), watcher.leave())

    run(open_broker, scenario)


@pytest.mark.parametrize("topic", ["$SYS/x", "", "/".join("a" * 100)])
def test_more_topics_cannot_be_published_to(topic: str) -> None:
    """Those of the broker itself, none at all, and those beyond the limits; Mosquitto has other ones."""
    test_some_topics_cannot_be_published_to(ours, topic)


@corrects_amqtt_alone
@pytest.mark.parametrize("filter", ["", "$share/group/a"])
def test_some_filters_cannot_be_subscribed_to(open_broker: OpenBroker, filter: str) -> None:
    """The answer says so, and the connection lives on."""

    async def scenario(port: int) -> None:
        client = await RawClient.join(port)
        await client.send(subscribe("a", filter, packet_id=7))

        assert Received(0x90, b"\0\7\0\x80") == await client.read()
        await client.leave()

    run(open_broker, scenario)


def test_subscriptions_are_limited() -> None:
    """Those beyond the limit are refused one by one."""

    async def scenario(port: int) -> None:
        client = await RawClient.join(port)
        await client.send(subscribe(*(f"a/{number}" for number in range(5))))

        assert bytes(3) + b"\x80\x80" == (await client.read(SUBACK)).body[2:]
        await client.send(subscribe("a/0", "b", qos=1))
        assert b"\1\x80" == (await client.read(SUBACK)).body[2:]
        await client.leave()

    run(partial(ours, limits=Limits(subscriptions=3)), scenario)


def test_clients_of_other_versions_are_told() -> None:
    """An MQTT 5 client gets an answer that it understands, so that it fails at once; Mosquitto lets it in."""

    async def scenario(port: int) -> None:
        client = await RawClient.open(port, connect(level=5))

        assert Received(0x20, b"\0\1") == await client.read()
        assert await client.ended()
        await client.cut()

    run(ours, scenario)


@pytest.mark.parametrize("first", [PINGREQ, publish("a", b"x"), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\0\0"])
def test_other_first_packets_are_refused(first: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever does not begin with CONNECT is cut off, without an answer and without alarm."""

    async def scenario(port: int) -> None:
        client = await RawClient.open(port, first)

        assert await client.ended()
        assert [] == [each for each in caplog.records if each.levelno > logging.INFO]
        await client.cut()

    run(ours, scenario)


def test_a_second_connect_is_refused() -> None:
    """CONNECT comes once (MQTT 3.1.1, 3.1)."""

    async def scenario(port: int) -> None:
        client = await RawClient.join(port)
        await client.send(connect("other"))

        assert await client.ended()
        await client.cut()

    run(ours, scenario)


def test_a_name_of_a_client_is_limited_in_length() -> None:
    """It goes to the log with every line about the client."""

    async def scenario(port: int) -> None:
        client = await RawClient.open(port, connect("x" * 257))

        assert Received(0x20, b"\0\2") == await client.read(CONNACK)

    run(ours, scenario)


@pytest.mark.parametrize(("clean", "code"), [(True, 0), (False, 2)])
def test_a_client_without_a_name_gets_one_if_its_session_is_clean(*, clean: bool, code: int) -> None:
    """As the standard has it (3.1.3.1)."""

    async def scenario(port: int) -> None:
        client = await RawClient.open(port, connect("", clean=clean))

        assert Received(0x20, bytes((0, code))) == await client.read(CONNACK)
        await client.cut()

    run(ours, scenario)


@corrects_amqtt_alone
def test_no_session_outlives_its_connection(open_broker: OpenBroker) -> None:
    """Who asks for a persistent session is let in, and told that there is none when it comes again."""

    async def scenario(port: int) -> None:
        for _ in range(2):
            client = await RawClient.open(port, connect("persistent", clean=False))
            assert Received(0x20, b"\0\0") == await client.read()
            await client.send(subscribe("a"))
            await client.read(SUBACK)
            await client.leave()

    run(open_broker, scenario)


def test_every_qos_is_answered_by_its_own_rules() -> None:
    """QoS 0 not at all, QoS 1 with PUBACK, QoS 2 in two steps and routed once, however often it is sent."""

    async def scenario(port: int) -> None:
        watcher = await RawClient.join(port, connect("watcher"))
        await watcher.send(subscribe("a", qos=2))
        assert Received(0x90, b"\0\1\1") == await watcher.read()
        client = await RawClient.join(port)
        await client.send(publish("a", b"0"), publish("a", b"1", qos=1, packet_id=5))
        assert Received(PUBACK << 4, b"\0\5") == await client.read()
        for _ in range(2):
            await client.send(publish("a", b"2", qos=2, packet_id=6))
            assert Received(PUBREC << 4, b"\0\6") == await client.read()
        await client.send(packet(0x62, b"\0\6"))
        assert Received(PUBCOMP << 4, b"\0\6") == await client.read()

        received = await watcher.received_until_pong()
        assert [(b"0", 0), (b"1", 1), (b"2", 1)] == [(each.payload, each.qos) for each in received]
        await asyncio.gather(client.leave(), watcher.leave())

    run(ours, scenario)


def test_unsubscribing_is_acknowledged_and_works() -> None:
    """After UNSUBACK nothing more comes."""

    async def scenario(port: int) -> None:
        client = await RawClient.join(port)
        await client.send(subscribe("a"), unsubscribe("a", "never", packet_id=9), publish("a", b"x"))
        assert SUBACK == (await client.read()).kind

        assert Received(UNSUBACK << 4, b"\0\x09") == await client.read()
        assert [] == await client.received_until_pong()
        await client.leave()

    run(ours, scenario)


def test_a_will_is_published_unless_the_client_leaves_politely() -> None:
    """A cut and a broken rule leave the will, DISCONNECT does not."""

    async def scenario(port: int) -> None:
        watcher = await RawClient.join(port, connect("watcher"))
        await watcher.send(subscribe("#"))
        await watcher.read(SUBACK)
        polite = await RawClient.join(port, connect("polite", will=("w", b"polite")))
        await polite.leave()
        rude = await RawClient.join(port, connect("rude", will=("w", b"rude")))
        await rude.send(b"\xff\x00")
        assert await rude.ended()
        lost = await RawClient.join(port, connect("lost", will=("w", b"lost")))
        await lost.cut()

        assert [b"rude", b"lost"] == [(await watcher.read(PUBLISH)).payload for _ in range(2)]
        await asyncio.gather(rude.cut(), watcher.leave())

    run(ours, scenario)


@pytest.mark.parametrize("topic", ["$SYS/x", "a/+", ""])
def test_a_will_obeys_the_rules_for_publishing(topic: str) -> None:
    """A will that could not be published is refused at once."""

    async def scenario(port: int) -> None:
        client = await RawClient.open(port, connect("x", will=(topic, b"x")))

        assert await client.ended()
        await client.cut()

    run(ours, scenario)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.sampled_from(
    [connect("f"), subscribe("a", qos=1), publish("a", b"x", qos=1), PINGREQ, DISCONNECT, b"\x82", b"\xff", b"\x30\xff"]
) | st.binary(max_size=20), max_size=8))  # fmt: skip
def test_no_bytes_can_break_the_broker(chunks: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a client sends, no error of ours shows, and others are served after it."""

    async def scenario(port: int) -> None:
        client = await RawClient.open(port, *chunks)
        await client.cut()
        other = await RawClient.join(port)
        assert [] == await other.received_until_pong()
        await other.leave()

    run(ours, scenario)
    assert [] == [each for each in caplog.records if each.levelno > logging.WARNING]
