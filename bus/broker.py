"""The broker inside a daemon: amqtt's lifecycle, our listeners and connections.

amqtt 0.12.1 is pinned, since private names of it are overridden. What happens inside a connection
is in `bus.connection`, with the list of defects that it answers. The tests that prove the defects
also run against plain amqtt as strict expected failures, and against Mosquitto: the day amqtt is
fixed they tell, and the override goes.
"""

import asyncio
import contextlib
import logging
import resource
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import amqtt.broker
from starlette.websockets import WebSocket

from bus.access import Access, Member, OpenAccess
from bus.clients import FULL, Clients
from bus.limits import Limits
from bus.listeners import Listener, SocketStream, listen, listen_privately
from bus.packets import Publish
from bus.router import RetainedMessages, Router
from bus.store import RetainedStore
from bus.system import tell_system
from bus.traffic import BrokerStatistics, ClientInfo
from bus.websocket import accept

logger = logging.getLogger(__name__)

_MAX_SOCKET_PATH: Final = 100
_SPARE_FILES: Final = 100
"""File descriptors that are left to the rest of the process."""


class EmbeddedBroker:
    """An MQTT 3.1.1 broker in this process, running while it is entered.

    Args:
        listeners: where to listen for MQTT over TCP. When an address cannot be had, `errors` says
            why, and the broker goes on without it.
        access: who may come in and do what; everybody everything when None.
        store: where retained messages are kept; in memory only when None.
        limits: what a client may ask for.
        restore: what becomes of the payload of a topic that was saved in an earlier life; called in a
            thread. Whoever was there then will not say that it has gone meanwhile.
        retained: topic and payload of messages to retain if the store knows of none.
        sys_interval: seconds between two words on `$SYS` topics; 0 is never.
    """

    def __init__(
        self,
        *,
        listeners: Sequence[Listener] = (),
        access: Access | None = None,
        store: RetainedStore | None = None,
        limits: Limits | None = None,
        restore: Callable[[str, bytes], bytes] | None = None,
        retained: Mapping[str, bytes] | None = None,
        sys_interval: float = 0,
    ) -> None:
        self._listeners = tuple(listeners)
        self._access = access or OpenAccess()
        self._store = store
        self._limits = limits or Limits()
        self._restore = restore
        self._given = retained or {}
        self._sys_interval = sys_interval
        self._router = Router(self._access, self._limits, store)
        self._broker: _Broker | None = None
        self._resources = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "EmbeddedBroker":
        _quieten()
        async with contextlib.AsyncExitStack() as resources:
            clients = Clients(self._router, self._access, _possible(self._limits))
            await self._open_store(resources, clients)
            # A directory that only this user may enter makes its socket private.
            directory = resources.enter_context(_socket_directory())
            broker = _Broker(self._listeners, clients, Path(directory, "mqtt"))
            await broker.start()
            resources.push_async_callback(broker.shutdown)
            _accompany(resources, clients.sample())
            if self._sys_interval:
                _accompany(resources, tell_system(self._router.publish, clients.statistics, self._sys_interval))
            self._broker = broker
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._resources.aclose()

    @property
    def ports(self) -> tuple[int | None, ...]:
        """The port of each listener; None for one that could not be had."""
        servers = self._running.servers
        return tuple(None if isinstance(each, OSError) else each.sockets[0].getsockname()[1] for each in servers)

    @property
    def errors(self) -> tuple[OSError | None, ...]:
        """Why a listener could not be had; None for those that are there."""
        return tuple(each if isinstance(each, OSError) else None for each in self._running.servers)

    @property
    def local_url(self) -> str:
        """Where this process joins its own broker: private, always there, asked nothing."""
        return f"unix://{self._running.socket}"

    @property
    def clients(self) -> int:
        """How many clients are connected, members in this process included."""
        return len(self._running.clients.present)

    @property
    def statistics(self) -> BrokerStatistics:
        """A snapshot."""
        return self._running.clients.statistics()

    @property
    def retained(self) -> Mapping[str, bytes]:
        """What is retained, in the order of publication; also after the end."""
        return RetainedMessages(self._router)

    def members(self) -> list[ClientInfo]:
        """Who is there, and what they do; not our own process."""
        return self._running.clients.infos()

    def cut(self, predicate: Callable[[Member], bool], reason: str) -> int:
        """End the connections of members, e.g. of a user who was removed; how many they were."""
        return self._running.clients.cut(predicate, reason)

    async def websocket(self, websocket: WebSocket) -> None:
        """An endpoint for a Starlette WebSocketRoute."""
        clients = self._running.clients
        if clients.full:
            clients.refuse(websocket.client.host if websocket.client else "the WebSocket")
            await websocket.close()  # before accept: the client sees 403
        elif (stream := await accept(websocket)) is not None:
            await clients.serve_until_gone(stream)

    @property
    def _running(self) -> "_Broker":
        if self._broker is None:
            msg = "the broker has not been entered"
            raise RuntimeError(msg)
        return self._broker

    async def _open_store(self, resources: contextlib.AsyncExitStack, clients: Clients) -> None:
        messages: list[Publish] = []
        if self._store is not None:
            saved = partial(_in_loop, asyncio.get_running_loop(), clients.set_saved)
            messages = await asyncio.to_thread(_open, self._store, saved, self._restore)
            resources.push_async_callback(asyncio.to_thread, self._store.close)
        self._router.load(messages)
        if not messages:
            for topic, payload in self._given.items():
                self._router.publish(Publish(topic, payload, qos=1, retain=True))


