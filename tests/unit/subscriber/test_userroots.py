"""caterva2.subscriber.userroots: the subscriber's own datasets."""

from pathlib import Path

import blosc2
import pytest

from caterva2.errors import FrameError, NotFoundError
from caterva2.paths import DatasetPath
from caterva2.subscriber.callers import ANONYMOUS, Caller
from caterva2.subscriber.places import Places
from caterva2.subscriber.userroots import UserRoots
from tests.support.arrays import example, same, write

ANN = Caller("6d0b1d7c-8f56-4c0b-9d0a-3f3a3a0f1a01", "ann@example.com")
BOB = Caller("6d0b1d7c-8f56-4c0b-9d0a-3f3a3a0f1a02", "bob@example.com")


def frame(content: bytes) -> bytes:
    """A plain file as it is kept."""
    data: bytes = blosc2.SChunk(chunksize=100, data=content, contiguous=True).to_cframe()
    return data


@pytest.fixture
def own(tmp_path: Path) -> UserRoots:
    """Own roots with an array, files and a damaged frame."""
    for directory in ("public/dir", "shared", f"personal/{ANN.id}"):
        (tmp_path / directory).mkdir(parents=True)
    write(tmp_path / "public/dir/a.b2nd", example((100,)), chunks=(10,), blocks=(10,))
    (tmp_path / "public/x.txt.b2").write_bytes(frame(b"hello"))
    (tmp_path / "public/bad.b2nd").write_bytes(b"x" * 100)
    (tmp_path / "public/.hidden").write_bytes(b"")
    (tmp_path / "shared/x.txt.b2").write_bytes(frame(b"all of us"))
    (tmp_path / f"personal/{ANN.id}/x.txt.b2").write_bytes(frame(b"mine"))
    return UserRoots(Places(tmp_path))


def test_own_datasets_are_listed(own: UserRoots) -> None:
    """Names are without the ending that plain files are kept with; hidden files are not listed."""
    assert ["bad.b2nd", "dir/a.b2nd", "x.txt"] == own.list(ANONYMOUS, DatasetPath.parse("@public"))
    assert ["a.b2nd"] == own.list(ANONYMOUS, DatasetPath.parse("@public/dir"))
    assert ["x.txt"] == own.list(ANONYMOUS, DatasetPath.parse("@public/x.txt"))


def test_own_datasets_are_read(own: UserRoots) -> None:
    """An array and a plain file are opened as what they are, with all their chunks."""
    array = own.open(ANONYMOUS, DatasetPath.parse("@public/dir/a.b2nd"))
    file = own.open(ANONYMOUS, DatasetPath.parse("@public/x.txt"))

    assert same(example((100,)), array.handle[...])
    assert ("file", b"hello", True, []) == (file.kind, file.handle[:], file.whole, array.missing([0, 9]))


def test_each_caller_has_roots_of_its_own(own: UserRoots) -> None:
    """Nobody in particular has @public only; users share @shared, and each has another @personal."""
    shared, personal = DatasetPath.parse("@shared/x.txt"), DatasetPath.parse("@personal/x.txt")

    assert (["@public"], ["@public", "@personal", "@shared"]) == (own.names(ANONYMOUS), own.names(BOB))
    assert b"all of us" == own.open(ANN, shared).handle[:] == own.open(BOB, shared).handle[:]
    assert b"mine" == own.open(ANN, personal).handle[:]
    with pytest.raises(NotFoundError):
        own.open(BOB, personal)
    assert ([], ["x.txt"]) == tuple(own.list(caller, DatasetPath.parse("@personal")) for caller in (BOB, ANN))


@pytest.mark.parametrize("root", ["@personal", "@shared"])
def test_nobody_in_particular_needs_to_log_in(own: UserRoots, root: str) -> None:
    """What users alone have is not found, with what is missing."""
    with pytest.raises(NotFoundError, match=f"{root} needs authentication"):
        own.list(ANONYMOUS, DatasetPath.parse(root))
    with pytest.raises(NotFoundError, match=f"{root} needs authentication"):
        own.open(ANONYMOUS, DatasetPath.parse(f"{root}/x.txt"))


@pytest.mark.parametrize(
    "path",
    ["@public/nosuch", "@public/dir", "@public", "@public/.hidden", "@shared/x", "foo/x", f"@public/{'x' * 255}"],
)
def test_what_is_not_there_is_not_found(own: UserRoots, path: str) -> None:
    """Neither directories, hidden files nor other roots are datasets here, nor is what cannot be a file's name."""
    with pytest.raises(NotFoundError):
        own.open(ANONYMOUS, DatasetPath.parse(path))


def test_a_damaged_one_is_a_frame_error(own: UserRoots) -> None:
    """Damage is told, and no descriptor is left open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FrameError):
        own.open(ANONYMOUS, DatasetPath.parse("@public/bad.b2nd"))

    assert before == len(list(Path("/proc/self/fd").iterdir()))


def test_a_root_without_its_directory_is_empty(tmp_path: Path) -> None:
    """Before anything is put there, the list is empty."""
    assert [] == UserRoots(Places(tmp_path)).list(ANONYMOUS, DatasetPath.parse("@public"))
