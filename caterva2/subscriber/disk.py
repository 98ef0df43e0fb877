"""Every change that mirrors make on disk, in one place, so that a test can lose, tear and reorder them.

Nothing here waits for the disk but `write_mark` and `sync`: what was not synced may be there after a power loss, or
not, or in part, in any order. `docs/explanation/frame-mirror.md` tells why that does no harm.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
BLOCK = 512
"""Bytes in a unit of `st_blocks`."""


class Disk:
    """The file system."""

    def create(self, file: Path) -> int:
        """Make an empty file, or empty one, and open it."""
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def truncate(self, fd: int, length: int) -> None:
        """Set the length of a file; what is new of it is a hole."""
        os.ftruncate(fd, length)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of the bytes."""
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written

    def punch(self, fd: int, offset: int, length: int) -> None:
        """Make bytes zero and give the pages that lie wholly in them back."""
        if length > 0 and _libc().fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def rename(self, before: Path, after: Path) -> None:
        """Give a file another name, which may be that of another file."""
        before.replace(after)

    def remove(self, file: Path) -> None:
        """Remove a file, if it is there; its disk comes back when nobody has it open."""
        file.unlink(missing_ok=True)

    def write_mark(self, file: Path, data: bytes) -> None:
        """Write a short file in place; when this returns it would survive a power loss, and so would its name."""
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self.write(fd, data, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def sync(self, directory: Path) -> None:
        """Wait until everything below a directory would survive a power loss."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # One call for all files, of which most were closed long ago.
            if _libc().syncfs(fd):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(fd)


def disk_use(fd: int) -> int:
    """The bytes that an open file takes on disk."""
    return os.fstat(fd).st_blocks * BLOCK


@cache
def _libc() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return library
