"""The mirror: what a subscriber keeps on disk of the datasets that others publish.

A mirror file is a sparse file with the layout of the publisher's frame, so Blosc2 reads it as it is, and a chunk that
arrives is one write at its own offset. After the frame stand the presence map, which alone decides what may be read,
the chunks' digests, and the head (JSON) with the version. `docs/explanation/frame-mirror.md` tells the reasons.

Each version of a dataset is a file of its own that is renamed over the one before; a reader keeps the file that it
opened until it has finished. Everything here is synchronous and is called through a thread when it can take long.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt

from caterva2.chunks import CHUNK_HEADER, check_chunk, chunk_length, special_chunk
from caterva2.errors import BadGatewayError, Caterva2Error, FrameError, StorageFullError
from caterva2.frames import FrameLayout, Skeleton
from caterva2.models import ArrayInfo, DatasetEntry, DatasetInfo, Kind
from caterva2.paths import DatasetPath
from caterva2.records import SkeletonHead, digest_of

_FOOTER = struct.Struct("<8s5Q")
_MAGIC = b"c2mirro1"
_ALIGN = 4096
_CLEAN = "clean"
ABSENT, PRESENT, UNVERIFIED = 0, 1, 2
_FEW = 64
Numbers = Sequence[int]


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
        """
        # One thread: for the few blocks of a small read, waking others costs more than they help.
        return blosc2.open(f"/proc/self/fd/{self.fd}", mode="r", dparams=blosc2.DParams(nthreads=1))

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

    def stored_length(self, n: int) -> int:
        """The length of a stored chunk, in bytes."""
        offset = int(self.layout.offsets[n])
        length = chunk_length(self.pread(offset, CHUNK_HEADER))
        if not CHUNK_HEADER <= length <= int(self.layout.ends[n]) - offset:
            raise FrameError(f"chunk {n} is damaged: its length is wrong")
        return length

    def missing(self, numbers: Iterable[int]) -> list[int]:
        """The numbers of the chunks that must be fetched before they can be read."""
        return []

    @property
    def whole(self) -> bool:
        """Whether every chunk is there."""
        return True


