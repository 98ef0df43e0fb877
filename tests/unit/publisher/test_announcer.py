"""caterva2.publisher.announcer: who is here, what is the head, and what to do about a rival."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bus.errors import BusUnavailableError
from bus.memory import MemoryBroker, MemoryBus
from bus.messages import Changes, RootAnnouncement, ServiceStatus, decode, encode
from bus.reasons import Cause
from bus.topics import Topics
from caterva2.publisher.announcer import Announcer, Identity, NameTakenError
from caterva2.publisher.changes import Difference, Journal
from caterva2.publisher.source import Version
from tests.support.waiting import wait_until_async

TOPICS = Topics()
ROOT = TOPICS.root("foo")


@dataclass
class Stage:
    """An announcer at work."""

    broker: MemoryBroker
    bus: MemoryBus
    journal: Journal
    announcer: Announcer
    running: "asyncio.Task[None]"
    asked: list[str]

    @property
    def said(self) -> RootAnnouncement:
        """The retained announcement."""
        message = decode(TOPICS, ROOT, self.broker.retained[ROOT])
        assert isinstance(message, RootAnnouncement)
        return message

    def change(self, *paths: str) -> None:
        """Change datasets, and tell of it."""
        version = Version("file", "1", 1, 1.0)
        self.announcer.tell(self.journal.apply([Difference("created", path, "file", version) for path in paths]))


def identity(http: str = "http://me:1", heartbeat: float = 60.0) -> Identity:
    """Who announces."""
    return Identity("foo", "foo", http, heartbeat, "directory", "1")


def rival(birth: int, status: str = "online", http: str = "http://rival:1") -> RootAnnouncement:
    """What another publisher of the name says."""
    return RootAnnouncement(
        name="foo", http=http, status=status, epoch="E", seq=0, instance="rival", birth=birth, heartbeat=60,
        kind="directory", time=0, version="1",
    )  # fmt: skip


@asynccontextmanager
async def stage(
    tmp_path: Path,
    *,
    broker: MemoryBroker | None = None,
    alive: bool = False,
    me: Identity | None = None,
    fresh: bool = True,
) -> AsyncIterator[Stage]:
    """An announcer at work on a bus in memory."""
    broker = broker or MemoryBroker()
    asked: list[str] = []

    async def ask(announcement: RootAnnouncement) -> bool:
        asked.append(announcement.http)
        return alive

    with Journal(tmp_path / "journal") as journal:
        announcer = Announcer(me or identity(), journal, ask)
        if not fresh:
            announcer._started -= 1000
        async with MemoryBus(broker, will=announcer.will, birth=journal.begin_births()) as bus:
            running = asyncio.create_task(announcer.run(bus, TOPICS))
            try:
                yield Stage(broker, bus, journal, announcer, running, asked)
            finally:
                running.cancel()
                await asyncio.wait({running})
                if not running.cancelled() and not isinstance(running.exception(), NameTakenError):
                    running.result()


def inject(broker: MemoryBroker, message: RootAnnouncement) -> None:
    """Leave an announcement on the bus."""
    broker.inject(ROOT, encode(message), retain=True)


def test_the_root_is_announced_with_its_head(tmp_path: Path) -> None:
    """Soon after a connection the root and the daemon are announced, retained."""

    async def scenario() -> None:
        async with stage(tmp_path) as at:
            await asyncio.wait_for(at.announcer.announced.wait(), 10)
            status = decode(TOPICS, topic := TOPICS.service("publisher", "foo"), at.broker.retained[topic])

            assert ("online", "http://me:1", at.journal.head.epoch, 0) == (
                at.said.status, at.said.http, at.said.epoch, at.said.seq,
            )  # fmt: skip
            assert (at.bus.birth, at.announcer.identity.instance) == (at.said.birth, at.said.instance)
            assert isinstance(status, ServiceStatus)
            assert "online" == status.status
            await wait_until_async(lambda: at.journal.begin_births() >= at.bus.birth, "the birth is kept")

    asyncio.run(scenario())


def test_the_announcement_is_a_heartbeat(tmp_path: Path) -> None:
    """It comes again, even when nothing happens."""

    async def scenario() -> None:
        async with stage(tmp_path, me=identity(heartbeat=0.1)) as at:
            await asyncio.wait_for(at.announcer.announced.wait(), 10)
            first = at.said.time
            await wait_until_async(lambda: at.said.time > first + 0.15, "the next heartbeat")

    asyncio.run(scenario())


def test_many_changes_go_out_in_order_and_then_the_head(tmp_path: Path) -> None:
    """Changes are packed into messages below the limit, and the head is never ahead of them."""

    async def scenario() -> None:
        async with stage(tmp_path) as at, MemoryBus(at.broker) as ear:
            await asyncio.wait_for(at.announcer.announced.wait(), 10)
            await ear.subscribe("#")
            at.change(*(f"{n:05}{'x' * 200}" for n in range(2000)))
            seqs: list[int] = []
            async for event in ear.messages():
                if isinstance(event, Changes):
                    seqs += [change.seq for change in event.changes]
                elif isinstance(event, RootAnnouncement):
                    assert event.seq == len(seqs)
                    if event.seq == 2000:
                        break

            assert [*range(1, 2001)] == seqs

    asyncio.run(scenario())


def test_more_changes_than_anyone_wants_are_left_to_catching_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood is not queued without bound: only the head tells of it."""
    monkeypatch.setattr("caterva2.publisher.announcer._MAX_WAITING", 100)

    async def scenario() -> None:
        async with stage(tmp_path) as at:
            await asyncio.wait_for(at.announcer.announced.wait(), 10)
            at.change(*map(str, range(101)))
            await wait_until_async(lambda: at.said.seq == 101, "the head")

    asyncio.run(scenario())


