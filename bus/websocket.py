"""MQTT over WebSocket on the daemon's own HTTP address (MQTT 3.1.1, section 6).

One port, one reverse proxy, one hole in the firewall. Web pages of other sites are kept out: a
browser lets any page open a WebSocket to any address, the loopback one too, and says where the
page came from in `Origin`. Programs need not send it, and ours do not.
"""

import asyncio
import contextlib
from typing import Final
from urllib.parse import urlsplit

from starlette.websockets import WebSocket, WebSocketDisconnect

from bus.access import on_this_machine
from bus.errors import ProtocolError

SUBPROTOCOL: Final = "mqtt"

_PROXIES: Final = frozenset({"forwarded", "via", "x-real-ip"})
"""Headers that a proxy adds, beside those that begin with X-Forwarded-."""

_MAX_BUFFER: Final = 1024 * 1024
_PARTING: Final = 0.5


class WebSocketStream:
    """An accepted WebSocket as a stream of bytes; see `bus.stream.Stream`."""

    trusted = False
    certificate = None

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._buffer = bytearray()

    @property
    def peer(self) -> str:
        """Where the client is, for the log."""
        client = self._websocket.client
        return f"{client.host}:{client.port} (WebSocket)" if client else "WebSocket"

    @property
    def host(self) -> str:
        """The client's IP address, or that of the proxy that it came through."""
        return self._websocket.client.host if self._websocket.client else ""

    @property
    def local(self) -> bool:
        """Whether it is on this machine; what came through a proxy may come from anywhere."""
        server = self._websocket.scope.get("server")
        proxied = any(name in _PROXIES or name.startswith("x-forwarded-") for name in self._websocket.headers)
        return not proxied and server is not None and on_this_machine(self.host, str(server[0]))

    async def read(self, n: int) -> bytes:
        """Exactly `n` bytes; packets and frames need not begin or end together."""
        while len(self._buffer) < n:
            self._buffer += await self._receive()
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        return data

    async def write(self, data: bytes) -> None:
        """Send one frame."""
        try:
            await self._websocket.send_bytes(data)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ConnectionResetError("WebSocket is closed") from error

    async def close(self) -> None:
        """Close, unless it is closed already."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            async with asyncio.timeout(_PARTING):
                await self._websocket.close()

    async def _receive(self) -> bytes:
        try:
            message = await self._websocket.receive()
        except RuntimeError as error:  # Starlette's word for "closed before"
            raise EOFError from error
        if message["type"] == "websocket.disconnect":
            raise EOFError("WebSocket was closed")
        data: bytes | None = message.get("bytes")
        if data is None:
            raise ProtocolError("text in a WebSocket that carries MQTT")
        if len(data) > _MAX_BUFFER:
            raise ProtocolError(f"WebSocket message of {len(data)} bytes")
        return data


async def accept(websocket: WebSocket) -> WebSocketStream | None:
    """The stream of a WebSocket that is to carry MQTT; None, and closed, if it must not."""
    if SUBPROTOCOL not in websocket.scope.get("subprotocols", ()) or not _same_origin(websocket):
        await websocket.close()  # before accept: the client sees 403
        return None
    await websocket.accept(subprotocol=SUBPROTOCOL)
    return WebSocketStream(websocket)


def _same_origin(websocket: WebSocket) -> bool:
    origin = websocket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == websocket.headers.get("host")
