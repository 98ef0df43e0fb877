import asyncio
import logging
import os
import shutil
import socket
import stat
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bus.broker import BrokerStatistics, EmbeddedBroker
from bus.client import BusClient
from bus.interface import Connected
from bus.messages import RootAnnouncement, encode
from bus.topics import Topics
from tests.contract.bus.harness import take
from tests.contract.bus.test_bus_contract import ONLINE, change, offline
from tests.unit.bus.brokers import Plugins
from tests.unit.bus.raw import (
    CONNACK,
    DEADLINE,
    PUBLISH,
    SUBACK,
    RawClient,
    Received,
    connect,
    publish,
    subscribe,
)

Scenario = Callable[[EmbeddedBroker, int], Awaitable[None]]


def run(scenario: Scenario, broker: Callable[[], EmbeddedBroker] | None = None) -> EmbeddedBroker:
    """Play a scenario with a broker and its port; the broker, after its end."""

    async def play() -> EmbeddedBroker:
        async with broker() if broker else EmbeddedBroker(tcp=("127.0.0.1", 0)) as entered:
            try:
                await scenario(entered, entered.tcp_port or 0)
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
        assert broker.tcp_port is broker.tcp_error is None
        async with BusClient(urls, topics=Topics(), client_id="daemon") as bus:
            assert Connected(broker.local_url, 1) == await take(bus, Connected)
            assert 1 == broker.clients

    broker = run(scenario, lambda: EmbeddedBroker())
    assert not Path(broker.local_url.removeprefix("unix://")).parent.exists()


def test_the_own_process_needs_no_password(tmp_path: Path) -> None:
    """With passwords configured the daemon still joins, others do not."""
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    plugins: Plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)}}

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        path = broker.local_url.removeprefix("unix://")
        local = RawClient(*await asyncio.open_unix_connection(path))
        await local.send(connect("local"))
        other = await RawClient.open(port, connect("other"))

        assert [b"\0\0", b"\0\5"] == [(await each.read(CONNACK)).body for each in (local, other)]
        assert {"local"} == set(broker._running.clients)
        await local.leave()

    run(scenario, lambda: EmbeddedBroker(tcp=("127.0.0.1", 0), plugins=plugins))


@pytest.mark.filterwarnings("ignore:The 'acl' option is deprecated")  # and what it recommends does not load
def test_topics_can_be_closed_by_a_plugin(caplog: pytest.LogCaptureFixture) -> None:
    """What amqtt's topic plugins forbid is forbidden: publishing, subscribing and leaving a will."""
    caplog.set_level(logging.INFO)
    plugins: Plugins = {
        "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
        "amqtt.plugins.topic_checking.TopicAccessControlListPlugin": {
            "publish_acl": {"anonymous": ["open/#"]},
            "acl": {"anonymous": ["open/#"]},
        },
    }

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        await client.send(subscribe("closed/a", "open/a"), publish("open/a", b"x"))
        assert b"\x80\0" == (await client.read(SUBACK)).body[2:]
        assert b"x" == (await client.read(PUBLISH)).payload
        will = await RawClient.open(port, connect("will", will=("closed/a", b"x")))
        assert Received(0x20, b"\0\5") == await will.read()
        await client.send(publish("closed/a", b"x"))

        assert await client.ended()

    run(scenario, lambda: EmbeddedBroker(tcp=("127.0.0.1", 0), plugins=plugins))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_any_host_can_be_listened_on(host: str) -> None:
    """Names, IPv4 and IPv6."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        if broker.tcp_error is not None and host == "::1":
            pytest.skip("no IPv6 here")
        reader, writer = await asyncio.open_connection(host, port)
        client = RawClient(reader, writer)
        await client.send(connect())
        await client.read(CONNACK)
        await client.leave()

    run(scenario, lambda: EmbeddedBroker(tcp=(host, 0)))


def test_a_busy_port_is_told_and_the_broker_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Without TCP there are still the WebSocket and the private socket."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = other.getsockname()[1]

        async def scenario(broker: EmbeddedBroker, _port: int) -> None:
            assert isinstance(broker.tcp_error, OSError)
            assert broker.tcp_port is None
            reader, writer = await asyncio.open_unix_connection(broker.local_url.removeprefix("unix://"))
            client = RawClient(reader, writer)
            await client.send(connect())
            await client.read(CONNACK)
            await client.leave()

        run(scenario, lambda: EmbeddedBroker(tcp=("127.0.0.1", busy)))
    assert [] == [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_statistics_count_what_is_there() -> None:
    """Clients, subscriptions and retained messages now, and clients since the start."""

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        one, two = await RawClient.join(port), await RawClient.join(port)
        await one.send(subscribe("a", "b"), publish("a", b"x", retain=True))
        await one.received_until_pong()
        await two.leave()

        assert BrokerStatistics(1, 2, 1, 2) == broker.statistics
        assert 1 == broker.clients

    run(scenario)


def test_retained_messages_can_be_taken_to_the_next_broker() -> None:
    """What is retained at the end, and was there at the beginning, can be saved and given again."""

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        await client.send(publish("b", b"2", retain=True), publish("c", b"", retain=True))
        await client.leave()

    given = {"a": b"1", "c": b"3"}
    ended = run(scenario, lambda: EmbeddedBroker(tcp=("127.0.0.1", 0), retained=given))

    assert {"a": b"1", "b": b"2"} == ended.retained


def test_wills_are_published_when_the_broker_ends() -> None:
    """Those that are retained say so after a restart; other clients hear them before they are cut off."""
    wills = {"w/0", "w/1", "w/2"}

    async def play() -> set[str]:
        broker = await EmbeddedBroker(tcp=("127.0.0.1", 0)).__aenter__()
        port = broker.tcp_port or 0
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
        async with EmbeddedBroker(tcp=("127.0.0.1", 0)) as broker:
            await scenario(broker, broker.tcp_port or 0)
        await RawClient.cut_all()
        return asyncio.get_running_loop().time() - started

    assert DEADLINE > asyncio.run(play())


def test_a_broker_that_is_not_entered_says_so() -> None:
    """Asking for its address too early is a mistake of the program."""
    with pytest.raises(RuntimeError, match="has not been entered"):
        _ = EmbeddedBroker().local_url


def test_the_logs_stay_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A client's coming and going is no news; neither is a port scan that resets."""
    caplog.set_level(logging.INFO)

    async def scenario(broker: EmbeddedBroker, port: int) -> None:
        client = await RawClient.join(port)
        await client.leave()
        scanner = await RawClient.open(port)
        await scanner.cut()

    run(scenario)
    assert [] == [each.getMessage() for each in caplog.records]


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
