"""A raw MQTT client, byte by byte: it can do what no library lets you do."""

import asyncio
from dataclasses import dataclass
from typing import ClassVar

DEADLINE = 8.0
"""Seconds that anything may take; a test waits for conditions, this only ends a hopeless wait."""

CONNACK, PUBLISH, PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK, PINGRESP = 2, 3, 4, 5, 7, 9, 11, 13
DISCONNECT = b"\xe0\x00"
PINGREQ = b"\xc0\x00"


def text(value: str | bytes) -> bytes:
    """A string or binary field: two bytes of length, then the bytes."""
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def packet(first: int, body: bytes) -> bytes:
    """A packet with its length."""
    length, encoded = len(body), bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes((first,)) + bytes(encoded) + body


def connect(
    client_id: str = "raw",
    *,
    clean: bool = True,
    keepalive: int = 0,
    will: tuple[str, bytes] | None = None,
    will_retain: bool = False,
    username: str | None = None,
    password: str | None = None,
    level: int = 4,
    name: str = "MQTT",
) -> bytes:
    """A CONNECT."""
    flags = 2 * clean | 4 * (will is not None) | 0x20 * will_retain
    flags |= 0x80 * (username is not None) | 0x40 * (password is not None)
    body = text(name) + bytes((level, flags)) + keepalive.to_bytes(2, "big")
    body += (b"\0" if level == 5 else b"") + text(client_id)
    if will is not None:
        body += text(will[0]) + text(will[1])
    body += b"".join(text(each) for each in (username, password) if each is not None)
    return packet(0x10, body)


def publish(topic: str | bytes, payload: bytes, *, qos: int = 0, retain: bool = False, packet_id: int = 1) -> bytes:
    """A PUBLISH."""
    return packet(0x30 | qos << 1 | retain, text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + payload)


def subscribe(*filters: str, qos: int = 0, packet_id: int = 1) -> bytes:
    """A SUBSCRIBE."""
    return packet(0x82, packet_id.to_bytes(2, "big") + b"".join(text(each) + bytes((qos,)) for each in filters))


def unsubscribe(*filters: str, packet_id: int = 1) -> bytes:
    """An UNSUBSCRIBE."""
    return packet(0xA2, packet_id.to_bytes(2, "big") + b"".join(map(text, filters)))


@dataclass(frozen=True)
class Received:
    """A packet of the broker."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        return self.first >> 4

    @property
    def qos(self) -> int:
        return self.first >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.first & 1)

    @property
    def topic(self) -> str:
        return self.body[2 : 2 + int.from_bytes(self.body[:2], "big")].decode()

    @property
    def payload(self) -> bytes:
        return self.body[2 + int.from_bytes(self.body[:2], "big") + 2 * bool(self.qos) :]


class RawClient:
    """A TCP connection that carries packets."""

    _open: ClassVar[list["RawClient"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, *first: bytes) -> "RawClient":
        """Connect to the loopback port and send `first`."""
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        cls._open.append(client)
        await client.send(*first)
        return client

    @classmethod
    async def join(cls, port: int, *first: bytes) -> "RawClient":
        """Like `open`, but wait until the broker has let us in, as anonymous if `first` is empty."""
        client = await cls.open(port, *(first or (connect(""),)))
        assert await client.read(CONNACK) == Received(0x20, b"\0\0")
        return client

    async def send(self, *packets: bytes) -> None:
        self.writer.write(b"".join(packets))
        await self.writer.drain()

    async def read(self, kind: int | None = None) -> Received:
        """The next packet; with `kind`, that it is of this kind is checked."""
        async with asyncio.timeout(DEADLINE):
            first = (await self.reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            received = Received(first, await self.reader.readexactly(length))
        assert kind in (None, received.kind), received
        return received

    async def ended(self, within: float = DEADLINE) -> bool:
        """Whether the broker ends the connection, whatever it says before."""
        try:
            async with asyncio.timeout(within):
                while await self.reader.read(4096):
                    pass
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        return True

    async def received_until_pong(self) -> list[Received]:
        """What the broker has sent up to now: all before the answer to a ping."""
        await self.send(PINGREQ)
        received: list[Received] = []
        while (each := await self.read()).kind != PINGRESP:
            received.append(each)
        return received

    async def cut(self) -> None:
        """End the connection without DISCONNECT."""
        self.writer.transport.abort()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)

    @classmethod
    async def cut_all(cls) -> None:
        """Leave none open, also when a test has failed."""
        while cls._open:
            await cls._open.pop().cut()

    async def leave(self) -> None:
        """End the connection politely."""
        await self.send(DISCONNECT)
        await self.ended()
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)
