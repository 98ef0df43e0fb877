"""The broker's HTTP API, inside the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from bus.client import BusClient
from bus.interface import Connected
from bus.messages import RootAnnouncement
from bus.topics import Topics
from caterva2.address import Address
from caterva2.broker.app import create_app
from caterva2.daemon.locator import bus_urls
from caterva2.daemon.runner import serving
from caterva2.settings import BrokerSettings, BusSettings
from tests.support.waiting import wait_until_async

T = TypeVar("T")
ROOT = RootAnnouncement(
    name="foo",
    http="http://localhost:8001",
    status="online",
    epoch="e",
    seq=1,
    instance="i",
    birth=1,
    heartbeat=30.0,
    kind="directory",
    time=1.0,
    version="1",
)


@asynccontextmanager
async def broker(statedir: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a broker and give a client of it."""
    made = BrokerSettings(**{"http": Address("localhost", 0), "mqtt": None, "statedir": statedir, **settings})
    async with serving(create_app, made) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


def with_broker(work: Callable[[httpx.AsyncClient], Awaitable[T]], statedir: Path, **settings: Any) -> T:
    """Run work with a broker."""

    async def main() -> T:
        async with broker(statedir, **settings) as client:
            return await work(client)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "urls"),
    [
        ({}, ["mqtt://localhost:{mqtt}", "ws://localhost:{http}/mqtt"]),
        ({"Host": "127.0.0.1:{http}"}, ["mqtt://127.0.0.1:{mqtt}", "ws://127.0.0.1:{http}/mqtt"]),
        ({"Host": "[::1]:{http}"}, ["mqtt://[::1]:{mqtt}", "ws://[::1]:{http}/mqtt"]),
        ({"Host": "broker.example.org"}, ["mqtt://broker.example.org:{mqtt}", "ws://broker.example.org/mqtt"]),
        # Who came over TLS is not sent to where passwords are read along.
        ({"Host": "broker.example.org", "X-Forwarded-Proto": "https"}, ["wss://broker.example.org/mqtt"]),
        (
            {"Host": "broker.example.org", "X-Forwarded-Proto": "http"},
            ["ws://broker.example.org/mqtt", "mqtt://broker.example.org:{mqtt}"],
        ),
        ({"Host": "a b/c?d"}, ["mqtt://localhost:{mqtt}", "ws://localhost:{http}/mqtt"]),
        ({"Host": "x:99999999"}, ["mqtt://localhost:{mqtt}", "ws://localhost:{http}/mqtt"]),
        ({"Host": ""}, ["mqtt://localhost:{mqtt}", "ws://localhost:{http}/mqtt"]),
    ],
)
def test_addresses_of_the_bus(tmp_path: Path, headers: dict[str, str], urls: list[str]) -> None:
    """The bus is told under the host and scheme that the client used; nonsense there falls back to ours."""

    async def work(client: httpx.AsyncClient) -> tuple[list[str], list[str]]:
        first = (await client.get("/api/bus")).json()["urls"]
        ports = {"mqtt": first[0].rpartition(":")[2], "http": client.base_url.port}
        sent = {key: value.format(**ports) for key, value in headers.items()}
        answer = await client.get("/api/bus", headers=sent)
        return [url.format(**ports) for url in urls], answer.json()["urls"]

    expected, found = with_broker(work, tmp_path, mqtt=Address("", 0))

    assert expected == found


@pytest.mark.parametrize(
    ("settings", "urls"),
    [
        ({"urlbase": "https://example.org/cat2"}, ["wss://example.org/cat2/mqtt"]),
        ({"urlbase": "http://example.org:81"}, ["ws://example.org:81/mqtt"]),
        ({"urlbase": "https://example.org", "mqtt": Address("localhost", 0)}, ["wss://example.org/mqtt"]),
        ({"bus": BusSettings(url="mqtt://localhost:1")}, ["mqtt://localhost:1"]),
    ],
)
def test_addresses_of_the_bus_by_settings(tmp_path: Path, settings: dict[str, Any], urls: list[str]) -> None:
    """Behind a proxy the bus is told under urlbase; a TCP listener of this machine only is not told to others."""

    async def work(client: httpx.AsyncClient) -> list[str]:
        found: list[str] = (await client.get("/api/bus")).json()["urls"]
        return found

    assert urls == with_broker(work, tmp_path, **settings)


def test_prefix_is_told(tmp_path: Path) -> None:
    """The prefix of the topics goes with the addresses."""

    async def work(client: httpx.AsyncClient) -> str:
        return str((await client.get("/api/bus")).json()["prefix"])

    assert with_broker(work, tmp_path, bus=BusSettings(prefix="lab/cat")) == "lab/cat"


@pytest.mark.parametrize("mqtt", [None, Address("localhost", 0)])
def test_announce_over_the_address_that_is_told(tmp_path: Path, mqtt: Address | None) -> None:
    """A member that knows the broker's HTTP address only finds the bus, over WebSocket or TCP, and announces."""

    async def work(client: httpx.AsyncClient) -> list[str]:
        urls = bus_urls(str(client.base_url).rstrip("/"), BusSettings())
        async with BusClient(urls, topics=Topics(), client_id="test") as bus:
            async for event in bus.messages():
                if isinstance(event, Connected):
                    break
            await bus.publish(ROOT)
            state = tmp_path / "registry.json"
            await wait_until_async(lambda: "foo" in state.read_text())
        return list((await client.get("/api/roots")).json())

    assert ["foo"] == with_broker(work, tmp_path, mqtt=mqtt)


def test_two_brokers_in_one_process(tmp_path: Path) -> None:
    """Nothing is shared between two brokers of a process."""

    async def main() -> list[int]:
        async with broker(tmp_path / "a") as a, broker(tmp_path / "b") as b:
            return [(await each.get("/api/roots")).status_code for each in (a, b)]

    assert [200, 200] == asyncio.run(main())


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nosuch", 404), ("POST", "/api/roots", 405)])
def test_errors(tmp_path: Path, method: str, path: str, status: int) -> None:
    """What is not there, or not allowed, is answered in the form of all errors."""

    async def work(client: httpx.AsyncClient) -> httpx.Response:
        return await client.request(method, path)

    answer = with_broker(work, tmp_path)

    assert (status, ["detail"]) == (answer.status_code, list(answer.json()))
