"""caterva2.subscriber.origin: publishers that answer with anything, cut off, or not at all."""

import asyncio
import gzip
import json
import logging
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bus.messages import TokenGrant
from caterva2.address import Address
from caterva2.daemon.runner import serving
from caterva2.errors import (
    BadGatewayError,
    Caterva2Error,
    FrameError,
    GoneError,
    NotFoundError,
    UnavailableError,
    UnreachableError,
    VersionChangedError,
)
from caterva2.frames import Skeleton
from caterva2.models import CatalogHead, ChunkWish, DatasetEntry
from caterva2.paths import RootName
from caterva2.records import ChunkRecord, Status, digest_of, encode_skeleton
from caterva2.settings import SubscriberSettings
from caterva2.subscriber import origin as origin_module
from caterva2.subscriber.catalog import Root
from caterva2.subscriber.grants import Grants
from caterva2.subscriber.origin import Origin, RefusedError
from tests.support.arrays import example
from tests.support.programs import free_port
from tests.support.waiting import wait_until_async
from tests.unit.subscriber.frames import array_source

SOURCE = array_source(example((100,)), chunks=(10,), blocks=(10,))
Answer = Callable[[Request], Awaitable[Response]]


@asynccontextmanager
async def publisher(answer: Answer, grants: Grants | None = None) -> AsyncIterator[tuple[Origin, Root]]:
    """Serve one answer to everything; give the way to it."""

    def app(_settings: SubscriberSettings, _address: Address) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])

    settings = SubscriberSettings(http=Address("localhost", 0), broker="")
    async with serving(app, settings) as url, Origin.open(grants) as origin:
        yield origin, Root(RootName("foo"), url)


def ask_all(origin: Origin, root: Root) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every question that can be put to a publisher."""

    async def catalog() -> list[Any]:
        return [item async for item in origin.catalog(root)]

    async def chunks() -> list[ChunkRecord]:
        return [record async for record in origin.chunks(root, "a b#?%.b2nd", "e", [ChunkWish(n=0)], 1000)]

    return {
        "catalog": catalog,
        "changes": lambda: origin.changes(root, "E", 5),
        "skeleton": lambda: origin.skeleton(root, "dir/a.b2nd"),
        "unchanged": lambda: origin.unchanged(root, "dir/a.b2nd", "e"),
        "chunks": chunks,
    }


def outcomes(answer: Answer, *names: str) -> dict[str, Any]:
    """Put questions to a publisher that answers so; give results or errors."""

    async def asked() -> dict[str, Any]:
        found: dict[str, Any] = {}
        async with publisher(answer) as (origin, root):
            for name, question in ask_all(origin, root).items():
                if names and name not in names:
                    continue
                try:
                    found[name] = await question()
                except Caterva2Error as error:
                    found[name] = error
        return found

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"detail": "no such dataset"}', NotFoundError),
        (410, b'{"detail": "too long ago"}', GoneError),
        (412, b'{"detail": "another version"}', VersionChangedError),
        (422, b'{"detail": "damaged"}', FrameError),
        (503, b'{"detail": "being written"}', UnavailableError),
        (500, b'{"detail": "Internal Server Error"}', BadGatewayError),
        (500, b"<html>", BadGatewayError),
        (599, b'{"detail": "../../etc/passwd"}', BadGatewayError),
        (404, b"<html>not ours</html>", BadGatewayError),
        (302, b"", BadGatewayError),
        (204, b"", BadGatewayError),
        (418, b"\xff\xfe", BadGatewayError),
    ],
)
def test_each_status_is_an_error_of_its_kind(status: int, body: bytes, kind: type[Caterva2Error]) -> None:
    """A publisher's error keeps its meaning; what is not of its form is a bad gateway."""

    async def answer(_request: Request) -> Response:
        return Response(body, status)

    assert dict.fromkeys(ask_all(None, None), kind) == {  # type: ignore[arg-type]
        name: type(error) for name, error in outcomes(answer).items()
    }


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"garbage", b"\xff" * 5000, b"{" * 100_000, b'{"epoch": 1}'])
def test_garbage_is_a_bad_gateway(body: bytes) -> None:
    """A 200 with anything else than what was asked for is BadGatewayError."""

    async def answer(_request: Request) -> Response:
        return Response(body)

    found = outcomes(answer, "catalog", "changes", "skeleton", "chunks")

    assert {BadGatewayError} == {type(each) for each in found.values()}
    assert 4 == len(found)


