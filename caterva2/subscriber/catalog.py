"""What a subscriber knows of the roots: where they are, their datasets, and how current that is.

The rules, which `apply` follows; a message goes in, a list of effects comes out, and nothing else happens:

- An announcement tells where a root is and the head (`epoch`, `seq`) of its journal. One with an older birth of the
  same instance is a late echo and is ignored.
  So is the last will of an instance that is not the present one.
- A root is *in step* when its datasets are those of the announced head. A change is applied only when its `seq` is the
  next one of the same epoch; one that is already known is ignored; anything else means that something was missed, the
  root falls *behind* and the follower catches up over HTTP. So does an announcement that does not continue the one
  before (another epoch, a lower `seq`): it is either late or the truth, and only the publisher can tell.
- An answer over HTTP that was asked for before something was missed does not tell what was missed.
- What the bus may have lost while it was away is not known, so `disconnected` puts every root out of step.
- A root is *live* while it is in step and its publisher was heard of within three heartbeats. Only then is a read
  answered without asking the publisher.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bus.messages import Changes, RootAnnouncement
from caterva2.errors import NotFoundError
from caterva2.models import CatalogHead, ChangeEntry, DatasetEntry
from caterva2.paths import DatasetPath, RootName

# A heartbeat may be lost, and one may be late: silence for longer than this many is an absence.
_HEARTBEATS = 3


@dataclass(frozen=True, slots=True)
class Root:
    """What is known of a publisher's root.

    Attributes:
        name: of the root.
        http: where its publisher is.
        online: what the last announcement said.
        instance: of the publisher.
        birth: of the publisher's connection to the bus.
        heartbeat: seconds between two announcements.
        heard: when the last announcement or change came, on the caller's monotonic clock; None if never.
        told: when the last announcement came, also of its end; None if never.
        current: when the known datasets were last known to be those of the publisher; None if that is not known.
        announced: the head of the journal as announced, (epoch, seq).
        head: the head that the known datasets belong to; None before the first listing.
        checked: whether, on this connection to the bus, nothing was missed since `head`.
        misses: how often something was missed; tells answers asked for before the last time from later ones.
        subscribed: whether someone asked to follow it.
    """

    name: RootName
    http: str
    online: bool = False
    instance: str = ""
    birth: int = 0
    heartbeat: float = 30.0
    heard: float | None = None
    told: float | None = None
    current: float | None = None
    announced: tuple[str, int] | None = None
    head: tuple[str, int] | None = None
    checked: bool = False
    misses: int = 0
    subscribed: bool = False

    @property
    def in_step(self) -> bool:
        """Whether the known datasets are those of the announced head, and no message was missed."""
        return self.checked and self.head is not None and self.head == self.announced

    @property
    def missed(self) -> Root:
        """The same root, now that something may have been missed."""
        return replace(self, checked=False, misses=self.misses + 1)

    def silent(self, now: float) -> bool:
        """Whether nothing was heard of the publisher for longer than its heartbeats allow."""
        return self.heard is None or now - self.heard > _HEARTBEATS * self.heartbeat

    def there(self, now: float, asked: tuple[float, bool] | None, *, bus: bool) -> bool:
        """Whether the publisher is there, as far as is known: the latest word counts.

        Args:
            now: on the monotonic clock.
            asked: when it was last asked over HTTP, and whether it answered.
            bus: whether the bus is there; without it, silence means nothing.
        """
        told = -math.inf if self.told is None else self.told
        heard = told if self.heard is None or not self.online else max(told, self.heard)
        if asked is not None and asked[0] > heard:
            return asked[1]
        return self.online and not (bus and self.silent(now))

    def live(self, now: float) -> bool:
        """Whether what is known is current without asking the publisher."""
        return self.online and self.in_step and not self.silent(now)

    def current_at(self, when: float | None) -> Root:
        """The same root, now that the known datasets are known to have been current at a time."""
        if when is None or (self.current is not None and self.current >= when):
            return self
        return replace(self, current=when)


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Effect: ask the publisher what was missed."""

    root: RootName


@dataclass(frozen=True, slots=True)
class SaveRoot:
    """Effect: keep what is known of a root across restarts."""

    root: RootName


