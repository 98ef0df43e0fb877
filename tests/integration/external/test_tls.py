"""Joining Mosquitto over TLS, with a private authority and client certificates; and what is said when that fails."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.authority import Authority
from tests.support.mosquitto import PASSWORDS, DeployedMosquitto
from tests.support.processes import Daemon, run, run_daemon
from tests.support.programs import free_port
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Site:
    """A Mosquitto with a TLS listener of each kind, and the files that belong to it."""

    directory: Path
    ca: Path
    certificate: tuple[Path, Path]
    ports: dict[str, int]

    def env(self, scheme: str = "mqtts", port: str = "", **settings: str | Path) -> dict[str, str]:
        """The variables of a `[bus]` that suits."""
        values: dict[str, object] = {
            "url": f"{scheme}://localhost:{self.ports[port or scheme]}",
            "ca": self.ca, "username": "foo", "password": PASSWORDS["foo"],
        } | settings  # fmt: skip
        return {f"CATERVA2_BUS_{key.upper()}": str(value) for key, value in values.items()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Brokers with all kinds of certificates."""
    directory = tmp_path_factory.mktemp("site")
    authority = Authority(directory)
    good, expired = (astuple(authority.issue(file=name, days=days)) for name, days in (("good", 30), ("expired", -1)))
    other = astuple(Authority(directory / "other").issue())
    ports = {name: free_port() for name in ("mqtts", "wss", "expired", "other", "certificate")}
    tls = {
        "mqtts": (*good, ""),
        "wss": (*good, "protocol websockets"),
        "expired": (*expired, ""),
        "other": (*other, ""),
        "certificate": (*good, f"cafile {authority.ca}\nrequire_certificate true"),
    }
    lines = [
        f"listener {ports[name]} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n{more}"
        for name, (certificate, key, more) in tls.items()
    ]
    with DeployedMosquitto(directory / "mosquitto", more=lines):
        yield Site(directory, authority.ca, astuple(authority.issue("foo", client=True)), ports)


@contextmanager
def publisher(tmp_path: Path, env: dict[str, str]) -> Iterator[Daemon]:
    """A publisher of the root foo with these settings."""
    (tmp_path / "foo-root").mkdir(exist_ok=True)
    with run_daemon("cat2pub", "foo", "foo-root", "--http", "localhost:0", cwd=tmp_path, env=env) as daemon:
        yield daemon


def is_ready(daemon: Daemon) -> bool:
    """Whether its root is announced."""
    return httpx.get(f"{daemon.url}/ready").status_code == 200


@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
def test_a_private_authority_is_believed(site: Site, tmp_path: Path, scheme: str) -> None:
    """`mqtts://` and `wss://` with a CA of one's own, and the password in a file."""
    secret = tmp_path / "secret"
    secret.write_text(f"{PASSWORDS['foo']}\n")
    with publisher(tmp_path, site.env(scheme, password="", password_file=secret)) as daemon:
        wait_until(lambda: is_ready(daemon), "the announcement")
        assert "WARNING" not in daemon.output


def test_a_client_certificate_is_shown(site: Site, tmp_path: Path) -> None:
    """To a broker that wants one."""
    certificate, key = site.certificate
    with publisher(tmp_path, site.env(port="certificate", certificate=certificate, key=key)) as daemon:
        wait_until(lambda: is_ready(daemon), "the announcement")


@pytest.mark.parametrize(
    ("port", "settings", "said"),
    [
        ("other", {}, r"certificate cannot be verified: .*; is /\S+/ca.pem, which \[bus\] ca names, its authority\?"),
        ("mqtts", {"ca": ""}, r"certificate cannot be verified: .*; name the file of its authority in \[bus\] ca"),
        ("expired", {}, r"its certificate has expired \(or the clock here is fast\); renew it at the broker"),
        ("certificate", {}, r"; name the files of one in \[bus\] certificate and key"),
        ("mqtts", {"password": "wrong"}, r"refused: Not authorized; check \[bus\] username 'foo', its password, and"),
        ("mqtts", {"password_file": "nowhere", "password": ""}, r"password_file /\S+/nowhere: cannot be read: No such"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_its_remedy(
    site: Site, tmp_path: Path, port: str, settings: dict[str, str], said: str
) -> None:
    """The daemon runs and tries again; /ready says the same."""
    env = site.env(port=port, **settings)
    with run_daemon("cat2sub", "--http", "localhost:0", cwd=tmp_path, env=env) as daemon:
        daemon.wait_for(rf"^.* bus.client: no bus yet, trying again: .*{said}.*$")
        answer = httpx.get(f"{daemon.url}/ready")

        assert (503, 200) == (answer.status_code, httpx.get(f"{daemon.url}/health").status_code)
        # Who closes a connection may do so before or after its reason arrived; the remedy is the same.
        assert re.search(said, answer.json()["detail"])
        assert "Traceback" not in daemon.output
        assert "_ssl.c" not in daemon.output


def test_a_file_that_is_not_there_is_a_bad_setting(site: Site, tmp_path: Path) -> None:
    """Said in one line at the start, which names the section and the file."""
    done = run([sys.executable, "-m", "caterva2.subscriber"], tmp_path, site.env(ca="nowhere.pem"))

    assert 2 == done.returncode
    assert re.fullmatch(r"cat2sub: \[bus\] /\S+/nowhere.pem: cannot be read: No such file.*\n", done.stderr)


def test_what_was_put_right_counts_without_a_restart(site: Site, tmp_path: Path) -> None:
    """The file of the password is read again at the next attempt."""
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    with publisher(tmp_path, site.env(password="", password_file=secret)) as daemon:
        daemon.wait_for(r"check \[bus\] username 'foo', its password_file /\S+/secret")
        secret.write_text(PASSWORDS["foo"])
        wait_until(lambda: is_ready(daemon), "the announcement")
