"""Who may come in, and do what; pure. The product decides, `bus.broker` asks."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client shows when it connects."""

    client_id: str
    username: str | None
    password: bytes | None = field(repr=False)
    peer: str
    """Where it is, for the log: ``127.0.0.1:4711``, or ``127.0.0.1:4711 (WebSocket)``."""
    host: str
    """The peer's IP address alone; empty for a Unix socket."""
    local: bool
    """Whether it is on this very machine (loopback, or the machine's own address), and not behind a proxy."""
    certificate: str | None = None
    """The common name of its certificate, if it showed one and that was verified."""


@dataclass(frozen=True, slots=True)
class Member:
    """Who a client is, once it was let in."""

    name: str
    """The name of the user; empty for an anonymous one."""
    role: str
    """Shown in lists and logs; means nothing to the bus."""


class Access(Protocol):
    """The rules of one broker.

    A refused subscription is answered with 0x80, a refused message ends the connection (to
    acknowledge it would be a lie), and a refused will keeps the client out. Wills and retained
    messages obey the same rules as others. Only `admit` may wait; all others must be quick.
    """

    async def admit(self, credentials: Credentials) -> Member | None:
        """Who this is; None if it may not come in."""

    def may_publish(self, member: Member, topic: str) -> str | None:
        """None if it may, else in words why not, for the log."""

    def may_subscribe(self, member: Member, filter: str) -> str | None:
        """None if it may, else in words why not, for the log."""

    def guarded(self, topic: str) -> bool:
        """Whether `may_receive` decides on each delivery; asked once for each message."""

    def may_receive(self, member: Member, topic: str) -> bool:
        """Whether it gets what is published to a guarded topic, though its subscription is wider."""


class OpenAccess:
    """Everybody may do everything."""

    async def admit(self, credentials: Credentials) -> Member | None:
        """Let everybody in, under the name that it gives itself."""
        return Member(credentials.username or "", "")

    def may_publish(self, member: Member, topic: str) -> str | None:
        """Yes."""

    def may_subscribe(self, member: Member, filter: str) -> str | None:
        """Yes."""

    def guarded(self, topic: str) -> bool:
        """No."""
        return False

    def may_receive(self, member: Member, topic: str) -> bool:
        """Yes."""
        return True
