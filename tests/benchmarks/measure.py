"""The measures of `make bench`; each starts its own daemons and returns its figures."""

import random
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import blosc2
import httpx

from tests.benchmarks.data import CHUNKS, SHAPE, copies, write_large, write_many
from tests.benchmarks.load import Connection, alternate, longest_gap, percentile, rate
from tests.support.processes import Daemon, Process, run_daemon

_SLICE_10X10 = "/api/fetch/foo/large.b2nd?slice_=1000:1010,100:110"
# Other places of the array, each asked for once in a round: nothing but the chunks can be at hand.
_RANDOM = random.Random(1)
_SCATTERED = [
    f"/api/fetch/foo/large.b2nd?slice_={row}:{row + 10},{column}:{column + 10}"
    for row, column in ((_RANDOM.randrange(SHAPE[0] - 10), _RANDOM.randrange(SHAPE[1] - 10)) for _ in range(20_000))
]
_SLAB = f"slice_={CHUNKS[0] * 100}:{CHUNKS[0] * 110}"


@dataclass(frozen=True)
class Figure:
    """One result.

    Attributes:
        what: was measured.
        value: mostly a ratio to a limit of the same run.
        target: of the issue.
        more_is_better: whether the value should be at least the target, or at most.
        note: what the ratio is made of.
    """

    what: str
    value: float
    target: float
    more_is_better: bool
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.target if self.more_is_better else self.value <= self.target


@dataclass(frozen=True)
class Chain:
    """Running daemons."""

    broker: Daemon
    publisher: Daemon
    subscriber: Daemon


class Bench:
    """A directory to measure in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.root.mkdir(parents=True)

    @contextmanager
    def chain(self) -> Iterator[Chain]:
        """Run the three daemons on the root and subscribe to it."""
        options = ("--http", "localhost:0", "--loglevel", "warning")
        with run_daemon("cat2bro", *options, "--mqtt", "", cwd=self.directory) as broker:
            more = (*options, "--broker", broker.url)
            with (
                run_daemon("cat2pub", "foo", str(self.root), *more, cwd=self.directory) as publisher,
                run_daemon("cat2sub", *more, cwd=self.directory) as subscriber,
            ):
                wait_for_root(subscriber.url)
                yield Chain(broker, publisher, subscriber)

    @contextmanager
    def limit(self) -> Iterator[str]:
        """Run the bare endpoint on `directory / "limit"`."""
        kept = self.directory / "limit"
        kept.mkdir(exist_ok=True)
        with Process([sys.executable, "-m", "tests.benchmarks.limit", str(kept)], self.directory) as process:
            yield process.wait_for(r"listening on (\S+)$")[1]

    def keep(self, name: str, data: bytes) -> None:
        """Put bytes where the limit serves them."""
        (self.directory / "limit").mkdir(exist_ok=True)
        (self.directory / "limit" / name).write_bytes(data)


def wait_for_root(url: str, root: str = "foo") -> None:
    """Wait until a subscriber has heard of a root."""
    end = time.monotonic() + 30
    while root not in httpx.get(f"{url}/api/roots").json():
        if time.monotonic() > end:
            raise TimeoutError("the subscriber did not hear of the root")
        time.sleep(0.01)


def metrics(publisher: str) -> tuple[int, int]:
    """How many answers a publisher has given, and their bytes."""
    text = httpx.get(f"{publisher}/metrics").text
    requests = sum(int(n) for n in re.findall(r"^caterva2_http_requests_total\{.*\} (\d+)$", text, re.MULTILINE))
    sent = re.search(r"^caterva2_http_sent_bytes_total (\d+)$", text, re.MULTILINE)
    assert sent is not None
    return requests, int(sent[1])


def memory_mb(pid: int, key: str = "VmRSS") -> float:
    """The resident memory of a process in MB (`VmHWM`: the most it ever was)."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024


