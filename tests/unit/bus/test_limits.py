"""The limits of the embedded broker, from outside."""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET

import pytest
from websockets.exceptions import InvalidStatus

from bus.access import Credentials, Member, OpenAccess
from bus.broker import EmbeddedBroker
from bus.limits import Limits
from tests.contract.bus.harness import serve_http, until
from tests.unit.bus.brokers import LOOPBACK
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
from tests.unit.bus.test_websocket import dial

FULL = Received(0x20, b"\0\3")


def run(
    scenario: Callable[[EmbeddedBroker, int], Awaitable[None]], limits: Limits, access: OpenAccess | None = None
) -> None:
    """Play a scenario with a broker of these limits, and its port."""

    async def play() -> None:
        async with EmbeddedBroker(listeners=LOOPBACK, limits=limits, access=access) as broker:
            try:
                await scenario(broker, broker.ports[0] or 0)
            finally:
                await RawClient.cut_all()

    asyncio.run(play())


# Connections


def test_one_connection_too_many_is_refused_at_once() -> None:
    """Also when the others have not said a word yet (amqtt lets it wait, B12); one that goes makes room."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        others = [await RawClient.open(port) for _ in range(3)]
        for _ in range(5):
            one_more = await RawClient.open(port)
            assert FULL == await one_more.read()
            assert await one_more.ended()
        await others[0].cut()
        await until(lambda: not broker._running.clients.full)
        client = await RawClient.join(port)
        await client.leave()

    run(scenario, Limits(connections=3))


def test_no_place_is_lost_to_bad_clients() -> None:
    """Resets in the midst of CONNECT, garbage, refusals: all places come back (amqtt loses them, B12)."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        for number in range(60):
            await until(lambda: not broker._running.clients.full)
            bad = await RawClient.open(port, [b"", connect()[:5], b"\x10\xff", connect(level=5)][number % 4])
            if number % 2:
                bad.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            await bad.cut()
        await until(lambda: not broker._running.clients._served)
        assert 3 == len([await RawClient.join(port) for _ in range(3)])

    run(scenario, Limits(connections=3))


