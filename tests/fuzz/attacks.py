"""What is done to the broker by clients that mean no good: each attack is one visit, or a crowd of them."""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.fuzz.bodies import Bodies
from tests.fuzz.network import ELSEWHERE, connected
from tests.fuzz.packets import ALLOWED, REFUSED_TOPICS, Packets
from tests.fuzz.witness import CLIENT_ID
from tests.unit.bus.raw import PINGREQ, connect, packet, publish, subscribe, text

_RESET = struct.pack("ii", 1, 0)
_ANSWER = 0.05
"""Seconds that an attacker waits for an answer."""
_VERDICT = 10.0
"""Seconds that the broker may take to do what it must."""
_UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: %s\r\n\r\n"
)


@dataclass
class Attacker:
    """All attacks on one broker.

    Attributes:
        port: for MQTT.
        http: the port for HTTP, where MQTT comes through a WebSocket.
        counts: of what was done.
        complaints: about what the broker must not do.
    """

    port: int
    http: int
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    _held: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def attacks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """All of them; those that stand here twice come twice as often."""
        return (
            self.conversation, self.conversation, self.conversation, self.half_open, self.slowloris, self.bombs,
            self.theft, self.takeover, self.crowd, self.stuck, self.websocket, self.websocket, self.messages,
        )  # fmt: skip

    async def attack(self) -> None:
        """Do one of them, chosen at random."""
        await self.do(self.rng.choice(self.attacks))

    async def do(self, attack: Callable[[], Awaitable[None]]) -> None:
        """Do it; that the broker hangs up meanwhile is what it should do."""
        self.counts[attack.__name__] += 1
        with suppress(OSError, EOFError):
            await attack()

    async def conversation(self) -> None:
        """Say things that are wrong somewhere, in pieces of any size, and leave in any way."""
        rng = self.rng
        said = b"".join(Packets(rng).conversation())
        async with self._connected() as (reader, writer):
            while said:
                size = rng.choice((1, 2, 7, 100, 10_000, len(said)))
                writer.write(said[:size])
                said = said[size:]
                if rng.random() < 0.2:
                    await asyncio.sleep(0)
            await writer.drain()
            if rng.random() < 0.7:
                await _listen(reader)
            if rng.random() < 0.3:
                writer.write_eof()

    async def half_open(self) -> None:
        """Begin, and say no more, while the connection stays; the oldest one goes in the end."""
        rng = self.rng
        reader, writer = await connected(self.port)
        del reader
        begun = connect("half", keepalive=rng.choice((0, 1, 60)), will=(f"{ALLOWED}half", b"gone"))
        writer.write(begun[: rng.randrange(len(begun) + 1)])
        self._held.append(writer)
        if len(self._held) > 100:
            _cut(self._held.pop(0))

    async def slowloris(self) -> None:
        """Say CONNECT one byte at a time."""
        async with self._connected() as (_, writer):
            for byte in connect("slow-" + "x" * 30):
                writer.write(bytes((byte,)))
                await asyncio.sleep(self.rng.choice((0, 0.001, 0.01)))

    async def bombs(self) -> None:
        """Send what is large or deep or many."""
        packets = Packets(self.rng)
        async with self._connected() as (reader, writer):
            writer.write(connect(f"bomb-{self.rng.randrange(100)}"))
            for _ in range(4):
                writer.write(packets._bomb())
            await writer.drain()
            await _listen(reader)

    async def theft(self) -> None:
        """Come under the name of the witness, with a CONNECT that must be refused: it must not notice."""
        rng = self.rng
        name = text(CLIENT_ID)
        tries = (
            connect(CLIENT_ID, level=rng.choice((0, 5, 131))),
            connect(CLIENT_ID, name="MQIsdp", level=3),
            connect(CLIENT_ID, will=(rng.choice(REFUSED_TOPICS), b"x")),
            connect(CLIENT_ID, will=("fuzz/" + "a/" * 100, b"x")),
            packet(0x10, text("MQTT") + b"\x04\x03\0\0" + name),  # the reserved flag
            packet(0x10, text("MQTT") + b"\x04\x1a\0\0" + name),  # QoS of a will that is not there
            packet(0x10, text("MQTT") + b"\x04\x42\0\0" + name + text("password without a name")),
            packet(0x10, text("MQTT") + b"\x04\x02\0\0" + name + b"more"),
            packet(0x11, text("MQTT") + b"\x04\x02\0\0" + name),
            connect(CLIENT_ID)[:-3],
        )
        async with self._connected() as (reader, writer):
            writer.write(rng.choice(tries))
            answer = await _listen(reader)
            if answer[:4] == b"\x20\x02\0\0":
                self.complaints.append("a CONNECT that breaks the rules was let in")

    async def takeover(self) -> None:
        """Come twice under one name: the first one must go."""
        name = connect(f"twin-{self.rng.randrange(10**9)}", will=(f"{ALLOWED}twin", b"gone"))
        async with self._connected() as (first, out), self._connected() as (second, again):
            out.write(name)
            if await _exactly(first, 4) != b"\x20\x02\0\0":
                return
            again.write(name)
            if await _exactly(second, 4) != b"\x20\x02\0\0":
                return
            try:
                async with asyncio.timeout(_VERDICT):
                    while await first.read(1000):
                        pass
            except ConnectionResetError:
                return
            except TimeoutError:
                self.complaints.append("two clients of one name are both connected")

    async def crowd(self, count: int = 60) -> None:
        """Many at once who are refused, or say nothing."""
        await asyncio.gather(*(self._refused() for _ in range(count)), return_exceptions=True)
        self.counts["connections refused"] += count

    async def refused(self, count: int) -> None:
        """So many connections that come to nothing, some at a time."""
        for first in range(0, count, 100):
            await self.crowd(min(100, count - first))

    async def _refused(self) -> None:
        loop, rng = asyncio.get_running_loop(), self.rng
        with socket.socket() as one:
            one.setblocking(False)
            one.bind((ELSEWHERE, 0))
            # A reset: else the system remembers each connection for a minute, and has no port left in the end.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            await loop.sock_connect(one, ("127.0.0.1", self.port))
            said = rng.choice((b"", b"\x10", b"GET / HTTP/1.1\r\n\r\n", b"\xff", connect(level=9), b"\x30\x00"))
            if said:
                await loop.sock_sendall(one, said)
            if rng.random() < 0.2:
                await asyncio.wait_for(loop.sock_recv(one, 100), _ANSWER)

    async def stuck(self) -> None:
        """Ask for much and read nothing of it: 10 MB are more than the broker keeps for anyone."""
        topic = f"{ALLOWED}{self.rng.randrange(10**9)}"
        with suppress(TimeoutError):
            async with asyncio.timeout(_VERDICT), self._connected() as (reader, writer):
                reader._transport.pause_reading()  # type: ignore[attr-defined]
                writer.write(connect("", clean=True) + subscribe(topic))
                for _ in range(160):
                    writer.write(publish(topic, bytes(65_000)))
                    await writer.drain()
                    await asyncio.sleep(0)

    async def websocket(self) -> None:
        """The same through a WebSocket, whose frames are wrong too."""
        rng = self.rng
        async with self._connected(self.http) as (reader, writer):
            writer.write(_UPGRADE % rng.choice((b"mqtt", b"mqtt", b"mqtt", b"chat", b"")))
            if rng.random() < 0.9:
                await _listen(reader)
            for said in Packets(rng).conversation():
                writer.write(self._frame(said))
            await writer.drain()
            await _listen(reader)

    def _frame(self, data: bytes) -> bytes:
        rng = self.rng
        first = 0x82 if rng.random() < 0.8 else rng.randrange(256)
        mask = 0x80 if rng.random() < 0.95 else 0
        length = len(data) if rng.random() < 0.95 else rng.randrange(70_000)
        if length < 126:
            head = bytes((first, mask | length))
        elif length < 1 << 16:
            head = bytes((first, mask | 126)) + length.to_bytes(2, "big")
        else:
            head = bytes((first, mask | 127)) + length.to_bytes(8, "big")
        return head + bytes(4 if mask else 0) + data

    async def messages(self) -> None:
        """Say on the topics of the daemons what is no message of theirs, or not quite."""
        bodies = Bodies(self.rng)
        async with self._connected() as (reader, writer):
            writer.write(connect(""))
            for _ in range(5):
                writer.write(publish(*bodies.message(), qos=1, retain=self.rng.random() < 0.5, packet_id=1))
            writer.write(PINGREQ)
            await writer.drain()
            await _listen(reader)

    @asynccontextmanager
    async def _connected(
        self, port: int | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await connected(port or self.port)
        try:
            yield reader, writer
        finally:
            if self.rng.random() < 0.5:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            _cut(writer)

    def let_go(self) -> None:
        """End the connections that are still held."""
        while self._held:
            _cut(self._held.pop())


def _cut(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _listen(reader: asyncio.StreamReader) -> bytes:
    """What comes within a moment."""
    try:
        async with asyncio.timeout(_ANSWER):
            return await reader.read(100_000)
    except TimeoutError:
        return b""


async def _exactly(reader: asyncio.StreamReader, count: int) -> bytes:
    """So many bytes, or nothing if they do not come."""
    try:
        async with asyncio.timeout(_VERDICT):
            return await reader.readexactly(count)
    except TimeoutError:
        return b""
