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
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
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
from caterva2.models import DatasetEntry
from caterva2.paths import DatasetPath, check_name
from caterva2.subscriber.appending import extend
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.catalog import DatasetChange, TellChanges
from caterva2.subscriber.definitions import find_definition, is_definition
from caterva2.subscriber.intake import (
    Clock,
    DefinitionSpool,
    FileSpool,
    FrameSpool,
    Grow,
    Spool,
    disk_errors,
    duplicate,
    remove_tree,
)
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
from caterva2.subscriber.quotas import Quotas, Reservation
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
        room = Reservation(self._quotas, place.owner, before.nbytes if before is not None else 0)
        make = make or (FileSpool if place.kind == "file" else FrameSpool)
        return Upload(self, place, condition, make(self._new_name(), room.grow, self._clock), room)

    def put(self, upload: Upload) -> Told:
        """Give a finished file its name."""
        place, file = upload.place, upload.spool.file
        after = entry_of(place.path, file.stat())
        with self._lock, disk_errors(str(place.path)):
            self._check_owner(place)
            before = present_entry(place)
            check_condition(upload.condition, place, before)
            upload.room.check(before.nbytes if before is not None else 0)
            known = place.file.parent.is_dir()
            make_way(place)
            file.replace(place.file)
            upload.room.keep(after.nbytes, before.nbytes if before is not None else 0)
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
            room = Reservation(self._quotas, place.owner, base.nbytes)
            spool = FrameSpool(self._new_name(), room.grow, self._clock)
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
        remove_tree(grave) if before is None else grave.unlink()
        self._quotas.give(place.owner, sum(entry.nbytes for entry in gone))
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
        self._quotas.give(owner, sum(entry.nbytes for entry in entries_below(place, grave)))
        remove_tree(grave)

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
            nbytes, folder = sum(entry.nbytes for entry in found), before.is_folder
            make_way(after)
            self._quotas.pass_on(before.owner, after.owner, nbytes)
            try:
                (before.folder if folder else before.file).rename(after.folder if folder else after.file)
            except OSError:
                self._quotas.pass_on(after.owner, before.owner, nbytes)
                raise
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
            return after.path, [self._copy_folder(before, after, renamed_entries(before, after, found))]
        with open_dataset(before) as fd, self.begin(caller, after.path, free(after), _like(fd)) as upload:
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

    def _copy_folder(self, before: Place, after: Place, entries: Sequence[DatasetEntry]) -> Told:
        tree, room = self._new_name(), Reservation(self._quotas, after.owner)
        made: list[DatasetEntry] = []
        try:
            for entry in entries:
                inner = entry.path[len(after.path.name) + 1 :]
                source = Place(DatasetPath(before.path.root, f"{before.path.name}/{inner}"), before.owner, before.top)
                copy = Place(DatasetPath(after.path.root, inner), after.owner, tree)
                if source.is_dataset:
                    made.append(self._copy_file(source, copy, entry.path, room.grow))
            with self._lock, disk_errors(str(after.path)):
                self._check_owner(after)
                check_free(after)
                make_way(after)
                tree.mkdir(exist_ok=True, mode=0o700)
                tree.rename(after.folder)
                room.keep(sum(entry.nbytes for entry in made), 0)
        finally:
            room.release()
            remove_tree(tree)
        sync_names(after.folder.parent, self._places.directory)
        return _told(after, [DatasetChange("created", entry) for entry in made])

    def _copy_file(self, source: Place, copy: Place, name: str, grow: Callable[[int], None]) -> DatasetEntry:
        with disk_errors(name):
            copy.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open_dataset(source) as fd:
            spool = _like(fd)(self._new_name(), grow, self._clock)
            try:
                duplicate(fd, spool)
                spool.finish(copy.path)
                spool.file.rename(copy.file)
                return entry_of(DatasetPath(copy.path.root, name), os.fstat(spool.fd))
            finally:
                spool.close()

    def _target(self, caller: Caller, source: DatasetPath, target: DatasetPath, *, into: bool) -> Place:
        if not target.name or into or self._places.writable(caller, target).is_folder:
            name = f"{target.name}/{source.basename}" if target.name else source.basename
            target = DatasetPath(target.root, check_name(name))
        return self._places.writable(caller, target)

    def _use(self) -> Counter[str]:
        used = Counter[str]()
        for root in self._places.all():
            used[root.owner] += sum(entry.nbytes for entry in entries_below(root, root.top))
        return used

    def _new_name(self) -> Path:
        with disk_errors(_INCOMING):
            self._incoming.mkdir(mode=0o700, exist_ok=True)
        return self._incoming / secrets.token_hex(12)


def _like(fd: int) -> type[FrameSpool]:
    """What takes in a copy of a dataset that is open."""
    return DefinitionSpool if is_definition(fd) else FrameSpool


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
