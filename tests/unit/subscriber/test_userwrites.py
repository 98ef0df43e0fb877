"""caterva2.subscriber.userwrites: what users write is there whole, or not at all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest

from caterva2.errors import (
    AuthenticationError,
    BadRequestError,
    Caterva2Error,
    ConflictError,
    FrameError,
    NotFoundError,
    PathError,
    StorageFullError,
    TooLargeError,
    UnavailableError,
    VersionChangedError,
)
from caterva2.frames import FrameLayout
from caterva2.paths import DatasetPath
from caterva2.subscriber.callers import ANONYMOUS, Caller
from caterva2.subscriber.intake import FILE_CHUNK
from caterva2.subscriber.places import Places
from caterva2.subscriber.placing import Condition, anything
from caterva2.subscriber.quotas import Quotas
from caterva2.subscriber.userroots import UserRoots
from caterva2.subscriber.userwrites import Told, UserWrites
from tests.support.arrays import DTYPES, example, same
from tests.support.waiting import wait_until

ANN = Caller("6d0b1d7c-8f56-4c0b-9d0a-3f3a3a0f1a01", "ann@example.com")
BOB = Caller("6d0b1d7c-8f56-4c0b-9d0a-3f3a3a0f1a02", "bob@example.com")


class Own:
    """The own roots in a directory."""

    def __init__(self, directory: Path, quotas: Quotas | None = None) -> None:
        self.directory = directory
        self.quotas = quotas or Quotas()
        self.reads = UserRoots(Places(directory))
        self.writes = UserWrites(Places(directory), self.quotas)
        self.writes.clear()
        self.writes.count()

    def put(
        self, path: str, data: bytes, condition: Condition = anything, caller: Caller = ANN, piece: int = 300_000
    ) -> Told:
        """Write a dataset, in pieces."""
        with self.writes.begin(caller, DatasetPath.parse(path), condition) as upload:
            for at in range(0, len(data), piece):
                upload.write(data[at : at + piece])
            return upload.finish()

    def append(self, path: str, values: Any) -> tuple[int, ...]:
        """Append rows."""
        return self.append_frame(path, cframe(values))

    def append_frame(self, path: str, data: bytes) -> tuple[int, ...]:
        """Append the rows of what is sent."""
        with self.writes.begin(ANN, DatasetPath.parse(path)) as upload:
            upload.write(data)
            return upload.append()[1]

    def frame(self, path: str, caller: Caller = ANN) -> Any:
        """Open a dataset."""
        return self.reads.open(caller, DatasetPath.parse(path))

    def read(self, path: str, caller: Caller = ANN) -> Any:
        """What is in a dataset."""
        frame = self.frame(path, caller)
        return frame.handle[...] if frame.kind == "array" else frame.handle[:]

    def list(self, path: str, caller: Caller = ANN) -> list[str]:
        """The datasets of a root."""
        return self.reads.list(caller, DatasetPath.parse(path))

    def move(self, source: str, target: str, *, into: bool = False) -> list[Told]:
        """Move a dataset or folder."""
        return self.writes.move(ANN, DatasetPath.parse(source), DatasetPath.parse(target), into=into)[1]

    def copy(self, source: str, target: str, *, into: bool = False) -> list[Told]:
        """Copy a dataset or folder."""
        return self.writes.copy(ANN, DatasetPath.parse(source), DatasetPath.parse(target), into=into)[1]

    def remove(self, path: str, condition: Condition = anything) -> Told:
        """Remove a dataset or folder."""
        return self.writes.remove(ANN, DatasetPath.parse(path), condition)

    @property
    def unfinished(self) -> list[str]:
        """The files that are being written."""
        incoming = self.directory / "incoming"
        return [file.name for file in incoming.iterdir()] if incoming.is_dir() else []


@pytest.fixture
def own(tmp_path: Path) -> Own:
    """Empty own roots without a limit."""
    return Own(tmp_path)


def cframe(values: Any, **options: Any) -> bytes:
    """An array as it is sent."""
    data: bytes = blosc2.asarray(np.asarray(values), contiguous=True, **options).to_cframe()
    return data


def changes(*told: Told) -> list[tuple[str, str, str, str]]:
    """What was told: root, owner, type, path."""
    return [(str(t.changes.root), t.owner, c.type, c.entry.path) for t in told for c in t.changes.changes]


# -- what is written is read ------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 1, 11, 33_000, FILE_CHUNK - 1, FILE_CHUNK, FILE_CHUNK + 1, 3 * FILE_CHUNK + 7])
@pytest.mark.parametrize("filler", [b"\0", b"some text, ", os.urandom(1 << 16)])
def test_a_plain_file_comes_back(own: Own, nbytes: int, filler: bytes) -> None:
    """Files of every length, also of zeros, and what does not compress, are compressed into a sound frame."""
    content = (filler * (nbytes // len(filler) + 1))[:nbytes]
    own.put("@personal/dir/x.txt", content)

    frame = own.frame("@personal/dir/x.txt")
    assert ("file", nbytes, content) == (frame.kind, frame.layout.nbytes, own.read("@personal/dir/x.txt"))
    assert (["dir/x.txt"], []) == (own.list("@personal"), own.unfinished)
    assert frame.layout.chunksize == min(max(nbytes, 1), FILE_CHUNK)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_array_of_every_dtype_comes_back(own: Own, dtype: Any) -> None:
    """An array is kept as it was sent, byte by byte."""
    values = example((30, 7), dtype)
    own.put("@shared/a.b2nd", cframe(values), piece=100)

    assert same(values, own.read("@shared/a.b2nd", BOB))
    assert cframe(values) == (own.directory / "shared/a.b2nd").read_bytes()


def test_a_frame_comes_back(own: Own) -> None:
    """A frame that is no array is kept; bytes behind it are not."""
    data = blosc2.SChunk(chunksize=100, data=b"hello" * 100, contiguous=True).to_cframe()
    own.put("@public/x.b2frame", data + b"something else")

    assert (b"hello" * 100, len(data)) == (own.read("@public/x.b2frame"), own.frame("@public/x.b2frame").entry.nbytes)


def test_every_write_is_told_with_its_version(own: Own) -> None:
    """Created or modified, with the version that reads find."""
    first, second = own.put("@personal/x", b"1"), own.put("@personal/x", b"2")

    kinds = [("@personal", ANN.id, "created", "x"), ("@personal", ANN.id, "modified", "x")]
    assert kinds == changes(first, second)
    assert first.etag != second.etag == own.frame("@personal/x").etag
    assert ("@shared", "") == (own.put("@shared/x", b"1").changes.root, own.put("@shared/x", b"1").owner)


def test_no_two_versions_are_the_same(own: Own) -> None:
    """However fast writes of the same size follow each other, and whatever inode they get, each is told apart."""
    assert 200 == len({own.put("@public/x", b"%03d" % i).etag for i in range(200)})


def test_a_reader_finishes_on_its_version(own: Own) -> None:
    """Who has opened the old version reads it to the end, when it was replaced and when it was removed."""
    old, new = example((1000,)), example((50,), seed=7)
    own.put("@public/a.b2nd", cframe(old, chunks=(100,)))
    first = own.frame("@public/a.b2nd")
    own.put("@public/a.b2nd", cframe(new))
    second = own.frame("@public/a.b2nd")
    own.remove("@public/a.b2nd")

    assert same(old, first.handle[...])
    assert same(new, second.handle[...])


# -- who may write where ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "path", "error", "detail"),
    [
        (ANONYMOUS, "@public/x", AuthenticationError, "Unauthorized"),
        (ANONYMOUS, "foo/x", AuthenticationError, "Unauthorized"),
        (ANN, "foo/x", BadRequestError, "Only @personal or @shared or @public roots can be modified"),
        (ANN, "@other/x", BadRequestError, "Only @personal or @shared or @public roots can be modified"),
        (ANN, "@public", PathError, "is a root"),
        (ANN, "@public/.x", PathError, "is hidden"),
        (ANN, "@public/.git/x", PathError, "is hidden"),
        (ANN, "@public/" + "d/" * 40 + "x", PathError, "is too deep"),
        (ANN, "@public/" + "x" * 253, PathError, "is too long"),
    ],
)
def test_what_cannot_be_written(own: Own, caller: Caller, path: str, error: type[Exception], detail: str) -> None:
    """Nobody in particular writes nothing; published roots and names that are not kept are refused, everywhere."""
    where = DatasetPath.parse(path)
    own.put("@public/there", b"x")
    for act in (
        lambda: own.writes.begin(caller, where),
        lambda: own.writes.remove(caller, where),
        lambda: own.writes.move(caller, where, DatasetPath.parse("@public/y")),
    ):
        with pytest.raises(error, match=detail):
            act()
    if path != "@public":  # copied to a root, a dataset keeps its name
        with pytest.raises(error, match=detail):
            own.writes.copy(caller, DatasetPath.parse("@public/there"), where)
    assert (["there"], []) == (own.list("@public"), own.unfinished)


@pytest.mark.parametrize("identity", ["../public", "", "x/y", "6d0b1d7c"])
def test_only_a_uuid_is_a_directory(own: Own, identity: str) -> None:
    """Whatever a caller is called, nobody gets another directory than that of a UUID."""
    with pytest.raises((ValueError, AuthenticationError)):
        own.writes.begin(Caller(identity, "x"), DatasetPath.parse("@personal/x"))


def test_users_do_not_see_each_other(own: Own) -> None:
    """@personal is another root for each."""
    own.put("@personal/x", b"ann's", caller=ANN)
    own.put("@personal/x", b"bob's", caller=BOB)

    assert (b"ann's", b"bob's") == (own.read("@personal/x", ANN), own.read("@personal/x", BOB))
    own.writes.remove(BOB, DatasetPath.parse("@personal/x"))
    assert (["x"], []) == (own.list("@personal", ANN), own.list("@personal", BOB))


# -- hostile frames ---------------------------------------------------------------------------------------


def _cut(data: bytes) -> bytes:
    return data[:-5]


def _long_chunk(data: bytes) -> bytes:
    layout = FrameLayout.read(lambda offset, length: data[offset : offset + length], len(data))
    at = int(layout.offsets[3]) + 12
    return data[:at] + (0x7FFFFFFF).to_bytes(4, "little") + data[at + 4 :]


def _far_block(data: bytes) -> bytes:
    layout = FrameLayout.read(lambda offset, length: data[offset : offset + length], len(data))
    at = int(layout.offsets[5]) + 32
    return data[:at] + (0x7FFFFFF0).to_bytes(4, "little") + data[at + 4 :]


def _objects(data: bytes) -> bytes:
    assert data.count(b"<i8") == 1
    return data.replace(b"<i8", b"|O8")


def _lazy(data: bytes) -> bytes:
    frame: bytes = blosc2.asarray(np.arange(3), contiguous=True, meta={"LazyArray": b"x"}).to_cframe()
    return frame


def _proxy(data: bytes) -> bytes:
    source = {"local_abspath": "/etc/passwd", "urlpath": None, "caterva2_env": False}
    frame: bytes = blosc2.asarray(np.arange(3), contiguous=True, meta={"proxy-source": source}).to_cframe()
    return frame


@pytest.mark.parametrize(
    "harm", [_cut, _long_chunk, _far_block, _objects, _lazy, _proxy, lambda _: b"", lambda _: b"x" * 1000]
)
def test_a_hostile_frame_is_refused(own: Own, harm: Callable[[bytes], bytes]) -> None:
    """What could harm a reader never gets a name, and leaves nothing; what was there stays."""
    good = cframe(example((1000,)), chunks=(100,), blocks=(50,))
    own.put("@public/a.b2nd", good)
    used = own.quotas.used()

    with pytest.raises(FrameError):
        own.put("@public/a.b2nd", harm(good))
    with pytest.raises(FrameError):
        own.append_frame("@public/a.b2nd", harm(good))
    assert same(example((1000,)), own.read("@public/a.b2nd"))
    assert ([], used) == (own.unfinished, own.quotas.used())


def test_an_array_under_another_name_is_refused(own: Own) -> None:
    """What a dataset is, its ending tells."""
    with pytest.raises(FrameError, match=r"name it \.b2nd"):
        own.put("@public/a.b2frame", cframe(example((10,))))
    with pytest.raises(FrameError, match=r"name it \.b2frame"):
        own.put("@public/a.b2nd", blosc2.SChunk(data=b"x", contiguous=True).to_cframe())


# -- conditions, and two at once --------------------------------------------------------------------------


def test_conditions_are_honoured(own: Own) -> None:
    """A write, and a removal, of another version than expected is refused with the present one."""
    etag = own.put("@public/x", b"1", lambda present: present is None).etag
    with pytest.raises(VersionChangedError) as refused:
        own.put("@public/x", b"2", lambda present: present is None)
    assert etag == refused.value.etag
    with pytest.raises(VersionChangedError):
        own.remove("@public/x", lambda present: present == "another")

    assert b"1" == own.read("@public/x")
    own.put("@public/x", b"3", lambda present: present == etag)
    assert b"3" == own.read("@public/x")


def test_of_two_writers_of_a_new_name_one_is_refused(own: Own) -> None:
    """With If-None-Match: *, of many who write the same name at once, exactly one succeeds, and it is told."""

    def write(i: int) -> int | None:
        try:
            own.put("@public/dir/x", b"%d" % i, lambda present: present is None)
        except VersionChangedError:
            return None
        return i

    with ThreadPoolExecutor(8) as pool:
        winners = [i for i in pool.map(write, range(24)) if i is not None]
    assert 1 == len(winners)
    assert b"%d" % winners[0] == own.read("@public/dir/x")
    assert [] == own.unfinished


def test_many_at_once_lose_nothing(own: Own) -> None:
    """Writers of many names, in folders that do not exist yet, do not disturb each other."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: own.put(f"@shared/{i % 7}/{i}.b2nd", cframe(np.full(10, i))), range(200)))

    assert 200 == len(own.list("@shared"))
    assert all(same(np.full(10, i), own.read(f"@shared/{i % 7}/{i}.b2nd")) for i in range(200))


