"""A publisher whose announcement is refused: it says so, is not ready, and comes back when it is let."""

import signal
from pathlib import Path

import httpx

from tests.support.mosquitto import PASSWORDS, DeployedMosquitto
from tests.support.processes import run_daemon
from tests.support.waiting import wait_until


def test_a_publisher_without_the_right_is_not_ready_until_it_gets_it(tmp_path: Path) -> None:
    """Told once at error level, with topic, user and remedy; the rights can be given while everybody runs."""
    (tmp_path / "root").mkdir()
    with DeployedMosquitto(tmp_path / "mosquitto") as mosquitto:
        bus = {"URL": mosquitto.url, "USERNAME": "foo", "PASSWORD": PASSWORDS["foo"]}
        env = {f"CATERVA2_BUS_{key}": value for key, value in bus.items()}
        with run_daemon("cat2pub", "bar", "root", "--http", "localhost:0", cwd=tmp_path, env=env) as publisher:
            publisher.wait_for(
                r"ERROR caterva2.publisher.announcer: root bar is not announced: the broker .* user 'foo' publishes on"
                r" caterva2/root/bar.*: let that user .* or set another \[bus\] username$"
            )
            wait_until(lambda: httpx.get(f"{publisher.url}/ready").status_code == 503)
            health = httpx.get(f"{publisher.url}/health")
            assert (200, False) == (health.status_code, health.json()["ready"])

            acl = mosquitto.directory / "caterva2.acl"
            acl.write_text(acl.read_text().replace("/foo\n", "/bar\n"))
            mosquitto.signal(signal.SIGHUP)
            wait_until(lambda: httpx.get(f"{publisher.url}/ready").status_code == 200)

            assert "root bar is announced" in publisher.output
            assert 1 == publisher.output.count(" ERROR ")
