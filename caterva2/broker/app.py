"""The broker as an app: building opens nothing, the lifespan opens everything."""

from __future__ import annotations

import logging
import re
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette

from bus.broker import EmbeddedBroker
from bus.client import BusClient
from bus.messages import Message, ServiceStatus, encode, topic_of
from bus.topics import Topics
from caterva2.address import Address
from caterva2.broker.follower import REGISTRY_FILE, Follower
from caterva2.broker.registry import Registry, Saved
from caterva2.broker.routes import State, routes
from caterva2.daemon.arguments import package_version
from caterva2.daemon.bus import bus_client
from caterva2.daemon.http import error_handlers
from caterva2.daemon.statedir import StateDir
from caterva2.daemon.supervisor import Supervisor
from caterva2.settings import BrokerSettings

logger = logging.getLogger(__name__)


def create_app(settings: BrokerSettings, address: Address) -> Starlette:
    """Make the broker's app.

    Args:
        settings: its settings.
        address: where it listens for HTTP, with the real port.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, State]]:
        topics = Topics(settings.bus.prefix)
        identity = _Identity(settings, address)
        async with AsyncExitStack() as stack:
            state = stack.enter_context(StateDir(settings.statedir))
            saved = state.read_json(REGISTRY_FILE, Saved)
            registry = Registry(saved)
            embedded = None if settings.bus.url else await _embed(stack, settings, registry, topics)
            bus = await stack.enter_async_context(_bus_client(settings, embedded, identity))
            await bus.subscribe(topics.all_roots, topics.all_services)
            follower = Follower(registry, bus, state, identity.status)
            stack.push_async_callback(follower.leave)
            tasks = await stack.enter_async_context(Supervisor.of(app))
            tasks.start(follower.follow(), "follow the bus")
            tasks.start(follower.save(), "save the registry")
            tasks.start(follower.watch(topics, _retained(embedded)), "watch presence")
            yield {"broker": State(settings, address, identity.id, identity.instance, registry, bus, embedded)}

    return Starlette(
        routes=routes(embedded=not settings.bus.url), lifespan=lifespan, exception_handlers=error_handlers()
    )


class _Identity:
    """Who we are on the bus."""

    def __init__(self, settings: BrokerSettings, address: Address) -> None:
        self.id = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).lstrip(".") or "broker"
        self.instance = secrets.token_hex(8)
        self._user = settings.bus.username if settings.bus.url else ""
        self._http = settings.urlbase or ("" if address.socket else address.url)

    def status(self, birth: int, online: bool) -> ServiceStatus:  # noqa: FBT001 - a plain callback
        """Our status, in the connection of this number."""
        return ServiceStatus(
            kind="broker",
            id=self.id,
            status="online" if online else "offline",
            http=self._http,
            instance=self.instance,
            birth=birth,
            time=time.time(),
            version=package_version(),
            user=self._user,
        )


async def _embed(stack: AsyncExitStack, settings: BrokerSettings, registry: Registry, topics: Topics) -> EmbeddedBroker:
    saved = registry.saved()
    messages: tuple[Message, ...] = (*saved.roots, *saved.services)
    retained = {topic_of(topics, message): encode(message) for message in messages}
    listener = settings.mqtt
    tcp = (_host(listener), listener.port) if listener is not None else None
    embedded = await stack.enter_async_context(EmbeddedBroker(tcp=tcp, retained=retained))
    if embedded.tcp_error is not None:
        logger.warning(
            "MQTT tools cannot be served on %s: %s; all else works; to have it, free the port or choose another"
            " with --mqtt or [broker] mqtt",
            *(listener, embedded.tcp_error.strerror),
        )
    elif listener is not None:
        logger.info("MQTT tools are served on %s", listener.with_port(embedded.tcp_port or 0))
    return embedded


def _retained(embedded: EmbeddedBroker | None) -> Callable[[], Collection[str]] | None:
    return None if embedded is None else lambda: embedded.retained.keys()


def _host(listener: Address) -> str:
    return f"[{listener.host}]" if ":" in listener.host else listener.host


def _bus_client(settings: BrokerSettings, embedded: EmbeddedBroker | None, identity: _Identity) -> BusClient:
    url = settings.bus.url if embedded is None else embedded.local_url

    async def urls() -> Sequence[str]:
        return (url,)

    return bus_client(settings.bus, urls, client_id="cat2bro", will=lambda birth: identity.status(birth, online=False))
