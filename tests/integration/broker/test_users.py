"""Users, roles and owners of roots, with a real cat2bro and Mosquitto's tools."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bus.errors import BusUnavailableError
from bus.link import Link, LinkOptions
from bus.url import BusUrl
from caterva2.broker.users import changing_users
from caterva2.daemon.tls import client_context
from caterva2.daemon.tokens import Verifier
from tests.support.authority import Authority
from tests.support.conf import write_conf
from tests.support.processes import Daemon, Process, run, run_daemon
from tests.support.programs import command, require_program
from tests.support.users import quick_user
from tests.support.waiting import wait_until

PASSWORDS = {"pia": "pw-pia", "pat": "pw-pat", "sue": "pw-sue", "otto": "pw-otto", "ada": "pw-ada"}


def announcement(name: str, **changes: Any) -> str:
    """The announcement of a root."""
    values = {
        "name": name,
        "http": "http://localhost:8001",
        "status": "online",
        "epoch": "e1",
        "seq": 5,
        "instance": "i1",
        "birth": 1,
        "heartbeat": 3600.0,
        "kind": "directory",
        "time": time.time(),
        "version": "1",
    }
    return json.dumps({**values, **changes})


class Site:
    """A broker with users, and the tools to meet it."""

    def __init__(self, directory: Path, broker: Daemon) -> None:
        self.directory = directory
        self.broker = broker

    @property
    def port(self) -> str:
        urls = httpx.get(f"{self.broker.url}/api/bus").json()["urls"]
        return str(next(url for url in urls if url.startswith("mqtt://")).rpartition(":")[2])

    def tool(self, name: str, user: str, *options: str, password: str = "") -> list[str]:
        who = ["-u", user, "-P", password or PASSWORDS[user]] if user else []
        return [require_program(name), "-p", self.port, *who, *options]

    def publish(self, user: str, topic: str, payload: str, **options: str) -> bool:
        """Publish a retained message; whether it was acknowledged."""
        argv = self.tool("mosquitto_pub", user, "-q", "1", "-r", "-t", topic, "-m", payload, **options)
        return run(argv, self.directory).returncode == 0

    def watch(self, user: str, *options: str) -> Process:
        """A mosquitto_sub that goes on, and says when it is subscribed."""
        line_by_line = [require_program("stdbuf"), "-oL"]
        return Process([*line_by_line, *self.tool("mosquitto_sub", user, "-d", "-v", *options)], self.directory)

    def roots(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.broker.url}/api/roots").json()
        return answer

    def delete(self, root: str, user: str, password: str = "") -> int:
        """Release a root; the status."""
        auth = (user, password or PASSWORDS[user])
        return httpx.delete(f"{self.broker.url}/api/roots/{root}", auth=auth).status_code

    def members(self) -> list[str]:
        """The users who are on the bus."""
        answer = httpx.get(f"{self.broker.url}/api/clients", auth=("ada", PASSWORDS["ada"])).json()
        return [each["user"] for each in answer["clients"]]

    def cat2cli(self, *args: str) -> tuple[int, str, str]:
        done = run([*command("cat2cli"), "bus", "--broker", self.broker.url, *args], self.directory)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A broker on this machine, with a user of each role and two publishers."""
    settings = {"http": "localhost:0", "mqtt": "localhost:0", "users": "users.json"}
    write_conf(tmp_path, {"broker": settings})
    with changing_users(tmp_path / "users.json") as users:
        for name, role, roots in (
            ("pia", "publisher", ("foo", "lab-*")),
            ("pat", "publisher", ("*",)),
            ("sue", "subscriber", ()),
            ("otto", "observer", ()),
            ("ada", "admin", ()),
        ):
            users[name] = quick_user(name, role, roots, PASSWORDS[name])  # type: ignore[arg-type]
    with run_daemon("cat2bro", cwd=tmp_path) as broker:
        yield Site(tmp_path, broker)


