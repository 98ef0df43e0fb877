"""cat2bro as a process: how it ends, and what it says."""

import json
import re
import socket
from pathlib import Path

import httpx
import pytest

from tests.support.bus import about_own_broker
from tests.support.processes import Process, run, run_daemon
from tests.support.programs import command
from tests.support.waiting import wait_until

QUIET = ("--http", "localhost:0", "--mqtt", "")


@pytest.mark.parametrize(
    ("options", "environ", "conf", "stderr"),
    [
        (["--http", "8000"], {}, "", r"cat2bro: --http: '8000' is not an address: use host:port.*"),
        (["--conf", "none.toml"], {}, "", r"cat2bro: none.toml: no such file: .*"),
        (["--frobnicate"], {}, "", r"cat2bro: unrecognized arguments: --frobnicate; see cat2bro --help"),
        ([], {"CATERVA2_BROKER_HTPP": "x:1"}, "", r"cat2bro: CATERVA2_BROKER_HTPP: .*did you mean .*HTTP\?"),
        ([], {}, "[broker]\nhtpp = 1", r"cat2bro: caterva2.toml: broker.htpp: .*did you mean http\?"),
        ([], {}, "[broker]\nhttp = 1", r"cat2bro: caterva2.toml: broker.http: 1 has the wrong type: .*"),
        ([], {}, "[broker", r"cat2bro: caterva2.toml: is not TOML: .*"),
        ([*QUIET, "--statedir", "caterva2.toml"], {}, "", r"cat2bro: state directory .*caterva2.toml cannot be used.*"),
    ],
)
def test_bad_settings(tmp_path: Path, options: list[str], environ: dict[str, str], conf: str, stderr: str) -> None:
    """Bad settings end it with status 2 and exactly one line, which names the place and the remedy."""
    (tmp_path / "caterva2.toml").write_text(conf)

    ended = run([*command("cat2bro"), *options], tmp_path, environ)

    assert (2, "") == (ended.returncode, ended.stdout)
    assert re.fullmatch(stderr + "\n", ended.stderr), ended.stderr


def test_state_directory_in_use(tmp_path: Path) -> None:
    """A second broker on the same state directory ends with status 2 and names the first one's process."""
    with run_daemon("cat2bro", *QUIET, cwd=tmp_path) as broker:
        ended = run([*command("cat2bro"), *QUIET], tmp_path)

        assert ended.returncode == 2
        assert re.fullmatch(
            rf"cat2bro: state directory \S+/_caterva2/bro is in use by process {broker.pid}: .*--statedir\n",
            ended.stderr,
        )


def test_health(tmp_path: Path) -> None:
    """The health tells who answers, and whether the bus is joined."""
    with run_daemon("cat2bro", *QUIET, cwd=tmp_path) as broker:
        wait_until(lambda: httpx.get(f"{broker.url}/health").json()["bus"] == "connected")
        health = httpx.get(f"{broker.url}/health").json()

    assert ("ok", "broker", None) == (health["status"], health["kind"], health["root"])
    assert health["instance"]


def test_help(tmp_path: Path) -> None:
    """--help explains the options, on stdout, with status 0."""
    ended = run([*command("cat2bro"), "--help"], tmp_path)

    assert (0, "") == (ended.returncode, ended.stderr)
    assert "$CATERVA2_BROKER_HTTP" in ended.stdout


def test_tutorial(tmp_path: Path) -> None:
    """The settings of the tutorial's file are those of its options, and Ctrl-C ends it with status 0."""
    (tmp_path / "caterva2.toml").write_text('[broker]\nhttp = "localhost:0"\nstatedir = "./cat2-bro"\nmqtt = ""\n')

    with run_daemon("cat2bro", cwd=tmp_path) as broker:
        assert {} == httpx.get(f"{broker.url}/api/roots").json()
        assert broker.interrupt() == 0

    assert (tmp_path / "cat2-bro").is_dir()
    assert not (tmp_path / "_caterva2").exists()


@about_own_broker
def test_busy_mqtt_port(tmp_path: Path) -> None:
    """A busy port for MQTT tools is a warning with the remedy, and all else works without it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with run_daemon("cat2bro", "--http", "localhost:0", "--mqtt", f"127.0.0.1:{port}", cwd=tmp_path) as broker:
            urls = httpx.get(f"{broker.url}/api/bus").json()["urls"]
            health = wait_until(lambda: httpx.get(f"{broker.url}/health").json()["bus"] == "connected")
            lines = [line for line in broker.output.splitlines() if "WARNING" in line]

    assert [f"{broker.url.replace('http', 'ws')}/mqtt"] == urls
    assert health
    assert len(lines) == 1
    assert re.search(rf"127\.0\.0\.1:{port}: .*free the port or choose another with --mqtt", lines[0])


def test_unix_socket(tmp_path: Path) -> None:
    """The broker serves on a unix socket, for a reverse proxy; the bus's URL is the proxy's then."""
    (tmp_path / "caterva2.toml").write_text(
        '[broker]\nhttp = "./bro.sock"\nmqtt = ""\nurlbase = "https://example.org/cat2/"\n'
    )
    with Process(command("cat2bro"), tmp_path) as broker:
        broker.wait_for(r"^cat2bro: listening on unix:\./bro\.sock$")
        transport = httpx.HTTPTransport(uds=str(tmp_path / "bro.sock"))
        with httpx.Client(transport=transport, base_url="http://localhost") as client:
            assert ["wss://example.org/cat2/mqtt"] == client.get("/api/bus").json()["urls"]
        assert broker.stop() == 0


def test_damaged_registry(tmp_path: Path) -> None:
    """A damaged registry is set aside with a warning, and the broker starts without it."""
    (tmp_path / "_caterva2/bro").mkdir(parents=True)
    (tmp_path / "_caterva2/bro/registry.json").write_text('{"roots": [')

    with run_daemon("cat2bro", *QUIET, cwd=tmp_path) as broker:
        assert {} == httpx.get(f"{broker.url}/api/roots").json()
        assert "registry.json is damaged" in broker.output

    assert (tmp_path / "_caterva2/bro/registry.json.damaged").exists()


def test_registry_that_cannot_be_written(tmp_path: Path) -> None:
    """A full disk, say, is told in one line and ends nothing."""
    (tmp_path / "_caterva2/bro/registry.json.partial").mkdir(parents=True)

    with run_daemon("cat2bro", *QUIET, cwd=tmp_path) as broker:
        broker.wait_for(r" ERROR .*the registry cannot be saved in \S+/bro: Is a directory$")

        assert json.loads(httpx.get(f"{broker.url}/health").content)["status"] == "ok"
        assert broker.stop() == 0
