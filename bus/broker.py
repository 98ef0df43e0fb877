"""The broker inside a daemon: amqtt's lifecycle, listeners and plugins, our connections.

amqtt 0.12.1 is pinned, since private names of it are overridden. Each override names the defect
that it answers; what happens inside a connection is in `bus.connection`, with its own list. The
tests that prove the defects also run against plain amqtt as strict expected failures: the day
amqtt is fixed they tell, and the override goes.
"""

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import amqtt.broker
from amqtt.contexts import Action, ListenerType
from amqtt.session import Session
from starlette.websockets import WebSocket

from bus.connection import Connection, Limits, Stream
from bus.packets import Connect
from bus.router import Router
from bus.websocket import accept

logger = logging.getLogger(__name__)

_ANONYMOUS: Final = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
_BACKLOG: Final = 1024
_PARTING: Final = 3.0
_MAX_SOCKET_PATH: Final = 100


@dataclass(frozen=True, slots=True)
class BrokerStatistics:
    """What goes on in a broker."""

    clients: int
    subscriptions: int
    retained: int
    connections: int
    """How many clients have ever come in."""


class EmbeddedBroker:
    """An MQTT 3.1.1 broker in this process, running while it is entered.

    Args:
        tcp: host and port (0 = any) to listen on for MQTT tools; None for no such listener. When
            it cannot be had, `tcp_error` says why and the broker goes on without it.
        retained: topic and payload of messages retained earlier, from `retained`.
        plugins: amqtt's plugins and their configuration; anonymous clients when None.
        limits: what a client may ask for.
    """

    def __init__(
        self,
        *,
        tcp: tuple[str, int] | None = None,
        retained: Mapping[str, bytes] | None = None,
        plugins: Mapping[str, Mapping[str, Any]] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._tcp = tcp
        self._router = Router(retained or {})
        self._plugins = plugins
        self._limits = limits or Limits()
        self._broker: _Broker | None = None
        self._resources = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "EmbeddedBroker":
        _quieten()
        async with contextlib.AsyncExitStack() as resources:
            # A directory that only this user may enter makes its socket private.
            directory = resources.enter_context(_socket_directory())
            broker = _Broker(self._config(), self._router, self._limits, Path(directory, "mqtt"))
            await broker.start()
            resources.push_async_callback(broker.shutdown)
            self._broker = broker
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._resources.aclose()

    @property
    def tcp_port(self) -> int | None:
        """The TCP port really listened on; None if there is none."""
        server = self._running.tcp_server
        return server.sockets[0].getsockname()[1] if server is not None else None

    @property
    def tcp_error(self) -> OSError | None:
        """Why there is no TCP listener, although one was asked for."""
        return self._running.tcp_error

    @property
    def local_url(self) -> str:
        """Where this process joins its own broker: private, always there, no password."""
        return f"unix://{self._running.socket}"

    @property
    def clients(self) -> int:
        """How many clients are connected, members in this process included."""
        return len(self._running.clients)

    @property
    def statistics(self) -> BrokerStatistics:
        """A snapshot."""
        broker, router = self._running, self._router
        return BrokerStatistics(len(broker.clients), router.nsubscriptions, router.nretained, broker.total_clients)

    @property
    def retained(self) -> dict[str, bytes]:
        """What is retained, to be given to the next broker; also after this one has ended."""
        return {message.topic: message.payload for message in self._router.retained()}

    async def websocket(self, websocket: WebSocket) -> None:
        """An endpoint for a Starlette WebSocketRoute."""
        stream = await accept(websocket)
        if stream is not None:
            await self._running.serve(stream)

    @property
    def _running(self) -> "_Broker":
        if self._broker is None:
            msg = "the broker has not been entered"
            raise RuntimeError(msg)
        return self._broker

    def _config(self) -> dict[str, Any]:
        host, port = self._tcp or ("", 0)
        return {
            "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}" if self._tcp else None}},
            "plugins": {name: dict(config) for name, config in (self._plugins or _ANONYMOUS).items()},
        }


