"""cat2pub as a process: the name, the network bus, the end, and its memory."""

import asyncio
import json
import os
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bus.client import BusClient
from bus.interface import Event
from bus.messages import Changes, RootAnnouncement
from bus.topics import Topics
from caterva2.chunks import decompress_chunk
from caterva2.records import Status, decode_skeleton, read_records
from tests.support.bus import real_broker
from tests.support.processes import Process
from tests.support.programs import command, free_port
from tests.support.waiting import wait_until_async

LISTENING = r"^cat2pub foo: listening on (http://\S+)$"


def publisher(tmp_path: Path, *more: str, state: str = "state", url: str = "") -> Process:
    """A cat2pub of `tmp_path/root`, with an MQTT broker at `url`."""
    (tmp_path / "root").mkdir(exist_ok=True)
    conf = tmp_path / f"{state}.toml"
    conf.write_text(f"[bus]\nurl = {json.dumps(url)}\n" if url else "")
    broker = () if url else ("--broker", "")
    options = ("--http", "localhost:0", "--statedir", str(tmp_path / state), "--conf", str(conf), *broker, *more)
    return Process([*command("cat2pub"), "foo", str(tmp_path / "root"), *options], tmp_path)


@asynccontextmanager
async def listener(url: str) -> AsyncIterator[list[Event]]:
    """What is said on a bus."""
    topics, heard = Topics(), list[Event]()

    async def urls() -> list[str]:
        return [url]

    async def listen() -> None:
        async for event in bus.messages():
            heard.append(event)

    async with BusClient(urls, topics=topics, client_id="test") as bus:
        await bus.subscribe(topics.all_roots, topics.all_changes)
        ear = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            ear.cancel()
            await asyncio.wait({ear})


def announced(heard: list[Event]) -> list[RootAnnouncement]:
    """All announcements heard."""
    return [event for event in heard if isinstance(event, RootAnnouncement)]


async def found(process: Process, pattern: str) -> str:
    """Wait for a line of a process, while this loop goes on."""
    return (await asyncio.to_thread(process.wait_for, pattern))[1]


def test_changes_travel_over_a_real_bus(tmp_path: Path) -> None:
    """Over the network arrive the announcement, a change, and the end."""

    async def scenario() -> None:
        async with real_broker(tmp_path / "mosquitto") as url, listener(url) as heard:
            with publisher(tmp_path, url=url) as process:
                address = await found(process, LISTENING)
                await wait_until_async(lambda: announced(heard), "the announcement")
                assert (address, "online") == (announced(heard)[-1].http, announced(heard)[-1].status)
                (tmp_path / "root/a").write_text("x")
                await wait_until_async(lambda: [e for e in heard if isinstance(e, Changes)], "the change")
                assert 0 == await asyncio.to_thread(process.stop)
                await wait_until_async(lambda: announced(heard)[-1].status == "offline", "the end")

    asyncio.run(scenario())


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_second_publisher_of_a_name_refuses_to_start(tmp_path: Path, end: str) -> None:
    """While the first one lives the second says where it is and ends with status 2; after it, the name is free."""

    async def scenario() -> None:
        async with real_broker(tmp_path / "mosquitto") as url:
            with publisher(tmp_path, url=url) as first:
                address = await found(first, LISTENING)
                with publisher(tmp_path, state="other", url=url) as second:
                    assert 2 == await asyncio.to_thread(second.wait)
                    lines = [line for line in second.output.splitlines() if line.startswith("cat2pub foo:")]
                    assert [True] == [f"already published at {address}" in line for line in lines]
                    assert "Traceback" not in second.output
                assert first.running
                await asyncio.to_thread(first.kill if end == "kill" else first.stop)
            with publisher(tmp_path, state="third", url=url) as third:
                other = await found(third, LISTENING)
                async with listener(url) as heard:
                    await wait_until_async(lambda: announced(heard)[-1].http == other, "the name is taken over")

    asyncio.run(scenario())


async def _first_to_end(*processes: Process) -> tuple[int, Process]:
    ended = await wait_until_async(lambda: [p for p in processes if not p.running], "one gives up", 30)
    return ended[0].wait(), ended[0]


