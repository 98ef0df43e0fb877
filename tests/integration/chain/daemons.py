"""The whole chain in one process: broker, publisher and subscriber, in an event loop of their own thread.

The clients are synchronous, so tests are too; `Chain.call` runs something in the daemons' loop.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import argon2
import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from caterva2.address import Address
from caterva2.broker.app import create_app as create_broker
from caterva2.client import Client
from caterva2.daemon.runner import serving
from caterva2.publisher.app import create_app as create_publisher
from caterva2.settings import BrokerSettings, PublisherSettings, SubscriberSettings
from caterva2.subscriber.app import create_app as create_subscriber
from caterva2.subscriber.users import FILE, UserStore
from tests.support.bus import on_mosquitto, settings_of
from tests.support.mosquitto import DeployedMosquitto
from tests.support.waiting import wait_until

T = TypeVar("T")
ANY_PORT = Address("localhost", 0)
ROOT = "foo"
PASSWORD = "foobar11"
_SAMPLE = re.compile(r"^(?P<name>caterva2_\S+) (?P<value>\S+)$", re.MULTILINE)


class Daemon:
    """One of the daemons; it can be stopped, and started again at the same address.

    Args:
        portal: to the loop that it runs in.
        create_app: makes its app.
        settings: its settings; other ones can be set while it does not run.
    """

    def __init__(self, portal: BlockingPortal, create_app: Callable[[Any, Address], Starlette], settings: Any) -> None:
        self.settings = settings
        self.requests: list[str] = []
        self.url = ""
        self._portal = portal
        self._create_app = create_app
        self._running: AbstractContextManager[str] | None = None

    def start(self) -> str:
        """Start it, and return the base of its URLs."""
        running = self._portal.wrap_async_context_manager(serving(self._create, self.settings))
        self.url = running.__enter__()
        self._running = running
        return self.url

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._running is not None

    def stop(self) -> None:
        """Stop it, if it runs."""
        running, self._running = self._running, None
        if running is not None:
            running.__exit__(None, None, None)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def asked(self, start: str) -> list[str]:
        """The requests that it got so far, such as `"POST /api/chunks/..."`, that start with a text."""
        return [request for request in self.requests if request.startswith(start)]

    def _create(self, settings: Any, address: Address) -> Starlette:
        # The same address again after a restart.
        self.settings = settings.model_copy(update={"http": address})
        app = self._create_app(settings, address)
        app.add_middleware(_Recorder, requests=self.requests)
        return app


class _Broker(Daemon):
    """cat2bro with the bus, which goes and comes with it: that is inside of it, or Mosquitto."""

    def __init__(
        self, portal: BlockingPortal, create_app: Callable[[Any, Address], Starlette], settings: Any, directory: Path
    ) -> None:
        super().__init__(portal, create_app, settings)
        self._mosquitto = DeployedMosquitto(directory, root=ROOT) if on_mosquitto() else None
        if self._mosquitto is not None:
            bus = settings_of("cat2bro", url=self._mosquitto.url)
            self.settings = settings.model_copy(update={"bus": bus})

    def start(self) -> str:
        """Start both."""
        if self._mosquitto is not None:
            self._mosquitto.start()
        return super().start()

    def stop(self) -> None:
        """Stop both."""
        super().stop()
        if self._mosquitto is not None and self._mosquitto.running:
            self._mosquitto.stop()


class _Recorder:
    """ASGI middleware that notes which requests come."""

    def __init__(self, app: ASGIApp, requests: list[str]) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._requests.append(f"{scope['method']} {scope['path']}")
        await self._app(scope, receive, send)


class Chain:
    """A broker, a publisher of the root `foo`, and a subscriber; none of them is started yet.

    Args:
        portal: to the loop that they run in.
        directory: for all their files; the root is the directory `foo` in it.
        ca: the file of the authority that clients believe, for daemons that speak TLS.
        settings: more settings, for those of the daemons that know them.
    """

    def __init__(self, portal: BlockingPortal, directory: Path, *, ca: Path | None = None, **settings: Any) -> None:
        self.directory = directory
        self.ca = ca
        self.root = directory / ROOT
        self.root.mkdir(exist_ok=True)
        self.broker = _Broker(portal, create_broker, _broker(directory, settings), directory / "mosquitto")
        self.publisher = Daemon(portal, create_publisher, _publisher(directory, settings))
        self.subscriber = Daemon(portal, create_subscriber, _subscriber(directory, settings))
        self._portal = portal
        self._client: Client | None = None
        self._http: httpx.Client | None = None

    def start(self) -> None:
        """Start all three, and wait until the subscriber knows the root."""
        broker = self.broker.start()
        self.tell_broker(broker)
        self.publisher.start()
        self.subscriber.start()
        self.wait_for_root()

    def tell_broker(self, url: str) -> None:
        """Set the broker's address for the publisher and the subscriber."""
        for daemon in (self.publisher, self.subscriber):
            daemon.settings = daemon.settings.model_copy(update={"broker": url})

    def wait_for_root(self) -> None:
        """Wait until the subscriber knows the root, and that it is online."""
        wait_until(lambda: self.client.get_roots()[ROOT]["status"] == "online", "the root at the subscriber")

    def stop(self) -> None:
        """Stop whatever runs."""
        for client in (self._client, self._http):
            if client is not None:
                client.close()
        for daemon in (self.subscriber, self.publisher, self.broker):
            daemon.stop()

    @property
    def client(self) -> Client:
        """The Python client."""
        if self._client is None:
            self._client = Client(self.subscriber.url, ca=self.ca)
        return self._client

    @property
    def http(self) -> httpx.Client:
        """A plain HTTP client of the subscriber."""
        if self._http is None:
            self._http = httpx.Client(base_url=self.subscriber.url, timeout=30, trust_env=False)
        return self._http

    def get(self, path: str, **params: Any) -> httpx.Response:
        """`GET` a path below `/api/` of the subscriber."""
        return self.http.get(f"/api/{path}", params=params or None)

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an async function in the daemons' loop."""
        return self._portal.call(function, *args)

    def metric(self, name: str) -> float:
        """The sum of the publisher's counters whose names start with a text."""
        text = self.http.get(f"{self.publisher.url}/metrics").text
        return sum(float(match["value"]) for match in _SAMPLE.finditer(text) if match["name"].startswith(name))

    def assert_well(self) -> None:
        """Assert that all daemons answer and that a good read is right, by a dataset made for this."""
        good = self.root / "good.txt"
        if not good.exists():
            good.write_bytes(b"still well")

        for daemon in (self.broker, self.publisher, self.subscriber):
            assert self.http.get(f"{daemon.url}/health").status_code == 200
        assert self.client.fetch(f"{ROOT}/good.txt") == b"still well"


