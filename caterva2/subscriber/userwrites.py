"""The subscriber's own roots, for writing.

Each write prepares a file, or a tree of files, beside the roots, and gives it its name in one step: readers have the
old version or the new one, whole, and so has the disk after a crash. What a write must find there (`Condition`) is
looked at in that same step, under a lock, so of two writers who both expect the same version one is refused.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from caterva2.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
)
from caterva2.models import DatasetEntry, QuotaFigures
from caterva2.paths import DatasetPath, check_name
from caterva2.subscriber.appending import extend
from caterva2.subscriber.archives import unpack
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.catalog import DatasetChange, TellChanges
from caterva2.subscriber.definitions import find_definition, is_definition
from caterva2.subscriber.intake import (
    Clock,
    FileSpool,
    FrameSpool,
    Grow,
    Spool,
    copy_of,
    disk_errors,
    duplicate,
    remove_tree,
)
from caterva2.subscriber.owners import note_owner, owner_of
from caterva2.subscriber.places import PERSONAL, Place, Places
from caterva2.subscriber.placing import (
    MISSING,
    Condition,
    anything,
    check_condition,
    check_free,
    check_kind,
    check_pair,
    entries_below,
    found_entries,
    free,
    make_way,
    open_dataset,
    present_entry,
    renamed_entries,
    sync_names,
)
from caterva2.subscriber.quotas import NOTHING, Quotas, Replaced, Reservation
from caterva2.subscriber.trees import Tree
from caterva2.subscriber.userroots import entry_of, files_below

MakeSpool = Callable[[Path, Grow, Clock], Spool]
_INCOMING: Final = "incoming"
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Told:
    """What a write changed, for those who follow along.

    Attributes:
        changes: of one root, in order.
        owner: the id of the user who alone is told; "" is everybody who may read the root.
    """

    changes: TellChanges
    owner: str

    @property
    def etag(self) -> str:
        """The version of the last dataset that it changed."""
        return self.changes.changes[-1].entry.etag


class Upload:
    """A dataset that is being sent; it counts when `finish` has returned. A context manager, which tidies up."""

    def __init__(self, writes: UserWrites, place: Place, condition: Condition, spool: Spool, room: Reservation) -> None:
        self.place = place
        self.condition = condition
        self.spool = spool
        self.room = room
        self._writes = writes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.spool.close()
        self.room.release()

    def write(self, data: bytes) -> None:
        """Take in some bytes of any number.

        Raises:
            Caterva2Error: if there is no room for them.
        """
        self.spool.write(data)

    def finish(self) -> Told:
        """Give what was sent its name.

        Raises:
            FrameError: if it is no sound frame, or of a kind that is not kept.
            VersionChangedError: if the condition does not hold.
            ConflictError: if there is a folder of that name, or a file where a folder is needed.
            Caterva2Error: if there is no room for it.
        """
        self.spool.finish(self.place.path)
        return self._writes.put(self)

    def append(self) -> tuple[Told, tuple[int, ...]]:
        """Append the rows of the array that was sent to the one that has its name; also returns the new shape.

        Raises:
            NotFoundError: if there is none.
            BadRequestError: if they do not fit together.
            Caterva2Error: as `finish` does.
        """
        self.spool.finish(self.place.path)
        return self._writes.extend(self)


class Archive:
    """An archive that is being sent; what is in it counts when `finish` has returned. A context manager."""

    def __init__(self, writes: UserWrites, caller: Caller, place: Place, spool: Spool, room: Reservation) -> None:
        self.place = place
        self._caller = caller
        self._writes = writes
        self._spool = spool
        self._room = room

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()
        self._room.release()

    def write(self, data: bytes) -> None:
        """Take in some bytes.

        Raises:
            Caterva2Error: if there is no room for them.
        """
        self._spool.write(data)

    def finish(self) -> Told:
        """Unpack it; all of it is there then, or nothing.

        Raises:
            BadRequestError: if it is no archive, is damaged, or holds what is not kept; names the member.
            ConflictError: if something has its name by now.
            TooLargeError: if there is too much in it.
            Caterva2Error: if there is no room for it.
        """
        return self._writes.unpack(self._caller, self.place, self._spool)


class UserWrites:
    """The own roots, for writing. Everything may block, and can be called from several threads.

    Args:
        places: where the roots are.
        quotas: what they may take.
    """

    def __init__(self, places: Places, quotas: Quotas) -> None:
        self._places = places
        self._quotas = quotas
        self._clock = Clock()
        self._incoming = places.directory / _INCOMING
        # Held while names change, which is quick; never while anything is sent, copied or waited for.
        self._lock = threading.Lock()
        # Users who were removed while this process runs; their last requests may still be on the way.
        self._gone: set[str] = set()
        self._appending = [threading.Lock() for _ in range(64)]

    def clear(self) -> None:
        """Remove what an earlier run left unfinished; call it before anything is written."""
        remove_tree(self._incoming)

    def count(self) -> None:
        """Count what is there, if a quota needs that; until then nothing is written."""
        if not self._quotas.counted:
            self._quotas.start(self._use())

    def figures(self, caller: Caller) -> QuotaFigures:
        """What a caller, and all together, have taken of what they may."""
        return self._quotas.figures(caller.id)

    def begin(
        self, caller: Caller, path: DatasetPath, condition: Condition = anything, make: MakeSpool | None = None
    ) -> Upload:
        """Begin to write a dataset.

        Args:
            caller: who writes.
            path: the dataset; its ending tells what it is.
            condition: on the version that it replaces.
            make: the file that takes in what is written; None for what users send.

        Raises:
            VersionChangedError: if the condition does not hold already.
            Caterva2Error: if the caller cannot write there; see `Places.writable`.
        """
        place = self._places.writable(caller, path)
        before = present_entry(place)
        check_condition(condition, place, before)
        room = Reservation(self._quotas, caller.id, _replaced(place, before))
        make = make or (FileSpool if place.kind == "file" else FrameSpool)
        spool = make(self._new_name(), room.grow, self._clock)
        note_owner(spool.fd, caller.id)
        return Upload(self, place, condition, spool, room)

    def put(self, upload: Upload) -> Told:
        """Give a finished file its name."""
        place, file = upload.place, upload.spool.file
        after = entry_of(place.path, file.stat())
        with self._lock, disk_errors(str(place.path)):
            self._check_owner(place)
            before = present_entry(place)
            check_condition(upload.condition, place, before)
            replaced = _replaced(place, before)
            upload.room.check(replaced)
            known = place.file.parent.is_dir()
            make_way(place)
            file.replace(place.file)
            upload.room.keep(after.nbytes, replaced)
        sync_names(place.file.parent, place.file.parent if known else self._places.directory)
        return _told(place, [DatasetChange("modified" if before is not None else "created", after)])

    def extend(self, upload: Upload) -> tuple[Told, tuple[int, ...]]:
        """Append what was sent, onto the version that is there when it gets its name."""
        place = upload.place
        if place.kind != "array":
            raise BadRequestError(f"{place.path} is not an array: only arrays (.b2nd) can be appended to")
        # One at a time, or all but one would have copied the array in vain.
        with self._appending[hash(place) % len(self._appending)]:
            for _ in range(_TRIES):
                try:
                    return self._extend(upload)
                except _Outrun:
                    continue
        raise ConflictError(f"{place.path} is being replaced again and again: try again later")

    def _extend(self, upload: Upload) -> tuple[Told, tuple[int, ...]]:
        place = upload.place
        with ExitStack() as stack:
            source = stack.enter_context(open_dataset(place))
            if is_definition(source):
                raise BadRequestError(f"{place.path} is an expression: append to the datasets that it is computed from")
            base = entry_of(place.path, os.fstat(source))
            check_condition(upload.condition, place, base)
            writer = owner_of(upload.spool.fd, place.owner)
            room = Reservation(self._quotas, writer, _replaced(place, base))
            spool = FrameSpool(self._new_name(), room.grow, self._clock)
            note_owner(spool.fd, writer)
            grown = stack.enter_context(Upload(self, place, _still(base.etag), spool, room))
            duplicate(source, spool)
            with disk_errors(str(place.path)):
                shape = extend(spool.file, upload.spool.file)
            room.grow(max(0, os.fstat(spool.fd).st_size - base.nbytes))
            return grown.finish(), shape

    def remove(self, caller: Caller, path: DatasetPath, condition: Condition = anything) -> Told:
        """Remove a dataset, or a folder with all that is in it.

        Raises:
            NotFoundError: if there is neither.
            VersionChangedError: if the condition does not hold.
        """
        place = self._places.writable(caller, path)
        self._quotas.check_counted()
        grave = self._new_name()
        with self._lock:
            before = present_entry(place)
            if before is None and not place.is_folder:
                raise NotFoundError(MISSING)
            check_condition(condition, place, before)
            (place.folder if before is None else place.file).rename(grave)
        sync_names(place.folder.parent, self._places.directory)
        gone = entries_below(place, grave) if before is None else [before]
        shares = _shares(place, grave)
        remove_tree(grave) if before is None else grave.unlink()
        self._give(shares)
        return _told(place, [DatasetChange("deleted", entry) for entry in gone])

    def forget(self, owner: str) -> None:
        """Remove all that a user has in `@personal`, for good; what is still on its way there is refused."""
        place = next((each for each in self._places.all() if each.owner == owner), None)
        grave = self._new_name()
        with self._lock:
            self._gone.add(owner)
            if place is None:
                return
            place.top.rename(grave)
        sync_names(place.top.parent, self._places.directory)
        shares = _shares(place, grave)
        remove_tree(grave)
        self._give(shares)

    def _give(self, shares: Mapping[str, int]) -> None:
        for owner, nbytes in shares.items():
            self._quotas.give(owner, nbytes)

    def _check_owner(self, place: Place) -> None:
        if place.owner in self._gone:
            raise ForbiddenError("the user was removed meanwhile")

    def move(
        self, caller: Caller, source: DatasetPath, target: DatasetPath, *, into: bool = False
    ) -> tuple[DatasetPath, list[Told]]:
        """Give a dataset or a folder another name, also in another root.

        Args:
            caller: who does.
            source: what is moved.
            target: its new name; a folder that is there stands for the same name in it.
            into: whether the target is a folder, whether it is there or not.

        Returns:
            The new name, and what changed where.

        Raises:
            NotFoundError: if there is nothing to move.
            ConflictError: if there is something of the new name.
            BadRequestError: if the new name has another ending.
        """
        before = self._places.writable(caller, source)
        after = self._target(caller, source, target, into=into)
        self._quotas.check_counted()
        with self._lock, disk_errors(str(after.path)):
            self._check_owner(after)
            found = found_entries(before)
            check_pair(before, after)
            _check_operands(before, after)
            entries = renamed_entries(before, after, found)
            source_file, target_file = (before.folder, after.folder) if before.is_folder else (before.file, after.file)
            shares = _shares(before, source_file)
            make_way(after)
            # Who moves something answers for it from now on.
            self._quotas.pass_on(shares, caller.id)
            try:
                source_file.rename(target_file)
            except OSError:
                self._quotas.pass_back(caller.id, shares)
                raise
            for file in _files(target_file):
                note_owner(file, caller.id)
        sync_names(after.file.parent, self._places.directory)
        sync_names(before.file.parent, self._places.directory)
        gone = _told(before, [DatasetChange("deleted", entry) for entry in found])
        return after.path, [gone, _told(after, [DatasetChange("created", entry) for entry in entries])]

    def copy(
        self, caller: Caller, source: DatasetPath, target: DatasetPath, *, into: bool = False
    ) -> tuple[DatasetPath, list[Told]]:
        """Copy a dataset or a folder of an own root; as `move`, but the source stays.

        Raises:
            NotFoundError: if there is nothing to copy.
            ConflictError: if there is something of the new name.
            BadRequestError: if the new name has another ending.
            Caterva2Error: if there is no room for it.
        """
        before = self._places.find(caller, source)
        after = self._target(caller, source, target, into=into)
        found = found_entries(before)
        check_pair(before, after)
        _check_operands(before, after)
        if before.is_folder:
            return after.path, [self._copy_folder(caller, before, after, renamed_entries(before, after, found))]
        with open_dataset(before) as fd, self.begin(caller, after.path, free(after), copy_of(fd)) as upload:
            assert isinstance(upload.spool, FrameSpool)
            duplicate(fd, upload.spool)
            return after.path, [upload.finish()]

    def target(self, caller: Caller, source: DatasetPath, target: DatasetPath, *, into: bool = False) -> DatasetPath:
        """The name that something from elsewhere gets when it is copied to a target; see `move`."""
        after = self._target(caller, source, target, into=into)
        check_free(after)
        check_kind(source, after)
        return after.path

    def free(self, caller: Caller, path: DatasetPath) -> Condition:
        """The condition that there is nothing of this name."""
        return free(self._places.writable(caller, path))

    def begin_archive(self, caller: Caller, path: DatasetPath) -> Archive:
        """Begin to take in an archive, which becomes a folder.

        Raises:
            ConflictError: if there is something of this name.
            Caterva2Error: if the caller cannot write there; see `Places.writable`.
        """
        place = self._places.writable(caller, path)
        check_free(place)
        room = Reservation(self._quotas, caller.id)
        return Archive(self, caller, place, FrameSpool(self._new_name(), room.grow, self._clock), room)

    def unpack(self, caller: Caller, place: Place, archive: Spool) -> Told:
        """Make a folder of an archive."""
        with closing(self._tree(caller, place)) as tree:
            with open(archive.fd, "rb", closefd=False) as file:
                unpack(file, os.fstat(archive.fd).st_size, tree)
            return self._adopt(tree)

    def make_folder(self, caller: Caller, path: DatasetPath) -> None:
        """Make an empty folder, and those above it.

        Raises:
            ConflictError: if there is something of this name.
        """
        place = self._places.writable(caller, path)
        with closing(self._tree(caller, place)) as tree:
            self._adopt(tree)

    def _copy_folder(self, caller: Caller, before: Place, after: Place, entries: Sequence[DatasetEntry]) -> Told:
        with closing(self._tree(caller, after)) as tree:
            for entry in entries:
                inner = entry.path[len(after.path.name) + 1 :]
                source = Place(DatasetPath(before.path.root, f"{before.path.name}/{inner}"), before.owner, before.top)
                if source.is_dataset:
                    tree.copy(inner, source)
            return self._adopt(tree)

    def _tree(self, caller: Caller, place: Place) -> Tree:
        return Tree(caller.id, place, Reservation(self._quotas, caller.id), self._new_name, self._clock)

    def _adopt(self, tree: Tree) -> Told:
        """Give a folder that is complete its name."""
        place = tree.place
        with self._lock, disk_errors(str(place.path)):
            self._check_owner(place)
            check_free(place)
            make_way(place)
            tree.top.rename(place.folder)
            tree.room.keep(sum(entry.nbytes for entry in tree.entries))
        sync_names(place.folder.parent, self._places.directory)
        return _told(place, [DatasetChange("created", entry) for entry in tree.entries])

    def _target(self, caller: Caller, source: DatasetPath, target: DatasetPath, *, into: bool) -> Place:
        if not target.name or into or self._places.writable(caller, target).is_folder:
            name = f"{target.name}/{source.basename}" if target.name else source.basename
            target = DatasetPath(target.root, check_name(name))
        return self._places.writable(caller, target)

    def _use(self) -> Counter[str]:
        used = Counter[str]()
        for root in self._places.all():
            used += _shares(root, root.top)
        return used

    def _new_name(self) -> Path:
        with disk_errors(_INCOMING):
            self._incoming.mkdir(mode=0o700, exist_ok=True)
        return self._incoming / secrets.token_hex(12)


def _files(path: Path) -> list[Path]:
    return files_below(path) if path.is_dir() else [path]


def _shares(place: Place, path: Path) -> Counter[str]:
    """Who wrote how many bytes of a file, or of those in a directory, which was or is at a place."""
    shares = Counter[str]()
    for file in _files(path):
        with suppress(FileNotFoundError):  # removed meanwhile
            shares[owner_of(file, place.owner)] += file.stat().st_size
    return shares


def _replaced(place: Place, before: DatasetEntry | None) -> Replaced:
    return NOTHING if before is None else Replaced(owner_of(place.file, place.owner), before.nbytes)


def check_operands(target: DatasetPath, operands: Iterable[DatasetPath]) -> None:
    """Refuse an expression that others could not compute, or would compute from datasets of their own.

    Raises:
        BadRequestError: if it would be in a root for all, and an operand is in `@personal`.
    """
    for operand in operands:
        if target.root != PERSONAL and operand.root == PERSONAL:
            raise BadRequestError(
                f"{target} cannot be computed from {operand}, which only you can read: copy that to {target.root} first"
            )


def _check_operands(before: Place, after: Place) -> None:
    """The same for the expressions among what is moved or copied."""
    if before.path.root != PERSONAL or after.path.root == PERSONAL:
        return
    for file in [before.file] if not before.is_folder else files_below(before.folder):
        if (definition := find_definition(before.path, file)) is not None:
            check_operands(after.path, definition.operands.values())


class _Outrun(Exception):
    """Another version came while this one was being made of the one before."""


def _still(etag: str) -> Condition:
    def condition(present: str | None) -> bool:
        if present != etag:
            raise _Outrun
        return True

    return condition


def _told(place: Place, changes: Sequence[DatasetChange]) -> Told:
    return Told(TellChanges(place.path.root, tuple(changes)), place.owner)
