"""Reads datasets so that whatever leaves it belongs to one version: settled before, checked after.

Reading happens in threads, a bounded number of them; the event loop only waits.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread

from caterva2.daemon.ahead import ahead
from caterva2.errors import FrameError, NotFoundError, UnavailableError, VersionChangedError
from caterva2.publisher.source import PIECE, Anatomy, OpenDataset, Source, StoredChunk

CACHE_LIMIT: Final = 64 << 20
"""Bytes for the anatomies of datasets that were read lately."""
_READS: Final = 4
_COMPRESSIONS: Final = 2
_PATIENCE: Final = 2.0
"""Seconds that a reader waits for a file that is being written."""
_ATTEMPTS: Final = 4

_Answer = TypeVar("_Answer")
_Piece = TypeVar("_Piece")
Key = tuple[str, str]


class AnatomyCache:
    """Anatomies by path and version, those used lately, up to `limit` bytes; safe in threads."""

    def __init__(self, limit: int = CACHE_LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[Key, Anatomy] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Anatomy | None:
        """Return what is kept, and count it as used."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Key, anatomy: Anatomy) -> None:
        """Keep an anatomy, and drop those unused for longest."""
        with self._lock:
            if key in self._kept or anatomy.cost > self._limit:
                return
            self._kept[key] = anatomy
            self._size += anatomy.cost
            while self._size > self._limit:
                self._size -= self._kept.popitem(last=False)[1].cost

    @property
    def size(self) -> int:
        """The memory in use, in bytes, about."""
        return self._size


class Reader:
    """Opens datasets and reads them.

    Args:
        source: where they are.
        settle: seconds that a file must be left alone before what it holds counts.
        on_version: told in a thread each path with the version met there, None for no dataset.
        cache: of anatomies.
    """

    def __init__(
        self,
        source: Source,
        *,
        settle: float,
        on_version: Callable[[str, str | None], None] = lambda path, etag: None,
        cache: AnatomyCache | None = None,
    ) -> None:
        self._source = source
        self._settle = settle
        self._on_version = on_version
        self.cache = cache or AnatomyCache()
        self._reads = CapacityLimiter(_READS)
        self._compressions = CapacityLimiter(_COMPRESSIONS)

    @asynccontextmanager
    async def open(self, path: str) -> AsyncIterator[OpenDataset]:
        """Open a dataset, once nobody is writing to it.

        Raises:
            NotFoundError: if there is none.
            UnavailableError: if it does not come to rest.
        """
        dataset = await self._settled(path)
        try:
            yield dataset
        finally:
            dataset.__exit__(None, None, None)

    async def _settled(self, path: str) -> OpenDataset:
        seen, since, deadline = "", 0.0, time.monotonic() + _PATIENCE
        while True:
            dataset = await to_thread.run_sync(self._open, path, limiter=self._reads)
            now, etag = time.monotonic(), dataset.version.etag
            if etag != seen:
                seen, since = etag, now
            # A file from the future, after the clock was set back, is at rest when it does not change.
            age = max(time.time() - dataset.version.touched, now - since)
            if age >= self._settle:
                return dataset
            dataset.__exit__(None, None, None)
            if now > deadline:
                raise UnavailableError(f"{path!r} is being written right now: try again")
            await asyncio.sleep(max(self._settle - age, 0.002))

    def _open(self, path: str) -> OpenDataset:
        try:
            dataset = self._source.open(path)
        except NotFoundError:
            self._on_version(path, None)
            raise
        self._on_version(path, dataset.version.etag)
        return dataset

    async def read(self, path: str, take: Callable[[OpenDataset, Anatomy], _Answer]) -> _Answer:
        """Open a dataset and take something of it, in a thread; a version that changes meanwhile is tried again."""
        for _ in range(_ATTEMPTS):
            async with self.open(path) as dataset:
                try:
                    return await to_thread.run_sync(self._take, path, dataset, take, limiter=self._reads)
                except VersionChangedError:
                    continue
        raise UnavailableError(f"{path!r} is being written right now: try again")

    def _take(self, path: str, dataset: OpenDataset, take: Callable[[OpenDataset, Anatomy], _Answer]) -> _Answer:
        answer = take(dataset, self.anatomy(path, dataset))
        dataset.check()
        return answer

    def anatomy(self, path: str, dataset: OpenDataset) -> Anatomy:
        """Return a dataset's anatomy; blocking.

        Raises:
            FrameError: if it is damaged.
            VersionChangedError: if it changed while it was read.
        """
        key = path, dataset.version.etag
        if (anatomy := self.cache.get(key)) is not None:
            return anatomy
        try:
            anatomy = dataset.anatomy()
        except FrameError:
            dataset.check()  # what changes while it is read is not damaged
            raise
        dataset.check()
        self.cache.put(key, anatomy)
        return anatomy

    async def pieces(
        self, dataset: OpenDataset, anatomy: Anatomy, numbers: Sequence[int]
    ) -> AsyncIterator[list[tuple[int, StoredChunk]]]:
        """Read chunks in the order given, one piece ahead of what is taken.

        Raises:
            VersionChangedError: instead of a piece that does not surely belong to the dataset's version.
        """
        limiter = self._compressions if dataset.version.kind == "file" else self._reads
        pieces = await to_thread.run_sync(dataset.pieces, anatomy, numbers, limiter=self._reads)

        def read(piece: Sequence[int]) -> list[tuple[int, StoredChunk]]:
            chunks = dataset.chunks(anatomy, piece)
            dataset.check()
            return list(zip(piece, chunks, strict=True))

        async with aclosing(ahead(_each(pieces, read), limiter)) as found:
            async for piece in found:
                yield piece

    async def span(self, dataset: OpenDataset, start: int, stop: int) -> AsyncIterator[bytes]:
        """Read a range of the dataset as one file; raises as `pieces`."""

        def read(offset: int) -> bytes:
            data = dataset.pread(offset, min(PIECE, stop - offset))
            dataset.check()
            return data

        async with aclosing(ahead(_each(range(start, stop, PIECE), read), self._reads)) as found:
            async for data in found:
                yield data


def _each(pieces: Iterable[_Piece], read: Callable[[_Piece], _Answer]) -> Callable[[], _Answer | None]:
    """What reads the next piece at each call, None after the last."""
    answers = map(read, pieces)
    return lambda: next(answers, None)
