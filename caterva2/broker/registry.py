"""What the broker knows of roots and services: announcements go in, effects come out.

No clock, socket or await in here; times are seconds of any clock that only goes forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from pydantic import Field

from bus.messages import RootAnnouncement, ServiceStatus
from caterva2.models import Model, RootInfo

_Message = TypeVar("_Message", RootAnnouncement, ServiceStatus)
# As many as the embedded broker retains: beyond it is a flood or a mistake.
MAX_ENTRIES = 250_000
# Presence is believed for this many heartbeats: one may be lost, and one late.
_HEARTBEATS = 3
# Seconds; who announces itself less often than this is asked to be heard at least so often.
_MAX_HEARTBEAT = 3600.0


class BrokerRoot(RootInfo):
    """A root in the broker's `GET /api/roots`: upstream's fields, and the head of its journal."""

    epoch: str
    seq: int
    instance: str
    time: float


class Saved(Model):
    """The registry's file: what was announced last, of each root and service, and whom roots belong to."""

    roots: tuple[RootAnnouncement, ...] = ()
    services: tuple[ServiceStatus, ...] = ()
    owners: Mapping[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Save:
    """What the file holds has changed."""


@dataclass(frozen=True, slots=True)
class CameOnline:
    """A root is there."""

    root: RootAnnouncement


@dataclass(frozen=True, slots=True)
class WentOffline:
    """A root is no longer there."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A root was taken back: its retained announcement was cleared."""

    name: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two publishers announce one name."""

    kept: RootAnnouncement
    refused: RootAnnouncement


Effect: TypeAlias = Save | CameOnline | WentOffline | Removed | Conflict


@dataclass(slots=True)
class _Entry:
    announced: RootAnnouncement
    online: bool
    heard: float


# The rules, for an announcement of a name that is known already:
#
# - of the same instance: an earlier birth is a last will that comes late, and an earlier head is a
#   repetition; both are ignored. Anything else is news.
# - of another instance, and the known one is online: the known one stays, for its subscribers hold copies of
#   its versions. But who announces the same address has taken its place, since no two can listen on it.
# - of another instance, and the known one is offline: it takes over, unless it only says that it is gone.
class Registry:
    """The roots and services that were ever announced, until their announcement is cleared.

    Args:
        saved: what an earlier life knew. It is offline until it is heard of: who went away meanwhile will
            not say so, and who is there announces itself as soon as it finds the broker.
    """

    def __init__(self, saved: Saved | None = None) -> None:
        saved = saved or Saved()
        self._roots = {root.name: _Entry(_offline(root), online=False, heard=0.0) for root in saved.roots}
        self._services: dict[tuple[str, str], ServiceStatus] = {
            (each.kind, each.id): _offline(each) for each in saved.services
        }
        self._owners = dict(saved.owners)
        self._refused: dict[str, str] = {}

    def saved(self) -> Saved:
        """What a later life needs."""
        return Saved(
            roots=tuple(entry.announced for entry in self._roots.values()),
            services=tuple(self._services.values()),
            owners=dict(self._owners),
        )

    def roots(self) -> Mapping[str, BrokerRoot]:
        """The roots by name, in the order of their names."""
        return {name: _shown(entry) for name, entry in sorted(self._roots.items())}

    def names(self) -> list[str]:
        """The names of the roots."""
        return list(self._roots)

    def online(self) -> list[str]:
        """The names of the roots that are there, as far as is known."""
        return [name for name, entry in self._roots.items() if entry.online]

    def services(self) -> list[tuple[str, str]]:
        """The kinds and IDs of the services."""
        return list(self._services)

    def subscribers(self) -> set[str]:
        """The names that subscribers joined the bus with, as far as they are there; "" is anonymous."""
        return {each.user for each in self._services.values() if (each.kind, each.status) == ("subscriber", "online")}

    def owners(self) -> Mapping[str, str]:
        """The users that roots belong to, by root; also of roots that are not there."""
        return dict(sorted(self._owners.items()))

    def owner(self, root: str) -> str | None:
        """The user that a root belongs to, if it belongs to one."""
        return self._owners.get(root)

    def claim(self, root: str, user: str) -> bool:
        """Let a root that belongs to nobody belong to a user; whether that was possible."""
        if root in self._owners or len(self._owners) >= MAX_ENTRIES:
            return False
        self._owners[root] = user
        return True

    def release(self, root: str) -> list[Effect]:
        """Let a root belong to nobody, so that the next user who announces it gets it."""
        return [Save()] if self._owners.pop(root, None) is not None else []

    def announce(self, message: RootAnnouncement, now: float) -> list[Effect]:
        """Take an announcement, also one that is a last will."""
        known = self._roots.get(message.name)
        if known is None:
            return self._replace(None, message, now) if len(self._roots) < MAX_ENTRIES else []
        if message.instance == known.announced.instance:
            return [] if _outdated(message, known) else self._replace(known, message, now)
        if message.status == "offline":
            return []
        if known.online and message.http != known.announced.http:
            return self._refuse(known.announced, message)
        return self._replace(known, message, now)

    def tell(self, message: ServiceStatus) -> list[Effect]:
        """Take the status of a service; a late last will is ignored."""
        key = (message.kind, message.id)
        known = self._services.get(key)
        if known is None and len(self._services) >= MAX_ENTRIES:
            return []
        late = known is not None and known.instance == message.instance and message.birth < known.birth
        if late or known == message:
            return []
        self._services[key] = message
        return [Save()]

    def expire(self, now: float) -> list[Effect]:
        """Take those for offline who were silent for too long."""
        effects: list[Effect] = []
        for name, entry in self._roots.items():
            patience = _HEARTBEATS * min(entry.announced.heartbeat, _MAX_HEARTBEAT)
            if entry.online and now - entry.heard > patience:
                entry.online = False
                effects.append(WentOffline(name, f"not heard of for {patience:g} s"))
        return effects

    def remove(self, name: str) -> list[Effect]:
        """Forget a root whose announcement was cleared."""
        if self._roots.pop(name, None) is None:
            return []
        self._refused.pop(name, None)
        return [Removed(name), Save()]

    def remove_service(self, kind: str, identifier: str) -> list[Effect]:
        """Forget a service whose status was cleared."""
        return [Save()] if self._services.pop((kind, identifier), None) is not None else []

    def _replace(self, known: _Entry | None, message: RootAnnouncement, now: float) -> list[Effect]:
        was_online = known is not None and known.online
        online = message.status == "online"
        self._roots[message.name] = _Entry(message, online, now)
        effects: list[Effect] = [Save()]
        if online and not was_online:
            self._refused.pop(message.name, None)
            effects.append(CameOnline(message))
        elif was_online and not online:
            effects.append(WentOffline(message.name, "its publisher is gone"))
        return effects

    def _refuse(self, kept: RootAnnouncement, refused: RootAnnouncement) -> list[Effect]:
        if self._refused.get(kept.name) == refused.instance:
            return []
        self._refused[kept.name] = refused.instance
        return [Conflict(kept, refused)]


def _outdated(message: RootAnnouncement, known: _Entry) -> bool:
    latest = known.announced
    if message.birth != latest.birth:
        return message.birth < latest.birth
    # The journal counts upwards, while a clock may be set back.
    return message.status == "online" and message.epoch == latest.epoch and message.seq < latest.seq


def _shown(entry: _Entry) -> BrokerRoot:
    announced = entry.announced
    return BrokerRoot(
        name=announced.name,
        http=announced.http,
        status="online" if entry.online else "offline",
        epoch=announced.epoch,
        seq=announced.seq,
        instance=announced.instance,
        time=announced.time,
    )


def _offline(message: _Message) -> _Message:
    return message.model_copy(update={"status": "offline"})
