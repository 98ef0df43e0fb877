"""A publisher in the test's own event loop, on a bus in memory, and what a subscriber would do with it."""

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bus.interface import Connected, Event
from bus.memory import MemoryBroker, MemoryBus
from bus.messages import Change, Changes, RootAnnouncement
from bus.topics import Topics
from caterva2.address import Address
from caterva2.daemon.runner import serving
from caterva2.models import ChangeEntry, ChangesAnswer, DatasetEntry
from caterva2.publisher.app import JoinBus, Will, create_app
from caterva2.records import ChunkRecord, SkeletonHead, decode_skeleton, read_records
from caterva2.settings import PublisherSettings
from tests.support.waiting import wait_until_async


def settings_for(tmp_path: Path, name: str = "foo", **more: object) -> PublisherSettings:
    """Settings of a publisher of `tmp_path/root`, on a free port."""
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    values = {"name": name, "root": root, "statedir": tmp_path / f"state-{name}", "broker": "", "heartbeat": 60.0}
    return PublisherSettings(**({"http": Address("localhost", 0)} | values | more))


def joining(broker: MemoryBroker) -> JoinBus:
    """Make the publisher's way to a bus in memory."""

    def join(_settings: PublisherSettings, will: Will, birth: int) -> MemoryBus:
        return MemoryBus(broker, will=will, birth=birth)

    return join


@dataclass
class Running:
    """A publisher that runs, and someone on its bus."""

    url: str
    http: httpx.AsyncClient
    broker: MemoryBroker
    bus: MemoryBus
    heard: list[Event] = field(default_factory=list)

    @property
    def changes(self) -> list[Change]:
        """All changes told so far."""
        return [change for event in self.heard if isinstance(event, Changes) for change in event.changes]

    @property
    def announcements(self) -> list[RootAnnouncement]:
        """All announcements so far."""
        return [event for event in self.heard if isinstance(event, RootAnnouncement)]

    def told(self) -> dict[str, str | None]:
        """The latest ETag told of each path."""
        return {change.path: change.etag for change in self.changes}

    async def wait_told(self, path: str, kind: str, timeout: float = 20.0) -> Change:
        """Wait until a change of a path is told."""
        return await wait_until_async(
            lambda: next((c for c in self.changes if (c.path, c.type) == (path, kind)), None),
            f"{path} {kind}",
            timeout,
        )

    async def catalog(self) -> dict[str, DatasetEntry]:
        """What the publisher lists."""
        document = (await self.http.get("/api/catalog")).raise_for_status().json()
        return {each["path"]: DatasetEntry(**each) for each in document["datasets"]}

    async def skeleton(self, path: str) -> SkeletonHead:
        """The skeleton's head of a dataset."""
        return decode_skeleton((await self.http.get(f"/api/skeleton/{path}")).raise_for_status().content)[0]

    async def chunks(self, path: str, etag: str, wishes: Sequence[int | dict[str, object]]) -> list[ChunkRecord]:
        """Ask for chunks of one version."""
        body = {"chunks": [{"n": wish} if isinstance(wish, int) else wish for wish in wishes]}
        headers = {"If-Match": f'"{etag}"'}
        async with self.http.stream("POST", f"/api/chunks/{path}", content=json.dumps(body), headers=headers) as answer:
            if answer.is_error:
                await answer.aread()
                answer.raise_for_status()
            return [record async for record in read_records(answer.aiter_bytes())]

    async def changes_since(self, epoch: str, seq: int) -> tuple[ChangeEntry, ...]:
        """Catch up over HTTP."""
        answer = await self.http.get("/api/changes", params={"epoch": epoch, "since": seq})
        return ChangesAnswer.model_validate_json(answer.raise_for_status().content).changes


@asynccontextmanager
async def running(settings: PublisherSettings, broker: MemoryBroker | None = None) -> AsyncIterator[Running]:
    """Run a publisher, and listen to what it tells."""
    broker = broker or MemoryBroker()
    topics = Topics()
    factory = functools.partial(create_app, join_bus=joining(broker))
    async with MemoryBus(broker) as bus:
        await bus.subscribe(topics.all_roots, topics.all_changes, topics.all_services)
        async with serving(factory, settings) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
            made = Running(url, http, broker, bus)
            ear = asyncio.create_task(_listen(made))
            try:
                await wait_until_async(lambda: made.announcements or not broker.is_up, "the announcement")
                yield made
            finally:
                ear.cancel()
                await asyncio.wait({ear})


async def _listen(made: Running) -> None:
    async for event in made.bus.messages():
        if not isinstance(event, Connected):
            made.heard.append(event)
