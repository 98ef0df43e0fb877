"""A publisher and a subscriber, the real apps on real files and HTTP, on a bus whose weather the test makes."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette

from bus.messages import Changes, Message, encode
from bus.topics import Topics
from caterva2.address import Address
from caterva2.publisher.app import create_app as create_publisher
from caterva2.settings import PublisherSettings, SubscriberSettings
from caterva2.subscriber.app import create_app as create_subscriber
from tests.coherence.weather import Weather, weathered
from tests.integration.chain.daemons import ANY_PORT, ROOT, Daemon
from tests.support.bus import Broker, Member, broker_of_tests
from tests.support.waiting import wait_until

SETTLE, HEARTBEAT, MAX_STALENESS = 0.05, 0.5, 0.2


class World:
    """One root, its publisher, and a subscriber.

    Args:
        portal: to the loop in which they run.
        directory: for all files.
        cache_size: of the subscriber, in bytes; None is no limit.
        settings: of the publisher, where they shall be others.

    Attributes:
        changes: the paths of all changes that were published.
        payloads: the sizes of the messages that told them, in bytes.
    """

    def __init__(self, portal: BlockingPortal, directory: Path, cache_size: int | None = None, **settings: Any) -> None:
        self.directory = directory
        self.root = directory / ROOT
        self.root.mkdir(parents=True)
        self.weather = Weather()
        self.changes: list[str] = []
        self.payloads: list[int] = []
        self.broker: Broker
        self._resources = ExitStack()
        self._portal = portal
        self._publisher_settings = {"settle": SETTLE, "heartbeat": HEARTBEAT} | settings
        self.publisher = self.another_publisher(self.root, "pub")
        subscriber = SubscriberSettings(http=ANY_PORT, statedir=directory / "sub", max_staleness=MAX_STALENESS)
        # Far less than the least that a user can set, so that little data drives some of itself out.
        subscriber = subscriber.model_copy(update={"cache_size": cache_size})
        self.subscriber = Daemon(portal, self._create_subscriber, subscriber)
        self.http = httpx.Client(timeout=30, trust_env=False)

    def another_publisher(self, root: Path, state: str) -> Daemon:
        """Make a publisher of the same name for another directory."""
        settings = PublisherSettings(
            name=ROOT, http=ANY_PORT, root=root, statedir=self.directory / state, **self._publisher_settings
        )
        return Daemon(self._portal, self._create_publisher, settings)

    def _create_publisher(self, settings: PublisherSettings, address: Address) -> Starlette:
        def join(_settings: Any, will: Any, birth: int) -> Member:
            return self.broker.member(Topics(settings.bus.prefix), will=will, birth=birth)

        return create_publisher(settings, address, join_bus=join)

    def _create_subscriber(self, settings: SubscriberSettings, address: Address) -> Starlette:
        return create_subscriber(settings, address, join_bus=weathered(self.broker, self.weather))

    def _note(self, message: Message) -> None:
        if isinstance(message, Changes):
            self.changes += [change.path for change in message.changes]
            self.payloads.append(len(encode(message)))

    def start(self) -> None:
        """Start both, and follow the root."""
        self.broker = self._resources.enter_context(broker_of_tests(self.directory / "mosquitto", self._note))
        self.publisher.start()
        self.subscriber.start()
        wait_until(lambda: ROOT in self.get("roots").json(), "the root at the subscriber")
        self.http.post(f"{self.subscriber.url}/api/subscribe/{ROOT}").raise_for_status()

    def stop(self) -> None:
        """Stop both."""
        self.http.close()
        self.subscriber.stop()
        self.publisher.stop()
        self._resources.close()

    def get(self, path: str, **params: Any) -> httpx.Response:
        """`GET` a path below `/api/` of the subscriber."""
        return self.http.get(f"{self.subscriber.url}/api/{path}", params=params or None)

    def bus_down(self) -> None:
        """Begin an outage of the broker."""
        self._portal.call(self.broker.down)

    def bus_up(self) -> None:
        """End it."""
        if not self.broker.is_up:
            self._portal.call(self.broker.up)

    def kill_publisher(self) -> None:
        """Have the publisher go without a word: no farewell, no last will."""
        up = self.broker.is_up
        self.bus_down()
        self.publisher.stop()
        if up:
            self.bus_up()

    def copy_state(self, source: str, target: str) -> None:
        """Copy a state directory over another one; the daemon must be stopped."""
        self.wipe(target)
        shutil.copytree(self.directory / source, self.directory / target)

    def wipe(self, state: str) -> None:
        """Remove a state directory."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.directory / state)


@contextmanager
def running_world(directory: Path, cache_size: int | None = None, **settings: Any) -> Iterator[World]:
    """Give a world that runs; at the end it is stopped."""
    with start_blocking_portal(backend_options={"use_uvloop": True}) as portal:
        world = World(portal, directory, cache_size, **settings)
        try:
            world.start()
            yield world
        finally:
            world.stop()
