"""Clients that follow along: events of what changed, through the whole chain, and how current things are."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from caterva2.client import Change, Dataset, Root, Watch
from caterva2.client.answers import ServerEvent, read_events
from caterva2.errors import BadRequestError, NotFoundError, UnavailableError
from tests.integration.chain.daemons import ROOT, Chain, open_chain, running_chain
from tests.integration.chain.test_change import write
from tests.support.processes import Process
from tests.support.programs import command
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain whose daemons all go on running."""
    with running_chain(tmp_path_factory.mktemp("events")) as chain:
        chain.client.subscribe(ROOT)
        yield chain


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """A chain of one's own, whose daemons can be stopped."""
    with running_chain(tmp_path / "chain", max_staleness=0.1) as chain:
        yield chain


@pytest.fixture
def root(chain: Chain) -> Root:
    """The root of that chain, as its client sees it."""
    root = chain.client.get(ROOT)
    assert isinstance(root, Root)
    return root


@contextmanager
def listening(
    chain: Chain, query: str = "", last_id: str = ""
) -> Iterator[tuple[httpx.Response, Iterator[ServerEvent]]]:
    """The stream of events, without those that only give an id."""
    headers = {"last-event-id": last_id} if last_id else {}
    url = f"{chain.subscriber.url}/api/events{query}"
    with httpx.Client(trust_env=False, timeout=20) as client, client.stream("GET", url, headers=headers) as answer:
        yield answer, (event for event in read_events(answer.iter_raw()) if event.name)


def told(watch: Watch, path: str, kind: str = "", timeout: float = 20.0) -> list[Change]:
    """The changes up to the first one of a path (and type)."""
    changes, end = list[Change](), time.monotonic() + timeout
    while time.monotonic() < end:
        change = watch.wait(0.5)
        if change is not None:
            changes.append(change)
            if change.path == path and kind in {"", change.type}:
                return changes
    raise AssertionError(f"no change of {path} was told; but {changes}")


# -- the stream -------------------------------------------------------------------------------------------


def test_events_tell_what_changed(shared: Chain) -> None:
    """Each change is one event with an id, and says what the list and the metadata say."""
    file = shared.root / "life.txt"
    with listening(shared, "?root=foo&path=life.txt") as (answer, events):
        file.write_bytes(b"one")
        created = next(events)
        file.write_bytes(b"three")
        modified = next(events)
        file.unlink()
        deleted = next(events)

    data = [json.loads(event.data) for event in (created, modified, deleted)]
    assert ("text/event-stream", "no") == (
        answer.headers["content-type"].partition(";")[0],
        answer.headers["x-accel-buffering"],
    )
    assert ["change"] * 3 == [event.name for event in (created, modified, deleted)]
    assert [("created", 3), ("modified", 5), ("deleted", 0)] == [(each["type"], each["nbytes"]) for each in data]
    assert {("foo", "life.txt", "file")} == {(each["root"], each["path"], each["kind"]) for each in data}
    assert (None, True) == (data[2]["etag"], data[0]["etag"] != data[1]["etag"])
    assert abs(data[1]["time"] - time.time()) < 20


def test_a_read_after_an_event_is_never_older(shared: Chain) -> None:
    """Who reads when told gets the version that he was told of, or a newer one."""
    file, read = shared.root / "told.txt", list[tuple[int, int]]()
    with listening(shared, "?root=foo&path=told.txt") as (_, events):
        for n in range(1, 31):
            file.write_bytes(b"x" * n)
            while True:
                size = json.loads(next(events).data)["nbytes"]
                read.append((size, len(shared.get("download/foo/told.txt").content)))
                if size == n:
                    break

    assert [] == [(size, got) for size, got in read if got < size]


def test_events_are_resumed(shared: Chain) -> None:
    """With `Last-Event-ID`, what happened since comes first; an id that nobody knows is answered with a reset."""
    with listening(shared, "?root=foo") as (_, events):
        (shared.root / "first.txt").write_bytes(b"1")
        first = next(events)
    (shared.root / "second.txt").write_bytes(b"2")
    wait_until(lambda: "second.txt" in shared.client.get_list(ROOT), "the second file")

    with listening(shared, "?root=foo", first.id) as (_, events):
        second = next(events)
    resets = []
    for unknown in ("x", "0-1", first.id + "0000", first.id.replace("-", "--")):
        with listening(shared, last_id=unknown) as (_, events):
            resets.append(next(events).name)

    assert ("first.txt", "second.txt") == (json.loads(first.data)["path"], json.loads(second.data)["path"])
    assert ["reset"] * 4 == resets


@pytest.mark.parametrize(
    ("query", "status"),
    [("?root=nosuch", 404), ("?root=a/b", 400), ("?path=x", 400), ("?root=foo&path=../x", 400), ("?root=@bob", 401)],
)
def test_events_of_what_cannot_be(shared: Chain, query: str, status: int) -> None:
    """A root that nobody announced, and a path that is none, are refused."""
    assert status == shared.get(f"events{query}").status_code


