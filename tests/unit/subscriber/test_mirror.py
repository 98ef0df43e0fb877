"""caterva2.subscriber.mirror: what is kept of remote datasets, through damage, kills and new versions."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import blosc2
import numpy as np
import pytest

from caterva2.chunks import UNINIT, compress_file_chunk
from caterva2.errors import BadGatewayError, FrameError, StorageFullError
from caterva2.frames import Skeleton, file_skeleton
from caterva2.metadata import describe
from caterva2.models import DatasetEntry
from caterva2.paths import DatasetPath, RootName
from caterva2.records import SkeletonHead, digest_of
from caterva2.subscriber.mirrors import MirrorStore
from tests.support.arrays import Array, example, same
from tests.unit.subscriber.frames import PATH, Source, array_source, mirrored, source

VALUES = example((1003,))
SOURCE = array_source(VALUES, chunks=(100,), blocks=(10,))


def files(directory: Path) -> list[Path]:
    """The mirror files."""
    return sorted(directory.rglob("*.mirror"))


@contextmanager
def flipped(file: Path, at: int) -> Iterator[None]:
    """Damage a byte of a file for a while."""
    with file.open("r+b") as out:
        byte = os.pread(out.fileno(), 1, at)
        os.pwrite(out.fileno(), bytes([byte[0] ^ 0xFF]), at)
        yield
        os.pwrite(out.fileno(), byte, at)


# -- chunks -----------------------------------------------------------------------------------------------


def test_a_new_mirror_lacks_every_stored_chunk(tmp_path: Path) -> None:
    """Nothing is there at first, and the metadata is."""
    mirror = MirrorStore(tmp_path).create(PATH, SOURCE.head, SOURCE.skeleton)

    assert ([2, 0], False, "1") == (mirror.missing([2, 0]), mirror.whole, mirror.etag)
    assert (VALUES.shape, {"blocks": (10,)}) == (mirror.handle.shape, {"blocks": mirror.handle.blocks})


def test_chunks_that_arrived_are_there(tmp_path: Path) -> None:
    """A chunk that was put is not missing, has its digest, and is read as it is."""
    mirror = MirrorStore(tmp_path).create(PATH, SOURCE.head, SOURCE.skeleton)
    SOURCE.put(mirror, 3, 10)

    assert [0, 4] == mirror.missing([0, 3, 4, 10])
    assert (SOURCE.chunk(3), digest_of(SOURCE.chunk(3)), None) == (mirror.chunk(3), mirror.digest(3), mirror.digest(4))
    assert same(VALUES[300:400], mirror.handle[300:400])


def test_a_full_mirror_is_the_source_byte_for_byte(tmp_path: Path) -> None:
    """With all chunks the mirror's frame is the published file."""
    mirror = MirrorStore(tmp_path).create(PATH, SOURCE.head, SOURCE.skeleton)
    for n in random.Random(1).sample(range(11), 11):
        SOURCE.put(mirror, n)

    assert (True, SOURCE.data) == (mirror.whole, mirror.pread(0, mirror.layout.length))


def test_special_chunks_are_there_from_the_start(tmp_path: Path) -> None:
    """Chunks of one repeated value need not be fetched, and what is uninitialised is given as zeros."""
    array = blosc2.uninit((100,), dtype="<f8", chunks=(10,), blocks=(10,), contiguous=True)
    published = source(array.to_cframe())
    mirror = MirrorStore(tmp_path).create(PATH, published.head, published.skeleton)

    assert ([], True, UNINIT) == (mirror.missing(range(10)), mirror.whole, mirror.layout.special(0))
    assert bytes(80) == blosc2.decompress2(mirror.chunk(4))


@pytest.mark.parametrize("n", [-1, 11, 2**40])
def test_chunks_that_do_not_exist_are_refused(tmp_path: Path, n: int) -> None:
    """A publisher that sends a chunk of an impossible number makes no sense."""
    mirror = MirrorStore(tmp_path).create(PATH, SOURCE.head, SOURCE.skeleton)
    with pytest.raises(BadGatewayError, match="not asked for"):
        mirror.put(n, digest_of(SOURCE.chunk(0)), SOURCE.chunk(0))


