import asyncio

from bus.interface import Connected, Disconnected, Event
from bus.memory import URL, MemoryBroker, MemoryBus
from bus.messages import RootAnnouncement
from tests.contract.bus.test_bus_contract import ONLINE, change, offline


async def events_of(bus: MemoryBus) -> list[Event]:
    """All that waits for a bus that was left."""
    return [event async for event in bus.messages()]


def test_delivery_needs_no_waiting() -> None:
    """When publish returns, the message is with all members: tests need no deadlines."""

    async def scenario() -> list[Event]:
        async with MemoryBus(MemoryBroker()) as bus:
            await bus.subscribe(bus.topics.all_changes)
            await bus.publish(change())
        return await events_of(bus)

    assert [Connected(URL, 1), change()] == asyncio.run(scenario())


def test_an_outage_sends_no_wills_and_keeps_what_is_retained() -> None:
    """A broker that dies says nothing; one that comes back delivers retained messages anew."""

    async def scenario() -> list[Event]:
        broker = MemoryBroker()
        async with MemoryBus(broker, will=offline) as bus:
            await bus.subscribe(bus.topics.all_roots)
            await bus.publish(ONLINE)
            broker.down("gone")
            broker.up()
        return await events_of(bus)

    expected = [Connected(URL, 1), ONLINE, Disconnected("gone"), Connected(URL, 2), ONLINE]
    assert expected == asyncio.run(scenario())


def test_a_dropped_member_stays_away_if_told_so() -> None:
    """A killed process does not come back, its will remains."""

    async def scenario() -> tuple[list[Event], bool, dict[str, bytes]]:
        broker = MemoryBroker()
        async with MemoryBus(broker, will=offline) as bus:
            broker.drop(bus, reconnect=False)
            broker.down()
            broker.up()
            connected = bus.connected
        return await events_of(bus), connected, broker.retained

    events, connected, retained = asyncio.run(scenario())
    assert [Connected(URL, 1), Disconnected("connection lost")] == events
    assert not connected
    assert offline(1) == RootAnnouncement.model_validate_json(retained["caterva2/root/example"])


def test_a_foreign_client_can_clear_what_is_retained() -> None:
    """An empty retained payload takes the message back, as in MQTT."""
    broker = MemoryBroker()
    broker.inject("a", b"1", retain=True)
    broker.inject("a", b"", retain=True)
    broker.inject("never", b"", retain=True)

    assert {} == broker.retained
