"""Reads: the one way from a path and a slice to bytes, whether they are on disk yet or not.

A read runs against one version of the dataset from start to end. The version is the catalog's while the root is live;
otherwise the publisher is asked, at most once in `max_staleness`, and when it cannot be asked, what is on disk is
served as stale. Chunks that are missing are asked for in one request, whoever wants the same ones waits for it, and a
publisher that meanwhile has another version makes the read start again.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np

from caterva2.chunks import decompress_chunk
from caterva2.daemon.supervisor import Supervisor
from caterva2.errors import (
    BadGatewayError,
    NotFoundError,
    StorageFullError,
    UnavailableError,
    UnreachableError,
    VersionChangedError,
)
from caterva2.paths import DatasetPath
from caterva2.subscriber.answers import Answer, KeptAnswers, Query, Request, compose
from caterva2.subscriber.callers import ANONYMOUS, Caller
from caterva2.subscriber.catalog import Catalog, Effect, Root
from caterva2.subscriber.fetcher import Fetcher
from caterva2.subscriber.figures import Figures
from caterva2.subscriber.mirror import Mirror
from caterva2.subscriber.mirrors import MirrorStore
from caterva2.subscriber.origin import Origin
from caterva2.subscriber.stored import StoredFrame
from caterva2.subscriber.userroots import UserRoots

logger = logging.getLogger(__name__)

_ATTEMPTS = 5
# Bytes that one request for chunks asks for at most when a whole file is streamed: what is waited for at the most
# by another client that wants a chunk in the middle of it.
_WINDOW = 16 << 20
_PIECE = 1 << 20
_WHOLE_FIRST = 16 << 20
# Bytes of one answer that are held in memory when the cache cannot be written.
_MOST_IN_MEMORY = 1 << 30
# Seconds for which a publisher that gave no answer is not asked again.
_UNREACHABLE_FOR = 2.0

Freshness = Literal["hit", "miss", "stale"]
Result = TypeVar("Result")


@dataclass(slots=True)
class Read:
    """A version of a dataset that is being read, and what that took.

    Attributes:
        frame: the version.
        stale: whether the publisher could not be asked if it is current.
        asked: whether the publisher was asked, since nothing tells of changes as they happen.
        age: seconds since a stale version was last known to be current; None if that is not known.
        fetched: how many chunks came from the publisher for it.
        begun: the chunks that were made sure of before the answer began.
    """

    frame: StoredFrame
    stale: bool = False
    asked: bool = False
    age: int | None = None
    fetched: int = 0
    begun: frozenset[int] = frozenset()
    _pins: deque[tuple[StoredFrame, int]] = field(default_factory=deque)

    def pin(self, numbers: Sequence[int]) -> None:
        """Keep these chunks from eviction until they are released."""
        self._pins.append((self.frame, self.frame.pin(numbers)))

    def release(self, keep: int = 0) -> None:
        """Let go of the chunks that were pinned, but for the last `keep` times."""
        while len(self._pins) > keep:
            frame, pin = self._pins.popleft()
            frame.unpin(pin)

    def __del__(self) -> None:
        # For a client that hung up before its answer began.
        self.release()

    @property
    def cache_status(self) -> str:
        """The value of the `Cache-Status` header (RFC 9211)."""
        if self.stale:
            return "caterva2; fwd=stale; fwd-status=503" if not self.fetched else "caterva2; fwd=stale"
        status = "caterva2; fwd=miss; stored" if self.fetched else "caterva2; hit"
        return f"{status}; detail=revalidated" if self.asked else status


class Reader:
    """Answers reads.

    Args:
        catalog: what is known of the roots.
        mirrors: what is on disk of remote datasets.
        origin: the way to the publishers.
        own: the subscriber's own roots.
        carry_out: does what the catalog wants done.
        supervisor: owns the requests that run on when their first client has gone.
        max_staleness: seconds for which a version is believed that no live bus vouches for.
        figures: where it is counted what was on disk.
    """

    def __init__(
        self,
        catalog: Catalog,
        mirrors: MirrorStore,
        origin: Origin,
        own: UserRoots,
        carry_out: Callable[[Iterable[Effect]], Awaitable[None]],
        supervisor: Supervisor,
        max_staleness: float,
        figures: Figures | None = None,
    ) -> None:
        self._catalog = catalog
        self._mirrors = mirrors
        self._origin = origin
        self._own = own
        self._carry_out = carry_out
        self._max_staleness = max_staleness
        self._figures = figures or Figures()
        self._unreachable: dict[str, tuple[float, UnreachableError]] = {}
        self._kept = KeptAnswers()
        self._opening: dict[tuple[DatasetPath, str | None], asyncio.Task[StoredFrame]] = {}
        self._validated: weakref.WeakKeyDictionary[StoredFrame, float] = weakref.WeakKeyDictionary()
        self._fetcher = Fetcher(catalog, mirrors, origin, supervisor)

    async def open(self, path: DatasetPath, caller: Caller = ANONYMOUS) -> Read:
        """Find the current version of a dataset; no chunk of it needs to be here.

        Args:
            path: the dataset.
            caller: who asks; whether it may was decided before, but the own roots are other ones for each user.

        Raises:
            NotFoundError: if there is no such root or dataset.
            FrameError: if the dataset cannot be read where it is published.
            UnreachableError: if nothing of it is here and the publisher gives no answer.
        """
        if path.root.own:
            return Read(await asyncio.to_thread(self._own.open, caller, path))
        root = self._catalog.root(path.root)
        mirror = self._mirrors.get(path)
        if mirror is not None and self._current(root, path, mirror):
            return Read(mirror, asked=not root.live(time.monotonic()))
        try:
            self._check_reachable(root)
            frame = await self._shared_open(path)
            return Read(frame, asked=not self._catalog.root(path.root).live(time.monotonic()))
        except UnreachableError as error:
            self._unreachable.setdefault(root.name, (time.monotonic(), error))
            mirror = self._mirrors.get(path) or await asyncio.to_thread(self._mirrors.load, path)
            if mirror is None:
                raise
            return Read(mirror, stale=True, age=self._age(path, mirror))

    def _check_reachable(self, root: Root) -> None:
        """Fail at once if the publisher just gave no answer, so that not every read waits for it in vain."""
        since, error = self._unreachable.get(root.name, (-np.inf, None))
        heard = root.heard if root.online and root.heard is not None else -np.inf
        if error is not None and heard < since and time.monotonic() < since + _UNREACHABLE_FOR:
            raise UnreachableError(error.detail)
        self._unreachable.pop(root.name, None)

    def _current(self, root: Root, path: DatasetPath, mirror: Mirror) -> bool:
        """Whether a version can be served without a question to the publisher."""
        entry = self._catalog.lookup(path)
        if entry is None or entry.etag != mirror.etag or (mirror.transient and self._mirrors.writable):
            return False
        now = time.monotonic()
        vouched = root.live(now) and self._catalog.confirmed(path)
        return vouched or now - self._validated.get(mirror, -np.inf) < self._max_staleness

    def _age(self, path: DatasetPath, mirror: Mirror) -> int | None:
        """Seconds since a version was last known to be current."""
        known = [when] if (when := self._validated.get(mirror)) is not None else []
        entry, current = self._catalog.lookup(path), self._catalog.root(path.root).current
        if entry is not None and entry.etag == mirror.etag and current is not None:
            known.append(current)
        return max(0, round(time.monotonic() - max(known))) if known else None

    async def _shared_open(self, path: DatasetPath) -> StoredFrame:
        """Let all who want the same dataset at once wait for one question.

        Whoever comes after the catalog heard of a change asks another one, since the first may get an older answer.
        """
        entry = self._catalog.lookup(path)
        key = path, entry.etag if entry is not None else None
        task = self._opening.get(key)
        if task is None:
            task = asyncio.create_task(self._open_current(path), name=f"opening {path}")
            self._opening[key] = task
            task.add_done_callback(lambda done: (self._opening.pop(key, None), done.cancelled() or done.exception()))
        return await asyncio.shield(task)

    async def _open_current(self, path: DatasetPath) -> StoredFrame:
        known, asked = self._catalog.lookup(path), time.monotonic()
        mirror = await self._ask(path)
        if mirror is not None:
            self._validated[mirror] = asked
        entry = mirror.entry if mirror is not None else None
        # If the catalog heard of a change meanwhile, this answer may have been made before it.
        if entry != known and self._catalog.lookup(path) == known:
            await self._carry_out(self._catalog.observe(path, entry))
        if mirror is None:
            raise NotFoundError(f"{path} does not exist")
        return mirror

    async def _ask(self, path: DatasetPath) -> Mirror | None:
        """Find the version that the publisher has; None if it has no such dataset."""
        root = self._catalog.root(path.root)
        mirror = self._mirrors.get(path) or await asyncio.to_thread(self._mirrors.load, path)
        try:
            kept = mirror is not None and not (mirror.transient and self._mirrors.writable)
            if mirror is not None and kept and await self._still(root, path, mirror):
                return mirror
            return await self._new_version(root, path, mirror)
        except NotFoundError:
            return None

    async def _still(self, root: Root, path: DatasetPath, mirror: Mirror) -> bool:
        entry = self._catalog.lookup(path)
        if root.live(time.monotonic()) and self._catalog.confirmed(path):
            return entry is not None and entry.etag == mirror.etag
        return await self._origin.unchanged(root, path.name, mirror.etag)

    async def _new_version(self, root: Root, path: DatasetPath, mirror: Mirror | None) -> Mirror:
        head, skeleton = await self._origin.skeleton(root, path.name)
        # Another client may have asked meanwhile: two mirrors of one version would fetch everything twice.
        mirror = self._mirrors.get(path) or mirror
        if mirror is not None and mirror.etag == head.entry.etag and not mirror.transient:
            return mirror
        if self._mirrors.writable:
            try:
                return await asyncio.to_thread(self._mirrors.create, path, head, skeleton)
            except StorageFullError:
                pass
        return await asyncio.to_thread(self._mirrors.transient, path, head, skeleton)

    async def run(
        self, path: DatasetPath, work: Callable[[Read], Awaitable[Result]], caller: Caller = ANONYMOUS
    ) -> Result:
        """Do some work on the current version, again from its start when the version changes meanwhile.

        Raises:
            UnavailableError: if it changes again and again.
        """
        for attempt in range(_ATTEMPTS):
            read = await self.open(path, caller)
            try:
                return await work(read)
            except VersionChangedError:
                read.release()
                self._distrust(path, read.frame)
                await asyncio.sleep(0.01 * 2**attempt)
        raise UnavailableError(f"{path} keeps changing: it could not be read as one version")

    async def run_together(
        self,
        paths: Sequence[DatasetPath],
        work: Callable[[Sequence[Read]], Awaitable[Result]],
        caller: Caller = ANONYMOUS,
    ) -> Result:
        """Do some work on the current versions of several datasets, as `run` does on one."""
        for attempt in range(_ATTEMPTS):
            reads = [await self.open(path, caller) for path in paths]
            try:
                return await work(reads)
            except VersionChangedError:
                # It does not say which of them changed.
                for path, read in zip(paths, reads, strict=True):
                    read.release()
                    self._distrust(path, read.frame)
                await asyncio.sleep(0.01 * 2**attempt)
        raise UnavailableError(f"one of {', '.join(map(str, paths))} keeps changing: they could not be read together")

    def _distrust(self, path: DatasetPath, frame: StoredFrame) -> None:
        """A publisher said that this version is over: whatever the catalog says, it must be asked."""
        self._validated.pop(frame, None)
        entry = self._catalog.lookup(path)
        if entry is not None and entry.etag == frame.etag:
            self._catalog.suspect(path)

    async def fetch(
        self, path: DatasetPath, query: Query, caller: Caller = ANONYMOUS
    ) -> tuple[Read, Answer | bytes | None]:
        """Read what is asked for.

        Returns:
            The read, and the answer: bytes if it is small, None if it is the file itself (see `stream`).
        """

        async def work(read: Read) -> tuple[Read, Answer | bytes | None]:
            if (kept := self._kept.get(read.frame, query)) is not None:
                return read, kept
            request = Request.of(read.frame, query.key, query.field)
            if request.whole and read.frame.compact and not read.frame.layout.uninitialised:
                await self.begin(read)
                return read, None
            request = await self._supplied(read, request)
            if not request.quick:
                # Its pieces are made while they are sent: the chunks are released after that.
                return read, await asyncio.to_thread(compose, request)
            answer = b"".join(compose(request).pieces)
            read.release()
            self._kept.put(read.frame, query, answer)
            return read, answer

        return await self.run(path, work, caller)

    async def _supplied(self, read: Read, request: Request) -> Request:
        """Bring the chunks of a request here, or see to it that they come a few at a time while it is composed."""
        mirror = read.frame
        try:
            await self.ensure(read, request.numbers)
        except _MemoryFullError:
            assert isinstance(mirror, Mirror)
            read.release()
            read.frame = await asyncio.to_thread(self._mirrors.beside, mirror)

            async def bring(numbers: Sequence[int]) -> None:
                read.pin(numbers)
                await asyncio.to_thread(_copy, mirror, read.frame, numbers)
                await self.ensure(read, numbers)
                read.release(keep=1)

            return replace(request, frame=read.frame, bring=_Supply(read.frame, request.numbers, bring))
        return replace(request, frame=read.frame) if read.frame is not mirror else request

    async def chunk(self, path: DatasetPath, n: int, caller: Caller = ANONYMOUS) -> tuple[Read, bytes]:
        """Read one chunk in its compressed form."""

        async def work(read: Read) -> tuple[Read, bytes]:
            await self.ensure(read, [read.frame.layout.check_number(n)])
            chunk = read.frame.chunk(n)
            read.release()
            return read, chunk

        return await self.run(path, work, caller)

    async def ensure(self, read: Read, numbers: Sequence[int]) -> None:
        """Return when these chunks are here, and pinned; those that are not come in one request.

        When they cannot be written, the read goes on with a mirror in memory, and `read.frame` is that one.

        Raises:
            VersionChangedError: if the publisher has another version by now.
            FrameError: if a chunk cannot be read where it is published.
            UnreachableError: if the publisher gives no answer.
            StorageFullError: if they fit neither on disk nor in memory.
        """
        read.pin(numbers)
        for attempt in range(_ATTEMPTS):
            frame = read.frame
            missing = frame.missing(numbers)
            if missing and isinstance(frame, Mirror) and not frame.trusted:
                await asyncio.to_thread(frame.verify, missing)
                missing = frame.missing(missing)
            if not attempt and isinstance(frame, Mirror):
                again = sum(n in read.begun for n in numbers) if read.begun else 0
                self._figures.needed(len(numbers) - again, len(missing))
            if not missing:
                return
            assert isinstance(frame, Mirror)
            try:
                if frame.transient:
                    _check_memory(frame, numbers)
                elif not self._mirrors.writable:
                    raise StorageFullError("the cache cannot be written at present")
                await self._fetcher.fetch(frame, missing)
                read.fetched += len(missing)
            except StorageFullError:
                if frame.transient:
                    raise
                await asyncio.to_thread(self._pass_on, read, frame, numbers)
        raise BadGatewayError(f"the publisher of {read.frame.entry.path} does not send the chunks that it is asked for")

    def _pass_on(self, read: Read, mirror: Mirror, numbers: Sequence[int]) -> None:
        """Let a read go on in memory, with what is on disk of what it needs."""
        _check_memory(mirror, numbers)
        read.frame = self._mirrors.beside(mirror)
        read.pin(numbers)
        _copy(mirror, read.frame, numbers)

    async def begin(self, read: Read) -> Read:
        """Make sure that the frame can be streamed: a small one wholly, of a large one the beginning."""
        order = read.frame.layout.order
        return await self._begun(read, next(iter(_windows(read.frame, order, _WHOLE_FIRST)), []))

    async def begin_contents(self, read: Read) -> Read:
        """Make sure that the contents of a plain file can be streamed, as `begin` does."""
        layout = read.frame.layout
        return await self._begun(read, range(min(layout.nchunks, -(-_WHOLE_FIRST // max(layout.chunksize, 1)))))

    async def _begun(self, read: Read, numbers: Sequence[int]) -> Read:
        await self.ensure(read, numbers)
        read.begun = frozenset(numbers)
        return read

    async def stream(self, read: Read, start: int, stop: int) -> AsyncIterator[bytes]:
        """Send bytes `start` to `stop` of the frame, each as soon as it is here.

        Raises:
            Caterva2Error: in the middle, if the rest of this version cannot be had any more; never other data.
        """
        position, ahead = start, None
        windows = list(_windows(read.frame, _touched(read.frame, start, stop), _WINDOW))
        try:
            for i, window in enumerate(windows):
                await (ahead or self.ensure(read, window))
                ahead = None
                if i + 1 < len(windows) and read.frame.missing(windows[i + 1]):
                    ahead = asyncio.create_task(self.ensure(read, windows[i + 1]), name="reading ahead")
                end = min(stop, int(read.frame.layout.ends[window[-1]]))
                async for piece in _send(read.frame, position, end):
                    yield piece
                position = max(position, end)
                read.release(keep=0 if ahead is None else 1)
            async for piece in _send(read.frame, position, stop):
                yield piece
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.wait([ahead])
                _ = ahead.cancelled() or ahead.exception()
            read.release()

    async def contents(self, read: Read, start: int, stop: int) -> AsyncIterator[bytes]:
        """Send bytes `start` to `stop` of a plain file, decompressed chunk by chunk."""
        layout = read.frame.layout
        numbers = range(start // layout.chunksize, -(-stop // layout.chunksize)) if stop > start else range(0)
        per_window = max(1, _WINDOW // layout.chunksize)
        try:
            for at in range(0, len(numbers), per_window):
                window = numbers[at : at + per_window]
                await self.ensure(read, window)
                read.release(keep=1)
                for n in window:
                    data = await asyncio.to_thread(_decompressed, read.frame, n)
                    first = n * layout.chunksize
                    yield data[max(0, start - first) : stop - first]
        finally:
            read.release()


class _MemoryFullError(StorageFullError):
    """What can be written nowhere is more than is held in memory."""


class _Supply:
    """Brings chunks a few at a time to what is composed in a thread; those that are done with are forgotten.

    Args:
        frame: in memory.
        numbers: of the chunks, ascending.
        bring: makes sure that some of them are there.
    """

    def __init__(
        self, frame: StoredFrame, numbers: Sequence[int], bring: Callable[[Sequence[int]], Coroutine[Any, Any, None]]
    ) -> None:
        self._frame = frame
        self._numbers = numbers
        self._bring = bring
        self._here: frozenset[int] = frozenset()
        self._loop = asyncio.get_running_loop()

    def __call__(self, n: int) -> None:
        """Return when chunk n is there."""
        if n not in self._here:
            following = self._numbers[bisect_left(self._numbers, n) :]
            window = next(_windows(self._frame, following, _MOST_IN_MEMORY // 4))
            asyncio.run_coroutine_threadsafe(self._bring(window), self._loop).result()
            self._here = frozenset(window)


def _check_memory(mirror: Mirror, numbers: Sequence[int]) -> None:
    room = sum(map(mirror.room, numbers))
    if room > _MOST_IN_MEMORY:
        raise _MemoryFullError(f"{room} bytes of {mirror.path} can neither be written to the cache nor held in memory")


def _copy(mirror: Mirror, beside: StoredFrame, numbers: Sequence[int]) -> None:
    """Take what is on disk of these chunks over to a mirror in memory."""
    if mirror is beside:
        return
    assert isinstance(beside, Mirror)
    with mirror.pinned(numbers):
        mirror.verify(numbers)
        for n in beside.missing(numbers):
            if (digest := mirror.digest(n)) is not None:
                beside.put(n, digest, mirror.chunk(n))


def _touched(frame: StoredFrame, start: int, stop: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The stored chunks that lie in a byte range of the frame, in the order of their places."""
    layout = frame.layout
    order = layout.order
    return order[(layout.offsets[order] < stop) & (layout.ends[order] > start)]


def _windows(frame: StoredFrame, order: Iterable[int], size: int) -> Iterator[list[int]]:
    """Cut chunks, given in the order of their places, into runs of at most `size` bytes, or one chunk."""
    run, room = list[int](), 0
    for n in order:
        length = frame.room(n)
        if run and room + length > size:
            yield run
            run, room = [], 0
        run.append(int(n))
        room += length
    if run:
        yield run


async def _send(frame: StoredFrame, start: int, stop: int) -> AsyncIterator[bytes]:
    for at in range(start, stop, _PIECE):
        yield await asyncio.to_thread(frame.pread, at, min(_PIECE, stop - at))


def _decompressed(frame: StoredFrame, n: int) -> bytes:
    return decompress_chunk(frame.chunk(n), frame.layout.spec(n))