def test_bytes_that_are_no_chunk_of_the_frame_are_refused(tmp_path: Path) -> None:
    """A wrong digest, a chunk of another form, and one too long for its place leave a hole."""
    mirror = MirrorStore(tmp_path).create(PATH, SOURCE.head, SOURCE.skeleton)
    rough = blosc2.compress2(np.random.default_rng(1).integers(0, 2**62, 100), typesize=8, blocksize=80)
    for chunk in (b"", SOURCE.chunk(0)[:-1], rough, os.urandom(500)):
        with pytest.raises(FrameError):
            mirror.put(0, digest_of(chunk), chunk)
    with pytest.raises(BadGatewayError, match="digest is wrong"):
        mirror.put(0, 1, SOURCE.chunk(0))

    assert [0] == mirror.missing([0])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_an_error_of_its_own_and_leaves_a_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """What cannot be written is StorageFullError; the chunk can be put later."""
    store = MirrorStore(tmp_path)
    mirror = store.create(PATH, SOURCE.head, SOURCE.skeleton)

    def full(*_args: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StorageFullError, match=os.strerror(number)):
            SOURCE.put(mirror, 1)
        with pytest.raises(StorageFullError):
            store.create(DatasetPath(RootName("foo"), "b"), SOURCE.head, SOURCE.skeleton)

    assert ([1], 1) == (mirror.missing([1]), len(list(tmp_path.rglob("*.*"))))
    SOURCE.put(mirror, 1)
    assert [] == mirror.missing([1])


def test_writes_that_are_cut_short_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes a few bytes at a time gets all of them in the end."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, bytes(data)[:7], offset))
    mirror = mirrored(tmp_path, SOURCE)

    assert SOURCE.data == mirror.pread(0, len(SOURCE.data))


# -- stopping and starting --------------------------------------------------------------------------------


def test_after_a_clean_stop_the_map_is_believed(tmp_path: Path) -> None:
    """What was there is there, without a look at the chunks."""
    store = MirrorStore(tmp_path)
    SOURCE.put(store.create(PATH, SOURCE.head, SOURCE.skeleton), 0, 5)
    store.close()
    mirror = MirrorStore(tmp_path).load(PATH)

    assert mirror is not None
    assert (True, [1, 2]) == (mirror.trusted, mirror.missing([0, 1, 2, 5]))
    assert same(VALUES[500:600], mirror.handle[500:600])


def test_a_plain_file_survives_a_restart(tmp_path: Path) -> None:
    """The header of a plain file's first chunk is made up until the chunk comes; then the mirror is still sound."""
    skeleton = file_skeleton(3000)
    info = describe("file", skeleton, skeleton.layout(), cbytes=0, mtime=1.0)
    entry = DatasetEntry(path="a.txt", kind="file", etag="1", nbytes=3000, mtime=1.0)
    store, path = MirrorStore(tmp_path), DatasetPath(RootName("foo"), "a.txt")
    chunk = compress_file_chunk(b"abc" * 1000)
    store.create(path, SkeletonHead(entry=entry, info=info, slotted=True), skeleton).put(0, digest_of(chunk), chunk)
    store.close()
    mirror = MirrorStore(tmp_path).load(path)

    assert mirror is not None
    assert ([], chunk) == (mirror.missing([0]), mirror.chunk(0))


@pytest.mark.parametrize("at", [0, 2, 3, 4, 8, 12])
def test_a_damaged_header_of_the_first_chunk_is_found_out(tmp_path: Path, at: int) -> None:
    """What Blosc2 opens a frame with is checked, whether the chunk is there or not."""
    MirrorStore(tmp_path).create(PATH, SOURCE.head, SOURCE.skeleton)
    with flipped(files(tmp_path)[0], int(SOURCE.layout.offsets[0]) + at):
        assert MirrorStore(tmp_path).load(PATH) is None


def test_after_an_unclean_stop_the_digest_decides(tmp_path: Path) -> None:
    """Without the mark of a clean stop, a chunk counts once its digest was found right."""
    mirrored(tmp_path, SOURCE)
    with flipped(files(tmp_path)[0], int(SOURCE.layout.offsets[3]) + 40):
        mirror = MirrorStore(tmp_path).load(PATH)
        assert mirror is not None
        assert list(range(11)) == mirror.missing(range(11))
        mirror.verify(range(11))

        assert ([3], None) == (mirror.missing(range(11)), mirror.digest(3))
    SOURCE.put(mirror, 3)
    assert SOURCE.data == mirror.pread(0, len(SOURCE.data))


