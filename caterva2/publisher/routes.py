"""What a publisher answers over HTTP; subscribers are its clients."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal, TypedDict, cast
from urllib.parse import quote

from anyio import to_thread
from pydantic_core import to_json
from starlette.concurrency import iterate_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from bus.interface import Bus
from caterva2.daemon.http import (
    dataset_route,
    etag_matches,
    health_route,
    not_modified,
    quoted,
    read_json,
    ready_route,
)
from caterva2.daemon.ranges import parse_ranges
from caterva2.errors import BadRequestError, FrameError, PathError, VersionChangedError
from caterva2.metadata import describe
from caterva2.models import CatalogHead, ChunksRequest, DatasetEntry, DatasetInfo, Health
from caterva2.paths import check_name
from caterva2.publisher.announcer import Announcer, Identity
from caterva2.publisher.changes import Journal
from caterva2.publisher.metrics import Metrics
from caterva2.publisher.reader import Reader
from caterva2.publisher.source import Anatomy, OpenDataset
from caterva2.publisher.streams import OCTETS, Streamed, catalog_text, gzipped, list_text, records
from caterva2.records import encode_skeleton

MAX_BODY: Final = 8 << 20
"""Bytes of a request for chunks, enough for 100,000 of them with their digests."""
_Batches = Iterator[CatalogHead | list[DatasetEntry]]
_Writer = Callable[[_Batches, CatalogHead], Iterator[bytes]]
_NUMBER = re.compile(r"-?[0-9]{1,30}")


@dataclass(frozen=True)
class Publisher:
    """What requests are answered from."""

    identity: Identity
    journal: Journal
    reader: Reader
    metrics: Metrics
    bus: Bus | None
    announcer: Announcer


class State(TypedDict):
    """The lifespan's state."""

    publisher: Publisher


def _publisher(request: Request) -> Publisher:
    return cast(Publisher, request.state.publisher)


def _path(request: Request) -> str:
    if re.search(rb"%2f", request.scope.get("raw_path") or b"", re.IGNORECASE):
        raise PathError("a path has plain slashes between its segments, and no escaped ones")
    return check_name(request.path_params["path"])


# -- the root ---------------------------------------------------------------------------------------------


async def catalog(request: Request) -> Response:
    """All datasets with their versions, and the head of the journal that they stand for."""
    return await _listing(request, catalog_text)


async def paths(request: Request) -> Response:
    """The paths of all datasets (upstream's form)."""
    return await _listing(request, lambda batches, _head: list_text(batches))


async def _listing(request: Request, write: _Writer) -> Response:
    async with AsyncExitStack() as stack:
        batches = _publisher(request).journal.catalog()
        stack.callback(batches.close)
        head = cast(CatalogHead, await to_thread.run_sync(next, batches))
        etag = f"{head.epoch}:{head.seq}"
        if (answer := not_modified(request, etag)) is not None:
            return answer
        headers = {"ETag": quoted(etag), "Vary": "Accept-Encoding", "Cache-Control": "no-cache"}
        pieces = write(batches, head)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            pieces = gzipped(pieces)
        if request.method == "HEAD":
            return Response(headers=headers, media_type="application/json")
        content = iterate_in_threadpool(pieces)
        return Streamed(content, stack.pop_all(), headers=headers, media_type="application/json")


async def changes(request: Request) -> Response:
    """What happened after a number of an epoch."""
    epoch, since = request.query_params.get("epoch", ""), request.query_params.get("since", "")
    if not epoch or not since.isascii() or not since.isdigit() or len(since) > 18:
        raise BadRequestError("give epoch=E and since=N, as the catalog or an announcement says them")
    journal = _publisher(request).journal
    body = await to_thread.run_sync(lambda: to_json(journal.since(epoch, int(since))))
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


# -- one dataset ------------------------------------------------------------------------------------------


async def info(request: Request) -> Response:
    """The metadata of a dataset."""

    def take(dataset: OpenDataset, anatomy: Anatomy) -> tuple[str, bytes]:
        return dataset.version.etag, to_json(_info(dataset, anatomy))

    path = _path(request)
    etag, body = await _publisher(request).reader.read(path, take)
    headers = {"ETag": quoted(etag), "Cache-Control": "no-cache"}
    return not_modified(request, etag) or Response(body, headers=headers, media_type="application/json")


async def skeleton(request: Request) -> Response:
    """What is not payload of a dataset, with its metadata."""
    path = _path(request)

    def take(dataset: OpenDataset, anatomy: Anatomy) -> tuple[str, bytes]:
        version = dataset.version
        entry = DatasetEntry(
            path=path, kind=version.kind, etag=version.etag, nbytes=version.nbytes, mtime=version.mtime
        )
        slotted = _is_slotted(dataset)
        return version.etag, encode_skeleton(entry, _info(dataset, anatomy), anatomy.skeleton, slotted=slotted)

    etag, body = await _publisher(request).reader.read(path, take)
    headers = {"ETag": quoted(etag), "Cache-Control": "no-cache"}
    return not_modified(request, etag) or Response(body, headers=headers, media_type=OCTETS)


