"""The daemons, all that is done to them, and what they are judged by."""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import blosc2
import httpx
import numpy as np

from tests.benchmarks.measure import memory_mb, wait_for_root
from tests.fuzz.attacks import Attacker
from tests.fuzz.bodies import retained_topics
from tests.fuzz.hostile import Hostile
from tests.fuzz.requests import Asker, Place
from tests.fuzz.witness import PATIENCE, Witness
from tests.support.watched import Census, Watched
from tests.unit.bus.raw import RawClient, publish

_GOOD, _HOSTILE = "good", "hostile"
_CHUNKS = 20
_MORE_MEMORY = 24 << 10
"""KB that a daemon may hold more than after it was warm. What is not given back shows in minutes, not in this."""
_MORE_OBJECTS = 20_000
_MORE_FILES = 10
"""Connections kept for the next request, and mirrors of four datasets, which need not be there yet before."""
_MOST_MEMORY = 600
"""MB that a daemon may take at any time."""
_PACE = 0.02
"""Seconds between two attacks of one kind: it takes a third of a processor, since other tests run beside it."""
_SUBSCRIBER_PATHS = (
    "/api/roots", "/api/list/{}", "/api/info/{}/a.b2nd", "/api/fetch/{}/a.b2nd", "/api/chunk/{}/a.b2nd",
    "/api/download/{}/a.b2nd", "/api/subscribe/{}", "/api/verify/{}/a.b2nd", "/health", "/metrics",
)  # fmt: skip
_ENV = {"CATERVA2_BROKER_MAX_LOGINS": "1000000"}
"""All come from one address, so the attackers' failed logins would shut out the honest ones: that is what it is for."""
_WAITING = f"catching up with {_HOSTILE}"
"""After bad answers a subscriber waits for up to a minute until it asks again: that is no task left behind."""
_EXCUSED = "uvicorn.error: Invalid UTF-8 sequence"
"""uvicorn logs it as its own error when a client sends text in a WebSocket that is none, and ends the connection."""
_WORDS = re.compile(r"^Traceback| ERROR | CRITICAL |never (retrieved|awaited)")


