"""What clients may ask of the embedded broker; pure."""

from dataclasses import dataclass

from bus.messages import MAX_PAYLOAD


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one broker; beyond them a client is refused or cut off, and the others notice nothing."""

    connections: int = 10_000
    """Connections at once; one more is refused at once. Each is a file descriptor, and some 40 KB."""
    connect_timeout: float = 10.0
    """Seconds until CONNECT; a connection that says nothing costs as much as one that does."""
    failed_logins: int = 30
    """Failed logins in a minute from one address; further attempts are refused without looking at them."""
    packet: int = MAX_PAYLOAD + 4096
    """Bytes of a packet after its length; a larger one ends the connection before it is read."""
    topic: int = 4096
    """Bytes of a topic or filter."""
    levels: int = 32
    """Levels of a topic or filter."""
    subscriptions: int = 1000
    """Subscriptions of a client; those beyond are refused one by one."""
    outbox: int = 8 * 1024 * 1024
    """Bytes that wait for a client until it is cut off; a bulk of 10,000 changes is about 3 MB."""
    retained: int = 250_000
    """Retained messages; ours are one for every root and one for every daemon."""
    retained_bytes: int = 512 * 1024 * 1024
    """Bytes of topics and payloads of all retained messages; they are in memory, and on the disk."""
