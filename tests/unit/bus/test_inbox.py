import asyncio

from bus.inbox import Inbox
from bus.interface import Connected, Disconnected, Event, Resync
from bus.messages import Changes
from tests.contract.bus.test_bus_contract import ONLINE, change


def drain(inbox: Inbox) -> list[Event]:
    """Close and empty an inbox."""
    inbox.close()

    async def collect() -> list[Event]:
        return [event async for event in inbox]

    return asyncio.run(collect())


def test_events_come_out_in_order() -> None:
    """Within the limit nothing is lost or merged."""
    inbox = Inbox(limit=4)
    events: list[Event] = [Connected("u", 1), ONLINE, ONLINE, change()]
    for event in events:
        inbox.put(event)

    assert events == drain(inbox)


def test_a_backlog_of_changes_becomes_a_resync() -> None:
    """Beyond the limit all changes go, and how many is said first."""
    inbox = Inbox(limit=10)
    for seq in range(11):
        inbox.put(change(seq))
    inbox.put(change(99))

    assert [Resync(11), change(99)] == drain(inbox)


def test_changes_count_one_by_one() -> None:
    """A bulk weighs what its changes weigh."""
    bulk = Changes(root="example", changes=tuple(change(seq).changes[0] for seq in range(11)))
    inbox = Inbox(limit=10)
    inbox.put(bulk)

    assert [Resync(11)] == drain(inbox)


def test_the_latest_state_survives_a_resync() -> None:
    """Of every root, and of the connection, the last word is kept."""
    newer = ONLINE.model_copy(update={"seq": 8})
    other = ONLINE.model_copy(update={"name": "other"})
    inbox = Inbox(limit=10)
    events: list[Event] = [Connected("u", 1), ONLINE, other, Disconnected("r"), Connected("u", 2), newer]
    for event in events:
        inbox.put(event)
    for seq in range(5):
        inbox.put(change(seq))

    assert [Resync(5), other, Connected("u", 2), newer] == drain(inbox)


def test_resyncs_do_not_pile_up() -> None:
    """However long nobody listens, little waits: one Resync that counts all that was dropped."""
    inbox = Inbox(limit=10)
    for seq in range(1000):
        inbox.put(change(seq))
    events = drain(inbox)
    dropped = [event.dropped for event in events if isinstance(event, Resync)]

    assert len(events) <= 11
    assert 1000 == sum(dropped) + sum(isinstance(event, Changes) for event in events)
    assert 1 == len(dropped)


def test_a_flood_of_names_is_bounded_too() -> None:
    """Even states are dropped, the oldest ones, rather than memory being used up."""
    inbox = Inbox(limit=10)
    for number in range(1000):
        inbox.put(ONLINE.model_copy(update={"name": f"root{number}"}))
    events = drain(inbox)

    assert len(events) <= 11
    assert ONLINE.model_copy(update={"name": "root999"}) == events[-1]


def test_an_event_wakes_who_waits() -> None:
    """A consumer may wait before there is anything."""

    async def scenario() -> Event:
        inbox = Inbox()
        waiting = asyncio.create_task(anext(inbox))
        await asyncio.sleep(0)
        inbox.put(ONLINE)
        return await waiting

    assert ONLINE == asyncio.run(scenario())


def test_closing_wakes_who_waits() -> None:
    """A consumer's loop ends when the bus is left."""

    async def scenario() -> Event | None:
        inbox = Inbox()
        waiting = asyncio.ensure_future(anext(inbox, None))
        await asyncio.sleep(0)
        inbox.close()
        inbox.put(ONLINE)
        return await waiting

    assert asyncio.run(scenario()) is None
