"""The server's end of a connection, bounded: how large a request's head is, and how long a client may take.

uvicorn bounds neither, so a stranger could have a daemon keep as many bytes, and connections, as he likes. What is
meant here for clients holds for the proxy before a daemon as well.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

logger = logging.getLogger(__name__)
MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's first line and headers; what follows a body in pieces (trailers) counts too."""
MAX_HEADERS: Final = 100
"""Headers of a request."""
MAX_PIPELINED: Final = 16
"""Requests that wait on one connection for the answers to earlier ones."""
SLOWEST: Final = 1024
"""Bytes of a body that a client must send in the time of `patience`."""


class Guard(Protocol):
    """The settings of a daemon that are about this."""

    @property
    def max_connections(self) -> int:
        """Connections at once."""

    @property
    def patience(self) -> float:
        """Seconds that a client may take to go on."""


class _Refused(Exception):
    """A request that is not read on."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class GuardedProtocol(HttpToolsProtocol):
    """One connection, made by uvicorn; `guarded_by` makes the class for the settings of a daemon."""

    guard: Guard

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._refused: _Refused | None = None
        self._size = self._count = self._unparsed = self._received = 0
        self._in_head = True  # a connection that says nothing is as slow as one that stops within its first line
        self._in_body = False
        self._begun = self._drained = 0
        self._last_look = ("", 0)
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self.guard.max_connections:
            self._refuse(_Refused(503, "too many connections: come again later"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._end_watch()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection to the protocol of WebSockets, which has limits of its own."""
        self._end_watch()
        super().handle_websocket_upgrade()

    # -- what comes ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read on, unless what came is too much."""
        if self._refused is not None:
            return
        self._received += len(data)
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > MAX_HEAD and self._refused is None:
            self._refuse(_Refused(431, f"a line is too long: at most {MAX_HEAD} bytes are read"))

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head, self._size, self._count = True, 0, 0
        self._begun += 1
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count a piece of the first line."""
        self._count_in(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; trailers come here too."""
        self._count += 1
        self._count_in(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the answer."""
        self._in_head, self._in_body, self._unparsed = False, True, 0
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop(429, f"too many requests at once: at most {MAX_PIPELINED} wait for their answers")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._in_body, self._unparsed = False, 0
        super().on_message_complete()

    def _count_in(self, size: int) -> None:
        self._unparsed = 0
        self._size += size
        if self._size > MAX_HEAD or self._count > MAX_HEADERS:
            self._stop(431, f"the head is too large: at most {MAX_HEADERS} headers, and {MAX_HEAD} bytes")

    def _stop(self, status: int, detail: str) -> None:
        """Leave the parser, which calls `send_400_response` then."""
        self._refused = _Refused(status, detail)
        raise self._refused

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or too much of it."""
        self._refuse(self._refused or _Refused(400, msg))

    def _refuse(self, refused: _Refused) -> None:
        """Answer and close; only close, when an answer is under way that this would end up within."""
        self._refused = refused
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = b'{"detail":"%s"}' % str(refused).encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[refused.status] + head + body)
        self.transport.close()

    # -- how long it takes -----------------------------------------------------------------------------

    def resume_writing(self) -> None:
        """Note that the client takes what it asked for."""
        self._drained += 1
        super().resume_writing()

    def _watch(self) -> None:
        self._timer = self.loop.call_later(self.guard.patience, self._look)

    def _end_watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Cut off a client that waits for the same as at the last look, and has not gone on since."""
        state, progress = self._state()
        before, done = self._last_look
        if state and state == before and progress - done < (SLOWEST if state == "body" else 1):
            self._cut_off(state)
            return
        self._last_look = state, progress
        self._watch()

    def _state(self) -> tuple[str, int]:
        """What the client has to do now, if anything, and how far it is; that only grows."""
        if self.transport.is_closing():
            return "closing", 0
        if self.flow.write_paused:
            return "reading", self._drained
        if self.flow.read_paused:
            return "", 0
        if self._in_head:
            return "head", self._begun
        if not self._in_body or self.cycle.waiting_for_100_continue:
            return "", 0
        # One that goes on sending what nobody reads any more is not waited for.
        return (
            ("sending", self._begun)
            if self.cycle.response_complete
            else ("body", self._begun * SLOWEST + self._received)
        )

    def _cut_off(self, state: str) -> None:
        logger.debug("a client is too slow (%s): it is cut off", state)
        if state == "head" and self._begun:
            self._refuse(_Refused(408, f"the head of the request took longer than {self.guard.patience:g} seconds"))
            self._watch()
        else:
            self.transport.abort()


def guarded_by(guard: Guard) -> type[GuardedProtocol]:
    """Make the class of connections for the settings of a daemon."""
    return type("GuardedProtocol", (GuardedProtocol,), {"guard": guard})
