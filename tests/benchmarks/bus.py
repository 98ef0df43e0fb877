"""The bus: cat2bro's own broker beside Mosquitto, each a process of its own, measured in turns by the same client.

Ratios are to Mosquitto in the same run: a rate is at least a fifth of its rate, and a time at most five times its time.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bus.messages import RootAnnouncement, encode
from bus.topics import Topics
from tests.benchmarks.load import Connection, percentile
from tests.benchmarks.measure import Bench, Figure, memory_mb
from tests.benchmarks.swarm import Sender, Swarm
from tests.support.mosquitto import Mosquitto
from tests.support.watched import Watched
from tests.unit.bus.raw import publish

_FIFTH = 0.2
_ROUNDS = 3
_SECONDS = 0.7
_BATCH, _WINDOW = 64, 256
"""Messages under way. Mosquitto drops what exceeds 1,000 for one client, ours cuts off who does not read 8 MB."""
_PAYLOAD = b"x" * 250
"""A change is about so long."""
_TOPIC = "caterva2/change/foo"
_FILTERS = ("caterva2/root/+", "caterva2/change/+", "caterva2/service/+/+")
_CLIENTS = 1000
_ROOTS, _FOLLOWERS = 20, 10
_DAY = 86_400
_HEARTBEAT = 30
_DAILY_CHANGES = 40_000


@dataclass(frozen=True)
class Server:
    """A running broker."""

    port: int
    pid: int
    url: str = ""
    watched: Watched | None = None

    @property
    def files(self) -> int:
        """How many file descriptors it has open."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    @property
    def processor(self) -> float:
        """Seconds of processor time that it has taken."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def both(bench: Bench) -> Iterator[tuple[Server, Server]]:
    """Run cat2bro and Mosquitto."""
    options = ("--http", "localhost:0", "--mqtt", "localhost:0", "--loglevel", "warning")
    with (
        Watched("cat2bro", *options, cwd=bench.directory) as ours,
        _FastMosquitto(bench.directory) as theirs,
    ):
        (port,) = re.findall(r"mqtt://\w+:(\d+)", httpx.get(f"{ours.daemon.url}/api/bus").text)
        yield Server(int(port), ours.daemon.pid, ours.daemon.url, ours), Server(theirs.port, theirs.pid)


class _FastMosquitto(Mosquitto):
    def __init__(self, cwd: Path) -> None:
        super().__init__(cwd)
        # Else its small packets wait 40 ms for each other, and it is the kernel's timer that is measured.
        with (cwd / "mosquitto.conf").open("a") as conf:
            conf.write("set_tcp_nodelay true\n")


def _in_turns(measured: Callable[[Server], float], servers: Sequence[Server], rounds: int = _ROUNDS) -> list[float]:
    """The medians of a measure, for each server."""
    values = [[measured(server) for server in servers] for _ in range(rounds)]
    return [statistics.median(each) for each in zip(*values, strict=True)]


def bus_rate(bench: Bench) -> list[Figure]:
    """Messages a second from one publisher to one subscriber, and to twenty."""
    figures = []
    with both(bench) as servers:
        for qos, count in ((0, 1), (1, 1), (0, 20), (1, 20)):
            runs = [[_rate(server, qos, count) for server in servers] for _ in range(_ROUNDS)]
            ours, theirs = (statistics.median(each[0] for each in some) for some in zip(*runs, strict=True))
            cost = [1e6 * statistics.median(each[1] for each in some) for some in zip(*runs, strict=True)]
            figures.append(
                Figure(f"bus: QoS {qos}, 1 to {count}: messages/s / Mosquitto's", ours / theirs, _FIFTH,
                       more_is_better=True, note=f"{ours:,.0f} / {theirs:,.0f} published a second;"
                                                 f" {cost[0]:.1f} / {cost[1]:.1f} us of processor time each")
            )  # fmt: skip
    return figures


def _rate(server: Server, qos: int, subscribers: int) -> tuple[float, float]:
    """Messages a second that are published and reach all, and the broker's processor time for each, in seconds."""
    with Swarm(server.port, subscribers, _TOPIC, qos=qos, name="taker") as swarm:
        sender = Sender(server.port, _TOPIC, _PAYLOAD, qos=qos, batch=_BATCH)
        size, taken = len(sender.packet), dict.fromkeys(swarm.sockets, 0)
        start, processor, slowest = time.perf_counter(), server.processor, 0
        while (running := time.perf_counter() < start + _SECONDS) or slowest < sender.sent:
            unacknowledged = sender.acknowledge()
            if running and max(sender.sent - slowest, unacknowledged) <= _WINDOW - _BATCH:
                sender.send()
            for each in swarm.wait(0.01):
                taken[each] += swarm.take(each, size, qos=qos)
            slowest = min(taken.values())
        sender.settle()
        sender.close()
        seconds = time.perf_counter() - start
        return sender.sent / seconds, (server.processor - processor) / sender.sent


