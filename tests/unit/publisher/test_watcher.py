"""caterva2.publisher.watcher: which looks the events lead to, and what comes of them."""

import asyncio
import errno
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from caterva2.models import ChangeEntry
from caterva2.publisher.changes import Journal
from caterva2.publisher.directory import Directory
from caterva2.publisher.inotify import Inotify
from caterva2.publisher.watcher import Watcher, _is_within
from tests.support.waiting import wait_until_async


@asynccontextmanager
async def watching(
    tmp_path: Path, *, settle: float = 0.05, rescan: float = 1000.0, inotify: Inotify | None = None
) -> AsyncIterator[tuple[Watcher, Path, list[ChangeEntry]]]:
    """A watcher of `tmp_path/root`, and what it tells."""
    root, told = tmp_path / "root", list[ChangeEntry]()
    root.mkdir(exist_ok=True)
    with Journal(tmp_path / "journal") as journal:
        watcher = Watcher(Directory(root), journal, told.extend, settle=settle, rescan=rescan, inotify=inotify)
        await watcher.catch_up()
        running = asyncio.create_task(watcher.run())
        try:
            yield watcher, root, told
        finally:
            running.cancel()
            await asyncio.wait({running})
            if not running.cancelled():
                running.result()


@pytest.mark.parametrize(
    ("scope", "scopes", "expected"),
    [("a/b", {"a"}, True), ("a/b/c", {"a", "x"}, True), ("a", {"a"}, False), ("ab", {"a"}, False), ("", {""}, False),
     ("a", {"", "a"}, True), ("a/b", {"a/b", "a/bc"}, False)],
)  # fmt: skip
def test_a_scope_within_another_is_left_out(scope: str, scopes: set[str], *, expected: bool) -> None:
    """What lies in a directory that is looked at anyway needs no look of its own."""
    assert expected == _is_within(scope, dict.fromkeys(scopes, 0.0))


def test_a_noticed_path_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any notification of the system a notice is enough, for a file and for a directory."""
    monkeypatch.setattr("caterva2.publisher.watcher._POLL", 1000.0)

    async def scenario() -> None:
        async with watching(tmp_path) as (watcher, root, told):
            (root / "d").mkdir()
            for name in ("a", "d/b", "unnoticed"):
                (root / name).write_text("x")
            for path in ("a", "d", ".hidden", "none"):
                watcher.notice(path)
            await wait_until_async(lambda: len(told) == 2, "two changes")

            assert {"a", "d/b"} == {change.path for change in told}

    asyncio.run(scenario())


def test_what_was_missed_is_found_by_the_next_walk(tmp_path: Path) -> None:
    """Every now and then the whole root is compared, whether something was noticed or not."""

    async def scenario() -> None:
        async with watching(tmp_path, rescan=0.2) as (_, root, told):
            (root / "a").write_text("x")
            await wait_until_async(lambda: told, "the change")

    asyncio.run(scenario())


def test_an_overflow_of_the_queue_leads_to_a_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel dropped events, everything is looked at."""
    monkeypatch.setattr("caterva2.publisher.inotify._OVERFLOW", 0x100)  # a creation counts as an overflow
    monkeypatch.setattr(Directory, "path_of", lambda self, file: None)

    async def scenario() -> None:
        with Inotify() as inotify:
            async with watching(tmp_path, inotify=inotify) as (_, root, told):
                (root / "a").write_text("x")
                await wait_until_async(lambda: told, "the change")

    asyncio.run(scenario())


def test_a_change_is_told_after_it_settled(tmp_path: Path) -> None:
    """A file is told of once it was left alone, soon after that, and only once."""

    async def scenario() -> None:
        with Inotify() as inotify:
            async with watching(tmp_path, settle=0.4, inotify=inotify) as (_, root, told):
                for _ in range(5):
                    (root / "a").write_text(str(time.monotonic()))
                    await asyncio.sleep(0.05)
                await wait_until_async(lambda: told, "the change")

                assert 0.4 <= time.time() - (root / "a").stat().st_ctime
                assert 1 == len(told)

    asyncio.run(scenario())


def test_without_watches_left_the_root_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When the user's watches are used up, one line names the remedy, and walks find the changes."""
    monkeypatch.setattr("caterva2.publisher.watcher._POLL", 0.1)

    def refuse(self: Inotify, directory: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Inotify, "add", refuse)

    async def scenario() -> None:
        (tmp_path / "root/d").mkdir(parents=True)
        with caplog.at_level(logging.WARNING), Inotify() as inotify:
            async with watching(tmp_path, inotify=inotify) as (_, root, told):
                (root / "d/a").write_text("x")
                await wait_until_async(lambda: told, "the change")

    asyncio.run(scenario())

    assert [True] == ["fs.inotify.max_user_watches" in record.getMessage() for record in caplog.records]


def test_a_full_disk_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When the journal cannot be written the watcher goes on, and the change is told when it can."""
    monkeypatch.setattr("caterva2.publisher.watcher._RETRY", 0.1)

    async def scenario() -> None:
        with Inotify() as inotify:
            async with watching(tmp_path, inotify=inotify) as (watcher, root, told):
                db = watcher._journal._writer
                db.execute("PRAGMA query_only = 1")
                (root / "a").write_text("x")
                await wait_until_async(lambda: caplog.records, "the line")
                await asyncio.sleep(0.5)
                db.execute("PRAGMA query_only = 0")
                await wait_until_async(lambda: told, "the change")

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())

    assert 1 == len(caplog.records)


def test_too_many_paths_are_one_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded: beyond it the whole root is looked at."""
    monkeypatch.setattr("caterva2.publisher.watcher._MAX_PENDING", 3)
    monkeypatch.setattr("caterva2.publisher.watcher._POLL", 1000.0)

    async def scenario() -> None:
        async with watching(tmp_path) as (watcher, root, told):
            for n in range(10):
                (root / str(n)).write_text("x")
            for n in range(5):
                watcher.notice(str(n))
            await wait_until_async(lambda: len(told) == 10, "all changes")

    asyncio.run(scenario())