def test_our_own_process_finds_a_place_in_a_full_broker() -> None:
    """The daemon that owns the broker is never locked out of it; who comes by HTTP is told before the handshake."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        await RawClient.join(port)
        own = RawClient(*await asyncio.open_unix_connection(broker.local_url.removeprefix("unix://")))
        await own.send(connect())
        assert Received(0x20, b"\0\0") == await own.read()
        async with serve_http(broker) as http:
            with pytest.raises(InvalidStatus):
                await dial(http)
        await own.leave()

    run(scenario, Limits(connections=1))


def test_a_flood_of_connections_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds are refused while a client works on, and fill neither log nor memory."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        await client.send(subscribe("a"))
        await client.read(SUBACK)
        for _ in range(5):
            flood = await asyncio.gather(*(RawClient.open(port, connect()) for _ in range(100)))
            await client.send(publish("a", b"x"))
            await client.read(PUBLISH)
            assert all(await asyncio.gather(*(each.ended() for each in flood)))
        assert 1 == len(broker._running.clients._served)

    run(scenario, Limits(connections=1))
    assert len(caplog.records) < 100


# Logins


@dataclass
class SlowAccess(OpenAccess):
    """Takes its time, as hashing does, and lets in who says `right`."""

    looked_at: list[str | None] = field(default_factory=list)

    async def admit(self, credentials: Credentials) -> Member | None:
        self.looked_at.append(credentials.username)
        await asyncio.sleep(0)
        return Member(credentials.username or "", "") if credentials.password == b"right" else None


def test_who_guesses_passwords_is_not_even_looked_at() -> None:
    """Beyond so many failures; whoever is in already stays in."""
    access = SlowAccess()

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port, connect("alice", username="alice", password="right"))
        guesses = [connect(str(each), username="alice", password=str(each)) for each in range(100)]
        flood = await asyncio.gather(*(RawClient.open(port, each) for each in guesses))
        codes = [(await each.read(CONNACK)).body[1] for each in flood]
        assert {3, 5} == set(codes)
        assert codes.count(5) + 1 == len(access.looked_at) < 10 + 8
        late = await RawClient.open(port, connect("late", username="alice", password="right"))
        assert FULL == await late.read()
        assert [] == await client.received_until_pong()

    run(scenario, Limits(failed_logins=10), access)


def test_a_storm_of_right_logins_gets_in() -> None:
    """From one address, all at once, after some have mistyped: only failures count."""
    access = SlowAccess()

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        for _ in range(9):
            wrong = await RawClient.open(port, connect("x", username="x", password="wrong"))
            assert Received(0x20, b"\0\5") == await wrong.read()
        hello = [connect(str(each), username="alice", password="right") for each in range(500)]
        assert 500 == len(await asyncio.gather(*(RawClient.join(port, each) for each in hello)))
        assert 500 == broker.clients

    run(scenario, Limits(failed_logins=10), access)


def test_a_mistake_in_access_refuses_one_client(caplog: pytest.LogCaptureFixture) -> None:
    """It is told that it may come again later, and others get in."""

    class Mistaken(OpenAccess):
        async def admit(self, credentials: Credentials) -> Member | None:
            if credentials.client_id == "bad":
                raise KeyError("users")
            return await super().admit(credentials)

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        bad = await RawClient.open(port, connect("bad"))
        assert FULL == await bad.read()
        await RawClient.join(port)

    run(scenario, Limits(), Mistaken())
    assert "cannot tell whether client 'bad'" in caplog.text


# Topics, retained messages


def test_topics_and_filters_are_limited_in_length_and_depth() -> None:
    """A filter beyond is refused, a message ends the connection; those at the limit pass."""
    limits = Limits(topic=10, levels=3)

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        await client.send(subscribe("a/b/c", "a/b/c/d", "x" * 10, "x" * 11, "é" * 6))
        assert b"\0\x80\0\x80\x80" == (await client.read(SUBACK)).body[2:]
        await client.send(publish("a/b/c", b"1"), publish("x" * 10, b"2"))
        assert [b"1", b"2"] == [(await client.read(PUBLISH)).payload for _ in range(2)]
        for topic in ("a/b/c/d", "x" * 11, "é" * 6):
            other = await RawClient.join(port)
            await other.send(publish(topic, b"x"))
            assert await other.ended()
        will = await RawClient.open(port, connect(will=("x" * 11, b"x")))
        assert await will.ended()

    run(scenario, limits)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [(Limits(retained=2), {"a", "b"}), (Limits(retained_bytes=22), {"a", "b"}), (Limits(retained_bytes=10), set())],
)
def test_what_is_retained_is_limited(limits: Limits, kept: set[str], caplog: pytest.LogCaptureFixture) -> None:
    """In number and in bytes; more is handed around but not kept, and said once. What is taken back makes room."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        for topic in ("a", "b", "c", "d", "a"):
            await client.send(publish(topic, b"x" * 9 + topic.encode(), qos=1, retain=True))
            await client.read(PUBACK)
        assert kept == set(broker.retained)
        await client.send(*(publish(each, b"", retain=True) for each in ("a", "b", "never")))
        await client.send(*(publish(each, b"y", retain=True) for each in ("c", "d")))
        await client.received_until_pong()
        assert {"c": b"y", "d": b"y"} == dict(broker.retained)

    run(scenario, limits)
    assert ["not retained, there is too much already: 'c'"] * bool(kept) == [
        each.getMessage() for each in caplog.records if "'c'" in each.getMessage()
    ]


def test_a_client_that_subscribes_without_end_is_served_in_turn(caplog: pytest.LogCaptureFixture) -> None:
    """To all that is retained, again and again, without reading: that takes one task, and no memory for each time."""
    caplog.set_level(logging.ERROR)

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        for number in range(500):
            await client.send(publish(f"a/{number}", b"x" * 1000, retain=True))
        await client.received_until_pong()
        greedy = await RawClient.join(port)
        for _ in range(300):
            await greedy.send(subscribe("#", "+/#", "a/#"))
        assert [] == await client.received_until_pong()
        (connection,) = (each for each in broker._running.clients.present.values() if each.traffic.received == 0)
        await until(lambda: broker._router.count(connection) == 3)
        assert len([each for each in asyncio.all_tasks() if each.get_name().startswith("mqtt-replay")]) <= 1
        assert len(connection._replay._wanted) <= 3

    run(scenario, Limits(outbox=1_000_000))
