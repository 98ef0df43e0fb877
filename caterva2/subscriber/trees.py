"""A folder of an own root that is being made beside it: nothing of it is there before all of it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from caterva2.errors import BadRequestError
from caterva2.models import DatasetEntry
from caterva2.paths import DatasetPath, check_name
from caterva2.subscriber.intake import (
    Clock,
    FileSpool,
    FrameSpool,
    Spool,
    copy_of,
    disk_errors,
    duplicate,
    remove_tree,
)
from caterva2.subscriber.owners import note_owner
from caterva2.subscriber.places import Place, check_kept
from caterva2.subscriber.placing import open_dataset
from caterva2.subscriber.quotas import Reservation
from caterva2.subscriber.userroots import entry_of

_Spool = TypeVar("_Spool", bound=Spool)


class Tree:
    """A folder that is being made; what was not taken over is removed by `close`.

    Args:
        writer: the id of the user who makes it.
        place: what it will be.
        room: pays for what is in it.
        new_name: names a file that does not exist, beside the roots.
        clock: that of all writes.
    """

    def __init__(
        self, writer: str, place: Place, room: Reservation, new_name: Callable[[], Path], clock: Clock
    ) -> None:
        self.place = place
        self.room = room
        self.top = new_name()
        self._writer = writer
        self.entries: list[DatasetEntry] = []
        self._new_name = new_name
        self._clock = clock
        with disk_errors(str(place.path)):
            self.top.mkdir(mode=0o700)

    def folder(self, name: str) -> None:
        """Make a folder in it.

        Raises:
            PathError: if its name is not one that is kept.
            BadRequestError: if a file has this name.
        """
        inner = self._inner(name)
        if inner.is_dataset:
            raise BadRequestError(f"{name[:200]!r} is there twice")
        with disk_errors(name):
            self._make(inner.folder, inner)

    def file(self, name: str, pieces: Iterator[bytes]) -> None:
        """Write a dataset in it, as one that is uploaded.

        Raises:
            PathError: if its name is not one that is kept.
            BadRequestError: if something has this name.
            FrameError: if it is no sound frame.
            Caterva2Error: if there is no room for it.
        """
        inner = self._inner(name)

        def write(spool: Spool) -> None:
            for piece in pieces:
                spool.write(piece)

        self._add(inner, FileSpool if inner.kind == "file" else FrameSpool, write)

    def copy(self, name: str, source: Place) -> None:
        """Copy a dataset of an own root into it."""
        with open_dataset(source) as fd:
            self._add(self._inner(name), copy_of(fd), lambda spool: duplicate(fd, spool))

    def close(self) -> None:
        """Remove what was not taken over."""
        remove_tree(self.top)
        self.room.release()

    def _inner(self, name: str) -> Place:
        path = DatasetPath(self.place.path.root, check_name(f"{self.place.path.name}/{name}"))
        check_kept(path)
        return Place(DatasetPath(path.root, check_name(name)), self.place.owner, self.top)

    def _add(self, inner: Place, kind: type[_Spool], write: Callable[[_Spool], None]) -> None:
        name = inner.path.name
        if inner.is_dataset or inner.is_folder:
            raise BadRequestError(f"{name[:200]!r} is there twice")
        with disk_errors(name):
            self._make(inner.file.parent, inner)
        spool = kind(self._new_name(), self.room.grow, self._clock)
        note_owner(spool.fd, self._writer)
        try:
            write(spool)
            path = DatasetPath(inner.path.root, f"{self.place.path.name}/{name}")
            spool.finish(path)
            spool.file.rename(inner.file)
            self.entries.append(entry_of(path, os.fstat(spool.fd)))
        finally:
            spool.close()

    def _make(self, directory: Path, inner: Place) -> None:
        names = inner.path.name.split("/")
        for i in range(1, len(names)):
            above = DatasetPath(inner.path.root, "/".join(names[:i]))
            if Place(above, inner.owner, inner.top).is_dataset:
                raise BadRequestError(f"{inner.path.name[:200]!r} is in what is a file too")
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
