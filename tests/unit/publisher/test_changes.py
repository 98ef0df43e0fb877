"""caterva2.publisher.changes: what happened, and a journal of it that survives."""

import logging
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caterva2.errors import GoneError, StorageFullError
from caterva2.models import CatalogHead, DatasetEntry
from caterva2.publisher.changes import Difference, Journal, diff
from caterva2.publisher.source import Version
from tests.support.waiting import wait_until


def version(etag: str = "1", nbytes: int = 10) -> Version:
    """A version of a file."""
    return Version("file", etag, nbytes, 1.5)


LOOK = st.dictionaries(st.text("ab/", min_size=1, max_size=4), st.builds(version, st.sampled_from("123")))


def created(*paths: str, etag: str = "1") -> list[Difference]:
    """Differences of files that came."""
    return [Difference("created", path, "file", version(etag)) for path in paths]


# -- diff -------------------------------------------------------------------------------------------------


def test_diff_tells_the_three_kinds_of_change() -> None:
    """What came, what has another version, and what went are told; what stayed is not."""
    before = {"stays": version(), "changes": version("1"), "goes": version()}
    after = {"stays": version(), "changes": version("2"), "comes": version()}

    assert [
        Difference("deleted", "goes", "file", None),
        Difference("modified", "changes", "file", version("2")),
        Difference("created", "comes", "file", version()),
    ] == sorted(diff(before, after), key=lambda each: ["deleted", "modified", "created"].index(each.type))


def test_a_rename_is_a_deletion_and_a_creation() -> None:
    """A rename is told as a deletion, first, and a creation."""
    found = diff({"a": version()}, {"b": version()})

    assert [("deleted", "a"), ("created", "b")] == [(each.type, each.path) for each in found]


@given(LOOK, LOOK)
def test_the_differences_lead_from_one_look_to_the_next(before: dict[str, Version], after: dict[str, Version]) -> None:
    """Applied in their order to what was there, the differences give what is there."""
    state = dict(before)
    for each in diff(before, after):
        assert (each.path in state) == (each.type != "created")
        if each.version is None:
            del state[each.path]
        else:
            state[each.path] = each.version

    assert {path: v.etag for path, v in after.items()} == {path: v.etag for path, v in state.items()}


@given(LOOK)
def test_the_same_look_twice_has_no_differences(look: dict[str, Version]) -> None:
    """Nothing happened between two equal looks."""
    assert [] == diff(look, dict(look))


# -- journal ----------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "journal.sqlite"


def test_changes_are_numbered_without_gaps(file: Path) -> None:
    """Numbers go on from one batch to the next."""
    with Journal(file) as journal:
        numbers = [entry.seq for names in ("ab", "c", "") for entry in journal.apply(created(*names))]

        assert [1, 2, 3] == numbers
        assert 3 == journal.head.seq


def test_a_journal_opened_again_goes_on(file: Path) -> None:
    """Number and datasets survive a restart, and who stands in an earlier epoch can catch up."""
    with Journal(file) as journal:
        journal.apply(created("a", "b"))
        first = journal.head
    with Journal(file) as journal:
        journal.apply(created("c"))
        second = journal.head
    with Journal(file) as journal:
        assert 3 == journal.head.seq
        assert 3 == len({first.epoch, second.epoch, journal.head.epoch})
        assert {"a": version(), "b": version(), "c": version()} == journal.versions()
        assert ["b", "c"] == [each.path for each in journal.since(first.epoch, 1).changes]
        assert ["c"] == [each.path for each in journal.since(first.epoch, 2).changes]
        assert () == journal.since(second.epoch, 3).changes


def test_a_journal_restored_from_a_backup_disowns_what_it_forgot(file: Path, tmp_path: Path) -> None:
    """Who knows more of an epoch than the journal does must list afresh, although the numbers exist again."""
    with Journal(file) as journal:
        journal.apply(created("a"))
    backup = shutil.copy(file, tmp_path / "backup")
    with Journal(file) as journal:
        journal.apply(created("b"))
        lost = journal.head
    shutil.copy(backup, file)
    with Journal(file) as journal:
        journal.apply(created("c", "d"))

        with pytest.raises(GoneError):
            journal.since(lost.epoch, lost.seq)
        with pytest.raises(GoneError):
            journal.since(lost.epoch, 1)


