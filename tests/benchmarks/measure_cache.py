"""The measures of the cache: how close it keeps to its size, what pins cost, how soon it is back after a kill."""

import statistics
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np

from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.mirrors import MirrorStore
from caterva2.subscriber.reader import Read
from tests.benchmarks.data import CHUNKS, SHAPE, copies, write_large
from tests.benchmarks.load import Connection
from tests.benchmarks.measure import Bench, Figure, wait_for_root
from tests.support.arrays import write
from tests.support.processes import run_daemon
from tests.unit.subscriber.frames import array_source

_LIMIT = 256 << 20
_COMMON = ("--http", "localhost:0", "--loglevel", "warning")


def eviction(bench: Bench) -> list[Figure]:
    """Reads of four times what the cache holds, of large chunks and of small ones; and what pins cost."""
    shape = (SHAPE[0] // 2, SHAPE[1])
    write_large(bench.root / "large.b2nd", shape)
    names = [file.name for file in copies(bench.root / "large.b2nd", 6)]
    # 8 KB a chunk.
    small = np.random.default_rng(1).integers(0, 2**62, 8 << 20)
    write(bench.root / "small.b2nd", small, chunks=(1024,), blocks=(1024,))
    names += [file.name for file in copies(bench.root / "small.b2nd", 3)]
    env = {"CATERVA2_SUBSCRIBER_CACHE_SIZE": str(_LIMIT)}
    with run_daemon("cat2bro", *_COMMON, "--mqtt", "", cwd=bench.directory) as broker:
        more = (*_COMMON, "--broker", broker.url)
        with (
            run_daemon("cat2pub", "foo", str(bench.root), *more, cwd=bench.directory),
            run_daemon(
                "cat2sub", *more, "--statedir", str(bench.directory / "sub"), cwd=bench.directory, env=env
            ) as sub,
        ):
            wait_for_root(sub.url)
            most, after = _watched(sub.url, names, bench.directory / "sub" / "cache", shape[0] // CHUNKS[0])
    return [
        Figure("eviction: most disk used / cache_size", most / _LIMIT, 1.02, more_is_better=False,
               note=f"{most >> 20} of {_LIMIT >> 20} MB"),
        Figure("eviction: disk used at the end / cache_size", after / _LIMIT, 0.85, more_is_better=True),
        _pins(bench.directory),
    ]  # fmt: skip


def _watched(url: str, names: list[str], cache: Path, rows: int) -> tuple[int, int]:
    """Read slabs here and there; the most that the cache took, seen every few milliseconds, and what at the end."""
    seen, done = [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(_on_disk(cache))
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    connection, rng = Connection(url), np.random.default_rng(1)
    try:
        for _ in range(160):
            row, name = int(rng.integers(rows - 20)) * CHUNKS[0], names[int(rng.integers(len(names)))]
            connection.drain(f"/api/fetch/foo/{name}?slice_={row}:{row + 20 * CHUNKS[0]}")
    finally:
        done.set()
        thread.join()
    return max(seen), _on_disk(cache)


def _on_disk(directory: Path) -> int:
    total = 0
    for file in directory.rglob("*.mirror"):
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def _pins(directory: Path) -> Figure:
    """What a pin adds to a small read of one chunk."""
    source = array_source(np.arange(1000), chunks=(100,), blocks=(10,))
    path = DatasetPath(RootName("foo"), "dir/a.b2nd")
    mirror = source.fill(MirrorStore(directory / "pins").create(path, source.head, source.skeleton))
    numbers, taken, read = [3], [], Read(mirror)
    for _ in range(50):
        start = time.perf_counter()
        for _ in range(1000):
            read.pin(numbers)
            read.release()
        taken.append((time.perf_counter() - start) / 1000)
    return Figure("a pin and its release, us", 1e6 * statistics.median(taken), 2, more_is_better=False)


def recovery(bench: Bench) -> list[Figure]:
    """SIGKILL while chunks arrive, then a new process: how soon after it listens a read from the cache is answered."""
    write_large(bench.root / "large.b2nd", (SHAPE[0] // 2, SHAPE[1]))
    first, others = [], []
    with run_daemon("cat2bro", *_COMMON, "--mqtt", "", cwd=bench.directory) as broker:
        more = (*_COMMON, "--broker", broker.url)
        with (
            run_daemon("cat2pub", "foo", str(bench.root), *more, cwd=bench.directory),
            run_daemon("cat2sub", *more, "--statedir", str(bench.directory / "sub"), cwd=bench.directory) as sub,
        ):
            wait_for_root(sub.url)
            path = "/api/fetch/foo/large.b2nd?slice_=1000:1010,100:110"
            Connection(sub.url).drain(path)
            for trial in range(5):
                killer = threading.Timer(0.05 + 0.05 * trial, sub.kill)
                killer.start()
                with suppress(OSError):
                    Connection(sub.url).drain("/api/fetch/foo/large.b2nd")
                killer.join()
                sub.start()
                start = time.perf_counter()
                httpx.get(f"{sub.url}{path}", timeout=60).raise_for_status()
                first.append(time.perf_counter() - start)
                start = time.perf_counter()
                httpx.get(f"{sub.url}/api/fetch/foo/large.b2nd?slice_=:,5", timeout=60).raise_for_status()
                others.append(time.perf_counter() - start)
    return [
        Figure("recovery: seconds from listening to a slice from the cache", max(first), 1, more_is_better=False,
               note=f"median {statistics.median(first):.3f}; then a column through all chunks, checked or fetched: "
                    f"{statistics.median(others):.2f}"),
    ]  # fmt: skip


MEASURES = (eviction, recovery)