@dataclass(frozen=True, slots=True)
class _Footer:
    frame_length: int
    nchunks: int
    states: int
    digests: int
    head: int

    @classmethod
    def plan(cls, frame_length: int, nchunks: int) -> _Footer:
        states = -(-frame_length // _ALIGN) * _ALIGN
        digests = states + -(-nchunks // 8) * 8
        return cls(frame_length, nchunks, states, digests, digests + 8 * nchunks)

    def pack(self) -> bytes:
        return _FOOTER.pack(_MAGIC, self.frame_length, self.nchunks, self.states, self.digests, self.head)


class Mirror(StoredFrame):
    """One version of one dataset, of which any set of chunks is present.

    Args:
        path: of the dataset.
        fd: of the mirror file.
        head: the version and the metadata.
        layout: of the frame.
        footer: where the map and the digests are.
        trusted: whether what the map says can be believed; if not, a chunk's digest is checked at its first use.
    """

    def __init__(
        self,
        path: DatasetPath,
        fd: int,
        head: SkeletonHead,
        layout: FrameLayout,
        footer: _Footer,
        *,
        trusted: bool = True,
    ) -> None:
        super().__init__(path, fd, head, layout)
        self._footer = footer
        states = np.frombuffer(os.pread(fd, footer.nchunks, footer.states), np.uint8).copy()
        states[states != ABSENT] = PRESENT if trusted else UNVERIFIED
        states[layout.offsets < 0] = PRESENT
        self._states: npt.NDArray[np.uint8] = states
        # The same bytes, for looking at a few: much faster than the array.
        self._few = states.data
        self.trusted = trusted
        self.donor: Mirror | None = None

    @classmethod
    def open(cls, path: DatasetPath, file: Path, *, trusted: bool) -> Mirror:
        """Open a mirror file.

        Raises:
            OSError: if it cannot be opened.
            Caterva2Error: if it is not a sound mirror.
        """
        fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            footer, head = _read_footer(fd)
            layout = FrameLayout.read(lambda offset, length: os.pread(fd, length, offset), footer.frame_length)
            if layout.nchunks != footer.nchunks:
                raise FrameError("the mirror's footer contradicts its frame")
            return cls(path, fd, head, layout, footer, trusted=trusted)
        except BaseException:
            os.close(fd)
            raise

    def missing(self, numbers: Iterable[int]) -> list[int]:
        """The numbers of the chunks that must be fetched before they can be read."""
        if isinstance(numbers, list) and len(numbers) <= _FEW:
            return [n for n in numbers if self._few[n] != PRESENT]
        wanted = np.fromiter(numbers, np.int64)
        absent: list[int] = wanted[self._states[wanted] != PRESENT].tolist()
        return absent

    @property
    def whole(self) -> bool:
        """Whether every chunk is there."""
        return bool((self._states == PRESENT).all())

    def verify(self, numbers: Iterable[int]) -> None:
        """Decide by their digests whether chunks that an unclean stop left behind are really there."""
        if self.trusted:
            return
        wanted = np.fromiter(numbers, np.int64)
        for n in wanted[self._states[wanted] == UNVERIFIED]:
            self._verify(int(n))

    def digest(self, n: int) -> int | None:
        """The digest of a chunk that is on disk, None if it is not."""
        self.verify([n])
        if self.layout.special(n) is not None or self._states[n] != PRESENT:
            return None
        (digest,) = struct.unpack("<Q", os.pread(self.fd, 8, self._footer.digests + 8 * n))
        return int(digest)

    def put(self, n: int, digest: int, chunk: bytes) -> None:
        """Keep a chunk that arrived.

        Raises:
            BadGatewayError: if its bytes do not have this digest, or are no chunk of this frame.
            StorageFullError: if the disk is full.
        """
        if not 0 <= n < self.layout.nchunks or self.layout.special(n) is not None:
            raise BadGatewayError(f"the publisher sent chunk {n}, which was not asked for")
        if digest_of(chunk) != digest:
            raise BadGatewayError(f"chunk {n} was damaged on its way: its digest is wrong")
        offset = int(self.layout.offsets[n])
        check_chunk(chunk, self.layout.spec(n), f"chunk {n}")
        if offset + len(chunk) > int(self.layout.ends[n]):
            raise FrameError(f"chunk {n} is damaged: it is longer than its place")
        with _storage_errors():
            # The data, then the digest, then the state: whoever sees the state can read the data.
            _pwrite(self.fd, chunk, offset)
            _pwrite(self.fd, struct.pack("<Q", digest), self._footer.digests + 8 * n)
            _pwrite(self.fd, bytes([PRESENT]), self._footer.states + n)
        self._states[n] = PRESENT

    def _verify(self, n: int) -> None:
        (digest,) = struct.unpack("<Q", os.pread(self.fd, 8, self._footer.digests + 8 * n))
        try:
            chunk = self.chunk(n)
            good = digest_of(chunk) == digest
        except FrameError:
            good = False
        if not good:
            _pwrite(self.fd, bytes([ABSENT]), self._footer.states + n)
        self._states[n] = PRESENT if good else ABSENT


def _read_footer(fd: int) -> tuple[_Footer, SkeletonHead]:
    size = os.fstat(fd).st_size
    raw = os.pread(fd, _FOOTER.size, size - _FOOTER.size) if size > _FOOTER.size else b""
    if len(raw) < _FOOTER.size or raw[:8] != _MAGIC:
        raise FrameError("this is not a mirror file")
    footer = _Footer(*_FOOTER.unpack(raw)[1:])
    if footer != _Footer.plan(footer.frame_length, footer.nchunks) or footer.head > size - _FOOTER.size:
        raise FrameError("the mirror file is damaged")
    try:
        head = SkeletonHead.model_validate_json(os.pread(fd, size - _FOOTER.size - footer.head, footer.head))
    except ValueError as error:
        raise FrameError("the mirror file is damaged") from error
    return footer, head


class MirrorStore:
    """All the mirrors of a subscriber, below one directory.

    Args:
        directory: where they are; it is made when needed.
        most_open: how many mirrors are kept open.
    """

    def __init__(self, directory: Path, most_open: int = 256) -> None:
        self._directory = directory
        self._open: OrderedDict[DatasetPath, Mirror] = OrderedDict()
        self._most_open = most_open
        directory.mkdir(parents=True, exist_ok=True)
        mark = directory / _CLEAN
        self._trusted = mark.exists() or not any(directory.iterdir())
        mark.unlink(missing_ok=True)

    def close(self) -> None:
        """Say that the stop was a clean one, so that the next start can believe the presence maps.

        After an unclean stop that is never said again: of some chunks no one may ever ask whether they are right.
        """
        self._open.clear()
        if self._trusted:
            (self._directory / _CLEAN).touch()

    def get(self, path: DatasetPath) -> Mirror | None:
        """The mirror of a dataset if it is open; this takes no time."""
        return self._open.get(path)

    def load(self, path: DatasetPath) -> Mirror | None:
        """Open the newest mirror of a dataset; None when there is none. What is no sound mirror is removed."""
        file = self._file(path)
        try:
            mirror = Mirror.open(path, file, trusted=self._trusted)
        except FileNotFoundError:
            return None
        except Caterva2Error:
            file.unlink(missing_ok=True)
            return None
        return self._keep(path, mirror)

    def create(self, path: DatasetPath, head: SkeletonHead, skeleton: Skeleton) -> Mirror:
        """Make the empty mirror of a new version; chunks of the version before can be carried over from it.

        Raises:
            FrameError: if the skeleton is not sound.
            StorageFullError: if the disk is full.
        """
        layout = skeleton.layout()
        if head.entry.kind == "array" and layout.geometry is None:
            raise FrameError(f"{path} is not an array")
        file = self._file(path)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        with _storage_errors():
            file.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                footer = _write_empty(fd, head, skeleton, layout)
                partial.replace(file)
            except BaseException:
                os.close(fd)
                partial.unlink(missing_ok=True)
                raise
        mirror = Mirror(path, fd, head, layout, footer)
        before = self._open.get(path)
        if before is not None and before.layout.nchunks:
            # Only one generation back: a chain of donors would keep every old version's disk space.
            before.donor = None
            mirror.donor = before
        return self._keep(path, mirror)

    def remove(self, path: DatasetPath) -> None:
        """Forget a dataset; readers that have it open finish, then its disk space is given back."""
        self._open.pop(path, None)
        self._file(path).unlink(missing_ok=True)

    def remove_root(self, root: str) -> None:
        """Forget all datasets of a root."""
        for path in [path for path in self._open if path.root == root]:
            del self._open[path]
        shutil.rmtree(self._directory / root, ignore_errors=True)

    def _keep(self, path: DatasetPath, mirror: Mirror) -> Mirror:
        self._open[path] = mirror
        self._open.move_to_end(path)
        if len(self._open) > self._most_open:
            self._open.popitem(last=False)
        return mirror

    def _file(self, path: DatasetPath) -> Path:
        # A dataset's own name could be too long with an ending, or be a directory in another version of the root.
        name = hashlib.blake2b(path.name.encode(), digest_size=20).hexdigest()
        return self._directory / path.root / name[:2] / f"{name[2:]}.mirror"


def _write_empty(fd: int, head: SkeletonHead, skeleton: Skeleton, layout: FrameLayout) -> _Footer:
    footer = _Footer.plan(skeleton.length, layout.nchunks)
    text = head.model_dump_json().encode()
    os.ftruncate(fd, footer.head)
    for offset, part in skeleton.parts():
        _pwrite(fd, part, offset)
    _pwrite(fd, text + footer.pack(), footer.head)
    return footer


def _pwrite(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


@contextlib.contextmanager
def _storage_errors() -> Any:
    try:
        yield
    except OSError as error:
        raise StorageFullError(f"the subscriber cannot write to its cache: {error.strerror}") from error