@pytest.mark.parametrize("length", [0, 1, 20, 60, 200])
def test_an_answer_that_is_cut_off_is_an_error(length: int) -> None:
    """A connection that ends before its answer is Unreachable or BadGateway, and nothing is taken for the whole."""

    async def answer(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield (b'{"epoch": "E", "seq": 5, "datasets": [\n' + b'{"path": "a"},\n' * 50)[:length]
            raise ConnectionResetError

        return StreamingResponse(pieces(), headers={"Content-Length": "10000"})

    found = outcomes(answer)
    found.pop("unchanged", None)

    assert all(isinstance(each, BadGatewayError | UnreachableError) for each in found.values()), found


def test_no_listener_is_unreachable() -> None:
    """A publisher that is not there is UnreachableError, which names it."""

    async def asked() -> None:
        root = Root(RootName("foo"), f"http://127.0.0.1:{free_port()}")
        async with Origin.open() as origin:
            for question in ask_all(origin, root).values():
                with pytest.raises(UnreachableError, match="does not answer"):
                    await question()

    asyncio.run(asked())


@pytest.mark.parametrize(
    "address",
    [
        "http://user:password@localhost:1",
        "",
        "nonsense",
        "ftp://x",
        "/run/socket",
        "http://",
        "http://x y",
        "localhost:99999",
    ],
)
def test_an_address_that_is_none_is_a_bad_gateway(address: str) -> None:
    """What a publisher announced by mistake is an error that names the remedy."""

    async def asked() -> None:
        async with Origin.open() as origin:
            for question in ask_all(origin, Root(RootName("foo"), address)).values():
                with pytest.raises(BadGatewayError, match="set its urlbase"):
                    await question()

    asyncio.run(asked())


def catalog_body(n: int) -> bytes:
    """A catalog of n datasets, one a line."""
    entries = [DatasetEntry(path=f"é{i}", kind="file", etag=str(i), nbytes=i, mtime=0.5) for i in range(n)]
    return b'{"epoch":"E","seq":7, "datasets": [\n%b\n]}\n' % b",\n".join(e.model_dump_json().encode() for e in entries)


@pytest.mark.parametrize("n", [0, 1, 999, 1000, 1001, 2500])
def test_a_catalog_comes_in_batches(n: int) -> None:
    """The head comes first, then every dataset once."""

    async def answer(_request: Request) -> Response:
        return Response(catalog_body(n))

    head, *batches = outcomes(answer, "catalog")["catalog"]

    assert CatalogHead(epoch="E", seq=7) == head
    assert [f"é{i}" for i in range(n)] == [entry.path for batch in batches for entry in batch]


@pytest.mark.parametrize("spoil", [lambda b: b[:-4], lambda b: b[:-40], lambda b: b.replace(b'"file"', b'"x"', 1),
                                   lambda b: b.replace(b"0.5", b"0.5.5", 1)])  # fmt: skip
def test_a_damaged_catalog_is_a_bad_gateway(spoil: Callable[[bytes], bytes]) -> None:
    """A catalog that is cut off between lines, or has a bad line, is refused as a whole."""

    async def answer(_request: Request) -> Response:
        return Response(spoil(catalog_body(10)))

    assert BadGatewayError is type(outcomes(answer, "catalog")["catalog"])


def test_chunks_are_asked_for_with_version_and_digests() -> None:
    """The request names path, version and wishes; the records come as they were sent."""
    records = [
        ChunkRecord(0, Status.DATA, digest_of(SOURCE.chunk(0)), SOURCE.chunk(0)),
        ChunkRecord(1, Status.SAME, 5),
        ChunkRecord(2, Status.ERROR, 0, b"no"),
        ChunkRecord(0, Status.END),
    ]
    seen: list[Any] = []

    async def answer(request: Request) -> Response:
        seen.append((request.path_params["path"], request.headers["if-match"], json.loads(await request.body())))
        return Response(b"".join(r.header + r.payload for r in records))

    assert records == outcomes(answer, "chunks")["chunks"]
    assert [("api/chunks/a b#?%.b2nd", '"e"', {"chunks": [{"n": 0}]})] == seen


@pytest.mark.parametrize("n", [1, 10, 25, 60])
def test_a_stream_of_chunks_without_its_end_is_a_bad_gateway(n: int) -> None:
    """Records that stop without END were cut off, wherever that was."""
    record = ChunkRecord(0, Status.DATA, 1, SOURCE.chunk(0))

    async def answer(_request: Request) -> Response:
        return Response((record.header + record.payload)[:n])

    assert BadGatewayError is type(outcomes(answer, "chunks")["chunks"])


def test_a_skeleton_of_another_dataset_is_a_bad_gateway() -> None:
    """An answer about something else is refused; the right one is read."""
    name = "x"

    async def answer(_request: Request) -> Response:
        entry = SOURCE.head.entry.model_copy(update={"path": name})
        return Response(encode_skeleton(entry, SOURCE.head.info, SOURCE.skeleton, slotted=False))

    assert BadGatewayError is type(outcomes(answer, "skeleton")["skeleton"])
    name = "dir/a.b2nd"
    head, skeleton = outcomes(answer, "skeleton")["skeleton"]

    assert (name, SOURCE.skeleton) == (head.entry.path, skeleton)
    assert isinstance(skeleton, Skeleton)


@pytest.mark.parametrize(("status", "unchanged"), [(304, True), (200, False)])
def test_a_version_is_asked_for_by_its_etag(status: int, unchanged: bool) -> None:  # noqa: FBT001
    """304 says that the dataset did not change."""

    async def answer(request: Request) -> Response:
        assert '"e"' == request.headers["if-none-match"]
        return Response(status_code=status)

    assert unchanged is outcomes(answer, "unchanged")["unchanged"]


def asked(question: Callable[[Origin, Root], Awaitable[Any]], answer: Answer, grants: Grants | None = None) -> Any:
    """Put something to a publisher that answers so; give what comes of it, or the error."""

    async def main() -> Any:
        async with publisher(answer, grants) as (origin, root):
            try:
                return await question(origin, root)
            except Caterva2Error as error:
                return error

    return asyncio.run(main())


def unchanged(origin: Origin, root: Root) -> Awaitable[bool]:
    """Ask for a version."""
    return origin.unchanged(root, "a", "e")


@pytest.mark.parametrize("n", range(3))
def test_empty_answers_come_to_an_end(n: int) -> None:
    """An empty body is the end of the answer, every time (aiohttp's own is so once in a process)."""

    async def answer(_request: Request) -> Response:
        return Response(status_code=200)

    assert {BadGatewayError} == {type(each) for each in outcomes(answer, "catalog", "changes", "chunks").values()}, n


# -- where it goes, and where not ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_refused(status: int) -> None:
    """No question follows a redirect, wherever that leads; the error names the remedy."""
    seen: list[str] = []

    async def answer(request: Request) -> Response:
        seen.append(request.url.path)
        return Response(status_code=status, headers={"Location": "/elsewhere"})

    found = outcomes(answer)

    assert {BadGatewayError} == {type(each) for each in found.values()}
    assert all("redirects to '/elsewhere', which is refused: set its urlbase" in str(e) for e in found.values())
    assert len(found) == len(seen)
    assert "/elsewhere" not in seen


@pytest.mark.parametrize(
    "address",
    ["http://169.254.169.254", "http://169.254.169.254:80/latest/meta-data", "http://[fe80::1]:1", "http://2852039166",
     "http://0xa9fea9fe", "http://[::ffff:169.254.169.254]", "http://[fd00:ec2::254]", "http://100.100.100.200",
     "https://169.254.169.254"],
)  # fmt: skip
def test_link_local_and_metadata_addresses_are_refused(address: str) -> None:
    """No question goes there, in whatever notation; it is no outage, so nothing stale is served instead."""

    async def main() -> None:
        async with Origin.open() as origin:
            for question in ask_all(origin, Root(RootName("foo"), address)).values():
                with pytest.raises(BadGatewayError, match=r"link-local or metadata|not a canonical IPv4 address"):
                    await question()

    asyncio.run(main())


def test_a_name_that_means_something_else_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is judged by what it means when a connection is made: after a good answer too (DNS rebinding)."""
    meanings = [["127.0.0.1"], ["169.254.169.254"], ["169.254.0.1", "169.254.169.254"]]
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebound.example.org":
            return real(host, port, *args, **kwargs)
        found = meanings.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    async def answer(_request: Request) -> Response:
        return Response(status_code=304, headers={"Connection": "close"})

    async def question(origin: Origin, root: Root) -> list[bool]:
        moved = Root(root.name, root.http.replace("localhost", "rebound.example.org"))
        found = [await unchanged(origin, moved)]
        for _ in range(2):
            connector = origin.small.connector
            assert isinstance(connector, aiohttp.TCPConnector)
            connector.clear_dns_cache()
            with pytest.raises(BadGatewayError, match="link-local or metadata address"):
                await unchanged(origin, moved)
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    assert [True] == asked(question, answer)
    assert [] == meanings


# -- how much it takes --------------------------------------------------------------------------------------------


def endless(piece: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer that goes on for ever."""

    async def answer(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"epoch": "E", "seq": 5, "datasets": [\n'
            while True:
                yield piece
                # Once the client has gone, nothing else here waits for anything.
                await asyncio.sleep(0)

        return StreamingResponse(pieces(), status, headers=headers)

    return answer


def test_endless_answers_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of answer is read to a limit: errors too, and lines of a catalog."""
    for name in ("INFO", "CHANGES", "SKELETON", "CATALOG"):
        monkeypatch.setattr(origin_module, f"_MOST_{name}", 3 << 20)
    found = outcomes(endless(b"x" * 65_536))

    assert found.pop("unchanged") is False
    assert {BadGatewayError} == {type(each) for each in found.values()}
    assert {BadGatewayError} == {type(each) for each in outcomes(endless(b"x" * 65_536, 404)).values()}
    line = b'{"path":"a","kind":"file","etag":"1","nbytes":1,"mtime":0},\n'
    assert "too long" in str(outcomes(endless(line * 1000), "catalog")["catalog"])


def test_a_bomb_is_not_unpacked() -> None:
    """A catalog that is packed a thousandfold is given up as soon as a line of it is too long."""
    bomb = gzip.compress(b'{"epoch": "E", "seq": 5, "datasets": [\n' + b" " * 100_000_000, 1)

    async def answer(_request: Request) -> Response:
        return Response(bomb, headers={"Content-Encoding": "gzip"})

    tracemalloc.start()
    found = outcomes(answer, "catalog")["catalog"]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "too long" in str(found)
    assert most < 20_000_000


def test_packed_catalogs() -> None:
    """A packed catalog is unpacked; a damaged one, or one that is cut off, is refused."""
    packed = gzip.compress(catalog_body(2500))

    def result(body: bytes) -> Any:
        async def answer(request: Request) -> Response:
            assert "gzip" == request.headers["accept-encoding"]
            return Response(body, headers={"Content-Encoding": "gzip"})

        return outcomes(answer, "catalog")["catalog"]

    head, *batches = result(packed)
    assert CatalogHead(epoch="E", seq=7) == head
    assert 2500 == sum(map(len, batches))
    assert {BadGatewayError} == {type(result(bad)) for bad in (packed[:-200], b"x" * 100, packed[:50] + packed[60:])}


@pytest.mark.parametrize("header", ["X" * 100_000, "X-A"])
def test_headers_are_limited(header: str) -> None:
    """Headers without end are a publisher that makes no sense, or gives no answer."""

    async def answer(_request: Request) -> Response:
        return Response(b"", headers={header: "x" * 200_000})

    found = outcomes(answer)

    assert all(isinstance(each, BadGatewayError | UnreachableError) for each in found.values()), found


# -- tokens -------------------------------------------------------------------------------------------------------


def wanting(*good: str | None) -> tuple[Answer, list[str | None]]:
    """A publisher that answers these tokens only; and the list of what was shown."""
    shown: list[str | None] = []

    async def answer(request: Request) -> Response:
        shown.append(request.headers.get("authorization", "").removeprefix("Bearer ") or None)
        return Response(status_code=304) if shown[-1] in good else Response(b'{"detail": "no:\\n\\u001b you"}', 401)

    return answer, shown


def granted(grants: Grants, expires: float = 4e9, **tokens: str) -> Grants:
    """The same, with tokens of the broker."""
    grants.take(TokenGrant(user="anonymous", tokens=tokens, expires=expires))
    return grants


@pytest.mark.parametrize(
    ("grants", "good", "expected"),
    [
        (Grants(), None, [None]),
        (Grants({"bar": "bars"}), None, [None]),
        (Grants({"foo": "fixed"}), "fixed", ["fixed"]),
        (granted(Grants({"foo": "fixed"}), foo="granted"), "granted", ["granted"]),
        (granted(Grants({"foo": "fixed"}), foo="granted"), "fixed", ["granted", "fixed"]),
        (granted(Grants({"foo": "fixed"}), expires=1.0, foo="granted"), "granted", ["fixed", "granted"]),
    ],
)
def test_tokens_are_tried_in_order(grants: Grants, good: str | None, expected: list[str | None]) -> None:
    """The broker's token first, then the fixed one; that of another root never."""
    answer, shown = wanting(good)

    assert asked(unchanged, answer, grants) is True
    assert expected == shown


def test_every_question_shows_the_token() -> None:
    """Listing, catching up, reading and asking for a version are all done with it."""
    shown: list[str | None] = []

    async def answer(request: Request) -> Response:
        shown.append(request.headers.get("authorization"))
        return Response(status_code=404)

    async def question(origin: Origin, root: Root) -> None:
        for ask in ask_all(origin, root).values():
            with pytest.raises(Caterva2Error):
                await ask()

    asked(question, answer, Grants({"foo": "secret"}))

    assert ["Bearer secret"] * 5 == shown


def test_a_refusal_is_told_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that wants another token is a bad gateway with the remedy, in one line, and once in the log."""
    monkeypatch.setattr("caterva2.subscriber.grants._FIRST_GRANT", 0.01)
    answer, _ = wanting("other")

    async def question(origin: Origin, root: Root) -> list[str]:
        found = []
        for _ in range(3):
            with pytest.raises(RefusedError) as caught:
                await unchanged(origin, root)
            found.append(caught.value.detail)
        return found

    with caplog.at_level(logging.INFO, "caterva2"):
        details = asked(question, answer, Grants({"foo": "fixed"}))

    assert 502 == RefusedError.status
    assert 1 == len(set(details))
    assert "refuses our token (no:   you)" in details[0]
    assert "set [subscriber] tokens" in details[0]
    assert [details[0]] == [record.getMessage() for record in caplog.records]
    with caplog.at_level(logging.INFO, "caterva2"):
        assert "wants a token, and none is here" in str(asked(unchanged, answer))


def test_a_token_that_comes_later() -> None:
    """A read that was refused for want of a token goes on when it is granted."""
    answer, shown = wanting("granted")
    grants = Grants()

    async def question(origin: Origin, root: Root) -> bool:
        asking = asyncio.ensure_future(unchanged(origin, root))
        await wait_until_async(lambda: shown, "the first attempt")
        granted(grants, foo="granted")
        return await asking

    assert asked(question, answer, grants) is True
    assert [None, "granted"] == shown


def test_a_token_over_the_network_in_the_clear(caplog: pytest.LogCaptureFixture) -> None:
    """That tokens go unencrypted to another machine is said once; on this machine it does not matter."""

    async def main() -> None:
        async with Origin.open(Grants({"foo": "secret"})) as origin:
            for address in (
                "http://localhost:1",
                "http://127.0.0.1:1",
                "https://192.0.2.1:1",
                *["http://192.0.2.1"] * 2,
            ):
                origin._authorization(Root(RootName("foo"), address), "secret")

    asyncio.run(main())

    (line,) = [record.getMessage() for record in caplog.records]
    assert "tokens for root foo go to http://192.0.2.1 unencrypted" in line


@pytest.mark.parametrize("rest", [b"zz\r\n", b"5\r\nhello", b"5\r\nhelloworld\r\n", b"-1\r\n\r\n", b"0\r\nX: \xff\r\n"])
def test_an_answer_that_breaks_off_in_a_chunk_keeps_nobody(rest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nonsense after a beginning that made sense ends every question, and nobody waits for the rest of the answer."""
    monkeypatch.setattr(origin_module, "_LOOK", 0.1)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{}{}\r\n")
        await asyncio.sleep(0.05)  # what follows must arrive alone: aiohttp has begun to hand out the answer by then
        writer.write(rest)
        await writer.drain()
        writer.close()

    async def ask() -> dict[str, type[Exception]]:
        found: dict[str, type[Exception]] = {}
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        root = Root(RootName("foo"), f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with server, Origin.open() as origin, asyncio.timeout(20):
            for name, question in ask_all(origin, root).items():
                with pytest.raises(Caterva2Error) as raised:
                    await question()
                found[name] = raised.type
        return found

    assert {UnreachableError, BadGatewayError} >= set(asyncio.run(ask()).values())