def test_names_that_need_the_same_file_are_a_conflict(own: Own) -> None:
    """A file is no folder and the other way round, also where the disk could hold both."""
    own.put("@public/a", b"x")
    own.put("@public/b/c", b"x")
    own.put("@public/d.b2/e", b"x")
    own.put("@public/f.b2nd", cframe(np.arange(3)))
    for path in ("@public/a/b", "@public/b", "@public/d", "@public/f.b2nd/x", "@public/a.b2/x"):
        with pytest.raises(ConflictError):
            own.put(path, b"x")
    assert ["a", "b/c", "d.b2/e", "f.b2nd"] == own.list("@public")


# -- append -----------------------------------------------------------------------------------------------


def test_rows_are_appended(own: Own) -> None:
    """The array grows along its first axis, as a new version; who read the old one does not notice."""
    values = example((1003, 7))
    before = own.put("@personal/a.b2nd", cframe(values, chunks=(100, 7), blocks=(10, 7))).etag
    old = own.frame("@personal/a.b2nd")

    assert (1503, 7) == own.append("@personal/a.b2nd", example((500, 7), seed=5))
    assert same(np.concatenate([values, example((500, 7), seed=5)]), own.read("@personal/a.b2nd"))
    assert same(values, old.handle[...])
    assert (before != own.frame("@personal/a.b2nd").etag, []) == (True, own.unfinished)


