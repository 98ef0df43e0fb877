import asyncio
import logging
import os
import re
import shutil
import socket
import stat
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bus import broker as broker_module
from bus.broker import EmbeddedBroker
from bus.client import BusClient
from bus.interface import Connected
from bus.limits import Limits
from bus.listeners import Listener
from bus.messages import RootAnnouncement, encode
from bus.store import RetainedStore
from bus.topics import Topics
from bus.traffic import BrokerStatistics
from tests.contract.bus.harness import take, until
from tests.contract.bus.test_bus_contract import ONLINE, change, offline
from tests.unit.bus.brokers import LOOPBACK, Rules, RulesAccess
from tests.unit.bus.raw import (
    CONNACK,
    DEADLINE,
    PUBLISH,
    SUBACK,
    RawClient,
    connect,
    publish,
    subscribe,
)

Scenario = Callable[[EmbeddedBroker, int], Awaitable[None]]


def run(scenario: Scenario, broker: Callable[[], EmbeddedBroker] | None = None) -> EmbeddedBroker:
    """Play a scenario with a broker and its port; the broker, after its end."""

    async def play() -> EmbeddedBroker:
        async with broker() if broker else EmbeddedBroker(listeners=LOOPBACK) as entered:
            try:
                await scenario(entered, next(iter(entered.ports), None) or 0)
            finally:
                await RawClient.cut_all()
        assert {asyncio.current_task()} == asyncio.all_tasks()
        return entered

    # Tests of other modules, in the same process, may have left some of theirs.
    before = set(threading.enumerate())
    ended = asyncio.run(play())
    assert set() == set(threading.enumerate()) - before
    return ended


def test_the_process_joins_its_own_broker_in_private() -> None:
    """The local address is a socket that only this user can reach, and needs no TCP."""

    async def scenario(broker: EmbeddedBroker, _port: int) -> None:
        async def urls() -> list[str]:
            return [broker.local_url]

        directory = Path(broker.local_url.removeprefix("unix://")).parent
        assert stat.S_IRWXU == stat.S_IMODE(directory.stat().st_mode)
        assert () == broker.ports == broker.errors
        async with BusClient(urls, topics=Topics(), client_id="daemon") as bus:
            assert Connected(broker.local_url, 1) == await take(bus, Connected)
            assert 1 == broker.clients

    broker = run(scenario, lambda: EmbeddedBroker())
    assert not Path(broker.local_url.removeprefix("unix://")).parent.exists()


def test_the_own_process_needs_no_password() -> None:
    """With passwords configured the daemon still joins, others do not."""
    access = RulesAccess(Rules(passwords={"alice": "right"}, topics={}))

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        path = broker.local_url.removeprefix("unix://")
        local = RawClient(*await asyncio.open_unix_connection(path))
        await local.send(connect("local"))
        other = await RawClient.open(port, connect("other"))

        assert [b"\0\0", b"\0\5"] == [(await each.read(CONNACK)).body for each in (local, other)]
        assert {"local"} == set(broker._running.clients.present)
        await local.leave()

    run(scenario, lambda: EmbeddedBroker(listeners=LOOPBACK, access=access))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_any_host_can_be_listened_on(host: str) -> None:
    """Names, IPv4 and IPv6."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        if broker.errors[0] is not None and host == "::1":
            pytest.skip("no IPv6 here")
        reader, writer = await asyncio.open_connection(host, port)
        client = RawClient(reader, writer)
        await client.send(connect())
        await client.read(CONNACK)
        await client.leave()

    run(scenario, lambda: EmbeddedBroker(listeners=[Listener(host, 0)]))


def test_a_busy_port_is_told_and_the_broker_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Others are listened on all the same."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = other.getsockname()[1]

        async def scenario(broker: EmbeddedBroker, _port: int) -> None:
            assert isinstance(broker.errors[0], OSError)
            assert (None, None) == (broker.ports[0], broker.errors[1])
            assert broker.ports[1]
            client = await RawClient.join(broker.ports[1])
            await client.leave()

        run(scenario, lambda: EmbeddedBroker(listeners=[Listener("127.0.0.1", busy), *LOOPBACK]))
    assert [] == [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_statistics_count_what_is_there() -> None:
    """Clients, subscriptions and retained messages now, and clients since the start."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        one, two = await RawClient.join(port), await RawClient.join(port)
        await one.send(subscribe("a", "b"), publish("a", b"x", retain=True))
        await one.received_until_pong()
        await two.leave()

        assert BrokerStatistics(1, 2, 1, 2, received=1, sent=1) == broker.statistics
        assert 1 == broker.clients

    run(scenario)


