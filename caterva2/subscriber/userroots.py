"""The subscriber's own roots: directories of Blosc2 frames in its statedir.

`@public` can be read by everyone. A plain file is kept as a frame with the ending `.b2` and listed without it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from caterva2.errors import NotFoundError
from caterva2.frames import Skeleton
from caterva2.metadata import describe
from caterva2.models import DatasetEntry, Kind
from caterva2.paths import DatasetPath
from caterva2.records import SkeletonHead
from caterva2.subscriber.stored import StoredFrame

PUBLIC = "@public"
_PACKED = ".b2"
_KINDS: dict[str, Kind] = {".b2nd": "array", ".b2frame": "frame"}


@dataclass(frozen=True, slots=True)
class UserRoots:
    """The own roots that everyone can read.

    Args:
        directory: the statedir; each root is a directory in it.
    """

    directory: Path

    def names(self) -> list[str]:
        """The names of the roots."""
        return [PUBLIC]

    def list(self, path: DatasetPath) -> list[str]:
        """What `GET /api/list` answers.

        Raises:
            NotFoundError: if there is neither a directory nor a dataset of this name.
        """
        directory = self._root(path) / path.name
        if path.name and self._file(path) is not None:
            return [path.basename]
        if path.name and not directory.is_dir():
            raise NotFoundError(f"{path} does not exist: it is neither a dataset nor a directory")
        files = (file for file in directory.rglob("*") if file.is_file() and not file.name.startswith("."))
        return sorted(str(file.relative_to(directory)).removesuffix(_PACKED) for file in files)

    def open(self, path: DatasetPath) -> StoredFrame:
        """Open a dataset for reading.

        Raises:
            NotFoundError: if there is no such dataset.
            FrameError: if it is damaged.
        """
        file = self._file(path)
        if file is None:
            raise NotFoundError(f"{path} does not exist")
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _opened(path, fd)
        except BaseException:
            os.close(fd)
            raise

    def _root(self, path: DatasetPath) -> Path:
        if path.root not in self.names():
            raise NotFoundError(f"{path.root} needs authentication" if path.root.own else f"{path.root} not known")
        return self.directory / path.root.removeprefix("@")

    def _file(self, path: DatasetPath) -> Path | None:
        file = self._root(path) / path.name
        ending = "" if path.suffix in _KINDS else _PACKED
        file = file.with_name(file.name + ending) if path.name else file
        return file if file.is_file() else None


def _opened(path: DatasetPath, fd: int) -> StoredFrame:
    status = os.fstat(fd)
    kind = _KINDS.get(path.suffix, "file")
    skeleton, layout = Skeleton.read(lambda offset, length: os.pread(fd, length, offset), status.st_size)
    mtime = status.st_mtime
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
    entry = DatasetEntry(path=path.name, kind=kind, etag=etag, nbytes=status.st_size, mtime=mtime)
    info = describe(kind, skeleton, layout, cbytes=layout.cbytes, mtime=mtime)
    return StoredFrame(path, fd, SkeletonHead(entry=entry, info=info, slotted=False), layout)
