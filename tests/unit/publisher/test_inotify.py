"""caterva2.publisher.inotify: what the kernel tells, and what must not get lost."""

import os
import select
from pathlib import Path

import pytest

from caterva2.publisher.inotify import Inotify
from tests.support.waiting import wait_until


def read_all(inotify: Inotify) -> set[str]:
    """Everything that is there within a moment."""
    files: set[str] = set()
    while select.select([inotify.fileno()], [], [], 0.05)[0]:
        files |= inotify.read().files
    return files


@pytest.mark.parametrize("change", ["create", "write", "delete", "move", "touch", "link"])
def test_each_change_is_told_with_its_path(tmp_path: Path, change: str) -> None:
    """Whatever happens to a file of a watched directory is told with the file's absolute path."""
    file, other = tmp_path / "a", tmp_path / "b"
    if change != "create":
        file.write_text("x")
    with Inotify() as inotify:
        inotify.add(str(tmp_path))
        if change in {"create", "write"}:
            file.write_text("yy")
        elif change == "delete":
            file.unlink()
        elif change == "move":
            file.rename(other)
        elif change == "touch":
            os.utime(file)
        else:
            os.link(file, other)
        expected = {str(other)} if change == "link" else {str(file), str(other)} if change == "move" else {str(file)}

        assert expected <= read_all(inotify)


def test_reading_a_file_tells_nothing(tmp_path: Path) -> None:
    """What readers do is no change, or the publisher would wake itself."""
    (tmp_path / "a").write_text("x")
    with Inotify() as inotify:
        inotify.add(str(tmp_path))
        (tmp_path / "a").read_text()
        list(tmp_path.iterdir())

        assert set() == read_all(inotify)


def test_links_to_directories_are_not_watched(tmp_path: Path) -> None:
    """A link to a directory is refused, so nothing outside of the root is ever watched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "link").symlink_to("outside")
    with Inotify() as inotify, pytest.raises(OSError, match="Not a directory"):
        inotify.add(str(tmp_path / "link"))


def test_a_moved_directory_is_told_by_its_new_name(tmp_path: Path) -> None:
    """After a move, changes in a directory are not told by the name that it had."""
    (tmp_path / "old/deep").mkdir(parents=True)
    with Inotify() as inotify:
        for directory in ("", "old", "old/deep"):
            inotify.add(str(tmp_path / directory))
        (tmp_path / "old").rename(tmp_path / "new")
        read_all(inotify)
        for directory in ("new", "new/deep"):
            inotify.add(str(tmp_path / directory))
        (tmp_path / "new/deep/a").write_text("x")

        assert {str(tmp_path / "new/deep/a")} == read_all(inotify)


def test_names_that_are_no_utf8_do_not_end_the_stream(tmp_path: Path) -> None:
    """A Latin-1 name is told like any other, and what comes after it too."""
    with Inotify() as inotify:
        inotify.add(str(tmp_path))
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe4d")).write_text("x")
        (tmp_path / "a").write_text("x")

        assert {os.fsdecode(os.fsencode(tmp_path) + b"/b\xe4d"), str(tmp_path / "a")} == read_all(inotify)


def test_an_overflow_is_told(tmp_path: Path) -> None:
    """When the kernel had to drop events, this is said."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with Inotify() as inotify:
        inotify.add(str(tmp_path))
        for n in range(limit // 2 + 100):  # at least two events each
            file = tmp_path / str(n % 50)
            file.touch()
            file.unlink()

        assert wait_until(lambda: inotify.read().lost, "the overflow")


def test_a_closed_one_is_quiet(tmp_path: Path) -> None:
    """After the end nothing is added or read, and no error is raised."""
    with Inotify() as inotify:
        inotify.add(str(tmp_path))
    inotify.add(str(tmp_path))

    assert frozenset() == inotify.read().files
