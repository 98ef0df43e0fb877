"""What changes cost: until they are seen, on the wire, and when they were missed."""

import asyncio
import re
import statistics
import threading
import time
from pathlib import Path

import blosc2
import httpx
import numpy as np

from bus.client import BusClient
from bus.interface import Connected
from bus.messages import Change, Changes
from bus.topics import Topics
from caterva2.publisher.inotify import Inotify
from tests.benchmarks.data import CHUNKS, write_large, write_many
from tests.benchmarks.load import Connection, percentile
from tests.benchmarks.measure import Bench, Chain, Figure, metrics

_CHANGES = 100
_MISSED = 10_000
_WAITING = 0.15
"""Seconds that a publisher waits on purpose: for the file to settle, and for more changes of it."""


def visible(bench: Bench) -> list[Figure]:
    """From a change to a read that sees it, and what watching and MQTT alone take."""
    file = bench.root / "small.b2nd"
    _write(file, 0)
    with bench.chain() as chain:
        seen = [_until_read(chain, file, number) for number in range(1, _CHANGES + 1)]
        (bench.directory / "bare").mkdir()
        bare = asyncio.run(_bare(chain.broker.url, bench.directory / "bare"))
    p50, p99 = statistics.median(seen), percentile(seen, 0.99)
    note = f"bare watching + MQTT: p50 {1e3 * statistics.median(bare):.1f}, p99 {1e3 * percentile(bare, 0.99):.1f};"
    note += f" waits {1e3 * _WAITING:.0f} on purpose"
    return [
        Figure("a change is read: p50, ms", 1e3 * p50, 1e3 * (_WAITING + 0.05), more_is_better=False, note=note),
        Figure("a change is read: p99, ms", 1e3 * p99, 1e3 * (_WAITING + 0.25), more_is_better=False, note=note),
    ]


def _write(file: Path, number: int) -> float:
    part = file.with_name(".part")
    blosc2.asarray(np.full(1000, number), chunks=(100,), urlpath=str(part), mode="w")
    part.replace(file)
    return time.perf_counter()


def _until_read(chain: Chain, file: Path, number: int) -> float:
    start = _write(file, number)
    connection = Connection(chain.subscriber.url)
    while True:
        array = blosc2.ndarray_from_cframe(connection.get(f"/api/fetch/foo/{file.name}?slice_=0:10"))
        if array[0] == number:
            return time.perf_counter() - start
        time.sleep(0.001)


async def _bare(broker: str, directory: Path) -> list[float]:
    """Watch a directory and send each change over the broker to another client: the least that it can take."""
    url = broker.replace("http", "ws", 1) + "/mqtt"

    async def urls() -> list[str]:
        return [url]

    taken: list[float] = []
    loop, happened = asyncio.get_running_loop(), asyncio.Event()
    sender, receiver = (BusClient(urls, topics=Topics(), client_id=f"bare{n}") for n in range(2))
    async with sender, receiver:
        await receiver.subscribe(Topics().change("bare"))
        events = receiver.messages()
        while not isinstance(await anext(events), Connected):
            pass
        while not isinstance(await anext(sender.messages()), Connected):
            pass
        with Inotify() as inotify:
            inotify.add(str(directory))
            loop.add_reader(inotify.fileno(), lambda: (inotify.read(), happened.set()))
            for number in range(_CHANGES):
                start = await asyncio.to_thread(_write, directory / "small.b2nd", number)
                await happened.wait()
                await sender.publish(_change(number))
                while not isinstance(await anext(events), Changes):
                    pass
                taken.append(time.perf_counter() - start)
                await asyncio.sleep(0.01)
                happened.clear()
            loop.remove_reader(inotify.fileno())
    return taken


def _change(number: int) -> Changes:
    change = Change(
        root="bare", epoch="e", seq=number, type="modified", path="small.b2nd", etag="0" * 16, nbytes=1000,
        kind="array", mtime=0.0, time=time.time(),
    )  # fmt: skip
    return Changes(root="bare", changes=(change,))


