"""caterva2.subscriber.reader, with the follower: reads of a real publisher's datasets."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from bus.memory import MemoryBroker, MemoryBus
from bus.messages import ServiceStatus
from bus.topics import Topics
from caterva2.address import Address
from caterva2.daemon.runner import serving
from caterva2.daemon.supervisor import Supervisor
from caterva2.errors import BadGatewayError, Caterva2Error, FrameError, NotFoundError, UnavailableError
from caterva2.paths import DatasetPath, RootName
from caterva2.publisher.app import create_app
from caterva2.settings import PublisherSettings
from caterva2.slices import Slice
from caterva2.subscriber.answers import Answer, Query
from caterva2.subscriber.catalog import Catalog
from caterva2.subscriber.disk import disk_use
from caterva2.subscriber.follower import Follower
from caterva2.subscriber.mirrors import MirrorStore
from caterva2.subscriber.origin import Origin
from caterva2.subscriber.places import Places
from caterva2.subscriber.reader import Read, Reader
from caterva2.subscriber.store import CatalogStore
from caterva2.subscriber.userroots import UserRoots
from tests.support.arrays import example, same, write
from tests.support.waiting import wait_until_async

FOO = RootName("foo")
A = DatasetPath(FOO, "a.b2nd")
VALUES = example((1000,))


class Traffic:
    """Counts requests and the bytes of their answers, and may spoil them."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.nbytes: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda _kind: None
        self.cut: dict[str, int] = {}

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Stand between the server and the app."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            kind = scope.get("path", "").split("/")[2:3]
            if scope["type"] != "http" or not kind:
                await app(scope, receive, send)
                return
            self.requests[kind[0]] += 1
            self.before(kind[0])

            async def sent(message: Any) -> None:
                body = message.get("body", b"")
                self.nbytes[kind[0]] += len(body)
                left = self.cut.get(kind[0])
                if left is not None and message["type"] == "http.response.body" and self.nbytes[kind[0]] > left:
                    raise ConnectionResetError("cut for the test")
                await send(message)

            await app(scope, receive, sent)

        return counted


@dataclass
class World:
    """A publisher that runs, and the parts of a subscriber."""

    root: Path
    traffic: Traffic
    broker: MemoryBroker
    catalog: Catalog
    follower: Follower
    reader: Reader
    mirrors: MirrorStore
    stop_publisher: Callable[[], Awaitable[None]]

    async def read(self, text: str = "", path: DatasetPath = A) -> tuple[Read, Any]:
        """Read a slice as a client does."""
        read, answer = await self.reader.fetch(path, Query(text))
        if answer is None:
            pieces = [piece async for piece in self.reader.stream(read, 0, read.frame.layout.length)]
            return read, blosc2.ndarray_from_cframe(b"".join(pieces))[()]
        data = b"".join(answer.pieces) if isinstance(answer, Answer) else answer
        return read, blosc2.ndarray_from_cframe(data)[()]


@asynccontextmanager
async def world(tmp_path: Path, *, max_staleness: float = 0.0) -> AsyncIterator[World]:
    """Run a publisher of `tmp_path/root`, and follow it over a bus within this process."""
    root, traffic, broker, topics = tmp_path / "root", Traffic(), MemoryBroker(), Topics()
    root.mkdir(exist_ok=True)

    def app(settings: PublisherSettings, address: Address) -> Starlette:
        @asynccontextmanager
        async def join(_settings: Any, will: Any, birth: int) -> AsyncIterator[MemoryBus]:
            async with MemoryBus(broker, topics=topics, will=will, birth=birth) as bus:
                yield bus

        made = create_app(settings, address, join_bus=join)
        made.add_middleware(traffic.middleware)
        return made

    settings = PublisherSettings(
        name="foo", root=root, http=Address("localhost", 0), statedir=tmp_path / "pub", broker="", settle=0.02
    )
    async with AsyncExitStack() as stack:
        publisher = AsyncExitStack()
        stack.push_async_exit(publisher)
        await publisher.enter_async_context(serving(app, settings))
        store = stack.enter_context(CatalogStore(tmp_path / "catalog.sqlite"))
        mirrors = MirrorStore(tmp_path / "cache")
        stack.callback(mirrors.close)
        catalog, origin = Catalog(), await stack.enter_async_context(Origin.open())
        for known, datasets in store.load():
            catalog.restore(known, datasets)
        crashes: list[BaseException] = []
        tasks = await stack.enter_async_context(Supervisor(crashes.append))
        follower = Follower(catalog, store, mirrors, origin, tasks, topics)
        own = UserRoots(Places(tmp_path))
        reader = Reader(catalog, mirrors, origin, own, follower.carry_out, tasks, max_staleness)
        bus = await stack.enter_async_context(MemoryBus(broker, topics=topics))
        status = ServiceStatus(
            kind="subscriber", id="s", status="online", http="", instance="i", birth=0, time=0.0, version="1"
        )
        follower.join(bus, status)
        tasks.start(follower.follow(), "follow the bus")
        await wait_until_async(lambda: catalog.roots() and catalog.root("foo").online, "the announcement")
        await follower.subscribe(FOO)
        await wait_until_async(lambda: catalog.root("foo").live(time.monotonic()), "the root is live")
        yield World(root, traffic, broker, catalog, follower, reader, mirrors, publisher.aclose)
        assert [] == crashes


