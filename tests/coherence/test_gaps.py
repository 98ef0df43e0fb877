"""What was missed is made up for: lost messages, lost journals, old journals, silence, clocks, other publishers."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.coherence.history import CHUNK, Version
from tests.coherence.observer import Observer
from tests.coherence.world import HEARTBEAT, World, running_world
from tests.integration.chain.daemons import ROOT
from tests.support.waiting import wait_until

_SOON = 10.0


@pytest.fixture
def observer(tmp_path: Path) -> Iterator[Observer]:
    """Whoever writes and reads, with two datasets that are both known and read."""
    with running_world(tmp_path / "world") as world:
        observer = Observer(world)
        for path in ("a.b2nd", "b.b2nd"):
            observer.replace(path, set(), 3)
            observer.wait_for_last(path, _SOON)
        yield observer


def settled(observer: Observer) -> None:
    """Both datasets are soon read as they were last written."""
    for path in observer.histories:
        observer.wait_for_last(path, _SOON)


def restart(observer: Observer) -> None:
    """Start the publisher, which was stopped."""
    world = observer.world
    world.publisher.start()
    observer.down = time.monotonic()
    wait_until(lambda: world.get("roots").json()[ROOT]["status"] == "online", "the root")
    # Nobody asks until the announcement was taken in: what a read finds out by itself proves nothing.
    time.sleep(0.5)


def stop(observer: Observer) -> None:
    """Stop the publisher."""
    observer.world.publisher.stop()
    observer.down = time.monotonic()


def test_a_lost_change_is_made_up_for_when_the_next_one_comes(observer: Observer) -> None:
    """A gap in the numbers makes the subscriber ask, so both changes are seen."""
    observer.world.weather.plan(["lose"])

    observer.replace("a.b2nd", {0}, 3)
    time.sleep(0.15)
    observer.replace("b.b2nd", {0}, 3)

    settled(observer)
    assert observer.world.subscriber.running


def test_a_lost_last_change_is_made_up_for_by_the_announcement(observer: Observer) -> None:
    """No later change tells of the gap, so the head of the journal does."""
    observer.world.weather.plan(["lose"])

    observer.replace("a.b2nd", {0}, 3)

    settled(observer)


@pytest.mark.parametrize("repaired_by", ["heartbeat", "silence"])
def test_a_subscriber_that_hears_nothing_asks(observer: Observer, repaired_by: str) -> None:
    """When changes and announcements are lost the next heartbeat repairs it, and without any the silence does."""
    announcements = ["lose"] * (2 if repaired_by == "heartbeat" else 1000)
    observer.world.weather.plan(["lose"] * 10, announcements)  # type: ignore[arg-type]

    observer.replace("a.b2nd", {0}, 3)
    time.sleep(3 * HEARTBEAT + 0.3)

    settled(observer)


def test_a_wiped_state_directory_is_a_new_epoch_that_is_listed(observer: Observer) -> None:
    """A publisher without its journal does not say what happened, so the root is listed afresh."""
    stop(observer)
    observer.world.wipe("pub")
    observer.replace("a.b2nd", {1}, 3)
    observer.delete("b.b2nd")

    restart(observer)

    settled(observer)
    assert observer.world.publisher.asked("GET /api/catalog")


@pytest.mark.parametrize("further", [0, 1, 5])
def test_a_publisher_restored_from_a_backup_is_not_believed_blindly(observer: Observer, further: int) -> None:
    """Its numbers go back, and then come to stand for other changes, maybe before anyone hears of it."""
    stop(observer)
    observer.world.copy_state("pub", "backup")
    restart(observer)
    for _ in range(3):
        observer.replace("a.b2nd", {0}, 3)
        settled(observer)
    stop(observer)
    observer.world.copy_state("backup", "pub")
    observer.replace("b.b2nd", {0}, 3)
    for n in range(further):
        (observer.world.root / f"z{n}.txt").write_text("more")

    restart(observer)

    settled(observer)


def test_a_journal_that_does_not_reach_back_is_answered_by_a_list(observer: Observer) -> None:
    """410 makes the subscriber list the root, and nothing is missed."""
    observer.world.subscriber.stop()
    observer.replace("a.b2nd", {0}, 3)
    observer.replace("b.b2nd", {0}, 3)
    time.sleep(0.5)
    with sqlite3.connect(observer.world.directory / "pub/journal.sqlite") as journal:
        journal.execute("DELETE FROM changes")
    journal.close()

    observer.world.subscriber.start()

    settled(observer)


def test_a_root_that_moves_is_read_at_its_new_place(observer: Observer) -> None:
    """Another publisher takes the name over, with other data; nobody is served the old one's for long."""
    world, other = observer.world, observer.world.directory / "other"
    stop(observer)
    moved = World(world._portal, other)
    elsewhere = Observer(moved, stamp=1000)
    for path in ("a.b2nd", "b.b2nd"):
        begun = time.monotonic()
        elsewhere.replace(path, set(), 4)
        stamps = elsewhere.history(path).last.stamps
        observer.history(path).add(stamps, begun)
    world.publisher = world.another_publisher(moved.root, "pub2")

    restart(observer)

    settled(observer)


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 40 * 86400.0])
def test_a_clock_that_jumps_loses_nothing(observer: Observer, jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall clocks are told to people; what is current does not depend on them."""
    now = time.time

    monkeypatch.setattr(time, "time", lambda: now() + jump)
    observer.replace("a.b2nd", {0}, 3)
    settled(observer)
    stop(observer)
    observer.replace("b.b2nd", {0}, 3)
    restart(observer)
    settled(observer)
    monkeypatch.setattr(time, "time", now)
    observer.replace("a.b2nd", {1}, 3)

    settled(observer)
    assert isinstance(observer.history("a.b2nd").last, Version)
    assert observer.read("a.b2nd", 0, 3 * CHUNK)
    assert ROOT in observer.world.get("roots").json()


def test_a_list_during_an_outage_of_the_bus_vouches_for_nothing_later(tmp_path: Path) -> None:
    """What the publisher answers is current when it does; nobody tells of the change after it."""
    # With the heartbeats of other tests the silence would be noticed before anybody is misled.
    with running_world(tmp_path / "world", heartbeat=30.0) as world:
        observer = Observer(world)
        observer.replace("a.b2nd", set(), 3)
        observer.wait_for_last("a.b2nd", _SOON)
        world.bus_down()
        assert 200 == world.get(f"list/{ROOT}").status_code

        observer.replace("a.b2nd", {0}, 3)

        settled(observer)
        world.bus_up()
