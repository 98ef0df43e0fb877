"""What users send, on its way to disk: into a file of its own, checked, and only then under its name.

A plain file is compressed chunk by chunk as it comes. A frame is written as it is, and nothing of it counts, nor is
shown to Blosc2, before its header, its index and every chunk's header were checked.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import threading
import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import blosc2
import numpy as np

from caterva2.chunks import (
    CHUNK_HEADER,
    FILE_BLOCKSIZE,
    ChunkSpec,
    check_chunk,
    chunk_length,
    compress_file_chunk,
    file_cparams,
)
from caterva2.errors import FrameError, PathError, StorageFullError
from caterva2.frames import FrameLayout, Skeleton, frame_parts, metalayers, schunk_template
from caterva2.models import Kind
from caterva2.paths import DatasetPath
from caterva2.subscriber.definitions import ACTIVE, is_definition, read_definition
from caterva2.subscriber.userroots import opened

Grow = Callable[[int], None]
# Bytes of a plain file that are compressed at once, and held in memory until there are as many.
FILE_CHUNK: Final = 1 << 20


class Clock:
    """Times of which none comes twice, so that no two writes make the same version."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def stamp(self, fd: int) -> None:
        """Give an open file a time that no other has."""
        with self._lock:
            self._last = now = max(self._last + 1, time.time_ns())
        os.utime(fd, ns=(now, now))


class Spool(ABC):
    """A file that is being written.

    Args:
        file: its name, which must be new.
        grow: told how many bytes are added before they are; may refuse them.
        clock: that of all writes.
    """

    def __init__(self, file: Path, grow: Grow, clock: Clock) -> None:
        self.file = file
        self._grow = grow
        self._clock = clock
        self._length = 0
        with disk_errors(file.name):
            self.fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Take in some bytes of any number.

        Raises:
            Caterva2Error: if there is no room for them.
        """

    def finish(self, path: DatasetPath) -> None:
        """Complete the file, check it as the dataset that it will be, and wait until it is on disk.

        Raises:
            FrameError: if it is no sound frame, or of a kind that is not kept.
            Caterva2Error: if there is no room for it.
        """
        self._check(path)
        with disk_errors(path.name):
            self._clock.stamp(self.fd)
            os.fsync(self.fd)

    def close(self) -> None:
        """Close the file, and remove it if it still has its first name."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            self.file.unlink(missing_ok=True)

    def _check(self, path: DatasetPath) -> None:
        check_frame(path, self.fd)

    def _append(self, data: bytes | memoryview) -> None:
        self._grow(len(data))
        with disk_errors(self.file.name):
            _write(self.fd, data, self._length)
        self._length += len(data)


class FrameSpool(Spool):
    """A frame, as it is."""

    def expect(self, nbytes: int) -> None:
        """Take the room for bytes that are written to the file in another way."""
        self._grow(nbytes)
        self._length += nbytes

    def write(self, data: bytes) -> None:
        """Take in some bytes."""
        self._append(data)


class DefinitionSpool(FrameSpool):
    """A stored expression, which this subscriber made."""

    def _check(self, path: DatasetPath) -> None:
        if read_definition(path, self.fd) is None:
            raise FrameError(f"{path} is no stored expression")


class _ChunksSpool(Spool):
    """A frame that is made chunk by chunk.

    Args:
        file: its name, which must be new.
        grow: told how many bytes are added before they are; may refuse them.
        clock: that of all writes.
        template: a frame like it, without data; that of `_complete` has a header of the same length.
    """

    def __init__(self, file: Path, grow: Grow, clock: Clock, template: bytes) -> None:
        super().__init__(file, grow, clock)
        self._offsets = array("q")
        # The header comes last, since it tells the sizes; it has the same length whatever they are.
        self._header = len(frame_parts(template, np.empty(0, np.int64), 0, 0)[0])
        self._length = self._header

    def _add(self, chunk: bytes) -> None:
        self._offsets.append(self._length - self._header)
        self._append(chunk)

    def _complete(self, path: DatasetPath, template: bytes, nbytes: int) -> None:
        offsets = np.frombuffer(self._offsets, np.int64) if self._offsets else np.empty(0, np.int64)
        head, tail = frame_parts(template, offsets, self._length - self._header, nbytes)
        self._append(tail)
        self._grow(len(head))
        with disk_errors(path.name):
            _write(self.fd, head, 0)
        super().finish(path)


