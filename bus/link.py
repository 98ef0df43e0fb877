"""One MQTT connection: a paho client that is driven by the running event loop, without a thread.

paho does the protocol; three things around it are ours. It connects blockingly, so it is given a
socket that is connected already, and only the handshakes of TLS and WebSocket run in a thread for
as long as they take. It closes at once after DISCONNECT, which can make the kernel send a reset
that overtakes it (then the broker publishes the will of a client that left politely); a duplicate
of the socket, the *guard*, keeps the connection open until the broker has closed it. The guard also
ends a handshake that is cancelled.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from bus.errors import BusUnavailableError
from bus.reasons import BAD_ANSWER, CLOSED, LEFT, Cause, Trouble, refused, silent, why
from bus.url import BusUrl

logger = logging.getLogger(__name__)

_PARTING: Final = 1.0
"""Seconds that a broker gets to take our DISCONNECT."""

OnMessage: TypeAlias = Callable[[str, bytes], None]
_Waiters: TypeAlias = dict[int, "asyncio.Future[bool]"]


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained if so told, should the connection be lost."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How to connect, whatever the address; explained at `bus.client.BusClient`."""

    keepalive: int
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None
    connect_timeout: float
    ack_timeout: float


class _Client(mqtt.Client):
    """A paho client that uses the socket it is given, and remembers why that failed."""

    ready_socket: socket.socket
    """Ours to close; paho drops what it could not bring through a handshake."""

    trouble: Trouble | None = None
    """Why the socket failed; paho's own callback says "Unspecified error" of whatever it was."""

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            data = super()._sock_recv(bufsize)
        except OSError as error:
            self._note(error)
            raise
        if not data:
            self.trouble = self.trouble or CLOSED
        return data

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            return super()._sock_send(buf)
        except OSError as error:
            self._note(error)
            raise

    def _note(self, error: OSError) -> None:
        if not isinstance(error, BlockingIOError) and self.trouble is None:
            self.trouble = why(error)

    def _create_socket_connection(self) -> socket.socket:
        return self.ready_socket

    def _create_unix_socket_connection(self) -> socket.socket:
        return self.ready_socket

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self._ssl_context is not None  # we set it
        wrapped = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self.host, do_handshake_on_connect=False)
        self.ready_socket = wrapped
        wrapped.settimeout(self.connect_timeout)
        wrapped.do_handshake()
        return wrapped