def published(tmp_path: Path, values: Any = VALUES, name: str = "a.b2nd") -> None:
    """Write an array into the root, as one change."""
    file = tmp_path / "root" / name
    file.parent.mkdir(exist_ok=True)
    part = file.with_name("." + file.name)
    part.unlink(missing_ok=True)
    write(part, values, chunks=(100,), blocks=(10,))
    part.replace(file)


def test_a_cold_slab_is_one_request_and_a_warm_one_none(tmp_path: Path) -> None:
    """All missing chunks come in one request; what is there is not asked for again."""
    published(tmp_path)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            read, values = await w.read("150:730")
            assert same(VALUES[150:730], values)
            assert (1, 7, "caterva2; fwd=miss; stored") == (
                w.traffic.requests["chunks"],
                read.fetched,
                read.cache_status,
            )
            read, values = await w.read("200:650:3")
            assert same(VALUES[200:650:3], values)
            assert (1, "caterva2; hit") == (w.traffic.requests["chunks"], read.cache_status)
            sent = w.traffic.nbytes["chunks"]
            read, values = await w.read("0:1000:2")
            assert same(VALUES[::2], values)
            assert (2, 3) == (w.traffic.requests["chunks"], read.fetched)
            assert w.traffic.nbytes["chunks"] - sent < sent
            assert same(VALUES, (await w.read())[1])
            assert (2, 1) == (w.traffic.requests["chunks"], w.traffic.requests["skeleton"])

    asyncio.run(scenario())


def test_many_clients_of_one_cold_slab_are_one_request(tmp_path: Path) -> None:
    """Whoever wants the same chunks at once waits for one request, and everyone gets them."""
    published(tmp_path)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            results = await asyncio.gather(*(w.read("100:900") for _ in range(30)))
            assert all(same(VALUES[100:900], values) for _, values in results)
            assert (1, 1) == (w.traffic.requests["chunks"], w.traffic.requests["skeleton"])

    asyncio.run(scenario())


def test_overlapping_reads_fetch_nothing_twice(tmp_path: Path) -> None:
    """Each chunk crosses the network once, however many slices want it at once."""
    published(tmp_path)
    size = len((tmp_path / "root/a.b2nd").read_bytes())

    async def scenario() -> None:
        async with world(tmp_path) as w:
            spans = [(i * 50, i * 50 + 300) for i in range(14)]
            results = await asyncio.gather(*(w.read(f"{a}:{b}") for a, b in spans))
            assert all(same(VALUES[a:b], values) for (a, b), (_, values) in zip(spans, results, strict=True))
            assert w.traffic.nbytes["chunks"] < size + 2000

    asyncio.run(scenario())


def test_a_client_that_leaves_takes_nothing_from_the_others(tmp_path: Path) -> None:
    """When the first to ask is cancelled, the request goes on for those that wait."""
    published(tmp_path)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            await w.read("0:1")
            reads = [asyncio.create_task(w.read("300:700")) for _ in range(3)]
            await wait_until_async(lambda: w.traffic.requests["chunks"] == 2)
            reads[0].cancel()
            results = await asyncio.gather(*reads, return_exceptions=True)
            assert all(same(VALUES[300:700], each[1]) for each in results[1:] if not isinstance(each, BaseException))
            assert not any(isinstance(each, Exception) for each in results[1:])
            assert 2 == w.traffic.requests["chunks"]

    asyncio.run(scenario())


def test_special_chunks_cost_no_request(tmp_path: Path) -> None:
    """Chunks of one repeated value are in the skeleton."""
    (tmp_path / "root").mkdir()
    blosc2.zeros((1000,), dtype="<f4", chunks=(10,), blocks=(10,), urlpath=str(tmp_path / "root/a.b2nd"))

    async def scenario() -> None:
        async with world(tmp_path) as w:
            read, values = await w.read("1:999")
            assert same(np.zeros(998, "<f4"), values)
            assert (0, 0, "caterva2; hit") == (w.traffic.requests["chunks"], read.fetched, read.cache_status)

    asyncio.run(scenario())


