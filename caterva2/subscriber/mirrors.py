"""All the mirrors of a subscriber: one file for each dataset, which is renamed over when a new version comes.

A reader keeps the file that it opened until it has finished. What a run wrote carries its *generation*; after a clean
stop the next run goes on with the same one, after any other it takes the next, so that it tells what it wrote itself
from what may not have reached the disk.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakSet, WeakValueDictionary

from caterva2.errors import Caterva2Error, FrameError, StorageFullError
from caterva2.frames import FrameLayout, Skeleton
from caterva2.paths import DatasetPath
from caterva2.records import SkeletonHead, digest_of
from caterva2.subscriber.disk import BLOCK, Disk, disk_use
from caterva2.subscriber.eviction import Budget, Evicted, Holding
from caterva2.subscriber.mirror import Mirror, storage_errors

logger = logging.getLogger(__name__)

# Names that no root can have.
_GENERATION, _NEW = "@generation", "@new"
_MARK = 16
_GENERATIONS = 255
_ENDING = ".mirror"
# Seconds for which nothing is written after the disk was full, and between two times that this is said.
_FULL_FOR, _SAY_AGAIN = 2.0, 60.0
# Deleted datasets whose chunks may come back under another name, and for how many seconds.
_MOST_GONE, _GONE_FOR = 64, 60.0


class MirrorStore:
    """All the mirrors of a subscriber, below one directory.

    Args:
        directory: where they are; it is made when needed.
        most_open: how many mirrors are kept open.
        cache_size: the bytes of disk that they may take; None for as many as there are.
        disk: what changes the files.
    """

    def __init__(
        self, directory: Path, most_open: int = 256, *, cache_size: int | None = None, disk: Disk | None = None
    ) -> None:
        self._directory = directory
        self._disk = disk or Disk()
        self._open: OrderedDict[DatasetPath, Mirror] = OrderedDict()
        self._most_open = most_open
        # Whoever opens, replaces or removes a file; a file has one Mirror at a time.
        self._names = threading.RLock()
        self._alive: WeakValueDictionary[Path, Mirror] = WeakValueDictionary()
        self._nameless: WeakSet[Mirror] = WeakSet()
        self._gone: OrderedDict[int, tuple[float, Mirror]] = OrderedDict()
        self._generation = 0
        self._full_until = 0.0
        # A disk on the brink is full and not full by turns.
        self._quiet_until = 0.0
        self._said = False
        self._crowded = False
        self._budget = Budget(cache_size, self._survey, self._reopen, self._discard)
        directory.mkdir(parents=True, exist_ok=True)

    # -- starting and stopping ------------------------------------------------------------------------------

    def _begin(self) -> int:
        """Take a generation, and write down that this run has not ended, before anything else is written."""
        with self._names:
            if self._generation:
                return self._generation
            file = self._directory / _GENERATION
            with storage_errors():
                before, clean = _read_mark(file)
                generation = before if clean else before + 1
                if not before or generation > _GENERATIONS:
                    # Nothing tells what is here from what will be written.
                    self._wipe()
                    generation = 1
                shutil.rmtree(self._directory / _NEW, ignore_errors=True)
                (self._directory / _NEW).mkdir()
                self._disk.write_mark(file, _mark(generation, clean=False))
            self._generation = generation
            return generation

    def _wipe(self) -> None:
        for place in self._directory.iterdir():
            if place.is_dir():
                shutil.rmtree(place)

    def close(self) -> None:
        """End cleanly, so that the next run can believe what this one wrote."""
        for mirror in self._open.values():
            mirror.stamp()
        self._open.clear()
        self._gone.clear()
        if not self._generation:
            return
        try:
            self._disk.sync(self._directory)
            self._disk.write_mark(self._directory / _GENERATION, _mark(self._generation, clean=True))
        except OSError as error:
            logger.warning("the cache could not be written down: its chunks will be checked when used: %s", error)

    # -- which there are ------------------------------------------------------------------------------------

    def get(self, path: DatasetPath) -> Mirror | None:
        """The mirror of a dataset if it is open; this takes no time."""
        return self._open.get(path)

    def load(self, path: DatasetPath) -> Mirror | None:
        """Open the newest mirror of a dataset; None when there is none. What is no sound mirror is removed."""
        file = self._file(path)
        if not file.exists():
            return None
        mirror = self._opened(path, file)
        return mirror and self._keep(path, mirror)

    def _opened(self, path: DatasetPath | str, file: Path) -> Mirror | None:
        with self._names:
            if (alive := self._alive.get(file)) is not None:
                return alive
            try:
                mirror = Mirror.open(path, file, disk=self._disk, generation=self._begin())
            except (FileNotFoundError, StorageFullError):
                return None
            except Caterva2Error:
                self._disk.remove(file)
                return None
            self._alive[file] = mirror
            return mirror

    def create(self, path: DatasetPath, head: SkeletonHead, skeleton: Skeleton) -> Mirror:
        """Make the empty mirror of a new version; chunks of the version before can be carried over from it.

        Raises:
            FrameError: if the skeleton is not sound.
            StorageFullError: if the disk is full.
        """
        layout = _checked(path, head, skeleton)
        file = self._file(path)
        try:
            with self._budget.room(len(skeleton.head) + len(skeleton.tail)) as count, storage_errors():
                fd = self._new_file(file)
                mirror = self._write(path, fd, head, skeleton, layout)
                count(disk_use(mirror.fd))
                before = self._name(mirror, file)
        except StorageFullError as error:
            self._failed(error)
            raise
        mirror.donor = self._returning(skeleton) or before
        if mirror.donor is not None:
            # Only one generation back: a chain of donors would keep every old version's disk space.
            mirror.donor.donor = None
        return self._keep(path, mirror)

    def _new_file(self, file: Path) -> int:
        self._begin()
        file.parent.mkdir(parents=True, exist_ok=True)
        return self._disk.create(self._partial(file))

    def _partial(self, file: Path) -> Path:
        return self._directory / _NEW / f"{file.parent.parent.name}-{file.parent.name}{file.stem}"

    def _write(self, path: DatasetPath, fd: int, head: SkeletonHead, skeleton: Skeleton, layout: FrameLayout) -> Mirror:
        try:
            return Mirror.write(path, fd, head, skeleton, layout, disk=self._disk, generation=self._generation)
        except BaseException:
            os.close(fd)
            self._disk.remove(self._partial(self._file(path)))
            raise

    def _name(self, mirror: Mirror, file: Path) -> Mirror | None:
        """Give a new mirror its name; return the one that had it."""
        with self._names:
            before = self._alive.get(file)
            self._disk.rename(self._partial(file), file)
            self._alive[file] = mirror
            if before is not None:
                self._nameless.add(before)
        return before if before is not None and before.layout.nchunks else None

    def remove(self, path: DatasetPath) -> None:
        """Forget a dataset; readers that have it open finish, then its disk space is given back.

        For a while its chunks are kept for a dataset of another name that turns out to be the same.
        """
        self.tidy()
        file = self._file(path)
        with self._names:
            if len(self._gone) < _MOST_GONE and file.exists():
                mirror = self._opened(path, file)
                if mirror is not None and len(mirror.kept):
                    self._gone[_key(mirror.skeleton())] = time.monotonic(), mirror
            self._open.pop(path, None)
            if (alive := self._alive.pop(file, None)) is not None:
                self._nameless.add(alive)
            self._disk.remove(file)

    def remove_root(self, root: str) -> None:
        """Forget all datasets of a root."""
        with self._names:
            for path in [path for path in self._open if path.root == root]:
                self.remove(path)
            shutil.rmtree(self._directory / root, ignore_errors=True)

    def _returning(self, skeleton: Skeleton) -> Mirror | None:
        """A deleted dataset that looks the same: digests will tell which of its chunks are."""
        self.tidy()
        found = self._gone.pop(_key(skeleton), None) if self._gone else None
        return found[1] if found else None

    def tidy(self) -> None:
        """Give back the disk of deleted datasets that did not return under another name."""
        with self._names:
            while self._gone:
                key, (since, _) = next(iter(self._gone.items()))
                if time.monotonic() < since + _GONE_FOR:
                    return
                del self._gone[key]

    def _keep(self, path: DatasetPath, mirror: Mirror) -> Mirror:
        with self._names:
            self._open[path] = mirror
            self._open.move_to_end(path)
            if len(self._open) > self._most_open:
                self._open.popitem(last=False)[1].stamp()
        return mirror

    def _file(self, path: DatasetPath) -> Path:
        # A dataset's own name could be too long with an ending, or be a directory in another version of the root.
        name = hashlib.blake2b(path.name.encode(), digest_size=20).hexdigest()
        return self._directory / path.root / name[:2] / f"{name[2:]}{_ENDING}"

    # -- room -----------------------------------------------------------------------------------------------

    @property
    def evicted(self) -> Evicted:
        """What went to make room, since the start."""
        return self._budget.evicted

    def usage(self) -> int:
        """Bytes on disk."""
        return self._budget.use()

    def has_room(self, mirror: Mirror, nbytes: int) -> bool:
        """Whether so much can be written to a mirror at once, without eviction."""
        return mirror.transient or self._budget.has_room(nbytes)

    @contextmanager
    def writing(self, mirror: Mirror, nbytes: int) -> Iterator[None]:
        """Make room for chunks, and count what they took.

        Raises:
            StorageFullError: if there is no room, or the writing failed for it.
        """
        if mirror.transient:
            yield
            return
        try:
            with self._budget.room(nbytes) as count:
                before = disk_use(mirror.fd)
                try:
                    yield
                finally:
                    count(disk_use(mirror.fd) - before)
        except StorageFullError as error:
            self._failed(error)
            raise
        if self._said:
            self._said = False
            logger.warning("the cache can be written again")

    def _failed(self, error: StorageFullError) -> None:
        if not isinstance(error.__cause__, OSError):
            # Only this read is too large for what others leave of the cache.
            if not self._crowded:
                logger.warning("%s; what does not fit is passed on without being kept: enlarge cache_size", error)
            self._crowded = True
            return
        now = time.monotonic()
        self._full_until = now + _FULL_FOR
        if not self._said and now >= self._quiet_until:
            logger.warning("%s; what is read is passed on without being kept", error)
            self._said = True
            self._quiet_until = now + _SAY_AGAIN

    @property
    def writable(self) -> bool:
        """Whether it makes sense to try to write."""
        return time.monotonic() >= self._full_until

    def transient(self, path: DatasetPath, head: SkeletonHead, skeleton: Skeleton) -> Mirror:
        """Make a mirror in memory, which forgets chunks that are not in use; the current one until it can be written.

        Raises:
            FrameError: if the skeleton is not sound.
            StorageFullError: if the memory is full.
        """
        return self._keep(path, _in_memory(path, head, skeleton, _checked(path, head, skeleton)))

    def beside(self, mirror: Mirror) -> Mirror:
        """Make a mirror in memory of the same version, for chunks that cannot be written.

        Raises:
            StorageFullError: if the memory is full.
        """
        return mirror if mirror.transient else _in_memory(mirror.path, mirror.head, mirror.skeleton(), mirror.layout)

    def _survey(self) -> list[Holding]:
        with self._names:
            alive = dict(self._alive)
            nameless = list(self._nameless)
        holdings = [Holding(Path(), disk_use(mirror.fd), 0.0, mirror) for mirror in nameless]
        for folder, _, names in os.walk(self._directory):
            for name in names:
                file = Path(folder, name)
                with suppress(FileNotFoundError):
                    status, mirror = file.stat(), alive.get(file)
                    used = mirror.last_used if mirror else status.st_mtime
                    if name.endswith(_ENDING):
                        holdings.append(Holding(file, status.st_blocks * BLOCK, used, mirror))
        return holdings

    def _reopen(self, file: Path) -> Mirror | None:
        return self._opened(file.parent.parent.name, file)

    def _discard(self, file: Path, mirror: Mirror | None) -> None:
        with self._names:
            if self._alive.get(file) is not mirror:
                return
            if mirror is not None:
                del self._alive[file]
                self._open.pop(mirror.path, None)
                self._nameless.add(mirror)
            self._disk.remove(file)


def _checked(path: DatasetPath, head: SkeletonHead, skeleton: Skeleton) -> FrameLayout:
    layout = skeleton.layout()
    if head.entry.kind == "array" and layout.geometry is None:
        raise FrameError(f"{path} is not an array")
    return layout


def _in_memory(path: DatasetPath, head: SkeletonHead, skeleton: Skeleton, layout: FrameLayout) -> Mirror:
    with storage_errors():
        fd = os.memfd_create("caterva2-mirror")
        try:
            return Mirror.write(path, fd, head, skeleton, layout, disk=Disk(), transient=True)
        except BaseException:
            os.close(fd)
            raise


def _key(skeleton: Skeleton) -> int:
    # Without the first chunk's header: of a plain file it is made up until the chunk comes.
    return digest_of(skeleton.head + skeleton.tail)


def _mark(generation: int, *, clean: bool) -> bytes:
    # Of a fixed length within one sector: it is written in place, which needs no room on a full disk.
    return f"{generation} {'clean' if clean else 'running'}".ljust(_MARK - 1).encode() + b"\n"


def _read_mark(file: Path) -> tuple[int, bool]:
    try:
        generation, state = file.read_bytes().decode().split()
        return max(0, int(generation)), state == "clean"
    except (FileNotFoundError, ValueError):
        return 0, False