def add_users(chain: Chain, *mails: str, superusers: Sequence[str] = ()) -> None:
    """Add users to a running subscriber; their password is PASSWORD, and is checked in a millisecond."""
    quick = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with UserStore(chain.subscriber.settings.statedir / FILE) as store:
        for mail in (*mails, *superusers):
            store.add(mail, quick, superuser=mail in superusers)


@contextmanager
def open_chain(directory: Path, **settings: Any) -> Iterator[Chain]:
    """Give a chain that is not started; at the end it is stopped.

    Args:
        directory: for all its files.
        settings: more settings of the daemons, such as `max_staleness`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with start_blocking_portal(backend_options={"use_uvloop": True}) as portal:
        chain = Chain(portal, directory, **settings)
        try:
            yield chain
        finally:
            chain.stop()


@contextmanager
def running_chain(directory: Path, **settings: Any) -> Iterator[Chain]:
    """Give a chain that runs; as `open_chain`."""
    with open_chain(directory, **settings) as chain:
        chain.start()
        yield chain


def _broker(directory: Path, settings: dict[str, Any]) -> BrokerSettings:
    return BrokerSettings(**_known(BrokerSettings, settings, http=ANY_PORT, mqtt=ANY_PORT, statedir=directory / "bro"))


def _publisher(directory: Path, settings: dict[str, Any]) -> PublisherSettings:
    defaults = {"root": directory / ROOT, "statedir": directory / "pub", "settle": 0.02, "bus": settings_of("cat2pub")}
    return PublisherSettings(**_known(PublisherSettings, settings, name=ROOT, http=ANY_PORT, **defaults))


def _subscriber(directory: Path, settings: dict[str, Any]) -> SubscriberSettings:
    defaults = {"statedir": directory / "sub", "bus": settings_of("cat2sub")}
    # A publisher has a setting of this name too, which is a text.
    own = {key: value for key, value in settings.items() if key != "access" or not isinstance(value, str)}
    return SubscriberSettings(**_known(SubscriberSettings, own, http=ANY_PORT, **defaults))


def _known(model: Any, settings: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    return defaults | {key: value for key, value in settings.items() if key in model.model_fields}
