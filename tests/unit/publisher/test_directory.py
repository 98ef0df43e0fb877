"""caterva2.publisher.directory: what of a directory is published, and how it is opened."""

import logging
import os
import socket
import stat
from pathlib import Path

import blosc2
import numpy as np
import pytest

from caterva2.errors import ForbiddenError, NotFoundError, UnavailableError, VersionChangedError
from caterva2.publisher.directory import Directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory to publish."""
    made = tmp_path / "root"
    made.mkdir()
    return made


def write(file: Path, text: str = "x") -> Path:
    """Write a file, with the directories that it needs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def sparse(file: Path, n: int = 4) -> Path:
    """Write a sparse frame."""
    file.parent.mkdir(parents=True, exist_ok=True)
    blosc2.asarray(np.arange(n * 100), chunks=(100,), urlpath=str(file), contiguous=False)
    return file


# -- looking ----------------------------------------------------------------------------------------------


def test_a_look_finds_files_of_each_kind(root: Path) -> None:
    """Files are datasets of the kind that their name's ending tells, at any depth."""
    for name in ("a.b2nd", "dir/f.b2frame", "dir/deep/x.txt", "b2nd", "a.b2nd.txt", "sp ace/ü#%?+.b2nd"):
        write(root / name)

    assert {
        "a.b2nd": "array",
        "dir/f.b2frame": "frame",
        "dir/deep/x.txt": "file",
        "b2nd": "file",
        "a.b2nd.txt": "file",
        "sp ace/ü#%?+.b2nd": "array",
    } == {path: version.kind for path, version in Directory(root).look().items()}


@pytest.mark.parametrize(
    "name",
    [".hidden", ".git/config", "a.part", "a.b2nd.partial", "a.tmp", "a~", ".#a", "a.swp", "a.b2nd.b2lock",
     "dir.tmp/a", "_caterva2/pub/journal.sqlite", "sub/.hidden/x"],
)  # fmt: skip
def test_hidden_and_partial_files_are_not_published(root: Path, name: str) -> None:
    """What is hidden, unfinished or a daemon's state is neither found nor opened."""
    write(root / name)
    directory = Directory(root)

    assert {} == directory.look()
    assert directory.scope(name) is None
    with pytest.raises(NotFoundError):
        directory.open(name)


def test_the_state_directory_is_not_published(root: Path) -> None:
    """A state directory inside of the root is left out, whatever it is called."""
    write(root / "state/journal")
    write(root / "data")
    directory = Directory(root, exclude=[root / "state"])

    assert {"data"} == set(directory.look())
    assert directory.scope("state/journal") is None
    with pytest.raises(NotFoundError):
        directory.open("state/journal")


def test_a_sparse_frame_is_one_dataset(root: Path) -> None:
    """A directory that holds a sparse frame is listed once, and its files are no datasets."""
    sparse(root / "dir/s.b2nd")
    directory = Directory(root)

    assert {"dir/s.b2nd": "array"} == {path: version.kind for path, version in directory.look().items()}
    assert "dir/s.b2nd" == directory.scope("dir/s.b2nd/chunks.b2frame")
    with pytest.raises(NotFoundError):
        directory.open("dir/s.b2nd/chunks.b2frame")


def test_a_directory_that_is_only_named_as_a_frame_is_a_directory(root: Path) -> None:
    """Without an index a directory named *.b2nd is walked like any other."""
    write(root / "d.b2nd/x.txt")
    directory = Directory(root)

    assert {"d.b2nd/x.txt"} == set(directory.look())
    with directory.open("d.b2nd/x.txt") as dataset:
        assert b"x" == dataset.pread(0, 10)
    with pytest.raises(NotFoundError):
        directory.open("d.b2nd")