def test_each_connection_is_announced_anew(tmp_path: Path) -> None:
    """After the bus was away the root is announced again, with the birth of the new connection."""

    async def scenario() -> None:
        async with stage(tmp_path) as at:
            await asyncio.wait_for(at.announcer.announced.wait(), 10)
            first = at.said.birth
            at.broker.down()
            at.broker.retained.clear()
            at.broker.up()
            await wait_until_async(lambda: at.said.birth == first + 1, "the announcement")

    asyncio.run(scenario())


def test_a_publisher_that_is_declared_dead_says_that_it_lives(tmp_path: Path) -> None:
    """The last will of an earlier connection, or of another instance, is answered with an announcement."""

    async def scenario() -> None:
        async with stage(tmp_path) as at:
            await asyncio.wait_for(at.announcer.announced.wait(), 10)
            for will in (at.announcer.will(at.bus.birth - 1), at.announcer.will(at.bus.birth), rival(1, "offline")):
                inject(at.broker, will)
                await wait_until_async(lambda: at.said.status == "online", "the contradiction")
            at.broker.drop(at.bus)
            await wait_until_async(lambda: at.said.status == "online", "back after the last will")

    asyncio.run(scenario())


def test_the_end_is_announced(tmp_path: Path) -> None:
    """A clean end says offline, for root and daemon."""

    async def scenario() -> None:
        async with stage(tmp_path) as at:
            await asyncio.wait_for(at.announcer.announced.wait(), 10)
            at.running.cancel()
            await asyncio.wait({at.running})
            await at.announcer.say_goodbye(at.bus)

            assert "offline" == at.said.status

    asyncio.run(scenario())


def test_a_living_publisher_of_the_name_is_not_disturbed(tmp_path: Path) -> None:
    """Who starts while another one of its name is alive gives up, without a word on the bus."""

    async def scenario() -> None:
        broker = MemoryBroker()
        inject(broker, rival(birth=2**60))
        async with stage(tmp_path, broker=broker, alive=True) as at:
            with pytest.raises(NameTakenError, match="http://rival:1"):
                await asyncio.wait_for(asyncio.shield(at.running), 10)

            assert "rival" == at.said.instance
            assert ["http://rival:1"] == at.asked

    asyncio.run(scenario())


