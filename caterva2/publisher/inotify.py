"""The kernel's notifications of what changes in directories (Linux inotify).

Why not watchfiles: it follows symbolic links to directories, so one link to `/` makes it watch the whole machine;
and its stream ends at the first file name that is no UTF-8 (both seen with watchfiles 1.3). See inotify(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import threading
from dataclasses import dataclass
from typing import Final, Self

_EVENT: Final = struct.Struct("iIII")
_CLOEXEC, _NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_UNMOUNT, _OVERFLOW, _IGNORED = 0x2000, 0x4000, 0x8000
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK, _ISDIR = 0x1000000, 0x2000000, 0x4000000, 0x40000000
_MASK: Final = (
    _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
    | _ONLYDIR | _DONT_FOLLOW | _EXCL_UNLINK
)  # fmt: skip
_BUFFER: Final = 16 * 1024
"""Bytes; parsing one takes the event loop about a millisecond."""


@dataclass(frozen=True, slots=True)
class Happened:
    """What was read at once.

    Attributes:
        files: absolute paths at which something happened.
        lost: whether anything else may have happened too.
    """

    files: frozenset[str]
    lost: bool


class Inotify:
    """Watches of single directories; the descriptor becomes readable when something happened.

    Raises:
        OSError: if the system has no inotify, or no more instances of it.
    """

    def __init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise OSError(errno.ENOSYS, "this system has no inotify")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._directories: dict[int, str] = {}
        # Directories are added in threads while events are read: an event must find its directory's name.
        self._lock = threading.Lock()
        self._fd: int = self._libc.inotify_init1(_CLOEXEC | _NONBLOCK)
        if self._fd < 0:
            raise _last_error()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def add(self, directory: str) -> None:
        """Watch a directory; again is no harm.

        Raises:
            OSError: ENOSPC when the user's watches are used up; or the directory is not there.
        """
        with self._lock:
            if self._fd < 0:
                return
            wd = self._libc.inotify_add_watch(self._fd, os.fsencode(directory), ctypes.c_uint32(_MASK))
            if wd < 0:
                raise _last_error(directory)
            self._directories[wd] = directory

    def read(self) -> Happened:
        """Take what happened, as far as it is there; never waits."""
        with self._lock:
            try:
                data = os.read(self._fd, _BUFFER)
            except OSError as error:
                if error.errno in {errno.EAGAIN, errno.EBADF}:
                    return Happened(frozenset(), lost=False)
                raise
            return self._parse(data)

    def _parse(self, data: bytes) -> Happened:
        files: set[str] = set()
        lost, at = False, 0
        while at < len(data):
            wd, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            lost |= bool(mask & _OVERFLOW)
            directory = self._directories.get(wd)
            if mask & _IGNORED:
                self._directories.pop(wd, None)
            elif directory is not None:
                file = f"{directory.rstrip('/')}/{os.fsdecode(name)}" if name else directory
                if mask & _ISDIR and mask & _MOVED_FROM:
                    self._forget(file)
                files.add(file)
        return Happened(frozenset(files), lost)

    def _forget(self, directory: str) -> None:
        """Drop the watches below a directory that was moved: they would tell of it by its old name."""
        below = directory + "/"
        for wd in [wd for wd, name in self._directories.items() if name == directory or name.startswith(below)]:
            self._libc.inotify_rm_watch(self._fd, wd)
            del self._directories[wd]


def _last_error(path: str | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
