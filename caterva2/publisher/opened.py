"""Datasets that are open for reading: contiguous frames, sparse frames (directories), plain files.

Everything is read through one's own file descriptor with `pread`, and nothing is believed that was not checked:
another program may be writing to the file, truncating or replacing it. Never mmap: a truncation would kill the
process. Never `blosc2.open`: it follows the path, not the file that was opened.
"""

from __future__ import annotations

import os
import stat
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, Self

from caterva2.chunks import CHUNK_HEADER, check_chunk, chunk_length, compress_file_chunk, special_chunk
from caterva2.errors import FrameError, VersionChangedError
from caterva2.frames import FrameLayout, Skeleton, file_skeleton, sparse_skeleton
from caterva2.publisher.source import PIECE, Anatomy, OpenDataset, StoredChunk, Version

_GAP: Final = 4096
"""Bytes read and dropped rather than starting another read."""
_MAX_INDEX: Final = 256 << 20


class _Opened(OpenDataset):
    """What the three kinds share.

    Args:
        fd: the file or directory; closed with this.
        version: the one that is open.
        look: finds the present version through `fd`.
    """

    rewindable = True

    def __init__(self, fd: int, version: Version, look: Callable[[], Version]) -> None:
        self.version = version
        self._fd = fd
        self._look = look

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing again is allowed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def check(self) -> None:
        """Raise VersionChangedError unless the dataset is still at `version`."""
        try:
            etag = self._look().etag
        except FileNotFoundError:
            etag = None
        if etag != self.version.etag:
            raise VersionChangedError("the dataset changed meanwhile: ask again for its present version", etag)

    def pread(self, offset: int, length: int) -> bytes:
        """Read some bytes of the file; fewer at its end."""
        return os.pread(self._fd, length, offset)

    def pieces(self, anatomy: Anatomy, numbers: Sequence[int]) -> list[Sequence[int]]:
        """Cut the chunks that are wanted into runs of about `PIECE` bytes, in the order given."""
        cuts, size = [0], 0
        for at, n in enumerate(numbers):
            room = self._room(anatomy, n)
            if size and size + room > PIECE:
                cuts.append(at)
                size = 0
            size += room
        return [numbers[start:stop] for start, stop in pairwise([*cuts, len(numbers)]) if start < stop]

    @abstractmethod
    def _room(self, anatomy: Anatomy, n: int) -> int:
        """The most bytes that reading chunk n takes."""


class OpenFrame(_Opened):
    """A contiguous frame: one file that holds everything."""

    def anatomy(self) -> Anatomy:
        """Read what is not payload; FrameError for a damaged frame."""
        return Anatomy(*Skeleton.read(self.pread, self.version.nbytes))

    def _room(self, anatomy: Anatomy, n: int) -> int:
        layout = anatomy.layout
        if layout.special(n) is not None:
            return CHUNK_HEADER
        # `ends` alone is too much where a frame has gaps: no chunk is larger than when stored uncompressed.
        return int(min(layout.ends[n] - layout.offsets[n], layout.chunksize + CHUNK_HEADER))

    def chunks(self, anatomy: Anatomy, numbers: Sequence[int]) -> list[StoredChunk]:
        """Read one of the `pieces`, neighbours in the file at once."""
        layout = anatomy.layout
        found: dict[int, StoredChunk] = {n: b"" for n in numbers if layout.special(n) is not None}
        for n in found:
            found[n] = special_chunk(layout.special(n) or 0, layout.spec(n))
        wanted = sorted((int(layout.offsets[n]), n) for n in set(numbers) - found.keys())
        extents = [(offset, offset + self._room(anatomy, n), n) for offset, n in wanted]
        for run in _runs(extents):
            start, stop = run[0][0], max(end for _, end, _ in run)
            data = memoryview(self.pread(start, stop - start))
            for offset, end, n in run:
                found[n] = _stored(data[offset - start : end - start], layout, n)
        return [found[n] for n in numbers]


class OpenSparseFrame(_Opened):
    """A sparse frame: a directory with an index and a file for each chunk."""

    rewindable = False

    def anatomy(self) -> Anatomy:
        """Read the index; FrameError for a damaged one."""
        index = self._read("chunks.b2frame", _MAX_INDEX)
        skeleton, files = sparse_skeleton(index, lambda number: self._read(_chunk_file(number), CHUNK_HEADER))
        return Anatomy(skeleton, skeleton.layout(), files)

    def _room(self, anatomy: Anatomy, n: int) -> int:
        return anatomy.layout.chunksize + CHUNK_HEADER

    def chunks(self, anatomy: Anatomy, numbers: Sequence[int]) -> list[StoredChunk]:
        """Read one of the `pieces`."""
        return [self._chunk(anatomy, n) for n in numbers]

    def _chunk(self, anatomy: Anatomy, n: int) -> StoredChunk:
        layout, files = anatomy.layout, anatomy.files
        assert files is not None
        if (kind := layout.special(n)) is not None:
            return special_chunk(kind, layout.spec(n))
        try:
            return _stored(self._read(_chunk_file(int(files[n])), self._room(anatomy, n)), layout, n)
        except FrameError as error:
            return error

    def _read(self, name: str, limit: int) -> bytes:
        """The first `limit` bytes of one of the directory's files."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError as error:
            raise FrameError(f"the sparse frame is incomplete: {name} cannot be read: {error.strerror}") from error
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise FrameError(f"the sparse frame is damaged: {name} is no file")
            return os.pread(fd, min(info.st_size, limit), 0)
        finally:
            os.close(fd)


class OpenFile(_Opened):
    """A plain file; its chunks are compressed when they are asked for."""

    def anatomy(self) -> Anatomy:
        """Make the frame that the file would be; nothing is read."""
        skeleton = file_skeleton(self.version.nbytes)
        return Anatomy(skeleton, skeleton.layout())

    def _room(self, anatomy: Anatomy, n: int) -> int:
        return anatomy.layout.spec(n).nbytes

    def chunks(self, anatomy: Anatomy, numbers: Sequence[int]) -> list[StoredChunk]:
        """Read and compress one of the `pieces`."""
        return [self._chunk(anatomy.layout, n) for n in numbers]

    def _chunk(self, layout: FrameLayout, n: int) -> StoredChunk:
        nbytes = layout.spec(n).nbytes
        data = self.pread(n * layout.chunksize, nbytes)
        if len(data) != nbytes:
            raise VersionChangedError("the file was truncated meanwhile: ask again for its present version")
        return compress_file_chunk(data)


def _runs(extents: Sequence[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Group extents `(start, stop, n)`, sorted by start, that are better read at once."""
    run: list[tuple[int, int, int]] = []
    for extent in extents:
        if run and (extent[0] - run[-1][1] > _GAP or extent[1] - run[0][0] > 2 * PIECE):
            yield run
            run = []
        run.append(extent)
    if run:
        yield run


def _stored(data: bytes | memoryview, layout: FrameLayout, n: int) -> StoredChunk:
    """Cut a chunk out of the room that it has, and check it."""
    length = chunk_length(data) if len(data) >= CHUNK_HEADER else 0
    chunk = data[: max(length, 0)]
    try:
        check_chunk(chunk, layout.spec(n), f"chunk {n}")
    except FrameError as error:
        return error
    return chunk


def _chunk_file(number: int) -> str:
    return f"{number:08X}.chunk"