@pytest.mark.parametrize("what", ["rewrite", "same size and times", "replace", "chmod"])
def test_each_change_of_a_file_is_another_version(root: Path, what: str) -> None:
    """The ETag changes with the content, also when size and modification time were set back."""
    file = write(root / "a", "old")
    before, times = Directory(root).look()["a"], file.stat()
    if what == "chmod":
        file.chmod(0o600)
    elif what == "replace":
        write(root / "a.tmp", "new").replace(file)
    else:
        file.write_text("new" if what == "same size and times" else "longer")
    if what == "same size and times":
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert before.etag != Directory(root).look()["a"].etag


def test_each_change_of_a_chunk_is_another_version_of_a_sparse_frame(root: Path) -> None:
    """The ETag of a sparse frame stands for all its files."""
    sparse(root / "s.b2nd")
    before = Directory(root).look()["s.b2nd"].etag
    assert before == Directory(root).look()["s.b2nd"].etag
    os.utime(root / "s.b2nd/00000002.chunk")

    assert before != Directory(root).look()["s.b2nd"].etag


def test_a_look_at_a_scope_finds_what_is_at_or_below(root: Path) -> None:
    """A file, a directory, a sparse frame or nothing: only what is there is found."""
    write(root / "d/a")
    write(root / "d/e/b")
    write(root / "c")
    sparse(root / "s.b2nd")
    directory = Directory(root)
    found = {scope: sorted(directory.look(scope)) for scope in ("d", "d/e", "d/a", "c", "s.b2nd", "none", "none/x")}

    assert {
        "d": ["d/a", "d/e/b"], "d/e": ["d/e/b"], "d/a": ["d/a"], "c": ["c"], "s.b2nd": ["s.b2nd"],
        "none": [], "none/x": [],
    } == found  # fmt: skip
    assert directory.look("d/a")["d/a"] == directory.look()["d/a"]


def test_a_look_tells_the_directories_that_it_visits_first(root: Path) -> None:
    """Each directory is told before it is listed, so that a watch misses nothing."""
    write(root / "d/a")
    write(root / ".hidden/a")
    sparse(root / "s.b2nd")
    visited: list[str] = []
    Directory(root).look(visit=visited.append)

    assert sorted(map(str, (root, root / "d", root / "s.b2nd"))) == sorted(visited)