def test_appends_at_once_all_land(own: Own) -> None:
    """None of those who append to one array at once is lost."""
    own.put("@personal/a.b2nd", cframe(np.zeros(1, "i8")))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: own.append("@personal/a.b2nd", np.full(3, i)), range(24)))

    assert [0, *sorted([*range(24)] * 3)] == sorted(own.read("@personal/a.b2nd").tolist())


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.zeros((3, 4)), BadRequestError),
        (np.zeros(3), BadRequestError),
        (np.zeros((3, 7), "f4"), BadRequestError),
        (np.array(1.0), BadRequestError),
    ],
)
def test_what_does_not_fit_is_not_appended(own: Own, values: Any, error: type[Caterva2Error]) -> None:
    """Other shapes and dtypes are refused."""
    own.put("@public/a.b2nd", cframe(np.ones((5, 7))))
    with pytest.raises(error):
        own.append("@public/a.b2nd", values)
    assert (5, 7) == own.read("@public/a.b2nd").shape


def test_a_bomb_is_not_appended(own: Own) -> None:
    """A few bytes that stand for a terabyte of zeros may be kept, but are not written out."""
    bomb = blosc2.zeros((1 << 40,), "u1", chunks=(1 << 28,), contiguous=True).to_cframe()
    assert len(bomb) < 100_000
    own.put("@public/a.b2nd", cframe(np.ones(5, "u1")))
    own.put("@public/bomb.b2nd", bomb)

    with pytest.raises(TooLargeError):
        own.append_frame("@public/a.b2nd", bomb)
    assert (5, 1 << 40) == (len(own.read("@public/a.b2nd")), own.frame("@public/bomb.b2nd").layout.nbytes)


