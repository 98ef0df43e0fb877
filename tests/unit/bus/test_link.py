import asyncio
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bus.broker import EmbeddedBroker
from bus.errors import BusUnavailableError
from bus.link import Link, LinkOptions, Will
from bus.listeners import Listener
from bus.reasons import Cause
from bus.url import BusUrl
from tests.contract.bus.harness import serve_http, until
from tests.support.programs import free_port
from tests.unit.bus.raw import DEADLINE, PUBLISH, SUBACK, RawClient, connect, packet, subscribe

Received = list[tuple[str, bytes]]
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(scenario: Awaitable[None]) -> None:
    """Play a scenario, and see that no task, thread or connection is left."""

    async def play() -> None:
        try:
            await asyncio.wait_for(scenario, 2 * DEADLINE)
        finally:
            await RawClient.cut_all()
        assert {asyncio.current_task()} == asyncio.all_tasks()

    # Tests of other modules, in the same process, may have left some of theirs.
    before = set(threading.enumerate())
    asyncio.run(play())
    assert set() == set(threading.enumerate()) - before


def link_to(
    url: str,
    received: Received | None = None,
    *,
    keepalive: int = 15,
    will: Will | None = None,
    tls: ssl.SSLContext | None = None,
    connect_timeout: float = DEADLINE,
    ack_timeout: float = DEADLINE,
) -> Link:
    """A link that writes down what it receives."""
    options = LinkOptions(keepalive, None, None, tls, connect_timeout, ack_timeout)
    log = received if received is not None else []
    return Link(BusUrl.parse(url), "link", options, will, lambda topic, payload: log.append((topic, payload)))


@asynccontextmanager
async def server(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that is no broker; its port."""
    answering: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.current_task())
        await answer(reader, writer)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await asyncio.gather(*(each for each in answering if each is not None))
        await listening.wait_closed()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that never says a word."""
    await reader.read()
    writer.close()


def says(*answers: bytes) -> Answer:
    """A server that gives one answer to each thing that it is told, and is silent then."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in answers:
            await reader.read(4096)
            writer.write(each)
        await reader.read()
        writer.close()

    return answer


WELCOME = b"\x20\2\0\0"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server and of a client that trusts it."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("tls")
    key, cert = directory / "key.pem", directory / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names], check=True, capture_output=True)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    return serving, ssl.create_default_context(cafile=cert)


async def exercise(link: Link, received: Received) -> None:
    """Everything that a link can do."""
    await link.open()
    await link.subscribe(["a/#"])
    payload = b"x" * 60_000
    await asyncio.gather(*(link.publish("a/b", payload, retain=False) for _ in range(20)))
    await link.publish("a/end", b"", retain=False)
    await until(lambda: ("a/end", b"") in received)
    await link.unsubscribe(["a/#"])
    await link.close()
    assert [("a/b", payload)] * 20 + [("a/end", b"")] == received


def test_it_works_over_tls(certificate: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """With mqtts, what TLS has decrypted ahead is read too."""

    async def scenario() -> None:
        async with EmbeddedBroker(listeners=[Listener("127.0.0.1", 0, certificate[0])]) as broker:
            received: Received = []
            await exercise(link_to(f"mqtts://localhost:{broker.ports[0]}", received, tls=certificate[1]), received)

    run(scenario())


def test_it_works_over_websocket() -> None:
    """With ws, too."""

    async def scenario() -> None:
        async with EmbeddedBroker() as broker, serve_http(broker) as port:
            received: Received = []
            await exercise(link_to(f"ws://127.0.0.1:{port}/mqtt", received), received)

    run(scenario())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_an_untrusted_certificate_is_refused(host: str, certificate: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Without the right authority there is no connection."""

    async def scenario() -> None:
        async with server(silence, certificate[0]) as port:
            link = link_to(f"mqtts://{host}:{port}")
            with pytest.raises(BusUnavailableError, match="self-signed certificate") as caught:
                await link.open()
            assert Cause.UNTRUSTED is caught.value.cause
            await link.close()

    run(scenario())


@pytest.mark.parametrize("scheme", ["mqtt", "ws", "mqtts"])
def test_a_server_that_does_not_answer_is_given_up(scheme: str) -> None:
    """In the time that is set, whatever the handshake it is silent in."""

    async def scenario() -> None:
        async with server(silence) as port:
            link = link_to(f"{scheme}://127.0.0.1:{port}", connect_timeout=0.2)
            with pytest.raises(BusUnavailableError, match="no answer in time"):
                await link.open()
            await link.close()

    run(scenario())


@pytest.mark.parametrize("scheme", ["mqtt", "ws", "mqtts"])
def test_opening_can_be_cancelled(scheme: str) -> None:
    """At once, even in the middle of a handshake, and no thread stays behind."""

    async def scenario() -> None:
        told = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            told.set()
            await silence(reader, writer)

        async with server(answer) as port:
            link = link_to(f"{scheme}://127.0.0.1:{port}")
            opening = asyncio.create_task(link.open())
            await told.wait()
            opening.cancel()
            done, _ = await asyncio.wait({opening}, timeout=1)
            assert {opening} == done
            assert opening.cancelled()
            await link.close()

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"\x20\2\0\5", "Not authorized"),
        (b"\x20\2\0\1", "rotocol"),
        (b"\xff" * 100, "is not MQTT"),
    ],
)
def test_a_refusal_is_an_error_with_its_reason(answer: bytes, reason: str) -> None:
    """Credentials, another version, or no MQTT at all."""

    async def scenario() -> None:
        async with server(says(answer)) as port:
            link = link_to(f"mqtt://127.0.0.1:{port}")
            with pytest.raises(BusUnavailableError, match=reason):
                await link.open()
            await link.close()

    run(scenario())


