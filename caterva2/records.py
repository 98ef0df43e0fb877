"""The binary forms between publisher and subscriber: skeletons, and streams of chunks.

A skeleton is `length of the head (uint32) | head (JSON) | header | first chunk's header | index and trailer`. A stream
of chunks is a sequence of `record header | payload`, in the order in which the chunks were asked for, closed by
an END record, so that a stream that was cut off is told from one that is complete. All integers are little-endian.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import IntEnum

import xxhash
from pydantic import ValidationError

from caterva2.errors import BadGatewayError
from caterva2.frames import Skeleton
from caterva2.models import DatasetEntry, DatasetInfo, Model

_HEAD = struct.Struct("<I")
_RECORD = struct.Struct("<qB3xIQ")
_MAX_SKELETON = 512 << 20
_MAX_PAYLOAD = (1 << 31) - 1 + 4096


class Status(IntEnum):
    """What a record says about its chunk."""

    DATA = 0  # the payload is the compressed chunk
    SAME = 1  # the copy that the request named is the current one; no payload
    ERROR = 2  # the chunk cannot be read; the payload is one line of UTF-8
    CHANGED = 3  # the dataset changed meanwhile; nothing of this stream counts, and it ends here
    END = 4  # the stream is complete
    DIFFERENT = 5  # the copy that a probe named is not the current one; no payload


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """One chunk on its way.

    Attributes:
        n: the chunk's number; 0 for CHANGED and END.
        status: what the record says.
        digest: of the compressed bytes, xxh3-64; 0 where there are none.
        payload: the compressed chunk, or the error's text.
    """

    n: int
    status: Status
    digest: int = 0
    payload: bytes = b""

    @property
    def header(self) -> bytes:
        """What is sent before the payload."""
        return _RECORD.pack(self.n, self.status, len(self.payload), self.digest)


def digest_of(chunk: bytes | memoryview) -> int:
    """The digest of a compressed chunk: xxh3-64. It tells versions and accidents apart, not forgeries."""
    return xxhash.xxh3_64_intdigest(chunk)


def digest_text(digest: int) -> str:
    """The digest as JSON carries it: 16 hexadecimal digits."""
    return f"{digest:016x}"


async def read_records(pieces: AsyncIterator[bytes], most: int = _MAX_PAYLOAD) -> AsyncIterator[ChunkRecord]:
    """Take the records out of a stream that comes in pieces of any size, as they are complete.

    Args:
        pieces: the stream.
        most: the length in bytes that no payload can have more than.

    Raises:
        BadGatewayError: if the stream is cut off, or is no stream of records.
    """
    stream = _Stream(most)
    async for piece in pieces:
        stream.add(piece)
        while (record := stream.next_record()) is not None:
            yield record
            if record.status in {Status.END, Status.CHANGED}:
                return
    raise BadGatewayError("the publisher's stream of chunks was cut off")


class _Stream:
    """Pieces as they came; a payload is joined from them once, which is all the copying there is."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: deque[memoryview] = deque()
        self._size = 0
        self._header: tuple[int, int, int, int] | None = None

    def add(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(memoryview(piece))
            self._size += len(piece)

    def next_record(self) -> ChunkRecord | None:
        """The next record, None while it is not complete."""
        if self._header is None and self._size >= _RECORD.size:
            self._header = _RECORD.unpack(self._take(_RECORD.size))
            if self._header[1] > max(Status) or self._header[2] > self._most:
                raise BadGatewayError("the publisher's answer is no stream of chunks")
        if self._header is None or self._size < self._header[2]:
            return None
        n, status, length, digest = self._header
        self._header = None
        return ChunkRecord(n, Status(status), digest, self._take(length))

    def _take(self, length: int) -> bytes:
        parts: list[memoryview] = []
        self._size -= length
        while length:
            first = self._pieces.popleft()
            if len(first) > length:
                self._pieces.appendleft(first[length:])
                first = first[:length]
            parts.append(first)
            length -= len(first)
        return b"".join(parts)


class SkeletonHead(Model):
    """What stands before a skeleton's bytes.

    Attributes:
        entry: the dataset at the version of the skeleton.
        info: what `GET /api/info` says of it.
        slotted: whether the publisher made the layout up, so that the bytes are no file of its own.
        lengths: of the header, the first chunk's header, and index with trailer, in bytes.
        first_offset: where the first chunk's header is in the frame.
        frame_length: of the frame, in bytes.
    """

    entry: DatasetEntry
    info: DatasetInfo
    slotted: bool
    lengths: tuple[int, int, int] = (0, 0, 0)
    first_offset: int = 0
    frame_length: int = 0


def encode_skeleton(entry: DatasetEntry, info: DatasetInfo, skeleton: Skeleton, *, slotted: bool) -> bytes:
    """Write a skeleton with what belongs to it."""
    head = SkeletonHead(
        entry=entry,
        info=info,
        slotted=slotted,
        lengths=(len(skeleton.head), len(skeleton.first), len(skeleton.tail)),
        first_offset=skeleton.first_offset,
        frame_length=skeleton.length,
    )
    text = head.model_dump_json().encode()
    return b"".join((_HEAD.pack(len(text)), text, skeleton.head, skeleton.first, skeleton.tail))


def decode_skeleton(data: bytes) -> tuple[SkeletonHead, Skeleton]:
    """Read what `encode_skeleton` wrote.

    Raises:
        BadGatewayError: if it is something else.
    """
    try:
        start = _HEAD.size + _HEAD.unpack_from(data)[0]
        head = SkeletonHead.model_validate_json(data[_HEAD.size : start])
    except (struct.error, ValidationError) as error:
        raise BadGatewayError("the publisher's answer is no skeleton") from error
    a, b, c = head.lengths
    if min(head.lengths) < 0 or not start + a + b + c == len(data) <= _MAX_SKELETON:
        raise BadGatewayError("the publisher's skeleton is cut off")
    parts = (data[start : start + a], data[start + a : start + a + b], data[start + a + b :])
    return head, Skeleton(parts[0], parts[1], head.first_offset, parts[2], head.frame_length)