def test_only_an_array_that_is_there_is_appended_to(own: Own) -> None:
    """A file is no array, and what is not there is not made."""
    own.put("@public/x", b"x")
    with pytest.raises(BadRequestError, match="not an array"):
        own.append("@public/x", np.ones(3))
    with pytest.raises(NotFoundError):
        own.append("@public/a.b2nd", np.ones(3))


# -- move, copy, remove -----------------------------------------------------------------------------------


def test_a_dataset_is_moved(own: Own) -> None:
    """Within a root and to another one; it is told as deleted here and created there, with its version."""
    etag = own.put("@personal/x", b"1").etag
    told = own.move("@personal/x", "@shared/sub/y")

    assert [("@personal", ANN.id, "deleted", "x"), ("@shared", "", "created", "sub/y")] == changes(*told)
    assert ([], ["sub/y"], b"1") == (own.list("@personal"), own.list("@shared"), own.read("@shared/sub/y", BOB))
    assert etag == told[1].etag == own.frame("@shared/sub/y").etag


def test_a_folder_is_moved_and_copied(own: Own) -> None:
    """With all that is in it."""
    own.put("@personal/dir/a.b2nd", cframe(np.arange(5)))
    own.put("@personal/dir/sub/x", b"1")
    told = own.copy("@personal/dir", "@shared/copy")
    own.move("@personal/dir", "@personal/other")

    assert [("@shared", "", "created", f"copy/{name}") for name in ("a.b2nd", "sub/x")] == changes(*told)
    assert ["other/a.b2nd", "other/sub/x"] == own.list("@personal")
    assert ["copy/a.b2nd", "copy/sub/x"] == own.list("@shared")
    assert (b"1", []) == (own.read("@shared/copy/sub/x"), own.unfinished)


