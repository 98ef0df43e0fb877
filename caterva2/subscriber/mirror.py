"""One mirror: what a subscriber keeps on disk of one version of a dataset that others publish.

A mirror file is a sparse file with the layout of the publisher's frame, so Blosc2 reads it as it is, and a chunk that
arrives is one write at its own offset. After the frame stand the presence map, which alone decides what may be read,
the chunks' digests, and the head (JSON) with the version. `docs/explanation/frame-mirror.md` tells the reasons.

A reader pins the chunks that it uses, then looks whether they are there; who evicts marks chunks as absent, then looks
whether they are pinned. So one of the two always sees the other, and reading needs no lock. Everything here is
synchronous and is called through a thread when it can take long.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caterva2.chunks import CHUNK_HEADER, check_chunk
from caterva2.errors import BadGatewayError, FrameError, StorageFullError
from caterva2.frames import FrameLayout, Skeleton
from caterva2.paths import DatasetPath
from caterva2.records import SkeletonHead, digest_of
from caterva2.subscriber.disk import Disk
from caterva2.subscriber.stored import StoredFrame

_FOOTER = struct.Struct("<8s6Q")
_MAGIC = b"c2mirro2"
_ALIGN = 4096
ABSENT, PRESENT, UNVERIFIED = 0, 1, 2
_FEW = 64
# Chunks that are dropped while an arriving chunk may have to wait: some milliseconds.
_DROP_AT_ONCE = 64
Numbers = Sequence[int]


@dataclass(frozen=True, slots=True)
class Footer:
    """Where everything stands that is not the frame's; the last bytes of the file.

    Attributes:
        frame_length: of the frame, in bytes.
        nchunks: of the frame.
        states: the offset of the presence map.
        digests: the offset of the chunks' digests.
        head: the offset of the head.
        digest: of all that never changes: header, index, trailer, head.
    """

    frame_length: int
    nchunks: int
    states: int
    digests: int
    head: int
    digest: int

    @classmethod
    def plan(cls, frame_length: int, nchunks: int, digest: int) -> Footer:
        """Lay a mirror file out."""
        states = -(-frame_length // _ALIGN) * _ALIGN
        digests = states + -(-nchunks // 8) * 8
        return cls(frame_length, nchunks, states, digests, digests + 8 * nchunks, digest)

    def pack(self) -> bytes:
        """The footer's bytes."""
        return _FOOTER.pack(_MAGIC, self.frame_length, self.nchunks, self.states, self.digests, self.head, self.digest)


