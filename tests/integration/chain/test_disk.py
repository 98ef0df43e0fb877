"""The subscriber's disk, through the whole chain and with a real process: limited, full, and given back."""

import os
import resource
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import blosc2
import httpx
import numpy as np

from tests.integration.chain.daemons import Chain, running_chain
from tests.support.arrays import same, write
from tests.support.processes import Daemon, run_daemon
from tests.support.programs import missing
from tests.support.waiting import wait_until

MB = 1 << 20
# 1 MB a chunk, which does not compress.
VALUES = np.random.default_rng(7).integers(0, 2**63, (24, 131072))


def array(response: httpx.Response) -> object:
    """The values of an answer."""
    assert response.status_code == 200, response.text
    return blosc2.ndarray_from_cframe(response.content)[...]


def on_disk(directory: Path) -> int:
    """What all files below a directory take, in bytes."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file())


def publish(root: Path, count: int) -> list[str]:
    """Write arrays of 24 MB."""
    for i in range(count):
        write(root / f"{i}.b2nd", VALUES + i, chunks=(1, 131072), blocks=(1, 16384))
    return [f"foo/{i}.b2nd" for i in range(count)]


def mirror_bytes(chain: Chain) -> int:
    """What the mirrors take."""
    return on_disk(chain.directory / "sub" / "cache")


def test_the_cache_stays_within_its_size(tmp_path: Path) -> None:
    """Reads of four times as much as the cache holds, in every way, are right, and the disk stays within 2 %."""
    limit = 32 * MB
    with running_chain(tmp_path, cache_size=limit) as chain:
        paths, most = publish(chain.root, 5), 0
        rng = np.random.default_rng(1)
        for _ in range(30):
            i, row = int(rng.integers(5)), int(rng.integers(20))
            text = f"{row}:{row + int(rng.integers(1, 5))}, {int(rng.integers(2)) * 100}:"
            key = tuple(slice(*(int(n) if n else None for n in part.split(":"))) for part in text.split(", "))

            assert same((VALUES + i)[key], array(chain.get(f"fetch/{paths[i]}", slice_=text)))
            most = max(most, mirror_bytes(chain))
        for i, path in enumerate(paths):
            assert (chain.root / f"{i}.b2nd").read_bytes() == chain.get(f"download/{path}").content
            most = max(most, mirror_bytes(chain))
        chain.assert_well()

    assert 0.7 * limit < most <= 1.02 * limit


def test_many_clients_in_a_small_cache(tmp_path: Path) -> None:
    """Sixteen clients that together use more than the cache holds all get right answers."""
    with running_chain(tmp_path, cache_size=16 * MB) as chain:
        paths = publish(chain.root, 2)

        def read(seed: int) -> bool:
            rng = np.random.default_rng(seed)
            good = True
            with httpx.Client(base_url=chain.subscriber.url, timeout=60, trust_env=False) as http:
                for _ in range(6):
                    i, row = int(rng.integers(2)), int(rng.integers(18))
                    got = array(http.get(f"/api/fetch/{paths[i]}", params={"slice_": f"{row}:{row + 6}"}))
                    good = good and same((VALUES + i)[row : row + 6], got)
            return good

        with ThreadPoolExecutor(16) as pool:
            assert [True] * 16 == list(pool.map(read, range(16)))

        assert mirror_bytes(chain) <= 1.02 * 16 * MB


def test_a_selection_larger_than_the_cache_is_answered(tmp_path: Path) -> None:
    """A slice that cannot be kept as a whole is passed on."""
    with running_chain(tmp_path, cache_size=16 * MB) as chain:
        (path,) = publish(chain.root, 1)

        assert same(VALUES[:23], array(chain.get(f"fetch/{path}", slice_="0:23")))
        assert same(VALUES[:23, 5:], array(chain.get(f"fetch/{path}", slice_="0:23, 5:")))
        assert mirror_bytes(chain) <= 1.02 * 16 * MB


def test_a_reader_who_hangs_up_lets_go(tmp_path: Path) -> None:
    """Clients that leave in the middle of answers hold no chunk: what they held gives way to others."""
    with running_chain(tmp_path, cache_size=32 * MB) as chain:
        paths = publish(chain.root, 3)
        for _ in range(3):
            for path in paths:
                for url in (f"/api/download/{path}", f"/api/fetch/{path}?slice_=0:20,1:"):
                    with chain.http.stream("GET", url) as response:
                        next(response.iter_raw(1000))
        for i, path in enumerate(paths):
            assert same((VALUES + i)[:16], array(chain.get(f"fetch/{path}", slice_="0:16")))
            again = chain.get(f"fetch/{path}", slice_="0:16")

            assert "hit" in again.headers["Cache-Status"]


# -- a full disk ------------------------------------------------------------------------------------------


@contextmanager
def small_disk(directory: Path, nbytes: int) -> Iterator[Path]:
    """A file system of a few megabytes."""
    directory.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={nbytes}", "caterva2-test", str(directory)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        missing("the permission to mount a tmpfs")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@contextmanager
def subscriber(tmp_path: Path, statedir: Path, *options: str) -> Iterator[tuple[Daemon, Path]]:
    """The three daemons as processes, the subscriber with a state directory of its own; and the root."""
    root = tmp_path / "root"
    root.mkdir()
    common = ("--http", "localhost:0")
    with run_daemon("cat2bro", *common, "--mqtt", "", cwd=tmp_path) as broker:
        more = (*common, "--broker", broker.url)
        with (
            run_daemon("cat2pub", "foo", str(root), *more, cwd=tmp_path),
            run_daemon("cat2sub", *more, "--statedir", str(statedir), *options, cwd=tmp_path) as daemon,
        ):
            wait_until(lambda: "foo" in httpx.get(f"{daemon.url}/api/roots").json(), "the root")
            yield daemon, root


def read_all(url: str, count: int) -> None:
    """Read all arrays in several ways; every answer is right."""
    for i in range(count):
        values = VALUES + i

        assert same(values[3:5], array(httpx.get(f"{url}/api/fetch/foo/{i}.b2nd", params={"slice_": "3:5"})))
        assert same(values[7, 5:9], array(httpx.get(f"{url}/api/fetch/foo/{i}.b2nd", params={"slice_": "7, 5:9"})))
        assert same(values, array(httpx.get(f"{url}/api/fetch/foo/{i}.b2nd", timeout=60)))
        assert same(values[:, 1:], array(httpx.get(f"{url}/api/fetch/foo/{i}.b2nd?slice_=:,1:", timeout=60)))


def test_a_full_disk_costs_the_cache_and_not_the_read(tmp_path: Path) -> None:
    """On a file system of 20 MB, 72 MB are read right; it is said once; with room again the cache is used again."""
    with small_disk(tmp_path / "small", 20 * MB) as disk, subscriber(tmp_path, disk / "sub") as (daemon, root):
        publish(root, 3)
        filler = disk / "filler"
        filler.write_bytes(bytes(8 * MB))
        read_all(daemon.url, 3)
        read_all(daemon.url, 3)

        assert 1 == daemon.output.count("cannot write to its cache")
        assert "Traceback" not in daemon.output
        subprocess.run(["find", str(disk / "sub" / "cache"), "-name", "*.mirror", "-delete"], check=True)
        filler.unlink()
        small = {"slice_": "3:5"}
        (root / "new.b2nd").write_bytes((root / "1.b2nd").read_bytes())

        def hit() -> bool:
            return "hit" in httpx.get(f"{daemon.url}/api/fetch/foo/new.b2nd", params=small).headers["Cache-Status"]

        wait_until(hit, "a read from the cache")
        wait_until(lambda: "can be written again" in daemon.output, "the message")
        assert daemon.stop() == 0


def test_a_disk_that_was_full_from_the_start(tmp_path: Path) -> None:
    """Where not even a skeleton can be written, reads are answered, and the daemon starts, runs and stops."""
    with small_disk(tmp_path / "small", 8 * MB) as disk, subscriber(tmp_path, disk / "sub") as (daemon, root):
        publish(root, 2)
        filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while os.write(filler, bytes(4096)):
                pass
        os.close(filler)
        read_all(daemon.url, 2)
        (root / "1.b2nd").unlink()
        url = f"{daemon.url}/api/info/foo/1.b2nd"
        wait_until(lambda: httpx.get(url).status_code == 404, "the deletion")

        assert daemon.running
        assert "Traceback" not in daemon.output
        assert daemon.stop() == 0


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """A limit on the size of files (`ulimit -f`) holds for memory too: what does not fit is one line, not a crash."""
    with subscriber(tmp_path, tmp_path / "sub") as (daemon, root):
        publish(root, 1)
        httpx.get(f"{daemon.url}/api/list/foo")
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (5 * MB, 5 * MB))
        url = f"{daemon.url}/api/fetch/foo/0.b2nd"
        write(root / "small.b2nd", VALUES[0, :100])
        answer = httpx.get(url, params={"slice_": "20:21"})

        assert (507, {"detail"}) == (answer.status_code, set(answer.json()))
        small = f"{daemon.url}/api/fetch/foo/small.b2nd"
        wait_until(lambda: same(VALUES[0, :100], array(httpx.get(small))), "a small array")
        assert daemon.running
        assert "Traceback" not in daemon.output