def test_a_backup_of_a_running_journal_disowns_what_came_after_it(file: Path, tmp_path: Path) -> None:
    """The epoch of the backup goes only as far as the backup does."""
    with Journal(file) as journal:
        journal.apply(created("a"))
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(tmp_path / "backup")) as target:
            source.backup(target)
        journal.apply(created("b"))
        head = journal.head
    with Journal(tmp_path / "backup") as journal:
        journal.apply(created("c"))

        assert ["c"] == [each.path for each in journal.since(head.epoch, 1).changes]
        with pytest.raises(GoneError):
            journal.since(head.epoch, 2)


def test_what_a_new_epoch_starts_with_is_no_change(file: Path) -> None:
    """Seeding takes the datasets without counting them, once."""
    with Journal(file) as journal:
        assert not journal.seeded
        journal.seed({"a": version()})

        assert journal.seeded
        assert 0 == journal.head.seq
        assert {"a": version()} == journal.versions()


def test_another_journal_is_another_epoch(tmp_path: Path) -> None:
    """A wiped state directory begins a new epoch."""
    with Journal(tmp_path / "1") as one, Journal(tmp_path / "2") as other:
        assert one.head.epoch != other.head.epoch


def test_since_gives_what_came_after(file: Path) -> None:
    """The answer has the changes after a number, in order, and the head."""
    with Journal(file) as journal:
        journal.apply([*created("a"), *created("b")])
        journal.apply([Difference("deleted", "a", "file", None)])
        answer = journal.since(journal.head.epoch, 1)

        assert 3 == answer.seq
        assert [(2, "created", "b", "1", 10), (3, "deleted", "a", None, 0)] == [
            (each.seq, each.type, each.path, each.etag, each.nbytes) for each in answer.changes
        ]
        assert () == journal.since(journal.head.epoch, 3).changes


@pytest.mark.parametrize(("epoch", "seq"), [("other", 0), (None, 4), (None, -1), (None, 10**17)])
def test_what_the_journal_does_not_reach_is_gone(file: Path, epoch: str | None, seq: int) -> None:
    """Another epoch, and numbers that never were, are answered with GoneError."""
    with Journal(file) as journal:
        journal.apply(created("a", "b", "c"))

        with pytest.raises(GoneError):
            journal.since(epoch or journal.head.epoch, seq)


def test_the_journal_is_bounded_in_length(file: Path) -> None:
    """Only the latest changes are kept; who knows less lists afresh."""
    with Journal(file, max_changes=3) as journal:
        journal.apply(created(*"abcde"))
        epoch = journal.head.epoch

        assert [3, 4, 5] == [each.seq for each in journal.since(epoch, 2).changes]
        with pytest.raises(GoneError):
            journal.since(epoch, 1)
        assert set("abcde") == set(journal.versions())


def test_the_journal_is_bounded_in_time(file: Path) -> None:
    """Changes of last week are dropped, whatever the clock did since."""
    now = [1000.0]
    with Journal(file, max_age=100, clock=lambda: now[0]) as journal:
        journal.apply(created("a"))
        now[0] = 1050.0
        journal.apply(created("b"))
        now[0] = 1120.0
        journal.apply(created("c"))
        epoch = journal.head.epoch

        assert [2, 3] == [each.seq for each in journal.since(epoch, 1).changes]
        with pytest.raises(GoneError):
            journal.since(epoch, 0)


def test_versions_of_a_scope_are_those_at_or_below_it(file: Path) -> None:
    """A scope has its own dataset and those below, but none of a longer name."""
    with Journal(file) as journal:
        journal.apply(created("a", "a/b", "a/c/d", "a.txt", "a0", "ab", "b"))

        assert {"a", "a/b", "a/c/d"} == set(journal.versions(["a"]))
        assert {"a/c/d", "b"} == set(journal.versions(["a/c", "b", "nothing"]))
        assert 7 == len(journal.versions([""]))


