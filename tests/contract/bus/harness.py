"""The transports under contract: each can open members, fail, come back, and be abused."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from bus.broker import EmbeddedBroker
from bus.client import Backoff, BusClient
from bus.interface import Bus, Event
from bus.listeners import Listener
from bus.memory import MemoryBroker, MemoryBus
from bus.messages import Message
from bus.store import RetainedStore
from bus.topics import Topics
from tests.support.programs import free_port
from tests.unit.bus.raw import DEADLINE, RawClient, publish

E = TypeVar("E")


async def take(bus: Bus, kind: type[E]) -> E:
    """The next event of this kind; others before it are passed over."""
    async with asyncio.timeout(DEADLINE):
        async for event in bus.messages():
            if isinstance(event, kind):
                return event
    raise AssertionError("the bus has ended")


async def next_event(bus: Bus) -> Event:
    """The next event, whatever it is."""
    async with asyncio.timeout(DEADLINE):
        return await anext(bus.messages())


class Harness(ABC):
    """One transport with one broker, which is up at first."""

    topics = Topics()

    @abstractmethod
    def bus(self, *, will: Callable[[int], Message] | None = None, birth: int = 0) -> AbstractAsyncContextManager[Bus]:
        """A member."""

    @abstractmethod
    async def stop(self) -> None:
        """Take the broker down."""

    @abstractmethod
    async def start(self) -> None:
        """Bring the broker back."""

    @abstractmethod
    async def publish_raw(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish anything."""

    def clean_up(self) -> None:  # noqa: B027  # most leave nothing
        """Remove what the broker left on the disk."""

    @abstractmethod
    async def lose(self, bus: Bus) -> None:
        """Cut the connection of a member."""


class MemoryHarness(Harness):
    def __init__(self) -> None:
        self.broker = MemoryBroker()

    def bus(self, *, will: Callable[[int], Message] | None = None, birth: int = 0) -> AbstractAsyncContextManager[Bus]:
        return MemoryBus(self.broker, topics=self.topics, will=will, birth=birth)

    async def stop(self) -> None:
        self.broker.down()

    async def start(self) -> None:
        self.broker.up()

    async def publish_raw(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.broker.inject(topic, payload, retain=retain)

    async def lose(self, bus: Bus) -> None:
        assert isinstance(bus, MemoryBus)
        self.broker.drop(bus)


class NetworkHarness(Harness):
    """What all MQTT brokers have in common."""

    def __init__(self) -> None:
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def bus(self, *, will: Callable[[int], Message] | None = None, birth: int = 0) -> AbstractAsyncContextManager[Bus]:
        async def urls() -> list[str]:
            return [self.url]

        backoff = Backoff(first=0.01, last=0.1)
        return BusClient(urls, topics=self.topics, client_id="contract", will=will, birth=birth, backoff=backoff)

    async def publish_raw(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        client = await RawClient.join(self.port)
        await client.send(publish(topic, payload, qos=1, retain=retain))
        await client.received_until_pong()
        await client.leave()

    async def lose(self, bus: Bus) -> None:
        assert isinstance(bus, BusClient)
        assert bus._link is not None
        bus._link._cut()


class EmbeddedHarness(NetworkHarness):
    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(prefix="cat2-embedded-")
        self._resources = contextlib.AsyncExitStack()

    async def start(self) -> None:
        store = RetainedStore(Path(self._directory.name, "retained.sqlite"))
        broker = EmbeddedBroker(listeners=[Listener("127.0.0.1", self.port)], store=store)
        self.broker = await self._resources.enter_async_context(broker)
        assert (None,) == self.broker.errors

    async def stop(self) -> None:
        await self._resources.aclose()

    def clean_up(self) -> None:
        self._directory.cleanup()


class WebSocketHarness(EmbeddedHarness):
    def __init__(self) -> None:
        super().__init__()
        self._http_port = free_port()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._http_port}/mqtt"

    async def start(self) -> None:
        await super().start()
        await self._resources.enter_async_context(serve_http(self.broker, self._http_port))


@asynccontextmanager
async def serve_http(broker: EmbeddedBroker, port: int = 0) -> AsyncIterator[int]:
    """A real uvicorn in this loop with the broker's WebSocket at /mqtt; its port."""
    app = Starlette(routes=[WebSocketRoute("/mqtt", broker.websocket)])
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, ws="websockets-sansio", lifespan="off", log_level="warning"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as listener:
        # A socket that listens already needs no waiting until the server has started.
        serving = asyncio.create_task(server._serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await asyncio.wait_for(serving, DEADLINE)


class MosquittoHarness(NetworkHarness):
    def __init__(self) -> None:
        super().__init__()
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            absent = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            absent("mosquitto is not installed")
        self._program = program
        self._directory = tempfile.TemporaryDirectory(prefix="cat2-mosquitto-")
        self._process: subprocess.Popen[bytes] | None = None
        self._config = Path(self._directory.name, "mosquitto.conf")
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {self._directory.name}/\nlog_dest none\n"
            + ("user root\n" if os.geteuid() == 0 else "")
        )

    async def start(self) -> None:
        self._process = subprocess.Popen([self._program, "-c", self._config])  # noqa: ASYNC220  # no pipes
        await until(lambda: _listening(self.port))

    async def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait, DEADLINE)
            self._process = None

    def clean_up(self) -> None:
        self._directory.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that nothing can signal to us."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # another process' doing
            await asyncio.sleep(0.01)


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


TRANSPORTS: dict[str, type[Harness]] = {
    "memory": MemoryHarness,
    "tcp": EmbeddedHarness,
    "websocket": WebSocketHarness,
    "mosquitto": MosquittoHarness,
}

Scenario = Callable[[Harness], Awaitable[None]]


def run(transport: type[Harness], scenario: Scenario) -> None:
    """Play a scenario from a broker that is up to one that is down, and see that nothing is left."""
    harness = transport()

    async def play() -> None:
        await harness.start()
        try:
            await scenario(harness)
        finally:
            await harness.stop()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert set() == left

    # Tests of other modules, in the same process, may have left some of theirs.
    before = set(threading.enumerate())
    try:
        asyncio.run(play())
    finally:
        harness.clean_up()
    assert [] == [each for each in set(threading.enumerate()) - before if not each.daemon]