@pytest.mark.parametrize("status", ["online", "offline"])
def test_the_name_of_a_dead_publisher_is_taken_over(tmp_path: Path, status: str) -> None:
    """An announcement that was left behind does not keep a name for ever."""

    async def scenario() -> None:
        broker = MemoryBroker()
        inject(broker, rival(birth=2**60, status=status))
        async with stage(tmp_path, broker=broker, alive=False) as at:
            await asyncio.wait_for(at.announcer.announced.wait(), 10)

            assert at.announcer.identity.instance == at.said.instance

    asyncio.run(scenario())


def test_an_earlier_life_at_the_same_address_is_no_rival(tmp_path: Path) -> None:
    """A publisher that was killed and started again does not ask itself whether it is alive."""

    async def scenario() -> None:
        broker = MemoryBroker()
        inject(broker, rival(birth=2**60, http="http://me:1"))
        async with stage(tmp_path, broker=broker, alive=True) as at:
            await asyncio.wait_for(at.announcer.announced.wait(), 10)

            assert [] == at.asked

    asyncio.run(scenario())


@pytest.mark.parametrize("older", [True, False])
def test_of_two_that_meet_late_the_later_gives_up(tmp_path: Path, *, older: bool) -> None:
    """When two publishers find out of each other later, the one that was started first stays."""

    async def scenario() -> None:
        broker = MemoryBroker()
        async with stage(tmp_path, broker=broker, alive=True, fresh=False) as at:
            await asyncio.wait_for(at.announcer.announced.wait(), 10)
            inject(broker, rival(birth=1 if older else 2**60))
            if older:
                with pytest.raises(NameTakenError):
                    await asyncio.wait_for(asyncio.shield(at.running), 10)
            else:
                await wait_until_async(lambda: at.said.instance != "rival", "the name is taken back")

                assert not at.running.done()

    asyncio.run(scenario())


class RefusingBroker(MemoryBroker):
    """A broker that does not let roots be announced, and does not say so in the same way as all others."""

    def __init__(self, *, cut: bool) -> None:
        super().__init__()
        self.refusing = True
        self.attempts = 0
        self._cut = cut

    def inject(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Throw away what is about roots, like Mosquitto, or end the connection, like cat2bro."""
        if not self.refusing or topic != ROOT:
            super().inject(topic, payload, retain=retain)
            return
        self.attempts += 1
        if self._cut:
            for member in list(self._members):
                member._will_message = None  # refused as well
                self.drop(member)
            raise BusUnavailableError("the broker closed the connection", cause=Cause.CLOSED)


@pytest.mark.parametrize("cut", [True, False])
def test_a_refused_announcement_is_noticed_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, cut: bool
) -> None:
    """The publisher is not ready while nobody can find its root, and is ready again when it is let."""
    monkeypatch.setattr("caterva2.publisher.confirmation.PATIENCE", 0.1)
    monkeypatch.setattr("caterva2.publisher.confirmation._LAST_RETRY", 0.2)
    caplog.set_level("INFO", "caterva2.publisher.announcer")

    async def scenario() -> None:
        broker = RefusingBroker(cut=cut)
        async with stage(tmp_path, broker=broker) as at:
            assert "the root is not announced yet" == at.announcer.unready(at.bus)
            await wait_until_async(lambda: "caterva2/root/foo" in at.announcer.unready(at.bus), "the refusal")
            at.change("a", "b")
            await wait_until_async(lambda: broker.attempts > 4, "several attempts")
            told = [record.message for record in caplog.records if record.levelname == "ERROR"]
            assert 1 == len(told)
            assert "root foo is not announced: the broker" in told[0]

            broker.refusing = False
            await wait_until_async(lambda: not at.announcer.unready(at.bus), "the announcement")
            assert 2 == at.said.seq
            assert "root foo is announced" == caplog.records[-1].message
            broker.down()
            assert "not connected to the message bus: the broker is down" == at.announcer.unready(at.bus)

    asyncio.run(scenario())