def test_the_catalog_is_of_one_moment(file: Path) -> None:
    """A catalog that is being read does not see what is applied meanwhile."""
    with Journal(file) as journal:
        journal.apply(created(*(f"{n:04}" for n in range(2500))))
        catalog = journal.catalog()
        head = next(catalog)
        journal.apply(created("later"))
        entries = [entry for batch in catalog if isinstance(batch, list) for entry in batch]

        assert isinstance(head, CatalogHead)
        assert 2500 == head.seq
        assert [f"{n:04}" for n in range(2500)] == [entry.path for entry in entries]
        assert DatasetEntry(path="0000", kind="file", etag="1", nbytes=10, mtime=1.5) == entries[0]


def test_the_version_of_one_dataset_is_looked_up(file: Path) -> None:
    """A dataset's ETag is at hand; there is none for what is not there."""
    with Journal(file) as journal:
        journal.apply(created("a", etag="x"))

        assert ("x", None) == (journal.etag("a"), journal.etag("b"))


def test_births_ascend_over_restarts_and_wiped_journals(tmp_path: Path) -> None:
    """A new life's births are above all earlier ones, with the same journal or a new one."""
    with Journal(tmp_path / "1", clock=lambda: 100.0) as journal:
        birth = journal.begin_births() + 5
        journal.keep_birth(birth)
        journal.keep_birth(birth - 3)
    with Journal(tmp_path / "1", clock=lambda: 50.0) as journal:
        assert birth == journal.begin_births()
    with Journal(tmp_path / "2", clock=lambda: 101.0) as journal:
        assert birth < journal.begin_births()


@pytest.mark.parametrize("damage", ["garbage", "middle", "schema"])
def test_a_damaged_journal_is_moved_aside(file: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """A journal that cannot be read makes place for a new epoch, with one line in the log."""
    with Journal(file) as journal:
        journal.apply(created(*(f"{n:04}" for n in range(2000))))
        epoch = journal.head.epoch
    _damage(file, damage)
    with caplog.at_level(logging.WARNING), Journal(file) as journal:
        assert epoch != journal.head.epoch
        assert {} == journal.versions()
        assert 1 == len(caplog.records)
        assert 1 == len([*file.parent.glob("journal.sqlite.damaged-*")])


def _damage(file: Path, how: str) -> None:
    if how == "schema":
        with sqlite3.connect(file) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        return
    data = bytearray(file.read_bytes())
    at = slice(0, 100) if how == "garbage" else slice(4096, 20 * 4096)
    data[at] = b"x" * len(data[at])
    file.write_bytes(data)


def test_a_change_that_cannot_be_written_is_not_counted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no room on the disk nothing is numbered, and the journal stays usable."""
    with Journal(file) as journal:
        journal.apply(created("a"))
        pages = journal._writer.execute("PRAGMA page_count").fetchone()[0]
        journal._writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFullError):
            journal.apply(created(*(f"{n:04}" for n in range(5000))))

        assert 1 == journal.head.seq
        assert {"a"} == set(journal.versions())
        journal._writer.execute("PRAGMA max_page_count = 1000000")
        assert 2 == journal.apply(created("b"))[0].seq


_WRITER = """
import sys, itertools, pathlib
from caterva2.publisher.changes import Difference, Journal
from caterva2.publisher.source import Version
with Journal(pathlib.Path(sys.argv[1])) as journal:
    for n in itertools.count(journal.head.seq // 7):
        batch = [Difference("created", f"{n}/{i}", "file", Version("file", "e", 1, 1.0)) for i in range(7)]
        print(journal.apply(batch)[-1].seq, flush=True)
"""


def test_a_killed_publisher_has_lost_nothing_that_it_told(file: Path, tmp_path: Path) -> None:
    """After kill -9 the journal has every change that was told, whole batches, and no gaps."""
    for _ in range(5):
        with (tmp_path / "told").open("wb") as out:
            process = subprocess.Popen([sys.executable, "-c", _WRITER, str(file)], stdout=out)
            wait_until(lambda: (tmp_path / "told").read_bytes().count(b"\n") >= 5, "five batches")
            process.send_signal(signal.SIGKILL)
            process.wait()
        told = int((tmp_path / "told").read_bytes().splitlines()[-2])
        with Journal(file) as journal:
            head = journal.head.seq
            seqs = [each.seq for each in journal.since(journal.head.epoch, 0).changes]

            assert told <= head
            assert 0 == head % 7
            assert [*range(1, head + 1)] == seqs
            assert head == len(journal.versions())
