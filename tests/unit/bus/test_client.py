import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Sequence

import pytest

from bus.broker import EmbeddedBroker
from bus.client import Backoff, BusClient, Urls
from bus.errors import BusUnavailableError, TopicError
from bus.interface import Connected, Disconnected
from bus.listeners import Listener
from bus.messages import Changes, Message, RootAnnouncement
from bus.topics import Topics
from tests.contract.bus.harness import next_event, take, until
from tests.contract.bus.test_bus_contract import ONLINE, change, offline
from tests.support.programs import free_port
from tests.unit.bus.raw import DEADLINE, RawClient, connect, packet, publish

TOPICS = Topics()
FAST = Backoff(first=0.01, last=0.05)


def run(scenario: Awaitable[None]) -> None:
    """Play a scenario, and see that no task is left."""

    async def play() -> None:
        try:
            await asyncio.wait_for(scenario, 2 * DEADLINE)
        finally:
            await RawClient.cut_all()
        assert {asyncio.current_task()} == asyncio.all_tasks()

    asyncio.run(play())


def fixed(*urls: str) -> Urls:
    """Addresses that do not change."""

    async def ask() -> Sequence[str]:
        return urls

    return ask


def client(urls: Urls, **options: object) -> BusClient:
    """A member that does not wait long."""
    arguments = {"topics": TOPICS, "client_id": "unit", "backoff": FAST} | options
    return BusClient(urls, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("failures", "longest"), [(0, 0.2), (1, 0.4), (3, 1.6), (7, 15), (5000, 15)])
def test_pauses_double_up_to_a_limit_and_are_spread(failures: int, longest: float) -> None:
    """A broker that comes back is not met by everyone at once, and is met soon."""
    pauses = [Backoff().pause(failures) for _ in range(100)]

    assert all(longest / 2 <= pause <= longest for pause in pauses)
    assert len(set(pauses)) > 50


def test_addresses_are_tried_in_order() -> None:
    """One that does not answer, or is none, is passed over."""

    async def scenario() -> None:
        async with EmbeddedBroker(listeners=[Listener("127.0.0.1", 0)]) as broker:
            dead = f"mqtt://127.0.0.1:{free_port()}"
            urls = fixed("nonsense", dead, f"mqtt://127.0.0.1:{broker.ports[0]}", broker.local_url)
            async with client(urls) as bus:
                assert f"mqtt://127.0.0.1:{broker.ports[0]}" == (await take(bus, Connected)).url

    run(scenario())


def test_addresses_are_asked_for_again() -> None:
    """Who tells the address may not know it yet, and may fail in any way meanwhile."""

    async def scenario() -> None:
        async with EmbeddedBroker() as broker:
            answers: list[Sequence[str] | Exception] = [
                OSError("no answer"), BusUnavailableError("not yet"), [], ValueError("a mistake"), [broker.local_url],
            ]  # fmt: skip

            async def ask() -> Sequence[str]:
                answer = answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer

            async with client(ask) as bus:
                assert broker.local_url == (await take(bus, Connected)).url
            assert [] == answers

    run(scenario())


def test_an_outage_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """However many attempts fail; and the reason is in it."""
    attempts = 0

    async def scenario() -> None:
        async def ask() -> Sequence[str]:
            nonlocal attempts
            attempts += 1
            return [f"mqtt://127.0.0.1:{port}"]

        port = free_port()
        async with client(ask):
            await until(lambda: attempts > 5)

    run(scenario())
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert 1 == len(lines)
    assert "mqtt://127.0.0.1" in lines[0]
    assert "Connect" in lines[0]


def test_every_connection_has_its_own_name_and_birth() -> None:
    """Two instances, or two connections of one, never cut each other off."""

    async def scenario() -> None:
        async with EmbeddedBroker() as broker:
            urls = fixed(broker.local_url)
            async with client(urls, birth=7) as one, client(urls) as two:
                births = [await take(one, Connected), await take(two, Connected)]
                names = set(broker._running.clients.present)
                assert one._link is not None
                one._link._cut()
                again = await take(one, Connected)
                names |= set(broker._running.clients.present)

        assert [8, 1, 9] == [each.birth for each in (*births, again)]
        assert 3 == len(names)
        assert all(name.startswith("unit-") for name in names)
        assert 9 == one.birth

    run(scenario())