def test_a_target_that_is_a_folder_takes_the_name(own: Own) -> None:
    """As `mv` and `cp` do; so do a root, and a name with a slash at its end."""
    own.put("@personal/x", b"1")
    own.put("@shared/dir/y", b"2")
    own.copy("@personal/x", "@shared/dir")
    own.copy("@personal/x", "@public")
    own.copy("@personal/x", "@public/new", into=True)

    assert (["dir/x", "dir/y"], ["new/x", "x"]) == (own.list("@shared"), own.list("@public"))


@pytest.mark.parametrize("act", [Own.move, Own.copy])
def test_nothing_is_replaced_by_a_move(own: Own, act: Callable[..., Any]) -> None:
    """Neither a dataset nor itself; a folder does not go into itself, and a dataset keeps its kind."""
    own.put("@public/x", b"1")
    own.put("@public/y", b"2")
    own.put("@public/d/z", b"3")
    own.put("@public/a.b2nd", cframe(np.arange(3)))
    for source, target, error in (
        ("@public/x", "@public/y", ConflictError),
        ("@public/x", "@public/x", ConflictError),
        ("@public/d", "@public/d/e", BadRequestError),
        ("@public/d", "@public/d", BadRequestError),
        ("@public/a.b2nd", "@public/a.txt", BadRequestError),
        ("@public/a.b2nd", "@public/a.b2frame", BadRequestError),
        ("@public/x", "@public/x.b2nd", BadRequestError),
        ("@public/nosuch", "@public/new", NotFoundError),
        ("@public/d", "@public/x/d", ConflictError),
    ):
        with pytest.raises(error):
            act(own, source, target)
    assert (["a.b2nd", "d/z", "x", "y"], b"2") == (own.list("@public"), own.read("@public/y"))
    assert [] == own.unfinished


