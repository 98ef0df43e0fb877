"""The subscriber's own roots, for reading: directories of Blosc2 frames in its statedir.

`@public` can be read by everyone, `@shared` by every user, and `@personal` is another one for each of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from caterva2.errors import ConflictError, NotFoundError
from caterva2.frames import Skeleton
from caterva2.metadata import describe
from caterva2.models import DatasetEntry
from caterva2.paths import DatasetPath
from caterva2.records import SkeletonHead
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.definitions import Definition, is_definition, read_definition
from caterva2.subscriber.places import Places, kind_of, shown
from caterva2.subscriber.stored import StoredFrame


@dataclass(frozen=True, slots=True)
class UserRoots:
    """The own roots, for reading.

    Args:
        places: where they are.
    """

    places: Places

    def names(self, caller: Caller) -> list[str]:
        """The names of the roots that a caller can read."""
        return self.places.names(caller)

    def folders(self, caller: Caller, path: DatasetPath) -> list[str]:
        """The folders below a folder, each with a slash at its end."""
        place = self.places.find(caller, path)
        found = (Path(above, name) for above, names, _ in os.walk(place.folder) for name in names)
        return sorted(f"{folder.relative_to(place.folder)}/" for folder in found if not folder.name.startswith("."))

    def list(self, caller: Caller, path: DatasetPath) -> list[str]:
        """What `GET /api/list` answers.

        Raises:
            NotFoundError: if there is neither a directory nor a dataset of this name.
        """
        place = self.places.find(caller, path)
        if place.is_dataset:
            return [path.basename]
        if path.name and not place.is_folder:
            raise NotFoundError(f"{path} does not exist: it is neither a dataset nor a directory")
        return sorted(shown(str(file.relative_to(place.folder))) for file in files_below(place.folder))

    def entry(self, caller: Caller, path: DatasetPath) -> DatasetEntry | None:
        """A dataset as lists tell of it; None if there is none."""
        place = self.places.find(caller, path)
        try:
            return entry_of(path, place.file.stat()) if path.name else None
        except OSError:
            return None

    def open(self, caller: Caller, path: DatasetPath) -> StoredFrame:
        """Open a dataset for reading; it stays at its version when another one takes its name.

        Raises:
            NotFoundError: if there is no such dataset.
            ConflictError: if it is an expression, whose frame holds no data.
            FrameError: if it is damaged.
        """
        frame = opened(path, self._open(caller, path))
        if frame.kind == "array" and is_definition(frame.fd):
            raise ConflictError(f"{path} is an expression, which has no data of its own")
        return frame

    def definition(self, caller: Caller, path: DatasetPath) -> tuple[DatasetEntry, Definition] | None:
        """The expression that a dataset is computed from, with its version; None if it is not, or is not there.

        Raises:
            FrameError: if it is damaged.
        """
        if path.suffix != ".b2nd":
            return None
        try:
            fd = self._open(caller, path)
        except NotFoundError:
            return None
        try:
            definition = read_definition(path, fd)
            return None if definition is None else (entry_of(path, os.fstat(fd)), definition)
        finally:
            os.close(fd)

    def _open(self, caller: Caller, path: DatasetPath) -> int:
        place = self.places.find(caller, path)
        if not place.is_dataset:
            raise NotFoundError(f"{path} does not exist")
        try:
            return os.open(place.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError(f"{path} does not exist") from None


def files_below(directory: Path) -> list[Path]:
    """The files of the datasets in a directory and below; hidden ones are none."""
    # What vanishes meanwhile is passed over.
    found = (Path(folder, name) for folder, _, names in os.walk(directory) for name in names)
    return [file for file in found if file.is_file() and not file.name.startswith(".")]


def opened(path: DatasetPath, fd: int) -> StoredFrame:
    """Make a dataset of an open file, which is closed at the dataset's end, or when this fails.

    Raises:
        FrameError: if it is damaged.
    """
    try:
        skeleton, layout = Skeleton.read(lambda offset, length: os.pread(fd, length, offset), os.fstat(fd).st_size)
        entry = entry_of(path, os.fstat(fd))
        info = describe(entry.kind, skeleton, layout, cbytes=layout.cbytes, mtime=entry.mtime)
        return StoredFrame(path, fd, SkeletonHead(entry=entry, info=info, slotted=False), layout)
    except BaseException:
        os.close(fd)
        raise


def entry_of(path: DatasetPath, status: os.stat_result) -> DatasetEntry:
    """What lists and events say of a dataset; every write makes a file, and a time, of its own."""
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
    return DatasetEntry(
        path=path.name, kind=kind_of(path), etag=etag, nbytes=status.st_size, mtime=status.st_mtime
    )  # fmt: skip
