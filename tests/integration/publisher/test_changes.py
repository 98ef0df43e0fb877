"""What happens in a root reaches the bus and the journal, whatever happens meanwhile."""

import asyncio
import os
import shutil
import threading
import time
from pathlib import Path

import blosc2
import httpx
import numpy as np
import pytest

from caterva2.publisher.directory import Directory
from caterva2.publisher.watcher import PATIENCE
from tests.integration.publisher.harness import Running, running, settings_for
from tests.support.waiting import wait_until_async


def test_each_kind_of_change_is_told(tmp_path: Path) -> None:
    """Created, modified, renamed and deleted files are told with their versions, numbered without gaps."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        async with running(settings) as pub:
            file = settings.root / "sub/dir/a.txt"
            file.parent.mkdir(parents=True)
            file.write_text("one")
            created = await pub.wait_told("sub/dir/a.txt", "created")
            file.write_text("two")
            modified = await pub.wait_told("sub/dir/a.txt", "modified")
            assert modified.etag != created.etag
            assert modified.etag == (await pub.catalog())["sub/dir/a.txt"].etag
            file.rename(settings.root / "b.txt")
            await pub.wait_told("sub/dir/a.txt", "deleted")
            renamed = await pub.wait_told("b.txt", "created")
            assert {"b.txt": renamed.etag} == {path: e.etag for path, e in (await pub.catalog()).items()}
            (settings.root / "b.txt").unlink()
            await pub.wait_told("b.txt", "deleted")

            assert {} == await pub.catalog()
            assert [*range(1, len(pub.changes) + 1)] == [change.seq for change in pub.changes]
            since = await pub.changes_since(pub.changes[0].epoch, 0)
            assert [(c.seq, c.type, c.path, c.etag) for c in pub.changes] == [
                (c.seq, c.type, c.path, c.etag) for c in since
            ]

    asyncio.run(scenario())


def test_several_writes_are_one_change(tmp_path: Path) -> None:
    """A save of many quick writes is told once, after it, at the version that is read then."""

    async def scenario() -> None:
        settings = settings_for(tmp_path, settle=0.5)
        async with running(settings) as pub:
            for n in range(20):
                (settings.root / "a").write_text(f"{n}" * 1000)
                await asyncio.sleep(0.01)
            change = await pub.wait_told("a", "created")

            assert 1 == len(pub.changes)
            assert change.etag == (await pub.skeleton("a")).entry.etag

    asyncio.run(scenario())


def test_the_head_follows_the_last_change(tmp_path: Path) -> None:
    """Within two seconds after a change the root is announced with the number of that change."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        async with running(settings) as pub:
            (settings.root / "a").write_text("x")
            change = await pub.wait_told("a", "created")
            told = time.monotonic()
            await wait_until_async(lambda: pub.announcements[-1].seq == change.seq, "the head")

            assert 2 > time.monotonic() - told

    asyncio.run(scenario())


def test_a_file_that_never_settles_is_told_of_all_the_same(tmp_path: Path) -> None:
    """While a file is written without pause its changes are told every two seconds, not never."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        stop = threading.Event()
        async with running(settings) as pub:
            writer = threading.Thread(target=_write_on, args=(settings.root / "log", stop))
            writer.start()
            try:
                await pub.wait_told("log", "created", timeout=2 * PATIENCE + 5)
                await pub.wait_told("log", "modified", timeout=2 * PATIENCE + 5)

                assert 4 >= len(pub.changes)
            finally:
                stop.set()
                await asyncio.to_thread(writer.join)
            await wait_until_async(lambda: _is_current(pub, settings.root, "log"), "the last version")

    asyncio.run(scenario())


def _write_on(file: Path, stop: threading.Event) -> None:
    with file.open("ab", buffering=0) as out:
        while not stop.wait(0.01):
            out.write(b"line\n")


def _is_current(pub: Running, root: Path, path: str) -> bool:
    return pub.told().get(path) == Directory(root).look()[path].etag


def test_ten_thousand_files_are_told_in_batches(tmp_path: Path) -> None:
    """A bulk arrives completely, in few messages, and HTTP answers quickly all the while."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        async with running(settings) as pub:
            writer = asyncio.create_task(asyncio.to_thread(_write_many, settings.root))
            slowest = 0.0
            while not writer.done() or len(pub.told()) < 10_000:
                began = time.monotonic()
                (await pub.http.get("/health")).raise_for_status()
                slowest = max(slowest, time.monotonic() - began)
                await asyncio.sleep(0.01)
                assert slowest < 5
            await wait_until_async(lambda: pub.announcements[-1].seq == pub.changes[-1].seq, "the head")

            assert 10_000 == len(await pub.catalog())
            assert [*range(1, len(pub.changes) + 1)] == [change.seq for change in pub.changes]
            assert 2000 > len([event for event in pub.heard if event not in pub.announcements])

    asyncio.run(scenario())