class Mirror(StoredFrame):
    """One version of one dataset, of which any set of chunks is present.

    Args:
        path: of the dataset.
        fd: of the mirror file.
        head: the version and the metadata.
        layout: of the frame.
        footer: where the map and the digests are.
        disk: what changes the file.
        generation: what is written for a chunk that is present. Others that are not 0 were left by a run that did not
            end cleanly, and are checked by their digest at their first use.
        transient: whether it is in memory only, and forgets chunks that nobody uses.
    """

    def __init__(
        self,
        path: DatasetPath,
        fd: int,
        head: SkeletonHead,
        layout: FrameLayout,
        footer: Footer,
        *,
        disk: Disk,
        generation: int = 1,
        transient: bool = False,
    ) -> None:
        super().__init__(path, fd, head, layout)
        self.footer = footer
        self.transient = transient
        self._disk = disk
        self._mark = bytes([generation])
        found = np.frombuffer(os.pread(fd, footer.nchunks, footer.states), np.uint8)
        states = np.where(found == generation, PRESENT, UNVERIFIED).astype(np.uint8)
        states[found == 0] = ABSENT
        states[layout.offsets < 0] = PRESENT
        self._states: npt.NDArray[np.uint8] = states
        # The same bytes, for looking at a few: much faster than the array.
        self._few = states.data
        self.trusted = not (states == UNVERIFIED).any()
        self.donor: Mirror | None = None
        self._writing = threading.RLock()
        self._pins: dict[int, Numbers] = {}
        self._next_pin = count(1)
        self._opened = os.fstat(fd).st_mtime
        # Nothing of it is in memory before it is used.
        self._used: npt.NDArray[np.float64] = np.zeros(footer.nchunks)
        self._few_used: memoryview[float] = self._used.data  # type: ignore[assignment]
        self.last_used = self._opened

    @classmethod
    def open(cls, path: DatasetPath | str, file: Path, *, disk: Disk, generation: int = 1) -> Mirror:
        """Open a mirror file.

        Args:
            path: of the dataset, or only its root.
            file: the mirror file.
            disk: what changes the file.
            generation: as for the class.

        Raises:
            OSError: if it cannot be opened.
            Caterva2Error: if it is not a sound mirror.
        """
        fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            footer, head = _read_footer(fd)
            skeleton, layout = _read_skeleton(fd, footer)
            if layout.nchunks != footer.nchunks or footer.digest != _digest(skeleton, head):
                raise FrameError("the mirror file is damaged")
            _check_first(skeleton.first, layout)
            parsed = _parse_head(head)
            if isinstance(path, str):
                path = DatasetPath.parse(f"{path}/{parsed.entry.path}")
            return cls(path, fd, parsed, layout, footer, disk=disk, generation=generation)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def write(
        cls,
        path: DatasetPath,
        fd: int,
        head: SkeletonHead,
        skeleton: Skeleton,
        layout: FrameLayout,
        *,
        disk: Disk,
        generation: int = 1,
        transient: bool = False,
    ) -> Mirror:
        """Write an empty mirror to a new file; `layout` is the skeleton's.

        Raises:
            OSError: if it cannot be written.
        """
        text = head.model_dump_json().encode()
        footer = Footer.plan(skeleton.length, layout.nchunks, _digest(skeleton, text))
        disk.truncate(fd, footer.head)
        for offset, part in skeleton.parts():
            disk.write(fd, part, offset)
        disk.write(fd, text + footer.pack(), footer.head)
        return cls(path, fd, head, layout, footer, disk=disk, generation=generation, transient=transient)

    def skeleton(self) -> Skeleton:
        """Everything of the frame that is not payload."""
        return _read_skeleton(self.fd, self.footer)[0]

    # -- what is there --------------------------------------------------------------------------------------

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

    @property
    def kept(self) -> npt.NDArray[np.int64]:
        """The numbers of the chunks that take disk, whether they were verified or not, in the order of the file."""
        order = self.layout.order
        kept: npt.NDArray[np.int64] = order[self._states[order] != ABSENT]
        return kept

    def verify(self, numbers: Iterable[int]) -> None:
        """Decide by their digests whether chunks that an unclean stop left behind are really there."""
        if self.trusted:
            return
        wanted = np.fromiter(numbers, np.int64)
        for n in wanted[self._states[wanted] == UNVERIFIED]:
            with self._writing:
                if self._states[n] == UNVERIFIED:
                    self.check(int(n))

    def check(self, n: int) -> bool:
        """Whether a chunk that takes disk has its digest; if not, it is a hole from now on."""
        with self._writing:
            if self._states[n] == ABSENT or self.layout.special(n) is not None:
                return True
            (digest,) = struct.unpack("<Q", os.pread(self.fd, 8, self.footer.digests + 8 * n))
            good = False
            with contextlib.suppress(FrameError):
                good = digest_of(self.chunk(n)) == digest
            if not good or self._states[n] == UNVERIFIED:
                with contextlib.suppress(OSError):  # a full disk: the next run will ask again
                    self._disk.write(self.fd, self._mark if good else b"\0", self.footer.states + n)
            self._states[n] = PRESENT if good else ABSENT
            return good

    def digest(self, n: int) -> int | None:
        """The digest of a chunk that is on disk, None if it is not."""
        self.verify([n])
        if self.layout.special(n) is not None or self._states[n] != PRESENT:
            return None
        (digest,) = struct.unpack("<Q", os.pread(self.fd, 8, self.footer.digests + 8 * n))
        return int(digest)

    # -- what comes -----------------------------------------------------------------------------------------

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
        with self._writing, storage_errors():
            # The data, then the digest, then the state: whoever sees the state can read the data.
            self._disk.write(self.fd, chunk, offset)
            self._disk.write(self.fd, struct.pack("<Q", digest), self.footer.digests + 8 * n)
            self._disk.write(self.fd, self._mark, self.footer.states + n)
            self._states[n] = PRESENT

    # -- what is used, and what goes ------------------------------------------------------------------------

    def pin(self, numbers: Numbers) -> int:
        """Say that these chunks are being used, so that their disk is not given to others; returns the pin.

        A pinned chunk may be absent; one that is present after it was pinned stays.
        """
        pin = next(self._next_pin)
        self._pins[pin] = numbers
        self.last_used = now = time.time()
        if len(numbers) <= _FEW:
            for n in numbers:
                self._few_used[n] = now
        else:
            self._used[np.asarray(numbers, np.int64)] = now
        return pin

    def unpin(self, pin: int) -> None:
        """Say that they are no longer used for this."""
        numbers = self._pins.pop(pin, None)
        if self.transient and numbers is not None:
            self.drop(numbers)

    @contextmanager
    def pinned(self, numbers: Numbers) -> Iterator[None]:
        """Pin chunks for a while."""
        pin = self.pin(numbers)
        try:
            yield
        finally:
            self.unpin(pin)

    @property
    def in_use(self) -> npt.NDArray[np.bool_]:
        """For each chunk whether it is pinned."""
        mask = np.zeros(self.layout.nchunks, bool)
        for numbers in list(self._pins.values()):
            mask[np.asarray(numbers, np.int64)] = True
        return mask

    def ages(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """When chunks were last used, in seconds since 1970, as far as is known."""
        return np.maximum(self._used[numbers], self._opened)

    def drop(self, numbers: Numbers | npt.NDArray[np.int64]) -> None:
        """Give the disk of chunks back, unless they are in use.

        Raises:
            OSError: if the file system cannot do that.
        """
        wanted = np.zeros(self.layout.nchunks, bool)
        wanted[np.asarray(numbers, np.int64)] = True
        order = self.layout.order
        victims = order[wanted[order]]
        for at in range(0, len(victims), _DROP_AT_ONCE):
            self._drop(victims[at : at + _DROP_AT_ONCE])
        if not self.transient and len(victims):
            self.stamp()

    def stamp(self) -> None:
        """Let the file's time say when the mirror was last used, for when it is not open."""
        with contextlib.suppress(OSError):
            os.utime(self.fd, (self.last_used, self.last_used))

    def _drop(self, victims: npt.NDArray[np.int64]) -> None:
        with self._writing:
            victims = victims[self._states[victims] != ABSENT]
            before = self._states[victims].copy()
            self._states[victims] = ABSENT
            kept = self.in_use[victims]
            self._states[victims[kept]] = before[kept]
            gone = victims[~kept]
            for n in gone.tolist():
                self._disk.write(self.fd, b"\0", self.footer.states + n)
            for start, stop in self._runs(gone):
                self._disk.punch(self.fd, start, stop - start)

    def _runs(self, gone: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """The byte ranges of chunks that are absent, around those given in the order of the file.

        Pages that two absent chunks share are given back when both are gone, so ranges reach out to absent
        neighbours; none of them can be arriving, because that is done under the same lock.
        """
        order = self.layout.order
        places, done = self._place[gone], -1
        for place in places.tolist():
            if place <= done:
                continue
            low = high = place
            while low > 0 and place - low < _DROP_AT_ONCE and self._few[order[low - 1]] == ABSENT:
                low -= 1
            while high + 1 < len(order) and high - place < _DROP_AT_ONCE and self._few[order[high + 1]] == ABSENT:
                high += 1
            done = high
            # Blosc2 looks at the header of the first chunk when it opens a frame.
            start = int(self.layout.offsets[order[low]]) + (CHUNK_HEADER if low == 0 else 0)
            yield start, int(self.layout.ends[order[high]])

    @cached_property
    def _place(self) -> npt.NDArray[np.int64]:
        place = np.zeros(self.layout.nchunks, np.int64)
        place[self.layout.order] = np.arange(len(self.layout.order))
        return place


def _read_footer(fd: int) -> tuple[Footer, bytes]:
    size = os.fstat(fd).st_size
    raw = os.pread(fd, _FOOTER.size, size - _FOOTER.size) if size > _FOOTER.size else b""
    if len(raw) < _FOOTER.size or raw[:8] != _MAGIC:
        raise FrameError("this is not a mirror file")
    footer = Footer(*_FOOTER.unpack(raw)[1:])
    if footer != Footer.plan(footer.frame_length, footer.nchunks, footer.digest) or footer.head > size - _FOOTER.size:
        raise FrameError("the mirror file is damaged")
    return footer, os.pread(fd, size - _FOOTER.size - footer.head, footer.head)


def _read_skeleton(fd: int, footer: Footer) -> tuple[Skeleton, FrameLayout]:
    return Skeleton.read(lambda offset, length: os.pread(fd, length, offset), footer.frame_length)


def _parse_head(text: bytes) -> SkeletonHead:
    try:
        return SkeletonHead.model_validate_json(text)
    except ValueError as error:
        raise FrameError("the mirror file is damaged") from error


def _digest(skeleton: Skeleton, head: bytes) -> int:
    """Of all that does not change in a mirror file: what is torn by a power loss, or rots, is found out by it."""
    return digest_of(b"".join((skeleton.head, skeleton.tail, head)))


def _check_first(header: bytes, layout: FrameLayout) -> None:
    """Look at the first chunk's header, which Blosc2 opens a frame with.

    The digest leaves it out: of a plain file it is made up until the chunk comes.
    """
    if not len(layout.order):
        return
    n = int(layout.order[0])
    spec, room = layout.spec(n), int(layout.ends[n] - layout.offsets[n])
    _, _, flags, typesize, nbytes, blocksize, cbytes = struct.unpack_from("<4B3i", header)
    good = header[0] == 5 and flags & 5 == 5 and typesize == (spec.typesize if spec.typesize < 256 else 1)
    good = good and (blocksize == min(spec.blocksize, nbytes) if spec.blocksize else 0 < blocksize <= nbytes)
    if not good or nbytes != spec.nbytes or not CHUNK_HEADER <= cbytes <= room:
        raise FrameError("the mirror file is damaged")


@contextlib.contextmanager
def storage_errors() -> Any:
    """Turn the errors of the file system into StorageFullError."""
    try:
        yield
    except OSError as error:
        raise StorageFullError(f"the subscriber cannot write to its cache: {error.strerror}") from error
