"""What every bus does, whatever carries it."""

import asyncio

import pytest

from bus import (
    MAX_PAYLOAD,
    Bus,
    BusUnavailableError,
    Change,
    Changes,
    Cleared,
    Connected,
    Disconnected,
    RootAnnouncement,
    RootTopic,
    encode,
)
from tests.contract.bus.harness import TRANSPORTS, Harness, next_event, run, take
from tests.unit.bus.raw import DEADLINE

ONLINE = RootAnnouncement(
    name="example",
    http="http://localhost:3105",
    status="online",
    epoch="e1",
    seq=7,
    instance="i1",
    birth=1,
    heartbeat=30.0,
    kind="directory",
    time=1.5,
    version="1",
)


def offline(birth: int) -> RootAnnouncement:
    """The will of a connection."""
    return ONLINE.model_copy(update={"status": "offline", "birth": birth})


def change(seq: int = 1, path: str = "dir1/a.b2nd", root: str = "example") -> Changes:
    """A message of one change."""
    one = Change(
        root=root,
        epoch="e1",
        seq=seq,
        type="modified",
        path=path,
        etag='"1-2"',
        nbytes=800,
        kind="array",
        mtime=1.25,
        time=1.5,
    )
    return Changes(root=root, changes=(one,))


async def subscribed(bus: Bus, *filters: str) -> Connected:
    """Subscribe before the connection or after it, as it happens; return when both are there."""
    await bus.subscribe(*filters)
    return await take(bus, Connected)


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> type[Harness]:
    """Every transport in turn."""
    return TRANSPORTS[request.param]


def test_a_message_published_reaches_who_subscribed(transport: type[Harness]) -> None:
    """What one member publishes, another one gets unchanged."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as sender, harness.bus() as receiver:
            await subscribed(receiver, harness.topics.all_changes)
            await take(sender, Connected)
            await sender.publish(change())

            assert change() == await next_event(receiver)

    run(transport, scenario)


def test_a_member_gets_only_what_it_asked_for(transport: type[Harness]) -> None:
    """Retained or not, a message of a topic not subscribed to does not arrive."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as sender, harness.bus() as receiver:
            await take(sender, Connected)
            await sender.publish(ONLINE)
            await subscribed(receiver, harness.topics.change("wanted"))
            await sender.publish(change(root="other"))
            await sender.publish(change(root="wanted"))

            assert change(root="wanted") == await next_event(receiver)

    run(transport, scenario)


def test_a_retained_message_awaits_later_members(transport: type[Harness]) -> None:
    """Who subscribes later gets the retained message, once, and after Connected."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as sender, harness.bus() as receiver:
            await take(sender, Connected)
            await sender.publish(ONLINE)
            await receiver.subscribe(harness.topics.all_roots, harness.topics.all_changes)
            assert isinstance(await next_event(receiver), Connected)
            assert ONLINE == await next_event(receiver)
            await sender.publish(change())

            assert change() == await next_event(receiver)

    run(transport, scenario)


def test_a_retained_message_is_replaced_by_the_next(transport: type[Harness]) -> None:
    """Of two retained messages on a topic, a later member gets the second."""

    async def scenario(harness: Harness) -> None:
        newer = ONLINE.model_copy(update={"seq": 8})
        async with harness.bus() as sender, harness.bus() as receiver:
            await take(sender, Connected)
            await sender.publish(ONLINE)
            await sender.publish(newer)
            await subscribed(receiver, harness.topics.all_roots)

            assert newer == await take(receiver, RootAnnouncement)

    run(transport, scenario)


def test_a_retained_message_that_is_taken_back_is_told(transport: type[Harness]) -> None:
    """An empty one clears it: who listens is told so, who comes later gets nothing."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as sender, harness.bus() as receiver, harness.bus() as late:
            await take(sender, Connected)
            await subscribed(receiver, harness.topics.all_roots, harness.topics.all_changes)
            await sender.publish(ONLINE)
            await harness.publish_raw(harness.topics.root("example"), b"", retain=True)
            assert [ONLINE, Cleared(RootTopic("example"))] == [await next_event(receiver) for _ in range(2)]

            await subscribed(late, harness.topics.all_roots, harness.topics.all_changes)
            await sender.publish(change())
            assert change() == await next_event(late)

    run(transport, scenario)


