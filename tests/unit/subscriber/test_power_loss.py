"""Power loss: a layer that loses, tears and reorders what was not synced, and what the mirrors make of the rest."""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest

from caterva2.errors import FrameError
from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.disk import Disk
from caterva2.subscriber.mirrors import MirrorStore
from tests.unit.subscriber.frames import Source, array_source

SECTOR = 512
Operation = tuple[str, int, int, bytes | int]


@dataclass
class Image:
    """What a disk holds: files by number, and the names that they have."""

    files: dict[int, bytearray] = field(default_factory=dict)
    names: dict[Path, int] = field(default_factory=dict)

    def write(self, number: int, data: bytes, offset: int) -> None:
        """Put bytes into a file."""
        file = self.files.setdefault(number, bytearray())
        file.extend(bytes(max(0, offset + len(data) - len(file))))
        file[offset : offset + len(data)] = data

    def truncate(self, number: int, length: int) -> None:
        """Set the length of a file."""
        file = self.files.setdefault(number, bytearray())
        del file[length:]
        file.extend(bytes(length - len(file)))

    def copy(self) -> "Image":
        """Another one with the same."""
        return Image({number: bytearray(file) for number, file in self.files.items()}, dict(self.names))

    def restore(self, directory: Path) -> None:
        """Write it out."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for name, number in self.names.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(self.files.get(number, b""))


class Quick(Disk):
    """Does not wait for the disk: what survives a power loss is not asked of it here."""

    def write_mark(self, file: Path, data: bytes) -> None:
        fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        self.write(fd, data, 0)
        os.close(fd)


class FaultyDisk(Quick):
    """Does everything, and remembers what of it would survive a power loss.

    Args:
        directory: where everything happens.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.durable = Image()
        self.pending: list[Callable[[Image, random.Random], None]] = []
        self._numbers = count(1)
        self._inodes: dict[int, int] = {}

    def create(self, file: Path) -> int:
        fd = super().create(file)
        number = self._inodes[os.fstat(fd).st_ino] = next(self._numbers)
        self._name(file, number)
        return fd

    def truncate(self, fd: int, length: int) -> None:
        super().truncate(fd, length)
        number = self._number(fd)
        self.pending.append(lambda image, _: image.truncate(number, length))

    def write(self, fd: int, data: bytes, offset: int) -> None:
        super().write(fd, data, offset)
        number, data = self._number(fd), bytes(data)
        # Each sector of it reaches the disk by itself.
        edges = [0, *range(SECTOR - offset % SECTOR, len(data), SECTOR), len(data)]
        for start, stop in pairwise(edges):
            self.pending.append(
                lambda image, _, start=start, stop=stop: image.write(number, data[start:stop], offset + start)
            )

    def punch(self, fd: int, offset: int, length: int) -> None:
        super().punch(fd, offset, length)
        number = self._number(fd)
        self.pending.append(lambda image, _: image.write(number, bytes(length), offset))

    def rename(self, before: Path, after: Path) -> None:
        super().rename(before, after)
        old, new = before.relative_to(self.directory), after.relative_to(self.directory)

        def rename(image: Image, _rng: random.Random) -> None:
            if old in image.names:
                image.names[new] = image.names.pop(old)

        self.pending.append(rename)

    def remove(self, file: Path) -> None:
        super().remove(file)
        name = file.relative_to(self.directory)
        self.pending.append(lambda image, _: image.names.pop(name, None) and None)

    def write_mark(self, file: Path, data: bytes) -> None:
        # What follows needs nothing else to be durable, and other writes may still be lost.
        pending, self.pending = self.pending, []
        if not file.exists():
            number = next(self._numbers)
            self.durable.names[file.relative_to(self.directory)] = number
            file.write_bytes(b"")
            self._inodes[file.stat().st_ino] = number
        Quick.write_mark(self, file, data)
        for operation in self.pending:
            operation(self.durable, random.Random(0))
        self.pending = pending

    def sync(self, directory: Path) -> None:
        for operation in self.pending:
            operation(self.durable, random.Random(0))
        self.pending = []

    def after_power_loss(self, rng: random.Random) -> Image:
        """What may be on the disk: of what was not synced any part, in any order."""
        image, share = self.durable.copy(), rng.choice((0.0, 0.3, 0.7, 0.95, 1.0))
        kept = [operation for operation in self.pending if rng.random() < share]
        if rng.random() < 0.5:
            rng.shuffle(kept)
        for operation in kept:
            operation(image, rng)
        return image

    def _name(self, file: Path, number: int) -> None:
        name = file.relative_to(self.directory)
        self.pending.append(lambda image, _: image.names.__setitem__(name, number))

    def _number(self, fd: int) -> int:
        return self._inodes[os.fstat(fd).st_ino]


def named(i: int) -> DatasetPath:
    """A dataset's path."""
    return DatasetPath(RootName("foo"), f"{i}.b2nd")


@cache
def version(i: int, etag: int) -> Source:
    """A version of a dataset, of 30 chunks of 80 bytes to 5 KB."""
    size = (10, 150, 640)[i % 3]
    values = np.random.default_rng(i * 1000 + etag).integers(0, 2**62, 30 * size)
    values[: size * 10] = np.random.default_rng(i).integers(0, 2**62, 10 * size)
    return array_source(values, str(etag), chunks=(size,), blocks=(size,))