def test_a_chunk_nobody_verified_is_not_trusted_after_a_clean_stop(tmp_path: Path) -> None:
    """An unclean stop, then a clean one without a read: the damaged chunk still is found out."""
    mirrored(tmp_path, SOURCE)
    with flipped(files(tmp_path)[0], int(SOURCE.layout.offsets[3]) + 40):
        store = MirrorStore(tmp_path)
        store.load(PATH)
        store.close()
        mirror = MirrorStore(tmp_path).load(PATH)
        assert mirror is not None
        mirror.verify([3])

        assert [3] == mirror.missing([3])


def test_a_chunk_of_an_unclean_stop_may_say_any_length(tmp_path: Path) -> None:
    """A chunk whose own length was damaged is a hole, and not an error."""
    mirrored(tmp_path, SOURCE)
    for at in range(12, 16):
        with flipped(files(tmp_path)[0], int(SOURCE.layout.offsets[1]) + at):
            mirror = MirrorStore(tmp_path).load(PATH)
            assert mirror is not None
            mirror.verify(range(11))
            assert [1] == mirror.missing(range(11))
        SOURCE.put(mirror, 1)


_PUTTER = """
import sys
import time
from pathlib import Path
import numpy as np
from caterva2.subscriber.mirrors import MirrorStore
from tests.unit.subscriber.frames import PATH, array_source
values = np.random.default_rng(5).integers(0, 2**40, 40_000)
source = array_source(values, chunks=(1000,), blocks=(1000,))
store = MirrorStore(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    mirror = store.create(PATH, source.head, source.skeleton)
    for n in np.random.default_rng().permutation(40):
        source.put(mirror, int(n))
        if n == 20:
            print(n, flush=True)
"""


def test_a_killed_process_leaves_chunks_or_holes(tmp_path: Path) -> None:
    """After SIGKILL at any moment each chunk of the mirror is right or a hole, and it goes on from there."""
    values = np.random.default_rng(5).integers(0, 2**40, 40_000)
    published = array_source(values, chunks=(1000,), blocks=(1000,))
    for trial in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", _PUTTER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
        )
        assert process.stdout is not None
        for _ in range(1 + trial * 3):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        mirror = MirrorStore(tmp_path).load(PATH)
        if mirror is None:
            continue
        mirror.verify(range(40))
        missing = mirror.missing(range(40))
        for n in set(range(40)) - set(missing):
            assert published.chunk(n) == mirror.chunk(n)
            assert same(values[n * 1000 : n * 1000 + 1000], mirror.handle[n * 1000 : n * 1000 + 1000])
        assert published.data == published.fill(mirror).pread(0, len(published.data))