def _write_many(root: Path) -> None:
    for directory in range(100):
        where = root / f"d{directory:02}"
        where.mkdir()
        for n in range(100):
            (where / f"{n:02}.txt").write_text("x")


def test_a_moved_directory_is_followed(tmp_path: Path) -> None:
    """Files of a renamed directory are told by their new names, also what changes there later."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        (settings.root / "old/deep").mkdir(parents=True)
        (settings.root / "old/deep/a").write_text("x")
        async with running(settings) as pub:
            (settings.root / "old").rename(settings.root / "new")
            await pub.wait_told("old/deep/a", "deleted")
            await pub.wait_told("new/deep/a", "created")
            (settings.root / "new/deep/a").write_text("changed")
            await pub.wait_told("new/deep/a", "modified")
            shutil.rmtree(settings.root / "new")
            await pub.wait_told("new/deep/a", "deleted")

            assert {} == await pub.catalog()

    asyncio.run(scenario())


def test_a_changed_target_changes_the_link(tmp_path: Path) -> None:
    """A symbolic link, and a second hard link, are told of when the file behind them changes."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        (settings.root / "a").write_text("one")
        os.link(settings.root / "a", settings.root / "hard")
        (settings.root / "soft").symlink_to("a")
        async with running(settings) as pub:
            (settings.root / "a").write_text("two")
            for name in ("a", "hard", "soft"):
                await pub.wait_told(name, "modified")

    asyncio.run(scenario())


def test_a_sparse_frame_is_told_as_one_dataset(tmp_path: Path) -> None:
    """Creating, changing and removing a sparse frame is told of the frame, never of its files."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        async with running(settings) as pub:
            made = blosc2.asarray(
                np.arange(1000), chunks=(100,), urlpath=str(settings.root / "s.b2nd"), contiguous=False
            )
            await pub.wait_told("s.b2nd", "created")
            made[150] = 1
            del made
            await pub.wait_told("s.b2nd", "modified")
            shutil.rmtree(settings.root / "s.b2nd")
            await pub.wait_told("s.b2nd", "deleted")
            await wait_until_async(lambda: pub.changes[-1].type == "deleted", "the end")

            assert {"s.b2nd"} == {change.path for change in pub.changes if change.type == "deleted"} - {
                change.path for change in pub.changes if change.type == "created" and change.path != "s.b2nd"
            }

    asyncio.run(scenario())


def test_unpublished_files_are_not_told(tmp_path: Path) -> None:
    """Hidden and partial files change nothing; renamed to their place they are told of."""

    async def scenario() -> None:
        settings = settings_for(tmp_path, statedir=tmp_path / "root" / "state")
        async with running(settings) as pub:
            (settings.root / ".hidden").write_text("x")
            (settings.root / "a.part").write_text("x")
            (settings.root / "a.part").rename(settings.root / "a")
            await pub.wait_told("a", "created")

            assert {"a"} == set(pub.told())

    asyncio.run(scenario())


def test_what_changed_while_it_was_down_is_told(tmp_path: Path) -> None:
    """A restarted publisher goes on with its numbers, and who was there before can catch up."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        for name in ("stays", "changes", "goes"):
            (settings.root / name).write_text("one")
        async with running(settings) as pub:
            head = pub.announcements[-1]
            assert {"stays", "changes", "goes"} == set(await pub.catalog())
        (settings.root / "changes").write_text("two")
        (settings.root / "goes").unlink()
        (settings.root / "comes").write_text("one")
        async with running(settings) as pub:
            later = pub.announcements[-1]
            found = await pub.changes_since(head.epoch, head.seq)

            assert head.seq + 3 == later.seq
            assert head.epoch != later.epoch
            assert later.birth > head.birth
            assert {("changes", "modified"), ("goes", "deleted"), ("comes", "created")} == {
                (c.path, c.type) for c in found
            }

    asyncio.run(scenario())