@dataclass(frozen=True, slots=True)
class SaveDatasets:
    """Effect: keep these datasets (and forget the deleted ones) across restarts."""

    root: RootName
    present: tuple[DatasetEntry, ...]
    deleted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropMirror:
    """Effect: give the disk space of a deleted dataset back."""

    path: DatasetPath


@dataclass(frozen=True, slots=True)
class DatasetChange:
    """A dataset that has another version than before, as far as this subscriber knew it.

    Attributes:
        type: what happened to it.
        entry: the version after it; the last one known when it was deleted.
    """

    type: Literal["created", "modified", "deleted"]
    entry: DatasetEntry

    @classmethod
    def between(cls, before: DatasetEntry | None, after: DatasetEntry | None) -> DatasetChange | None:
        """What makes one version of the other; None if they are the same."""
        if after is None:
            return None if before is None else cls("deleted", before)
        if before is None:
            return cls("created", after)
        return None if before.etag == after.etag else cls("modified", after)


@dataclass(frozen=True, slots=True)
class TellChanges:
    """Effect: tell clients that follow along what changed; from now on reads find it so."""

    root: RootName
    changes: tuple[DatasetChange, ...]


@dataclass(frozen=True, slots=True)
class TellRoot:
    """Effect: tell clients that follow along that a root came or went."""

    root: RootName
    online: bool