def test_datasets_and_folders_are_removed(own: Own) -> None:
    """One, or all that is in a folder; what is not there is said."""
    for name in ("x", "dir/a", "dir/sub/b"):
        own.put(f"@personal/{name}", b"1")

    assert [("@personal", ANN.id, "deleted", "x")] == changes(own.remove("@personal/x"))
    assert ["dir/a", "dir/sub/b"] == [path for *_, path in changes(own.remove("@personal/dir"))]
    assert ([], []) == (own.list("@personal"), own.unfinished)
    with pytest.raises(NotFoundError, match="The specified path does not exist"):
        own.remove("@personal/x")


# -- kills, and full disks --------------------------------------------------------------------------------

WRITER = """
import sys
from tests.unit.subscriber.test_userwrites import *
own = Own(Path(sys.argv[1]))
for i in range(1, 100_000):
    own.put("@public/a.b2nd", cframe(np.full(200_000, i)), piece=4096)
    own.append("@public/grown.b2nd", np.full(100, i))
"""


def _is_new(own: Own, etag: str) -> bool:
    return etag != own.frame("@public/grown.b2nd").etag


def test_a_kill_leaves_the_old_version_or_the_new_one(own: Own) -> None:
    """Killed at any moment, the daemon finds everything whole when it starts again, and nothing else."""
    own.put("@public/grown.b2nd", cframe(np.zeros(100, "i8")))
    own.put("@public/a.b2nd", cframe(np.zeros(200_000, "i8")))
    for _ in range(3):
        before = own.frame("@public/grown.b2nd").etag
        grows = partial(_is_new, own, before)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(own.directory)], cwd=Path(__file__).parents[3])
        wait_until(grows, "the writer")
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        own = Own(own.directory)

        whole, grown = own.read("@public/a.b2nd"), own.read("@public/grown.b2nd")
        assert (200_000, 1) == (len(whole), len(np.unique(whole)))
        assert set(np.unique(grown, return_counts=True)[1].tolist()) <= {100, 200, 300, 400}
        assert (["a.b2nd", "grown.b2nd"], []) == (own.list("@public"), own.unfinished)


