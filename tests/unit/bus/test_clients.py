"""Who is there, who must go, and what the broker says of itself."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

import pytest

from bus import clients
from bus.access import Credentials, Member, OpenAccess
from bus.broker import EmbeddedBroker
from tests.contract.bus.harness import until
from tests.unit.bus.brokers import LOOPBACK, Rules, RulesAccess
from tests.unit.bus.crowd import Crowd
from tests.unit.bus.raw import (
    CONNACK,
    DEADLINE,
    PUBACK,
    PUBLISH,
    SUBACK,
    RawClient,
    Received,
    connect,
    publish,
    subscribe,
)


def run(scenario: Callable[[EmbeddedBroker, int], Awaitable[None]], broker: EmbeddedBroker | None = None) -> None:
    """Play a scenario with a broker and its port."""

    async def play() -> None:
        async with broker or EmbeddedBroker(listeners=LOOPBACK) as entered:
            try:
                await scenario(entered, entered.ports[0] or 0)
            finally:
                await RawClient.cut_all()

    asyncio.run(play())


# Lists


def test_members_tells_who_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each is called and does; our own process is not in the list."""
    monkeypatch.setattr("bus.clients._SAMPLE", 0.05)

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        own = RawClient(*await asyncio.open_unix_connection(broker.local_url.removeprefix("unix://")))
        await own.send(connect("own"))
        await own.read(CONNACK)
        before = time.time()
        alice = await RawClient.join(port, connect("one", username="alice", password="right"))
        await alice.send(subscribe("a", "b"), *[publish("a", b"x")] * 3, publish("c", b"y"))
        await alice.received_until_pong()
        (info,) = broker.members()

        assert ("one", "alice", "tester", 2, 4, 3) == (
            *(info.client_id, info.name, info.role),
            *(info.subscriptions, info.received, info.sent),
        )
        assert f"127.0.0.1:{alice.writer.get_extra_info('sockname')[1]}" == info.peer
        assert before <= info.since <= time.time()
        assert 0 == info.queued
        await until(lambda: broker.members()[0].received_rate > 0 < broker.members()[0].sent_rate)
        await until(lambda: broker.members()[0].received_rate == 0 == broker.members()[0].sent_rate)
        await alice.leave()
        await until(lambda: not broker.members())
        assert (4, 3) == (broker.statistics.received, broker.statistics.sent)
        await own.leave()

    run(scenario, EmbeddedBroker(listeners=LOOPBACK, access=RulesAccess(Rules({"alice": "right"}))))


def test_what_waits_for_a_client_is_told() -> None:
    """In bytes; who looks at the list sees who is slow before it is cut off."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        stuck = await RawClient.join(port, connect("stuck"))
        await stuck.send(subscribe("a"))
        await stuck.read(SUBACK)
        sender = await RawClient.join(port, connect("sender"))
        for _ in range(120):
            await sender.send(publish("a", b"x" * 60_000))
        await sender.received_until_pong()

        assert {"stuck": True, "sender": False} == {each.client_id: each.queued > 1000 for each in broker.members()}

    run(scenario)


# Sending away


def test_members_can_be_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    """Those of a user, with the reason in the log; others stay, and it is told how many went."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        alice = [await RawClient.join(port, connect(f"a{each}", username="alice")) for each in range(2)]
        bob = await RawClient.join(port, connect("b", username="bob"))
        assert 2 == broker.cut(lambda member: member.name == "alice", "user 'alice' was removed")
        assert ["b"] == [each.client_id for each in broker.members()]
        assert all([await each.ended() for each in alice])
        assert [] == await bob.received_until_pong()

    run(scenario)
    assert 2 == caplog.text.count("cut off: user 'alice' was removed")


def test_whoever_comes_in_while_it_is_cut_off_does_not() -> None:
    """Its password was right when it was looked at, but that was before."""
    looking, go_on = asyncio.Event(), asyncio.Event()

    class SlowAccess(OpenAccess):
        async def admit(self, credentials: Credentials) -> Member | None:
            looking.set()
            await go_on.wait()
            return await super().admit(credentials)

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.open(port, connect("a", username="alice"))
        await looking.wait()
        assert 0 == broker.cut(lambda member: member.name == "alice", "removed")
        go_on.set()
        assert Received(0x20, b"\0\5") == await client.read()
        late = await RawClient.join(port, connect("a", username="alice"))
        await late.leave()

    run(scenario, EmbeddedBroker(listeners=LOOPBACK, access=SlowAccess()))