def test_retained_messages_can_be_taken_to_the_next_broker() -> None:
    """What is retained at the end, and was there at the beginning, can be saved and given again."""

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        await client.send(publish("b", b"2", retain=True), publish("c", b"", retain=True))
        await client.leave()

    given = {"a": b"1", "c": b"3"}
    ended = run(scenario, lambda: EmbeddedBroker(listeners=LOOPBACK, retained=given))

    assert {"a": b"1", "b": b"2"} == dict(ended.retained)


def test_wills_are_published_when_the_broker_ends() -> None:
    """Those that are retained say so after a restart; other clients hear them before they are cut off."""
    wills = {"w/0", "w/1", "w/2"}

    async def play() -> set[str]:
        broker = await EmbeddedBroker(listeners=LOOPBACK).__aenter__()
        port = broker.ports[0] or 0
        watcher = await RawClient.join(port)
        await watcher.send(subscribe("#"))
        await watcher.read(SUBACK)
        for topic in wills:
            await RawClient.join(port, connect(topic[-1], will=(topic, b"dead"), will_retain=True))
        leaving = asyncio.create_task(broker.__aexit__())
        assert wills == {(await watcher.read(PUBLISH)).topic for _ in wills}
        assert await watcher.ended()
        await leaving
        await RawClient.cut_all()
        return set(broker.retained)

    assert wills == asyncio.run(play())


def test_the_broker_ends_in_time_whatever_its_clients_do() -> None:
    """Stuck, silent and half-connected clients do not hold it up, nor leave anything behind."""

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        await RawClient.open(port)
        await RawClient.open(port, connect()[:3])
        stuck = await RawClient.join(port, connect("stuck"))
        await stuck.send(subscribe("a"))
        sender = await RawClient.join(port)
        for _ in range(100):
            await sender.send(publish("a", b"x" * 60_000))
        await sender.received_until_pong()

    async def play() -> float:
        started = asyncio.get_running_loop().time()
        async with EmbeddedBroker(listeners=LOOPBACK) as broker:
            await scenario(broker, broker.ports[0] or 0)
        await RawClient.cut_all()
        return asyncio.get_running_loop().time() - started

    assert DEADLINE > asyncio.run(play())


def test_a_broker_that_is_not_entered_says_so() -> None:
    """Asking for its address too early is a mistake of the program."""
    with pytest.raises(RuntimeError, match="has not been entered"):
        _ = EmbeddedBroker().local_url


