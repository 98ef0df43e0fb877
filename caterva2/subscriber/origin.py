"""Calls to publishers: the only place that knows how a publisher is spoken to.

A publisher's address comes over the bus, and so does the token that it wants to see. A token goes to the address that
was announced for its root, and nowhere else: redirects are refused, so is an address with a password in it, and
`destinations` says where nothing is fetched from at all. What comes back is limited in size, since nobody here knows
who wrote it.

aiohttp carries it all: chunks come in bulk, where httpx costs four times as much processor time (docs/design/), and
it tells which number a connection is about to be made to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from pydantic import TypeAdapter, ValidationError
from yarl import URL

from caterva2.address import Address, base_url
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
from caterva2.subscriber.catalog import Root
from caterva2.subscriber.destinations import ForbiddenAddressError, open_socket
from caterva2.subscriber.grants import Grants

logger = logging.getLogger(__name__)

_LOOK: Final = 1.0
"""Seconds between two looks at whether an answer that does not go on still can."""
# Seconds to connect, and between two pieces of an answer; an answer that is no stream comes to its end, too.
_STREAM: Final = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=30.0)
_SMALL: Final = aiohttp.ClientTimeout(total=120.0, sock_connect=5.0, sock_read=30.0)
_CATALOG_HEAD: Final = re.compile(rb'\{"epoch": ?"(?P<epoch>[^"]{0,255})", ?"seq": ?(?P<seq>\d{1,18})\b')
_CATALOG_BATCH: Final = 250
_OF_A_PROXY: Final = {502, 503, 504}
_PIECE: Final = 1 << 20
_BREATH: Final = 100  # records
# Bytes that are taken, of ...
_MOST_ERROR: Final = 64 << 10  # what says what is wrong, with a request or with a chunk
_MOST_INFO: Final = 1 << 20  # metadata, which is not looked at: the rest stays unread
_MOST_CHANGES: Final = 128 << 20  # 20,000 changes with the longest paths, escaped
_MOST_SKELETON: Final = (512 << 20) + (16 << 20)  # what `decode_skeleton` takes, with metadata
_MOST_LINE: Final = 64 << 10  # a dataset in a catalog
_MOST_CATALOG: Final = 4 << 30  # a catalog, unpacked
_ENTRY = TypeAdapter(DatasetEntry)
_M = TypeVar("_M", bound=Model)


class RefusedError(BadGatewayError):
    """A publisher that wants a token which is not here; it was logged."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The way to all publishers.

    Args:
        small: for what is small.
        bulk: for chunks; connections of its own, so that what is small need not wait for them.
        grants: the tokens that are shown.
    """

    small: aiohttp.ClientSession
    bulk: aiohttp.ClientSession
    grants: Grants
    _outcomes: dict[str, tuple[float, bool]] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    _readable: set[str] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def open(cls, grants: Grants | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Open the connection pools.

        Args:
            grants: the tokens to show; None is none.
            tls: which authorities are believed; None are the system's, or those of SSL_CERT_FILE.
        """
        tls = tls or ssl.create_default_context()
        async with AsyncExitStack() as stack:
            small = await stack.enter_async_context(_session(tls, 100))
            bulk = await stack.enter_async_context(_session(tls, 16))
            yield cls(small, bulk, grants or Grants())

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

    async def catalog(self, root: Root) -> AsyncIterator[CatalogHead | list[DatasetEntry]]:
        """List a root: first the head of its journal, then its datasets in batches.

        Raises:
            UnreachableError: if there is no answer.
            BadGatewayError: if the answer makes no sense.
        """
        headers = {"Accept-Encoding": "gzip"}
        async with self._asked(root, self.small, "GET", "api/catalog", _STREAM, headers=headers) as response:
            lines = _lines(response, root.http)
            match = _CATALOG_HEAD.match(await anext(lines, b""))
            if match is None:
                raise BadGatewayError(f"the publisher at {root.http} sent no catalog")
            yield CatalogHead(epoch=match["epoch"].decode(errors="replace"), seq=int(match["seq"]))
            async for batch in _batches(lines, root.http):
                yield batch

    async def changes(self, root: Root, epoch: str, since: int) -> ChangesAnswer:
        """Ask what happened after `since`.

        Raises:
            GoneError: if the journal does not reach back that far.
        """
        path = f"api/changes?{urlencode({'epoch': epoch, 'since': since})}"
        body = await self._answer(root, path, _MOST_CHANGES)
        try:
            return ChangesAnswer.model_validate_json(body)
        except ValidationError as error:
            raise BadGatewayError(f"the publisher at {root.http} answered with something unknown") from error

    async def skeleton(self, root: Root, name: str) -> tuple[SkeletonHead, Skeleton]:
        """Ask for a dataset without its chunks, at its present version.

        Raises:
            NotFoundError: if there is no such dataset.
            FrameError: if it cannot be read where it is.
        """
        head, skeleton = decode_skeleton(await self._answer(root, f"api/skeleton/{quote(name)}", _MOST_SKELETON))
        if head.entry.path != name:
            raise BadGatewayError(f"the publisher at {root.http} answered with another dataset than {name}")
        return head, skeleton

    async def unchanged(self, root: Root, name: str, etag: str) -> bool:
        """Ask whether a dataset is still at this version.

        Raises:
            NotFoundError: if there is no such dataset any more.
        """
        headers = {"If-None-Match": f'"{etag}"', "Accept-Encoding": "identity"}
        path = f"api/info/{quote(name)}"
        accepted = (200, 304)
        async with self._asked(root, self.small, "GET", path, _SMALL, headers=headers, accepted=accepted) as response:
            # Read for the sake of the connection, which can be used again then.
            await _start_of(response, _MOST_INFO)
            return response.status == 304

    async def chunks(
        self, root: Root, name: str, etag: str, wishes: Sequence[ChunkWish], most: int
    ) -> AsyncIterator[ChunkRecord]:
        """Ask for chunks of one version, in one request; they come in the order asked.

        Args:
            root: of the publisher.
            name: of the dataset, below its root.
            etag: the version.
            wishes: the chunks.
            most: the length in bytes that no chunk of it can have more than.

        Raises:
            VersionChangedError: if the dataset is at another version.
        """
        body = ChunksRequest(chunks=tuple(wishes)).model_dump_json(exclude_none=True)
        headers = {"If-Match": f'"{etag}"', "Content-Type": "application/json", "Accept-Encoding": "identity"}
        path = f"api/chunks/{quote(name)}"
        async with self._asked(root, self.bulk, "POST", path, _STREAM, headers=headers, body=body) as response:
            taken = 0
            async for record in read_records(_pieces(response), max(most, _MOST_ERROR)):
                yield record
                taken += 1
                if taken % _BREATH == 0:
                    # A piece may hold thousands of small records: others have a turn in between.
                    await asyncio.sleep(0)

    async def _answer(self, root: Root, path: str, most: int) -> bytes:
        headers = {"Accept-Encoding": "identity"}
        async with self._asked(root, self.small, "GET", path, _SMALL, headers=headers) as response:
            body = await _start_of(response, most)
        if len(body) > most:
            raise BadGatewayError(f"the publisher at {root.http} sent more than {most} bytes")
        return body

    @asynccontextmanager
    async def _asked(
        self,
        root: Root,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        timeout: aiohttp.ClientTimeout,
        *,
        headers: Mapping[str, str],
        body: str | None = None,
        accepted: tuple[int, ...] = (200,),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask a publisher, with the token of its root; when that is refused, with the next one, if there is any."""
        url = _url(root.http, path)
        tried: list[str | None] = [self.grants.token(root.name)]
        with self._noting(root.http):
            while True:
                shown = self._authorization(root, tried[-1])
                async with session.request(
                    method, url, data=body, headers={**headers, **shown}, timeout=timeout, allow_redirects=False
                ) as response:
                    if response.status in accepted:
                        self._refused.discard(root.name)
                        yield response
                        return
                    error = await _error_of(response, root.http)
                if response.status != 401:
                    raise error
                token = await self.grants.another(root.name, tried)
                if token is None:
                    raise self._refusal(root, tried, error)
                tried.append(token)

    def _authorization(self, root: Root, token: str | None) -> dict[str, str]:
        if token is None:
            return {}
        parts = urlsplit(root.http)
        if parts.scheme != "https" and not Address(parts.hostname or "").loopback and root.name not in self._readable:
            self._readable.add(root.name)
            logger.warning(
                "tokens for root %s go to %s unencrypted: whoever listens on the way can use them; give its publisher"
                " a certificate",
                *(root.name, root.http),
            )
        return {"Authorization": f"Bearer {token}"}

    def _refusal(self, root: Root, tried: Sequence[str | None], error: Caterva2Error) -> RefusedError:
        """Say once in the log, and to each client, that a publisher does not let us read."""
        said = "".join(c if c.isprintable() else " " for c in error.detail)[:200]
        what = f"refuses our token ({said})" if any(tried) else "wants a token, and none is here"
        detail = (
            f"the publisher of root {root.name} at {root.http} {what}: its broker gives tokens to the subscribers on"
            f" its bus; without it, set [subscriber] tokens to what [publisher] token says there"
        )
        level = logging.DEBUG if root.name in self._refused else logging.WARNING
        self._refused.add(root.name)
        logger.log(level, "%s", detail)
        return RefusedError(detail)


def _session(tls: ssl.SSLContext, connections: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=connections, ssl=tls, socket_factory=open_socket)
    return aiohttp.ClientSession(
        connector=connector,
        read_bufsize=_PIECE,
        auto_decompress=False,
        # No proxy of the environment stands between daemons, and no cookie means anything.
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body as it arrived: anything else would join the pieces first, and copy them."""
    while True:
        piece = await _piece(response)
        # All empty bodies are one object in aiohttp, which ends only the first one of them: the others never would.
        if not piece and response.content.at_eof():
            return
        yield piece


async def _piece(response: aiohttp.ClientResponse) -> bytes:
    while True:
        try:
            async with asyncio.timeout(_LOOK):
                return (await response.content.readchunk())[0]
        except TimeoutError as error:
            if isinstance(error, aiohttp.ClientError):
                raise
        # If chunked encoding is broken after the first bytes of a body, aiohttp closes the connection, and forgets
        # both to tell who waits for the rest and its own time limit.
        connection = response.connection
        if (connection is None or connection.transport is None) and not response.content.at_eof():
            raise aiohttp.ClientPayloadError("the answer broke off")


async def _start_of(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, or, if it is longer than `most` bytes, a little more than that of it."""
    body = bytearray()
    async for piece in _pieces(response):
        body += piece
        if len(body) > most:
            break
    return bytes(body)


async def _lines(response: aiohttp.ClientResponse, address: str) -> AsyncIterator[bytes]:
    rest, total = b"", 0
    async for text in _unpacked(response, address):
        total += len(text)
        *lines, rest = (rest + text).split(b"\n")
        if total > _MOST_CATALOG or max(map(len, (rest, *lines))) > _MOST_LINE:
            raise BadGatewayError(f"the publisher at {address} sent a catalog that is too long, or a line of it is")
        for line in lines:
            yield line
    if rest:
        yield rest


async def _unpacked(response: aiohttp.ClientResponse, address: str) -> AsyncIterator[bytes]:
    """The body, unpacked in pieces of a bounded size: a small piece of gzip may stand for a thousand times as much."""
    if response.headers.get("Content-Encoding", "identity") != "gzip":
        async for piece in _pieces(response):
            yield piece
        return
    unpacker = zlib.decompressobj(wbits=31)
    try:
        async for piece in _pieces(response):
            while piece:
                yield unpacker.decompress(piece, _PIECE)
                piece = unpacker.unconsumed_tail
    except zlib.error as error:
        raise BadGatewayError(f"the publisher at {address} sent a damaged catalog: {error}") from error


async def _batches(lines: AsyncIterator[bytes], address: str) -> AsyncIterator[list[DatasetEntry]]:
    batch: list[DatasetEntry] = []
    complete = False
    async for line in lines:
        text = line.strip().rstrip(b",")
        complete = text.startswith(b"]")
        if text.startswith(b"{"):
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


def _url(address: str, path: str) -> URL:
    try:
        if "@" in urlsplit(address).netloc:
            # It would be sent along, in place of our token.
            raise AddressError("an address has no user name and password")
        # The path is quoted already; aiohttp would quote it a second time.
        return URL(f"{base_url(address)}/{path}", encoded=True)
    except (AddressError, ValueError) as error:
        raise BadGatewayError(f"the publisher announces {address!r}, which is no address: set its urlbase") from error


@contextlib.contextmanager
def _translated(address: str) -> Any:
    """Turn aiohttp's errors into ours."""
    try:
        yield
    except (aiohttp.ClientConnectionError, TimeoutError) as error:
        if isinstance(error.__cause__, ForbiddenAddressError):
            reason = error.__cause__.strerror
            raise BadGatewayError(f"the publisher announces {address!r}: {reason}; set its urlbase") from error
        raise UnreachableError(f"the publisher at {address} does not answer: {reason_of(error)}") from error
    except aiohttp.ClientPayloadError as error:
        raise UnreachableError(f"the publisher at {address} broke off its answer") from error
    except aiohttp.ClientError as error:
        raise BadGatewayError(f"the publisher at {address} answered with something unknown: {error}") from error


class _Detail(Model):
    detail: str = ""


async def _error_of(response: aiohttp.ClientResponse, address: str) -> Caterva2Error:
    status, body = response.status, await _start_of(response, _MOST_ERROR)
    if 300 <= status < 400 and status != 304:
        where = response.headers.get("Location", "?")[:200]
        return BadGatewayError(f"the publisher at {address} redirects to {where!r}, which is refused: set its urlbase")
    try:
        detail = _Detail.model_validate_json(body).detail
    except ValidationError:
        detail = ""
    if not detail and status in _OF_A_PROXY:
        return UnreachableError(f"the publisher at {address} does not answer: a proxy before it says {status}")
    error = error_for_status(status, detail)
    if not detail or status < 400 or error.status == 500:  # also one of 5xx that means nothing to us
        return BadGatewayError(f"the publisher at {address} answered with status {status}")
    return error