def test_a_change_of_one_chunk_sends_one_chunk(tmp_path: Path) -> None:
    """After a change arrived over the bus, the chunks that are the same are taken from the version before."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2**60, 1000)
    published(tmp_path, values)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            assert same(values, (await w.read())[1])
            first = w.traffic.nbytes["chunks"]
            before = w.catalog.lookup(A)
            changed = values.copy()
            changed[420] = 7
            published(tmp_path, changed)
            await wait_until_async(lambda: w.catalog.lookup(A) != before, "the change")
            read, again = await w.read()
            assert same(changed, again)
            assert w.traffic.nbytes["chunks"] - first < first / 5
            assert "caterva2; fwd=miss; stored" == read.cache_status

    asyncio.run(scenario())


def test_a_version_that_changes_in_the_middle_starts_the_read_again(tmp_path: Path) -> None:
    """Between skeleton and chunks the dataset is replaced: the answer is all of the new version."""
    published(tmp_path)
    changed = VALUES + 1

    async def scenario() -> None:
        async with world(tmp_path) as w:

            def replace_it(kind: str) -> None:
                if kind == "chunks" and w.traffic.requests["chunks"] == 1:
                    published(tmp_path, changed)

            w.traffic.before = replace_it
            _, values = await w.read("50:950")
            assert same(changed[50:950], values)

    asyncio.run(scenario())


def test_without_its_publisher_what_is_here_is_served_as_stale(tmp_path: Path) -> None:
    """Cached data goes on being served, marked; what is not here is UnavailableError."""
    published(tmp_path)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            await w.read("0:500")
            await w.stop_publisher()
            await wait_until_async(lambda: not w.catalog.root("foo").online, "the farewell")
            read, values = await w.read("100:400")
            assert same(VALUES[100:400], values)
            assert "caterva2; fwd=stale; fwd-status=503" == read.cache_status
            with pytest.raises(UnavailableError):
                await w.read("400:600")
            with pytest.raises(UnavailableError):
                await w.read("", DatasetPath(FOO, "b.b2nd"))

    asyncio.run(scenario())


def test_datasets_come_change_and_go(tmp_path: Path) -> None:
    """Created, modified, renamed and deleted files arrive in the catalog; what is gone is NotFoundError."""
    published(tmp_path)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            await w.read("0:1")
            published(tmp_path, VALUES, "dir/b.b2nd")
            (tmp_path / "root/a.b2nd").rename(tmp_path / "root/c.b2nd")
            await wait_until_async(lambda: ["c.b2nd", "dir/b.b2nd"] == w.catalog.names(DatasetPath(FOO, "")), "changes")
            with pytest.raises(NotFoundError):
                await w.read()
            assert same(VALUES[:3], (await w.read("0:3", DatasetPath(FOO, "c.b2nd")))[1])

    asyncio.run(scenario())


def test_an_outage_of_the_bus_is_caught_up_with(tmp_path: Path) -> None:
    """What changed while the bus was away is known after it is back, and reads in between are right."""
    published(tmp_path)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            await w.read()
            w.broker.down()
            await wait_until_async(lambda: not w.catalog.root("foo").checked)
            published(tmp_path, VALUES + 5)
            assert same(VALUES[5:995] + 5, (await w.read("5:995"))[1])
            published(tmp_path, VALUES, "new.b2nd")
            w.broker.up()
            await wait_until_async(lambda: w.catalog.lookup(DatasetPath(FOO, "new.b2nd")), "the new dataset")
            await wait_until_async(lambda: w.catalog.root("foo").live(time.monotonic()), "the root is live")

    asyncio.run(scenario())


def test_damaged_datasets_harm_no_others(tmp_path: Path) -> None:
    """A truncated frame is FrameError; its neighbours are served."""
    published(tmp_path)
    data = (tmp_path / "root/a.b2nd").read_bytes()
    (tmp_path / "root/bad.b2nd").write_bytes(data[: len(data) // 2])

    async def scenario() -> None:
        async with world(tmp_path) as w:
            with pytest.raises(FrameError):
                await w.read("", DatasetPath(FOO, "bad.b2nd"))
            assert same(VALUES, (await w.read())[1])

    asyncio.run(scenario())


def test_a_stream_of_chunks_that_is_cut_off_is_an_error_and_can_be_tried_again(tmp_path: Path) -> None:
    """A publisher that hangs up in the middle is no crash; what arrived is kept, and the next read gets the rest."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2**60, 1000)
    published(tmp_path, values)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.traffic.cut["chunks"] = 10
            with pytest.raises(Caterva2Error) as caught:
                await w.read("5:995")
            assert isinstance(caught.value, BadGatewayError | UnavailableError)
            w.traffic.cut.clear()
            assert same(values[5:995], (await w.read("5:995"))[1])

    asyncio.run(scenario())