def bus_fan_out(bench: Bench) -> list[Figure]:
    """How long one change takes until the last of many subscribers has it."""
    figures = []
    with both(bench) as servers:
        for count, changes in ((1, 200), (20, 200), (200, 100), (1000, 40)):
            times: list[list[float]] = [[], []]
            came: list[list[float]] = [[], []]
            for _ in range(2):
                for server, last, each in zip(servers, times, came, strict=True):
                    _fan_out(server, count, changes // 2, last, each)
            ours, theirs = (percentile(each, 0.99) for each in times)
            note = "; ".join(
                f"{name}: p50 {1e3 * statistics.median(last):.1f}, p99 {1e3 * percentile(last, 0.99):.1f} ms until the"
                f" last, p50 {1e3 * statistics.median(each):.1f} of all"
                for name, last, each in zip(("ours", "Mosquitto"), times, came, strict=True)
            )
            figures.append(Figure(f"bus: 1 change to {count}: p99, ms", 1e3 * ours, 1e3 * max(0.1 * count / 200, 0.02),
                                  more_is_better=False, note=note))  # fmt: skip
            figures.append(Figure(f"bus: 1 change to {count}: p99 / Mosquitto's", ours / theirs, 1 / _FIFTH,
                                  more_is_better=False))  # fmt: skip
    return figures


def _fan_out(server: Server, subscribers: int, changes: int, last: list[float], came: list[float]) -> None:
    with Swarm(server.port, subscribers, _TOPIC, qos=1, name="taker") as swarm:
        sender = Sender(server.port, _TOPIC, _PAYLOAD, qos=1)
        for _ in range(changes):
            time.sleep(0.005)
            start = time.perf_counter()
            sender.send()
            arrived = [each - start for each in swarm.collect(1, len(sender.packet), qos=1)]
            last.append(max(arrived))
            came += arrived
            sender.settle()
        sender.close()


def bus_retained(bench: Bench) -> list[Figure]:
    """Roots retained: until a new subscriber has all of them, and the memory that they take."""
    figures: list[Figure] = []
    for count in (10_000, 100_000):
        with both(Bench(bench.directory / str(count))) as servers:
            memory = [memory_mb(server.pid) for server in servers]
            told = [_announce(server, count) for server in servers]
            more = [memory_mb(server.pid) - before for server, before in zip(servers, memory, strict=True)]
            seconds = _in_turns(lambda server, n=count: _get_all(server, n), servers)  # type: ignore[misc]
            after = [memory_mb(server.pid) - before for server, before in zip(servers, memory, strict=True)]
        figures += [
            Figure(f"bus: {count} roots: new subscriber, s / Mosquitto's", seconds[0] / seconds[1], 1 / _FIFTH,
                   more_is_better=False, note=f"{seconds[0]:.2f} / {seconds[1]:.2f} s; to announce them with QoS 1:"
                                              f" {told[0]:.1f} / {told[1]:.1f} s"),
            Figure(f"bus: {count} roots: memory of each, KB / Mosquitto's", more[0] / max(more[1], 0.1), 1 / _FIFTH,
                   more_is_better=False, note=f"{more[0]:.0f} / {more[1]:.0f} MB; after they were sent:"
                                              f" {after[0]:.0f} / {after[1]:.0f} MB"),
        ]  # fmt: skip
    return figures


def _announcement(number: int) -> tuple[str, bytes]:
    message = RootAnnouncement(
        name=f"root-{number:06d}", http=f"http://publisher-{number:06d}.example.org:8001", status="online",
        epoch="0" * 16, seq=number, instance="0" * 16, birth=1, heartbeat=3600.0, kind="directory", time=1.7e9,
        version="1.0",
    )  # fmt: skip
    return Topics().root(message.name), encode(message).ljust(360)


def _announce(server: Server, count: int) -> float:
    """How long it takes to announce roots, so many at a time as brokers take."""
    start, topic = time.perf_counter(), _announcement(0)[0]
    sender = Sender(server.port, topic, b"", qos=1)
    size = _BATCH
    for first in range(0, count, size):
        sender.publish(_announcement(number) for number in range(first, min(first + size, count)))
    sender.close()
    return time.perf_counter() - start


def _get_all(server: Server, count: int) -> float:
    size = len(_announcement(0)[1]) + len(_announcement(0)[0]) + 5
    start = time.perf_counter()
    with Swarm(server.port, 1, "caterva2/root/+", name="newcomer") as swarm:
        swarm.collect(count, size)
        return time.perf_counter() - start


def bus_clients(bench: Bench) -> list[Figure]:
    """A thousand clients: the memory of each while it idles, and how soon all are back who come at once."""
    with both(bench) as servers, ExitStack() as stack:
        before = [memory_mb(server.pid) for server in servers]
        swarms = [stack.enter_context(Swarm(server.port, _CLIENTS, *_FILTERS)) for server in servers]
        each = [1024 * (memory_mb(server.pid) - was) / _CLIENTS for server, was in zip(servers, before, strict=True)]
        for swarm in swarms:
            swarm.close()
        storms = _in_turns(lambda server: _storm(server), servers)
        before = [memory_mb(servers[0].pid)]
    with both(Bench(bench.directory / "websocket")) as (server, _):
        before = [memory_mb(server.pid)]
        with Swarm(int(server.url.rpartition(":")[2]), _CLIENTS, *_FILTERS, websocket=True):
            through_http = 1024 * (memory_mb(server.pid) - before[0]) / _CLIENTS
    return [
        Figure("bus: memory of an idle client, TCP, KB", each[0], 100, more_is_better=False,
               note=f"Mosquitto {each[1]:.1f}"),
        Figure("bus: memory of an idle client, WebSocket, KB", through_http, 100, more_is_better=False),
        Figure(f"bus: {_CLIENTS} clients come at once: s / Mosquitto's", storms[0] / storms[1], 1 / _FIFTH,
               more_is_better=False, note=f"{storms[0]:.2f} / {storms[1]:.2f} s until all are in and subscribed"),
    ]  # fmt: skip


def _storm(server: Server) -> float:
    with Swarm(server.port, _CLIENTS, *_FILTERS) as swarm:
        return swarm.seconds


def bus_day(bench: Bench) -> list[Figure]:
    """The messages of a day, as fast as they are taken: whether anything grows in its second half."""
    with both(bench) as servers:
        seconds, grown = [], []
        for server in servers:
            start = time.perf_counter()
            quarters = [_held(server) for _ in _quarters(server)]
            seconds.append(time.perf_counter() - start)
            grown.append([last - first for first, last in zip(quarters[1], quarters[-1], strict=True)])
    (memory, tasks, files), theirs = grown
    sent = _DAY // _HEARTBEAT * _ROOTS + _DAILY_CHANGES
    note = f"{sent:,} messages to {_FOLLOWERS} clients in {seconds[0]:.0f} / {seconds[1]:.0f} s"
    return [
        Figure("bus: a day: memory grown, MB", memory / 1024, 2, more_is_better=False,
               note=f"Mosquitto {theirs[0] / 1024:.1f}; {note}"),
        Figure("bus: a day: tasks more", tasks, 0, more_is_better=False),
        Figure("bus: a day: file descriptors more", files, 0, more_is_better=False, note=f"Mosquitto {theirs[2]}"),
    ]  # fmt: skip


def _held(server: Server) -> tuple[int, int, int]:
    """Memory in KB, tasks, file descriptors."""
    if server.watched is None:
        return round(1024 * memory_mb(server.pid)), 0, server.files
    census = server.watched.settled()
    return census.memory, census.tasks, census.files


def _quarters(server: Server) -> Iterator[None]:
    """Send a day: heartbeats of all roots, changes, and clients that come and vanish; a stop after each quarter."""
    beats = _DAY // _HEARTBEAT
    topic = Topics().change("root-000000")
    with Swarm(server.port, _FOLLOWERS, *_FILTERS[:2], qos=1, name="follower") as swarm:
        heart, change = Sender(server.port, "heart", b"", qos=1), Sender(server.port, topic, _PAYLOAD, qos=1)
        size = len(publish(*_announcement(0), qos=1))
        roots = [_announcement(number) for number in range(_ROOTS)]
        for beat in range(1, beats + 1):
            heart.publish(roots)
            swarm.collect(_ROOTS, size, qos=1)
            for _ in range(_DAILY_CHANGES // beats):
                change.send()
            change.settle()
            swarm.collect(_DAILY_CHANGES // beats, len(change.packet), qos=1)
            if beat % 2 == 0:
                Swarm(server.port, 1, "other/+", name=f"guest-{beat % 7}").close()
            if beat % (beats // 4) == 0:
                yield
        heart.close()
        change.close()


def bus_http(bench: Bench) -> list[Figure]:
    """The HTTP API of cat2bro while the bus carries 1,000 messages a second, and while it is idle."""
    with both(bench) as (ours, theirs):
        _announce(ours, _ROOTS)
        taken: dict[str, list[float]] = {"idle": [], "loaded": [], "beside": []}
        for _ in range(_ROUNDS):
            taken["idle"] += _asked(ours.url)
            for name, carrier in (("loaded", ours), ("beside", theirs)):
                with _traffic(carrier):
                    taken[name] += _asked(ours.url)
    p99 = {name: 1e3 * percentile(each, 0.99) for name, each in taken.items()}
    note = "; ".join(f"{name}: p50 {1e3 * statistics.median(taken[name]):.2f}, p99 {p99[name]:.2f} ms" for name in p99)
    return [
        Figure("bus: HTTP p99 with 1,000 messages/s / idle", p99["loaded"] / p99["idle"], 3, more_is_better=False,
               note=f"{note} (beside: Mosquitto carries them on the same processors)"),
    ]  # fmt: skip


def _asked(url: str) -> list[float]:
    connection, taken = Connection(url), []
    for _ in range(500):
        start = time.perf_counter()
        connection.drain("/api/roots")
        taken.append(time.perf_counter() - start)
        time.sleep(0.002)
    connection.close()
    return taken


@contextmanager
def _traffic(server: Server) -> Iterator[None]:
    argv = [sys.executable, "-m", "tests.benchmarks.traffic", str(server.port), "1000", "1"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.stdin.close()
        assert int(process.stdout.readline()) > 900, "the traffic did not reach its rate"


MEASURES = (bus_rate, bus_fan_out, bus_retained, bus_clients, bus_day, bus_http)
