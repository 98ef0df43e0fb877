"""Many clients at once, impatient and slow ones, and how long the event loop stands still for them."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import blosc2
import httpx
import numpy as np
import pytest

from tests.integration.chain.daemons import Chain, running_chain
from tests.support.waiting import wait_until

MIB = 1 << 20
CLIENTS = 16
VALUES = np.random.default_rng(1).integers(0, 1000, (2048, 4096), "i4")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain for the whole module."""
    with running_chain(tmp_path_factory.mktemp("concurrency")) as chain:
        chain.client.get("foo")
        yield chain


def write(chain: Chain, name: str) -> None:
    """Write the array of 32 MiB, in 16 chunks of 2 MiB, into the root, and wait until the subscriber knows it."""
    part = chain.root / ".part"
    cparams = blosc2.CParams(nthreads=1, clevel=1)
    blosc2.asarray(VALUES, chunks=(128, 4096), blocks=(8, 4096), urlpath=str(part), mode="w", cparams=cparams)
    part.replace(chain.root / name)
    wait_until(lambda: name in chain.client.get_list("foo"), f"the announcement of {name}")


def at_once(count: int, call: Callable[[], Any]) -> list[Any]:
    """Call from many threads at the same moment; return what each got."""
    barrier = threading.Barrier(count)

    def wait_and_call() -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(wait_and_call) for _ in range(count)]]


def fetch(chain: Chain, name: str, text: str) -> httpx.Response:
    """Fetch a slice over a connection of one's own."""
    return httpx.get(
        f"{chain.subscriber.url}/api/fetch/foo/{name}", params={"slice_": text}, timeout=60, trust_env=False
    )


def decoded(answer: httpx.Response) -> Any:
    """The array in an answer."""
    assert answer.status_code == 200, answer.text
    return blosc2.ndarray_from_cframe(answer.content)[...]


def test_one_request_for_many_clients_that_want_the_same(chain: Chain) -> None:
    """Clients that want the same cold chunks wait for one question to the publisher."""
    write(chain, "cold.b2nd")
    answers = at_once(CLIENTS, lambda: fetch(chain, "cold.b2nd", "100:900, ::5"))

    for answer in answers:
        np.testing.assert_array_equal(decoded(answer), VALUES[100:900, ::5])
    assert 1 == len(chain.publisher.asked("POST /api/chunks/cold.b2nd"))
    assert 1 == len(chain.publisher.asked("GET /api/skeleton/cold.b2nd"))


def test_chunks_that_overlap_are_asked_for_once(chain: Chain) -> None:
    """Clients that want different but overlapping slices cause each chunk to be sent once."""
    write(chain, "overlap.b2nd")
    before = chain.metric("caterva2_chunks_total")
    starts = iter(range(0, 128 * CLIENTS, 128))
    lock = threading.Lock()

    def read() -> tuple[int, httpx.Response]:
        with lock:
            start = next(starts)
        return start, fetch(chain, "overlap.b2nd", f"{start}:{start + 384}")

    for start, answer in at_once(CLIENTS, read):
        np.testing.assert_array_equal(decoded(answer), VALUES[start : start + 384])
    assert 16 == chain.metric("caterva2_chunks_total") - before