def test_users_come_and_go(site: Site) -> None:
    """A user who is added gets in at once; one who is removed is cut off, and its last will is heard."""
    (site.directory / "pw").write_text("new\n")
    add = [*command("cat2bro"), "user", "add", "nora", "--role", "publisher", "--root", "n*", "--password-file", "pw"]
    assert not site.publish("nora", "caterva2/root/nest", announcement("nest"), password="new")

    assert "user nora is added: publisher of n*\n" == run(add, site.directory).stdout
    site.broker.wait_for("users are read again")
    assert site.publish("nora", "caterva2/root/nest", announcement("nest"), password="new")
    assert not site.publish("nora", "caterva2/root/nest", announcement("nest"), password="old")
    assert "refused: wrong name or password of user 'nora'" in site.broker.output
    will = [
        "--will-topic",
        "caterva2/root/nest",
        "--will-payload",
        announcement("nest", status="offline"),
        "--will-retain",
    ]
    argv = site.tool("mosquitto_sub", "nora", "-d", "-t", "caterva2/root/nest", *will, password="new")
    with Process(argv, site.directory) as nora:
        nora.wait_for("Subscribed")
        wait_until(lambda: site.roots()["nest"]["status"] == "online")
        assert ["nora"] == site.members()
        run([*command("cat2bro"), "user", "remove", "nora"], site.directory)
        site.broker.wait_for("of 'nora' .* cut off: its user was changed or removed")
        wait_until(lambda: site.roots()["nest"]["status"] == "offline")
        assert [] == site.members()

    assert not site.publish("nora", "caterva2/root/nest", announcement("nest"), password="new")
    assert 3 == site.broker.output.count("refused: wrong name or password of user 'nora'")


def test_the_owner_of_a_root(site: Site) -> None:
    """Who announced a root first keeps it over kill -9 of the broker, until an admin releases it."""
    ada = ("--username", "ada", "--password", PASSWORDS["ada"])
    file = site.directory / "_caterva2/bro/registry.json"
    assert site.publish("pia", "caterva2/root/foo", announcement("foo"))
    wait_until(lambda: {"foo": "pia"} == json.loads(file.read_text())["owners"])
    for user in ("pat", "", "sue", "otto"):
        assert not site.publish(user, "caterva2/root/foo", announcement("foo", instance="i2"))
        assert not site.publish(user, "caterva2/change/foo", "{}")
    assert "may not publish to 'caterva2/root/foo': root foo belongs to pia" in site.broker.output
    assert 409 == site.delete("foo", "ada")

    site.broker.kill()
    site.broker.start()
    assert not site.publish("pat", "caterva2/root/foo", announcement("foo", instance="i2"))
    assert "offline" == site.roots()["foo"]["status"]
    assert 403 == site.delete("foo", "pat")
    assert 401 == site.delete("foo", "ada", "guess")
    assert 404 == site.delete("bar", "ada")
    assert site.cat2cli("--release", "foo", *ada) == (
        0,
        "root foo belongs to nobody now: the next user who announces it gets it\n",
        "",
    )
    assert "root foo no longer belongs to pia: released by ada" in site.broker.output
    assert site.publish("pat", "caterva2/root/foo", announcement("foo", instance="i2"))
    assert not site.publish("pia", "caterva2/root/foo", announcement("foo"))


def test_what_each_sees(site: Site) -> None:
    """An observer sees roots and changes but no tokens; a subscriber sees its own, which hold; a publisher little."""
    site.publish("pia", "caterva2/root/foo", announcement("foo"))
    status = {
        "kind": "subscriber",
        "id": "s",
        "status": "online",
        "http": "",
        "instance": "i",
        "birth": 1,
        "time": 1.0,
        "version": "1",
        "user": "sue",
    }
    with (
        site.watch("otto", "-t", "caterva2/#") as otto,
        site.watch("sue", "-t", "#") as sue,
        site.watch("", "-t", "caterva2/#") as anonymous,
        site.watch("pia", "-t", "caterva2/#", "-t", "caterva2/root/foo") as pia,
    ):
        for each in (otto, sue, anonymous, pia):
            each.wait_for("^caterva2/root/foo ")
        site.publish("sue", "caterva2/service/subscriber/s", json.dumps(status))
        token = json.loads(sue.wait_for(r"^caterva2/token/sue (\{.*\})$")[1])["tokens"]["foo"]
        site.publish("sue", "caterva2/service/subscriber/last", json.dumps({**status, "id": "last"}))
        for each in (otto, sue, anonymous):
            each.wait_for("^caterva2/service/subscriber/last ")

        assert "denied" not in otto.output + sue.output + anonymous.output
        assert "/token/" not in otto.output + anonymous.output + pia.output
        assert "/service/" not in pia.output
        keys = httpx.get(f"{site.broker.url}/api/bus").json()["keys"]
        assert "sue" == Verifier(keys).check(token, "foo")
    refused = run(site.tool("mosquitto_sub", "otto", "-W", "5", "-t", "caterva2/token/sue"), site.directory)
    assert "denied" in refused.stderr


