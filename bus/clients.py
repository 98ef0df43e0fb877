"""The clients of the embedded broker: who comes in, who is there, who must go; see `bus.connection.Hub`."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final

from bus.access import Access, Credentials, Member
from bus.chatter import Chatter
from bus.connection import Connection
from bus.errors import RefusedError
from bus.limits import Limits
from bus.logins import Logins
from bus.packets import BAD_IDENTIFIER, NOT_AUTHORIZED, UNAVAILABLE, connack
from bus.router import Router
from bus.stream import Stream
from bus.traffic import BrokerStatistics, ClientInfo

logger = logging.getLogger(__name__)

FULL: Final = connack(UNAVAILABLE)
"""What is said to whom there is no room for."""

_SAMPLE: Final = 5.0
"""Seconds between two looks at how much each client sends and gets."""

_WILLS: Final = 0.3
"""Seconds that wills are still handed around for when the broker ends; then they are only retained."""

_PARTING: Final = 1.3
"""Seconds that the clients get to go when the broker ends."""


class Clients:
    """All connections of one broker.

    Args:
        router: where messages go.
        access: who may do what.
        limits: what clients may ask for.
    """

    def __init__(self, router: Router, access: Access, limits: Limits) -> None:
        self.router = router
        self.access = access
        self.saved = 0
        self.chatter = Chatter(logger)
        self.present: dict[str, Connection] = {}
        self._limits = limits
        self._logins = Logins(limits.failed_logins)
        self._served: dict[Connection, asyncio.Task[None]] = {}
        self._unsaved: set[Connection] = set()
        self._cuts: list[Callable[[Member], bool]] = []
        self._entering = 0
        self._total = self._received = self._sent = 0
        self.closing = False

    # Connections

    @property
    def full(self) -> bool:
        """Whether there is room for nobody else, our own process excepted."""
        return self.closing or len(self._served) >= self._limits.connections

    def refuse(self, peer: str) -> None:
        """Log that there was no room for someone."""
        if not self.closing:
            count = len(self._served)
            self.chatter.log(logging.WARNING, "someone at %s refused: there are %d connections already", peer, count)

    def serve(self, stream: Stream) -> Connection:
        """Begin to serve a client."""
        connection = Connection(stream, self, self._limits)
        task = asyncio.create_task(connection.run(), name=f"mqtt {stream.peer}")
        self._served[connection] = task
        task.add_done_callback(lambda _: self._served.pop(connection))
        return connection

    async def serve_until_gone(self, stream: Stream) -> None:
        """Serve a client; when this is cancelled, it goes."""
        connection = self.serve(stream)
        task = self._served[connection]
        try:
            await asyncio.shield(task)
        finally:
            connection.end("is no longer served")
            await asyncio.wait({task})

    # Coming in

    async def authenticate(self, credentials: Credentials) -> Member:
        """Ask who it is, before anything of an existing client is touched (B3)."""
        self._entering += 1
        cuts = len(self._cuts)
        try:
            async with self._logins.turn(credentials.host) as may_try:
                if not may_try:
                    raise RefusedError(UNAVAILABLE, "too many failed logins from this address, wait a minute")
                member = await self._ask(credentials)
            if any(unwelcome(member) for unwelcome in self._cuts[cuts:]):
                raise RefusedError(NOT_AUTHORIZED, "it was cut off while it came in")
        finally:
            self._entering -= 1
            if not self._entering:
                self._cuts.clear()
        return member

    async def _ask(self, credentials: Credentials) -> Member:
        try:
            member = await self.access.admit(credentials)
        except Exception as error:
            logger.exception("cannot tell whether client %r at %s may come in", credentials.client_id, credentials.peer)
            raise RefusedError(UNAVAILABLE, f"{type(error).__name__}: {error}") from error
        if member is None:
            self._logins.failed(credentials.host)
            raise RefusedError(NOT_AUTHORIZED, _who_failed(credentials))
        return member

    def admit(self, connection: Connection) -> None:
        """Let a client in; an earlier one of the same name goes, its will first (B4)."""
        old = self.present.get(connection.client_id)
        if old is not None:
            if not _may_take_over(connection, old):
                raise RefusedError(BAD_IDENTIFIER, "another user has a client of this name")
            old.leave()
            old.end(f"is taken over from {connection.stream.peer}", flush=False)
        self.present[connection.client_id] = connection
        self._total += 1
        logger.log(logging.DEBUG if connection.stream.trusted else logging.INFO, "%s came in", connection)

    def dismiss(self, connection: Connection) -> None:
        """Forget a client, but not the one that took its name over."""
        self._unsaved.discard(connection)
        self._received += connection.traffic.received
        self._sent += connection.traffic.sent
        if self.present.get(connection.client_id) is connection:
            del self.present[connection.client_id]

    # Being there

    def await_saved(self, connection: Connection) -> None:
        """Tell a connection when more retained messages are saved."""
        self._unsaved.add(connection)

    def set_saved(self, number: int) -> None:
        """All saves up to this number are done."""
        self.saved = number
        for connection in tuple(self._unsaved):
            if not connection.acknowledge_saved():
                self._unsaved.discard(connection)

    def infos(self) -> list[ClientInfo]:
        """Who is there, in the order of coming in; our own process is not listed."""
        return [each.info for each in self.present.values() if not each.stream.trusted]

    def statistics(self) -> BrokerStatistics:
        """A snapshot."""
        here = self.present.values()
        return BrokerStatistics(
            clients=len(self.present),
            subscriptions=self.router.nsubscriptions,
            retained=self.router.nretained,
            connections=self._total,
            received=self._received + sum(each.traffic.received for each in here),
            sent=self._sent + sum(each.traffic.sent for each in here),
            cleared=self.router.cleared,
        )

    async def sample(self) -> None:
        """Keep the rates of all clients up to date, for ever."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_SAMPLE)
            seconds = time.monotonic() - before
            for each in tuple(self.present.values()):
                each.traffic.sample(seconds)

    # Going

    def cut(self, unwelcome: Callable[[Member], bool], reason: str) -> int:
        """End the connections of some members, and of those of them that come in right now; how many they were."""
        if self._entering:
            self._cuts.append(unwelcome)
        found = [each for each in self.present.values() if not each.stream.trusted and unwelcome(each.member)]
        for each in found:
            each.leave()
            each.cut(reason)
        return len(found)

    async def close(self) -> None:
        """Send all away, their wills first (amqtt: wills are not sent at shutdown)."""
        self.closing = True
        self._publish_wills()
        tasks = set(self._served.values())
        for connection in tuple(self._served):
            connection.end("is sent away: the broker ends", level=logging.DEBUG)
        if tasks:
            logger.info("%d connections are ended", len(tasks))
            _, left = await asyncio.wait(tasks, timeout=_PARTING)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        self.chatter.flush()

    def _publish_wills(self) -> None:
        """All of them, while those who may want to hear them are there."""
        until = time.monotonic() + _WILLS
        here = tuple(self.present.values())
        for connection in here:
            connection.publish_will()
            if time.monotonic() > until:
                until = math.inf
                for each in here:
                    self.router.forget(each)


def _may_take_over(connection: Connection, old: Connection) -> bool:
    """Whether it is the same one that comes again: of the same user, and not a stranger in place of ourselves."""
    return connection.stream.trusted or (not old.stream.trusted and connection.member.name == old.member.name)


def _who_failed(credentials: Credentials) -> str:
    if credentials.username is None:
        return "clients without a name are not let in here"
    return f"wrong name or password of user {credentials.username[:300]!r}"