async def chunks(request: Request) -> Response:
    """Chunks of one version of a dataset, as a stream of records."""
    path, match = _path(request), request.headers.get("if-match")
    if match is None:
        raise HTTPException(428, 'say with If-Match: "etag" which version the chunks shall be of')
    wanted = await read_json(request, ChunksRequest, MAX_BODY)
    publisher = _publisher(request)
    async with AsyncExitStack() as stack:
        dataset = await stack.enter_async_context(publisher.reader.open(path))
        _check_version(dataset, match)
        anatomy = await to_thread.run_sync(publisher.reader.anatomy, path, dataset)
        for wish in wanted.chunks:
            _check_number(anatomy, wish.n)
        content = records(publisher.reader, dataset, anatomy, wanted.chunks, publisher.metrics)
        headers = {"ETag": quoted(dataset.version.etag), "Cache-Control": "no-store"}
        return Streamed(content, stack.pop_all(), headers=headers)


async def download(request: Request) -> Response:
    """One compressed chunk (`?nchunk=n`), or the file itself, or a range of it."""
    path, text = _path(request), request.query_params.get("nchunk")
    if text is not None:
        return await _chunk(request, path, text)
    async with AsyncExitStack() as stack:
        dataset = await stack.enter_async_context(_publisher(request).reader.open(path))
        if (match := request.headers.get("if-match")) is not None:
            _check_version(dataset, match)
        if (answer := not_modified(request, dataset.version.etag)) is not None:
            return answer
        if not dataset.rewindable:
            raise FrameError(f"{path!r} is stored as a directory of chunks, so there is no file: ask for its chunks")
        return _file(request, dataset, stack)


async def _chunk(request: Request, path: str, text: str) -> Response:
    if _NUMBER.fullmatch(text) is None:
        raise BadRequestError(f"nchunk={text[:40]!r} is not the number of a chunk")

    def take(dataset: OpenDataset, anatomy: Anatomy) -> tuple[str, bytes]:
        (chunk,) = dataset.chunks(anatomy, [_check_number(anatomy, int(text))])
        if isinstance(chunk, FrameError):
            raise chunk
        return dataset.version.etag, bytes(chunk)

    etag, chunk = await _publisher(request).reader.read(path, take)
    return not_modified(request, etag) or Response(chunk, headers={"ETag": quoted(etag)}, media_type=OCTETS)


def _file(request: Request, dataset: OpenDataset, stack: AsyncExitStack) -> Response:
    etag, length = dataset.version.etag, dataset.version.nbytes
    name = request.path_params["path"].rpartition("/")[2]
    headers = {
        "ETag": quoted(etag),
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }
    condition = request.headers.get("if-range")
    ranged = condition is None or etag_matches(condition, etag, weak=False)
    spans = parse_ranges(request.headers.get("range"), length) if ranged else None
    # Subscribers ask for one range at most; several are rather sent as the whole, as RFC 9110 allows.
    found = spans[0] if spans is not None and len(spans) == 1 else None
    if found is not None:
        headers["Content-Range"] = f"bytes {found.start}-{found.stop - 1}/{length}"
    span = found if found is not None else range(length)
    headers["Content-Length"] = str(len(span))
    status = 200 if found is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=OCTETS)
    content = _publisher(request).reader.span(dataset, span.start, span.stop)
    return Streamed(content, stack.pop_all(), status=status, headers=headers)


def _info(dataset: OpenDataset, anatomy: Anatomy) -> DatasetInfo:
    version = dataset.version
    slotted = _is_slotted(dataset)
    accept: Literal["bytes", "none"] = "none" if slotted else "bytes"
    return describe(
        version.kind,
        anatomy.skeleton,
        anatomy.layout,
        cbytes=version.nbytes if slotted else anatomy.layout.cbytes,
        mtime=version.mtime,
        accept_ranges=accept,
    )


def _is_slotted(dataset: OpenDataset) -> bool:
    """Whether the frame's layout is made up here, because the dataset is no contiguous frame."""
    return dataset.version.kind == "file" or not dataset.rewindable


def _check_version(dataset: OpenDataset, match: str) -> None:
    etag = dataset.version.etag
    if not etag_matches(match, etag, weak=False):
        raise VersionChangedError(f"the dataset is not at version {match[:80]} any more", etag)


def _check_number(anatomy: Anatomy, n: int) -> int:
    if not 0 <= n < anatomy.layout.nchunks:
        raise FrameError(f"there is no chunk {str(n)[:40]}: the dataset has {anatomy.layout.nchunks}")
    return n


# -- the daemon -------------------------------------------------------------------------------------------


def health(request: Request) -> Health:
    """Who answers here."""
    publisher = _publisher(request)
    identity, bus = publisher.identity, publisher.bus
    detail = publisher.announcer.unready(bus) if bus is not None else ""
    return Health(
        kind="publisher",
        id=identity.id,
        version=identity.version,
        instance=identity.instance,
        root=identity.name,
        bus="none" if bus is None else "connected" if bus.connected else "disconnected",
        ready=not detail,
        detail=detail or None,
    )


async def metrics(request: Request) -> Response:
    """Counters for Prometheus."""
    publisher = _publisher(request)
    gauges = {
        "journal_seq": publisher.journal.head.seq,
        "bus_connected": float(publisher.bus is not None and publisher.bus.connected),
        "skeleton_cache_bytes": publisher.reader.cache.size,
    }
    return PlainTextResponse(publisher.metrics.text(gauges), media_type="text/plain; version=0.0.4")


def routes() -> list[BaseRoute]:
    """All routes of a publisher."""
    return [
        Route("/api/list", paths),
        Route("/api/catalog", catalog),
        Route("/api/changes", changes),
        dataset_route("/api/info", info),
        dataset_route("/api/skeleton", skeleton),
        dataset_route("/api/chunks", chunks, ["POST"]),
        dataset_route("/api/download", download),
        Route("/metrics", metrics),
        health_route(health),
        ready_route(health),
    ]
