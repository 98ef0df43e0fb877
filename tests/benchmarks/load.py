"""Clients that cost little themselves, so that what is measured is the server."""

import asyncio
import http.client
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit


class Connection:
    """One kept-alive connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)

    def get(self, path: str) -> bytes:
        """Answer's body."""
        return b"".join(self._pieces(path))

    def drain(self, path: str) -> int:
        """Read an answer without keeping it; its length in bytes."""
        return sum(map(len, self._pieces(path)))

    def _pieces(self, path: str):  # type: ignore[no-untyped-def]
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {response.read()[:200]!r}")
        while piece := response.read(1 << 20):
            yield piece

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def alternate(first: Callable[[], object], second: Callable[[], object], rounds: int, each: int) -> tuple[float, float]:
    """Time two calls in turns, so that both meet the same noise; the medians, in seconds."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, kept in zip((first, second), times, strict=True):
            for _ in range(each):
                start = time.perf_counter()
                call()
                kept.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def rate(url: str, paths: Sequence[str], clients: int, seconds: float) -> float:
    """Requests a second that clients get who ask at once, each on its own connection, for one path after the other."""
    return asyncio.run(_rate(url, paths, clients, seconds))


async def _rate(url: str, paths: Sequence[str], clients: int, seconds: float) -> float:
    parts = urlsplit(url)
    requests = itertools.cycle([f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths])
    end = time.perf_counter() + seconds

    async def client() -> int:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        count = 0
        while time.perf_counter() < end:
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            count += 1
        writer.close()
        return count

    start = time.perf_counter()
    counts = await asyncio.gather(*(client() for _ in range(clients)))
    return sum(counts) / (time.perf_counter() - start)


def longest_gap(url: str, stop: Callable[[], bool]) -> list[float]:
    """Ask `/health` again and again until `stop`; the seconds that each answer took."""
    connection, taken = Connection(url), []
    while not stop():
        start = time.perf_counter()
        connection.drain("/health")
        taken.append(time.perf_counter() - start)
        time.sleep(0.001)
    connection.close()
    return taken


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