@contextmanager
def full_disk(nbytes: int) -> Iterator[None]:
    """No file grows beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_what_was_there(own: Own) -> None:
    """What does not fit is refused, and nothing of it remains."""
    own.put("@public/x", b"1")
    own.put("@public/large.b2nd", cframe(np.random.default_rng(1).random(50_000)))
    with full_disk(100_000):
        for act in (
            lambda: own.put("@public/x", os.urandom(3_000_000)),
            lambda: own.put("@public/y.b2nd", cframe(np.random.default_rng(1).random(50_000))),
            lambda: own.copy("@public/large.b2nd", "@public/copy.b2nd"),
            lambda: own.append("@public/large.b2nd", np.ones(10)),
        ):
            with pytest.raises(StorageFullError):
                act()

    assert (["large.b2nd", "x"], b"1", []) == (own.list("@public"), own.read("@public/x"), own.unfinished)


# -- quotas -----------------------------------------------------------------------------------------------


def on_disk(own: Own) -> int:
    """What the files of the own roots take, as a walk finds it."""
    roots = [own.directory / name for name in ("public", "shared", "personal")]
    return sum(file.stat().st_size for root in roots for file in root.rglob("*") if file.is_file())


def test_what_is_used_is_counted_as_it_changes(tmp_path: Path) -> None:
    """After any sequence of writes, also refused ones, the count is that of the files; so is it after a start."""
    own = Own(tmp_path, Quotas(10_000_000, 3_000_000))
    own.put("@personal/x", os.urandom(200_000))
    own.put("@personal/x", os.urandom(100_000))
    own.put("@personal/dir/a.b2nd", cframe(np.arange(1000)))
    own.append("@personal/dir/a.b2nd", np.arange(1000))
    own.copy("@personal/dir", "@shared/dir")
    own.move("@personal/x", "@shared/x")
    own.copy("@shared/x", "@personal/y")
    with pytest.raises(FrameError):
        own.put("@personal/dir/a.b2nd", b"x" * 1000)
    with pytest.raises(ConflictError):
        own.copy("@shared/dir", "@personal/y")
    own.put("@shared/b.b2nd", cframe(np.arange(1000)) + b"something else" * 100)
    own.remove("@shared/dir")

    assert on_disk(own) == own.quotas.used()
    again = Own(tmp_path, Quotas(10_000_000))
    assert own.quotas.used() == again.quotas.used() > 200_000
    assert own.quotas.used(ANN.id) == again.quotas.used(ANN.id)


def test_a_user_keeps_what_the_quota_allows(tmp_path: Path) -> None:
    """More is refused with the figures, while it is sent; replacing counts the difference, others are not touched."""
    own = Own(tmp_path, Quotas(per_user=250_000))
    own.put("@personal/x", os.urandom(200_000))
    used = own.quotas.used(ANN.id)
    with pytest.raises(TooLargeError, match=f"250000 bytes, {used} are taken"):
        own.put("@personal/y", os.urandom(100_000))
    own.put("@shared/y", os.urandom(100_000), caller=BOB)
    for act in (own.move, own.copy):
        with pytest.raises(TooLargeError):
            act("@shared/y", "@personal/y")

    own.put("@personal/x", os.urandom(210_000))
    own.put("@personal/x", os.urandom(100_000), caller=BOB)
    assert (["x"], ["x"], ["y"]) == (own.list("@personal"), own.list("@personal", BOB), own.list("@shared"))
    assert (on_disk(own), []) == (own.quotas.used(), own.unfinished)


def test_all_together_keep_what_the_quota_allows(tmp_path: Path) -> None:
    """The whole is limited too; at once, writers do not get more between them."""
    own = Own(tmp_path, Quotas(500_000))

    def write(i: int) -> str:
        try:
            own.put(f"@shared/{i}", os.urandom(100_000), piece=10_000)
        except StorageFullError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:
        refused = list(filter(None, pool.map(write, range(24))))
    assert all("500000 bytes" in detail for detail in refused)
    assert 1 <= 24 - len(refused) == len(own.list("@shared")) <= 4
    assert on_disk(own) == own.quotas.used() <= 500_000
    own.remove("@shared/" + own.list("@shared")[0])
    own.put("@shared/more", os.urandom(100_000))


def test_nothing_is_written_before_all_is_counted(tmp_path: Path) -> None:
    """With a quota, writes wait for the count of what is there."""
    writes = UserWrites(Places(tmp_path), Quotas(1_000_000))
    with pytest.raises(UnavailableError, match="being counted"):
        writes.begin(ANN, DatasetPath.parse("@public/x"))
