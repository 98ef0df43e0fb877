"""What happens in a root is seen by clients, soon and never half; also while daemons come and go."""

import threading
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import blosc2
import httpx
import numpy as np
import pytest

from caterva2.client import Dataset
from caterva2.errors import NotFoundError
from tests.integration.chain.daemons import ROOT, Chain, open_chain, running_chain
from tests.support.programs import free_port
from tests.support.waiting import wait_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain whose daemons all go on running."""
    with running_chain(tmp_path_factory.mktemp("change")) as chain:
        chain.client.subscribe(ROOT)
        yield chain


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """A chain of one's own, whose daemons can be stopped."""
    with running_chain(tmp_path / "chain", max_staleness=0.3) as chain:
        yield chain


def write(file: Path, values: Any, chunks: tuple[int, ...] = (100,)) -> None:
    """Write an array beside the file of that name, and then over it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(".part")
    cparams = blosc2.CParams(nthreads=1)
    blosc2.asarray(np.asarray(values), chunks=chunks, urlpath=str(part), mode="w", cparams=cparams)
    part.replace(file)


def read(chain: Chain, name: str) -> Any:
    """Read a whole dataset."""
    return chain.client.fetch(f"{ROOT}/{name}")


def soon(chain: Chain, name: str, expected: Any) -> None:
    """Wait until a whole dataset is read as expected."""
    wait_until(lambda: np.array_equal(read(chain, name), expected), f"{name} as it is now")


def listed(chain: Chain, path: str = ROOT) -> list[str]:
    """The list of a root or directory."""
    return chain.client.get_list(path)


# -- changes ----------------------------------------------------------------------------------------------


def test_created_modified_and_deleted_datasets_are_seen(shared: Chain) -> None:
    """A dataset appears, has its new values at once, and is gone, in lists and in reads."""
    file = shared.root / "life.b2nd"

    write(file, np.arange(500))
    wait_until(lambda: "life.b2nd" in listed(shared), "the new dataset")
    np.testing.assert_array_equal(read(shared, "life.b2nd"), np.arange(500))
    write(file, np.arange(500) * 2)
    soon(shared, "life.b2nd", np.arange(500) * 2)
    file.unlink()
    wait_until(lambda: "life.b2nd" not in listed(shared), "the end of the dataset")
    with pytest.raises(NotFoundError):
        read(shared, "life.b2nd")


def test_renamed_datasets_and_directories_are_seen(shared: Chain) -> None:
    """After a rename the data is found under the new name only."""
    write(shared.root / "before/deep/a.b2nd", np.arange(10))
    write(shared.root / "before/b.b2nd", np.arange(20))
    wait_until(lambda: {"deep/a.b2nd", "b.b2nd"} == set(listed(shared, f"{ROOT}/before")), "the files")

    (shared.root / "before/b.b2nd").rename(shared.root / "before/c.b2nd")
    (shared.root / "before").rename(shared.root / "after")

    wait_until(lambda: {"deep/a.b2nd", "c.b2nd"} == set(listed(shared, f"{ROOT}/after")), "the new names")
    wait_until(lambda: not any(name.startswith("before/") for name in listed(shared)), "the end of the old names")
    np.testing.assert_array_equal(read(shared, "after/deep/a.b2nd"), np.arange(10))


def test_deleted_directories_are_seen(shared: Chain) -> None:
    """With a directory go all its files."""
    for n in range(5):
        write(shared.root / f"gone/{n}.b2nd", np.arange(3))
    wait_until(lambda: len(listed(shared, f"{ROOT}/gone")) == 5, "the files")

    (shared.root / "gone").rename(shared.root / ".gone")

    wait_until(lambda: not any(name.startswith("gone/") for name in listed(shared)), "the end of the files")
    assert 404 == shared.get("list/foo/gone").status_code


def test_a_change_of_shape_and_type_is_seen_by_who_holds_the_dataset(shared: Chain) -> None:
    """A `Dataset` at hand follows its file to another shape, dtype and chunks."""
    file = shared.root / "geometry.b2nd"
    write(file, np.arange(300))
    dataset = shared.client.get(f"{ROOT}/geometry.b2nd")
    assert isinstance(dataset, Dataset)
    np.testing.assert_array_equal(dataset[:3], [0, 1, 2])
    expected = np.arange(12.0).reshape(3, 4)

    write(file, expected, (2, 3))

    wait_until(lambda: np.array_equal(dataset[...], expected), "the new shape")
    assert ((3, 4), np.dtype("f8"), (2, 3)) == (dataset.shape, dataset.dtype, dataset.chunks)


def test_a_file_becomes_a_directory_and_back(shared: Chain) -> None:
    """A name may be a file, then a directory, then a file again."""
    place = shared.root / "shifty"
    place.write_bytes(b"a file")
    assert b"a file" == read(shared, "shifty")

    place.unlink()
    place.mkdir()
    (place / "inner").write_bytes(b"inside")
    assert b"inside" == read(shared, "shifty/inner")
    wait_until(lambda: 404 == shared.get("info/foo/shifty").status_code, "the end of the file")
    (place / "inner").unlink()
    place.rmdir()
    place.write_bytes(b"again a file")

    wait_until(lambda: read(shared, "shifty") == b"again a file", "the file again")
    wait_until(lambda: 404 == shared.get("info/foo/shifty/inner").status_code, "the end of the inner file")


def test_what_was_read_before_it_was_announced_is_not_believed_for_ever(shared: Chain) -> None:
    """A file that is gone before the publisher has told of it is not served from the cache."""
    for n in range(30):
        file = shared.root / f"brief-{n}.txt"
        file.write_bytes(b"brief")
        assert b"brief" == read(shared, file.name)
        file.unlink()

    for n in range(30):
        name = f"foo/brief-{n}.txt"
        wait_until(lambda name=name: 404 == shared.get(f"info/{name}").status_code, f"the end of {name}")  # type: ignore[misc]


def test_an_array_becomes_a_text_and_back(shared: Chain) -> None:
    """A name that ends in `.b2nd` may be damaged for a while, which harms no later version."""
    file = shared.root / "was.b2nd"
    write(file, np.arange(10))
    np.testing.assert_array_equal(read(shared, "was.b2nd"), np.arange(10))

    file.write_bytes(b"no frame at all")
    wait_until(lambda: 422 == shared.get("info/foo/was.b2nd").status_code, "the damage")
    write(file, np.arange(5))

    soon(shared, "was.b2nd", np.arange(5))


def test_files_that_are_overwritten_in_place_are_seen(shared: Chain) -> None:
    """A file that keeps its inode and its length, and an array that is written to, have their new contents."""
    plain, array = shared.root / "place.bin", shared.root / "place.b2nd"
    plain.write_bytes(b"one" * 1000)
    write(array, np.zeros(500))
    assert b"one" * 1000 == read(shared, "place.bin")
    np.testing.assert_array_equal(read(shared, "place.b2nd"), np.zeros(500))

    plain.write_bytes(b"two" * 1000)
    blosc2.open(str(array), mode="a")[100:200] = np.arange(100)

    expected = np.zeros(500)
    expected[100:200] = np.arange(100)
    wait_until(lambda: read(shared, "place.bin") == b"two" * 1000, "the new bytes")
    soon(shared, "place.b2nd", expected)


def test_a_change_costs_what_changed(shared: Chain) -> None:
    """Of a new version, chunks that did not change are not sent again."""
    file = shared.root / "delta.b2nd"
    values = np.random.default_rng(1).integers(0, 1 << 60, 5000)
    write(file, values)
    np.testing.assert_array_equal(read(shared, "delta.b2nd"), values)
    before = shared.metric('caterva2_chunks_total{status="data"}')

    values[1234] += 1
    write(file, values)
    soon(shared, "delta.b2nd", values)

    assert 1 == shared.metric('caterva2_chunks_total{status="data"}') - before


def test_two_thousand_files_at_once_are_seen(shared: Chain) -> None:
    """A bulk of files is listed, each can be read, and their deletion is seen as well."""
    hidden, place = shared.root / ".bulk", shared.root / "bulk"
    hidden.mkdir()
    for n in range(2000):
        (hidden / f"{n:04}.txt").write_text(f"file {n}")
    hidden.rename(place)
    for n in range(0, 2000, 2):
        (place / f"{n:04}.txt").rename(place / f"renamed-{n:04}.txt")

    expected = {f"renamed-{n:04}.txt" if n % 2 == 0 else f"{n:04}.txt" for n in range(2000)}
    wait_until(lambda: set(listed(shared, f"{ROOT}/bulk")) == expected, "2,000 files")
    assert b"file 1998" == read(shared, "bulk/renamed-1998.txt")
    place.rename(hidden)
    wait_until(lambda: not any(name.startswith("bulk/") for name in listed(shared)), "their end")


def test_a_read_after_the_settling_is_of_the_new_version(shared: Chain) -> None:
    """Once the publisher has announced a change, no read answers the old data any more."""
    file = shared.root / "fresh.txt"
    for n in range(20):
        file.write_text(f"version {n}")
        seen = f"version {n}".encode()
        wait_until(lambda seen=seen: read(shared, "fresh.txt") == seen, "the new version")  # type: ignore[misc]
        assert [seen] * 5 == [read(shared, "fresh.txt") for _ in range(5)]


def test_a_download_never_mixes_versions(shared: Chain, caplog: pytest.LogCaptureFixture) -> None:
    """A download during which the file changes is the whole old version, or the connection is cut."""
    file = shared.root / "mixed.bin"
    old, new = (np.random.default_rng(n).bytes(48 * MIB) for n in (1, 2))
    file.write_bytes(old)
    part = shared.root / ".mixed"
    part.write_bytes(new)
    wait_until(lambda: shared.client.get(f"{ROOT}/mixed.bin").meta["nbytes"] == len(old), "the old version")

    with shared.http.stream("GET", "/api/download/foo/mixed.bin") as answer:
        pieces = answer.iter_raw(MIB)
        received = [next(pieces)]
        part.replace(file)
        try:
            received += pieces
        except httpx.RemoteProtocolError:
            received = []
        assert b"".join(received) in {b"", old}

    wait_until(
        lambda: shared.get("fetch/foo/mixed.bin", slice_=":9").headers["etag"] != answer.headers["etag"], "a change"
    )
    assert new == shared.get("download/foo/mixed.bin").content
    assert [] == [record for record in caplog.records if record.exc_info]


def test_readers_of_a_file_that_keeps_changing_never_see_a_mixture(shared: Chain) -> None:
    """Every read, while versions follow each other, is of one version."""
    file = shared.root / "busy.b2nd"
    write(file, np.full(2000, 0))
    stop, seen, torn = threading.Event(), set[int](), list[Any]()

    def look() -> None:
        with httpx.Client(base_url=shared.subscriber.url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                answer = client.get("/api/fetch/foo/busy.b2nd", params={"slice_": "::3"})
                if answer.status_code == 200:
                    values = set(np.unique(blosc2.ndarray_from_cframe(answer.content)[...]).tolist())
                    seen.update(values)
                    torn.extend([values] if len(values) > 1 else [])

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for n in range(1, 11):
            write(file, np.full(2000, n))
            wait_until(lambda n=n: n in seen, "the version")  # type: ignore[misc]
    finally:
        stop.set()
        for reader in readers:
            reader.join()

    assert [] == torn
    assert set(range(1, 11)) <= seen


# -- daemons that come and go -----------------------------------------------------------------------------


def test_without_a_broker_reads_are_still_right(chain: Chain) -> None:
    """With the broker gone reads go on, and a change is seen within `max_staleness`."""
    write(chain.root / "ds.b2nd", np.arange(300))
    np.testing.assert_array_equal(read(chain, "ds.b2nd"), np.arange(300))

    chain.broker.stop()
    np.testing.assert_array_equal(read(chain, "ds.b2nd"), np.arange(300))
    write(chain.root / "ds.b2nd", np.arange(300) + 7)
    soon(chain, "ds.b2nd", np.arange(300) + 7)
    (chain.root / "later.txt").write_bytes(b"later")
    assert b"later" == read(chain, "later.txt")
    wait_until(lambda: "later.txt" in listed(chain), "the new file in the list")
    # What the publisher just said of all its files is true now, and nobody will tell when it is no longer.
    assert "revalidated" == chain.client.get_roots()[ROOT]["freshness"]
    write(chain.root / "ds.b2nd", np.arange(300) + 9)
    soon(chain, "ds.b2nd", np.arange(300) + 9)

    chain.broker.start()
    chain.wait_for_root()
    write(chain.root / "ds.b2nd", np.arange(300) + 8)
    soon(chain, "ds.b2nd", np.arange(300) + 8)


def test_without_a_publisher_the_cache_is_served_as_stale(chain: Chain) -> None:
    """With the publisher gone, what is here is served and marked as stale; what is not is a 502 or 503."""
    write(chain.root / "ds.b2nd", np.arange(300))
    write(chain.root / "half.b2nd", np.arange(300))
    (chain.root / "never-read.txt").write_bytes(b"x")
    np.testing.assert_array_equal(read(chain, "ds.b2nd"), np.arange(300))
    _ = chain.client.fetch(f"{ROOT}/half.b2nd", slice(0, 10))

    chain.publisher.stop()
    wait_until(lambda: chain.client.get_roots()[ROOT]["status"] == "offline", "the publisher's end")
    # What was looked at just before its end is believed for `max_staleness`.
    wait_until(lambda: "stale" in chain.get("info/foo/ds.b2nd").headers["cache-status"], "the end of what is believed")
    answer = chain.get("fetch/foo/ds.b2nd", slice_="0:300")
    missing = [chain.get("fetch/foo/never-read.txt"), chain.get("fetch/foo/half.b2nd", slice_="250")]

    np.testing.assert_array_equal(blosc2.ndarray_from_cframe(answer.content)[...], np.arange(300))
    assert answer.headers["cache-status"].startswith("caterva2; fwd=stale")
    for refused in missing:
        assert refused.status_code in {502, 503}
        assert "\n" not in refused.json()["detail"]
    assert "never-read.txt" in listed(chain)
    write(chain.root / "ds.b2nd", np.arange(300) + 1)
    chain.publisher.start()
    soon(chain, "ds.b2nd", np.arange(300) + 1)
    wait_until(lambda: chain.get("fetch/foo/ds.b2nd", slice_="0").headers["cache-status"] == "caterva2; hit", "a hit")


@pytest.mark.parametrize("order", list(permutations(("broker", "publisher", "subscriber"))), ids="-".join)
def test_the_order_of_start_does_not_matter(tmp_path: Path, order: tuple[str, ...]) -> None:
    """However the daemons are started, they find each other, and changes arrive."""
    with open_chain(tmp_path / "chain") as chain:
        address = chain.broker.settings.http
        chain.broker.settings = chain.broker.settings.model_copy(update={"http": address.with_port(free_port())})
        chain.tell_broker(chain.broker.settings.http.url)
        write(chain.root / "ds.b2nd", np.arange(10))
        for name in order:
            getattr(chain, name).start()

        chain.wait_for_root()
        np.testing.assert_array_equal(read(chain, "ds.b2nd"), np.arange(10))
        write(chain.root / "ds.b2nd", np.arange(11))
        soon(chain, "ds.b2nd", np.arange(11))


def test_a_subscriber_keeps_cache_and_subscriptions_over_a_restart(chain: Chain) -> None:
    """After a restart no chunk is fetched again, and roots are followed as before."""
    write(chain.root / "ds.b2nd", np.arange(1000))
    (chain.root / "file.txt").write_bytes(b"text" * 100)
    np.testing.assert_array_equal(read(chain, "ds.b2nd"), np.arange(1000))
    assert b"text" * 100 == read(chain, "file.txt")
    before = chain.metric("caterva2_chunks_total")

    chain.subscriber.restart()
    chain.wait_for_root()

    assert chain.client.get_roots()[ROOT]["subscribed"] is True
    np.testing.assert_array_equal(read(chain, "ds.b2nd"), np.arange(1000))
    assert b"text" * 100 == read(chain, "file.txt")
    assert before == chain.metric("caterva2_chunks_total")
    write(chain.root / "ds.b2nd", np.arange(1000) + 1)
    soon(chain, "ds.b2nd", np.arange(1000) + 1)


def test_what_changed_while_a_subscriber_was_away_is_seen(chain: Chain) -> None:
    """A subscriber that comes back serves no old data, and lists what is there now."""
    write(chain.root / "ds.b2nd", np.arange(300))
    (chain.root / "old.txt").write_bytes(b"old")
    np.testing.assert_array_equal(read(chain, "ds.b2nd"), np.arange(300))
    chain.subscriber.stop()
    write(chain.root / "ds.b2nd", np.arange(300) + 1)
    (chain.root / "old.txt").rename(chain.root / "new.txt")
    wait_until(lambda: "new.txt" in httpx.get(f"{chain.publisher.url}/api/list", trust_env=False).json(), "the rename")

    chain.subscriber.start()

    np.testing.assert_array_equal(read(chain, "ds.b2nd"), np.arange(300) + 1)
    wait_until(lambda: {"ds.b2nd", "new.txt"} == set(listed(chain)), "the list")


def test_a_publisher_that_lost_its_state_is_followed_anew(chain: Chain) -> None:
    """A new journal of a publisher makes subscribers list its root afresh, and keep what did not change."""
    write(chain.root / "ds.b2nd", np.arange(300))
    np.testing.assert_array_equal(read(chain, "ds.b2nd"), np.arange(300))
    chain.publisher.stop()
    for file in (chain.directory / "pub").iterdir():
        file.unlink()
    (chain.root / "more.txt").write_bytes(b"more")

    chain.publisher.start()
    wait_until(lambda: "more.txt" in listed(chain), "the list")
    np.testing.assert_array_equal(read(chain, "ds.b2nd"), np.arange(300))

    # The publisher counts from its start.
    assert 0 == chain.metric("caterva2_chunks_total")


def test_without_a_bus_a_subscriber_serves_its_own_roots(tmp_path: Path) -> None:
    """With `broker = ""` there are its own roots only, and all the rest is 404."""
    with open_chain(tmp_path / "chain", broker="") as chain:
        chain.subscriber.start()

        assert ["@public"] == list(chain.client.get_roots())
        assert [] == listed(chain, "@public")
        assert "none" == chain.http.get("/health").json()["bus"]
        assert 404 == chain.get("list/foo").status_code
