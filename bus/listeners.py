"""Where the embedded broker listens for MQTT over TCP, plain or with TLS, and the streams of its clients.

A listener counts a connection before anything is spent on it; also before the handshake of TLS,
which is the most expensive part of it.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bus.access import on_this_machine
from bus.tls import Tls

logger = logging.getLogger(__name__)

_BACKLOG: Final = 1024
"""Connections that wait to be accepted; with asyncio's 100, some of 200 wait for a second (B15)."""

_BUFFER: Final = 64 * 1024
"""Bytes read ahead of a client that sends faster than we work."""

PARTING: Final = 0.5
"""Seconds that a client gets to take what was written last."""


@dataclass(frozen=True, slots=True)
class Listener:
    """An address to listen on for MQTT."""

    host: str
    """Name or number; empty for all."""
    port: int
    """0 for any."""
    tls: ssl.SSLContext | None = None
    """A server's context for ``mqtts://``; its `verify_mode` says whether clients show certificates."""


class SocketStream(asyncio.Protocol):
    """A connection as `bus.stream.Stream`; the handshake of TLS is a part of the first read.

    Args:
        connected: called with this stream once it is there.
        tls: of the listener.
        trusted: whether this is the private listener of our own process.
    """

    def __init__(
        self, connected: Callable[["SocketStream"], None], tls: ssl.SSLContext | None = None, *, trusted: bool = False
    ) -> None:
        self.trusted = trusted
        self.peer = self.host = ""
        self.local = False
        self._connected = connected
        self._tls = Tls(tls) if tls is not None else None
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._buffer = bytearray()
        self._paused = False
        self._ended: BaseException | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._lost = self._loop.create_future()

    # What `bus.connection` asks for

    async def read(self, n: int) -> bytes:
        """Exactly `n` bytes; EOFError or OSError when there will be no more."""
        while len(self._buffer) < n:
            if self._tls is not None and self._decrypt(self._tls, n):
                break
            if self._ended is not None:
                raise self._ended
            if self._paused and not self._transport.is_closing():
                self._paused = False
                self._transport.resume_reading()
            self._readable = self._loop.create_future()
            await self._readable
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        return data

    async def write(self, data: bytes) -> None:
        """Send, and return when there is room for more; OSError if the client is gone."""
        if not self._send(data if self._tls is None else self._tls.write(data)):
            raise ConnectionResetError("connection lost")
        if self._writable is not None:
            await self._writable

    async def close(self) -> None:
        """Close; a peer that reset or does not read is no reason for a traceback or a wait (amqtt: is)."""
        if self._tls is not None:
            self._send(self._tls.close())
        self._transport.close()
        try:
            async with asyncio.timeout(PARTING):
                await asyncio.shield(self._lost)
        except TimeoutError:
            self._transport.abort()

    def refuse(self, answer: bytes) -> None:
        """Close at once, with an answer unless it would first take a handshake."""
        if self._tls is None:
            self._transport.write(answer)
        self._transport.close()

    @property
    def certificate(self) -> str | None:
        """The name in the client's certificate, once something was read."""
        return self._tls.common_name if self._tls is not None else None

    def _send(self, data: bytes) -> bool:
        """Hand bytes to the transport, unless the client is gone: uvloop raises RuntimeError then."""
        if self._transport.is_closing():
            return False
        self._transport.write(data)
        return True

    def _decrypt(self, tls: Tls, n: int) -> bool:
        """Whether there are `n` bytes now."""
        try:
            self._send(tls.read(self._buffer))
        except ssl.SSLError:
            self._send(tls.failure())
            raise
        return len(self._buffer) >= n

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        self._transport = transport
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if isinstance(peer, tuple):
            self.host = peer[0]
            self.peer = f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
            self.local = on_this_machine(peer[0], own[0])
        else:
            self.peer, self.local = "unix", True
        self._connected(self)

    def data_received(self, data: bytes) -> None:
        """More bytes."""
        if self._tls is None:
            self._buffer += data
            ahead = len(self._buffer)
        else:
            self._tls.receive(data)
            ahead = self._tls.pending
        _wake(self._readable)
        if ahead > _BUFFER and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """No more bytes; what waits may still go out, as far as the transport can do that."""
        self._end(EOFError("connection closed"))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._end(exc or EOFError("connection closed"))
        if not self._lost.done():
            self._lost.set_result(None)
        self.resume_writing()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """There is room again."""
        _wake(self._writable)
        self._writable = None

    def _end(self, reason: BaseException) -> None:
        self._ended = self._ended or reason
        _wake(self._readable)


async def listen(listener: Listener, connected: Callable[[SocketStream], None]) -> asyncio.Server:
    """Listen for clients; OSError if the address cannot be had."""
    loop = asyncio.get_running_loop()
    host = listener.host.strip("[]") or None
    return await loop.create_server(
        lambda: SocketStream(connected, listener.tls), host, listener.port, backlog=_BACKLOG
    )


async def listen_privately(path: Path, connected: Callable[[SocketStream], None]) -> asyncio.Server:
    """Listen on a socket in the file system, for whom its directory lets in: our own process."""
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: SocketStream(connected, trusted=True), path, backlog=_BACKLOG)


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