def test_what_did_not_change_is_taken_over_in_a_few_requests(tmp_path: Path) -> None:
    """Reading all of a changed dataset chunk by chunk asks a number of times that grows like the logarithm."""
    values = np.random.default_rng(1).integers(0, 2**60, 6400)
    published(tmp_path, values)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            await w.read()
            before, sent, asked = w.catalog.lookup(A), w.traffic.nbytes["chunks"], w.traffic.requests["chunks"]
            changed = values.copy()
            changed[3210] = 7
            published(tmp_path, changed)
            await wait_until_async(lambda: w.catalog.lookup(A) != before, "the change")
            for start in range(0, 6400, 100):
                assert same(changed[start : start + 100], (await w.read(f"{start}:{start + 100}"))[1])
            # 64 chunks: 1, 1 + 2, 1 + 6 ... are taken over, and the one that changed is asked for once more.
            assert w.traffic.requests["chunks"] - asked <= 8
            assert w.traffic.nbytes["chunks"] - sent < sent / 20

    asyncio.run(scenario())


def test_of_a_dataset_that_was_written_anew_only_what_is_read_is_asked_for(tmp_path: Path) -> None:
    """When no copy is the same, there are no questions about others."""
    values = np.random.default_rng(1).integers(0, 2**60, 1000)
    published(tmp_path, values)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            await w.read()
            before, sent = w.catalog.lookup(A), w.traffic.nbytes["chunks"]
            published(tmp_path, values[::-1].copy())
            await wait_until_async(lambda: w.catalog.lookup(A) != before, "the change")
            for start in (0, 300, 600):
                await w.read(f"{start}:{start + 100}")
            read, _ = await w.read("0:1")
            assert [0, 3, 6] == [n for n in range(10) if not read.frame.missing([n])]
            assert w.traffic.nbytes["chunks"] - sent < sent / 2

    asyncio.run(scenario())


def test_nobody_waits_for_what_nobody_reads(tmp_path: Path) -> None:
    """A read is answered when its own chunks have come, while others are still being asked about."""
    # Chunks so large that a publisher sends each as a piece of its own.
    values = np.random.default_rng(1).integers(0, 2**60, (5, 150_000))
    (tmp_path / "root").mkdir()
    write(tmp_path / "root/a.b2nd", values, chunks=(1, 150_000), blocks=(1, 10_000))

    async def scenario() -> None:
        async with world(tmp_path) as w:
            await w.read()
            before = w.catalog.lookup(A)
            values[0, 0] = 5
            write(tmp_path / "root/.new", values, chunks=(1, 150_000), blocks=(1, 10_000))
            (tmp_path / "root/.new").replace(tmp_path / "root/a.b2nd")
            await wait_until_async(lambda: w.catalog.lookup(A) != before, "the change")
            await w.read("4, :10")
            # The stream breaks after the first record: what was wanted has come, the rest is asked for again.
            w.traffic.cut["chunks"] = w.traffic.nbytes["chunks"] + 30
            assert same(values[2, :10], (await w.read("2, :10"))[1])
            w.traffic.cut.clear()
            assert same(values[3, :10], (await w.read("3, :10"))[1])

    asyncio.run(scenario())


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "partly on disk"])
@pytest.mark.parametrize("text", ["3:9990:2", "::-1", "100:9900", ""])
def test_more_than_memory_holds_is_passed_on_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, *, known: bool
) -> None:
    """A composed answer has its chunks a few at a time, and never more of them in memory than it may."""
    values = np.random.default_rng(1).integers(0, 2**60, (10000, 100))
    (tmp_path / "root").mkdir()
    write(tmp_path / "root/a.b2nd", values, chunks=(100, 100), blocks=(10, 100))
    limit = 1 << 20
    for name, size in (("_MOST_IN_MEMORY", limit), ("_WINDOW", limit // 4), ("_WHOLE_FIRST", limit // 4)):
        monkeypatch.setattr(f"caterva2.subscriber.reader.{name}", size)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            if known:
                await w.read("0:1000")
            monkeypatch.setattr(MirrorStore, "writable", False)
            read, answer = await w.reader.fetch(A, Query(text))
            if answer is None:
                pieces = [piece async for piece in w.reader.stream(read, 0, read.frame.layout.length)]
            else:
                assert isinstance(answer, Answer)
                pieces, most = [], 0
                while (piece := await asyncio.to_thread(next, answer.pieces, None)) is not None:
                    pieces.append(piece)
                    most = max(most, disk_use(read.frame.fd))
                assert 0 < most < limit
            key = Slice.parse(text).items or ...
            assert same(values[key], blosc2.ndarray_from_cframe(b"".join(pieces))[()])

    asyncio.run(scenario())