def test_a_change_is_not_retained(transport: type[Harness]) -> None:
    """Who subscribes after a change does not get it."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as sender, harness.bus() as receiver:
            await take(sender, Connected)
            await sender.publish(change(1))
            await subscribed(receiver, harness.topics.all_changes)
            await sender.publish(change(2))

            assert change(2) == await take(receiver, Changes)

    run(transport, scenario)


def test_a_subscription_during_a_connection_holds(transport: type[Harness]) -> None:
    """Subscribing while connected brings retained and new messages at once."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as sender, harness.bus() as receiver:
            await take(sender, Connected)
            await take(receiver, Connected)
            await sender.publish(ONLINE)
            await receiver.subscribe(harness.topics.all_roots)
            await receiver.subscribe(harness.topics.all_changes)
            await sender.publish(change())

            assert ONLINE == await take(receiver, RootAnnouncement)
            assert change() == await take(receiver, Changes)

    run(transport, scenario)


def test_a_subscription_while_disconnected_is_remembered(transport: type[Harness]) -> None:
    """Subscribing during an outage takes effect with the connection after it."""

    async def scenario(harness: Harness) -> None:
        await harness.stop()
        async with harness.bus() as bus:
            await bus.subscribe(harness.topics.all_changes)
            assert not bus.connected
            await harness.start()
            await take(bus, Connected)
            await bus.publish(change())

            assert change() == await next_event(bus)

    run(transport, scenario)


def test_unsubscribing_ends_a_subscription_for_good(transport: type[Harness]) -> None:
    """Neither this connection nor the next one brings what was unsubscribed."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as bus:
            await subscribed(bus, harness.topics.all_roots, harness.topics.all_changes)
            await bus.unsubscribe(harness.topics.all_changes)
            await bus.publish(change())
            await bus.publish(ONLINE)
            assert ONLINE == await next_event(bus)
            await harness.lose(bus)
            await take(bus, Connected)
            await bus.publish(change())
            await bus.publish(offline(1))

            assert isinstance(await next_event(bus), RootAnnouncement)

    run(transport, scenario)


def test_a_lost_member_leaves_its_will(transport: type[Harness]) -> None:
    """When a connection is cut, its will, with the number of that connection, is published."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as watcher, harness.bus(will=offline, birth=41) as member:
            await subscribed(watcher, harness.topics.all_roots)
            first = await take(member, Connected)
            await harness.lose(member)

            assert offline(first.birth) == await take(watcher, RootAnnouncement)
            assert isinstance(await next_event(member), Disconnected)
            assert (await take(member, Connected)).birth > first.birth > 41

    run(transport, scenario)


def test_the_will_is_retained(transport: type[Harness]) -> None:
    """Who comes after a loss still learns of it."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as watcher, harness.bus(will=offline) as member:
            await subscribed(watcher, harness.topics.all_roots)
            birth = (await take(member, Connected)).birth
            await member.publish(ONLINE)
            assert ONLINE == await take(watcher, RootAnnouncement)
            await harness.lose(member)
            await take(watcher, RootAnnouncement)
            async with harness.bus() as later:
                await subscribed(later, harness.topics.all_roots)

                assert offline(birth) == await take(later, RootAnnouncement)

    run(transport, scenario)


def test_a_member_that_leaves_leaves_no_will(transport: type[Harness]) -> None:
    """Leaving the bus is no loss, even with messages on their way to who leaves."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as watcher:
            await subscribed(watcher, harness.topics.all_roots)
            async with harness.bus(will=offline) as member:
                await subscribed(member, harness.topics.all_changes)
                await asyncio.gather(*(member.publish(change(seq)) for seq in range(200)))
            await watcher.publish(ONLINE)

            assert ONLINE == await next_event(watcher)

    run(transport, scenario)


def test_an_outage_is_told_and_survived(transport: type[Harness]) -> None:
    """A restart of the broker is Disconnected, then Connected with a higher birth, then business as usual."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as bus:
            first = await subscribed(bus, harness.topics.all_changes)
            await harness.stop()
            assert isinstance(await next_event(bus), Disconnected)
            assert not bus.connected
            await harness.start()
            second = await next_event(bus)
            assert isinstance(second, Connected)
            assert second.birth > first.birth
            await bus.publish(change())

            assert change() == await next_event(bus)

    run(transport, scenario)


def test_retained_messages_survive_a_restart(transport: type[Harness]) -> None:
    """What was retained before the broker's restart is delivered after it."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as bus:
            await take(bus, Connected)
            await bus.publish(ONLINE)
        await harness.stop()
        await harness.start()
        async with harness.bus() as bus:
            await subscribed(bus, harness.topics.all_roots)

            assert ONLINE == await take(bus, RootAnnouncement)

    run(transport, scenario)