def delta(bench: Bench) -> list[Figure]:
    """Bytes on the wire for one changed chunk of a 1 GiB array that the subscriber has."""
    file = bench.root / "large.b2nd"
    write_large(file)
    with bench.chain() as chain:
        connection = Connection(chain.subscriber.url)
        connection.drain("/api/fetch/foo/large.b2nd")
        array = blosc2.open(str(file), mode="a")
        array[: CHUNKS[0]] = np.random.default_rng(2).integers(0, 1 << 20, CHUNKS).astype(np.float32)
        _wait_for_seq(chain, 1)
        stored = len(httpx.get(f"{chain.publisher.url}/api/download/large.b2nd?nchunk=0").raise_for_status().content)
        before = metrics(chain.publisher.url)
        start = time.perf_counter()
        connection.drain("/api/fetch/foo/large.b2nd")
        seconds = time.perf_counter() - start
        after = metrics(chain.publisher.url)
        piecemeal = _read_by_rows(chain, file)
    asked = after[0] - before[0]
    return [
        Figure("one changed chunk of 1 GiB: bytes sent beside it", after[1] - before[1] - stored, 65536,
               more_is_better=False, note=f"chunk {stored} bytes, {asked} requests with those for metrics,"
                                          f" {seconds:.2f} s"),
        Figure("the same, read by 512 slabs: requests to the publisher", piecemeal, 64, more_is_better=False),
    ]  # fmt: skip


def _read_by_rows(chain: Chain, file: Path) -> int:
    """Change one chunk more and read the array chunk by chunk; how many requests that takes."""
    connection, seq = Connection(chain.subscriber.url), _seq(chain)
    array = blosc2.open(str(file), mode="a")
    array[CHUNKS[0] * 300 : CHUNKS[0] * 301] = np.random.default_rng(3).integers(0, 1 << 20, CHUNKS).astype(np.float32)
    _wait_for_seq(chain, seq + 1)
    before = metrics(chain.publisher.url)[0]
    for start in range(0, array.shape[0], CHUNKS[0]):
        connection.drain(f"/api/fetch/foo/large.b2nd?slice_={start}:{start + CHUNKS[0]}")
    return metrics(chain.publisher.url)[0] - before - 1


def _wait_for_seq(chain: Chain, seq: int, timeout: float = 120.0) -> None:
    end = time.monotonic() + timeout
    while True:
        if _seq(chain) >= seq:
            time.sleep(0.5)
            return
        if time.monotonic() > end:
            raise TimeoutError("the publisher did not notice the changes")
        time.sleep(0.25)


def _seq(chain: Chain) -> int:
    match = re.search(r"^caterva2_journal_seq (\d+)", httpx.get(f"{chain.publisher.url}/metrics").text, re.MULTILINE)
    assert match is not None
    return int(match[1])


def missed(bench: Bench) -> list[Figure]:
    """Catching up after 10,000 changes that a killed subscriber missed."""
    write_many(bench.root, _MISSED)
    file = bench.root / "d000" / "array.b2nd"
    _write(file, 0)
    with bench.chain() as chain:
        httpx.post(f"{chain.subscriber.url}/api/subscribe/foo", timeout=60).raise_for_status()
        Connection(chain.subscriber.url).drain("/api/fetch/foo/d000/array.b2nd")
        chain.subscriber.kill()
        writer = threading.Thread(target=_rewrite, args=(bench.root,))
        writer.start()
        writer.join()
        _wait_for_seq(chain, _MISSED)
        before = metrics(chain.publisher.url)
        chain.subscriber.start()
        start = time.perf_counter()
        Connection(chain.subscriber.url).drain("/api/fetch/foo/d000/array.b2nd")
        recovered = time.perf_counter() - start
        while httpx.get(f"{chain.subscriber.url}/api/roots").json()["foo"].get("freshness") != "live":
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        requests = metrics(chain.publisher.url)[0] - before[0] - 1
    return [
        Figure("killed, first read after it listens: seconds", recovered, 1, more_is_better=False),
        Figure(f"{_MISSED} missed changes: seconds until caught up", seconds, 2, more_is_better=False),
        Figure(f"{_MISSED} missed changes: requests, with the read's", requests, 4, more_is_better=False),
    ]


def _rewrite(root: Path) -> None:
    for file in root.glob("*/*.txt"):
        part = file.with_suffix(".part")
        part.write_bytes(b"newer")
        part.replace(file)


MEASURES = (visible, delta, missed)