class _Broker(amqtt.broker.Broker):  # type: ignore[misc]  # amqtt is not followed by mypy
    """amqtt's broker with our listeners, which bring its clients to ours."""

    def __init__(self, listeners: Sequence[Listener], clients: Clients, socket: Path) -> None:
        super().__init__({"listeners": {"default": {"type": "tcp", "bind": None}}, "plugins": {}})
        self.clients = clients
        self.socket = socket
        self.servers: list[asyncio.Server | OSError] = []
        self._listeners = listeners

    async def _start_listeners(self) -> None:
        """Listen in private too; a busy port is no failure (amqtt: it is), a queue longer than 100 (B15)."""
        self._add("local", await listen_privately(self.socket, self._connected))
        for number, listener in enumerate(self._listeners):
            try:
                server = await listen(listener, self._connected)
            except OSError as error:
                self.servers.append(error)
            else:
                self.servers.append(server)
                self._add(str(number), server)

    def _add(self, name: str, server: asyncio.Server) -> None:
        self._servers[name] = amqtt.broker.Server(name, server)

    def _connected(self, stream: SocketStream) -> None:
        """One too many is refused, and never waits (B12)."""
        if self.clients.full and not (stream.trusted and not self.clients.closing):
            self.clients.refuse(stream.peer)
            stream.refuse(FULL)
        else:
            self.clients.serve(stream)

    async def shutdown(self) -> None:
        """Take leave of the clients before amqtt ends."""
        for server in self._servers.values():
            server.instance.close()
        await self.clients.close()
        await super().shutdown()


def _open(
    store: RetainedStore, saved: Callable[[int], None], restore: Callable[[str, bytes], bytes] | None
) -> list[Publish]:
    messages = store.open(saved)
    if restore is None:
        return messages
    return [replace(each, payload=restore(each.topic, each.payload)) for each in messages]


def _accompany(resources: contextlib.AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run something beside the broker, and end it first."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait({task})

    resources.push_async_callback(end)


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[int], None], number: int) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
        loop.call_soon_threadsafe(call, number)


def _possible(limits: Limits) -> Limits:
    """The limits, with no more connections than this process may have files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    logger.warning(
        "only %d connections are possible: raise the limit of open files (LimitNOFILE=)", soft - _SPARE_FILES
    )
    return replace(limits, connections=max(1, soft - _SPARE_FILES))


def _socket_directory() -> tempfile.TemporaryDirectory[str]:
    # The kernel takes only about a hundred bytes for the path of a socket.
    short = len(tempfile.gettempdir()) < _MAX_SOCKET_PATH - len("/cat2-12345678/mqtt")
    return tempfile.TemporaryDirectory(prefix="cat2-", dir=None if short else "/tmp")  # noqa: S108


def _quieten() -> None:
    """These log every packet and state change, and every port scan as an error with a traceback."""
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.WARNING)