def test_retained_messages_come_after_connected_whatever_the_broker_does() -> None:
    """Some brokers send them before they acknowledge the subscription."""

    async def scenario() -> None:
        retained = publish(TOPICS.root("example"), ONLINE.model_dump_json().encode(), retain=True)

        async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(4096)
            writer.write(b"\x20\2\0\0")
            await reader.read(4096)
            writer.write(retained + packet(0x90, b"\0\1\1"))
            await reader.read()
            writer.close()

        server = await asyncio.start_server(hasty, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with client(fixed(f"mqtt://127.0.0.1:{port}")) as bus:
            await bus.subscribe(TOPICS.all_roots)
            assert isinstance(await next_event(bus), Connected)
            assert ONLINE == await next_event(bus)
        server.close()
        await server.wait_closed()
        await until(lambda: len(asyncio.all_tasks()) <= 2)

    run(scenario())


def test_a_taken_over_member_comes_back() -> None:
    """A foreign client that takes our name costs a reconnection, under another name."""

    async def scenario() -> None:
        async with (
            EmbeddedBroker(listeners=[Listener("127.0.0.1", 0)]) as broker,
            client(fixed(f"mqtt://127.0.0.1:{broker.ports[0]}")) as bus,
        ):
            await take(bus, Connected)
            (name,) = broker._running.clients.present
            await RawClient.join(broker.ports[0] or 0, connect(name))
            assert isinstance(await next_event(bus), Disconnected)
            assert 2 == (await take(bus, Connected)).birth

    run(scenario())


def test_a_bad_filter_is_refused_at_once() -> None:
    """A mistake of the program is not taken to the broker."""

    async def scenario() -> None:
        with pytest.raises(TopicError):
            await client(fixed()).subscribe("a/#/b")

    run(scenario())


def test_publishing_before_the_first_connection_fails() -> None:
    """Nothing is queued for later."""

    async def scenario() -> None:
        async with client(fixed()) as bus:
            assert not bus.connected
            with pytest.raises(BusUnavailableError, match="not connected"):
                await bus.publish(change())

    run(scenario())


def test_a_mistake_in_the_will_does_not_end_the_bus(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its trace, and the next attempt is made all the same."""

    async def scenario() -> None:
        def will(birth: int) -> Message:
            if birth == 1:
                raise KeyError(birth)
            return offline(birth)

        async with EmbeddedBroker() as broker, client(fixed(broker.local_url), will=will) as bus:
            assert 2 == (await take(bus, Connected)).birth

    run(scenario())
    assert ["KeyError: 1"] == [str(each.exc_text).splitlines()[-1] for each in caplog.records if each.exc_info]


def test_leaving_during_a_publication_ends_it() -> None:
    """Nobody waits for an acknowledgement that cannot come."""

    async def scenario() -> None:
        async with EmbeddedBroker() as broker:
            async with client(fixed(broker.local_url)) as bus:
                await take(bus, Connected)
                flood = [asyncio.create_task(bus.publish(change(seq))) for seq in range(100)]
                await asyncio.sleep(0)
            results = await asyncio.gather(*flood, return_exceptions=True)
            assert {type(each) for each in results} <= {type(None), BusUnavailableError}

    run(scenario())


def test_subscribing_while_the_connection_is_lost_is_remembered() -> None:
    """It is not an error to subscribe at an unlucky moment."""

    async def scenario() -> None:
        async with EmbeddedBroker() as broker, client(fixed(broker.local_url)) as bus:
            await take(bus, Connected)
            assert bus._link is not None
            bus._link._cut()
            await bus.subscribe(TOPICS.all_changes)
            await take(bus, Connected)
            await bus.publish(change())

            assert change() == await take(bus, Changes)

    run(scenario())


def test_members_find_each_other_after_an_outage_of_the_broker() -> None:
    """A publisher that announces on Connected is seen by all who subscribed, whoever came back first."""

    async def announce(bus: BusClient) -> None:
        async for event in bus.messages():
            if isinstance(event, Connected):
                with contextlib.suppress(BusUnavailableError):
                    await bus.publish(ONLINE.model_copy(update={"birth": event.birth}))

    async def scenario() -> None:
        port = free_port()
        urls = fixed(f"mqtt://127.0.0.1:{port}")
        async with client(urls, will=offline) as publisher, client(urls) as subscriber:
            announcing = asyncio.create_task(announce(publisher))
            await subscriber.subscribe(TOPICS.all_roots)
            births = []
            for _ in range(3):
                async with EmbeddedBroker(listeners=[Listener("127.0.0.1", port)]):
                    births.append((await take(subscriber, RootAnnouncement)).birth)
                await take(subscriber, Disconnected)
        await announcing
        assert births == sorted(set(births))

    run(scenario())
