"""Two brokers with a bridge between them: a publisher on one is read through a subscriber on the other."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from caterva2.client import Client
from tests.support.bus import about_own_broker
from tests.support.mosquitto import DEPLOY, PASSWORDS, DeployedMosquitto, Mosquitto
from tests.support.processes import run_daemon
from tests.support.programs import free_port
from tests.support.waiting import wait_until

ANY = ("--http", "localhost:0")


def bus(url: str, user: str) -> dict[str, str]:
    """The variables of a `[bus]`."""
    return {
        "CATERVA2_BUS_URL": url, "CATERVA2_BUS_USERNAME": user, "CATERVA2_BUS_PASSWORD": PASSWORDS.get(user, ""),
    }  # fmt: skip


def bridge(address: str, user: str) -> list[str]:
    """The lines of deploy/mosquitto/bridge.conf, for a broker at this address."""
    changes = {
        "address broker.example.org:1883": f"address {address}",
        "remote_username bridge": f"remote_username {user}" if user else "",
        "remote_password change-me": f"remote_password {PASSWORDS[user]}" if user else "",
        "restart_timeout 2 30": "restart_timeout 1",
    }
    text = (DEPLOY / "mosquitto/bridge.conf").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return [text]


@contextmanager
def published_elsewhere(stack: ExitStack, tmp_path: Path, kind: str) -> Iterator[list[str]]:
    """Publish the root foo on a broker of this kind; give the lines with which another broker bridges to it."""
    if kind == "mosquitto":
        there = stack.enter_context(DeployedMosquitto(tmp_path / "there"))
        env, options = bus(there.url, "foo"), ("--broker", "")
        lines = bridge(f"127.0.0.1:{there.port}", "watcher")
    else:
        port = free_port()
        broker = stack.enter_context(run_daemon("cat2bro", *ANY, "--mqtt", f"127.0.0.1:{port}", cwd=tmp_path))
        env, options = {}, ("--broker", broker.url)
        lines = bridge(f"127.0.0.1:{port}", "")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a.txt").write_text("first")
    more = (*ANY, "--statedir", str(tmp_path / "pub"), *options)
    with run_daemon("cat2pub", "foo", str(tmp_path / "root"), *more, cwd=tmp_path, env=env):
        yield lines


@about_own_broker
@pytest.mark.parametrize("kind", ["mosquitto", "cat2bro"])
def test_a_root_is_read_across_a_bridge(tmp_path: Path, kind: str) -> None:
    """The subscriber sees the root, reads a slice of it, and hears of a change."""
    with ExitStack() as stack:
        lines = stack.enter_context(published_elsewhere(stack, tmp_path, kind))
        here = stack.enter_context(Mosquitto(tmp_path / "here", lines=["allow_anonymous true", *lines]))
        subscriber = stack.enter_context(
            run_daemon("cat2sub", *ANY, "--broker", "", cwd=tmp_path, env=bus(here.url, "")),
        )
        client = Client(subscriber.url)
        stack.callback(client.close)

        wait_until(lambda: client.get_roots()["foo"]["status"] == "online", "the root on this side")
        assert b"irs" == client.fetch("foo/a.txt", slice_=slice(1, 4))
        (tmp_path / "root/a.txt").write_text("second")
        wait_until(lambda: client.fetch("foo/a.txt") == b"second", "the change")
        roots = httpx.get(f"{subscriber.url}/api/roots").json()
        assert ("live", True) == (roots["foo"]["freshness"], roots["foo"]["subscribed"])
