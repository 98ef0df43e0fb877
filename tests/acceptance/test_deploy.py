"""What deploy/ offers is loaded by the programs that it is for."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from caterva2.daemon.arguments import BROKER, PUBLISHER, SUBSCRIBER, parser
from caterva2.settings import load_broker, load_publisher, load_subscriber
from tests.support.conf import write_conf
from tests.support.mosquitto import PASSWORDS, DeployedMosquitto, login
from tests.support.processes import Process, run, run_daemon
from tests.support.programs import free_port, require_program
from tests.support.waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
LOADERS = {"broker": load_broker, "publisher": load_publisher, "subscriber": load_subscriber}


def compose() -> dict[str, Any]:
    """The compose file, read."""
    return dict(yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text()))


@pytest.mark.parametrize("kind", LOADERS)
def test_compose_environment(kind: str, tmp_path: Path) -> None:
    """The variables of each service in the compose file are settings that the service takes."""
    environ: Mapping[str, str] = compose()["services"][kind]["environment"]
    filled = {name: re.sub(r"\$\{.*\}", "secret", value) for name, value in environ.items()}
    if kind == "publisher":
        filled["CATERVA2_PUBLISHER_ROOT"] = str(tmp_path)

    settings = LOADERS[kind]({}, filled, tmp_path)

    assert {"broker": 8000, "publisher": 8001, "subscriber": 8002}[kind] == settings.http.port


def test_compose_shape() -> None:
    """Every service of the compose file has a command of ours, an image, and a volume for its state."""
    document = compose()

    for name, service in document["services"].items():
        assert {"broker": "cat2bro", "publisher": "cat2pub", "subscriber": "cat2sub"}[name] == service["command"]
        assert f"{name}:/var/lib/caterva2" in service["volumes"]
        assert (DEPLOY / "compose" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert document["services"].keys() == document["volumes"].keys()


def test_dockerfile() -> None:
    """What the Dockerfile copies is there, and the build needs no more than that."""
    text = (DEPLOY / "compose/Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()]

    assert {"pyproject.toml", "README.md", "LICENSE", "bus", "caterva2"} == set(copied)
    assert all((DEPLOY.parent / name).exists() for name in copied)


def test_systemd_units(tmp_path: Path) -> None:
    """Systemd finds nothing wrong with the units."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("the program systemd-analyze: missing")  # a container has no systemd, not even under CI
    names = {"cat2bro.service": "cat2bro.service", "cat2pub@.service": "cat2pub@foo.service"}
    for source in (DEPLOY / "systemd").glob("*.service"):
        text = source.read_text()
        # The user and the venv are made at installation.
        text = re.sub(r"/opt/caterva2/bin/\w+", "/bin/true", text).replace("User=caterva2", "User=root")
        (tmp_path / names.get(source.name, source.name)).write_text(text)
    units = sorted(f"./{file.name}" for file in tmp_path.iterdir())

    done = run(["systemd-analyze", "verify", "--man=no", *units], cwd=tmp_path)

    assert 3 == len(units)
    assert (0, "") == (done.returncode, done.stdout + done.stderr)


@pytest.mark.parametrize("unit", ["cat2bro.service", "cat2pub@.service", "cat2sub.service"])
def test_systemd_options(unit: str) -> None:
    """The options in a unit are options of the command that it starts."""
    line = re.search(r"^ExecStart=/opt/caterva2/bin/(\S+) (.*)$", (DEPLOY / "systemd" / unit).read_text(), re.MULTILINE)
    assert line is not None
    options = re.findall(r"--\w+", line[2])
    command = {"cat2bro": BROKER, "cat2pub": PUBLISHER, "cat2sub": SUBSCRIBER}[line[1]]

    known = parser(command).format_help()

    assert [] == [option for option in options if option not in known]


def test_mosquitto_as_the_bus(tmp_path: Path) -> None:
    """With Mosquitto set up as in deploy/, each daemon joins it by its own name, and a watcher sees the root."""
    (tmp_path / "foo-root").mkdir()
    with DeployedMosquitto(tmp_path / "mosquitto") as mosquitto:
        write_conf(tmp_path, {"bus": {"url": mosquitto.url}, "broker": {"http": f"localhost:{free_port()}"}})
        users = {"cat2bro": "cat2bro", "cat2pub": "foo", "cat2sub": "cat2sub"}
        env = {daemon: _user(user) for daemon, user in users.items()}
        with (
            run_daemon("cat2bro", cwd=tmp_path, env=env["cat2bro"]) as broker,
            run_daemon("cat2pub", "foo", "foo-root", "--http", "localhost:0", cwd=tmp_path, env=env["cat2pub"]),
            run_daemon("cat2sub", "--http", "localhost:0", cwd=tmp_path, env=env["cat2sub"]) as subscriber,
        ):
            watch = [require_program("mosquitto_sub"), "-p", str(mosquitto.port), *login("watcher")]
            with Process([*watch, "-v", "-t", "caterva2/#"], cwd=tmp_path) as watcher:
                line = watcher.wait_for(r'^caterva2/root/foo (\{.*"status":"online".*\})$')

            assert '"name":"foo"' in line[1]
            assert [mosquitto.url] == httpx.get(f"{broker.url}/api/bus").json()["urls"]
            wait_until(lambda: "foo" in httpx.get(f"{broker.url}/api/roots").json(), "cat2bro to know the root")
            wait_until(lambda: "foo" in httpx.get(f"{subscriber.url}/api/roots").json(), "cat2sub to know the root")


def _user(name: str) -> dict[str, str]:
    return {"CATERVA2_BUS_USERNAME": name, "CATERVA2_BUS_PASSWORD": PASSWORDS[name]}