class FileSpool(_ChunksSpool):
    """A plain file, which becomes a frame."""

    def __init__(self, file: Path, grow: Grow, clock: Clock) -> None:
        super().__init__(file, grow, clock, _template(FILE_CHUNK))
        self._buffer = bytearray()
        self._nbytes = 0

    def write(self, data: bytes) -> None:
        """Take in some bytes."""
        self._buffer += data
        while len(self._buffer) >= FILE_CHUNK:
            self._chunk(bytes(self._buffer[:FILE_CHUNK]))
            del self._buffer[:FILE_CHUNK]

    def finish(self, path: DatasetPath) -> None:
        """Complete the frame."""
        if self._buffer:
            self._chunk(bytes(self._buffer))
            self._buffer.clear()
        # As upstream: what fits is one chunk of its own size.
        self._complete(path, _template(min(max(self._nbytes, 1), FILE_CHUNK)), self._nbytes)

    def _chunk(self, data: bytes) -> None:
        self._add(compress_file_chunk(data))
        self._nbytes += len(data)


class ArraySpool(_ChunksSpool):
    """An array, of which the compressed chunks come one after the other.

    Args:
        file: its name, which must be new.
        grow: told how many bytes are added before they are; may refuse them.
        clock: that of all writes.
        template: an array like it, without data.
    """

    def __init__(self, file: Path, grow: Grow, clock: Clock, template: bytes) -> None:
        super().__init__(file, grow, clock, template)
        self._array = template

    def write(self, data: bytes) -> None:
        """Take in the next chunk, whole."""
        self._add(data)

    def finish(self, path: DatasetPath) -> None:
        """Complete the array."""
        if not self._offsets:  # it has no items
            self._length = 0
            self._append(self._array)
            super(_ChunksSpool, self).finish(path)
            return
        layout = FrameLayout.read(lambda offset, length: self._array[offset : offset + length], len(self._array))
        self._complete(path, self._array, layout.nbytes)


def check_frame(path: DatasetPath, fd: int) -> None:
    """Make sure that a file can be served as this dataset; what follows its frame is cut off.

    Raises:
        FrameError: if it cannot.
    """
    size = os.fstat(fd).st_size
    skeleton, layout = Skeleton.read(lambda offset, length: os.pread(fd, length, offset), size)
    if active := ACTIVE & set(metalayers(skeleton.head)):
        raise FrameError(f"{path} is not kept: it is no plain data, but {min(active).decode()}")
    if layout.length < size:
        os.ftruncate(fd, layout.length)
    _check_chunks(fd, layout)
    frame = opened(path, os.dup(fd))
    if frame.kind != "array" and layout.geometry is not None:
        raise FrameError(f"{path} is an array: name it .b2nd")
    if not isinstance(frame.handle, _form(frame.kind)):
        raise FrameError(f"{path} is neither an array nor a frame for Blosc2")


def _check_chunks(fd: int, layout: FrameLayout) -> None:
    if not len(layout.order):
        return
    # Nobody else has this file, so it cannot shrink under the map; a chunk may have 2 GB, too much to read at once.
    data = memoryview(mmap.mmap(fd, layout.length, prot=mmap.PROT_READ))
    for n in layout.order.tolist():
        start, end = int(layout.offsets[n]), int(layout.ends[n])
        stated = chunk_length(data[start : start + CHUNK_HEADER])
        check_chunk(data[start : min(start + max(stated, 0), end)], layout.spec(n), f"chunk {n}")


def _form(kind: Kind) -> Any:
    return blosc2.NDArray if kind == "array" else blosc2.SChunk


def _template(chunksize: int) -> bytes:
    return schunk_template(file_cparams(chunksize), ChunkSpec(chunksize, min(FILE_BLOCKSIZE, chunksize), 1))


def _write(fd: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def disk_errors(name: str) -> Iterator[None]:
    """Turn what the file system refuses into errors that a client understands.

    Raises:
        StorageFullError: if there is no room.
        PathError: if a name is too long.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StorageFullError(f"no room is left on the subscriber's disk for {name}") from error
        if error.errno == errno.ENAMETOOLONG:
            raise PathError(f"{name} is too long for a file") from error
        raise


def duplicate(source: int, spool: FrameSpool) -> None:
    """Copy an open file into a new one."""
    size, at = os.fstat(source).st_size, 0
    spool.expect(size)
    with disk_errors(spool.file.name):
        while at < size and (copied := os.copy_file_range(source, spool.fd, min(size - at, 1 << 30), at, at)):
            at += copied


def copy_of(fd: int) -> type[FrameSpool]:
    """What takes in a copy of a dataset that is open."""
    return DefinitionSpool if is_definition(fd) else FrameSpool


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that is in it, if it is there."""
    shutil.rmtree(directory, ignore_errors=True)
