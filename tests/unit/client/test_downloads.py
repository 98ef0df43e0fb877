from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from caterva2.client.api import Client
from caterva2.errors import NotFoundError, PathError, UnavailableError
from tests.unit.client.subscriber import FakeSubscriber, broken


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_by_default_below_the_current_directory(subscriber: FakeSubscriber) -> None:
    """Without a place, a file is written under its own path, and directories are made."""
    subscriber.put("foo/dir 1/ü.txt", b"content")

    path = Client(subscriber.url).download("foo/dir 1/ü.txt")

    assert Path("foo/dir 1/ü.txt") == path
    assert path.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("localpath", "expected"),
    [("other.txt", "other.txt"), ("new/", "new/a.txt"), ("there", "there/a.txt"), (Path("there"), "there/a.txt")],
)
def test_where_one_wants_it(subscriber: FakeSubscriber, localpath: str | Path, expected: str) -> None:
    """A file name is taken as it is, a directory (existing, or with a slash) gets the file's own name."""
    Path("there").mkdir()
    subscriber.put("foo/a.txt", b"content")

    path = Client(subscriber.url).download("foo/a.txt", localpath)

    assert Path(expected) == path
    assert path.read_bytes() == b"content"


def test_progress_and_memory(subscriber: FakeSubscriber) -> None:
    """A large file streams: memory stays small, and the caller is told how far it is."""
    subscriber.put("foo/big", bytes(40_000_000))
    told: list[tuple[int, int | None]] = []
    client = Client(subscriber.url)
    client.download("foo/big", "warm-up")
    told.clear()
    tracemalloc.start()
    try:
        client.download("foo/big", progress=lambda done, total: told.append((done, total)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert told[-1] == (40_000_000, 40_000_000)
    assert len(told) > 10
    assert told == sorted(told)
    assert peak < 20_000_000


def test_a_broken_download_leaves_nothing(subscriber: FakeSubscriber) -> None:
    """A download that breaks off keeps the file that was there, and leaves no part behind."""
    subscriber.put("foo/a.txt", b"content")
    Path("old.txt").write_text("old")
    subscriber.raw["GET /api/download/foo/a.txt"] = [broken(b"half", promised=100)]

    with pytest.raises(UnavailableError, match="broke off"):
        Client(subscriber.url).download("foo/a.txt", "old.txt")

    assert ["old.txt"] == os.listdir()  # noqa: PTH208
    assert Path("old.txt").read_text() == "old"


def test_an_unknown_file_makes_no_file(subscriber: FakeSubscriber) -> None:
    """A file that does not exist creates none here."""
    with pytest.raises(NotFoundError):
        Client(subscriber.url).download("foo/nosuch", "here")

    assert [] == os.listdir()  # noqa: PTH208


@pytest.mark.parametrize("path", ["foo/../../x", "/etc/passwd", "..", "foo//x"])
def test_no_path_leaves_the_directory(subscriber: FakeSubscriber, path: str) -> None:
    """A path that could lead out of the current directory is refused before anything is asked."""
    with pytest.raises(PathError):
        Client(subscriber.url).download(path)

    assert [] == subscriber.requests


def test_the_callers_own_error_passes(subscriber: FakeSubscriber) -> None:
    """An exception of the progress callback reaches the caller unchanged, and the part is removed."""
    subscriber.put("foo/a.txt", b"content")

    def stop(done: int, total: int | None) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match=r"^stop$"):
        Client(subscriber.url).download("foo/a.txt", "x", progress=stop)

    assert [] == os.listdir()  # noqa: PTH208
