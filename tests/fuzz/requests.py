"""HTTP requests that are wrong somewhere, to each of the daemons; the answer must never be that it failed itself."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.fuzz.bodies import Bodies
from tests.fuzz.network import connected

PATIENCE = 60.0
"""Seconds for an answer to a request that is whole."""
_CLOSING = b"\r\nConnection: close\r\n"
_MOMENT = 0.2
"""Seconds for one that is not: the server may wait for the rest, and we do not."""
_METHODS = ("GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "\xff", "GET\0")
_ODD_PATHS = (
    "..", "%2e%2e/%2e%2e/etc/passwd", "%2f", "%00", "%ff%fe", "a" * 3000, "a/" * 500, ";", "?", "%", "%zz", "\xe4",
    "//", "@public/x", "%0a", "good.b2nd%2f..",
)  # fmt: skip
_QUERIES = (
    "", "slice_=0:10", "slice_=:", "slice_=1e9", "slice_=" + "[" * 1000, "slice_=0:10:0", "slice_=%00", "nchunk=0",
    "nchunk=-1", "nchunk=" + "9" * 5000, "since=0&epoch=x", "since=" + "9" * 40, "epoch=%ff&since=1", "field=%ff",
    "slice_=" + ",".join(["0"] * 300), "&" * 500, "=&=", "prefer_schunk=maybe",
)  # fmt: skip
_HEADERS = (
    'If-Match: "x"', "If-Match: *", "If-Match: \xff", "If-None-Match: *", "Range: bytes=0-", "Range: bytes=9-1",
    "Range: bytes=" + "0-1," * 1000, "Accept-Encoding: gzip;q=x", "Host: [::1", "Host: a:99999", "Host: evil/\xff",
    "X-Forwarded-Proto: https,javascript", "Content-Type: \xff", "Cookie: " + "c" * 5000, "Connection: close, upgrade",
    "Upgrade: h2c", "Authorization: Bearer \xff", "Authorization: Basic !!", "Expect: 100-continue", "Range: x",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where requests go.

    Attributes:
        name: of the daemon, for the counts.
        port: of its HTTP address.
        paths: that it serves, to be spoiled.
        excused: the errors of its own that it may answer with.
    """

    name: str
    port: int
    paths: Sequence[str]
    excused: frozenset[int] = frozenset()


@dataclass
class Asker:
    """Sends requests.

    Attributes:
        counts: of the answers by their status.
        complaints: about what must not be answered.
    """

    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    async def ask(self, place: Place) -> None:
        """Send one request that is wrong in some way."""
        request = self._request(place)
        broken = self.rng.random() < 0.15
        if broken:
            request = self.rng.choice((request[: self.rng.randrange(len(request))], self.rng.randbytes(200)))
        await self._judge(place, request, whole=not broken and _CLOSING in request)

    async def ask_chunks(self, place: Place, path: str, etag: str, chunks: int) -> None:
        """Ask a publisher for chunks, with a body that is wrong in some way."""
        rng, body = self.rng, Bodies(self.rng).wishes(chunks)
        match = rng.choice((f'"{etag}"', f'"{etag}"', f'"{etag}"', "*", '"other"', etag, f'W/"{etag}"'))
        head = f"POST /api/chunks/{path} HTTP/1.1\r\nHost: x\r\nIf-Match: {match}\r\n".encode("latin1")
        request = head + self._framed(body)
        await self._judge(place, request, whole=_CLOSING in request)

    async def get(self, place: Place, target: str, headers: str = "", method: str = "GET") -> tuple[int, bytes]:
        """Send a request that is right; its status and body, or 0 if the answer was cut off."""
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost:{place.port}\r\nConnection: close\r\n{headers}"
        return await self._judge(place, head.encode("latin1") + b"Content-Length: 0\r\n\r\n", whole=True)

    def _request(self, place: Place) -> bytes:
        rng = self.rng
        path = rng.choice(place.paths)
        if rng.random() < 0.4:
            path = rng.choice((f"{path}/{rng.choice(_ODD_PATHS)}", rng.choice(_ODD_PATHS), path + "/"))
        query = rng.choice(_QUERIES) if rng.random() < 0.5 else ""
        method = rng.choice(_METHODS) if rng.random() < 0.5 else "GET"
        headers = "".join(f"{each}\r\n" for each in rng.sample(_HEADERS, rng.randrange(4)))
        version = "HTTP/1.1" if rng.random() < 0.95 else rng.choice(("HTTP/1.0", "HTTP/2.0", "HTTP/9", "X"))
        host = "Host: localhost\r\n" if rng.random() < 0.95 else ""
        head = f"{method} {path}{'?' if query else ''}{query} {version}\r\n{host}{headers}".encode("latin1")
        return head + (self._framed(Bodies(rng).spoiled([1])) if rng.random() < 0.3 else _CLOSING[2:] + b"\r\n")

    def _framed(self, body: bytes) -> bytes:
        """A body with its length, mostly."""
        rng = self.rng
        if rng.random() < 0.7:
            return f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        wrong = (
            f"Content-Length: {len(body) + 1000}\r\n\r\n".encode() + body,
            b"Content-Length: -1\r\n\r\n" + body,
            b"Content-Length: 99999999999\r\n\r\n" + body,
            b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + body,
            b"Transfer-Encoding: chunked\r\n\r\n" + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
            b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n" + body,
            b"Content-Encoding: gzip\r\n" + f"Content-Length: {len(body)}\r\n\r\n".encode() + body,
        )
        return rng.choice(wrong)

    async def _judge(self, place: Place, request: bytes, *, whole: bool) -> tuple[int, bytes]:
        status, body = 0, b""
        begun = time.monotonic()
        with suppress(OSError, EOFError):
            status, body = await _answer(place.port, request, PATIENCE if whole else _MOMENT)
        if whole and time.monotonic() - begun > PATIENCE:
            self.complaints.append(f"{place.name} did not answer {request[:300]!r}")
        self.counts[f"{place.name} {status or 'no answer'}"] += 1
        if status >= 500 and status not in place.excused:
            self.complaints.append(f"{place.name} answered {status} to {request[:300]!r}: {body[:300]!r}")
        return status, body


async def _answer(port: int, request: bytes, patience: float) -> tuple[int, bytes]:
    reader, writer = await connected(port)
    got = b""
    try:
        writer.write(request)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while piece := await reader.read(1 << 20):
                    got += piece
    finally:
        writer.transport.abort()
    head, _, body = got.partition(b"\r\n\r\n")
    return (int(head[9:12]) if head[9:12].isdigit() else 0), body
