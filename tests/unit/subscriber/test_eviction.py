"""caterva2.subscriber.eviction and what pins do: the cache stays within its size, and no read loses a chunk."""

import os
import threading
import time
from pathlib import Path

import blosc2
import numpy as np
import pytest

from caterva2.errors import StorageFullError
from caterva2.paths import DatasetPath, RootName
from caterva2.records import digest_of
from caterva2.subscriber.disk import disk_use
from caterva2.subscriber.eviction import Holding, choose
from caterva2.subscriber.mirror import Mirror
from caterva2.subscriber.mirrors import MirrorStore
from tests.support.arrays import same
from tests.unit.subscriber.frames import PATH, Source, array_source

RANDOM = np.random.default_rng(3).integers(0, 2**62, 160_000)
# 40 chunks of 32 KB, as stored.
LARGE = array_source(RANDOM, chunks=(4000,), blocks=(4000,))
# 800 chunks of 1.6 KB.
SMALL = array_source(RANDOM, chunks=(200,), blocks=(200,))
SIZE = len(LARGE.data)


def on_disk(directory: Path) -> int:
    """What all mirror files take, in bytes."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*.mirror"))


def named(i: int) -> DatasetPath:
    """A dataset's path."""
    return DatasetPath(RootName("foo"), f"{i}.b2nd")


def write(store: MirrorStore, mirror: Mirror, published: Source, numbers: range) -> None:
    """Write chunks as the reader does: room is made, and they are pinned meanwhile."""
    with mirror.pinned(numbers), store.writing(mirror, sum(len(published.chunk(n)) for n in numbers)):
        published.put(mirror, *numbers)


@pytest.mark.parametrize("published", [LARGE, SMALL], ids=["large chunks", "small chunks"])
def test_what_is_dropped_gives_its_disk_back(tmp_path: Path, published: Source) -> None:
    """All chunks dropped, the file takes no more than its skeleton; filled again, it is the published file."""
    store = MirrorStore(tmp_path)
    mirror = store.create(PATH, published.head, published.skeleton)
    empty = disk_use(mirror.fd)
    published.fill(mirror)
    mirror.drop(range(published.layout.nchunks))

    assert disk_use(mirror.fd) <= empty + 3 * 4096
    assert list(range(published.layout.nchunks)) == mirror.missing(range(published.layout.nchunks))
    assert published.data == published.fill(mirror).pread(0, len(published.data))