def test_names_that_are_no_utf8_are_skipped_with_one_line(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A Latin-1 file name harms nothing, and is told of once."""
    write(root / "good")
    Path(os.fsdecode(os.fsencode(root) + b"/b\xe4d")).write_text("x")
    directory = Directory(root)
    with caplog.at_level(logging.WARNING):
        looks = [directory.look(), directory.look()]

    assert [{"good"}, {"good"}] == [set(look) for look in looks]
    assert 1 == len(caplog.records)


def test_what_is_no_regular_file_is_never_opened(root: Path) -> None:
    """FIFOs, sockets and devices are not published, and asking for one does not block."""
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket"))
        (root / "link").symlink_to("fifo")
        (root / "zero").symlink_to("/dev/zero")
        directory = Directory(root)

        assert {} == directory.look()
        for name in ("fifo", "socket", "link", "zero"):
            with pytest.raises(NotFoundError):
                directory.open(name)


def test_links_are_followed_only_within_the_root(root: Path, tmp_path: Path) -> None:
    """A link to a file of the root is a dataset; one that leads out, dangles or circles is not there at all."""
    secret = write(tmp_path / "secret", "secret")
    write(root / "d/a", "inside")
    (root / "inside").symlink_to("d/a")
    (root / "absolute").symlink_to(root / "d/a")
    (root / "escape").symlink_to(secret)
    (root / "relative").symlink_to("../secret")
    (root / "chain").symlink_to("relative")
    (root / "dangling").symlink_to("nowhere")
    (root / "circle").symlink_to("circle")
    (root / "passwd").symlink_to("/etc/passwd")
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to(".")
    directory = Directory(root)

    assert {"d/a", "inside", "absolute"} == set(directory.look())
    assert {"inside", "absolute"} == set(directory.aliases)
    for name in ("inside", "absolute"):
        with directory.open(name) as dataset:
            assert b"inside" == dataset.pread(0, 100)
            assert directory.look()[name] == dataset.version
    for name in ("escape", "relative", "chain", "dangling", "circle", "passwd", "up/secret", "up", "loop/d/a", "loop"):
        assert {} == directory.look(name)
        with pytest.raises(NotFoundError):
            directory.open(name)


def test_hard_links_are_known_as_aliases(root: Path) -> None:
    """A file with two names may change without an event at one of them."""
    write(root / "a")
    os.link(root / "a", root / "b")
    directory = Directory(root)
    directory.look()

    assert {"a", "b"} == set(directory.aliases)


def test_the_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    """A root given through a link is the directory that it leads to."""
    write(root / "a", "content")
    (tmp_path / "link").symlink_to(root)
    directory = Directory(tmp_path / "link")

    assert {"a"} == set(directory.look())
    with directory.open("a") as dataset:
        assert b"content" == dataset.pread(0, 100)


def test_a_missing_root_is_not_an_empty_one(root: Path) -> None:
    """When the root is away nothing is known of its datasets, and they do not count as deleted."""
    directory = Directory(root)
    root.rmdir()
    for scope in ("", "a"):
        with pytest.raises(UnavailableError):
            directory.look(scope)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_forbidden(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unreadable directory is told of once, an unreadable file is listed and answers with ForbiddenError."""
    write(root / "closed/a")
    write(root / "a").chmod(0)
    (root / "closed").chmod(0)
    directory = Directory(root)
    try:
        with caplog.at_level(logging.WARNING):
            assert [{"a"}, {"a"}] == [set(directory.look()), set(directory.look())]
        with pytest.raises(ForbiddenError):
            directory.open("a")
    finally:
        (root / "closed").chmod(stat.S_IRWXU)

    assert 1 == len(caplog.records)


@pytest.mark.parametrize("path", ["", "..", "../a", "a/../a", "/etc/passwd", "a/b", "a/", "x" * 300, "a\0b", "\udcff"])
def test_paths_that_are_none_find_nothing(root: Path, path: str) -> None:
    """Whatever is asked for, nothing outside of the root is opened."""
    write(root / "a")
    with pytest.raises(NotFoundError):
        Directory(root).open(path)


# -- versions of open datasets ----------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["write", "truncate", "replace", "delete", "append"])
def test_an_open_dataset_notices_every_change(root: Path, change: str) -> None:
    """Once the file changed, in place or by replacement, check raises; before, it does not."""
    file = write(root / "a", "old")
    with Directory(root).open("a") as dataset:
        dataset.check()
        if change == "write":
            file.write_text("new")
        elif change == "truncate":
            os.truncate(file, 1)
        elif change == "replace":
            write(root / "b", "new").replace(file)
        elif change == "delete":
            file.unlink()
        else:
            with file.open("a") as out:
                out.write("more")

        with pytest.raises(VersionChangedError):
            dataset.check()


def test_an_open_sparse_frame_notices_every_change(root: Path) -> None:
    """A chunk that is written or a file that goes is another version."""
    for n, change in enumerate((lambda d: os.utime(d / "00000001.chunk"), lambda d: (d / "chunks.b2frame").unlink())):
        file = sparse(root / f"{n}.b2nd")
        with Directory(root).open(file.name) as dataset:
            dataset.check()
            change(file)

            with pytest.raises(VersionChangedError):
                dataset.check()


def test_nothing_stays_open(root: Path) -> None:
    """Looks, opened datasets and refusals leave no file descriptor behind."""
    write(root / "d/a")
    sparse(root / "s.b2nd")
    (root / "d/out").symlink_to("/etc/passwd")
    directory = Directory(root)
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(20):
        directory.look()
        for path in ("d/a", "s.b2nd"):
            with directory.open(path) as dataset:
                dataset.check()
        for path in ("d/out", "d/none", "s.b2nd/x", "d", "d/a/b"):
            with pytest.raises(NotFoundError):
                directory.open(path)

    assert before == len([*Path("/proc/self/fd").iterdir()])