def test_many_changes_at_once_are_all_told(shared: Chain) -> None:
    """A directory of 3,000 files that appears and disappears is told file by file."""
    hidden, place = shared.root / ".many", shared.root / "many"
    hidden.mkdir()
    for n in range(3000):
        (hidden / f"{n}.txt").touch()
    with shared.client.watch(f"{ROOT}/many", timeout=20) as changes:
        hidden.rename(place)
        created = {next(changes).path for _ in range(3000)}
        place.rename(hidden)
        deleted = [next(changes) for _ in range(3000)]

    assert {f"many/{n}.txt" for n in range(3000)} == created == {change.path for change in deleted}
    assert {"deleted"} == {change.type for change in deleted}


def test_clients_that_do_not_read_hold_up_nobody(shared: Chain) -> None:
    """With ten clients that never read, changes are told to the others and applied as ever."""
    with httpx.Client(trust_env=False, timeout=20, limits=httpx.Limits(max_connections=None)) as client:
        url = f"{shared.subscriber.url}/api/events"
        deaf = [client.send(client.build_request("GET", url), stream=True) for _ in range(10)]
        with shared.client.watch(f"{ROOT}/heard.txt", timeout=20) as changes:
            for n in range(10):
                (shared.root / "heard.txt").write_bytes(b"x" * (n + 1))
                assert n + 1 == next(change for change in changes if change.nbytes == n + 1).nbytes
        for answer in deaf:
            answer.close()


def test_the_end_of_the_subscriber_ends_streams_at_once(chain: Chain) -> None:
    """A subscriber with streams that nobody closes ends as quickly as one without."""
    with listening(chain, "?root=foo") as (_, events):
        began = time.monotonic()
        chain.subscriber.stop()

        assert [] == list(events)
        assert time.monotonic() - began < 2


# -- watch() ----------------------------------------------------------------------------------------------


def test_a_dataset_is_watched(chain: Chain, root: Root) -> None:
    """After each change, values and shape of the dataset are the new ones; other files do not count."""
    file = chain.root / "ds.b2nd"
    write(file, np.arange(10))
    wait_until(lambda: "ds.b2nd" in chain.client.get_list("foo"), "the announcement")
    dataset = root["ds.b2nd"]
    assert isinstance(dataset, Dataset)
    seen = list[Any]()
    with dataset.watch(timeout=20) as changes:
        for n in (20, 30):
            (chain.root / "other.txt").write_bytes(b"x" * n)
            write(file, np.arange(n))
            seen += [(change.type, dataset.shape, int(dataset[-1])) for change in [next(changes)]]

    assert [("modified", (20,), 19), ("modified", (30,), 29)] == seen


def test_a_watch_goes_on_after_an_outage_of_the_subscriber(chain: Chain, root: Root) -> None:
    """When the subscriber is back there is a reset, since it may have missed something, and then changes as before."""
    with root.watch() as changes:
        (chain.root / "a.txt").write_bytes(b"a")
        told(changes, "a.txt")
        chain.subscriber.restart()
        chain.wait_for_root()
        reset = next(changes)
        (chain.root / "b.txt").write_bytes(b"b")

        assert ("reset", ROOT, "") == (reset.type, reset.root, reset.path)
        assert "created" == told(changes, "b.txt")[-1].type


@pytest.mark.parametrize("away", ["broker", "publisher"])
def test_what_changed_during_an_outage_is_told(chain: Chain, root: Root, away: str) -> None:
    """What changed while the broker or the publisher was away is told when it is back."""
    (chain.root / "old.txt").write_bytes(b"old")
    wait_until(lambda: "old.txt" in root.file_list, "the file")
    daemon = getattr(chain, away)
    with root.watch() as changes:
        daemon.stop()
        (chain.root / "new.txt").write_bytes(b"new")
        (chain.root / "old.txt").unlink()
        daemon.start()
        chain.wait_for_root()
        found = {(change.type, change.path) for change in [*told(changes, "old.txt", "deleted")]}
        if ("created", "new.txt") not in found:
            found |= {(change.type, change.path) for change in told(changes, "new.txt")}

    assert {("created", "new.txt"), ("deleted", "old.txt")} <= found


def test_a_watch_is_ended_from_another_thread(shared: Chain) -> None:
    """`close` ends an iteration that waits, at once; a timeout ends it too."""
    changes = shared.client.watch(f"{ROOT}/never.txt")
    timer = threading.Timer(0.2, changes.close)
    began = time.monotonic()
    timer.start()

    assert [] == list(changes)
    assert [] == list(shared.client.watch(f"{ROOT}/never.txt", timeout=0.2))
    assert (True, None) == (changes.closed, changes.wait())
    assert time.monotonic() - began < 5
    timer.join()


def test_what_cannot_be_watched(shared: Chain) -> None:
    """A root that is not there is refused at once."""
    with pytest.raises(NotFoundError):
        shared.client.watch("nosuch")
    with pytest.raises(BadRequestError):
        shared.client.watch(f"{ROOT}/../x")