class _Broker(amqtt.broker.Broker):  # type: ignore[misc]  # amqtt is not followed by mypy
    """amqtt's broker with our connections; the `Hub` of them."""

    def __init__(self, config: dict[str, Any], router: Router, limits: Limits, socket: Path) -> None:
        super().__init__(config)
        self.router = router
        self.socket = socket
        self.tcp_server: asyncio.Server | None = None
        self.tcp_error: OSError | None = None
        self.clients: dict[str, Connection] = {}
        self.total_clients = 0
        self._limits = limits
        self._served: dict[Connection, asyncio.Task[None]] = {}
        self._closing = False

    # Listeners

    async def _start_listeners(self) -> None:
        """Also listen on the private socket; a busy TCP port is no failure (amqtt: it is)."""
        local = await asyncio.start_unix_server(partial(self.stream_connected, listener_name="local"), self.socket)
        self._servers["local"] = amqtt.broker.Server("local", local)
        try:
            await super()._start_listeners()
        except OSError as error:
            self.tcp_error = error

    async def _create_server_instance(
        self, listener_name: str, listener_type: ListenerType, address: str | None, port: int, ssl_context: Any
    ) -> asyncio.Server:
        """Longer backlog (amqtt: 200 clients at once wait for a second), IPv6 (amqtt: brackets stay)."""
        self.tcp_server = await asyncio.start_server(
            partial(self.stream_connected, listener_name=listener_name),
            (address or "").strip("[]") or None,
            port,
            backlog=_BACKLOG,
            ssl=ssl_context,
        )
        return self.tcp_server

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Replaces amqtt's handling of a connection by ours, see `bus.connection`."""
        await self.serve(_SocketStream(reader, writer, trusted=listener_name == "local"))

    async def serve(self, stream: Stream) -> None:
        """Serve one client until it is gone."""
        if self._closing:
            await stream.close()
            return
        connection = Connection(stream, self, self._limits)
        task = asyncio.create_task(connection.run(), name=f"mqtt {stream.peer}")
        self._served[connection] = task
        try:
            await asyncio.shield(task)
        finally:
            connection.end("no longer served")
            await asyncio.wait({task})
            del self._served[connection]

    async def shutdown(self) -> None:
        """Take leave of the clients first, wills included (amqtt: wills are not sent at shutdown)."""
        self._closing = True
        for server in self._servers.values():
            server.instance.close()
        for connection in tuple(self._served):
            connection.publish_will()  # all of them, while those who may want to hear them are there
        tasks = set(self._served.values())
        for connection in tuple(self._served):
            connection.end("broker is shutting down")
        if tasks:
            await asyncio.wait(tasks, timeout=_PARTING)
        await super().shutdown()

    # Hub

    async def authenticate(self, connect: Connect, stream: Stream) -> bool:
        """Ask amqtt's plugins, before anything of an existing client is touched (B3)."""
        if stream.trusted:
            return True
        try:
            return bool(await self._authenticate(_session(connect), self.listeners_config["default"]))
        except Exception:
            logger.exception("authentication of %r at %s failed", connect.client_id, stream.peer)
            return False

    async def permits(self, connection: Connection, topic: str, action: Literal["publish", "subscribe"]) -> bool:
        """Ask amqtt's topic plugins, for wills too (B7)."""
        if connection.stream.trusted or connection.connect is None or not self.plugins_manager._topic_plugins:
            return True
        session = _session(connection.connect)
        return bool(await self._topic_filtering(session, topic, Action(action)))

    def admit(self, connection: Connection) -> None:
        """Let a client in; an earlier one of the same name goes, its will first (B4)."""
        if (old := self.clients.get(connection.client_id)) is not None:
            old.leave()
            old.end("taken over", flush=False)
        self.clients[connection.client_id] = connection
        self.total_clients += 1

    def dismiss(self, connection: Connection) -> None:
        """Forget a client, but not the one that took its name over."""
        if self.clients.get(connection.client_id) is connection:
            del self.clients[connection.client_id]


class _SocketStream:
    """An asyncio stream as `bus.connection.Stream`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, trusted: bool) -> None:
        self._reader = reader
        self._writer = writer
        self.trusted = trusted
        name = writer.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if name else "local"

    async def read(self, n: int) -> bytes:
        return await self._reader.readexactly(n)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Close; a peer that reset or does not read is no reason for a traceback or a wait (amqtt: is)."""
        self._writer.close()
        try:
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()
        except TimeoutError:
            self._writer.transport.abort()
        except OSError as error:
            logger.debug("closing %s: %s", self.peer, error)


def _session(connect: Connect) -> Session:
    """What amqtt's plugins want to know of a client."""
    session = Session()
    session.client_id = connect.client_id
    session.clean_session = connect.clean
    session.username = connect.username
    session.password = connect.password.decode(errors="replace") if connect.password is not None else None
    return session


def _socket_directory() -> tempfile.TemporaryDirectory[str]:
    # The kernel takes only about a hundred bytes for the path of a socket.
    short = len(tempfile.gettempdir()) < _MAX_SOCKET_PATH - len("/cat2-12345678/mqtt")
    return tempfile.TemporaryDirectory(prefix="cat2-", dir=None if short else "/tmp")  # noqa: S108


def _quieten() -> None:
    """These log every packet and state change, and every port scan as an error with a traceback."""
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.WARNING)