Effect = CatchUp | SaveRoot | SaveDatasets | DropMirror | TellChanges | TellRoot


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole catalog of a publisher, and how it differs from what was known.

    Attributes:
        entries: all datasets by path.
        present: those that are new or have another version.
        deleted: the paths of those that are no more.
        changes: how clients see the difference.
    """

    entries: dict[str, DatasetEntry]
    present: tuple[DatasetEntry, ...]
    deleted: tuple[str, ...]
    changes: tuple[DatasetChange, ...]


@dataclass(slots=True)
class Catalog:
    """The roots and datasets that are known."""

    _roots: dict[str, Root] = field(default_factory=dict)
    _datasets: dict[str, dict[str, DatasetEntry]] = field(default_factory=dict)
    # Datasets of which a read told, but no journal yet; it may never, if they were gone before it saw them.
    _unconfirmed: set[DatasetPath] = field(default_factory=set)
    # While the bus is away nobody tells of the change after the one that the publisher answered with.
    _bus_away: bool = False

    def restore(self, root: Root, datasets: Iterable[DatasetEntry]) -> None:
        """Take over what an earlier run knew; it counts as unchecked."""
        self._roots[root.name] = replace(root, checked=False, heard=None)
        self._datasets[root.name] = {entry.path: entry for entry in datasets}

    def roots(self) -> list[Root]:
        """All known roots, by name."""
        return [self._roots[name] for name in sorted(self._roots)]

    def root(self, name: str) -> Root:
        """One root.

        Raises:
            NotFoundError: if no publisher has announced it.
        """
        try:
            return self._roots[name]
        except KeyError:
            raise NotFoundError(f"{name} not known by the broker") from None

    def datasets(self, name: str) -> Mapping[str, DatasetEntry]:
        """The datasets of a root by path."""
        return self._datasets.get(name, {})

    def names(self, path: DatasetPath) -> list[str]:
        """What `GET /api/list` answers: the datasets below a directory, or the name of a dataset itself.

        Raises:
            NotFoundError: if there is neither a directory nor a dataset of this name.
        """
        datasets = self.datasets(path.root)
        if path.name in datasets:
            return [path.basename]
        start = f"{path.name}/" if path.name else ""
        names = sorted(name[len(start) :] for name in datasets if name.startswith(start))
        if not names and path.name:
            raise NotFoundError(f"{path} does not exist: it is neither a dataset nor a directory")
        return names

    def lookup(self, path: DatasetPath) -> DatasetEntry | None:
        """The dataset as it was last heard of."""
        return self.datasets(path.root).get(path.name)

    def confirmed(self, path: DatasetPath) -> bool:
        """Whether a change of this dataset, as it is known, would be announced."""
        return path not in self._unconfirmed

    def apply(self, message: RootAnnouncement | Changes, now: float) -> list[Effect]:
        """Take in a message of the bus."""
        if isinstance(message, Changes):
            return self._changes(message, now)
        return self._announcement(message, now)

    def subscribe(self, name: str) -> list[Effect]:
        """Follow a root from now on."""
        root = self.root(name)
        if root.subscribed:
            return []
        self._roots[name] = replace(root, subscribed=True)
        return [SaveRoot(root.name), CatchUp(root.name)]

    def connected(self) -> list[Effect]:
        """The bus is there (again): what was published before is not known."""
        self._bus_away = False
        return [CatchUp(root.name) for root in self._unchecked() if root.subscribed]

    def disconnected(self, now: float | None = None) -> None:
        """The bus is gone: from here on messages are missed."""
        self._bus_away = True
        for name, root in self._roots.items():
            if now is not None and root.live(now):
                self._roots[name] = root.current_at(now)
        list(self._unchecked())

    def _unchecked(self) -> Iterator[Root]:
        for name, root in self._roots.items():
            self._roots[name] = root.missed
            yield self._roots[name]

    def forget(self, name: str) -> None:
        """A root is no more."""
        self._roots.pop(name, None)
        self._datasets.pop(name, None)

    def suspect(self, path: DatasetPath) -> None:
        """Believe no longer that a dataset is at the version that was last heard of."""
        entry = self.lookup(path)
        if entry is not None:
            self._datasets[path.root][path.name] = entry.model_copy(update={"etag": ""})

    def observe(self, path: DatasetPath, entry: DatasetEntry | None) -> list[Effect]:
        """Take in what the publisher itself just said of a dataset; None means that it does not exist.

        One that its journal has not told of is not taken in: should it go before the journal has seen it, nobody would
        ever tell of its end.
        """
        before = self.lookup(path)
        if before is None or before == entry:
            return []
        datasets = self._datasets.setdefault(path.root, {})
        told = _told(path.root, [DatasetChange.between(before, entry)])
        if entry is None:
            self._unconfirmed.discard(path)
            del datasets[path.name]
            return [*told, SaveDatasets(path.root, (), (path.name,)), DropMirror(path)]
        self._unconfirmed.add(path)
        datasets[path.name] = entry
        return [*told, SaveDatasets(path.root, (entry,), ())]

    def caught_up(
        self, asked: Root, head: CatalogHead, changes: Iterable[ChangeEntry], when: float | None = None
    ) -> list[Effect]:
        """Take in the publisher's answer to what was missed.

        Args:
            asked: the root as it was at the question.
            head: of the publisher's journal.
            changes: what was missed.
            when: the question was asked.
        """
        effects = self._store(asked.name, changes)
        return [*effects, *self._at_head(asked, head, when)]

    def compare(self, name: RootName, entries: Iterable[DatasetEntry]) -> Listing:
        """Find what a whole catalog of the publisher would change; this takes long, and may be done in a thread."""
        before, after = dict(self._datasets.get(name, {})), {entry.path: entry for entry in entries}
        deleted = tuple(path for path in before if path not in after)
        present = tuple(entry for path, entry in after.items() if before.get(path) != entry)
        # What is listed for the first time has not changed.
        known = self._roots[name].head is not None
        changes = [DatasetChange.between(before.get(entry.path), entry) for entry in present] if known else []
        changes += [DatasetChange.between(before[path], None) for path in deleted] if known else []
        return Listing(after, present, deleted, tuple(change for change in changes if change is not None))

    def listed(self, asked: Root, head: CatalogHead, listing: Listing, when: float | None = None) -> list[Effect]:
        """Take in the publisher's whole catalog; as `caught_up`."""
        name, present, deleted = asked.name, listing.present, listing.deleted
        self._datasets[name] = listing.entries
        self._unconfirmed = {path for path in self._unconfirmed if path.root != name}
        effects = _told(name, listing.changes)
        effects += [SaveDatasets(name, present, deleted)] if present or deleted else []
        effects += [DropMirror(DatasetPath(name, path)) for path in deleted]
        return [*effects, *self._at_head(asked, head, when)]

    def _at_head(self, asked: Root, head: CatalogHead, when: float | None) -> list[Effect]:
        name, here = asked.name, (head.epoch, head.seq)
        root = self._roots[name]
        # The announcement of this head may be on its way still; the publisher's own word is as good.
        behind = root.announced is None or root.announced[0] != head.epoch or root.announced[1] < head.seq
        announced = here if behind else root.announced
        root = replace(root, head=here, announced=announced, checked=not self._bus_away and root.misses == asked.misses)
        self._roots[name] = root = root.current_at(when)
        return [SaveRoot(name)] if root.in_step or self._bus_away else [SaveRoot(name), CatchUp(name)]

    def _announcement(self, message: RootAnnouncement, now: float) -> list[Effect]:
        name = RootName(message.name)
        before = self._roots.get(name) or Root(name, message.http)
        online = message.status == "online"
        if message.instance == before.instance and message.birth < before.birth:
            return []
        if before.online and not online and message.instance != before.instance:
            return []
        head = (message.epoch, message.seq)
        continues = not online or before.announced is None or _continues(before.announced, head)
        root = replace(
            before if continues else before.missed,
            http=message.http,
            online=online,
            instance=message.instance,
            birth=message.birth,
            heartbeat=message.heartbeat,
            heard=now if online else before.heard,
            told=now,
            announced=head if online else before.announced,
        )
        # What was believed until its last will came was right until then.
        current = root.live(now) if online else before.live(now)
        self._roots[name] = root = root.current_at(now if current else None)
        moved = (root.http, root.instance, root.online) != (before.http, before.instance, before.online)
        effects: list[Effect] = [SaveRoot(name)] if moved or name not in self._datasets else []
        effects += [TellRoot(name, online)] if online != before.online or name not in self._datasets else []
        self._datasets.setdefault(name, {})
        return effects + ([CatchUp(name)] if online and root.subscribed and not root.in_step else [])

    def _changes(self, message: Changes, now: float) -> list[Effect]:
        root = self._roots.get(message.root)
        if root is None or not root.subscribed:
            return []
        if root.head is None:
            # The first listing may be on its way, made before this change.
            self._roots[root.name] = root.missed
            return []
        epoch, seq = root.head
        fresh = [change for change in message.changes if change.epoch != epoch or change.seq > seq]
        if not fresh:
            return []
        expected = [(epoch, seq + 1 + i) for i in range(len(fresh))]
        if [(change.epoch, change.seq) for change in fresh] != expected:
            self._roots[root.name] = root.missed
            return [CatchUp(root.name)]
        head = expected[-1]
        ahead = root.announced is not None and root.announced[0] == epoch and root.announced > head
        root = replace(root, head=head, announced=root.announced if ahead else head, heard=now)
        self._roots[root.name] = root.current_at(now if root.in_step else None)
        entries = (ChangeEntry(**change.model_dump(include=set(ChangeEntry.model_fields))) for change in fresh)
        return [*self._store(root.name, entries), SaveRoot(root.name)]

    def _store(self, name: RootName, changes: Iterable[ChangeEntry]) -> list[Effect]:
        datasets = self._datasets.setdefault(name, {})
        touched: dict[str, DatasetEntry | None] = {}
        for change in changes:
            touched[change.path] = _entry_of(change)
        self._unconfirmed.difference_update(DatasetPath(name, path) for path in touched)
        told = _told(name, [DatasetChange.between(datasets.get(path), entry) for path, entry in touched.items()])
        for path, entry in touched.items():
            if entry is None:
                datasets.pop(path, None)
            else:
                datasets[path] = entry
        deleted = tuple(path for path, entry in touched.items() if entry is None)
        present = tuple(entry for entry in touched.values() if entry is not None)
        effects: list[Effect] = [*told, SaveDatasets(name, present, deleted)] if touched else []
        return effects + [DropMirror(DatasetPath(name, path)) for path in deleted]


def _continues(before: tuple[str, int], head: tuple[str, int]) -> bool:
    return before[0] == head[0] and before[1] <= head[1]


def _told(name: RootName, changes: Iterable[DatasetChange | None]) -> list[Effect]:
    found = tuple(change for change in changes if change is not None)
    return [TellChanges(name, found)] if found else []


def _entry_of(change: ChangeEntry) -> DatasetEntry | None:
    if change.type == "deleted" or change.etag is None:
        return None
    return DatasetEntry(path=change.path, kind=change.kind, etag=change.etag, nbytes=change.nbytes, mtime=change.mtime)
