"""Storms of changes: they cost few messages, hold nobody up, and end at the last version."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.messages import MAX_PAYLOAD
from tests.coherence.observer import Observer
from tests.coherence.world import World, running_world
from tests.integration.chain.daemons import ROOT
from tests.support.waiting import wait_until

_SOON = 15.0
_FILES = 10_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A publisher and a subscriber."""
    with running_world(tmp_path / "world") as world:
        yield world


def test_one_dataset_rewritten_100_times_a_second_settles_on_its_last_version(world: World) -> None:
    """Its readers get one version each, some are told to come again, and the last version is there soon after."""
    observer = Observer(world)
    observer.replace("a.b2nd", set(), 5)

    def work() -> None:
        for n in range(300):
            due = time.monotonic() + 0.01
            observer.replace("a.b2nd", {n % 5}, 5)
            time.sleep(max(0.0, due - time.monotonic()))

    observer.read_while("a.b2nd", work)
    observer.wait_for_last("a.b2nd", _SOON)

    told = world.changes
    assert len(told) < 60, "changes of one path are coalesced"
    assert observer.reads > 0


@pytest.mark.timeout(180)
def test_10000_files_replaced_in_seconds_are_announced_in_few_messages(world: World) -> None:
    """The messages are within the payload limit, each path is told about once, and reads go on meanwhile."""
    observer = Observer(world)
    observer.replace("a.b2nd", set(), 3)
    observer.wait_for_last("a.b2nd", _SOON)
    folder = world.root / "many"
    folder.mkdir()
    for n in range(_FILES):
        (folder / f"{n}.txt").write_bytes(b"old")
    listed = lambda: len(world.get(f"list/{ROOT}/many").json())  # noqa: E731
    wait_until(lambda: listed() == _FILES, "the files", 60)
    world.changes.clear()
    world.payloads.clear()
    taken: list[float] = []
    done = threading.Event()

    def replace_all() -> None:
        for n in range(_FILES):
            part = folder / f"{n}.part"
            part.write_bytes(b"newer")
            part.replace(folder / f"{n}.txt")
        done.set()

    thread = threading.Thread(target=replace_all)
    thread.start()
    while not done.is_set() or len(set(world.changes)) < _FILES:
        start = time.monotonic()
        observer.read("a.b2nd", 0, 1000)
        taken.append(time.monotonic() - start)
        assert len(taken) < 100_000
        time.sleep(0.01)
    thread.join()

    wait_until(lambda: world.get(f"download/{ROOT}/many/{_FILES - 1}.txt").content == b"newer", "the last one", 30)
    assert len(world.changes) < 2 * _FILES, "changes of one path are coalesced"
    assert max(world.payloads) <= MAX_PAYLOAD
    # A batch each 100 ms at most, so their number grows with the time that the machine takes to write the files.
    assert len(world.payloads) < _FILES / 20, "changes are sent many at once"
    assert sorted(taken)[len(taken) // 2] < 0.1, "reads are not held up"
    assert max(taken) < 2.0
