import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import pytest
import websockets.asyncio.client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from bus.access import Credentials, Member, OpenAccess
from bus.broker import EmbeddedBroker
from tests.contract.bus.harness import serve_http
from tests.unit.bus.raw import DEADLINE, DISCONNECT, PINGREQ, connect, publish, subscribe

Scenario = Callable[[EmbeddedBroker, int], Awaitable[None]]
MQTT = [Subprotocol("mqtt")]
CONNACK = bytes((0x20, 2, 0, 0))


def run(scenario: Scenario, made: EmbeddedBroker | None = None) -> None:
    """Play a scenario with the port of a real HTTP server."""

    async def play() -> None:
        async with made or EmbeddedBroker() as broker, serve_http(broker) as port:
            await asyncio.wait_for(scenario(broker, port), DEADLINE)
        assert {asyncio.current_task()} == asyncio.all_tasks()

    asyncio.run(play())


def dial(port: int, **options: object) -> websockets.asyncio.client.connect:
    """A WebSocket connection; by default as an MQTT client makes it."""
    arguments = {"subprotocols": MQTT, "proxy": None} | options
    return websockets.asyncio.client.connect(f"ws://127.0.0.1:{port}/mqtt", **arguments)  # type: ignore[arg-type]


async def receive(websocket: websockets.asyncio.client.ClientConnection, n: int) -> bytes:
    """At least `n` bytes, in however many frames."""
    received = b""
    while len(received) < n:
        part = await websocket.recv()
        assert isinstance(part, bytes)
        received += part
    return received


def test_the_subprotocol_is_mqtt() -> None:
    """It is confirmed to who asks for it, as the standard demands."""

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        async with dial(port, subprotocols=[Subprotocol("x"), *MQTT]) as websocket:
            assert "mqtt" == websocket.subprotocol

    run(scenario)


@pytest.mark.parametrize("subprotocols", [None, [Subprotocol("other")]])
def test_other_protocols_are_refused(subprotocols: list[Subprotocol] | None) -> None:
    """A WebSocket that does not carry MQTT is not accepted at all."""

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        with pytest.raises(InvalidStatus) as info:
            async with dial(port, subprotocols=subprotocols):
                pass
        assert 403 == info.value.response.status_code

    run(scenario)


def test_pages_of_other_sites_are_refused() -> None:
    """A browser says where a page came from; only pages of this very address may use the bus."""

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        with pytest.raises(InvalidStatus):
            async with dial(port, origin="https://evil.example"):
                pass
        async with dial(port, origin=f"http://127.0.0.1:{port}") as websocket:
            await websocket.send(connect())

            assert await websocket.recv() == CONNACK

    run(scenario)


def test_packets_and_frames_need_not_agree() -> None:
    """A packet may come in pieces, and many in one frame (MQTT 3.1.1, 6.0)."""

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        data = connect() + subscribe("a") + publish("a", b"x") + PINGREQ
        expected = CONNACK + b"\x90\3\0\1\0" + b"\x30\4\0\1ax" + b"\xd0\0"
        for step in (1, 7, len(data)):
            async with dial(port) as websocket:
                for start in range(0, len(data), step):
                    await websocket.send(data[start : start + step])
                received = await receive(websocket, len(expected))

                # What is routed may come before or after what is answered.
                assert sorted(expected) == sorted(received)

    run(scenario)


@pytest.mark.parametrize("bad", ["text", b"\xff\x00", b"x" * 2_000_000])
def test_bad_frames_end_the_connection(bad: str | bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Text, no MQTT at all, and more than anyone should send at once."""

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        async with dial(port) as websocket:
            await websocket.send(bad)
            await websocket.wait_closed()

    run(scenario)
    assert [] == [each for each in caplog.records if each.levelno > logging.WARNING]


def test_a_lost_websocket_leaves_its_will() -> None:
    """Closing the WebSocket is no DISCONNECT; after DISCONNECT it is."""

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        async with dial(port) as watcher:
            await watcher.send(connect("watcher") + subscribe("w"))
            assert CONNACK + b"\x90\3\0\1\0" == await receive(watcher, 9)
            async with dial(port) as polite:
                await polite.send(connect("polite", will=("w", b"polite")) + DISCONNECT)
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await polite.recv()
            async with dial(port) as lost:
                await lost.send(connect("lost", will=("w", b"lost")))
                await lost.recv()
                lost.transport.abort()

            assert b"\x30\x07\0\1wlost" == await watcher.recv()

    run(scenario)


@pytest.mark.parametrize(
    ("headers", "host", "local"),
    [
        ({}, "127.0.0.1", True),
        ({"X-Forwarded-For": "192.0.2.1"}, "192.0.2.1", False),
        ({"X-Forwarded-For": "127.0.0.1"}, "127.0.0.1", False),
        ({"x-forwarded-proto": "https"}, "127.0.0.1", False),
        ({"Forwarded": "for=192.0.2.1"}, "127.0.0.1", False),
        ({"Via": "1.1 proxy"}, "127.0.0.1", False),
        ({"X-Real-IP": "192.0.2.1"}, "127.0.0.1", False),
    ],
)
def test_what_comes_through_a_proxy_is_not_local(headers: dict[str, str], host: str, *, local: bool) -> None:
    """The proxy is on this machine, but who knows where its client is: uvicorn believes a proxy here about that."""
    shown: list[Credentials] = []

    class Witness(OpenAccess):
        async def admit(self, credentials: Credentials) -> Member | None:
            shown.append(credentials)
            return await super().admit(credentials)

    async def scenario(_broker: EmbeddedBroker, port: int) -> None:
        async with dial(port, additional_headers=headers) as websocket:
            await websocket.send(connect("id", username="alice"))
            assert CONNACK == await receive(websocket, 4)

    run(scenario, EmbeddedBroker(access=Witness()))
    (one,) = shown
    assert (local, host, "alice", None) == (one.local, one.host, one.username, one.certificate)
    assert one.peer.endswith("(WebSocket)")
