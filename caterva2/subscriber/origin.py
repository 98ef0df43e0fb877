"""Calls to publishers: the only place that knows how a publisher is spoken to.

httpx carries what is small. Chunks come in bulk, where httpx costs four times as much processor time as aiohttp
(docs/design/), so aiohttp carries these alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
import httpx
from pydantic import TypeAdapter, ValidationError
from yarl import URL

from caterva2.address import base_url
from caterva2.errors import (
    AddressError,
    BadGatewayError,
    Caterva2Error,
    UnreachableError,
    error_for_status,
    reason_of,
)
from caterva2.frames import Skeleton
from caterva2.models import CatalogHead, ChangesAnswer, ChunksRequest, ChunkWish, DatasetEntry, Model
from caterva2.records import ChunkRecord, SkeletonHead, decode_skeleton, read_records

_CONNECT_TIMEOUT = 5.0  # seconds
_READ_TIMEOUT = 30.0  # seconds between two pieces of an answer
_CATALOG_HEAD = re.compile(r'\{"epoch": ?"(?P<epoch>[^"]*)", ?"seq": ?(?P<seq>\d+)')
_CATALOG_BATCH = 250
_OF_A_PROXY = {502, 503, 504}
_PIECE = 1 << 20
_BREATH = 100  # records
_MOST_ERROR = 64 << 10  # bytes of the text that says what is wrong with a chunk
_ENTRY = TypeAdapter(DatasetEntry)
_M = TypeVar("_M", bound=Model)


@dataclass(frozen=True, slots=True)
class Origin:
    """The way to all publishers.

    Args:
        http: for what is small.
        bulk: for chunks.
    """

    http: httpx.AsyncClient
    bulk: aiohttp.ClientSession
    _outcomes: dict[str, tuple[float, bool]] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Self]:
        """Open the connection pools."""
        async with AsyncExitStack() as stack:
            timeout = httpx.Timeout(_READ_TIMEOUT, connect=_CONNECT_TIMEOUT)
            # No proxy of the environment stands between daemons, but its certificate authorities count.
            tls = ssl.create_default_context()
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=timeout, trust_env=False, verify=tls))
            bulk = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=_READ_TIMEOUT),
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=16, ssl=tls),
                read_bufsize=_PIECE,
                auto_decompress=False,
            )
            await stack.enter_async_context(bulk)
            yield cls(http, bulk)

    def outcome(self, address: str) -> tuple[float, bool] | None:
        """When a publisher was last asked, on the monotonic clock, and whether it answered; None if it never was."""
        return self._outcomes.get(address)

    @contextlib.contextmanager
    def _noting(self, address: str) -> Iterator[None]:
        answered = True
        try:
            with _translated(address):
                yield
        except UnreachableError:
            answered = False
            raise
        finally:
            self._outcomes[address] = time.monotonic(), answered

    async def catalog(self, address: str) -> AsyncIterator[CatalogHead | list[DatasetEntry]]:
        """List a root: first the head of its journal, then its datasets in batches.

        Raises:
            UnreachableError: if there is no answer.
            BadGatewayError: if the answer makes no sense.
        """
        url = _url(address, "api/catalog")
        with self._noting(address):
            async with self.http.stream("GET", url) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _error_of(response, address)
                lines = response.aiter_lines()
                match = _CATALOG_HEAD.match(await anext(lines, ""))
                if match is None:
                    raise BadGatewayError(f"the publisher at {address} sent no catalog")
                yield CatalogHead(epoch=match["epoch"], seq=int(match["seq"]))
                async for batch in _batches(lines, address):
                    yield batch

    async def changes(self, address: str, epoch: str, since: int) -> ChangesAnswer:
        """Ask what happened after `since`.

        Raises:
            GoneError: if the journal does not reach back that far.
        """
        return await self._get(ChangesAnswer, address, "api/changes", {"epoch": epoch, "since": since})

    async def skeleton(self, address: str, name: str) -> tuple[SkeletonHead, Skeleton]:
        """Ask for a dataset without its chunks, at its present version.

        Raises:
            NotFoundError: if there is no such dataset.
            FrameError: if it cannot be read where it is.
        """
        response = await self._answer(address, f"api/skeleton/{quote(name)}")
        head, skeleton = decode_skeleton(response.content)
        if head.entry.path != name:
            raise BadGatewayError(f"the publisher at {address} answered with another dataset than {name}")
        return head, skeleton

    async def unchanged(self, address: str, name: str, etag: str) -> bool:
        """Ask whether a dataset is still at this version.

        Raises:
            NotFoundError: if there is no such dataset any more.
        """
        path = f"api/info/{quote(name)}"
        response = await self._answer(address, path, headers={"If-None-Match": f'"{etag}"'}, accepted=(200, 304))
        return response.status_code == 304

    async def chunks(
        self, address: str, name: str, etag: str, wishes: Sequence[ChunkWish], most: int
    ) -> AsyncIterator[ChunkRecord]:
        """Ask for chunks of one version, in one request; they come in the order asked.

        Args:
            address: of the publisher.
            name: of the dataset, below its root.
            etag: the version.
            wishes: the chunks.
            most: the length in bytes that no chunk of it can have more than.

        Raises:
            VersionChangedError: if the dataset is at another version.
        """
        body = ChunksRequest(chunks=tuple(wishes)).model_dump_json(exclude_none=True)
        headers = {"If-Match": f'"{etag}"', "Content-Type": "application/json"}
        url = _url(address, f"api/chunks/{quote(name)}")
        with self._noting(address):
            async with self.bulk.post(_encoded(url), data=body, headers=headers) as response:
                if response.status != 200:
                    raise _error(response.status, await response.read(), address)
                taken = 0
                async for record in read_records(_pieces(response), max(most, _MOST_ERROR)):
                    yield record
                    taken += 1
                    if taken % _BREATH == 0:
                        # A piece may hold thousands of small records: others have a turn in between.
                        await asyncio.sleep(0)

    async def _get(self, model: type[_M], address: str, path: str, params: dict[str, Any]) -> _M:
        response = await self._answer(address, path, params=params)
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise BadGatewayError(f"the publisher at {address} answered with something unknown") from error

    async def _answer(
        self,
        address: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        accepted: tuple[int, ...] = (200,),
    ) -> httpx.Response:
        with self._noting(address):
            response = await self.http.get(_url(address, path), params=params, headers=headers)
            if response.status_code not in accepted:
                raise _error_of(response, address)
        return response


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body as it arrived: anything else would join the pieces first, and copy them."""
    async for piece, _ in response.content.iter_chunks():
        yield piece


