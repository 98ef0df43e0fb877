"""Tells the bus that the root is here, and what changes in it.

The announcement is also the head of the journal: it goes out at every connection, as a heartbeat, and soon after
changes, so that a subscriber that missed the last message finds out. What cannot be sent is dropped, since
subscribers catch up over HTTP; nothing here ever waits for the bus and holds up anything else.

Whether the announcement arrives is known from its coming back, see `confirmation`. Without that the publisher is not
ready: it can be reached, but nobody can know.

Two publishers of one name would make subscribers swing between two roots. So on each connection the retained
announcement is looked at first, and if the publisher that it names is alive, the later of the two gives up.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal

import httpx
from anyio import to_thread

from bus.errors import BusError, BusUnavailableError
from bus.interface import Bus, Connected, Disconnected
from bus.messages import Change, RootAnnouncement, ServiceStatus, pack_changes
from bus.reasons import Cause
from bus.topics import Topics
from caterva2.daemon.bus import client_tls
from caterva2.errors import SettingsError
from caterva2.models import ChangeEntry, Health
from caterva2.publisher.changes import Journal
from caterva2.publisher.confirmation import Confirmation
from caterva2.settings import BusSettings

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
_MOST_HEALTH: Final = 16 * 1024  # bytes

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
        user: the name that it joins the bus with; "" is anonymous.
        instance: this process, told apart from others of its name.
    """

    name: str
    id: str
    http: str
    heartbeat: float
    kind: Literal["directory", "hdf5"]
    version: str
    user: str = ""
    instance: str = field(default_factory=lambda: secrets.token_hex(8))


class Announcer:
    """Announces one root.

    Args:
        identity: who announces.
        journal: of the root.
        alive: finds out whether the publisher of an announcement still answers.
    """

    def __init__(self, identity: Identity, journal: Journal, alive: AliveCheck) -> None:
        self.identity = identity
        self._journal = journal
        self._alive = alive
        self._waiting: deque[ChangeEntry] = deque()
        self._wake = asyncio.Event()
        self._due = float("inf")
        self._checking = False
        self._announced = asyncio.Event()
        self._started = time.monotonic()
        self._confirmation = Confirmation(identity.user)

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

    def unready(self, bus: Bus) -> str:
        """Why nobody can find the root on the bus, with a remedy; empty while everybody can."""
        if self._confirmation.refusal:
            return f"the root is not announced: {self._confirmation.refusal}"
        if not bus.connected:
            return f"not connected to the message bus: {bus.trouble}"
        return "" if self._confirmation.birth == bus.birth else "the root is not announced yet"

    async def run(self, bus: Bus, topics: Topics) -> None:
        """Announce for ever.

        Raises:
            NameTakenError: when another publisher of the name is alive, and this one is the later.
        """
        topic = self._confirmation.topic = topics.root(self.identity.name)
        # Who may not listen may not announce either; that is found out, and told, when it is tried.
        with suppress(BusUnavailableError):
            await bus.subscribe(topic)
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
                next_step = min(self._due, self._confirmation.deadline)
                async with asyncio.timeout(max(0.0, next_step - time.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if time.monotonic() >= self._confirmation.deadline:
                self._on_silence()
            if not bus.connected:
                self._waiting.clear()
                self._due = float("inf")
            elif self._checking:
                self._due = max(self._due, time.monotonic() + _HEAD_AFTER)
            else:
                await self._send(bus)

    async def _send(self, bus: Bus) -> None:
        birth = bus.birth
        try:
            if self._confirmation.refusal:
                self._waiting.clear()  # they would be refused too, and who follows will catch up
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
            if getattr(error, "cause", None) is Cause.CLOSED and self._confirmation.cut(birth):
                self._complain()
            self._due = time.monotonic() + self._confirmation.pause(_HEAD_AFTER)

    def _on_silence(self) -> None:
        """What was announced did not come back."""
        if self._confirmation.overdue():
            self._complain()
        self._due = time.monotonic() + self._confirmation.pause(self.identity.heartbeat)

    def _complain(self) -> None:
        logger.error("root %s is not announced: %s", self.identity.name, self._confirmation.refusal)

    async def _send_head(self, bus: Bus) -> None:
        # Changes that are still waiting are not part of the head, or everyone would fetch them at once.
        self._due = time.monotonic() + self._confirmation.pause(self.identity.heartbeat)
        if not self._announced.is_set():
            self._waiting.clear()  # nobody follows yet
        seq = self._waiting[0].seq - 1 if self._waiting else self._journal.head.seq
        said = self._announcement("online", bus.birth, seq)
        self._confirmation.sending(said)
        await bus.publish(said)
        self._confirmation.acknowledged(time.monotonic())
        await bus.publish(self._status("online", bus.birth))
        self._announced.set()

    def _head_within(self, seconds: float) -> None:
        if not self._confirmation.refusal:  # which has pauses of its own
            self._due = min(self._due, time.monotonic() + seconds)
        self._wake.set()

    # -- listening ------------------------------------------------------------------------------------

    async def _listen(self, bus: Bus) -> None:
        async for event in bus.messages():
            match event:
                case Connected():
                    logger.debug("joined the bus at %s", event.url)
                    await to_thread.run_sync(self._journal.keep_birth, event.birth)
                    self._confirmation.disconnected()
                    self._due = time.monotonic() + self._confirmation.pause(GRACE)
                    self._wake.set()
                case Disconnected():
                    if self._confirmation.disconnected():
                        self._complain()
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
        elif mine:
            if self._confirmation.heard(said):
                logger.info("root %s is announced", self.identity.name)
        else:
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
            time=time.time(), version=me.version, user=me.user,
        )  # fmt: skip

    def _change(self, entry: ChangeEntry) -> Change:
        return Change(root=self.identity.name, epoch=self._journal.head.epoch, time=time.time(), **entry.model_dump())


async def is_alive(announcement: RootAnnouncement, bus: BusSettings) -> bool:
    """Ask the publisher of an announcement whether it is still the one; `bus` says whose certificates to trust."""
    try:
        verify = await to_thread.run_sync(client_tls, bus) if announcement.http.startswith("https:") else False
        # The address came over the bus: whatever is there gets so much time, and so much memory.
        async with (
            asyncio.timeout(2 * _CHECK_TIMEOUT),
            httpx.AsyncClient(timeout=_CHECK_TIMEOUT, trust_env=False, verify=verify) as client,
            client.stream("GET", f"{announcement.http}/health") as answer,
        ):
            body = b""
            async for piece in answer.aiter_raw(_MOST_HEALTH):
                body += piece
                if len(body) >= _MOST_HEALTH:
                    return False
            return Health.model_validate_json(body).instance == announcement.instance
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, SettingsError, TimeoutError):
        return False
