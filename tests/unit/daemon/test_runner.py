"""Apps as processes, and inside a caller's event loop."""

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from caterva2.address import Address
from caterva2.daemon.runner import serving
from caterva2.daemon.supervisor import Supervisor
from caterva2.errors import SettingsError
from caterva2.settings import BrokerSettings
from tests.support.processes import Process, run
from tests.support.waiting import wait_until_async

ANYWHERE = BrokerSettings(http=Address("localhost", 0))

# An app that goes wrong as its first argument says, or serves an endless stream.
SCRIPT = """
import asyncio, sys
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route
from caterva2.daemon.arguments import BROKER
from caterva2.daemon.runner import main_for
from caterva2.daemon.supervisor import Supervisor
from caterva2.errors import UnavailableError
from caterva2.settings import load_broker

mode = sys.argv[1]

async def crash():
    await asyncio.sleep(0.1)
    raise RuntimeError("boom\\nbang")

async def endless(request):
    async def pieces():
        while True:
            yield b"data: x\\n\\n"
            await asyncio.sleep(0.05)
    return StreamingResponse(pieces())

def create_app(settings, address):
    @asynccontextmanager
    async def lifespan(app):
        if mode == "refuse":
            raise UnavailableError("the other one is not ready:\\n start it")
        if mode == "oserror":
            raise OSError(28, "No space left on device")
        if mode == "bug":
            raise KeyError("x")
        if mode == "slow":
            print("starting", flush=True)
            await asyncio.sleep(60)
        async with Supervisor.of(app) as tasks:
            if mode == "crash":
                tasks.start(crash(), "the task")
            yield
        print("lifespan ended", flush=True)
    return Starlette(routes=[Route("/", endless)], lifespan=lifespan)

sys.exit(main_for(BROKER, load_broker, create_app, sys.argv[2:]))
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., list[str]]:
    """Make the command that runs the app."""
    file = tmp_path / "app.py"
    file.write_text(SCRIPT)
    return lambda *arguments: [sys.executable, str(file), *arguments]


@pytest.mark.parametrize(
    ("mode", "options", "status", "stderr"),
    [
        ("refuse", (), 2, r"cat2bro: the other one is not ready: start it\n"),
        ("oserror", (), 2, r"cat2bro: cannot start: \[Errno 28\] No space left on device\n"),
        ("bug", (), 1, r".* CRITICAL .*KeyError: 'x'.*\n"),
        ("ok", ("--http", "nonsense"), 2, r"cat2bro: --http: 'nonsense' is not an address: .*\n"),
        ("crash", (), 1, r"cat2bro: listening on .*\n.* background task 'the task' crashed .*boom \| bang.*\n"),
    ],
)
def test_ends(
    tmp_path: Path, script: Callable[..., list[str]], mode: str, options: tuple[str, ...], status: int, stderr: str
) -> None:
    """Each way to end has its status and its one line, and never a traceback over many."""
    ended = run([*script(mode), "--http", "localhost:0", *options], tmp_path)

    assert status == ended.returncode, ended.stderr
    assert re.fullmatch(stderr, ended.stderr), ended.stderr


@pytest.mark.parametrize("stop", [Process.stop, Process.interrupt])
def test_signals_end_it_cleanly(
    tmp_path: Path, script: Callable[..., list[str]], stop: Callable[[Process], int]
) -> None:
    """SIGTERM and SIGINT end it with status 0, its lifespan too."""
    with Process(script("ok", "--http", "localhost:0"), tmp_path) as process:
        process.wait_for("listening")

        assert stop(process) == 0
        assert "lifespan ended" in process.output
        assert "Traceback" not in process.output


def test_signal_during_start_up(tmp_path: Path, script: Callable[..., list[str]]) -> None:
    """A daemon that is still starting can be ended too."""
    with Process(script("slow", "--http", "localhost:0"), tmp_path) as process:
        process.wait_for("starting")

        assert process.stop() == 0


def test_open_stream_does_not_hold_up_the_end(tmp_path: Path, script: Callable[..., list[str]]) -> None:
    """A stream that never ends is cut after a grace, without a word in the log."""
    with Process(script("ok", "--http", "localhost:0"), tmp_path) as process:
        url = process.wait_for(r"listening on (\S+)")[1]
        with httpx.stream("GET", url) as answer:
            next(answer.iter_raw())
            started = time.monotonic()
            status = process.stop()

    assert status == 0
    assert time.monotonic() - started < 8
    assert "ERROR" not in process.output


@pytest.mark.parametrize("mode", ["serving", "stale"])
def test_unix_socket(tmp_path: Path, script: Callable[..., list[str]], mode: str) -> None:
    """A daemon serves on a unix socket, also where a killed one left its file."""
    command = script("ok", "--http", "./x.sock")
    with Process(command, tmp_path) as process:
        assert process.wait_for("listening on (.*)")[1] == "unix:./x.sock"
        if mode == "stale":
            process.kill()
            assert (tmp_path / "x.sock").exists()
            process.start()
            process.wait_for("listening on")
        transport = httpx.HTTPTransport(uds=str(tmp_path / "x.sock"))
        with httpx.Client(transport=transport, base_url="http://x") as client, client.stream("GET", "/") as answer:
            assert answer.status_code == 200
        assert process.stop() == 0

    assert not (tmp_path / "x.sock").exists()


def test_address_in_use(tmp_path: Path, script: Callable[..., list[str]]) -> None:
    """A second daemon on the same port ends with status 2 and one line that names port and remedy."""
    with Process(script("ok", "--http", "localhost:0"), tmp_path) as process:
        address = process.wait_for(r"listening on http://(\S+)")[1]
        ended = run(script("ok", "--http", address), tmp_path)

    expected = (
        f"cat2bro: cannot listen on {address}: the address is in use: stop the other program,"
        " or choose another with --http or [broker] http\n"
    )
    assert (2, expected) == (ended.returncode, ended.stderr)


def app_with(lifespan: Callable[[Starlette], Any]) -> Callable[[BrokerSettings, Address], Starlette]:
    """Make a factory of apps with a lifespan."""

    async def state(request: Request) -> Response:
        return JSONResponse(request.state.word)

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.word)
        await websocket.receive()

    routes = [Route("/state", state), WebSocketRoute("/ws", echo)]
    return lambda _settings, _address: Starlette(routes=routes, lifespan=asynccontextmanager(lifespan))


async def plain(_app: Starlette) -> AsyncIterator[Mapping[str, str]]:
    """Hand over a word."""
    yield {"word": "hello"}


def test_serving_in_the_callers_loop() -> None:
    """The app serves while the context is entered, and its lifespan's state reaches requests."""

    async def main() -> tuple[Any, str]:
        async with (
            serving(app_with(plain), ANYWHERE) as url,
            httpx.AsyncClient(base_url=url) as client,
            connect(f"{url.replace('http', 'ws')}/ws") as websocket,
        ):
            return (await client.get("/state")).json(), str(await websocket.recv())

    assert ("hello", "hello") == asyncio.run(main())