async def _batches(lines: AsyncIterator[str], address: str) -> AsyncIterator[list[DatasetEntry]]:
    batch: list[DatasetEntry] = []
    complete = False
    async for line in lines:
        text = line.strip().rstrip(",")
        complete = text.startswith("]")
        if text.startswith("{"):
            try:
                batch.append(_ENTRY.validate_json(text))
            except ValidationError as error:
                raise BadGatewayError(f"the publisher at {address} sent a damaged catalog") from error
        if len(batch) == _CATALOG_BATCH:
            yield batch
            batch = []
    if not complete:
        raise BadGatewayError(f"the publisher at {address} sent a catalog that is cut off")
    yield batch


def _url(address: str, path: str) -> str:
    try:
        return f"{base_url(address)}/{path}"
    except AddressError as error:
        raise BadGatewayError(f"the publisher announces {address!r}, which is no address: set its urlbase") from error


def _encoded(url: str) -> URL:
    # The path is quoted already; aiohttp would quote it a second time.
    return URL(url, encoded=True)


@contextlib.contextmanager
def _translated(address: str) -> Any:
    """Turn the errors of both HTTP libraries into ours."""
    try:
        yield
    except (httpx.TransportError, aiohttp.ClientConnectionError, TimeoutError) as error:
        raise UnreachableError(f"the publisher at {address} does not answer: {reason_of(error)}") from error
    except (httpx.HTTPError, aiohttp.ClientError, httpx.InvalidURL) as error:
        raise BadGatewayError(f"the publisher at {address} answered with something unknown: {error}") from error


def _error_of(response: httpx.Response, address: str) -> Caterva2Error:
    return _error(response.status_code, response.content, address)


class _Detail(Model):
    detail: str = ""


def _error(status: int, body: bytes, address: str) -> Caterva2Error:
    try:
        detail = _Detail.model_validate_json(body).detail
    except ValidationError:
        detail = ""
    if not detail and status in _OF_A_PROXY:
        return UnreachableError(f"the publisher at {address} does not answer: a proxy before it says {status}")
    if not detail or status == 500 or status < 400:
        return BadGatewayError(f"the publisher at {address} answered with status {status}")
    return error_for_status(status, detail)
