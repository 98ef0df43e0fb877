"""`GET /api/status`: what operators see of roots, events and cache, and who may."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from caterva2.cli.main import main
from tests.integration.chain.daemons import Chain, running_chain
from tests.support.arrays import write
from tests.support.waiting import wait_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain whose cache holds little, without users."""
    directory = tmp_path_factory.mktemp("status")
    for name in "ab":
        (directory / "foo").mkdir(exist_ok=True)
        values = np.random.default_rng(ord(name)).integers(0, 255, 12 * MIB, dtype="u1")
        write(directory / "foo" / f"{name}.b2nd", values, chunks=(MIB,))
    with running_chain(directory, cache_size=16 * MIB) as chain:
        yield chain


def test_figures_follow_what_happens(chain: Chain) -> None:
    """Reads, changes, those who listen and what had to go are counted."""
    before = chain.client.status()
    for path in ("foo/a.b2nd", "foo/a.b2nd", "foo/b.b2nd"):
        chain.client.fetch(path)
    read = chain.client.status()["cache"]
    watch = chain.client.watch("foo")
    watching = threading.Thread(target=lambda: next(iter(watch), None))
    watching.start()
    wait_until(lambda: chain.client.status()["events"]["listeners"] == 1, "the listener")
    (chain.root / "new.txt").write_bytes(b"new")
    watching.join()
    after = chain.client.status()
    watch.close()

    assert (0, 0, None, 0) == tuple(before["cache"][name] for name in ("wanted", "found", "hit_ratio", "evicted"))
    assert (None, 0, 16 * MIB) == (before["events"]["lag"], before["events"]["changes"], before["cache"]["limit"])
    # All 12 chunks of each array, and again those of the first.
    assert (36, 12, pytest.approx(1 / 3)) == tuple(read[name] for name in ("wanted", "found", "hit_ratio"))
    assert read["evictions"] >= 1
    assert read["evicted"] > MIB
    assert 12 * MIB < read["nbytes"] <= 16 * MIB
    assert read["writable"]
    root, events = after["roots"][0], after["events"]
    assert ("foo", "online", "live", 3, 1) == tuple(
        root[name] for name in ("name", "status", "freshness", "datasets", "changes")
    )
    assert 0 <= root["heard"]
    assert 0 <= events["lag"]["latest"] <= events["lag"]["longest"]
    assert 0 < events["rate"] <= 1
    assert ("connected", None) == (after["bus"], after["trouble"])
    wait_until(lambda: chain.client.status()["events"]["listeners"] == 0, "the end of the listener")


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via"])
def test_a_proxy_makes_a_stranger(chain: Chain, header: str) -> None:
    """Without users the status is for this machine; what comes through a proxy on it is from anywhere."""
    answer = chain.http.get("/api/status", headers={header: "192.0.2.1"})

    assert 403 == answer.status_code
    assert "its status is shown on its own machine only" in answer.json()["detail"]


def test_cat2cli(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    """`cat2cli status` shows a line for each root, and the figures."""
    address = ["--subscriber", chain.subscriber.url]

    assert (0, 0) == (main([*address, "status"]), main([*address, "--json", "status"]))

    *lines, document = capsys.readouterr().out.splitlines()
    fields = dict(line.partition("\t")[::2] for line in lines)
    assert fields["root"].startswith(f"foo\t{chain.publisher.url.removeprefix('http://')}\tonline\t")
    assert ("connected", f" of {16 * MIB}") == (fields["bus"], fields["cache"][fields["cache"].index(" of ") :])
    assert document.startswith("{")


def test_an_empty_subscriber_is_shown(tmp_path: Path) -> None:
    """A root that nobody follows has no freshness, and nothing was counted of it."""
    with running_chain(tmp_path) as chain:
        report = chain.client.status()

    root, cache = report["roots"][0], report["cache"]
    assert (None, 0, None, 0) == (root["freshness"], root["datasets"], cache["limit"], cache["nbytes"])
