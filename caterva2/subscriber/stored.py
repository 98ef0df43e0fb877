"""A frame on this machine's disk that can be read, whole or in part: a mirror, or one of the subscriber's own."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import blosc2

from caterva2.chunks import CHUNK_HEADER, chunk_length, special_chunk
from caterva2.errors import FrameError
from caterva2.frames import FrameLayout
from caterva2.models import ArrayInfo, DatasetEntry, DatasetInfo, Kind
from caterva2.paths import DatasetPath
from caterva2.records import SkeletonHead


class StoredFrame:
    """A frame on this machine's disk that can be read, whole or in part.

    Args:
        path: of the dataset.
        fd: its file descriptor, which this object closes at its end.
        head: the version and the metadata.
        layout: of the frame.
    """

    def __init__(self, path: DatasetPath, fd: int, head: SkeletonHead, layout: FrameLayout) -> None:
        self.path = path
        self.fd = fd
        self.head = head
        self.layout = layout
        weakref.finalize(self, os.close, fd)

    @property
    def entry(self) -> DatasetEntry:
        """The dataset at this version."""
        return self.head.entry

    @property
    def etag(self) -> str:
        """The version."""
        return self.head.entry.etag

    @property
    def info(self) -> DatasetInfo:
        """The metadata at this version."""
        return self.head.info

    @property
    def kind(self) -> Kind:
        """Whether it is an array, a frame or a plain file."""
        return self.head.entry.kind

    @property
    def compact(self) -> bool:
        """Whether the bytes are those of the publisher's own file."""
        return not self.head.slotted

    @cached_property
    def delta(self) -> bool:
        """Whether blocks are stored as differences to the first of their chunk."""
        schunk = self.info.schunk if isinstance(self.info, ArrayInfo) else self.info
        return blosc2.Filter.DELTA.value in schunk.cparams["filters"]

    @cached_property
    def handle(self) -> Any:
        """Blosc2's view: an NDArray, or an SChunk for a frame or file.

        It is opened by descriptor, so that it stays with this version when a newer one takes the file's name.

        Raises:
            FrameError: if Blosc2 does not take it: its header may say what we do not check.
        """
        try:
            # One thread: for the few blocks of a small read, waking others costs more than they help.
            return blosc2.open(f"/proc/self/fd/{self.fd}", mode="r", dparams=blosc2.DParams(nthreads=1))
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise FrameError(f"{self.path} is damaged: Blosc2 does not open it ({error})") from error

    def pread(self, offset: int, length: int) -> bytes:
        """Read bytes of the frame as they are on disk."""
        return os.pread(self.fd, length, offset)

    def chunk(self, n: int) -> bytes:
        """Read a chunk, which must be there, in its compressed form."""
        kind = self.layout.special(n)
        if kind is not None:
            return special_chunk(kind, self.layout.spec(n))
        offset = int(self.layout.offsets[n])
        return self.pread(offset, self.stored_length(n))

    def room(self, n: int) -> int:
        """The most bytes that a chunk can take; 0 for a special one."""
        return int(self.layout.ends[n] - self.layout.offsets[n]) if self.layout.special(n) is None else 0

    def stored_length(self, n: int) -> int:
        """The length of a stored chunk, in bytes."""
        offset = int(self.layout.offsets[n])
        length = chunk_length(self.pread(offset, CHUNK_HEADER))
        if not CHUNK_HEADER <= length <= int(self.layout.ends[n]) - offset:
            raise FrameError(f"chunk {n} is damaged: its length is wrong")
        return length

    def pin(self, numbers: Sequence[int]) -> int:
        """Say that these chunks are being used, so that their disk is not given to others; returns the pin."""
        return 0

    def unpin(self, pin: int) -> None:
        """Say that they are no longer used for this."""

    def missing(self, numbers: Iterable[int]) -> list[int]:
        """The numbers of the chunks that must be fetched before they can be read."""
        return []

    @property
    def whole(self) -> bool:
        """Whether every chunk is there."""
        return True