def hang_up(chain: Chain, path: str) -> None:
    """Ask for something and leave before the answer, or in the middle of it."""
    parts = urlsplit(chain.subscriber.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def test_clients_that_hang_up_harm_no_others(chain: Chain) -> None:
    """Who leaves in the middle of a cold read does not take the chunks from those who wait for them too."""
    write(chain, "left.b2nd")
    pool = ThreadPoolExecutor(2 * CLIENTS)
    waiting = [pool.submit(fetch, chain, "left.b2nd", "::7") for _ in range(4)]
    leaving = [pool.submit(hang_up, chain, "/api/fetch/foo/left.b2nd?slice_=::7") for _ in range(CLIENTS)]
    leaving += [pool.submit(hang_up, chain, "/api/download/foo/left.b2nd") for _ in range(CLIENTS)]

    for future in waiting:
        np.testing.assert_array_equal(decoded(future.result()), VALUES[::7])
    for future in leaving:
        future.result()
    pool.shutdown()
    np.testing.assert_array_equal(decoded(fetch(chain, "left.b2nd", "5")), VALUES[5])
    chain.assert_well()


def test_a_first_client_that_hangs_up_leaves_its_chunks(chain: Chain) -> None:
    """Chunks that were asked for by a client that has gone are kept."""
    write(chain, "kept.b2nd")
    hang_up(chain, "/api/fetch/foo/kept.b2nd?slice_=::9")
    wait_until(lambda: chain.publisher.asked("POST /api/chunks/kept.b2nd"), "the request to the publisher")

    np.testing.assert_array_equal(decoded(fetch(chain, "kept.b2nd", "::9")), VALUES[::9])
    assert 1 == len(chain.publisher.asked("POST /api/chunks/kept.b2nd"))


def test_a_slow_client_does_not_block_others(chain: Chain) -> None:
    """While a client takes nothing of a large answer, others get theirs."""
    (chain.root / "slow.bin").write_bytes(np.random.default_rng(2).bytes(48 * MIB))
    write(chain, "quick.b2nd")
    parts = urlsplit(chain.subscriber.url)
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            slow = stack.enter_context(socket.create_connection((parts.hostname or "", parts.port or 0)))
            slow.sendall(b"GET /api/download/foo/slow.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            assert slow.recv(1000)

        np.testing.assert_array_equal(decoded(fetch(chain, "quick.b2nd", "3:2000:3")), VALUES[3:2000:3])
    chain.assert_well()


def test_a_publisher_that_stalls_does_not_block_what_is_here(chain: Chain) -> None:
    """While cold chunks are under way, warm reads are answered."""
    write(chain, "warm.b2nd")
    np.testing.assert_array_equal(decoded(fetch(chain, "warm.b2nd", "7")), VALUES[7])
    write(chain, "under-way.b2nd")
    with ThreadPoolExecutor(4) as pool:
        cold = [pool.submit(fetch, chain, "under-way.b2nd", f"{n}:1900:5") for n in range(4)]
        np.testing.assert_array_equal(decoded(fetch(chain, "warm.b2nd", "7")), VALUES[7])

    for n, future in enumerate(cold):
        np.testing.assert_array_equal(decoded(future.result()), VALUES[n:1900:5])


# -- the event loop ---------------------------------------------------------------------------------------


@dataclass
class Heartbeat:
    """A task in the daemons' loop that notes the longest time for which the loop did not come back to it."""

    longest: float = 0.0
    _task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._beat(), name="heartbeat")

    async def stop(self) -> None:
        """End."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _beat(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - before - 0.001)


@pytest.mark.parametrize(
    "text",
    ["", "0:1280", "100:1300, 3:4000", ":, 17", "::7, ::3", "::-1", "5, 5"],
    ids=["whole", "whole chunks", "unaligned", "column", "steps", "backwards", "item"],
)
def test_the_event_loop_goes_on(chain: Chain, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Reads of every form leave the event loop time for others; the longest stall is printed, not judged."""
    name = f"stall-{abs(hash(text))}.b2nd"
    write(chain, name)
    for state in ("cold", "warm"):
        heartbeat = Heartbeat()
        chain.call(heartbeat.start)
        try:
            answers = [fetch(chain, name, text) for _ in range(3 if state == "warm" else 1)]
        finally:
            chain.call(heartbeat.stop)
        with capsys.disabled():
            print(f"  [{state} {text or 'all'}: longest stall {1000 * heartbeat.longest:.1f} ms]", end="")  # noqa: T201

        assert {200} == {answer.status_code for answer in answers}
