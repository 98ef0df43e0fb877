"""The cache through kills, damage and renames, by the whole chain."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import blosc2
import httpx
import numpy as np
import pytest

from caterva2.cli.main import main
from caterva2.errors import NotFoundError
from caterva2.frames import FrameLayout
from tests.integration.chain.daemons import Chain, running_chain
from tests.support.arrays import same, write
from tests.support.processes import run_daemon
from tests.support.waiting import wait_until

# 200 chunks of 64 KB, which do not compress.
VALUES = np.random.default_rng(7).integers(0, 2**63, (200, 8192))


def publish(root: Path, name: str = "a.b2nd") -> None:
    """Write the array."""
    write(root / name, VALUES, chunks=(1, 8192), blocks=(1, 8192))


def damage(chain: Chain, chunks: range) -> None:
    """Flip a byte in chunks of the only mirror."""
    (file,) = (chain.directory / "sub" / "cache").rglob("*.mirror")
    data = (chain.root / "a.b2nd").read_bytes()
    layout = FrameLayout.read(lambda offset, length: data[offset : offset + length], len(data))
    fd = os.open(file, os.O_RDWR)
    for n in chunks:
        at = int(layout.offsets[n]) + 1000
        os.pwrite(fd, bytes([os.pread(fd, 1, at)[0] ^ 0xFF]), at)
    os.close(fd)


# -- verify -----------------------------------------------------------------------------------------------


def test_verify_finds_and_repairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Damaged chunks of the cache are found, fetched again, and right; what is sound is only looked at."""
    with running_chain(tmp_path) as chain:
        publish(chain.root)
        assert same(VALUES, chain.client.fetch("foo/a.b2nd"))
        damage(chain, range(10, 17))

        assert {"checked": 200, "wrong": 7, "refetched": 7} == chain.client.verify("foo/a.b2nd")
        assert {"checked": 200, "wrong": 0, "refetched": 0} == chain.client.verify("foo")
        assert same(VALUES, chain.client.fetch("foo/a.b2nd"))
        damage(chain, range(3))
        assert 0 == main(["--subscriber", chain.subscriber.url, "verify"])
        assert "foo\t200\t3\t3\n" == capsys.readouterr().out
        assert 0 == main(["--subscriber", chain.subscriber.url, "--json", "verify", "foo/a.b2nd"])
        assert '"checked": 200' in capsys.readouterr().out
        assert {"checked": 0, "wrong": 0, "refetched": 0} == chain.client.verify("@public")
        for path in ("foo/nosuch", "nosuch"):
            with pytest.raises(NotFoundError):
                chain.client.verify(path)


def test_verify_without_the_publisher(tmp_path: Path) -> None:
    """What cannot be fetched again is dropped: damaged data is not served in its place."""
    with running_chain(tmp_path) as chain:
        publish(chain.root)
        chain.client.fetch("foo/a.b2nd")
        damage(chain, range(5))
        chain.publisher.stop()

        assert {"checked": 200, "wrong": 5, "refetched": 0} == chain.client.verify("foo")
        assert 503 == chain.get("fetch/foo/a.b2nd", slice_="2:4").status_code
        assert same(VALUES[7:9], blosc2.ndarray_from_cframe(chain.get("fetch/foo/a.b2nd", slice_="7:9").content)[...])


# -- renames ----------------------------------------------------------------------------------------------


def test_a_rename_keeps_the_chunks(tmp_path: Path) -> None:
    """After a rename the old name is gone, and the new one costs a skeleton and no chunk."""
    with running_chain(tmp_path) as chain:
        publish(chain.root)
        text = VALUES[:20].tobytes()
        (chain.root / "a.txt").write_bytes(text)
        chain.client.fetch("foo/a.b2nd")
        chain.client.fetch("foo/a.txt")
        (chain.root / "a.b2nd").rename(chain.root / "b.b2nd")
        (chain.root / "a.txt").rename(chain.root / "b.txt")
        wait_until(lambda: ["b.b2nd", "b.txt"] == chain.client.get_list("foo"), "the rename")
        before = chain.metric("caterva2_http_sent_bytes_total")

        assert 404 == chain.get("info/foo/a.b2nd").status_code
        assert same(VALUES, chain.client.fetch("foo/b.b2nd"))
        assert text == chain.client.fetch("foo/b.txt")
        assert chain.metric("caterva2_http_sent_bytes_total") - before < 64 << 10


def test_another_file_in_place_of_a_renamed_one(tmp_path: Path) -> None:
    """What only looks like the deleted dataset is fetched: digests decide, not the skeleton."""
    with running_chain(tmp_path) as chain:
        first, second = b"x" * 300_000, b"y" * 300_000
        (chain.root / "a.txt").write_bytes(first)
        assert first == chain.client.fetch("foo/a.txt")
        (chain.root / "a.txt").unlink()
        (chain.root / "b.txt").write_bytes(second)
        wait_until(lambda: ["b.txt"] == chain.client.get_list("foo"), "the change")

        assert second == chain.client.fetch("foo/b.txt")


# -- kills ------------------------------------------------------------------------------------------------


def test_kills_while_chunks_arrive(tmp_path: Path) -> None:
    """After SIGKILL of a real subscriber while it fetches, again and again, it is up, and all it answers is right."""
    root = tmp_path / "root"
    root.mkdir()
    publish(root)
    common = ("--http", "localhost:0")
    rng = np.random.default_rng(3)
    hits = 0
    with run_daemon("cat2bro", *common, "--mqtt", "", cwd=tmp_path) as broker:
        more = (*common, "--broker", broker.url)
        with (
            run_daemon("cat2pub", "foo", str(root), *more, cwd=tmp_path),
            run_daemon("cat2sub", *more, "--statedir", str(tmp_path / "sub"), cwd=tmp_path) as subscriber,
        ):
            for trial in range(4):
                wait_until(lambda: "foo" in httpx.get(f"{subscriber.url}/api/roots").json(), "the root")
                url = f"{subscriber.url}/api/fetch/foo/a.b2nd"
                for row in rng.integers(0, 198, 12).tolist():
                    answer = httpx.get(url, params={"slice_": f"{row}:{row + 2}"})
                    assert answer.status_code == 200, answer.text
                    assert same(VALUES[row : row + 2], blosc2.ndarray_from_cframe(answer.content)[...])
                    hits += "hit" in answer.headers["Cache-Status"]
                killer = threading.Timer(0.005 + 0.02 * trial, subscriber.kill)
                killer.start()
                with suppress(httpx.TransportError):
                    httpx.get(url)
                killer.join()
                subscriber.start()
            assert "Traceback" not in subscriber.output

    assert hits > 0