def test_two_that_meet_only_when_the_broker_comes(tmp_path: Path) -> None:
    """When the broker comes later, one of two publishers of a name ends with status 2, and one stays."""

    async def scenario() -> None:
        port = free_port()
        url = f"mqtt://127.0.0.1:{port}"
        with publisher(tmp_path, url=url) as first, publisher(tmp_path, state="other", url=url) as second:
            for process in (first, second):
                await found(process, LISTENING)
            async with real_broker(tmp_path / "mosquitto", port):
                status, loser = await _first_to_end(first, second)

                assert 2 == status
                assert 1 == loser.output.count("already published")
                assert "Traceback" not in loser.output
                assert (second if loser is first else first).running

    asyncio.run(scenario())


def test_a_statedir_in_use_is_one_line(tmp_path: Path) -> None:
    """A second process on one state directory is refused with one line."""
    with publisher(tmp_path) as first:
        first.wait_for(LISTENING)
        with publisher(tmp_path) as second:
            assert 2 == second.wait()
            assert 1 == len(second.output.splitlines())
            assert "in use" in second.output


def _rss(process: Process, field: str = "VmHWM") -> int:
    """Resident memory in megabytes; at its highest."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(field))) // 1024


def test_a_file_of_5_gb_is_served_in_little_memory(tmp_path: Path) -> None:
    """Chunks from all over a huge file are right, and the process stays below 300 MB."""
    gigabytes = 5 << 30

    async def scenario() -> None:
        with publisher(tmp_path) as process:
            url = await found(process, LISTENING)
            file = tmp_path / "root/huge.bin"
            marks = {n: os.urandom(100) for n in (0, 1000, 5119)}
            with file.open("wb") as out:
                out.truncate(gigabytes)
                for n, mark in marks.items():
                    out.seek(n << 20)
                    out.write(mark)
            async with httpx.AsyncClient(base_url=url, timeout=60) as http:
                skeleton = (await http.get("/api/skeleton/huge.bin")).raise_for_status().content
                head, parts = decode_skeleton(skeleton)
                layout = parts.layout()
                numbers = [*range(100), 1000, *range(5050, 5120)]
                seen: dict[int, bytes] = {}
                await asyncio.gather(*(_read(http, head.entry.etag, numbers[at::4], seen) for at in range(4)))
                decoded = {n: decompress_chunk(seen[n], layout.spec(n)) for n in (*marks, 7)}

                assert 1 << 20 == layout.chunksize
                assert {*numbers} == {*seen}
                assert marks == {n: decoded[n][:100] for n in marks}
                assert bytes(1 << 20) == decoded[7]
                await _drain(http, 128 << 20)
            assert 300 > _rss(process)

    asyncio.run(scenario())


async def _read(http: httpx.AsyncClient, etag: str, numbers: list[int], seen: dict[int, bytes]) -> None:
    body = json.dumps({"chunks": [{"n": n} for n in numbers]})
    headers = {"If-Match": f'"{etag}"'}
    async with http.stream("POST", "/api/chunks/huge.bin", content=body, headers=headers) as answer:
        assert 200 == answer.status_code
        async for record in read_records(answer.aiter_bytes()):
            if record.status is Status.DATA:
                seen[record.n] = record.payload
            else:
                assert Status.END == record.status


async def _drain(http: httpx.AsyncClient, length: int) -> None:
    """Read the beginning of the file itself."""
    async with http.stream("GET", "/api/download/huge.bin", headers={"Range": f"bytes=0-{length - 1}"}) as answer:
        assert length == sum([len(piece) async for piece in answer.aiter_raw()])


def test_a_root_of_many_files_is_walked_once(tmp_path: Path) -> None:
    """5,000 files are listed at the start, and none of them was opened."""
    root = tmp_path / "root"
    for directory in range(5):
        (root / f"{directory}").mkdir(parents=True)
        for n in range(1000):
            (root / f"{directory}/{n}.b2nd").touch()
    with publisher(tmp_path) as process:
        url = process.wait_for(LISTENING)[1]
        with urllib.request.urlopen(f"{url}/api/list") as answer:  # noqa: S310 - a URL of our own
            paths = json.load(answer)

    assert 5000 == len(paths)
