"""What a client is and does, for lists and figures; pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A client of the embedded broker, at one moment."""

    client_id: str
    name: str
    """Name of the user; empty for an anonymous one."""
    role: str
    peer: str
    """Where it is."""
    since: float
    """When it came in; seconds since 1970, UTC."""
    subscriptions: int
    queued: int
    """Bytes that wait to go out to it."""
    received: int
    """Messages that it has published."""
    sent: int
    """Messages that it was sent."""
    received_rate: float
    """Messages a second, of the last few seconds."""
    sent_rate: float


@dataclass(frozen=True, slots=True)
class BrokerStatistics:
    """What goes on in a broker."""

    clients: int
    subscriptions: int
    retained: int
    connections: int
    """How many clients have ever come in."""
    received: int = 0
    """Messages that clients have ever published."""
    sent: int = 0
    """Messages that clients were ever sent."""


class Traffic:
    """Counts messages; `sample` now and then makes rates of the counts."""

    __slots__ = ("_received_before", "_sent_before", "received", "received_rate", "sent", "sent_rate")

    def __init__(self) -> None:
        self.received = self.sent = 0
        self.received_rate = self.sent_rate = 0.0
        self._received_before = self._sent_before = 0

    def sample(self, seconds: float) -> None:
        """The rates since the sample before, which was so many seconds ago."""
        self.received_rate = (self.received - self._received_before) / seconds
        self.sent_rate = (self.sent - self._sent_before) / seconds
        self._received_before, self._sent_before = self.received, self.sent