class Link:
    """A connection to one broker; opened once, closed once."""

    def __init__(
        self, url: BusUrl, client_id: str, options: LinkOptions, will: Will | None, on_message: OnMessage
    ) -> None:
        self.lost: asyncio.Future[Trouble] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when the connection has ended."""
        self._url = url
        self._options = options
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._welcome: asyncio.Future[None] = self._loop.create_future()
        self._waiters: _Waiters = {}
        self._guard: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._client = _make_client(url, client_id, options, will)

    async def open(self) -> None:
        """Connect, and return when the broker has let us in; else BusUnavailableError."""
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                sock = await _connect_socket(self._url)
                self._client.ready_socket = sock
                self._guard = sock.dup()
                await self._start_client()
                self._attach()
                await self._or_lost(self._welcome)
        except TimeoutError as error:
            raise BusUnavailableError("no answer in time", self._url.text) from error
        except (OSError, ValueError) as error:
            raise self._failed(self._as_seen_from_here(why(error))) from error

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Return when the broker has acknowledged; else BusUnavailableError."""
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        await self._acknowledged(info.rc, info.mid)

    async def subscribe(self, filters: Iterable[str]) -> None:
        """Return when the broker has acknowledged; a refusal too is a BusUnavailableError."""
        rc, mid = self._client.subscribe([(each, 1) for each in filters])
        if not await self._acknowledged(rc, mid):
            raise self._failed(Trouble(f"subscription to {', '.join(filters)} was refused", Cause.REFUSED))

    async def unsubscribe(self, filters: Iterable[str]) -> None:
        """Return when the broker has acknowledged; else BusUnavailableError."""
        rc, mid = self._client.unsubscribe(list(filters))
        await self._acknowledged(rc, mid)

    async def close(self) -> None:
        """Take leave of the broker if it is there; in any case leave nothing open."""
        try:
            if not self.lost.done() and self._welcome.done():
                self._client.disconnect()
                await asyncio.wait({self.lost}, timeout=_PARTING)
                await self._await_end()
        finally:
            self._abort(LEFT)

    # Connecting

    async def _start_client(self) -> None:
        host = self._url.host or "localhost"
        port = self._url.port or 1
        if not (self._url.tls or self._url.websocket):
            self._client.connect(host, port, self._options.keepalive)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="bus-handshake") as pool:
            handshake = self._loop.run_in_executor(pool, self._client.connect, host, port, self._options.keepalive)
            try:
                await asyncio.shield(handshake)
            except asyncio.CancelledError:
                self._cut()  # the handshake fails at once, and with it the thread ends
                await asyncio.wait({handshake})
                handshake.exception()
                raise

    def _attach(self) -> None:
        client, loop = self._client, self._loop
        sock = client.socket()
        if sock is None:
            self._client.trouble = self._client.trouble or CLOSED
            raise self._failed(self._trouble("lost"))
        fd = sock.fileno()
        client.on_socket_close = lambda *_: self._detach(fd)
        client.on_socket_register_write = lambda *_: loop.add_writer(fd, client.loop_write)
        client.on_socket_unregister_write = lambda *_: _ignore(loop.remove_writer(fd))
        loop.add_reader(fd, self._readable)
        if client.want_write():
            loop.add_writer(fd, client.loop_write)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_paho_message
        client.on_publish = lambda _c, _u, mid, *_: self._resolve(mid, accepted=True)
        client.on_unsubscribe = lambda _c, _u, mid, *_: self._resolve(mid, accepted=True)
        client.on_subscribe = self._on_subscribe
        self._tick()

    def _detach(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)

    # Driving paho

    def _readable(self) -> None:
        try:
            self._client.loop_read()
            # What TLS has decrypted already does not make the socket readable again.
            while (sock := self._client.socket()) is not None and _pending(sock):
                self._client.loop_read()
        except Exception as error:  # a callback of the loop has no caller that could handle it
            logger.exception("cannot read from %s", self._url.text)
            self._abort(Trouble(f"{type(error).__name__}: {error}"))

    def _tick(self) -> None:
        self._client.loop_misc()
        if not self.lost.done():
            self._timer = self._loop.call_later(min(1.0, max(1, self._options.keepalive) / 4), self._tick)

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            self._end(refused(str(reason)))
        elif not self._welcome.done():
            self._welcome.set_result(None)

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        self._end(self._trouble(reason.getName()))

    def _trouble(self, paho_says: str) -> Trouble:
        match paho_says:
            case "Success":
                return LEFT
            case "Keep alive timeout":
                return silent(self._options.keepalive)
        return self._as_seen_from_here(self._client.trouble or BAD_ANSWER)

    def _as_seen_from_here(self, found: Trouble) -> Trouble:
        if self._welcome.done() or found.cause is not Cause.CLOSED:
            return found
        # Who closes instead of welcoming us expected something else, and has no words for it.
        cause = Cause.OUR_CERTIFICATE if self._url.tls else Cause.NO_TLS
        return Trouble(f"{found.reason} before it let us in", cause)

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, reasons: Any, _p: Any) -> None:
        self._resolve(mid, accepted=not any(reason.is_failure for reason in reasons))

    def _on_paho_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            logger.warning("dropped: topic is not UTF-8")
            return
        self._on_message(topic, bytes(message.payload))

    # Waiting for the broker

    async def _acknowledged(self, rc: int, mid: int | None) -> bool:
        if self.lost.done():
            raise self._failed(self.lost.result())
        if rc != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise BusUnavailableError("connection lost", self._url.text)
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiters[mid] = waiter
        try:
            async with asyncio.timeout(self._options.ack_timeout):
                await self._or_lost(waiter)
        except TimeoutError as error:
            raise BusUnavailableError("no acknowledgement in time", self._url.text) from error
        finally:
            self._waiters.pop(mid, None)
        return waiter.result()

    async def _or_lost(self, waiter: "asyncio.Future[Any]") -> None:
        await asyncio.wait({waiter, self.lost}, return_when=asyncio.FIRST_COMPLETED)
        if not waiter.done():
            raise self._failed(self.lost.result())

    def _failed(self, trouble: Trouble) -> BusUnavailableError:
        return BusUnavailableError(trouble.reason, self._url.text, trouble.cause)

    def _resolve(self, mid: int, *, accepted: bool) -> None:
        waiter = self._waiters.get(mid)
        if waiter is not None and not waiter.done():
            waiter.set_result(accepted)

    # Ending

    def _end(self, trouble: Trouble) -> None:
        if not self.lost.done():
            self.lost.set_result(trouble)
        if self._timer is not None:
            self._timer.cancel()

    def _abort(self, trouble: Trouble) -> None:
        self._end(trouble)
        if (sock := self._client.socket()) is not None:
            self._detach(sock.fileno())
            sock.close()
        self._cut()
        if self._guard is not None:
            self._guard.close()
            self._client.ready_socket.close()

    def _cut(self) -> None:
        if self._guard is not None:
            with contextlib.suppress(OSError):
                self._guard.shutdown(socket.SHUT_RDWR)

    async def _await_end(self) -> None:
        """Read on until the broker has closed, having taken our DISCONNECT."""
        guard = self._guard
        if guard is None:
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PARTING):
                guard.setblocking(False)
                guard.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(guard, 65536):
                    pass