@pytest.mark.parametrize("url", ["mqtt://127.0.0.1:{port}", "mqtt://localhost:{port}", "unix:///nowhere/mqtt"])
def test_a_server_that_is_not_there_is_an_error(url: str) -> None:
    """Refused connections and missing sockets say so."""

    async def scenario() -> None:
        link = link_to(url.format(port=free_port()))
        with pytest.raises(BusUnavailableError):
            await link.open()
        await link.close()

    run(scenario())


def test_a_frozen_broker_is_noticed() -> None:
    """When pings are not answered the link is lost within twice the keep-alive."""

    async def scenario() -> None:
        async with server(says(WELCOME)) as port:
            link = link_to(f"mqtt://127.0.0.1:{port}", keepalive=1)
            await link.open()
            trouble = await asyncio.wait_for(asyncio.shield(link.lost), 4)
            assert "the broker did not answer a ping for 1 s (keep-alive missed)" == str(trouble)
            await link.close()

    run(scenario())


@pytest.mark.parametrize(
    ("ending", "reason"),
    [("close", "the broker closed the connection"), ("reset", "the connection was reset"), ("garbage", "is not MQTT")],
)
def test_the_end_of_a_connection_has_a_reason(ending: str, reason: str) -> None:
    """An operator is told what happened, not "Unspecified error"."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(WELCOME)
        await asked.wait()
        if ending == "reset":
            # Closing without lingering makes the kernel send a reset.
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif ending == "garbage":
            writer.write(b"\xff" * 20)
            await reader.read()
        writer.close()

    async def scenario() -> None:
        async with server(answer) as port:
            link = link_to(f"mqtt://127.0.0.1:{port}")
            await link.open()
            asked.set()
            trouble = await asyncio.wait_for(asyncio.shield(link.lost), DEADLINE)
            assert reason in str(trouble)
            await link.close()

    asked = asyncio.Event()
    run(scenario())


@pytest.mark.parametrize(("scheme", "cause"), [("mqtt", Cause.NO_TLS), ("mqtts", Cause.NO_TLS)])
def test_the_other_way_to_speak_is_told_from_no_answer(scheme: str, cause: Cause) -> None:
    """Who closes at the first word, or answers with another protocol, may want TLS, or may not have it."""

    async def scenario() -> None:
        async with server(answer) as port:
            link = link_to(f"{scheme}://127.0.0.1:{port}")
            with pytest.raises(BusUnavailableError) as caught:
                await link.open()
            assert cause is caught.value.cause
            await link.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        if scheme == "mqtts":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    run(scenario())


def test_a_missing_acknowledgement_is_an_error() -> None:
    """A broker that does not confirm a message may not have it."""

    async def scenario() -> None:
        async with server(says(WELCOME)) as port:
            link = link_to(f"mqtt://127.0.0.1:{port}", ack_timeout=0.1)
            await link.open()
            with pytest.raises(BusUnavailableError, match="no acknowledgement in time"):
                await link.publish("a", b"x", retain=False)
            await link.close()

    run(scenario())


def test_a_loss_ends_what_waits_for_acknowledgement() -> None:
    """And what is asked of a lost link fails at once."""

    async def scenario() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(4096)
            writer.write(WELCOME)
            await reader.read(4096)
            writer.close()

        async with server(hang_up) as port:
            link = link_to(f"mqtt://127.0.0.1:{port}")
            await link.open()
            for _ in range(2):
                with pytest.raises(BusUnavailableError):
                    await link.publish("a", b"x", retain=False)
            await link.close()

    run(scenario())


def test_a_refused_subscription_is_an_error() -> None:
    """Silence that would be taken for "nothing has changed" must not come of it."""

    async def scenario() -> None:
        async with server(says(WELCOME, packet(0x90, b"\0\1\x80"))) as port:
            link = link_to(f"mqtt://127.0.0.1:{port}")
            await link.open()
            with pytest.raises(BusUnavailableError, match="subscription to a was refused"):
                await link.subscribe(["a"])
            await link.close()

    run(scenario())


def test_a_topic_that_is_not_utf8_is_dropped() -> None:
    """Not even a broken broker breaks us."""

    async def scenario() -> None:
        messages = packet(0x30, b"\0\1\xff") + packet(0x30, b"\0\1ax")
        async with server(says(WELCOME + messages)) as port:
            received: Received = []
            link = link_to(f"mqtt://127.0.0.1:{port}", received)
            await link.open()
            await until(lambda: bool(received))
            await link.close()
            assert [("a", b"x")] == received

    run(scenario())


def test_leaving_with_messages_unread_is_still_polite() -> None:
    """The kernel answers what comes after our end with a reset, which must not overtake DISCONNECT."""

    async def scenario() -> None:
        async with EmbeddedBroker(listeners=[Listener("127.0.0.1", 0)]) as broker:
            port = broker.ports[0] or 0
            watcher = await RawClient.join(port)
            await watcher.send(subscribe("will"))
            await watcher.read(SUBACK)
            for _ in range(10):
                link = link_to(f"mqtt://127.0.0.1:{port}", will=Will("will", b"lost", False))
                await link.open()
                await link.subscribe(["flood"])
                await asyncio.gather(
                    *(link.publish("flood", b"x" * 50_000, retain=False) for _ in range(20)), link.close(),
                    return_exceptions=True,
                )  # fmt: skip

            assert [] == await watcher.received_until_pong()

    run(scenario())


def test_closing_a_stuck_link_takes_bounded_time() -> None:
    """A broker that does not read cannot hold us."""

    async def scenario() -> None:
        async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(WELCOME)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await closed.wait()
            writer.transport.abort()

        closed = asyncio.Event()
        async with server(stuck) as port:
            link = link_to(f"mqtt://127.0.0.1:{port}")
            await link.open()
            flood = [asyncio.create_task(link.publish("a", b"x" * 60_000, retain=False)) for _ in range(200)]
            await asyncio.sleep(0)
            await asyncio.wait_for(link.close(), 4)
            results = await asyncio.gather(*flood, return_exceptions=True)
            assert {BusUnavailableError} == {type(each) for each in results}
            closed.set()

    run(scenario())


def test_the_will_is_left_with_the_broker() -> None:
    """As it was given: topic, payload and whether to retain it."""

    async def scenario() -> None:
        async with EmbeddedBroker(listeners=[Listener("127.0.0.1", 0)]) as broker:
            watcher = await RawClient.join(broker.ports[0] or 0, connect("watcher"))
            await watcher.send(subscribe("will"))
            await watcher.read(SUBACK)
            link = link_to(broker.local_url, will=Will("will", b"lost", True))
            await link.open()
            link._cut()

            assert b"lost" == (await watcher.read(PUBLISH)).payload
            assert {"will": b"lost"} == broker.retained
            await link.close()

    run(scenario())


def test_paths_of_sockets_may_have_any_length_that_the_kernel_takes(tmp_path: Path) -> None:
    """A path that is too long is an error like any other."""

    async def scenario() -> None:
        link = link_to(f"unix://{tmp_path}/{'x' * 200}")
        with pytest.raises(BusUnavailableError):
            await link.open()
        await link.close()

    run(scenario())
