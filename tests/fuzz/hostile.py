"""A publisher that means no good: it hands on the answers of an honest one, with something wrong about them."""

import asyncio
import gzip
import json
import random
import re
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.fuzz.bodies import Bodies
from tests.fuzz.network import connected

_BOMB = gzip.compress(bytes(64 << 20), 9)
_RECORD = struct.Struct("<qB3xIQ")
_ODD_STATUS = (200, 204, 206, 301, 302, 304, 307, 400, 401, 403, 404, 410, 412, 418, 429, 500, 502, 503, 599, 999)
_PATIENCE = 20.0


@dataclass
class Hostile:
    """The server.

    Args:
        origin: the port of the honest publisher.
        rng: what is chosen by.
        share: of the answers that are spoiled.
    """

    origin: int
    rng: random.Random
    share: float = 0.5
    epoch: int = 1
    """Another one makes all versions other ones, so that nothing which was fetched is of use any more."""
    counts: Counter[str] = field(default_factory=Counter)
    _honest_epoch: bytes = b""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            # Cancelled with the server: there is nobody to tell.
            with suppress(OSError, EOFError, TimeoutError, ValueError, asyncio.CancelledError):
                async with asyncio.timeout(_PATIENCE):
                    while await self._one(reader, writer):
                        pass
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; whether the connection stays."""
        request = await reader.readuntil(b"\r\n\r\n")
        length = _header(request, b"content-length")
        body = await reader.readexactly(int(length)) if length else b""
        status, headers, content = await self._asked(request, body)
        if self.rng.random() >= self.share:
            self.counts["honest"] += 1
            writer.write(_answer(status, headers, content))
            await writer.drain()
            return True
        way = self.rng.choice((self._spoil, self._spoil, self._spoil, self._break))
        await way(writer, request.split(b" ")[1], status, headers, content)
        await writer.drain()
        return False

    async def _asked(self, request: bytes, body: bytes) -> tuple[int, list[bytes], bytes]:
        """What the honest one answers."""
        request = re.sub(rb"-v\d+\"", b'"', request).replace(b"epoch=e%d" % self.epoch, b"epoch=" + self._honest_epoch)
        line, *lines = request.split(b"\r\n")
        kept = [each for each in lines if each and not each.lower().startswith((b"connection", b"accept-encoding"))]
        reader, writer = await connected(self.origin)
        try:
            writer.write(b"\r\n".join([line, *kept, b"Connection: close", b"", b""]) + body)
            got = await reader.read()
        finally:
            writer.transport.abort()
        head, _, content = got.partition(b"\r\n\r\n")
        status, *headers = head.split(b"\r\n")
        if _header(head, b"transfer-encoding"):
            content = _unchunked(content)
        content = self._renamed(content) if content[:1] in (b"{", b"[") else self._renamed_skeleton(line, content)
        headers = [re.sub(rb'^(etag: "[^"]*)', rb"\1-v%d" % self.epoch, each, flags=re.IGNORECASE) for each in headers]
        dropped = (b"transfer-encoding", b"content-length", b"connection")
        return int(status[9:12]), [each for each in headers if not each.lower().startswith(dropped)], content

    def _renamed(self, text: bytes) -> bytes:
        """JSON with the versions and the epoch of ours in place of the honest ones."""
        if (found := re.search(rb'"epoch": ?"([^"]*)"', text)) is not None:
            self._honest_epoch = found[1]
            text = text.replace(b'"%s"' % found[1], b'"e%d"' % self.epoch, 1)
        return re.sub(rb'("etag": ?"[^"]*)"', rb'\1-v%d"' % self.epoch, text)

    def _renamed_skeleton(self, line: bytes, content: bytes) -> bytes:
        if b"/api/skeleton" not in line or len(content) < 4:
            return content
        end = 4 + struct.unpack_from("<I", content)[0]
        text = self._renamed(content[4:end])
        return struct.pack("<I", len(text)) + text + content[end:]

    async def _spoil(
        self, writer: asyncio.StreamWriter, target: bytes, status: int, headers: list[bytes], content: bytes
    ) -> None:
        """An answer that is HTTP, but what it says is wrong."""
        rng = self.rng
        ways: list[Callable[[bytes], bytes]] = [self._turned, self._cut, self._longer, self._random]
        if content[:1] in (b"{", b"["):
            ways += [self._json] * 5
        if b"/api/skeleton" in target and len(content) > 8:
            ways += [self._skeleton] * 5
        if b"/api/chunks" in target:
            ways += [self._records] * 5
        way = rng.choice(ways)
        self.counts[f"spoiled: {way.__name__.strip('_')}"] += 1
        if rng.random() < 0.1:
            status = rng.choice(_ODD_STATUS)
        if rng.random() < 0.1:
            headers = [
                rng.choice((b'ETag: "other"', b"ETag: \xff", b"Location: /api/list", b"Location: http://[")),
                *headers,
            ]
        writer.write(_answer(status, headers, way(content)))

    async def _break(
        self, writer: asyncio.StreamWriter, target: bytes, status: int, headers: list[bytes], content: bytes
    ) -> None:
        """An answer that is no HTTP, or not all of it."""
        whole = _answer(status, headers, content)
        ways = (
            self._nothing, self._noise, self._short, self._endless, self._headers, self._chunked, self._bomb,
            self._slow, self._informational, self._redirected,
        )  # fmt: skip
        way = self.rng.choice(ways)
        self.counts[f"broken: {way.__name__.strip('_')}"] += 1
        await way(writer, whole)

    # What is wrong with a body

    def _turned(self, content: bytes) -> bytes:
        body = bytearray(content or b"\0")
        for _ in range(self.rng.randrange(1, 6)):
            body[self.rng.randrange(len(body))] = self.rng.randrange(256)
        return bytes(body)

    def _cut(self, content: bytes) -> bytes:
        return content[: self.rng.randrange(len(content) + 1)]

    def _longer(self, content: bytes) -> bytes:
        return content + self.rng.choice((b"\0" * 100, content, self.rng.randbytes(50), b"\n" * 100_000))

    def _random(self, _content: bytes) -> bytes:
        return self.rng.randbytes(300)

    def _json(self, content: bytes) -> bytes:
        bodies = Bodies(self.rng)
        return bodies.spoiled(json.loads(content)) if self.rng.random() < 0.7 else self._lines(content)

    def _lines(self, content: bytes) -> bytes:
        """The lines of a catalog, some of them changed, lost or doubled."""
        lines = content.split(b"\n")
        at = self.rng.randrange(len(lines))
        with suppress(ValueError):
            changed = Bodies(self.rng).changed(json.loads(lines[at].rstrip(b",")))
            lines[at] = json.dumps(changed).encode() + b","
        lines[at : at + 1] = lines[at : at + 1] * self.rng.choice((0, 1, 1, 1, 2))
        return b"\n".join(lines)

    def _skeleton(self, content: bytes) -> bytes:
        (length,) = struct.unpack_from("<I", content)
        head, rest = json.loads(content[4 : 4 + length]), content[4 + length :]
        for _ in range(self.rng.randrange(3)):
            head = Bodies(self.rng).changed(head)
        if self.rng.random() < 0.4:
            rest = self._turned(rest)
        text = json.dumps(head).encode()
        return struct.pack("<I", len(text)) + text + rest

    def _records(self, content: bytes) -> bytes:
        """The records of chunks: other numbers, states, lengths or digests than they should have."""
        rng, made, at = self.rng, b"", 0
        while at + _RECORD.size <= len(content):
            n, status, length, digest = _RECORD.unpack_from(content, at)
            payload = content[at + _RECORD.size : at + _RECORD.size + length]
            at += _RECORD.size + length
            if rng.random() < 0.5:
                n = rng.choice((n, n + 1, -1, 2**62))
                status = rng.choice((status, status, 0, 1, 2, 3, 4, 5, 255))
                length = rng.choice((length, length, 0, length + 1, 2**31, 2**32 - 1))
                digest = rng.choice((digest, digest, 0, digest ^ 1))
                payload = rng.choice((payload, payload, b"", self._turned(payload)))
            made += _RECORD.pack(n, status, length, digest) + payload
        return made

    # What is wrong with HTTP

    async def _nothing(self, _writer: asyncio.StreamWriter, _whole: bytes) -> None:
        """Hang up."""

    async def _noise(self, writer: asyncio.StreamWriter, _whole: bytes) -> None:
        writer.write(
            self.rng.choice((self.rng.randbytes(300), b"HTTP/1.1 \r\n\r\n", b"HTTP/1.1 99999 x\r\n\r\n", b"\n\n\n"))
        )

    async def _short(self, writer: asyncio.StreamWriter, whole: bytes) -> None:
        writer.write(whole[: self.rng.randrange(len(whole))])

    async def _endless(self, writer: asyncio.StreamWriter, _whole: bytes) -> None:
        kind = self.rng.choice((b"application/json", b"application/octet-stream"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n")
        for _ in range(160):
            writer.write(self.rng.choice((b"[" * 65536, bytes(65536), b'{"a": "' + b"x" * 65536)))
            await writer.drain()

    async def _headers(self, writer: asyncio.StreamWriter, _whole: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(self.rng.choice((200, 3000))):
            writer.write(b"X-%d: %s\r\n" % (number, b"y" * self.rng.choice((10, 500))))
            await writer.drain()
        writer.write(b"Content-Length: 0\r\n\r\n")

    async def _chunked(self, writer: asyncio.StreamWriter, _whole: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(
            self.rng.choice((b"zz\r\nxx\r\n", b"ffffffffffffffff\r\nx", b"-1\r\n\r\n", b"5\r\nhe", b"0\r\nX: \xff\r\n"))
        )

    async def _bomb(self, writer: asyncio.StreamWriter, _whole: bytes) -> None:
        """64 MB, in 64 KB."""
        writer.write(_answer(200, [b"Content-Encoding: gzip", b"Content-Type: application/json"], _BOMB))

    async def _slow(self, writer: asyncio.StreamWriter, whole: bytes) -> None:
        for at in range(0, 100, 5):
            writer.write(whole[at : at + 5])
            await asyncio.sleep(0.02)
        writer.write(whole[100:])

    async def _informational(self, writer: asyncio.StreamWriter, whole: bytes) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * self.rng.choice((1, 200)) + whole)

    async def _redirected(self, writer: asyncio.StreamWriter, _whole: bytes) -> None:
        where = (
            b"/api/list",
            b"http://169.254.169.254/latest/meta-data",
            b"file:///etc/passwd",
            b"//",
            b"http://[::",
            b"",
        )
        writer.write(_answer(302, [b"Location: " + self.rng.choice(where)], b""))


def _answer(status: int, headers: list[bytes], content: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d Answer" % status, *headers, b"Content-Length: %d" % len(content), b"", b""]
    return b"\r\n".join(lines) + content


def _header(head: bytes, name: bytes) -> bytes:
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    return next((value.strip() for key, _, value in lines if key.strip().lower() == name), b"")


def _unchunked(body: bytes) -> bytes:
    content = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return content
        content += rest[:length]
        body = rest[length + 2 :]
