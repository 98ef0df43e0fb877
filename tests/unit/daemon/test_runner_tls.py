"""Daemons that speak TLS: as processes, whose certificates SIGHUP has read again, and inside a caller's loop."""

import asyncio
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from caterva2.address import Address
from caterva2.daemon.runner import serving
from caterva2.daemon.tls import client_context
from caterva2.errors import SettingsError
from caterva2.settings import BrokerSettings
from tests.support.authority import Authority
from tests.support.processes import run, run_daemon
from tests.support.programs import command
from tests.support.waiting import wait_until


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    """An authority, whose files a test may spoil."""
    return Authority(tmp_path)


def certificate_of(url: str, authority: Authority) -> str:
    """The certificate that a daemon shows to a new connection, which is checked."""
    port = int(url.rpartition(":")[2])
    return ssl.get_server_certificate(("localhost", port), ca_certs=str(authority.ca))


def test_https_and_wss(authority: Authority) -> None:
    """The same address speaks https and wss, and says so to the app; plain HTTP there gets no answer."""
    pair = authority.issue()
    seen: list[str] = []

    async def hello(request: Request) -> Response:
        return PlainTextResponse(request.url.scheme)

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.url.scheme)
        await websocket.receive()

    def create_app(_settings: BrokerSettings, address: Address) -> Starlette:
        seen.append(address.url)
        return Starlette(routes=[Route("/", hello), WebSocketRoute("/ws", echo)])

    async def main() -> tuple[str, str, str]:
        tls = client_context(authority.ca)
        settings = BrokerSettings(http=Address("localhost", 0), certificate=pair.certificate, key=pair.key)
        async with (
            serving(create_app, settings) as url,
            httpx.AsyncClient(verify=tls) as client,
            connect(f"{url.replace('https', 'wss')}/ws", ssl=tls) as websocket,
        ):
            with pytest.raises(httpx.TransportError):
                await client.get(url.replace("https", "http"))
            return url, (await client.get(url)).text, str(await websocket.recv())

    url, *schemes = asyncio.run(main())

    assert ["https", "wss"] == schemes
    assert [url] == seen
    assert url.startswith("https://localhost:")


def test_sighup_has_certificates_read_again(authority: Authority, tmp_path: Path) -> None:
    """After SIGHUP new connections get the new certificate; a bad file is told, and the old one stays."""
    pair = authority.issue()
    env = {"CATERVA2_BROKER_CERTIFICATE": str(pair.certificate), "CATERVA2_BROKER_KEY": str(pair.key)}
    with run_daemon("cat2bro", "--http", "localhost:0", "--mqtt", "", cwd=tmp_path, env=env) as broker:
        assert broker.url.startswith("https://localhost:")
        with httpx.Client(verify=client_context(authority.ca)) as client:
            assert client.get(f"{broker.url}/health").json()["kind"] == "broker"
            before = certificate_of(broker.url, authority)
            authority.issue()
            broker.signal(signal.SIGHUP)
            after = wait_until(lambda: (found := certificate_of(broker.url, authority)) != before and found)

            pair.certificate.write_text("garbage")
            broker.signal(signal.SIGHUP)
            broker.wait_for(r"the certificate in use stays: .*localhost\.pem: holds no certificate in PEM")
            assert after == certificate_of(broker.url, authority)
            # The connection of before is the same one, and goes on.
            assert client.get(f"{broker.url}/health").status_code == 200
            assert 0 == broker.stop()


def test_sighup_without_certificates_ends_it(tmp_path: Path) -> None:
    """With nothing to read again it means what it ever did: the terminal is closed; the end is a clean one."""
    with run_daemon("cat2bro", "--http", "localhost:0", "--mqtt", "", cwd=tmp_path) as broker:
        broker.signal(signal.SIGHUP)

        assert 0 == broker.wait()


def test_bad_files_end_the_start(authority: Authority, tmp_path: Path) -> None:
    """A certificate that cannot be used is status 2, and one line that names the file and the remedy."""
    pair = authority.issue()
    env = {"CATERVA2_BROKER_CERTIFICATE": str(pair.certificate), "CATERVA2_BROKER_KEY": "none.key"}
    ended = run([*command("cat2bro"), "--http", "localhost:0"], tmp_path, env)

    expected = (
        f"cat2bro: {tmp_path}/none.key: cannot be read: No such file or directory; correct the path, or its rights\n"
    )
    assert (2, expected) == (ended.returncode, ended.stderr)


def test_a_key_without_a_certificate(authority: Authority) -> None:
    """A key alone is a mistake, and no plain HTTP."""

    async def main() -> None:
        settings = BrokerSettings(http=Address("localhost", 0), key=authority.issue().key)
        async with serving(lambda _settings, _address: Starlette(), settings):
            pass

    with pytest.raises(SettingsError, match="set certificate too"):
        asyncio.run(main())
