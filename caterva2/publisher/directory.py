"""A directory as a root: which files in it are datasets, at which version, and how they are opened safely.

What is published: regular files, and directories that hold a sparse frame (as one dataset each). Not published:
hidden and partial files, what is not regular, names that are no UTF-8, the publisher's own state, and whatever a
symbolic link reaches outside of the root. Links to directories are never followed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal

from caterva2.errors import Caterva2Error, ForbiddenError, NotFoundError, UnavailableError
from caterva2.models import Kind
from caterva2.paths import MAX_PATH
from caterva2.publisher.opened import OpenFile, OpenFrame, OpenSparseFrame
from caterva2.publisher.source import OpenDataset, Version

logger = logging.getLogger(__name__)

SPARSE_INDEX: Final = "chunks.b2frame"
_KINDS: Final[dict[str, Kind]] = {".b2nd": "array", ".b2frame": "frame"}
_UNPUBLISHED: Final = re.compile(r"\..*|.*~|.*\.(?:part|partial|tmp|swp|swo|b2lock)|_caterva2", re.DOTALL)
_MAX_ALIASES: Final = 10_000
_MISSING: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}

Visit = Callable[[str], None]


class Directory:
    """The datasets below a directory.

    Args:
        root: the directory.
        exclude: directories that are not published when they are in it (the publisher's state).
    """

    kind: Literal["directory", "hdf5"] = "directory"

    def __init__(self, root: Path, *, exclude: Iterable[Path] = ()) -> None:
        self._root = os.path.realpath(root)
        self._excluded = frozenset(os.path.realpath(path) for path in exclude)
        self._aliases: set[str] = set()
        self._told: set[str] = set()

    def look(self, scope: str = "", visit: Visit | None = None) -> dict[str, Version]:
        """Find the datasets at or below a path.

        Args:
            scope: the path; "" is the root.
            visit: called with each directory before it is listed (a watch set then misses nothing).

        Raises:
            UnavailableError: if the root itself cannot be listed; that says nothing of its datasets.
        """
        if scope == "":
            self._aliases.clear()
        found: dict[str, Version] = {}
        todo = [scope]
        try:
            Path(self._root).stat()
            if scope and not self._is_directory(scope):
                return self._look_at_file(scope)
            while todo:
                todo += self._list(todo.pop(), found, visit)
        except OSError as error:
            raise UnavailableError(f"the root {self._root} cannot be read: {error.strerror}", 5.0) from error
        return found

    def scope(self, path: str) -> str | None:
        """What has to be looked at when something happened at a path; None if it is not published.

        What is in a directory named as a frame is looked at as a whole, since it may be a sparse one.
        """
        segments = path.split("/") if path else []
        for depth, segment in enumerate(segments, 1):
            prefix = "/".join(segments[:depth])
            if not self._is_published(segment, prefix):
                return None
            if depth < len(segments) and _kind(segment) != "file":
                return prefix
        return path

    def path_of(self, file: str) -> str | None:
        """The path below the root of an absolute file name; None if it is not below it."""
        if file == self._root:
            return ""
        below = self._root.rstrip("/") + "/"
        return file[len(below) :] if file.startswith(below) else None

    @property
    def aliases(self) -> tuple[str, ...]:
        """Datasets that may change with no event at their path: symbolic links and hard links."""
        return tuple(self._aliases)

    def open(self, path: str) -> OpenDataset:
        """Open a dataset.

        Raises:
            NotFoundError: if there is none of this path.
            ForbiddenError: if the publisher may not read it.
            UnavailableError: if the system does not let it now.
        """
        with _translated(path):
            if not path or self.scope(path) is None:
                raise NotFoundError(f"there is no dataset {path!r}")
            return self._open(path)

    # -- looking --------------------------------------------------------------------------------------

    def _list(self, directory: str, found: dict[str, Version], visit: Visit | None) -> list[str]:
        """Put the datasets of one directory into `found`; return the directories in it."""
        try:
            if visit is not None:
                visit(self._file(directory))
            with os.scandir(self._file(directory)) as scan:
                entries = list(scan)
        except OSError as error:
            if not directory:
                raise
            self._tell(directory, error)
            return []
        if _kind(directory) != "file" and any(entry.name == SPARSE_INDEX for entry in entries):
            with suppress(FileNotFoundError):
                found[directory] = _sparse_version(directory, entries)
            return []
        prefix = f"{directory}/" if directory else ""
        directories = []
        for entry in entries:
            path = prefix + entry.name
            if not self._is_published(entry.name, path):
                continue
            if entry.is_dir(follow_symlinks=False):
                directories.append(path)
            elif (version := self._version(path, entry)) is not None:
                found[path] = version
        return directories

    def _version(self, path: str, entry: os.DirEntry[str]) -> Version | None:
        try:
            info = entry.stat(follow_symlinks=False)
            return self._version_of(path, info)
        except (OSError, NotFoundError):
            return None

    def _version_of(self, path: str, info: os.stat_result) -> Version | None:
        alias = stat.S_ISLNK(info.st_mode)
        if alias:
            info = Path(self._target(path)).stat()
        if (alias or info.st_nlink > 1) and len(self._aliases) < _MAX_ALIASES:
            self._aliases.add(path)
        return file_version(_kind(path), info) if stat.S_ISREG(info.st_mode) else None

    def _look_at_file(self, path: str) -> dict[str, Version]:
        with suppress(OSError, NotFoundError):
            with self._parent(path) as (parent, name):
                info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if (version := self._version_of(path, info)) is not None:
                return {path: version}
        return {}

    def _is_directory(self, path: str) -> bool:
        try:
            with self._parent(path) as (parent, name):
                return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except (OSError, NotFoundError):
            return False

    def _is_published(self, name: str, path: str) -> bool:
        if _UNPUBLISHED.fullmatch(name) is not None:
            return False
        if not name.isascii() or len(path) > MAX_PATH // 4:
            try:
                if len(path.encode()) > MAX_PATH:
                    raise ValueError("its path is too long")
            except ValueError as error:
                reason = "its name is not UTF-8" if isinstance(error, UnicodeError) else error
                self._tell_once(path, f"{os.fsencode(path)!r} is not published: {reason}")
                return False
        return not (self._excluded and self._file(path) in self._excluded)

    def _tell(self, path: str, error: OSError) -> None:
        if error.errno not in _MISSING:
            self._tell_once(path, f"directory {path!r} is not published: {error.strerror}")

    def _tell_once(self, path: str, line: str) -> None:
        if path not in self._told and len(self._told) < _MAX_ALIASES:
            self._told.add(path)
            logger.warning("%s", line)

    # -- opening --------------------------------------------------------------------------------------

    def _open(self, path: str) -> OpenDataset:
        with self._parent(path) as (parent, name):
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                return self._open_directory(path, parent, name)
            if not stat.S_ISLNK(mode):
                return self._open_file(path, parent, name, mode)
        target = os.path.relpath(self._target(path), self._root)
        # The target has no link in it any more; if one has been put there since, this finds nothing.
        with self._parent(target) as (parent, name):
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            return self._open_file(path, parent, name, mode)

    def _open_file(self, path: str, parent: int, name: str, mode: int) -> OpenDataset:
        # A FIFO or a device must not even be opened: that alone can block, or do something.
        if not stat.S_ISREG(mode):
            raise NotFoundError(f"there is no dataset {path!r}")
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        info = os.fstat(fd)
        kind = _kind(path)
        if not stat.S_ISREG(info.st_mode):
            os.close(fd)
            raise NotFoundError(f"there is no dataset {path!r}")
        opened = OpenFile if kind == "file" else OpenFrame
        return opened(fd, file_version(kind, info), lambda: file_version(kind, os.fstat(fd)))

    def _open_directory(self, path: str, parent: int, name: str) -> OpenDataset:
        if _kind(path) == "file":
            raise NotFoundError(f"{path!r} is a directory")
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)

        def version() -> Version:
            with os.scandir(fd) as scan:
                return _sparse_version(path, list(scan))

        try:
            return OpenSparseFrame(fd, version(), version)
        except BaseException:
            os.close(fd)
            raise

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the directory of a path, one segment at a time and without following any link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        fd = os.open(self._root, flags)
        try:
            *directories, name = path.split("/")
            for segment in directories:
                inner = os.open(segment, flags | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = inner
                if _kind(segment) != "file" and _has(fd, SPARSE_INDEX):
                    raise NotFoundError(f"{path!r} is a part of a sparse frame, and no dataset")
            yield fd, name
        finally:
            os.close(fd)

    def _target(self, path: str) -> str:
        """The file that a symbolic link leads to; NotFoundError if that is outside of the root."""
        target = os.path.realpath(self._file(path), strict=True)
        inside = target.startswith(self._root.rstrip("/") + "/")
        if not inside or any(target.startswith(f"{excluded}/") for excluded in self._excluded):
            raise NotFoundError(f"{path!r} is a link that leads out of the root")
        return target

    def _file(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}" if path else self._root


def file_version(kind: Kind, info: os.stat_result) -> Version:
    """The version of a regular file."""
    # The change time too: `touch -r` and `rsync --times` set the modification time back, it they cannot.
    key = struct.pack("<3qQ", *_key(info))
    etag = blake2b(key, digest_size=8).hexdigest()
    return Version(kind, etag, info.st_size, info.st_mtime, info.st_ctime)


def _key(info: os.stat_result) -> tuple[int, int, int, int]:
    return info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino


def _sparse_version(path: str, entries: Iterable[os.DirEntry[str]]) -> Version:
    """The version of a sparse frame: that of all its files."""
    key = blake2b(digest_size=8)
    nbytes, mtime, touched = 0, 0.0, 0.0
    seen = False
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
            continue
        info = entry.stat(follow_symlinks=False)
        seen |= entry.name == SPARSE_INDEX
        key.update(repr((entry.name, *_key(info))).encode(errors="surrogateescape"))
        nbytes, mtime = nbytes + info.st_size, max(mtime, info.st_mtime)
        touched = max(touched, info.st_ctime)
    if not seen:
        raise FileNotFoundError(errno.ENOENT, "no sparse frame", path)
    return Version(_kind(path), key.hexdigest(), nbytes, mtime, touched)


def _has(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _kind(path: str) -> Kind:
    return _KINDS.get(path[path.rfind(".") :], "file")


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except Caterva2Error:
        raise
    except ValueError as error:
        raise NotFoundError(f"there is no dataset {path!r}") from error
    except OSError as error:
        if error.errno in _MISSING:
            raise NotFoundError(f"there is no dataset {path!r}") from error
        if error.errno in {errno.EACCES, errno.EPERM}:
            raise ForbiddenError(f"the publisher may not read {path!r}: {error.strerror}") from error
        raise UnavailableError(f"{path!r} cannot be read now: {error.strerror}") from error
