"""Follows the roots: takes the bus's messages to the catalog, and does what the catalog wants done.

The flow: `bus.messages() -> catalog.apply -> effects`. Saving goes to the store and to the mirrors through a thread, in
order. Catching up is one task for each root, which asks the publisher over HTTP; however often a root falls behind
meanwhile, it asks once more. A publisher that gives no answer is asked again with growing pauses.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from random import uniform
from typing import Literal

from bus import (
    Bus,
    BusUnavailableError,
    Changes,
    Connected,
    Disconnected,
    Resync,
    RootAnnouncement,
    ServiceStatus,
    TokenGrant,
    TopicError,
    Topics,
)
from caterva2.daemon.latency import spare_collector
from caterva2.daemon.supervisor import Supervisor
from caterva2.errors import Caterva2Error, GoneError, UnavailableError
from caterva2.models import CatalogHead, DatasetEntry
from caterva2.paths import RootName
from caterva2.subscriber.catalog import (
    Catalog,
    CatchUp,
    DropMirror,
    Effect,
    Root,
    SaveDatasets,
    SaveRoot,
    TellChanges,
    TellRoot,
)
from caterva2.subscriber.events import EventLog
from caterva2.subscriber.figures import Figures
from caterva2.subscriber.mirrors import MirrorStore
from caterva2.subscriber.origin import Origin, RefusedError
from caterva2.subscriber.store import CatalogStore

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0  # seconds


class Follower:
    """Keeps the catalog in step with the publishers.

    Args:
        catalog: what is known of the roots.
        store: where that is kept across restarts.
        mirrors: what is on disk of the datasets.
        origin: the way to the publishers.
        supervisor: owns the tasks that catch up.
        topics: of the bus.
        events: where clients that follow along are told.
        figures: where it is counted what the bus tells.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: CatalogStore,
        mirrors: MirrorStore,
        origin: Origin,
        supervisor: Supervisor,
        topics: Topics,
        events: EventLog | None = None,
        figures: Figures | None = None,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._mirrors = mirrors
        self._origin = origin
        self._supervisor = supervisor
        self._topics = topics
        self._events = events or EventLog()
        self._figures = figures or Figures()
        self._bus: Bus | None = None
        self._status: ServiceStatus | None = None
        self._catching_up: dict[RootName, asyncio.Task[None]] = {}
        self._again: set[RootName] = set()
        self._locks: dict[RootName, asyncio.Lock] = {}
        self._saving = asyncio.Lock()

    def join(self, bus: Bus, status: ServiceStatus) -> None:
        """Take the bus to follow, and the status to show there."""
        self._bus, self._status = bus, status

    async def follow(self) -> None:
        """Follow the bus until it is left; tell it our status at each connection."""
        assert self._bus is not None
        subscribed = [self._topics.change(root.name) for root in self._catalog.roots() if root.subscribed]
        await self._bus.subscribe(self._topics.all_roots, *subscribed)
        async for event in self._bus.messages():
            match event:
                case Connected():
                    # First of all: the broker gives tokens when it sees us come.
                    await self._ask_for_tokens()
                    await self._introduce("online")
                    await self.carry_out(self._catalog.connected())
                case Disconnected():
                    self._catalog.disconnected(time.monotonic())
                    await self._bus.unsubscribe(*self._token_topic())
                case TokenGrant():
                    self._origin.grants.take(event)
                case Resync():
                    await self.carry_out(self._catalog.connected())
                case RootAnnouncement() | Changes():
                    if isinstance(event, Changes):
                        self._figures.told(event.root, [change.time for change in event.changes])
                    await self.carry_out(self._catalog.apply(event, time.monotonic()))

    async def _ask_for_tokens(self) -> None:
        """Subscribe to our own topic of tokens.

        It is done at each connection, and taken back with it: a broker that refuses it would refuse all subscriptions
        of the next connection, of which this was one.
        """
        assert self._bus is not None
        try:
            await self._bus.subscribe(*self._token_topic())
        except BusUnavailableError as error:
            await self._bus.unsubscribe(*self._token_topic())
            logger.warning("the bus gives no tokens for publishers; those in [subscriber] tokens count: %s", error)

    def _token_topic(self) -> tuple[str, ...]:
        try:
            return (self._topics.token(self._status.user),) if self._status is not None else ()
        except TopicError:
            # A name with other characters than names have here, of a broker of others: nobody grants it any.
            return ()

    async def leave(self) -> None:
        """Take leave of the bus."""
        await self._introduce("offline")

    async def _introduce(self, presence: Literal["online", "offline"]) -> None:
        if self._bus is None or self._status is None:
            return
        now = {"status": presence, "birth": self._bus.birth, "time": time.time()}
        # Without a bus there is nobody to tell; as soon as there is one, `Connected` comes again.
        with suppress(BusUnavailableError):
            await self._bus.publish(self._status.model_copy(update=now))

    @property
    def bus_state(self) -> Literal["connected", "disconnected", "none"]:
        """Whether the bus is connected, disconnected, or none is configured."""
        if self._bus is None:
            return "none"
        return "connected" if self._bus.connected else "disconnected"

    @property
    def trouble(self) -> str:
        """Why changes are not heard of as they happen; empty while they are, or if no bus is configured."""
        return f"not connected to the message bus: {self._bus.trouble}" if self._bus and self._bus.trouble else ""

    async def subscribe(self, name: RootName) -> None:
        """Follow a root, and return when its datasets are known.

        Raises:
            NotFoundError: if no publisher has announced it.
            UnavailableError: if its publisher gives no answer and nothing of it was known before.
        """
        root = self._catalog.root(name)
        if root.subscribed and root.head is not None:
            return
        if self._bus is not None:
            await self._bus.subscribe(self._topics.change(name))
        effects = [effect for effect in self._catalog.subscribe(name) if not isinstance(effect, CatchUp)]
        await self.carry_out(effects)
        if self._catalog.root(name).head is None:
            await self._catch_up_once(name)

    async def refresh(self, name: RootName) -> None:
        """Catch up now with a root that nothing vouches for.

        Raises:
            UnavailableError: if its publisher gives no answer.
        """
        await self._catch_up_once(name)

    async def carry_out(self, effects: Iterable[Effect]) -> None:
        """Do what the catalog wants done."""
        effects = list(effects)
        # The root as it is now: later it may have a head whose datasets are not on disk yet, and after a crash
        # nobody would ask for them again.
        saves = [
            self._catalog.root(effect.root) if isinstance(effect, SaveRoot) else effect
            for effect in effects
            if not isinstance(effect, CatchUp | TellChanges | TellRoot)
        ]
        for effect in effects:
            match effect:
                case CatchUp():
                    self._start_catching_up(effect.root)
                case TellChanges() | TellRoot():
                    # At once: the catalog has it, so whoever reads from now on gets it.
                    self._events.add(effect)
        if saves:
            async with self._saving:
                await asyncio.to_thread(self._save, saves)

    def _save(self, effects: Iterable[SaveDatasets | Root | DropMirror]) -> None:
        for effect in effects:
            try:
                self._save_one(effect)
            except (sqlite3.Error, OSError) as error:
                # What is served comes from memory; what is not saved is asked for again after a restart.
                logger.warning("cannot save what is known of the roots: %s", error)

    def _save_one(self, effect: SaveDatasets | Root | DropMirror) -> None:
        match effect:
            case SaveDatasets():
                self._store.save_datasets(effect)
            case Root():
                self._store.save_root(effect)
            case DropMirror():
                self._mirrors.remove(effect.path)

    def _start_catching_up(self, name: RootName) -> None:
        task = self._catching_up.get(name)
        if task is not None and not task.done():
            self._again.add(name)
            return
        self._catching_up[name] = self._supervisor.start(self._catch_up(name), f"catching up with {name}")

    async def _catch_up(self, name: RootName) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._again.discard(name)
            try:
                await self._catch_up_once(name)
            except UnavailableError as error:
                if not self._catalog.root(name).online:
                    # It announces itself when it is back, which starts this again.
                    return
                logger.info("cannot catch up with %s: %s", name, error)
                self._again.add(name)
            except RefusedError:
                # Said in the log already, once; and a token may come.
                self._again.add(name)
            except Caterva2Error as error:
                logger.warning("cannot catch up with %s: %s", name, error)
                self._again.add(name)
            if name not in self._again:
                return
            await self._origin.grants.news(pause * uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _catch_up_once(self, name: RootName) -> None:
        async with self._locks.setdefault(name, asyncio.Lock()):
            root, asked = self._catalog.root(name), time.monotonic()
            if root.head is not None:
                try:
                    answer = await self._origin.changes(root, *root.head)
                except GoneError as error:
                    logger.info("listing %s afresh: %s", name, error)
                else:
                    head = CatalogHead(epoch=answer.epoch, seq=answer.seq)
                    await self.carry_out(self._catalog.caught_up(root, head, answer.changes, asked))
                    return
            await self._list(root)

    async def _list(self, root: Root) -> None:
        asked = time.monotonic()
        head: CatalogHead | None = None
        entries: list[DatasetEntry] = []
        async for item in self._origin.catalog(root):
            if isinstance(item, CatalogHead):
                head = item
            else:
                entries += item
                spare_collector()
                # A piece of the answer may hold all of them: others have a turn in between.
                await asyncio.sleep(0)
        assert head is not None
        listing = await asyncio.to_thread(self._catalog.compare, root.name, entries)
        await self.carry_out(self._catalog.listed(root, head, listing, asked))
