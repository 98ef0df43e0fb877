"""caterva2.subscriber.userroots: the subscriber's own datasets."""

from pathlib import Path

import blosc2
import pytest

from caterva2.errors import FrameError, NotFoundError
from caterva2.paths import DatasetPath
from caterva2.subscriber.userroots import UserRoots
from tests.support.arrays import example, same, write


@pytest.fixture
def own(tmp_path: Path) -> UserRoots:
    """Own roots with an array, a file and a damaged frame."""
    (tmp_path / "public/dir").mkdir(parents=True)
    write(tmp_path / "public/dir/a.b2nd", example((100,)), chunks=(10,), blocks=(10,))
    (tmp_path / "public/x.txt.b2").write_bytes(blosc2.SChunk(chunksize=100, data=b"hello", contiguous=True).to_cframe())
    (tmp_path / "public/bad.b2nd").write_bytes(b"x" * 100)
    (tmp_path / "public/.hidden").write_bytes(b"")
    return UserRoots(tmp_path)


def test_own_datasets_are_listed(own: UserRoots) -> None:
    """Names are without the ending that plain files are kept with; hidden files are not listed."""
    assert ["bad.b2nd", "dir/a.b2nd", "x.txt"] == own.list(DatasetPath.parse("@public"))
    assert ["a.b2nd"] == own.list(DatasetPath.parse("@public/dir"))
    assert ["x.txt"] == own.list(DatasetPath.parse("@public/x.txt"))


def test_own_datasets_are_read(own: UserRoots) -> None:
    """An array and a plain file are opened as what they are, with all their chunks."""
    array = own.open(DatasetPath.parse("@public/dir/a.b2nd"))
    file = own.open(DatasetPath.parse("@public/x.txt"))

    assert same(example((100,)), array.handle[...])
    assert ("file", b"hello", True, []) == (file.kind, file.handle[:], file.whole, array.missing([0, 9]))


@pytest.mark.parametrize("path", ["@public/nosuch", "@public/dir", "@public/.hidden", "@shared/x", "foo/x"])
def test_what_is_not_there_is_not_found(own: UserRoots, path: str) -> None:
    """Neither directories, hidden files nor other roots are datasets here."""
    with pytest.raises(NotFoundError):
        own.open(DatasetPath.parse(path))


def test_a_damaged_one_is_a_frame_error(own: UserRoots) -> None:
    """Damage is told, and no descriptor is left open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FrameError):
        own.open(DatasetPath.parse("@public/bad.b2nd"))

    assert before == len(list(Path("/proc/self/fd").iterdir()))


def test_a_root_without_its_directory_is_empty(tmp_path: Path) -> None:
    """Before anything is put there, the list is empty."""
    assert [] == UserRoots(tmp_path).list(DatasetPath.parse("@public"))
