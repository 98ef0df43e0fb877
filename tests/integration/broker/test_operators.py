"""What only operators see: who is let in to it over HTTP, and how cat2cli shows it."""

import asyncio
import base64
import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from bus.client import BusClient
from bus.interface import Connected
from bus.topics import Topics
from caterva2.address import Address
from caterva2.broker.app import create_app
from caterva2.broker.users import changing_users
from caterva2.cli.main import main
from caterva2.daemon.locator import bus_urls
from caterva2.daemon.runner import serving
from caterva2.settings import BrokerSettings, BusSettings
from tests.integration.broker.test_routes import ROOT, broker, with_broker
from tests.support.processes import run
from tests.support.programs import command
from tests.support.users import quick_user
from tests.support.waiting import wait_until_async

LOCAL = {"Host": "localhost:8000"}


def basic(name: str, password: str) -> dict[str, str]:
    """The header of HTTP Basic."""
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


ADA, PIA = quick_user("ada", "admin", (), "sesam:öffne"), quick_user("pia", "publisher", ("*",), "pw")


def write_users(file: Path) -> Path:
    """An admin and a publisher."""
    with changing_users(file) as users:
        users.update(ada=ADA, pia=PIA)
    return file


@pytest.mark.parametrize("anonymous", [None, True, False])
def test_who_is_let_in(tmp_path: Path, anonymous: Any) -> None:
    """Admins are, and unnamed programs on this machine where the bus lets them in; nobody else is."""
    unnamed = 401 if anonymous is False else 200
    expected: list[tuple[dict[str, str], int]] = [
        (basic("ada", "sesam:öffne"), 200),
        ({**basic("ada", "sesam:öffne"), "X-Forwarded-For": "192.0.2.1", "Host": "broker.example.org"}, 200),
        (basic("ada", "wrong"), 401),
        (basic("bob", "sesam:öffne"), 401),
        (basic("", ""), 401),
        (basic("pia", "pw"), 403),
        ({"Authorization": "Basic !"}, 401),
        ({"Authorization": "Basic YWRh"}, 401),
        ({"Authorization": "Bearer x"}, 401),
        (LOCAL, unnamed),
        ({"Host": "127.0.0.1:8000"}, unnamed),
        ({"Host": "[::1]:8000"}, unnamed),
        ({"Host": "Broker.example.org"}, unnamed),
        ({"Host": "evil.example.org:8000"}, 401),
        ({"Host": "192.0.2.1:8000"}, 401),
        ({**LOCAL, "X-Forwarded-For": "127.0.0.1"}, 401),
        ({**LOCAL, "X-Real-IP": "127.0.0.1"}, 401),
        ({**LOCAL, "Forwarded": "for=127.0.0.1"}, 401),
        ({**LOCAL, "Via": "1.1 proxy"}, 401),
    ]

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        released = [await client.delete("/api/roots/foo", headers=each) for each in (LOCAL, basic("pia", "pw"))]
        assert [401 if anonymous is False else 404, 403] == [answer.status_code for answer in released]
        return [await client.get("/api/clients", headers=headers) for headers, _ in expected]

    settings = {"users": write_users(tmp_path / "users.json"), "urlbase": "http://broker.example.org"}
    answers = with_broker(work, tmp_path, anonymous=anonymous, **settings)

    assert [status for _, status in expected] == [answer.status_code for answer in answers]
    for answer in answers:
        assert (answer.status_code == 401) == ("www-authenticate" in answer.headers)
        assert "sesam" not in answer.text


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 101), ("127.0.0.1:8000", 101), ("evil.example.org:8000", 403)],
)
def test_a_page_of_a_stranger(tmp_path: Path, host: str, status: int) -> None:
    """A browser on this machine lets a page join the bus only under a name of this machine."""

    async def work(client: httpx.AsyncClient) -> int:
        reader, writer = await asyncio.open_connection("localhost", client.base_url.port)
        headers = (
            f"GET /mqtt HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        writer.write(headers.encode())
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return int(line.split()[1])

    assert status == with_broker(work, tmp_path)


def test_guessing(tmp_path: Path) -> None:
    """Who fails too often waits, even with the right password; that costs no hashing."""

    async def work(client: httpx.AsyncClient) -> list[int]:
        tries = [*[("ada", "x")] * 4, ("ada", "sesam:öffne")]
        return [(await client.get("/api/clients", headers=basic(*each))).status_code for each in tries]

    statuses = with_broker(work, tmp_path, users=write_users(tmp_path / "users.json"), max_logins=3)

    assert [401, 401, 401, 429, 429] == statuses


def test_a_report(tmp_path: Path) -> None:
    """The report tells who is on the bus, and whom the roots belong to."""

    async def work(client: httpx.AsyncClient) -> dict[str, Any]:
        urls = bus_urls(str(client.base_url).rstrip("/"), BusSettings())
        options = {"username": "pia", "password": "pw"}
        async with BusClient(urls, topics=Topics(), client_id="test", **options) as bus:  # type: ignore[arg-type]
            async for event in bus.messages():
                if isinstance(event, Connected):
                    break
            await bus.subscribe("caterva2/root/foo")
            await bus.publish(ROOT)

            state = tmp_path / "registry.json"
            await wait_until_async(lambda: "foo" in state.read_text())
            answer = await client.get("/api/clients", headers=LOCAL)
            assert "no-store" == answer.headers["cache-control"]
            found: dict[str, Any] = answer.json()
            return found

    report = with_broker(work, tmp_path, users=write_users(tmp_path / "users.json"), mqtt=Address("localhost", 0))
    (entry,) = report["clients"]

    assert ("", ROOT.http) == (report["broker"], report["roots"][0]["http"])
    assert ("foo", "pia", "online") == tuple(report["roots"][0][key] for key in ("name", "owner", "status"))
    assert ("pia", "publisher", 1, 1) == tuple(entry[key] for key in ("user", "role", "subscriptions", "received"))
    assert entry["id"].startswith("test-")
    assert entry["peer"].startswith("127.0.0.1:")


def test_an_external_broker(tmp_path: Path) -> None:
    """With an external broker there are roots but no clients, and its address is told."""

    async def work(client: httpx.AsyncClient) -> Any:
        return (await client.get("/api/clients", headers=LOCAL)).json()

    report = with_broker(work, tmp_path, bus=BusSettings(url="mqtt://localhost:1"))

    assert {"broker": "mqtt://localhost:1", "clients": [], "roots": []} == report


def test_an_old_statedir(tmp_path: Path) -> None:
    """What a release of before knew is known and retained, and from then on kept as it is now."""
    (tmp_path / "registry.json").write_text(json.dumps({"roots": [json.loads(ROOT.model_dump_json())], "services": []}))

    async def once() -> tuple[dict[str, Any], list[Any]]:
        async with broker(tmp_path, mqtt=Address("localhost", 0)) as client:
            urls = bus_urls(str(client.base_url).rstrip("/"), BusSettings())
            async with BusClient(urls, topics=Topics(), client_id="test") as bus:
                await bus.subscribe("caterva2/root/+")
                heard: list[Any] = []
                async for event in bus.messages():
                    heard.append(event)
                    if len(heard) > 1:
                        break
            roots: dict[str, Any] = (await client.get("/api/roots")).json()
            return roots, heard

    for _ in range(2):
        roots, heard = asyncio.run(once())
        assert ("foo", "offline", 1) == (*(roots["foo"][key] for key in ("name", "status")), roots["foo"]["seq"])
        assert ROOT.model_copy(update={"status": "offline"}) == heard[1]
        assert (tmp_path / "retained.sqlite").exists()


def test_cat2cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`cat2cli bus` finds the broker in the settings, and shows it as lines in a pipe and as JSON for programs."""
    monkeypatch.chdir(tmp_path)
    settings = BrokerSettings(http=Address("localhost", 0), mqtt=None, statedir=tmp_path / "bro", anonymous=True)

    async def scenario() -> list[int]:
        async with serving(create_app, settings) as url:
            (tmp_path / "caterva2.toml").write_text(f'[broker]\nurlbase = "{url}"\n')
            async with BusClient(bus_urls(url, BusSettings()), topics=Topics(), client_id="test") as bus:
                await wait_until_async(lambda: bus.connected)
                await bus.publish(ROOT)
                await asyncio.to_thread(_until_online, url)
                return [await asyncio.to_thread(main, ["bus", *args]) for args in ([], ["--json"])]

    assert [0, 0] == asyncio.run(scenario())
    lines = capsys.readouterr().out.splitlines()

    client = lines[0].split("\t")
    assert ("client", "-", "anonymous", 12) == (client[0], client[2], client[3], len(client))
    assert "root\tfoo\t-\tonline\thttp://localhost:8001" == lines[1]
    assert ["foo"] == [each["name"] for each in json.loads(lines[2])["roots"]]


def _until_online(url: str) -> None:
    while not httpx.get(f"{url}/api/roots").json():
        pass


@pytest.mark.parametrize(
    ("args", "status", "told"),
    [
        (["--broker", "localhost:1"], 4, "no answer from http://localhost:1 .*is a broker (cat2bro) running there?"),
        (["--broker", "nonsense"], 2, "--broker: 'nonsense' is not an address"),
        (["--broker", "{url}", "--release", "foo"], 3, "root foo belongs to nobody"),
        (["--broker", "{url}", "--username", "ada", "--password", "x"], 5, "there is no user 'ada' with this password"),
        (["--broker", "{url}/api"], 1, "is no broker (cat2bro)"),
    ],
)
def test_errors(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    status: int,
    told: str,
) -> None:
    """What goes wrong is one line on stderr, and a status of its kind."""
    monkeypatch.chdir(tmp_path)

    async def work(client: httpx.AsyncClient) -> int:
        url = str(client.base_url).rstrip("/")
        return await asyncio.to_thread(main, ["bus", *(each.format(url=url) for each in args)])

    ended = with_broker(work, tmp_path)
    output = capsys.readouterr()

    assert (status, "", 1) == (ended, output.out, output.err.count("\n"))
    for part in told.split(".*"):
        assert part in output.err


def test_on_a_terminal(tmp_path: Path) -> None:
    """A person sees two tables with headings, or is told that there is nothing."""

    async def work(client: httpx.AsyncClient) -> str:
        return await asyncio.to_thread(
            _on_terminal, [*command("cat2cli"), "bus", "--broker", str(client.base_url)], tmp_path
        )

    (tmp_path / "registry.json").write_text(json.dumps({"owners": {"foo": "pia"}}))

    shown = with_broker(work, tmp_path)

    assert "No clients." in shown
    assert ["root", "owner", "status", "address"] in [line.split() for line in shown.splitlines()]
    assert ["foo", "pia", "offline", "-"] in [line.split() for line in shown.splitlines()]


def _on_terminal(argv: list[str], cwd: Path) -> str:
    ours, its = pty.openpty()
    try:
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "NO_COLOR": "1", "TERM": "dumb"}
        subprocess.run(argv, cwd=cwd, env=environ, stdout=its, stderr=its, timeout=30, check=True)
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(its)


def test_help_of_the_command(tmp_path: Path) -> None:
    """The help of `cat2bro user` is there without any settings."""
    done = run([*command("cat2bro"), "user", "add", "--help"], tmp_path)

    assert (0, "") == (done.returncode, done.stderr)
    assert "--password-file" in done.stdout
