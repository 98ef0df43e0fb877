"""Carries the registry through the day: feeds it from the bus, and carries its effects out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from bus.client import BusClient
from bus.errors import BusUnavailableError
from bus.interface import Connected, Event
from bus.messages import RootAnnouncement, ServiceStatus
from bus.topics import Topics
from caterva2.broker.registry import CameOnline, Conflict, Effect, Registry, Removed, Save, Saved, WentOffline
from caterva2.broker.tokens import Grants
from caterva2.daemon.statedir import StateDir

logger = logging.getLogger(__name__)
REGISTRY_FILE = "registry.json"
# Seconds between two looks at who is silent, and at what was cleared.
_TICK = 0.5
# How often to look for what was cleared once something was: the message before it may come to us only then.
_LOOKS = 10
# Seconds between two writes of the registry: the first change is written at once, a flood seldom.
_SAVE_PAUSE = 0.5
# Seconds that the bus gets to take our leave.
_PARTING = 2.0


@dataclass(frozen=True, slots=True)
class Retained:
    """What is to be known of a broker's retained messages.

    Attributes:
        topics: gives those that there are.
        cleared: gives how often one was taken back.
    """

    topics: Callable[[], Collection[str]]
    cleared: Callable[[], int]


class Follower:
    """Keeps a registry up to date and on the disk.

    Args:
        registry: what to feed.
        bus: where announcements come from.
        state: where the registry's file is.
        status: makes our own status, of the number of a connection and whether we are there.
        grants: hands out tokens, once told who came.
    """

    def __init__(
        self,
        registry: Registry,
        bus: BusClient,
        state: StateDir,
        status: Callable[[int, bool], ServiceStatus],
        grants: Grants,
    ) -> None:
        self._registry = registry
        self._bus = bus
        self._state = state
        self._status = status
        self._grants = grants
        self._changed = asyncio.Event()
        # A cancelled task leaves its thread writing.
        self._writing = threading.Lock()

    async def follow(self) -> None:
        """Take what the bus brings, for ever."""
        async for event in self._bus.messages():
            if isinstance(event, Connected):
                await self._introduce(online=True)
                self._grants.everyone()
            else:
                self._carry_out(self._take(event))

    async def watch(self, topics: Topics, retained: Retained | None) -> None:
        """Notice who is silent, and whose retained announcement was cleared, for ever.

        Args:
            topics: the topics of the bus.
            retained: the retained messages of our own broker; None with an external broker.
        """
        cleared, looks = -1, 0
        while True:
            await asyncio.sleep(_TICK)
            self._carry_out(self._registry.expire(time.monotonic()))
            if retained is None:
                continue
            if retained.cleared() != cleared:
                cleared, looks = retained.cleared(), _LOOKS
            if looks:
                looks -= 1
                self._forget_cleared(topics, retained.topics())

    def changed(self) -> None:
        """Have the registry written; something in it was changed from elsewhere."""
        self._changed.set()

    async def save(self) -> None:
        """Write the registry when it has changed, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.to_thread(self._write, self._registry.saved())
            await asyncio.sleep(_SAVE_PAUSE)

    async def leave(self) -> None:
        """Take leave of the bus, and write what is not written yet."""
        await self._introduce(online=False)
        await asyncio.to_thread(self._write, self._registry.saved())

    def _forget_cleared(self, topics: Topics, retained: Collection[str]) -> None:
        for name in self._registry.names():
            if topics.root(name) not in retained:
                self._carry_out(self._registry.remove(name))
        for kind, identifier in self._registry.services():
            if topics.service(kind, identifier) not in retained:
                self._carry_out(self._registry.remove_service(kind, identifier))

    async def _introduce(self, *, online: bool) -> None:
        # Without a bus there is nobody to tell; as soon as there is one, `Connected` comes again.
        with contextlib.suppress(BusUnavailableError, TimeoutError):
            async with asyncio.timeout(_PARTING):
                await self._bus.publish(self._status(self._bus.birth, online))

    def _take(self, event: Event) -> list[Effect]:
        match event:
            case RootAnnouncement():
                return self._registry.announce(event, time.monotonic())
            case ServiceStatus():
                effects = self._registry.tell(event)
                if (event.kind, event.status) == ("subscriber", "online"):
                    self._grants.user_came(event.user)
                return effects
        return []

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Save():
                    self._changed.set()
                case CameOnline(root):
                    logger.info("root %s is online at %s", root.name, root.http)
                    self._grants.root_came(root.name)
                case WentOffline(name, reason):
                    logger.info("root %s is offline: %s", name, reason)
                case Removed(name):
                    logger.info("root %s is removed: its announcement was cleared", name)
                case Conflict(kept, refused):
                    logger.warning(
                        "two publishers of root %s: %s stays, %s is ignored; give one of them another name",
                        *(kept.name, kept.http, refused.http),
                    )

    def _write(self, saved: Saved) -> None:
        try:
            with self._writing:
                self._state.write_json(REGISTRY_FILE, saved)
        except OSError as error:
            logger.error("the registry cannot be saved in %s: %s", self._state.path, error.strerror)
