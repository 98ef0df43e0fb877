"""Tells the bus that the root is here, and what changes in it.

The announcement is also the head of the journal: it goes out at every connection, as a heartbeat, and soon after
changes, so that a subscriber that missed the last message finds out. What cannot be sent is dropped, since
subscribers catch up over HTTP; nothing here ever waits for the bus and holds up anything else.

Two publishers of one name would make subscribers swing between two roots. So on each connection the retained
announcement is looked at first, and if the publisher that it names is alive, the later of the two gives up.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal

import httpx
from anyio import to_thread

from bus.errors import BusError
from bus.interface import Bus, Connected, Disconnected
from bus.messages import Change, RootAnnouncement, ServiceStatus, pack_changes
from bus.topics import Topics
from caterva2.errors import SettingsError
from caterva2.models import ChangeEntry, Health
from caterva2.publisher.changes import Journal

logger = logging.getLogger(__name__)

GRACE: Final = 0.25
"""Seconds after a connection in which a retained announcement of another publisher arrives."""
_HEAD_AFTER: Final = 0.5
"""Seconds from a change to the announcement of the new head."""
_BATCH: Final = 250
"""Changes packed at once, so that the event loop is not held up."""
_MAX_WAITING: Final = 50_000
"""Changes waiting for the bus; beyond this they are dropped, and subscribers catch up."""
_FRESH: Final = 5.0
"""Seconds after its start in which a publisher counts as the later one, whatever the clocks say."""
_FAREWELL: Final = 1.0
_CHECK_TIMEOUT: Final = 2.0

Presence = Literal["online", "offline"]
AliveCheck = Callable[[RootAnnouncement], Awaitable[bool]]


class NameTakenError(SettingsError):
    """Another publisher of this name is alive."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who announces.

    Attributes:
        name: of the root.
        id: of the daemon.
        http: the base URL that subscribers use.
        heartbeat: seconds between two announcements.
        kind: of the source.
        version: of the program.
        instance: this process, told apart from others of its name.
    """

    name: str
    id: str
    http: str
    heartbeat: float
    kind: Literal["directory", "hdf5"]
    version: str
    instance: str = field(default_factory=lambda: secrets.token_hex(8))


class Announcer:
    """Announces one root.

    Args:
        identity: who announces.
        journal: of the root.
        alive: finds out whether the publisher of an announcement still answers.
    """

    def __init__(self, identity: Identity, journal: Journal, alive: AliveCheck | None = None) -> None:
        self.identity = identity
        self._journal = journal
        self._alive = alive or is_alive
        self._waiting: deque[ChangeEntry] = deque()
        self._wake = asyncio.Event()
        self._due = float("inf")
        self._checking = False
        self._announced = asyncio.Event()
        self._started = time.monotonic()

    def will(self, birth: int) -> RootAnnouncement:
        """What the broker shall say when the connection of this number is lost."""
        return self._announcement("offline", birth, self._journal.head.seq)

    def tell(self, changes: Iterable[ChangeEntry]) -> None:
        """Send changes when possible; they must be in the journal."""
        self._waiting.extend(changes)
        if len(self._waiting) > _MAX_WAITING:
            logger.info("%d changes are not sent one by one: subscribers catch up", len(self._waiting))
            self._waiting.clear()
        self._head_within(_HEAD_AFTER)

    @property
    def announced(self) -> asyncio.Event:
        """Set once the root was announced for the first time."""
        return self._announced

    async def run(self, bus: Bus, topics: Topics) -> None:
        """Announce for ever.

        Raises:
            NameTakenError: when another publisher of the name is alive, and this one is the later.
        """
        await bus.subscribe(topics.root(self.identity.name))
        sender = asyncio.create_task(self._send_forever(bus), name="sender of announcements")
        listener = asyncio.create_task(self._listen(bus), name="listener for rivals")
        try:
            await asyncio.wait({sender, listener}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, listener):
                task.cancel()
            results = await asyncio.gather(sender, listener, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def say_goodbye(self, bus: Bus) -> None:
        """Announce the end; a clean leave sends no last will."""
        if not (bus.connected and self._announced.is_set()):
            return
        try:
            async with asyncio.timeout(_FAREWELL):
                await bus.publish(self._announcement("offline", bus.birth, self._journal.head.seq))
                await bus.publish(self._status("offline", bus.birth))
        except (BusError, TimeoutError) as error:
            logger.debug("the end was not announced: %s", error)

    # -- sending --------------------------------------------------------------------------------------

    async def _send_forever(self, bus: Bus) -> None:
        while True:
            try:
                async with asyncio.timeout(max(0.0, self._due - time.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if not bus.connected:
                self._waiting.clear()
                self._due = float("inf")
            elif self._checking:
                self._due = max(self._due, time.monotonic() + _HEAD_AFTER)
            else:
                await self._send(bus)

    async def _send(self, bus: Bus) -> None:
        try:
            while self._waiting and self._announced.is_set():
                batch = [self._change(entry) for entry in islice(self._waiting, _BATCH)]
                for message in pack_changes(batch):
                    await bus.publish(message)
                for _ in range(min(len(batch), len(self._waiting))):
                    self._waiting.popleft()
            if time.monotonic() >= self._due:
                await self._send_head(bus)
        except BusError as error:
            logger.debug("not announced: %s", error)
            self._waiting.clear()
            self._due = time.monotonic() + _HEAD_AFTER

    async def _send_head(self, bus: Bus) -> None:
        # Changes that are still waiting are not part of the head, or everyone would fetch them at once.
        self._due = time.monotonic() + self.identity.heartbeat
        if not self._announced.is_set():
            self._waiting.clear()  # nobody follows yet
        seq = self._waiting[0].seq - 1 if self._waiting else self._journal.head.seq
        await bus.publish(self._announcement("online", bus.birth, seq))
        await bus.publish(self._status("online", bus.birth))
        if not self._announced.is_set():
            logger.info("root %s is announced", self.identity.name)
        self._announced.set()

    def _head_within(self, seconds: float) -> None:
        self._due = min(self._due, time.monotonic() + seconds)
        self._wake.set()

    # -- listening ------------------------------------------------------------------------------------

    async def _listen(self, bus: Bus) -> None:
        async for event in bus.messages():
            match event:
                case Connected():
                    logger.debug("joined the bus at %s", event.url)
                    await to_thread.run_sync(self._journal.keep_birth, event.birth)
                    self._head_within(GRACE)
                case Disconnected():
                    logger.debug("lost the bus: %s", event.reason)
                case RootAnnouncement(name=self.identity.name):
                    await self._on_own_name(event, bus.birth)

    async def _on_own_name(self, said: RootAnnouncement, birth: int) -> None:
        """Answer what was said of this name: a last will come late, or another publisher."""
        mine = said.instance == self.identity.instance
        if said.status == "offline":
            if not mine or said.birth <= birth:
                self._head_within(0)
        elif not mine and said.http != self.identity.http:
            await self._on_rival(said, birth)
        elif not mine:
            # Who had this address before is gone: it is ours now.
            self._head_within(0)

    async def _on_rival(self, rival: RootAnnouncement, birth: int) -> None:
        self._checking = True
        try:
            alive = await self._alive(rival)
        finally:
            self._checking = False
        fresh = not self._announced.is_set() and time.monotonic() - self._started < _FRESH
        later = (rival.birth, rival.instance) < (birth, self.identity.instance)
        if alive and (fresh or later):
            raise NameTakenError(
                f"root {self.identity.name} is already published at {rival.http}: stop that publisher, or choose"
                " another name"
            )
        if not alive:
            logger.info("root %s was published at %s, which does not answer", rival.name, rival.http)
        # Not at once: two that cannot reach each other would answer one another for ever.
        self._head_within(1.0 if self._announced.is_set() else 0.0)

    # -- messages -------------------------------------------------------------------------------------

    def _announcement(self, status: Presence, birth: int, seq: int) -> RootAnnouncement:
        me = self.identity
        return RootAnnouncement(
            name=me.name, http=me.http, status=status, epoch=self._journal.head.epoch, seq=seq, instance=me.instance,
            birth=birth, heartbeat=me.heartbeat, kind=me.kind, time=time.time(), version=me.version,
        )  # fmt: skip

    def _status(self, status: Presence, birth: int) -> ServiceStatus:
        me = self.identity
        return ServiceStatus(
            kind="publisher", id=me.id, status=status, http=me.http, instance=me.instance, birth=birth,
            time=time.time(), version=me.version,
        )  # fmt: skip

    def _change(self, entry: ChangeEntry) -> Change:
        return Change(root=self.identity.name, epoch=self._journal.head.epoch, time=time.time(), **entry.model_dump())


async def is_alive(announcement: RootAnnouncement, tls: ssl.SSLContext | None = None) -> bool:
    """Ask the publisher of an announcement whether it is still the one."""
    try:
        verify = tls or ssl.create_default_context()
        async with httpx.AsyncClient(timeout=_CHECK_TIMEOUT, trust_env=False, verify=verify) as client:
            answer = await client.get(f"{announcement.http}/health")
            return Health.model_validate_json(answer.content).instance == announcement.instance
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False
