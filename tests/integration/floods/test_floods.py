"""What a stranger may cost a daemon: too much is refused, too slow is cut off, and others notice nothing."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

import caterva2
from tests.support.processes import Daemon, run_daemon
from tests.support.waiting import wait_until

SECRET = "c2sikrit-of-the-tests"
KINDS = {"cat2bro": "BROKER", "cat2pub": "PUBLISHER", "cat2sub": "SUBSCRIBER"}
BEGIN = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = BEGIN + b"\r\n"
# Seconds; a client that is cut off is within twice as much.
PATIENCE = "1"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where they run; the root is in it."""
    made = tmp_path_factory.mktemp("floods")
    (made / "foo").mkdir()
    return made


@pytest.fixture(scope="module")
def daemons(directory: Path) -> Iterator[dict[str, Daemon]]:
    """All three as real processes, with little patience and few connections."""
    env = {
        f"CATERVA2_{kind}_{name}": value
        for kind in KINDS.values()
        for name, value in (("PATIENCE", PATIENCE), ("MAX_CONNECTIONS", "40"))
    }
    env["CATERVA2_SECRET"] = SECRET
    with ExitStack() as stack:
        broker = stack.enter_context(run_daemon("cat2bro", "--http", "localhost:0", cwd=directory, env=env))
        options = ("--http", "localhost:0", "--broker", broker.url)
        publisher = stack.enter_context(run_daemon("cat2pub", *options, "foo", "foo", cwd=directory, env=env))
        subscriber = stack.enter_context(run_daemon("cat2sub", *options, cwd=directory, env=env))
        yield {"cat2bro": broker, "cat2pub": publisher, "cat2sub": subscriber}


def connected(daemon: Daemon) -> socket.socket:
    """A plain connection."""
    parts = urlsplit(daemon.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def rest(client: socket.socket) -> bytes:
    """What comes until the daemon closes."""
    found = b""
    try:
        while piece := client.recv(1 << 16):
            found += piece
    except ConnectionResetError:
        pass
    return found


def status(answer: bytes) -> int:
    """The status of an answer; 0 is none."""
    return int(answer[9:12] or 0)


def well(daemon: Daemon) -> None:
    """Assert that it answers others."""
    assert 200 == httpx.get(f"{daemon.url}/health", trust_env=False, timeout=20).status_code


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(BEGIN + b"X-Long: " + b"x" * (1 << 20) + b"\r\n\r\n", 431, id="a header of a megabyte"),
        pytest.param(BEGIN + b"X-Long: " + b"x" * (1 << 20), 431, id="a header without an end"),
        pytest.param(BEGIN + b"X: y\r\n" * 200 + b"\r\n", 431, id="200 headers"),
        pytest.param(b"GET /" + b"x" * (1 << 20), 431, id="a first line without an end"),
        pytest.param(b"G" * (1 << 20), 400, id="a method of a megabyte"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS"),
    ],
)
def test_too_much(daemons: dict[str, Daemon], name: str, sent: bytes, expected: int) -> None:
    """A head that is too large is refused as soon as it is, by each daemon; so is what is no HTTP."""
    with connected(daemons[name]) as client:
        with suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(sent)
        found = status(rest(client))

    # The system drops an answer when more comes after it.
    assert found in ({expected, 0} if len(sent) > 1 << 16 else {expected})
    well(daemons[name])


def test_a_refusal_is_told(daemons: dict[str, Daemon]) -> None:
    """What was too much stands in the answer."""
    with connected(daemons["cat2sub"]) as client:
        client.sendall(BEGIN + b"X: y\r\n" * 100 + b"\r\n")
        answer = rest(client)

    assert 431 == status(answer)
    assert answer.endswith(b'{"detail":"the head is too large: at most 100 headers, and 65536 bytes"}')


def test_long_trailers(daemons: dict[str, Daemon]) -> None:
    """What follows a body in pieces is bounded too."""
    head = b"POST /auth/jwt/login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    many = head + b"".join(b"X: " + b"y" * 4000 + b"\r\n" for _ in range(10_000))
    with connected(daemons["cat2sub"]) as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.sendall(many)
    well(daemons["cat2sub"])


def test_a_slow_head(daemons: dict[str, Daemon]) -> None:
    """A client that connects and says nothing, or half of a head, is cut off, by each daemon."""
    begun = {b"": 0, b"G": 408, BEGIN: 408}
    with ExitStack() as stack:
        clients = [(stack.enter_context(connected(daemon)), sent) for daemon in daemons.values() for sent in begun]
        for client, sent in clients:
            client.sendall(sent)
        found = [status(rest(client)) for client, _ in clients]

    assert [begun[sent] for _, sent in clients] == found
    for daemon in daemons.values():
        well(daemon)


def test_a_slow_body(daemons: dict[str, Daemon]) -> None:
    """A client that does not go on with its body is cut off; nothing is kept of it."""
    head = b"POST /auth/jwt/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with connected(daemons["cat2sub"]) as client:
        client.sendall(head + b"Content-Length: 1000\r\n\r\nusername=")
        rest(client)

    well(daemons["cat2sub"])


def test_an_answer_that_nobody_reads(daemons: dict[str, Daemon], directory: Path) -> None:
    """A client that does not read what it asked for is cut off."""
    subscriber = daemons["cat2sub"]
    (directory / "foo/big.bin").write_bytes(np.random.default_rng(1).bytes(8 << 20))
    with caterva2.Client(subscriber.url) as client:
        wait_until(lambda: "big.bin" in client.get_list("foo"), "the file at the subscriber")
    with connected(subscriber) as lazy:
        lazy.sendall(b"GET /api/download/foo/big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")

        def cut_off() -> bool:
            # More of the request's connection is refused only once the other end is gone.
            try:
                lazy.sendall(b"\r\n")
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        wait_until(cut_off, "the end of the connection")
        assert len(rest(lazy)) < 8 << 20
    well(subscriber)


def test_pipelined(daemons: dict[str, Daemon]) -> None:
    """A few requests at once are answered in their order; a flood of them on one connection is not."""
    with connected(daemons["cat2sub"]) as client:
        client.sendall(WHOLE * 5 + WHOLE[:-2] + b"Connection: close\r\n\r\n")
        assert 6 == rest(client).count(b"HTTP/1.1 200 OK")
    with connected(daemons["cat2sub"]) as client:
        client.sendall(WHOLE * 1000)
        assert rest(client).count(b"HTTP/1.1 200 OK") < 1000
    well(daemons["cat2sub"])


@pytest.mark.parametrize("name", ["cat2pub", "cat2sub"])
def test_many_connections(daemons: dict[str, Daemon], name: str) -> None:
    """Beyond `max_connections` a client is told to come again, and those that say nothing do not stay."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(daemons[name])) for _ in range(60)]
        assert 503 == status(rest(clients[-1]))

    wait_until(lambda: httpx.get(f"{daemons[name].url}/health", trust_env=False).status_code == 200, "room again")


def test_idle_is_no_flood(daemons: dict[str, Daemon]) -> None:
    """A connection that is kept between two requests, for longer than the patience, goes on."""
    with httpx.Client(base_url=daemons["cat2sub"].url, trust_env=False) as http, connected(daemons["cat2sub"]) as other:
        first = http.get("/health").extensions["network_stream"].get_extra_info("client_addr")
        rest(other)  # until it is cut off
        assert first == http.get("/health").extensions["network_stream"].get_extra_info("client_addr")
