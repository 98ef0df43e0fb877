"""caterva2.subscriber.origin: publishers that answer with anything, cut off, or not at all."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

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
from caterva2.subscriber.catalog import Root
from caterva2.subscriber.grants import Grants
from caterva2.subscriber.origin import Origin
from tests.support.arrays import example
from tests.support.programs import free_port
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
