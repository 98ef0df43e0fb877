"""MQTT 3.1.1 on the wire, as a server reads and writes it; pure.

`parse` takes one whole packet, so that a bad one can never be mistaken for the beginning of the
next; whatever breaks the rules of the standard raises ProtocolError, and the connection ends.
https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from bus.errors import ProtocolError, ProtocolVersionError

CONNECT: Final = 0x10
"""The first byte of a connection that may become one."""

ACCEPTED: Final = 0
BAD_VERSION: Final = 1
BAD_IDENTIFIER: Final = 2
UNAVAILABLE: Final = 3
NOT_AUTHORIZED: Final = 5
SUBSCRIPTION_REFUSED: Final = 0x80

PINGRESP: Final = b"\xd0\x00"

_VERSION: Final = ("MQTT", 4)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Publish:
    """An application message; also the form of a will."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int = 0


@dataclass(frozen=True, slots=True)
class Connect:
    """The first packet of a client."""

    client_id: str
    clean: bool
    keepalive: int
    will: Publish | None
    username: str | None
    password: bytes | None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A request for the messages of some filters, each with the highest QoS wanted."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The end of some subscriptions."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PubAck:
    """QoS 1: the client has the message."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class PubRel:
    """QoS 2: the client knows that we have its message."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class PingReq:
    """The client is alive."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The client leaves politely; its will is void."""


Packet: TypeAlias = Connect | Publish | Subscribe | Unsubscribe | PubAck | PubRel | PingReq | Disconnect


def parse(first: int, body: bytes) -> Packet:
    """The packet whose first byte is `first` and whose rest, after the length, is `body`."""
    kind, flags = first >> 4, first & 0x0F
    if kind == 3:
        return _parse_publish(flags, body)
    rest = _Cursor(body)
    if flags != (2 if kind in (6, 8, 10) else 0):
        raise ProtocolError(f"flags {flags} in a packet of type {kind}")
    packet = _parse_other(kind, rest)
    rest.end()
    return packet


def _parse_other(kind: int, rest: "_Cursor") -> Packet:
    match kind:
        case 1:
            return _parse_connect(rest)
        case 4:
            return PubAck(rest.packet_id())
        case 6:
            return PubRel(rest.packet_id())
        case 8:
            return _parse_subscribe(rest)
        case 10:
            return Unsubscribe(rest.packet_id(), _some(rest.text() for _ in rest.until_end()))
        case 12:
            return PingReq()
        case 14:
            return Disconnect()
    raise ProtocolError(f"a client must not send a packet of type {kind}")


def _parse_publish(flags: int, body: bytes) -> Publish:
    # Without a cursor, since nearly all packets are of this kind.
    qos = flags >> 1 & 3
    if qos == 3:
        raise ProtocolError("QoS 3")
    topic_end = 2 + int.from_bytes(body[:2], "big")
    start = topic_end + 2 if qos else topic_end
    if len(body) < start:
        raise ProtocolError("packet ends too early")
    packet_id = int.from_bytes(body[topic_end:start], "big")
    if qos and not packet_id:
        raise ProtocolError("packet identifier 0")
    return Publish(_decoded(body[2:topic_end]), body[start:], qos, bool(flags & 1), packet_id)


def _decoded(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ProtocolError("text is not UTF-8") from None
    if "\0" in text:
        raise ProtocolError("NUL in a text")
    return text


def _parse_connect(rest: "_Cursor") -> Connect:
    version = rest.text(), rest.byte()
    if version != _VERSION:
        # What follows has another form in another version, so nothing more can be read.
        raise ProtocolVersionError(*version)
    flags, keepalive, client_id = rest.byte(), rest.number(), rest.text()
    will_qos = flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (not flags & 0x04 and flags & 0x38) or flags & 0xC0 == 0x40:
        raise ProtocolError(f"flags {flags:#x} in CONNECT")
    will = Publish(rest.text(), rest.data(), will_qos, bool(flags & 0x20)) if flags & 0x04 else None
    username = rest.text() if flags & 0x80 else None
    password = rest.data() if flags & 0x40 else None
    return Connect(client_id, bool(flags & 2), keepalive, will, username, password)


def _parse_subscribe(rest: "_Cursor") -> Subscribe:
    packet_id = rest.packet_id()
    filters = _some((rest.text(), rest.byte()) for _ in rest.until_end())
    if any(qos > 2 for _, qos in filters):
        raise ProtocolError("QoS above 2 in SUBSCRIBE")
    return Subscribe(packet_id, filters)


def _some(items: Iterator[_T]) -> tuple[_T, ...]:
    found = tuple(items)
    if not found:
        raise ProtocolError("no filters")
    return found


class _Cursor:
    """Reads the fields of a packet one after the other."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def _take(self, n: int) -> bytes:
        taken = self._body[self._at : self._at + n]
        if len(taken) < n:
            raise ProtocolError("packet ends too early")
        self._at += n
        return taken

    def byte(self) -> int:
        return self._take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self._take(2), "big")

    def packet_id(self) -> int:
        if not (number := self.number()):
            raise ProtocolError("packet identifier 0")
        return number

    def data(self) -> bytes:
        return self._take(self.number())

    def text(self) -> str:
        return _decoded(self.data())

    def until_end(self) -> Iterator[None]:
        while self._at < len(self._body):
            yield

    def end(self) -> None:
        if self._at < len(self._body):
            raise ProtocolError("packet is longer than its content")


def connack(code: int) -> bytes:
    """The answer to CONNECT; never with a session, since none outlives its connection."""
    return bytes((0x20, 2, 0, code))


def puback(packet_id: int) -> bytes:
    """QoS 1: we have the message."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def pubrec(packet_id: int) -> bytes:
    """QoS 2: we have the message."""
    return b"\x50\x02" + packet_id.to_bytes(2, "big")


def pubcomp(packet_id: int) -> bytes:
    """QoS 2: the exchange is complete."""
    return b"\x70\x02" + packet_id.to_bytes(2, "big")


def suback(packet_id: int, codes: list[int]) -> bytes:
    """For every filter, the QoS granted or SUBSCRIPTION_REFUSED."""
    return b"\x90" + _length(2 + len(codes)) + packet_id.to_bytes(2, "big") + bytes(codes)


def unsuback(packet_id: int) -> bytes:
    """The subscriptions have ended."""
    return b"\xb0\x02" + packet_id.to_bytes(2, "big")


def publish_head(topic: bytes, nbytes: int, *, packet_id: int, retain: bool) -> bytes:
    """All of a PUBLISH but its payload of `nbytes`; QoS 1 with a `packet_id`, else QoS 0."""
    size = len(topic)
    if packet_id:
        length, ending = _length(4 + size + nbytes), packet_id.to_bytes(2, "big")
        return b"".join((b"\x33" if retain else b"\x32", length, size.to_bytes(2, "big"), topic, ending))
    return b"".join((b"\x31" if retain else b"\x30", _length(2 + size + nbytes), size.to_bytes(2, "big"), topic))


def _length(n: int) -> bytes:
    if n < 0x80:
        return bytes((n,))
    encoded = bytearray()
    while n > 0x7F:
        encoded.append(n & 0x7F | 0x80)
        n >>= 7
    encoded.append(n)
    return bytes(encoded)