def test_cat2cli_watch(shared: Chain, tmp_path: Path) -> None:
    """`cat2cli watch` shows a line for each change at once; Ctrl-C ends it."""
    options = ["--subscriber", shared.subscriber.url]
    argv = [*command("cat2cli"), *options, "watch", f"{ROOT}/shown.txt"]
    with (
        Process(argv, tmp_path, log=tmp_path / "plain") as plain,
        Process([*argv, "--json"], tmp_path, log=tmp_path / "json") as documents,
    ):
        wait_until(lambda: len(shared.subscriber.asked("GET /api/events")) >= 2, "both")

        # They may be there still of an earlier test; so write until both have seen one.
        def shown() -> bool:
            (shared.root / "shown.txt").write_bytes(b"x" * (time.monotonic_ns() % 1000 + 1))
            time.sleep(0.1)
            return "shown.txt" in plain.output and "shown.txt" in documents.output

        wait_until(shown, "the change")
        line, document = plain.output.splitlines()[0].split("\t"), json.loads(documents.output.splitlines()[0])
        status = plain.interrupt()

    assert 130 == status
    assert f"{ROOT}/shown.txt" == line[2]
    assert (ROOT, "shown.txt") == (document["root"], document["path"])


# -- how current things are -------------------------------------------------------------------------------


def test_a_live_root_is_shown_as_live(chain: Chain, root: Root) -> None:
    """With bus and publisher there, everything is live and has no age."""
    write(chain.root / "ds.b2nd", np.arange(10))
    dataset = root["ds.b2nd"]
    assert isinstance(dataset, Dataset)
    dataset[0]

    assert ("online", "live", None) == (root.status, root.freshness, root.age)
    assert ("live", None) == (dataset.freshness, dataset.age)
    assert "live" == chain.client.get_roots()["@public"]["freshness"]


def test_without_a_broker_reads_are_revalidated(chain: Chain, root: Root) -> None:
    """With the broker away the publisher is asked, and everything says so."""
    write(chain.root / "ds.b2nd", np.arange(10))
    dataset = root["ds.b2nd"]
    assert isinstance(dataset, Dataset)
    dataset[0]
    chain.broker.stop()
    wait_until(lambda: (dataset[0] == 0, root.freshness)[1] == "revalidated", "the end of the bus")
    dataset[0]

    assert "revalidated" == dataset.freshness
    assert "online" == root.status
    assert root.age is not None
    chain.broker.start()
    wait_until(lambda: root.freshness == "live", "the bus")


def test_without_a_publisher_reads_are_stale_and_say_how_old(chain: Chain, root: Root) -> None:
    """With the publisher away too, what is here is served as stale with its age; what is not is a 503 in one line."""
    write(chain.root / "ds.b2nd", np.arange(10))
    (chain.root / "unread.txt").write_bytes(b"x")
    dataset = root["ds.b2nd"]
    assert isinstance(dataset, Dataset)
    wait_until(lambda: {"ds.b2nd", "unread.txt"} == set(root.file_list), "the list")
    dataset[0]
    chain.publisher.stop()
    wait_until(lambda: root.status == "offline", "the publisher's end")
    time.sleep(1)  # for an age that is not 0

    np.testing.assert_array_equal(dataset[...], np.arange(10))
    answers = [chain.get(f"{kind}/foo/ds.b2nd") for kind in ("info", "fetch", "download")]
    answers.append(chain.http.get("/api/info/foo/ds.b2nd", headers={"if-none-match": answers[0].headers["etag"]}))
    listed, refused = chain.get("list/foo"), chain.get("fetch/foo/unread.txt")
    described = chain.client.get_roots()[ROOT]
    assert "stale" == dataset.freshness
    assert 1 <= (dataset.age or 0) < 20
    assert [200, 200, 200, 304] == [answer.status_code for answer in answers]
    for answer in [*answers, listed]:
        assert "fwd=stale" in answer.headers["cache-status"]
        assert 1 <= int(answer.headers["age"]) < 20
    assert 503 == refused.status_code
    assert "\n" not in refused.json()["detail"]
    assert ("offline", "stale") == (described["status"], described["freshness"])
    assert 1 <= described["age"] < 20
    with pytest.raises(UnavailableError):
        chain.client.fetch(f"{ROOT}/unread.txt")


def test_the_age_survives_a_restart(tmp_path: Path) -> None:
    """A subscriber that starts without publisher and broker still knows how old its copies are."""
    with open_chain(tmp_path / "chain") as chain:
        chain.start()
        write(chain.root / "ds.b2nd", np.arange(10))
        wait_until(lambda: "ds.b2nd" in chain.client.get_list(ROOT), "the list")
        np.testing.assert_array_equal(chain.client.fetch(f"{ROOT}/ds.b2nd"), np.arange(10))
        for daemon in (chain.subscriber, chain.publisher, chain.broker):
            daemon.stop()
        time.sleep(1)

        chain.subscriber.start()
        described = chain.client.get_roots()[ROOT]
        answer = chain.get("fetch/foo/ds.b2nd")

    assert ("offline", "stale") == (described["status"], described["freshness"])
    assert 1 <= described["age"] < 20
    assert 1 <= int(answer.headers["age"]) < 20