def test_the_will_of_who_was_cut_off_obeys_the_rules_of_now() -> None:
    """Whoever lost its rights cannot speak once more by a will."""
    allowed = {"alice": ["w"]}

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        for left in (["w"], []):
            await RawClient.join(port, connect("a", username="alice", password="right", will=("w", b"x")))
            allowed["alice"] = left
            watcher = await RawClient.join(port, connect("b", username="bob", password="right"))
            await watcher.send(subscribe("#"))
            await watcher.read(SUBACK)
            broker.cut(lambda member: member.name == "alice", "removed")
            assert len(left) == len(await watcher.received_until_pong())

    rules = Rules({"alice": "right", "bob": "right"}, topics=allowed | {"bob": ["#"]})
    run(scenario, EmbeddedBroker(listeners=LOOPBACK, access=RulesAccess(Rules(rules.passwords, _Joined(allowed)))))


class _Joined(dict[str, list[str]]):
    """Topics that are looked up when they are asked for."""

    def __init__(self, allowed: dict[str, list[str]]) -> None:
        super().__init__()
        self._allowed = allowed

    def get(self, name: str, default: object = None) -> list[str]:  # type: ignore[override]
        return ["#"] if name == "bob" else self._allowed[name]


def test_a_name_is_taken_over_only_by_its_own_user(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever may come in cannot cut off others by calling itself like them, our own process least of all."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        own = RawClient(*await asyncio.open_unix_connection(broker.local_url.removeprefix("unix://")))
        await own.send(connect("own"))
        await own.read(CONNACK)
        alice = await RawClient.join(port, connect("a", username="alice"))
        for name, thief in (("a", connect("a", username="bob")), ("a", connect("a")), ("own", connect("own"))):
            other = await RawClient.open(port, thief)
            assert Received(0x20, b"\0\2") == await other.read(), name
        assert [] == await alice.received_until_pong() == await own.received_until_pong()
        again = await RawClient.join(port, connect("a", username="alice"))
        assert await alice.ended()
        await asyncio.gather(again.leave(), own.leave())

    run(scenario)
    assert 3 == caplog.text.count("another user has a client of this name")


# $SYS


async def sys_topics(port: int) -> dict[str, str]:
    """What the broker says of itself."""
    client = await RawClient.join(port, connect("watcher"))
    await client.send(subscribe("$SYS/#", "#"))
    await client.read(SUBACK)
    found: dict[str, str] = {}
    while len(found) < 8:
        received = await client.read(PUBLISH)
        found[received.topic.removeprefix("$SYS/broker/")] = received.payload.decode()
    await client.leave()
    return found


def test_the_broker_speaks_of_itself_when_told_to() -> None:
    """On the usual topics, retained, and as it changes."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        await client.send(subscribe("a"), publish("a", b"x", qos=1, retain=True))
        await client.read(SUBACK)
        await client.read(PUBLISH)
        await client.read(PUBACK)
        async with asyncio.timeout(DEADLINE):
            while (said := await sys_topics(port))["messages/received"] != "1":
                pass
        assert said["version"].startswith("caterva2 version ")
        assert said["uptime"].endswith(" seconds")
        assert 1 <= int(said["clients/connected"]) <= 2
        assert 1 <= int(said["messages/sent"])
        assert {"a"} == set(broker.retained)

    run(scenario, EmbeddedBroker(listeners=LOOPBACK, sys_interval=0.02))


def test_the_broker_keeps_to_itself_otherwise() -> None:
    """Nothing on `$SYS`, which costs each watcher of everything a share of the network."""

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        await client.send(subscribe("$SYS/#"))
        await client.read(SUBACK)
        assert [] == await client.received_until_pong()

    run(scenario)


# The end


def test_the_broker_ends_in_good_time(caplog: pytest.LogCaptureFixture) -> None:
    """With hundreds of clients that all have a will, some of which read nothing, and none a word in the log."""
    caplog.set_level(logging.INFO)

    async def play() -> None:
        with contextlib.ExitStack() as stack:
            async with EmbeddedBroker(listeners=LOOPBACK) as broker:
                crowd = await Crowd.join(broker.ports[0] or 0, 200)
                stack.callback(crowd.close)
                caplog.clear()
            assert {f"will/{number}" for number in range(200)} == set(broker.retained)
            assert {asyncio.current_task()} == asyncio.all_tasks()

    asyncio.run(play())
    assert ["200 connections are ended"] == [each.getMessage() for each in caplog.records]
    assert 2 > clients._WILLS + clients._PARTING  # this is how long it may take at most