def test_the_log_says_who_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each event, with who and why; a port scan that resets is no event."""
    caplog.set_level(logging.INFO)
    access = RulesAccess(Rules({"alice": "right"}, topics={"alice": ["a"]}))

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        alice = connect("one", username="alice", password="right")
        polite = await RawClient.join(port, alice)
        await polite.leave()
        lost = await RawClient.join(port, alice)
        await lost.cut()
        await until(lambda: broker.clients == 0)
        taken = await RawClient.join(port, alice)
        await RawClient.join(port, alice)
        assert await taken.ended()
        stranger = await RawClient.open(port, connect("two", username="alice", password="wrong"))
        assert await stranger.ended()
        rude = await RawClient.join(port, connect("three", username="alice", password="right"))
        await rude.send(subscribe("b"), publish("b", b"x"))
        assert await rude.ended()
        scanner = await RawClient.open(port)
        await scanner.cut()
        assert 1 == broker.cut(lambda member: member.name == "alice", "user 'alice' was removed")

    run(scenario, lambda: EmbeddedBroker(listeners=LOOPBACK, access=access))
    one = "client 'one' of 'alice' (tester) at PEER"
    three = "client 'three' of 'alice' (tester) at PEER"
    assert [
        f"{one} came in",
        f"{one} left",
        f"{one} came in",
        f"{one} is gone: connection closed",
        f"{one} came in",
        f"{one} is taken over from PEER",
        f"{one} came in",
        "client 'two' at PEER refused: wrong name or password of user 'alice'",
        f"{three} came in",
        f"{three} may not subscribe: 'b': wider than its topics",
        f"{three} cut off: may not publish to 'b': not among its topics",
        f"{one} cut off: user 'alice' was removed",
    ] == [re.sub(r"127\.0\.0\.1:\d+", "PEER", each.getMessage()) for each in caplog.records]


def _program(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        absent = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        absent(f"{name} is not installed")
    return program


def test_mosquitto_tools_work() -> None:
    """`mosquitto_sub` sees what a member publishes, in words; `mosquitto_pub` reaches members."""
    sub, pub = _program("mosquitto_sub"), _program("mosquitto_pub")

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        async def urls() -> list[str]:
            return [broker.local_url]

        async with BusClient(urls, topics=Topics(), client_id="member", will=offline) as bus:
            await bus.subscribe(Topics().all_roots)
            await take(bus, Connected)
            await bus.publish(ONLINE)
            assert ONLINE == await take(bus, RootAnnouncement)
            watching = await asyncio.create_subprocess_exec(
                sub, "-v", "-p", str(port), "-t", "caterva2/#", "-C", "2", stdout=asyncio.subprocess.PIPE
            )
            assert watching.stdout is not None
            first = await asyncio.wait_for(watching.stdout.readline(), DEADLINE)
            assert f"caterva2/root/example {encode(ONLINE).decode()}\n" == first.decode()
            await bus.publish(change())
            rest, _ = await asyncio.wait_for(watching.communicate(), DEADLINE)
            assert f"caterva2/change/example {encode(change()).decode()}\n" == rest.decode()
            for qos in range(3):
                said = ONLINE.model_copy(update={"seq": qos})
                telling = await asyncio.create_subprocess_exec(
                    pub, "-p", str(port), "-q", str(qos), "-r", "-t", "caterva2/root/example", "-m", encode(said)
                )
                assert 0 == await asyncio.wait_for(telling.wait(), DEADLINE)
                assert said == await take(bus, RootAnnouncement)

    run(scenario)


def test_what_was_saved_may_change_its_meaning(tmp_path: Path) -> None:
    """Who was there in an earlier life is gone; what was given from elsewhere counts only for an empty store."""
    store = RetainedStore(tmp_path / "retained.sqlite")

    def restore(topic: str, payload: bytes) -> bytes:
        return b"offline" if topic == "a" else payload

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        await client.send(publish("a", b"online", retain=True), publish("b", b"x", retain=True))
        await client.leave()

    async def nothing(_broker: EmbeddedBroker, _port: int) -> None:
        pass

    run(scenario, lambda: EmbeddedBroker(listeners=LOOPBACK, store=store, retained={"c": b"given"}))
    again = run(nothing, lambda: EmbeddedBroker(store=store, restore=restore, retained={"d": b"given"}))

    assert {"c": b"given", "a": b"offline", "b": b"x"} == dict(again.retained)


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "raised"),
    [(1024, 4096, 2000, 2100), (1024, 4096, 10_000, 4096), (50_000, 50_000, 10_000, None), (-1, -1, 10_000, None)],
)
def test_as_many_files_as_connections(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, connections: int, raised: int | None
) -> None:
    """The limit of open files is raised as far as that is allowed; fewer connections are taken where it is not."""
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr("resource.setrlimit", lambda _, limit: set_to.append(limit))
    possible = broker_module._possible(Limits(connections=connections))

    assert ([] if raised is None else [(raised, hard)]) == set_to
    assert possible.connections == (connections if raised is None else raised - 100)
