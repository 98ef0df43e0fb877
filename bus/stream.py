"""A way for bytes to a client of the embedded broker and back, and the packets in them."""

from typing import Protocol

from bus.errors import ProtocolError
from bus.packets import Packet, parse


class Stream(Protocol):
    """A way for bytes to a client and back, whatever the transport."""

    @property
    def peer(self) -> str:
        """Where the client is, for the log."""

    @property
    def trusted(self) -> bool:
        """Whether the client is our own process, and is asked nothing."""

    @property
    def host(self) -> str:
        """Its IP address; empty if it has none."""

    @property
    def local(self) -> bool:
        """Whether it is on this machine; see `bus.access.Credentials`."""

    @property
    def certificate(self) -> str | None:
        """The name in its certificate, once something was read."""

    async def read(self, n: int) -> bytes:
        """Exactly `n` bytes; EOFError or OSError when there will be no more."""

    async def write(self, data: bytes) -> None:
        """Send, and return when there is room for more; OSError if the client is gone."""

    async def close(self) -> None:
        """End the connection, in bounded time, whatever its state."""


async def read_packet(stream: Stream, limit: int, first: int | None = None) -> Packet:
    """The next packet, read as a whole; ProtocolError if it is bad, or longer than `limit` bytes.

    Args:
        stream: where from.
        limit: bytes after the length.
        first: the first byte, when that was read already.
    """
    if first is None:
        first, byte = await stream.read(2)  # no packet is shorter
    else:
        (byte,) = await stream.read(1)
    length, shift = byte & 0x7F, 7
    while byte >= 0x80:
        if shift > 21:
            raise ProtocolError("length has more than 4 bytes")
        (byte,) = await stream.read(1)
        length |= (byte & 0x7F) << shift
        shift += 7
    if length > limit:
        raise ProtocolError(f"packet of {length:,} bytes, more than {limit:,}")
    return parse(first, await stream.read(length) if length else b"")