def test_wills_obey_the_rules(site: Site) -> None:
    """Who may not announce a root may not leave a last will for it either, and does not come in with one."""
    will = [
        "--will-topic",
        "caterva2/root/foo",
        "--will-payload",
        announcement("foo", status="offline"),
        "--will-retain",
    ]
    for user in ("otto", "sue"):
        done = run(site.tool("mosquitto_sub", user, "-t", "caterva2/root/+", "-W", "5", *will), site.directory)
        assert 5 == done.returncode, done.stderr


def test_a_file_that_cannot_be_used(site: Site) -> None:
    """A users file that is damaged while the broker runs changes nothing, and is told; at its start it is an error."""
    file = site.directory / "users.json"
    good = file.read_text()
    file.write_text("{")
    site.broker.wait_for("ERROR .*the users stay as they are: users file .*users.json: is damaged: ")
    assert site.publish("pia", "caterva2/root/foo", announcement("foo"))
    file.write_text(good)
    site.broker.wait_for("users are read again")
    site.broker.signal(signal.SIGHUP)
    wait_until(lambda: site.broker.output.count("users are read again") == 2)
    site.broker.stop()
    file.chmod(0o644)

    ended = run(command("cat2bro"), site.directory)

    assert (2, "") == (ended.returncode, ended.stdout)
    assert ended.stderr == f"cat2bro: users file {file}: others may read or change it (mode 0644): chmod 600 {file}\n"


@pytest.mark.parametrize(
    ("anonymous", "line"),
    [
        (None, "INFO .*without a user name may join the bus from this machine only"),
        (False, "WARNING .*nobody may join the bus"),
    ],
)
def test_anonymous(tmp_path: Path, anonymous: Any, line: str) -> None:
    """What is set for clients without a name is said at the start, and holds."""
    environ = {} if anonymous is None else {"CATERVA2_BROKER_ANONYMOUS": str(anonymous).lower()}
    with run_daemon("cat2bro", "--http", "localhost:0", "--mqtt", "localhost:0", cwd=tmp_path, env=environ) as broker:
        broker.wait_for(line)

        assert (anonymous is None) == Site(tmp_path, broker).publish("", "caterva2/root/foo", announcement("foo"))


def test_tls(tmp_path: Path) -> None:
    """With a certificate the plain port is off, and clients come over mqtts by name or certificate, and over wss."""
    authority = Authority(tmp_path / "tls")
    server, sue = authority.issue(), authority.issue("sue", client=True)
    stranger = Authority(tmp_path / "other").issue("sue", client=True)
    settings = {
        "http": "localhost:0",
        "mqtts": "localhost:0",
        "users": "users.json",
        "anonymous": "false",
        "certificate": str(server.certificate),
        "key": str(server.key),
        "client_ca": str(authority.ca),
    }
    environ = {f"CATERVA2_BROKER_{key}".upper(): value for key, value in settings.items()}
    with changing_users(tmp_path / "users.json") as users:
        users["sue"] = quick_user("sue", "subscriber", (), PASSWORDS["sue"])

    with run_daemon("cat2bro", cwd=tmp_path, env=environ) as broker:
        mqtts, wss = httpx.get(f"{broker.url}/api/bus", verify=client_context(authority.ca)).json()["urls"]
        assert ("mqtts", "wss") == (mqtts.partition(":")[0], wss.partition(":")[0])
        tool = [require_program("mosquitto_sub"), "-h", "localhost", "-p", mqtts.rpartition(":")[2], "--cafile"]
        tool += [str(authority.ca), "-t", "caterva2/#", "-C", "1", "-W", "5"]
        shown = [["--cert", str(each.certificate), "--key", str(each.key)] for each in (sue, stranger)]
        statuses = [run([*tool, *options], tmp_path).returncode for options in (*shown, [])]
        assert 0 == statuses[0]
        assert 0 not in statuses[1:]
        assert joined(wss, authority.ca, "sue", PASSWORDS["sue"])
        assert not joined(wss, authority.ca, "sue", "wrong")
        ca = {"CATERVA2_CLIENT_CA": str(authority.ca)}
        refused = run([*command("cat2cli"), "bus", "--broker", broker.url], tmp_path, ca)
        assert (5, "ask as an admin" in refused.stderr) == (refused.returncode, True), refused.stderr


def joined(url: str, ca: Path, user: str, password: str) -> bool:
    """Whether a member gets in."""

    async def scenario() -> bool:
        context = client_context(ca)
        options = LinkOptions(15, user, password, context, 5.0, 5.0)
        link = Link(BusUrl.parse(url), "test", options, None, lambda _topic, _payload: None)
        try:
            await link.open()
        except BusUnavailableError:
            return False
        finally:
            await link.close()
        return True

    return asyncio.run(scenario())