def warm(bench: Bench) -> list[Figure]:
    """Slices of a 1 GiB array that are on the subscriber's disk."""
    write_large(bench.root / "large.b2nd")
    array = blosc2.open(bench.root / "large.b2nd", mode="r")
    with bench.chain() as chain:
        ours = Connection(chain.subscriber.url)
        bodies = {
            "small": _SLICE_10X10,
            "slab": f"/api/fetch/foo/large.b2nd?{_SLAB}",
            "whole": "/api/fetch/foo/large.b2nd",
        }
        bodies["odd"] = f"/api/fetch/foo/large.b2nd?slice_={CHUNKS[0] * 100 + 7}:{CHUNKS[0] * 104 + 7}"
        for name, path in bodies.items():
            bench.keep(name, ours.get(path))
        with bench.limit() as limit:
            bare = Connection(limit)
            for name in bodies:
                bare.drain(f"/memory/{name}")
            small = alternate(lambda: ours.drain(_SLICE_10X10), lambda: bare.drain("/memory/small"), 20, 50)
            local = alternate(lambda: array[1000:1010, 100:110], lambda: None, 20, 50)[0]
            figures = [
                Figure("warm, the same 10x10: latency / bare endpoint", small[0] / small[1], 2.0, more_is_better=False,
                       note=f"{small[0] * 1e6:.0f} / {small[1] * 1e6:.0f} us; local blosc2 {local * 1e6:.0f} us"),
                _rate("the same 10x10", chain, [_SLICE_10X10], limit),
                *_scattered(chain, ours, bare, limit),
            ]  # fmt: skip
            for name, rounds in (("slab", 30), ("whole", 3)):
                figures.append(_throughput(f"warm {name}", ours, bodies[name], bare, f"/memory/{name}", rounds, 0.7))
            figures.append(_throughput("warm 4 chunks, unaligned", ours, bodies["odd"], bare, "/memory/odd", 20, 0.0))
            return figures


def _scattered(chain: Chain, ours: Connection, bare: Connection, limit: str) -> list[Figure]:
    paths = iter(_SCATTERED)
    times = alternate(lambda: ours.drain(next(paths)), lambda: bare.drain("/memory/small"), 20, 50)
    return [
        Figure("warm, 10x10 anywhere: latency / bare endpoint", times[0] / times[1], 2.0, more_is_better=False,
               note=f"{times[0] * 1e6:.0f} / {times[1] * 1e6:.0f} us"),
        _rate("10x10 anywhere", chain, _SCATTERED[1000:], limit),
    ]  # fmt: skip


def _rate(what: str, chain: Chain, paths: Sequence[str], limit: str) -> Figure:
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(3):
        rates[0].append(rate(chain.subscriber.url, paths, 16, 2))
        rates[1].append(rate(limit, ["/memory/small"], 16, 2))
    ours, bare = map(statistics.median, rates)
    return Figure(f"warm, {what}: requests/s of 16 clients / bare endpoint", ours / bare, 0.5, more_is_better=True,
                  note=f"{ours:.0f} / {bare:.0f} per second")  # fmt: skip


def _throughput(
    what: str, ours: Connection, path: str, other: Connection, other_path: str, rounds: int, target: float,
    against: str = "bare endpoint",
) -> Figure:  # fmt: skip
    size = other.drain(other_path)
    times = alternate(lambda: ours.drain(path), lambda: other.drain(other_path), rounds, 1)
    return Figure(f"{what}: MB/s / {against}", times[1] / times[0], target, more_is_better=True,
                  note=f"{size / times[0] / 1e6:.0f} / {size / times[1] / 1e6:.0f} MB/s")  # fmt: skip


def cold(bench: Bench) -> list[Figure]:
    """A 1 GiB array that must come from the publisher: the whole, and a slab of 10 chunks."""
    write_large(bench.root / "large.b2nd")
    names = [file.name for file in copies(bench.root / "large.b2nd", 4)]
    bench.keep("whole", (bench.root / "large.b2nd").read_bytes())
    with bench.chain() as chain, bench.limit() as limit:
        ours, bare = Connection(chain.subscriber.url), Connection(limit)
        size = bare.drain("/static/whole")
        before = [memory_mb(daemon.pid) for daemon in (chain.publisher, chain.subscriber)]
        times: tuple[list[float], list[float]] = ([], [])
        for name in names[:3]:
            ours.drain(f"/api/info/foo/{name}")
            for kept, connection, path in (
                (times[0], ours, f"/api/fetch/foo/{name}"),
                (times[1], bare, "/static/whole"),
            ):
                start = time.perf_counter()
                connection.drain(path)
                kept.append(time.perf_counter() - start)
        after = [memory_mb(daemon.pid, "VmHWM") for daemon in (chain.publisher, chain.subscriber)]
        seconds = [statistics.median(kept) for kept in times]
        return [
            Figure("cold whole: MB/s / static file", seconds[1] / seconds[0], 0.5, more_is_better=True,
                   note=f"{size / seconds[0] / 1e6:.0f} / {size / seconds[1] / 1e6:.0f} MB/s"),
            *(Figure(f"cold whole: most memory added to the {who}, MB", now - then, 100, more_is_better=False)
              for who, then, now in zip(("publisher", "subscriber"), before, after, strict=True)),
            *_cold_slab(bench, chain, ours, names[3]),
        ]  # fmt: skip