# -- damage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_mirror_is_removed_and_counts_as_none(tmp_path: Path, seed: int) -> None:
    """Whatever happened to the file, it is loaded, or removed and asked for again; never another error."""
    mirrored(tmp_path, SOURCE)
    (file,) = files(tmp_path)
    good = file.read_bytes()
    rng = random.Random(seed)
    footer = len(good) - 56
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.choice((1, 2, 8))):
            low = rng.choice((0, SOURCE.layout.index_offset, footer - 400, footer, footer))
            data[rng.randrange(low, len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        file.write_bytes(data)
        mirror = MirrorStore(tmp_path).load(PATH)
        if mirror is None:
            assert not file.exists()
            continue
        mirror.verify(range(mirror.layout.nchunks))
        for n in set(range(11)) - set(mirror.missing(range(11))):
            assert SOURCE.chunk(n) == mirror.chunk(n)


@pytest.mark.parametrize("field", range(6))
@pytest.mark.parametrize("value", [0, 1, 2**31, 2**62, 2**64 - 1])
def test_a_footer_that_lies_is_found_out(tmp_path: Path, field: int, value: int) -> None:
    """Lengths in the footer that contradict the file make it no mirror."""
    mirrored(tmp_path, SOURCE)
    (file,) = files(tmp_path)
    at = len(file.read_bytes()) - 48 + 8 * field
    data = bytearray(file.read_bytes())
    data[at : at + 8] = value.to_bytes(8, "little")
    file.write_bytes(data)

    assert MirrorStore(tmp_path).load(PATH) is None
    assert [] == files(tmp_path)


def test_a_head_cut_out_of_the_file_is_found_out(tmp_path: Path) -> None:
    """A file whose footer lies within what it describes is no mirror."""
    mirrored(tmp_path, SOURCE)
    (file,) = files(tmp_path)
    data = file.read_bytes()
    head = int.from_bytes(data[-16:-8], "little")
    for keep in range(-56, 4, 4):
        file.write_bytes(data[: head + keep].ljust(head + keep, b"\0") + data[-56:])

        assert MirrorStore(tmp_path).load(PATH) is None


def test_no_file_is_no_mirror(tmp_path: Path) -> None:
    """What was never made is not there, and an empty or foreign file is removed."""
    assert MirrorStore(tmp_path).load(PATH) is None
    mirrored(tmp_path, SOURCE)
    for content in (b"", b"x" * 10_000, SOURCE.data):
        files(tmp_path)[0].write_bytes(content) if files(tmp_path) else mirrored(tmp_path, SOURCE)
        files(tmp_path)[0].write_bytes(content)

        assert (None, []) == (MirrorStore(tmp_path).load(PATH), files(tmp_path))


def test_a_skeleton_that_is_not_sound_makes_no_mirror(tmp_path: Path) -> None:
    """What a publisher sends is checked before anything is written."""
    part = SOURCE.skeleton
    with pytest.raises(FrameError):
        MirrorStore(tmp_path).create(
            PATH, SOURCE.head, Skeleton(part.head[:-1], part.first, part.first_offset, part.tail, part.length)
        )

    assert [] == list(tmp_path.rglob("*"))


# -- versions ---------------------------------------------------------------------------------------------


def changed(values: Array) -> Source:
    """The next version, with one other chunk, which makes all that follow move."""
    values = values.copy()
    values[200:300] = np.random.default_rng(1).integers(0, 2**62, 100)
    return array_source(values, "2", chunks=(100,), blocks=(10,))


def test_a_reader_of_the_version_before_finishes_on_it(tmp_path: Path) -> None:
    """A new version takes the name; who has the old one open reads it to the end."""
    store = MirrorStore(tmp_path)
    old = SOURCE.fill(store.create(PATH, SOURCE.head, SOURCE.skeleton))
    published = changed(VALUES)
    new = published.fill(store.create(PATH, published.head, published.skeleton))

    assert (("1", "2"), 1) == ((old.etag, new.etag), len(files(tmp_path)))
    assert same(VALUES, old.handle[...])
    assert SOURCE.data == old.pread(0, len(SOURCE.data))
    assert published.data == new.pread(0, len(published.data))
    assert new is store.get(PATH)


def test_the_version_before_is_the_donor(tmp_path: Path) -> None:
    """The chunks of the version before can be taken from it, of the one before that not."""
    store = MirrorStore(tmp_path)
    first = SOURCE.fill(store.create(PATH, SOURCE.head, SOURCE.skeleton))
    published = changed(VALUES)
    second = store.create(PATH, published.head, published.skeleton)
    donor = second.donor
    assert donor is first
    same_chunks = [n for n in range(11) if donor.digest(n) == digest_of(published.chunk(n))]

    assert [n for n in range(11) if n != 2] == same_chunks
    third = store.create(PATH, SOURCE.head, SOURCE.skeleton)
    assert (second, None) == (third.donor, second.donor)


def test_removing_leaves_nothing_behind(tmp_path: Path) -> None:
    """A removed dataset has no file; who reads it finishes; removing again is allowed."""
    store = MirrorStore(tmp_path)
    mirror = SOURCE.fill(store.create(PATH, SOURCE.head, SOURCE.skeleton))
    store.remove(PATH)
    store.remove(PATH)

    assert ([], None, None) == (files(tmp_path), store.get(PATH), store.load(PATH))
    assert same(VALUES, mirror.handle[...])


def test_a_deleted_dataset_is_the_donor_of_one_that_looks_the_same(tmp_path: Path) -> None:
    """Under another name the chunks of a deleted dataset are at hand, once, and its disk is not kept for ever."""
    other = DatasetPath(RootName("foo"), "other.b2nd")
    store = MirrorStore(tmp_path)
    SOURCE.fill(store.create(PATH, SOURCE.head, SOURCE.skeleton))
    store.close()
    store = MirrorStore(tmp_path)
    store.remove(PATH)
    donor = store.create(other, SOURCE.head, SOURCE.skeleton).donor

    assert donor is not None
    assert [digest_of(SOURCE.chunk(n)) for n in range(11)] == [donor.digest(n) for n in range(11)]
    assert store.create(DatasetPath(RootName("foo"), "third"), SOURCE.head, SOURCE.skeleton).donor is None


def test_the_disk_of_deleted_datasets_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted datasets that do not return are closed after a minute, and at most 64 wait for that."""
    store = MirrorStore(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for i in range(80):
        path = DatasetPath(RootName("foo"), f"{i}")
        published = array_source(example((20,), seed=i * 1000), chunks=(10,), blocks=(10,))
        published.put(store.create(path, published.head, published.skeleton), 0)
        store.remove(path)
    held = len(list(Path("/proc/self/fd").iterdir())) - before
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now + 61)
    store.tidy()

    assert 0 < held <= 64
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_removing_a_root_leaves_the_others(tmp_path: Path) -> None:
    """All mirrors of a root go at once, and only they."""
    store = MirrorStore(tmp_path)
    for root in ("foo", "bar"):
        for name in ("a", "b"):
            store.create(DatasetPath(RootName(root), name), SOURCE.head, SOURCE.skeleton)
    store.remove_root("foo")
    store.remove_root("nosuch")

    assert (2, None) == (len(files(tmp_path)), store.get(DatasetPath(RootName("foo"), "a")))
    assert store.get(DatasetPath(RootName("bar"), "a")) is not None


@pytest.mark.parametrize("name", ["a", "a/b", "ü " * 100, "x" * 255, "%2e%2e", "#?+", "a.mirror", "deep/" * 100 + "x"])
def test_any_name_has_a_file_of_its_own(tmp_path: Path, name: str) -> None:
    """Names that are long, odd, or directories elsewhere do not meet."""
    store, path = MirrorStore(tmp_path), DatasetPath(RootName("foo"), name)
    store.create(path, SOURCE.head, SOURCE.skeleton)
    store.create(PATH, SOURCE.head, SOURCE.skeleton)
    again = MirrorStore(tmp_path).load(path)

    assert (2, path) == (len(files(tmp_path)), again.path if again else None)


# -- many -------------------------------------------------------------------------------------------------


def test_few_of_many_mirrors_are_kept_open(tmp_path: Path) -> None:
    """Descriptors of mirrors unused for longest are closed, and no reader ever meets another file's bytes."""
    store, sources = MirrorStore(tmp_path, most_open=4), dict[DatasetPath, Source]()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for i in range(40):
        published = array_source(example((50,), seed=i * 1000), chunks=(10,), blocks=(10,))
        path = DatasetPath(RootName("foo"), f"{i}.b2nd")
        sources[path] = published
        published.fill(store.create(path, published.head, published.skeleton))
    first = next(iter(sources))
    held = store.load(first)
    assert held is not None
    for path, published in sources.items():
        mirror = store.get(path) or store.load(path)
        assert mirror is not None
        assert published.data == mirror.pread(0, len(published.data))
        assert same(blosc2.ndarray_from_cframe(published.data)[...], mirror.handle[...])
    assert sources[first].data == held.pread(0, len(sources[first].data))
    del mirror, held

    # Each mirror has its own descriptor and, once read, Blosc2's.
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 2 * 4


def test_a_header_that_blosc2_does_not_take(tmp_path: Path) -> None:
    """A frame with filters that Blosc2 cannot name is an error of the frame, and no fault of ours."""
    frame = blosc2.SChunk(chunksize=200, data=bytes(range(200)) * 5, contiguous=True).to_cframe()
    damaged = source(frame[:79] + b"\xff" + frame[80:], kind="frame")

    mirror = damaged.fill(MirrorStore(tmp_path).create(PATH, damaged.head, damaged.skeleton))

    with pytest.raises(FrameError, match="Blosc2 does not open it"):
        _ = mirror.handle