class Siege:
    """Real daemons under attack.

    Args:
        directory: for all files.
        seed: of what is random.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self.complaints: list[str] = []
        self._rng = random.Random(seed)
        self._directory = directory
        self._stack = ExitStack()
        root = directory / "root"
        root.mkdir(exist_ok=True)
        self._values = np.arange(100 * _CHUNKS)
        blosc2.asarray(self._values, chunks=(100,), blocks=(50,), urlpath=str(root / "a.b2nd"), mode="w")
        (root / "b.txt").write_text("text\n" * 1000)
        options = ("--http", "localhost:0", "--loglevel", "warning")
        self._options = options
        self._root = root
        self.daemons: dict[str, Watched] = {}
        self._counts: Counter[str] = Counter()
        self._longest = 0.0
        self._mqtt = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            broker = self._start(stack, "cat2bro", "--mqtt", "localhost:0")
            more = ("--broker", broker)
            self._start(stack, "cat2pub", _GOOD, str(self._root), *more)
            self._start(stack, "cat2sub", *more)
            self._stack = stack.pop_all()
        wait_for_root(self.url("cat2sub"), _GOOD)
        (port,) = re.findall(r"mqtt://\w+:(\d+)", httpx.get(f"{self.url('cat2bro')}/api/bus").text)
        self._mqtt = int(port)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def url(self, name: str) -> str:
        """The HTTP address of a daemon."""
        return self.daemons[name].daemon.url

    def port(self, name: str) -> int:
        """The port of that address."""
        return int(self.url(name).rpartition(":")[2])

    async def run(self, seconds: float, refused: int) -> None:
        """Attack for so long, and judge."""
        attacker = Attacker(self._mqtt, self.port("cat2bro"), random.Random(self._rng.random()))
        hostile = Hostile(self.port("cat2pub"), random.Random(self._rng.random()))
        asker = Asker(random.Random(self._rng.random()))
        witness = Witness(self._mqtt)
        async with await asyncio.start_server(hostile.answer, "127.0.0.1", 0) as server:
            announced = self._announcement(server.sockets[0].getsockname()[1])
            works = self._works(attacker, asker, hostile, announced)
            for attack in dict.fromkeys(attacker.attacks):
                await attacker.do(attack)
            await self._attack(works, min(3.0, seconds / 4))
            before = await self._settled(attacker, hostile, {})
            seen = asyncio.create_task(witness.run())
            await asyncio.gather(self._attack(works, seconds), attacker.refused(refused))
            attacker.let_go()
            await witness.settle()
            seen.cancel()
            await asyncio.wait({seen})
            after = await self._settled(attacker, hostile, before)
            await self._serves(asker)
        self.complaints += attacker.complaints + asker.complaints + witness.complaints
        self._judge(before, after)
        self._counts = attacker.counts + asker.counts + Counter({f"hostile, {k}": n for k, n in hostile.counts.items()})
        self._counts["messages of the witness"] = witness.count
        self._longest = witness.longest

    def table(self) -> str:
        """What was done."""
        rows = [f"{what:42} {number:8}" for what, number in sorted(self._counts.items())]
        rows.append(f"{'longest way of a message of the witness':42} {self._longest:8.2f} s")
        for name, watched in self.daemons.items():
            rows.append(f"{f'most memory of {name}':42} {memory_mb(watched.daemon.pid, 'VmHWM'):8.0f} MB")
        return "\n".join(rows)

    def _start(self, stack: ExitStack, name: str, *options: str) -> str:
        self.daemons[name] = watched = Watched(
            name, *options, *self._options, cwd=self._directory, env=_ENV, uncounted=_WAITING
        )
        stack.enter_context(watched)
        return watched.daemon.url

    def _works(
        self, attacker: Attacker, asker: Asker, hostile: Hostile, announced: str
    ) -> list[Callable[[], Awaitable[Any]]]:
        """What is done again and again, all at once."""
        broker = Place("cat2bro", self.port("cat2bro"), ("/api/roots", "/api/bus", "/api/clients", "/mqtt", "/health"))
        publisher = Place(
            "cat2pub", self.port("cat2pub"),
            ("/api/list", "/api/catalog", "/api/changes", "/api/info/a.b2nd", "/api/skeleton/a.b2nd",
             "/api/download/a.b2nd", "/api/chunks/a.b2nd", "/metrics", "/health"),
        )  # fmt: skip
        subscriber = Place("cat2sub", self.port("cat2sub"), [each.format(_GOOD) for each in _SUBSCRIBER_PATHS])
        fooled = Place("cat2sub of hostile", subscriber.port, (), frozenset({502, 503}))
        etag = httpx.get(f"{self.url('cat2pub')}/api/info/a.b2nd").headers["etag"].strip('"')

        async def announce() -> None:
            client = await RawClient.join(attacker.port)
            hostile.epoch += 1
            announcement = (announced % hostile.epoch).encode()
            await client.send(publish(f"caterva2/root/{_HOSTILE}", announcement, qos=1, retain=True))
            await client.leave()
            await asyncio.sleep(self._rng.choice((0.02, 0.1, 0.5)))

        return [
            attacker.attack,
            attacker.attack,
            lambda: asker.ask(broker),
            lambda: asker.ask(publisher),
            lambda: asker.ask(subscriber),
            lambda: asker.ask_chunks(publisher, "a.b2nd", etag, _CHUNKS),
            lambda: self._be_fooled(asker, fooled),
            lambda: self._serves(asker),
            announce,
        ]

    async def _attack(self, works: list[Callable[[], Awaitable[Any]]], seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds

        async def again(work: Callable[[], Awaitable[Any]]) -> None:
            while asyncio.get_running_loop().time() < end and all(
                each.daemon.running for each in self.daemons.values()
            ):
                await work()
                await asyncio.sleep(_PACE)

        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(again(work))
        for name, watched in self.daemons.items():
            if not watched.daemon.running:
                raise RuntimeError(f"{name} has ended with {watched.daemon.wait()}:\n{watched.daemon.output[-5000:]}")

    async def _be_fooled(self, asker: Asker, place: Place) -> None:
        """Let the subscriber ask the hostile publisher."""
        start = self._rng.randrange(100 * _CHUNKS)
        targets = (
            ("POST", f"/api/subscribe/{_HOSTILE}"),
            ("GET", f"/api/list/{_HOSTILE}"),
            ("GET", f"/api/info/{_HOSTILE}/a.b2nd"),
            ("GET", f"/api/fetch/{_HOSTILE}/a.b2nd?slice_={start}:{start + self._rng.randrange(1, 300)}"),
            ("GET", f"/api/fetch/{_HOSTILE}/a.b2nd"),
            ("GET", f"/api/fetch/{_HOSTILE}/b.txt"),
            ("GET", f"/api/download/{_HOSTILE}/a.b2nd"),
            ("GET", f"/api/chunk/{_HOSTILE}/a.b2nd?nchunk={self._rng.randrange(_CHUNKS)}"),
        )
        method, target = self._rng.choice(targets)
        await asker.get(place, target, method=method)

    async def _serves(self, asker: Asker) -> None:
        """The honest root is served beside it, and its values are right."""
        place = Place("cat2sub of good", self.port("cat2sub"), ())
        start = self._rng.randrange(100 * _CHUNKS - 50)
        status, body = await asker.get(place, f"/api/fetch/{_GOOD}/a.b2nd?slice_={start}:{start + 50}")
        values = blosc2.ndarray_from_cframe(body)[:] if status == 200 else None
        if values is None or not np.array_equal(values, self._values[start : start + 50]):
            self.complaints.append(f"the honest root: {status}, {body[:200]!r}")
        await asyncio.sleep(0.05)

    def _announcement(self, port: int) -> str:
        """What the hostile publisher says of itself, but for the number of its epoch."""
        catalog = httpx.get(f"{self.url('cat2pub')}/api/catalog").json()
        return json.dumps(
            {"name": _HOSTILE, "http": f"http://127.0.0.1:{port}", "status": "online", "epoch": "e%d",
             "seq": catalog["seq"], "instance": "hostile", "birth": 1, "heartbeat": 3600.0, "kind": "directory",
             "time": 1.7e9, "version": "1"}
        )  # fmt: skip

    async def _settled(self, attacker: Attacker, hostile: Hostile, before: dict[str, Census]) -> dict[str, Census]:
        """Take back what was retained, wait until the daemons rest, and count them out."""
        share, hostile.share = hostile.share, 0.0
        client = await RawClient.join(attacker.port)
        for number, topic in enumerate(retained_topics(), 1):
            await client.send(publish(topic, b"", qos=1, retain=True, packet_id=number))
        await client.leave()
        await asyncio.sleep(2)
        counted = {
            name: await asyncio.to_thread(watched.settled, before.get(name), PATIENCE, _MORE_FILES)
            for name, watched in self.daemons.items()
        }
        hostile.share = share
        return counted

    def _judge(self, before: dict[str, Census], after: dict[str, Census]) -> None:
        for name, watched in self.daemons.items():
            daemon, was, now = watched.daemon, before[name], after[name]
            lines = daemon.output.splitlines()
            if bad := [line for line in lines if _WORDS.search(line) and _EXCUSED not in line]:
                self.complaints.append(f"{name} logged {len(bad)} errors: {bad[:3]}\n{daemon.output[-3000:]}")
            for what, most in (
                ("tasks", 0),
                ("files", _MORE_FILES),
                ("objects", _MORE_OBJECTS),
                ("memory", _MORE_MEMORY),
            ):
                if getattr(now, what) - getattr(was, what) > most:
                    self.complaints.append(f"{name} holds more {what}: {was}, then {now}")
            if (most := memory_mb(daemon.pid, "VmHWM")) > _MOST_MEMORY:
                self.complaints.append(f"{name} took {most:.0f} MB")