def _cold_slab(bench: Bench, chain: Chain, ours: Connection, name: str) -> list[Figure]:
    ours.drain(f"/api/info/foo/{name}")
    array = blosc2.open(bench.root / name, mode="r")
    stored = sum(len(array.schunk.get_chunk(n)) for n in range(100, 110))
    before = metrics(chain.publisher.url)
    ours.drain(f"/api/fetch/foo/{name}?{_SLAB}")
    after = metrics(chain.publisher.url)
    # The first look at the metrics is an answer of its own.
    own = len(httpx.get(f"{chain.publisher.url}/metrics").content)
    requests, sent = after[0] - before[0] - 1, after[1] - before[1] - own
    return [
        Figure("cold slab: requests to the publisher", requests, 1, more_is_better=False),
        Figure("cold slab: bytes sent / stored size of its chunks", sent / stored, 1.02, more_is_better=False,
               note=f"{sent} / {stored} bytes"),
    ]  # fmt: skip


def stalls(bench: Bench) -> list[Figure]:
    """How long an event loop is held up: answers of /health while large reads run, and from the bare endpoint."""
    write_large(bench.root / "large.b2nd", (SHAPE[0] // 4, SHAPE[1]))
    (bench.root / "plain.bin").write_bytes(bytes(range(256)) * (1 << 18))
    paths = {
        "column": "large.b2nd?slice_=:,5",
        "unaligned": "large.b2nd?slice_=7:12000",
        "stepped": "large.b2nd?slice_=::3,::2",
        "whole": "large.b2nd",
        "plain file, stepped": "plain.bin?slice_=::3",
    }
    figures = []
    with bench.chain() as chain:
        for name, query in paths.items():
            path = f"/api/fetch/foo/{query}"
            figures.append(_stall(name, chain, partial(_read, chain.subscriber.url, path)))
    return figures


def _read(url: str, path: str) -> None:
    connection = Connection(url)
    for _ in range(3):
        connection.drain(path)


def _stall(name: str, chain: Chain, work: Callable[[], object]) -> Figure:
    """The longest that the subscriber keeps another client waiting while it works."""
    taken, idle = (_while_working(work, daemon.url) for daemon in (chain.subscriber, chain.broker))
    return Figure(f"{name}: longest answer of /health, ms", 1e3 * max(taken), 20, more_is_better=False,
                  note=f"p99 {1e3 * percentile(taken, 0.99):.1f}; an idle daemon beside it:"
                       f" p99 {1e3 * percentile(idle, 0.99):.1f}, longest {1e3 * max(idle):.1f}")  # fmt: skip


def _while_working(work: Callable[[], object], asked: str) -> Sequence[float]:
    thread = threading.Thread(target=work)
    thread.start()
    taken = longest_gap(asked, lambda: not thread.is_alive())
    thread.join()
    return taken


def subscribing(bench: Bench) -> list[Figure]:
    """Following roots of 5,000 and of 100,000 files."""
    figures: list[Figure] = []
    seconds: dict[int, float] = {}
    for count in (5_000, 100_000):
        part = Bench(bench.directory / str(count))
        write_many(part.root, count)
        with part.chain() as chain:
            before = metrics(chain.publisher.url)
            start = time.perf_counter()
            subscribe = partial(httpx.post, f"{chain.subscriber.url}/api/subscribe/foo", timeout=120)
            taken = _while_working(subscribe, chain.subscriber.url)
            seconds[count] = time.perf_counter() - start
            figures.append(
                Figure(f"subscribing to {count} datasets: longest answer of /health, ms", 1e3 * max(taken), 20,
                       more_is_better=False, note=f"p99 {1e3 * percentile(taken, 0.99):.1f}")
            )  # fmt: skip
            requests = metrics(chain.publisher.url)[0] - before[0] - 1
            listed = len(httpx.get(f"{chain.subscriber.url}/api/list/foo", timeout=60).json())
            assert listed == count, f"{listed} of {count} datasets are listed"
            listing = partial(_read, chain.subscriber.url, "/api/list/foo")
            figures.append(_stall(f"listing {count} datasets", chain, listing))
            figures.append(Figure(f"subscribing to {count} datasets: requests", requests, 3, more_is_better=False))
    figures.append(Figure("subscribing to 5000 datasets: seconds", seconds[5_000], 2, more_is_better=False))
    growth = seconds[100_000] / seconds[5_000] / 20
    figures.append(Figure("subscribing to 100000: seconds / 20 times those of 5000", growth, 1.5, more_is_better=False,
                          note=f"{seconds[100_000]:.2f} s"))  # fmt: skip
    return figures


MEASURES = (warm, cold, stalls, subscribing)