def test_a_wiped_state_is_a_new_epoch(tmp_path: Path) -> None:
    """Without its journal a publisher begins a new epoch, with a higher birth."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        async with running(settings) as pub:
            before = pub.announcements[-1]
        shutil.rmtree(settings.statedir)
        async with running(settings) as pub:
            after = pub.announcements[-1]
            with pytest.raises(httpx.HTTPStatusError, match="410"):
                await pub.changes_since(before.epoch, 0)

            assert before.epoch != after.epoch
            assert before.birth < after.birth

    asyncio.run(scenario())


def test_a_reader_that_meets_another_version_has_it_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no notification at all, asking for a changed dataset makes the change known."""
    monkeypatch.setattr("caterva2.publisher.app.open_inotify", lambda: None)
    monkeypatch.setattr("caterva2.publisher.watcher._POLL", 1000.0)

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        for name in ("a", "b"):
            (settings.root / name).write_text("one")
        async with running(settings) as pub:
            (settings.root / "a").write_text("two")
            (settings.root / "b").unlink()
            head = await pub.skeleton("a")
            assert 404 == (await pub.http.get("/api/info/b")).status_code
            change = await pub.wait_told("a", "modified")
            await pub.wait_told("b", "deleted")

            assert head.entry.etag == change.etag

    asyncio.run(scenario())


def test_without_notifications_the_root_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When the system gives no notifications, one line says how to get them, and changes are found by walking."""

    def refuse() -> None:
        raise OSError(24, "too many instances")

    monkeypatch.setattr("caterva2.publisher.watcher.Inotify", refuse)
    monkeypatch.setattr("caterva2.publisher.watcher._POLL", 0.2)

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        async with running(settings) as pub:
            (settings.root / "a").write_text("x")
            await pub.wait_told("a", "created")

    asyncio.run(scenario())

    assert 1 == len([r for r in caplog.records if "max_user_instances" in r.getMessage()])


def test_a_root_that_is_away_for_a_while_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the root is gone reads are refused and nothing is told as deleted; then it goes on."""
    monkeypatch.setattr("caterva2.publisher.watcher._RETRY", 0.1)

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        (settings.root / "a").write_text("x")
        async with running(settings) as pub:
            settings.root.rename(tmp_path / "away")
            assert (await pub.http.get("/api/info/a")).status_code in {404, 503}
            await asyncio.sleep(0.3)
            (tmp_path / "away").rename(settings.root)
            (settings.root / "b").write_text("x")
            await pub.wait_told("b", "created")

            assert {"a", "b"} == set(await pub.catalog())
            assert {"b"} == set(pub.told())

    asyncio.run(scenario())


def test_a_bus_that_was_away_costs_no_change(tmp_path: Path) -> None:
    """What happened while the bus was down is in the head of the next announcement, and in the journal."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        async with running(settings) as pub:
            head = pub.announcements[-1]
            pub.broker.down()
            (settings.root / "a").write_text("x")
            deadline = time.monotonic() + 10
            while "a" not in await pub.catalog():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            pub.broker.up()
            await wait_until_async(lambda: pub.announcements[-1].seq == head.seq + 1, "the head")
            (settings.root / "b").write_text("x")
            change = await pub.wait_told("b", "created")

            assert head.seq + 2 == change.seq
            assert ["a", "b"] == [c.path for c in await pub.changes_since(head.epoch, head.seq)]

    asyncio.run(scenario())
