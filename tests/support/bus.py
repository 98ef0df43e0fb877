"""The message bus that tests run on: what is ours, or Debian's Mosquitto if CATERVA2_TEST_BUS=mosquitto says so.

Ours is the broker inside cat2bro for tests of whole daemons, and a double in memory for those that need a hand on the
bus. With Mosquitto it is a process of its own in both cases, which goes down and comes back where theirs does.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from bus.broker import EmbeddedBroker
from bus.client import Backoff, BusClient
from bus.listeners import Listener
from bus.memory import MemoryBroker, MemoryBus
from bus.messages import Message
from bus.topics import Topics
from caterva2.settings import BusSettings
from tests.support.mosquitto import PASSWORDS, Mosquitto, login

VARIABLE = "CATERVA2_TEST_BUS"
Member: TypeAlias = BusClient | MemoryBus
_USERS = {"cat2bro": "cat2bro", "cat2pub": "foo", "cat2sub": "cat2sub"}


def on_mosquitto() -> bool:
    """Whether the tests shall run on Mosquitto."""
    chosen = os.environ.get(VARIABLE, "own")
    assert chosen in ("own", "mosquitto"), f"{VARIABLE}={chosen}: is own or mosquitto"
    return chosen == "mosquitto"


about_own_broker = pytest.mark.skipif(on_mosquitto(), reason="is about cat2bro's own broker")


def settings_of(daemon: str, root: str = "foo", url: str = "") -> BusSettings:
    """The `[bus]` section with which `cat2bro`, `cat2pub` or `cat2sub` joins the bus of the tests."""
    if not on_mosquitto():
        return BusSettings()
    user = _USERS[daemon]
    return BusSettings(url=url, username=root if user == "foo" else user, password=PASSWORDS[user])


def variables_of(daemon: str, root: str = "foo", url: str = "") -> Mapping[str, str]:
    """The same as variables of the environment."""
    settings = settings_of(daemon, root, url)
    values = {"URL": settings.url, "USERNAME": settings.username, "PASSWORD": settings.password}
    return {f"CATERVA2_BUS_{key}": value for key, value in values.items() if value}


def tool_login() -> list[str]:
    """The options with which `mosquitto_pub` and `mosquitto_sub` may do everything on the bus of the tests."""
    return login("admin") if on_mosquitto() else []


class OwnBroker(MemoryBroker):
    """The double in memory, which notes what is published."""

    def __init__(self, note: Callable[[Message], None] | None = None) -> None:
        super().__init__()
        self._note = note

    def member(self, topics: Topics | None = None, **options: Any) -> MemoryBus:
        """Make a member, to be entered."""
        return _NotedMember(self._note, self, topics=topics, **options)


class _NotedMember(MemoryBus):
    def __init__(self, note: Callable[[Message], None] | None, broker: MemoryBroker, **options: Any) -> None:
        super().__init__(broker, **options)
        self._note = note

    async def publish(self, message: Message) -> None:
        await super().publish(message)
        if self._note is not None:
            self._note(message)


class MosquittoBroker:
    """Mosquitto in the double's place.

    Args:
        directory: for its files.
        note: called with what its members publish.
    """

    def __init__(self, directory: Path, note: Callable[[Message], None] | None = None) -> None:
        # What is retained outlives an outage, as it does in memory.
        lines = ["allow_anonymous true", "persistence true", f"persistence_location {directory}/"]
        self._process = Mosquitto(directory, lines=[*lines, "autosave_on_changes true", "autosave_interval 1"])
        self._process.start()
        self._note = note

    @property
    def is_up(self) -> bool:
        """Whether there is no outage."""
        return self._process.running

    def down(self) -> None:
        """Cut off every member, until `up`; there is time for no last will."""
        self._process.kill()

    def up(self) -> None:
        """Let every member come in again."""
        self._process.start()

    def close(self) -> None:
        """End it."""
        self._process.close()

    def member(self, topics: Topics | None = None, **options: Any) -> BusClient:
        """Make a member, to be entered."""

        async def urls() -> list[str]:
            return [self._process.url]

        backoff = Backoff(first=0.02, last=0.1)
        return _NotedClient(self._note, urls, topics=topics or Topics(), client_id="test", backoff=backoff, **options)


class _NotedClient(BusClient):
    def __init__(self, note: Callable[[Message], None] | None, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._published = note

    async def publish(self, message: Message) -> None:
        await super().publish(message)
        if self._published is not None:
            self._published(message)


Broker: TypeAlias = OwnBroker | MosquittoBroker


@contextmanager
def broker_of_tests(directory: Path, note: Callable[[Message], None] | None = None) -> Iterator[Broker]:
    """Give a broker whose weather the test makes."""
    if not on_mosquitto():
        yield OwnBroker(note)
        return
    broker = MosquittoBroker(directory, note)
    try:
        yield broker
    finally:
        broker.close()


@asynccontextmanager
async def real_broker(directory: Path, port: int = 0) -> AsyncIterator[str]:
    """Give the address of a broker that anybody may join over TCP: the one of cat2bro, or Mosquitto."""
    if on_mosquitto():
        with Mosquitto(directory, port) as mosquitto:
            yield mosquitto.url
        return
    async with EmbeddedBroker(listeners=[Listener("127.0.0.1", port)]) as broker:
        yield f"mqtt://127.0.0.1:{broker.ports[0]}"