def _make_client(url: BusUrl, client_id: str, options: LinkOptions, will: Will | None) -> _Client:
    client = _Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=True,
        protocol=mqtt.MQTTv311,
        transport="websockets" if url.websocket else "unix" if url.unix else "tcp",
        reconnect_on_failure=False,
    )
    client.connect_timeout = options.connect_timeout
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
    if options.username is not None:
        client.username_pw_set(options.username, options.password)
    if url.tls:
        client.tls_set_context(options.tls or ssl.create_default_context())
    if url.websocket:
        client.ws_set_options(path=url.path, headers=lambda headers: _ws_headers(url, headers))
    return client


def _ws_headers(url: BusUrl, headers: dict[str, str]) -> dict[str, str]:
    """The headers of paho, without the Origin that only browsers should send, and IPv6 in brackets."""
    kept = {name: value for name, value in headers.items() if name != "Origin"}
    return kept | {"Host": url.netloc}


async def _connect_socket(url: BusUrl) -> socket.socket:
    """A connected, non-blocking socket; the addresses of a name are tried in turn."""
    if url.unix:
        return await _try_connect(socket.AF_UNIX, url.path)
    errors: list[str] = []
    for family, address in await _resolve(url.host, url.port):
        try:
            sock = await _try_connect(family, address)
        except OSError as error:
            errors.append(why(error).reason)
        else:
            # Small packets that wait for an answer; Nagle's algorithm would hold them back.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise ConnectionError("; ".join(dict.fromkeys(errors)) or "host has no address")


async def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    with contextlib.suppress(ValueError):
        # A number needs no look-up, and so no thread.
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        return [(family, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _type, _proto, _name, address in found]


async def _try_connect(family: socket.AddressFamily, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _pending(sock: Any) -> int:
    return sock.pending() if hasattr(sock, "pending") else 0


def _ignore(_: object) -> None:
    """A callback that returns nothing, for one that returns something."""