def test_publishing_during_an_outage_fails_at_once(transport: type[Harness]) -> None:
    """Nothing is queued for a broker that is away; who publishes is told."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as bus:
            await take(bus, Connected)
            await harness.stop()
            await take(bus, Disconnected)

            with pytest.raises(BusUnavailableError):
                await bus.publish(change())

    run(transport, scenario)


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"{", b"[]", b"null", b'{"root": 1}', b"9" * 5000])
def test_garbage_is_dropped_and_the_next_message_arrives(
    transport: type[Harness], garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A payload that is no message costs a line in the log and nothing else."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as bus:
            await subscribed(bus, harness.topics.all_changes)
            caplog.clear()
            await harness.publish_raw(harness.topics.change("example"), garbage)
            await bus.publish(change())

            assert change() == await next_event(bus)
            lines = [each.getMessage() for each in caplog.records if each.getMessage().startswith("dropped")]
            assert [1] == [len(each.splitlines()) for each in lines]

    run(transport, scenario)


def test_the_largest_payload_passes(transport: type[Harness]) -> None:
    """A message of exactly 64 KiB arrives whole."""

    async def scenario(harness: Harness) -> None:
        changes = tuple(change(seq, path="x" * 1000).changes[0] for seq in range(55))
        short = MAX_PAYLOAD - len(encode(Changes(root="example", changes=changes)))
        last = changes[-1].model_copy(update={"path": "x" * (1000 + short)})
        message = Changes(root="example", changes=(*changes[:-1], last))
        assert MAX_PAYLOAD == len(encode(message))
        async with harness.bus() as bus:
            await subscribed(bus, harness.topics.all_changes)
            await bus.publish(message)

            assert message == await next_event(bus)

    run(transport, scenario)


def test_unicode_passes(transport: type[Harness]) -> None:
    """Paths of any script, and of characters that JSON escapes, arrive as they were."""

    async def scenario(harness: Harness) -> None:
        message = change(path='données/数据/🌍 "\\\n\t.b2nd')
        async with harness.bus() as bus:
            await subscribed(bus, harness.topics.all_changes)
            await bus.publish(message)

            assert message == await next_event(bus)

    run(transport, scenario)


def test_every_subscriber_gets_a_copy(transport: type[Harness]) -> None:
    """A message goes to all who subscribed, however their filters look, once to each."""

    async def scenario(harness: Harness) -> None:
        topics = harness.topics
        async with harness.bus() as one, harness.bus() as two, harness.bus() as three:
            await subscribed(one, topics.all_changes)
            await subscribed(two, topics.change("example"))
            await subscribed(three, f"{topics.prefix}/#")
            await one.publish(change(1))
            await one.publish(change(2))

            expected = [change(1), change(2)]
            for each in (one, two, three):
                assert expected == [await next_event(each), await next_event(each)]

    run(transport, scenario)


def test_a_thousand_messages_arrive_in_order(transport: type[Harness]) -> None:
    """Nothing is lost or reordered among live members, published one by one or all at once."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as sender, harness.bus() as receiver:
            await subscribed(receiver, harness.topics.all_changes)
            await take(sender, Connected)
            for seq in range(500):
                await sender.publish(change(seq))
            await asyncio.gather(*(sender.publish(change(seq)) for seq in range(500, 1000)))

            assert list(range(1000)) == [(await take(receiver, Changes)).changes[0].seq for _ in range(1000)]

    run(transport, scenario)


@pytest.mark.parametrize("up", [True, False])
def test_a_start_can_be_cancelled_at_any_moment(transport: type[Harness], up: bool) -> None:  # noqa: FBT001
    """However far it has come, a cancelled member ends and leaves nothing behind."""

    async def member(harness: Harness) -> None:
        async with harness.bus(will=offline) as bus:
            await bus.subscribe(harness.topics.all_changes)
            await asyncio.Event().wait()

    async def scenario(harness: Harness) -> None:
        if not up:
            await harness.stop()
        for steps in range(0, 40, 3):
            task = asyncio.create_task(member(harness))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=DEADLINE)
            assert {task} == done

    run(transport, scenario)


def test_the_stream_of_events_ends_with_the_bus(transport: type[Harness]) -> None:
    """Who iterates over the messages of a bus that is left, is done."""

    async def scenario(harness: Harness) -> None:
        async with harness.bus() as bus:
            await take(bus, Connected)

        assert [] == [event async for event in bus.messages()]

    run(transport, scenario)
