"""Debian's MQTT broker as a real process: open to all, or set up as in `deploy/` with its users and their rights."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.processes import Process, run
from tests.support.programs import free_port, require_program

DEPLOY = Path(__file__).parents[2] / "deploy"
PASSWORDS: Mapping[str, str] = {name: f"secret of {name}" for name in ("cat2bro", "foo", "cat2sub", "watcher", "admin")}
"""Of the users in `deploy/mosquitto/caterva2.acl`; `foo` is the publisher of the root of that name."""


class Mosquitto(Process):
    """Mosquitto on a free port, open to all on this machine.

    Args:
        cwd: for its files.
        port: to listen on; 0 is any.
        lines: of its configuration, below the listener, instead of those that let everybody in.
    """

    def __init__(self, cwd: Path, port: int = 0, lines: Iterable[str] = ()) -> None:
        self.port = port or free_port()
        self.directory = cwd
        cwd.mkdir(parents=True, exist_ok=True)
        conf = cwd / "mosquitto.conf"
        # As root it would become another user, who cannot read the files of a test.
        start = ["user root"] if os.geteuid() == 0 else []
        given = [*lines] or ["allow_anonymous true", "persistence false"]
        conf.write_text("\n".join([*start, f"listener {self.port} 127.0.0.1", *given, ""]))
        super().__init__([require_program("mosquitto"), "-c", str(conf)], cwd)

    @property
    def url(self) -> str:
        """Its address."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        super().start()
        self.wait_for(r"mosquitto version \S+ running")


class DeployedMosquitto(Mosquitto):
    """Mosquitto with the configuration, the rights and the users of `deploy/mosquitto`.

    Args:
        cwd: for its files.
        port: to listen on; 0 is any.
        root: that its publisher may announce, and its publisher's name.
        more: lines to add to its configuration.
        autosave: save at each change, so that nothing is forgotten when a test kills it.
    """

    def __init__(
        self, cwd: Path, port: int = 0, root: str = "foo", more: Iterable[str] = (), *, autosave: bool = True
    ) -> None:
        cwd.mkdir(parents=True, exist_ok=True)
        conf = (DEPLOY / "mosquitto/mosquitto.conf").read_text()
        changes = {
            "listener 1883 127.0.0.1": "",
            "/etc/mosquitto/": f"{cwd}/",
            "/var/lib/mosquitto/": f"{cwd}/",
        }
        if autosave:
            changes["autosave_interval 60"] = "autosave_interval 1\nautosave_on_changes true"
        for old, new in changes.items():
            assert old in conf
            conf = conf.replace(old, new)
        acl = (DEPLOY / "mosquitto/caterva2.acl").read_text()
        (cwd / "caterva2.acl").write_text(acl.replace("user foo", f"user {root}").replace("/foo\n", f"/{root}\n"))
        passwords = dict(PASSWORDS)
        passwords[root] = passwords.pop("foo")
        write_passwords(cwd / "caterva2.passwd", passwords)
        super().__init__(cwd, port, [conf, *more])


def write_passwords(file: Path, passwords: Mapping[str, str]) -> None:
    """Write a password file for Mosquitto."""
    file.write_text("".join(f"{name}:{password}\n" for name, password in passwords.items()))
    done = run([require_program("mosquitto_passwd"), "-U", str(file)], file.parent)
    assert 0 == done.returncode, done.stderr


def login(user: str) -> list[str]:
    """The options that make `mosquitto_sub` and `mosquitto_pub` a user of `deploy/`."""
    return ["-u", user, "-P", PASSWORDS[user]]


def copy(directory: Path, name: str) -> Path:
    """Copy a file of `deploy/mosquitto` into a directory."""
    return Path(shutil.copy(DEPLOY / "mosquitto" / name, directory))
