import asyncio
import logging
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from bus.access import Credentials, Member, OpenAccess
from bus.broker import EmbeddedBroker
from bus.limits import Limits
from bus.listeners import Listener
from tests.contract.bus.harness import until
from tests.unit.bus.raw import CONNACK, PUBLISH, RawClient, Received, connect, publish, subscribe

Scenario = Callable[[EmbeddedBroker], Awaitable[None]]
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@dataclass
class Witness(OpenAccess):
    """Lets everybody in, and writes down what they showed."""

    shown: list[Credentials] = field(default_factory=list)

    async def admit(self, credentials: Credentials) -> Member | None:
        self.shown.append(credentials)
        return await super().admit(credentials)


@dataclass(frozen=True)
class Certificates:
    """A private CA, with a certificate for the server and one for a client called `alice`."""

    directory: Path

    def server(self, verify: ssl.VerifyMode = ssl.CERT_NONE) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / "server.pem", self.directory / "server.key")
        context.load_verify_locations(self.directory / "ca.pem")
        context.verify_mode = verify
        return context

    def client(self, name: str | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        if name is not None:
            context.load_cert_chain(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made with openssl, as an administrator would."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("tls")
    new = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = {"ca": [], "server": ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], "alice": [], "mallory": []}
    for name, extra in names.items():
        signer = [] if name in ("ca", "mallory") else ["-CA", "ca.pem", "-CAkey", "ca.key"]
        command = [*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", *extra, *signer]
        subprocess.run(command, check=True, capture_output=True, cwd=directory)
    return Certificates(directory)


def run(
    scenario: Scenario,
    broker: EmbeddedBroker,
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> None:
    """Play a scenario, and see that no task is left."""

    async def play() -> None:
        async with broker:
            try:
                await scenario(broker)
            finally:
                await RawClient.cut_all()
        assert {asyncio.current_task()} == asyncio.all_tasks()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(play())


async def dial(port: int | None, tls: ssl.SSLContext, *first: bytes) -> RawClient:
    """A client with TLS."""
    client = RawClient(*await asyncio.open_connection("localhost", port, ssl=tls))
    RawClient._open.append(client)
    await client.send(*first)
    return client


@LOOPS
def test_mqtts_carries_what_mqtt_does(
    certificates: Certificates, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Both ways, in large packets, with the plain listener beside it."""
    listeners = [Listener("localhost", 0, certificates.server()), Listener("127.0.0.1", 0)]
    payload = b"x" * 60_000

    async def scenario(broker: EmbeddedBroker) -> None:
        secret = await dial(broker.ports[0], certificates.client(), connect("secret"), subscribe("a"))
        assert [CONNACK, 9] == [(await secret.read()).kind for _ in range(2)]
        plain = await RawClient.join(broker.ports[1] or 0)
        await plain.send(*[publish("a", payload)] * 10)
        assert [payload] * 10 == [(await secret.read(PUBLISH)).payload for _ in range(10)]
        await secret.send(*[publish("a", payload)] * 10)
        assert [payload] * 10 == [(await secret.read(PUBLISH)).payload for _ in range(10)]
        await secret.leave()

    run(scenario, EmbeddedBroker(listeners=listeners), new_loop)


@LOOPS
def test_a_verified_certificate_is_shown_to_access(
    certificates: Certificates, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Its common name, if there is one; whoever needs none may come without."""
    witness = Witness()
    listener = Listener("127.0.0.1", 0, certificates.server(ssl.CERT_OPTIONAL))

    async def scenario(broker: EmbeddedBroker) -> None:
        for name in ("alice", None):
            client = await dial(broker.ports[0], certificates.client(name), connect())
            await client.read(CONNACK)
            await client.leave()

    run(scenario, EmbeddedBroker(listeners=[listener], access=witness), new_loop)
    assert ["alice", None] == [each.certificate for each in witness.shown]


@LOOPS
def test_a_client_without_a_right_certificate_does_not_get_in(
    certificates: Certificates,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """None, or one that nobody here has signed, where one is demanded: one line says so, without a traceback."""
    caplog.set_level(logging.INFO)
    witness = Witness()
    listener = Listener("127.0.0.1", 0, certificates.server(ssl.CERT_REQUIRED))

    async def scenario(broker: EmbeddedBroker) -> None:
        for name in (None, "mallory"):
            try:
                client = await dial(broker.ports[0], certificates.client(name), connect())
                assert await client.ended()
            except OSError:
                pass  # whether the client hears of it already in the handshake depends on the version of TLS
        await until(lambda: len(caplog.records) == 2)

    run(scenario, EmbeddedBroker(listeners=[listener], access=witness), new_loop)
    assert [] == witness.shown
    assert all("someone at 127.0.0.1" in each.getMessage() and each.exc_info is None for each in caplog.records)


@LOOPS
def test_who_never_shakes_hands_is_counted_and_ended(
    certificates: Certificates,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Silence, and plain MQTT where TLS is spoken, take a place no longer than CONNECT may."""
    limits = Limits(connections=2, connect_timeout=0.3)
    listener = Listener("127.0.0.1", 0, certificates.server())

    async def scenario(broker: EmbeddedBroker) -> None:
        port = broker.ports[0] or 0
        silent = [await RawClient.open(port) for _ in range(2)]
        one_more = await RawClient.open(port)
        assert await one_more.ended()
        assert all([await each.ended() for each in silent])
        await until(lambda: not broker._running.clients.full)
        plain = await RawClient.open(port, connect())
        assert await plain.ended()
        await until(lambda: not broker._running.clients.full)
        client = await dial(port, certificates.client(), connect())
        await client.read(CONNACK)

    run(scenario, EmbeddedBroker(listeners=[listener], limits=limits), new_loop)
    assert [] == [each for each in caplog.records if each.exc_info]


@LOOPS
def test_the_broker_ends_in_the_middle_of_a_handshake(
    certificates: Certificates, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """It waits for no one, and leaves nothing behind."""
    listener = Listener("127.0.0.1", 0, certificates.server())

    async def scenario(broker: EmbeddedBroker) -> None:
        await RawClient.open(broker.ports[0] or 0, b"\x16\x03\x01")

    run(scenario, EmbeddedBroker(listeners=[listener]), new_loop)


def test_a_certificate_that_is_loaded_again_serves_the_next_client(certificates: Certificates) -> None:
    """The context of a listener can be renewed while it listens, e.g. before a certificate ends."""
    context = certificates.server()

    async def common_name(port: int | None) -> str:
        client = await dial(port, certificates.client())
        (((_, name),),) = client.writer.get_extra_info("peercert")["subject"]
        return str(name)

    async def scenario(broker: EmbeddedBroker) -> None:
        assert "server" == await common_name(broker.ports[0])
        context.load_cert_chain(certificates.directory / "alice.pem", certificates.directory / "alice.key")
        unchecked = certificates.client()
        unchecked.check_hostname = False
        client = await dial(broker.ports[0], unchecked)
        assert ((("commonName", "alice"),),) == client.writer.get_extra_info("peercert")["subject"]

    run(scenario, EmbeddedBroker(listeners=[Listener("127.0.0.1", 0, context)]))


@LOOPS
def test_access_is_told_where_a_client_is(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Its address with and without the port, and that it is on this machine."""
    witness = Witness()

    async def scenario(broker: EmbeddedBroker) -> None:
        client = await RawClient.join(broker.ports[0] or 0, connect("id", username="alice", password="secret"))
        own = client.writer.get_extra_info("sockname")
        (shown,) = witness.shown
        assert Credentials("id", "alice", b"secret", f"127.0.0.1:{own[1]}", "127.0.0.1", local=True) == shown

    run(scenario, EmbeddedBroker(listeners=[Listener("127.0.0.1", 0)], access=witness), new_loop)


@LOOPS
def test_who_half_closes_hears_the_rest(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """As with `nc`: what was asked before the end of what it says is answered."""

    async def scenario(broker: EmbeddedBroker) -> None:
        client = await RawClient.open(broker.ports[0] or 0, connect(), b"\xc0\0")
        client.writer.write_eof()
        assert [Received(0x20, b"\0\0"), Received(0xD0, b"")] == [await client.read(), await client.read()]
        assert await client.ended()

    run(scenario, EmbeddedBroker(listeners=[Listener("127.0.0.1", 0)]), new_loop)


@LOOPS
def test_many_that_are_cut_off_at_once_are_no_mistake(
    certificates: Certificates,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Reset while they are read from and written to, with TLS and without: uvloop's transports raise then."""
    listeners = [Listener("127.0.0.1", 0, certificates.server()), Listener("127.0.0.1", 0)]

    async def scenario(broker: EmbeddedBroker) -> None:
        sender = await RawClient.join(broker.ports[1] or 0, connect("sender"))
        for _ in range(20):
            clients = [
                *[await dial(broker.ports[0], certificates.client(), connect(""), subscribe("a")) for _ in range(3)],
                *[await RawClient.open(broker.ports[1] or 0, connect(""), subscribe("a")) for _ in range(3)],
            ]
            for each in clients:
                await each.read(CONNACK)
            await sender.send(*[publish("a", b"x" * 60_000)] * 3)
            for each in clients:
                linger = struct.pack("ii", 1, 0)
                each.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                each.writer.transport.abort()
            await sender.send(*[publish("a", b"x" * 60_000)] * 3)
        await until(lambda: broker.clients == 1)

    run(scenario, EmbeddedBroker(listeners=listeners), new_loop)
    assert [] == [each.getMessage() for each in caplog.records if each.levelno > logging.INFO]