@pytest.mark.parametrize("published", [LARGE, SMALL], ids=["large chunks", "small chunks"])
@pytest.mark.parametrize("seed", range(3))
def test_what_stays_is_right(tmp_path: Path, published: Source, seed: int) -> None:
    """Any chunks dropped in any order leave the others as they were."""
    mirror = published.fill(MirrorStore(tmp_path).create(PATH, published.head, published.skeleton))
    rng, nchunks = np.random.default_rng(seed), published.layout.nchunks
    gone: set[int] = set()
    for _ in range(5):
        numbers = rng.choice(nchunks, nchunks // 8, replace=False)
        mirror.drop(numbers)
        gone |= set(numbers.tolist())

        assert sorted(gone) == mirror.missing(range(nchunks))
        assert all(published.chunk(n) == mirror.chunk(n) for n in set(range(nchunks)) - gone)
    assert same(
        RANDOM[-published.layout.chunksize // 8 :], published.fill(mirror).handle[-published.layout.chunksize // 8 :]
    )


def test_a_chunk_in_use_is_not_dropped(tmp_path: Path) -> None:
    """While a read holds a chunk it stays, whoever else lets go of it."""
    mirror = LARGE.fill(MirrorStore(tmp_path).create(PATH, LARGE.head, LARGE.skeleton))
    pin, other = mirror.pin([3, 4]), mirror.pin(range(4, 6))
    mirror.drop(range(40))

    assert [3, 4, 5] == [n for n in range(40) if n not in mirror.missing(range(40))]
    mirror.unpin(pin)
    mirror.drop(range(40))
    assert [4, 5] == [n for n in range(40) if n not in mirror.missing(range(40))]
    mirror.unpin(other)
    mirror.drop(range(40))
    assert 40 == len(mirror.missing(range(40)))


def test_what_was_used_longest_ago_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks go in the order of their last use, over all mirrors, and no more than needed."""
    store = MirrorStore(tmp_path)
    mirrors = [LARGE.fill(store.create(named(i), LARGE.head, LARGE.skeleton)) for i in range(2)]
    now = 2e9
    for n in range(0, 40, 2):
        for mirror in mirrors:
            now += 1
            monkeypatch.setattr("time.time", lambda now=now: now)
            mirror.unpin(mirror.pin([n, n + 1]))
    holdings = [Holding(Path(str(i)), SIZE, mirror.last_used, mirror) for i, mirror in enumerate(mirrors)]
    chosen = {victim.file.name: numbers.tolist() for victim, numbers in choose(holdings, SIZE // 4)}

    assert sum(map(len, chosen.values())) in range(10, 16)
    assert all(max(numbers) <= 7 for numbers in chosen.values())


def test_a_version_that_is_over_goes_first(tmp_path: Path) -> None:
    """Of a dataset that changed, the old version's chunks give way before anything current."""
    store = MirrorStore(tmp_path, cache_size=int(2.3 * SIZE))
    old = store.create(PATH, LARGE.head, LARGE.skeleton)
    for at in range(0, 40, 8):
        write(store, old, LARGE, range(at, at + 8))
    other = array_source(RANDOM[::-1].copy(), "2", chunks=(4000,), blocks=(4000,))
    new = store.create(PATH, other.head, other.skeleton)
    for at in range(0, 40, 8):
        write(store, new, other, range(at, at + 8))
    third = store.create(named(3), LARGE.head, LARGE.skeleton)
    for at in range(0, 40, 8):
        write(store, third, LARGE, range(at, at + 8))

    assert ([], []) == (new.missing(range(40)), third.missing(range(40)))
    assert len(old.missing(range(40))) > 10


@pytest.mark.parametrize("published", [LARGE, SMALL], ids=["large chunks", "small chunks"])
def test_the_disk_stays_within_the_limit(tmp_path: Path, published: Source) -> None:
    """However much is written, what the mirrors take is never more than 2 % above the limit."""
    limit = 4 * SIZE
    store = MirrorStore(tmp_path, most_open=3, cache_size=limit)
    most, step = 0, published.layout.nchunks // 8
    for i in range(14):
        mirror = store.create(named(i), published.head, published.skeleton)
        for at in range(0, published.layout.nchunks, step):
            write(store, mirror, published, range(at, at + step))
            most = max(most, on_disk(tmp_path))

    assert 0.85 * limit < most <= 1.02 * limit
    assert published.layout.nchunks == len(mirror.kept)
    assert store.load(named(0)) is None or store.load(named(0)).missing(range(8))  # type: ignore[union-attr]


def test_of_a_large_file_that_is_not_open_only_a_part_goes(tmp_path: Path) -> None:
    """After a restart a mirror that takes most of the cache loses as many chunks as room is needed for."""
    store = MirrorStore(tmp_path)
    LARGE.fill(store.create(named(0), LARGE.head, LARGE.skeleton))
    store.close()
    store = MirrorStore(tmp_path, cache_size=int(1.2 * SIZE))
    mirror = store.create(named(1), LARGE.head, LARGE.skeleton)
    write(store, mirror, LARGE, range(12))
    before = store.load(named(0))

    assert before is not None
    assert 20 < len(before.kept) < 40
    assert all(LARGE.chunk(n) == before.chunk(n) for n in before.kept.tolist())


def test_when_all_is_in_use_there_is_no_room(tmp_path: Path) -> None:
    """What does not fit beside what reads hold is refused, and fits when they let go."""
    store = MirrorStore(tmp_path, cache_size=SIZE)
    mirror = store.create(PATH, LARGE.head, LARGE.skeleton)
    write(store, mirror, LARGE, range(30))
    pin = mirror.pin(range(30))
    with pytest.raises(StorageFullError, match="in use"):
        write(store, mirror, LARGE, range(30, 40))
    mirror.unpin(pin)
    write(store, mirror, LARGE, range(30, 40))

    assert [] == mirror.missing(range(30, 40))


def test_reads_and_evictions_at_once(tmp_path: Path) -> None:
    """Threads that pin, fetch what is missing, and read, while everything is dropped again and again, read right."""
    store = MirrorStore(tmp_path)
    mirror = LARGE.fill(store.create(PATH, LARGE.head, LARGE.skeleton))
    wrong, reads, stop = list[int](), [0], threading.Event()

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            numbers = rng.choice(40, 3, replace=False).tolist()
            with mirror.pinned(numbers):
                LARGE.put(mirror, *mirror.missing(numbers))
                for n in numbers:
                    if mirror.missing([n]) or digest_of(mirror.chunk(n)) != digest_of(LARGE.chunk(n)):
                        wrong.append(n)
            reads[0] += 1

    threads = [threading.Thread(target=read, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    end, evictions = time.monotonic() + 60, 0
    while (evictions < 150 or reads[0] <= 50) and time.monotonic() < end:
        mirror.drop(range(40))
        evictions += 1
    stop.set()
    for thread in threads:
        thread.join()

    assert [] == wrong
    assert reads[0] > 50


def test_the_first_chunk_leaves_its_header(tmp_path: Path) -> None:
    """Blosc2 opens a frame whose chunks are all gone."""
    store = MirrorStore(tmp_path)
    LARGE.fill(store.create(PATH, LARGE.head, LARGE.skeleton)).drop(range(40))
    store.close()
    mirror = MirrorStore(tmp_path).load(PATH)

    assert mirror is not None
    assert RANDOM.shape == blosc2.open(f"/proc/self/fd/{mirror.fd}", mode="r").shape
    assert 40 == len(mirror.missing(range(40)))


def test_a_file_without_holes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system cannot punch holes, room is made by whole files."""
    store = MirrorStore(tmp_path, most_open=1, cache_size=3 * SIZE)

    def refuse(*_args: object) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr("caterva2.subscriber.disk.Disk.punch", refuse)
    for i in range(5):
        mirror = store.create(named(i), LARGE.head, LARGE.skeleton)
        for at in range(0, 40, 8):
            write(store, mirror, LARGE, range(at, at + 8))

    assert on_disk(tmp_path) <= 3 * SIZE