def test_sends_no_pings_of_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    """MQTT has its own; paho answers WebSocket's in a way that ends the connection."""
    made: list[uvicorn.Config] = []
    load = uvicorn.Config.load
    monkeypatch.setattr(uvicorn.Config, "load", lambda config: (made.append(config), load(config))[1])

    async def main() -> None:
        async with serving(app_with(plain), ANYWHERE):
            pass

    asyncio.run(main())

    assert [None] == [config.ws_ping_interval for config in made]


def test_app_knows_its_address() -> None:
    """The factory is given the address with its real port."""
    seen: list[Address] = []

    def create_app(settings: BrokerSettings, address: Address) -> Starlette:
        seen.append(address)
        return app_with(plain)(settings, address)

    async def main() -> str:
        async with serving(create_app, ANYWHERE) as url:
            return url

    url = asyncio.run(main())

    assert [url] == [address.url for address in seen]


def test_error_of_the_lifespan_reaches_the_caller() -> None:
    """What start-up raises is raised to who serves, as it is."""

    async def failing(_app: Starlette) -> AsyncIterator[Mapping[str, str]]:
        raise SettingsError("no")
        yield {}

    async def main() -> None:
        async with serving(app_with(failing), ANYWHERE):
            pass

    with pytest.raises(SettingsError, match="no"):
        asyncio.run(main())


def test_crash_of_a_task_reaches_the_caller() -> None:
    """A background task that crashes ends the server, and the error is raised on leaving."""
    log: list[str] = []

    async def crash(go: asyncio.Event) -> None:
        await go.wait()
        raise RuntimeError("boom")

    async def main() -> None:
        go = asyncio.Event()

        async def crashing(app: Starlette) -> AsyncIterator[Mapping[str, str]]:
            async with Supervisor.of(app) as tasks:
                tasks.start(crash(go), "task")
                yield {}
            log.append("lifespan ended")

        async with serving(app_with(crashing), ANYWHERE):
            go.set()
            await wait_until_async(lambda: log)

    with pytest.raises(RuntimeError, match="boom"):
        asyncio.run(main())


def test_lifespan_ends_after_the_last_request() -> None:
    """A request that is cut at the end still cleans up while the lifespan lives."""
    log: list[str] = []

    async def logged(_app: Starlette) -> AsyncIterator[Mapping[str, str]]:
        yield {}
        log.append("lifespan ended")

    async def endless(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x"
                    await asyncio.sleep(0.01)
            finally:
                log.append("request ended")

        return StreamingResponse(pieces())

    def create_app(_settings: BrokerSettings, _address: Address) -> Starlette:
        return Starlette(routes=[Route("/", endless)], lifespan=asynccontextmanager(logged))

    async def main() -> None:
        async with httpx.AsyncClient() as client:
            async with serving(create_app, ANYWHERE) as url:
                reading = asyncio.create_task(_read(client, url, started := asyncio.Event()))
                await started.wait()
            await reading

    asyncio.run(main())

    assert ["request ended", "lifespan ended"] == log


async def _read(client: httpx.AsyncClient, url: str, started: asyncio.Event) -> None:
    with suppress(httpx.HTTPError):
        async with client.stream("GET", url) as answer:
            async for _ in answer.aiter_raw():
                started.set()
