"""Chunks from a publisher to a mirror: each crosses the network once, however many want it.

What an earlier version left behind, the *donor*, is carried over: a request names the digests of its copies, and what
is the same comes without bytes. Once copies turned out to be the same, each request also asks about others that
nobody wants yet (*probes*), twice as many each time; so a dataset of which little changed is taken over in a few
requests, and one that was written anew costs none. Those who read do not wait for probes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from caterva2.chunks import CHUNK_HEADER
from caterva2.daemon.supervisor import Supervisor
from caterva2.errors import (
    BadGatewayError,
    Caterva2Error,
    FrameError,
    StorageFullError,
    VersionChangedError,
)
from caterva2.models import ChunkWish
from caterva2.records import ChunkRecord, Status, digest_text
from caterva2.subscriber.catalog import Catalog
from caterva2.subscriber.mirror import Mirror
from caterva2.subscriber.mirrors import MirrorStore
from caterva2.subscriber.origin import Origin

# Bytes that are written to disk at once, and so few that a thread would cost more than the writing.
_BATCH, _SMALL = 2 << 20, 256 << 10
# Chunks whose wishes take the event loop more than a millisecond to write down.
_MANY = 250
# Chunks in one request; it stays below the length that a publisher reads.
_MOST_WISHES = 50_000
# Probes in one request, and the bytes of their copies: the publisher reads as many, to compare them.
_MOST_PROBES, _MOST_PROBED = 4096, 64 << 20


@dataclass(slots=True)
class _Fetch:
    """One request for chunks under way.

    Attributes:
        arrived: set when those who wait for it need wait no longer.
        errors: what is wrong with some of the chunks.
        failure: what is wrong with the request.
    """

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    errors: dict[int, Caterva2Error] = field(default_factory=dict)
    failure: Caterva2Error | None = None


@dataclass(slots=True)
class _Inheritance:
    """What is known of a donor's copies.

    Attributes:
        credit: how many turned out to be the same, less how many did not.
        different: which did not.
        probed: which are being asked about, though nobody wants them yet.
    """

    credit: int = 0
    different: set[int] = field(default_factory=set)
    probed: set[int] = field(default_factory=set)

    def learn(self, record: ChunkRecord, *, named: bool) -> None:
        """Take in what the publisher said of a chunk of which a copy was named, or not."""
        if record.status is Status.SAME:
            self.credit += 1
        elif named:
            self.credit -= 1
            self.different.add(record.n)


class Fetcher:
    """Brings chunks from publishers.

    Args:
        catalog: knows where the publishers are.
        mirrors: what is on disk.
        origin: the way to the publishers.
        supervisor: owns the requests that run on when their first client has gone.
    """

    def __init__(self, catalog: Catalog, mirrors: MirrorStore, origin: Origin, supervisor: Supervisor) -> None:
        self._catalog = catalog
        self._mirrors = mirrors
        self._origin = origin
        self._supervisor = supervisor
        self._under_way: WeakKeyDictionary[Mirror, dict[int, _Fetch]] = WeakKeyDictionary()
        self._inherited: WeakKeyDictionary[Mirror, _Inheritance] = WeakKeyDictionary()

    async def fetch(self, mirror: Mirror, missing: Sequence[int]) -> None:
        """Return when these chunks have come; those that nobody waits for yet come in one request.

        Raises:
            VersionChangedError: if the publisher has another version by now.
            FrameError: if a chunk cannot be read where it is published.
            UnreachableError: if the publisher gives no answer.
            StorageFullError: if they cannot be written.
        """
        under_way = self._under_way.setdefault(mirror, {})
        new = [n for n in missing if n not in under_way]
        for at in range(0, len(new), _MOST_WISHES):
            part, fetch = new[at : at + _MOST_WISHES], _Fetch()
            under_way.update(dict.fromkeys(part, fetch))
            # The request goes on when this client leaves: others may wait for it, and its chunks are kept.
            self._supervisor.start(self._run(mirror, part, fetch), f"chunks of {mirror.path}")
        fetches = {id(under_way[n]): under_way[n] for n in missing}.values()
        for fetch in fetches:
            await fetch.arrived.wait()
        for fetch in fetches:
            for n in missing:
                if n in fetch.errors:
                    raise fetch.errors[n]
            if fetch.failure is not None and mirror.missing(missing):
                raise fetch.failure

    async def _run(self, mirror: Mirror, numbers: Sequence[int], fetch: _Fetch) -> None:
        probes = self._probes(mirror, numbers)
        donor = mirror.donor
        used = [n for n in (*numbers, *probes) if donor is not None and n < donor.layout.nchunks]
        try:
            with donor.pinned(used) if donor is not None else nullcontext():
                await self._transfer(mirror, numbers, probes, fetch)
        except Caterva2Error as error:
            fetch.failure = error
        finally:
            self._arrived(mirror, numbers, fetch)
            if probes:
                self._inherited[mirror].probed.difference_update(probes)

    def _arrived(self, mirror: Mirror, numbers: Sequence[int], fetch: _Fetch) -> None:
        under_way = self._under_way.get(mirror, {})
        for n in numbers:
            if under_way.get(n) is fetch:
                del under_way[n]
        fetch.arrived.set()

    async def _transfer(self, mirror: Mirror, numbers: Sequence[int], probes: Sequence[int], fetch: _Fetch) -> None:
        root = self._catalog.root(mirror.path.root)
        wishes = await self._wishes(mirror, numbers, probes)
        named = {wish.n for wish in wishes if wish.have is not None}
        inherited = self._inherited.setdefault(mirror, _Inheritance())
        most = mirror.layout.chunksize + CHUNK_HEADER
        batch, size, left = list[ChunkRecord](), 0, len(numbers)
        keeping: asyncio.Task[dict[int, Caterva2Error]] | None = None
        try:
            async for record in self._origin.chunks(root, mirror.entry.path, mirror.etag, wishes, most):
                if record.status is Status.CHANGED:
                    raise VersionChangedError(f"{mirror.path} changed while it was read")
                if record.status is not Status.END:
                    inherited.learn(record, named=record.n in named)
                batch.append(record)
                size += len(record.payload)
                left -= 1
                if left == 0 and probes:
                    # Who reads has all of it now.
                    fetch.errors |= await keeping if keeping is not None else {}
                    fetch.errors |= await self._keep(mirror, batch, size)
                    keeping, batch, size = None, [], 0
                    self._arrived(mirror, numbers, fetch)
                    if fetch.errors:
                        return
                elif size >= _BATCH:
                    # The next batch arrives while this one goes to disk; a third would have to wait for it.
                    fetch.errors |= await keeping if keeping is not None else {}
                    keeping = asyncio.create_task(self._keep(mirror, batch, size), name="keeping chunks")
                    batch, size = [], 0
        finally:
            fetch.errors |= await keeping if keeping is not None else {}
        fetch.errors |= await self._keep(mirror, batch, size)

    async def _keep(self, mirror: Mirror, batch: Sequence[ChunkRecord], size: int) -> dict[int, Caterva2Error]:
        if size < _SMALL and len(batch) < _MANY and self._mirrors.has_room(mirror, size):
            return _keep(self._mirrors, mirror, batch)
        return await asyncio.to_thread(_keep, self._mirrors, mirror, batch)

    async def _wishes(self, mirror: Mirror, numbers: Sequence[int], probes: Sequence[int]) -> list[ChunkWish]:
        if mirror.donor is None and len(numbers) < _MANY:
            return _wishes(mirror, numbers)
        wishes = await asyncio.to_thread(_wishes, mirror, numbers)
        if probes:
            asked = await asyncio.to_thread(_wishes, mirror, probes)
            wishes += [wish.model_copy(update={"probe": True}) for wish in asked if wish.have is not None]
        return wishes

    def _probes(self, mirror: Mirror, numbers: Sequence[int]) -> list[int]:
        """Chunks that nobody wants yet, of which the donor has a copy; those after the wanted ones first."""
        donor, inherited = mirror.donor, self._inherited.get(mirror)
        if donor is None or mirror.transient or inherited is None or inherited.credit <= 0:
            return []
        kept = donor.kept[donor.kept < mirror.layout.nchunks]
        under_way = self._under_way.get(mirror, {})
        kept.sort()
        following = np.roll(kept, -int(np.searchsorted(kept, max(numbers, default=0), side="right")))
        probes, room = list[int](), 0
        for n in mirror.missing(following):
            room += donor.room(n)
            if len(probes) >= min(2 * inherited.credit, _MOST_PROBES) or room > _MOST_PROBED:
                break
            if n not in under_way and n not in inherited.different and n not in inherited.probed:
                probes.append(n)
        inherited.probed.update(probes)
        return probes


def _wishes(mirror: Mirror, numbers: Sequence[int]) -> list[ChunkWish]:
    """Name the copies that an earlier version left here, so that chunks that did not change are not sent again."""
    donor = mirror.donor
    if donor is None:
        return [ChunkWish(n=n) for n in numbers]
    digests = [donor.digest(n) if n < donor.layout.nchunks else None for n in numbers]
    return [
        ChunkWish(n=n, have=digest_text(digest) if digest is not None else None)
        for n, digest in zip(numbers, digests, strict=True)
    ]


def _keep(mirrors: MirrorStore, mirror: Mirror, records: Sequence[ChunkRecord]) -> dict[int, Caterva2Error]:
    """Put records on disk; return what is wrong with some of them."""
    errors: dict[int, Caterva2Error] = {}
    if not records:
        return errors
    donor = mirror.donor
    copied = (record.n for record in records if record.status is Status.SAME)
    size = sum(len(record.payload) for record in records)
    size += sum(donor.room(n) for n in copied if donor is not None and 0 <= n < donor.layout.nchunks)
    try:
        with mirrors.writing(mirror, size):
            for record in records:
                try:
                    _put(mirror, record)
                except StorageFullError:
                    raise
                except Caterva2Error as error:
                    errors[record.n] = type(error)(f"{mirror.entry.path}: {error.detail}")
    except StorageFullError as error:
        errors |= dict.fromkeys(mirror.missing([record.n for record in records if _of_chunk(record)]), error)
    return errors


def _of_chunk(record: ChunkRecord) -> bool:
    return record.status in {Status.DATA, Status.SAME}


def _put(mirror: Mirror, record: ChunkRecord) -> None:
    if record.status is Status.DATA:
        mirror.put(record.n, record.digest, record.payload)
    elif record.status is Status.SAME:
        mirror.put(record.n, record.digest, _donated(mirror, record.n))
    elif record.status is Status.ERROR:
        raise FrameError(record.payload.decode(errors="replace"))


def _donated(mirror: Mirror, n: int) -> bytes:
    if mirror.donor is None or not 0 <= n < mirror.donor.layout.nchunks:
        raise BadGatewayError(f"the publisher says that chunk {n} is the same as one that it was not told of")
    return mirror.donor.chunk(n)
