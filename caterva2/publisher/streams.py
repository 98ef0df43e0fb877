"""Answers that are sent while they are read."""

from __future__ import annotations

import logging
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final, cast

from pydantic_core import to_json
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from caterva2.errors import FrameError, VersionChangedError
from caterva2.models import CatalogHead, ChunkWish, DatasetEntry
from caterva2.publisher.metrics import Metrics
from caterva2.publisher.reader import Reader
from caterva2.publisher.source import PIECE, Anatomy, OpenDataset, StoredChunk
from caterva2.records import ChunkRecord, Status, digest_of, digest_text

logger = logging.getLogger(__name__)

OCTETS = "application/octet-stream"
_LARGE: Final = 128 * 1024
"""Bytes from which a payload is sent by itself; below, another send costs more than the copy."""


class Streamed(StreamingResponse):
    """A stream that owns what it reads from, and ends short, the connection closed, when that changes.

    Args:
        content: the pieces.
        resources: closed when the answer is sent, or the client is gone.
        status: of the answer.
        headers: of the answer.
        media_type: of the content.
    """

    def __init__(
        self,
        content: AsyncIterator[bytes | memoryview],
        resources: AsyncExitStack,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = OCTETS,
    ) -> None:
        super().__init__(content, status, headers, media_type)
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        async with self._resources:
            try:
                await super().__call__(scope, receive, send)
            except* (VersionChangedError, OSError) as errors:
                # The length is promised already: all that tells the client is a connection that is cut.
                logger.info("%s: cut off: %s", scope["path"], errors.exceptions[0])


async def records(
    reader: Reader, dataset: OpenDataset, anatomy: Anatomy, wishes: Sequence[ChunkWish], metrics: Metrics
) -> AsyncIterator[bytes | memoryview]:
    """The stream of records that answers `POST /api/chunks`."""
    asked = iter(wishes)
    try:
        async for piece in reader.pieces(dataset, anatomy, [wish.n for wish in wishes]):
            found = [_record(n, chunk, wish) for (n, chunk), wish in zip(piece, asked, strict=False)]
            metrics.chunks.update(record.status.name.lower() for record in found)
            for part in _parts(found):
                yield part
        yield ChunkRecord(0, Status.END).header
    except VersionChangedError:
        yield ChunkRecord(0, Status.CHANGED).header


def _record(n: int, chunk: StoredChunk, wish: ChunkWish) -> ChunkRecord:
    if isinstance(chunk, FrameError):
        return ChunkRecord(n, Status.ERROR, 0, " ".join(chunk.detail.split()).encode())
    digest = digest_of(chunk)
    if wish.have == digest_text(digest):
        return ChunkRecord(n, Status.SAME, digest)
    if wish.probe:
        return ChunkRecord(n, Status.DIFFERENT)
    # Not copied: whoever sends the payload takes a view as well.
    return ChunkRecord(n, Status.DATA, digest, cast(bytes, chunk))


def _parts(found: Sequence[ChunkRecord]) -> Iterator[bytes | memoryview]:
    """What is sent of some records: small ones joined, large payloads in parts and without a copy."""
    joined: list[bytes] = []
    for record in found:
        joined.append(record.header)
        if len(record.payload) < _LARGE:
            joined.append(record.payload)
            continue
        yield b"".join(joined)
        joined.clear()
        payload = memoryview(record.payload)
        for start in range(0, len(payload), PIECE):
            yield payload[start : start + PIECE]
    if joined:
        yield b"".join(joined)


def catalog_text(catalog: Iterator[CatalogHead | list[DatasetEntry]], head: CatalogHead) -> Iterator[bytes]:
    """The catalog as JSON, one dataset a line, so that it can be read line by line."""
    start = head.model_dump_json()[:-1] + ', "datasets": [\n'
    yield start.encode()
    comma = b""
    for batch in catalog:
        assert isinstance(batch, list)
        yield comma + b",\n".join(entry.model_dump_json().encode() for entry in batch)
        comma = b",\n"
    yield b"\n]}\n"


def list_text(catalog: Iterator[CatalogHead | list[DatasetEntry]]) -> Iterator[bytes]:
    """The paths as a JSON list."""
    comma = b"["
    for batch in catalog:
        assert isinstance(batch, list)
        yield comma + to_json([entry.path for entry in batch])[1:-1]
        comma = b","
    yield b"]" if comma == b"," else b"[]"


def gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Compress a stream; fast rather than small."""
    compressor = zlib.compressobj(1, wbits=31)
    for piece in pieces:
        if data := compressor.compress(piece):
            yield data
    yield compressor.flush()