class Run:
    """A subscriber's cache through several runs, between which the power may fail.

    Args:
        directory: of the cache.
        rng: decides everything.
    """

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self.directory = directory
        self.rng = rng
        self.disk = FaultyDisk(directory)
        self.store = MirrorStore(directory, 2, disk=self.disk)
        self.current: dict[int, Source] = {}

    def step(self) -> None:
        """Do something."""
        i = self.rng.randrange(3)
        mirror = self.store.get(named(i)) or self.store.load(named(i))
        match self.rng.choice(("new version", "put", "put", "put", "drop", "verify", "remove")):
            case "new version":
                self.current[i] = published = version(i, self.rng.randrange(4))
                self.store.create(named(i), published.head, published.skeleton)
            case "put" if mirror is not None:
                published = version(i, int(mirror.etag))
                for n in self.rng.sample(range(30), 5):
                    published.put(mirror, n)
            case "drop" if mirror is not None:
                mirror.drop(self.rng.sample(range(30), 12))
            case "verify" if mirror is not None:
                mirror.verify(self.rng.sample(range(30), 10))
            case "remove" if self.rng.random() < 0.2:
                self.store.remove(named(i))
            case _:
                pass

    def check(self) -> int:
        """Whatever the mirrors say is there must be right; return how many chunks are."""
        found = 0
        for i in range(3):
            mirror = self.store.load(named(i))
            if mirror is None:
                continue
            published = version(i, int(mirror.etag))
            mirror.verify(range(30))
            for n in set(range(30)) - set(mirror.missing(range(30))):
                found += 1
                assert published.chunk(n) == mirror.chunk(n)
        return found

    def start_after(self, image: Image) -> None:
        """Start again with what is on the disk."""
        image.restore(self.directory)
        self.disk = FaultyDisk(self.directory)
        self.disk.durable = image.copy()
        for name, number in image.names.items():
            self.disk._inodes[(self.directory / name).stat().st_ino] = number
        self.disk._numbers = count(max(image.files, default=0) + 1)
        self.store = MirrorStore(self.directory, 2, disk=self.disk)


@pytest.mark.parametrize("seed", range(30))
def test_after_a_power_loss_each_chunk_is_right_or_a_hole(tmp_path: Path, seed: int) -> None:
    """Whatever was lost, torn or reordered of several runs, what a mirror says is there is what was published."""
    rng = random.Random(seed)
    run = Run(tmp_path / "cache", rng)
    for _ in range(5):
        for _ in range(rng.randrange(1, 25)):
            run.step()
        if rng.random() < 0.4:
            run.store.close()
        run.start_after(run.disk.after_power_loss(rng))
        if rng.random() < 0.7:
            run.check()


@pytest.mark.parametrize("seed", range(10))
def test_after_a_clean_stop_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    """A power loss right after a clean stop takes nothing, and the next run believes all of it without a check."""
    rng = random.Random(seed)
    run = Run(tmp_path / "cache", rng)
    for _ in range(30):
        run.step()
    before = run.check()
    run.store.close()
    run.start_after(run.disk.after_power_loss(rng))
    loaded = [run.store.load(named(i)) for i in range(3)]

    assert all(mirror.trusted for mirror in loaded if mirror is not None)
    assert before == run.check()


def test_what_the_order_of_writing_is_for(tmp_path: Path) -> None:
    """A cache that were marked as clean without a sync before would serve what was never written."""

    class Hasty(FaultyDisk):
        def sync(self, directory: Path) -> None:
            pass

    wrong = 0
    for seed in range(15):
        rng = random.Random(seed)
        run = Run(tmp_path / f"cache{seed}", rng)
        run.disk.__class__ = Hasty
        for _ in range(25):
            run.step()
        run.store.close()
        run.start_after(run.disk.after_power_loss(rng))
        try:
            run.check()
        except (AssertionError, FrameError):
            wrong += 1

    assert wrong > 0


def test_many_unclean_stops(tmp_path: Path) -> None:
    """After more unclean stops than there are generations nothing old is taken for new."""
    published = version(0, 1)
    store = MirrorStore(tmp_path)
    published.fill(store.create(named(0), published.head, published.skeleton))
    for _ in range(254):
        mirror = MirrorStore(tmp_path, disk=Quick()).load(named(0))
        assert mirror is not None
        assert 30 == len(mirror.missing(range(30)))

    assert MirrorStore(tmp_path).load(named(0)) is None


def test_what_was_verified_stays_verified(tmp_path: Path) -> None:
    """After an unclean stop a chunk is checked once, not once in each later run."""
    published = version(0, 1)
    published.fill(MirrorStore(tmp_path).create(named(0), published.head, published.skeleton))
    store = MirrorStore(tmp_path)
    mirror = store.load(named(0))
    assert mirror is not None
    mirror.verify(range(20))
    store.close()
    again = MirrorStore(tmp_path).load(named(0))

    assert again is not None
    assert list(range(20, 30)) == again.missing(range(30))


@pytest.mark.parametrize("mark", [b"", b"x", b"999999 clean   \n", b"1 running\n", b"\xff" * 16, b"-1 clean\n"])
def test_a_damaged_mark(tmp_path: Path, mark: bytes) -> None:
    """Whatever the mark says, no chunk is believed that was not checked."""
    published = version(0, 1)
    store = MirrorStore(tmp_path)
    published.fill(store.create(named(0), published.head, published.skeleton))
    store.close()
    (tmp_path / "@generation").write_bytes(mark)
    mirror = MirrorStore(tmp_path).load(named(0))

    assert mirror is None or 30 == len(mirror.missing(range(30)))
