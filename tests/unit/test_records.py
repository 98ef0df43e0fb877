"""caterva2.records: streams of chunks and skeletons, whole, cut and spoiled."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence

import blosc2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caterva2.errors import BadGatewayError
from caterva2.frames import Skeleton
from caterva2.metadata import describe
from caterva2.models import DatasetEntry
from caterva2.records import (
    ChunkRecord,
    Status,
    decode_skeleton,
    digest_of,
    digest_text,
    encode_skeleton,
    read_records,
)
from tests.support.arrays import example

RECORDS = st.lists(
    st.builds(
        ChunkRecord,
        st.integers(-(2**63), 2**63 - 1),
        st.sampled_from([Status.DATA, Status.SAME, Status.ERROR]),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=60),
    ),
    max_size=8,
)
END = ChunkRecord(0, Status.END)


def wire(records: Sequence[ChunkRecord]) -> bytes:
    """Write records as they are sent."""
    return b"".join(record.header + record.payload for record in records)


def received(pieces: Sequence[bytes]) -> list[ChunkRecord]:
    """Read a stream that comes in these pieces."""

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def read() -> list[ChunkRecord]:
        return [record async for record in read_records(stream())]

    return asyncio.run(read())


@given(RECORDS, st.data())
def test_any_cut_of_the_stream_gives_the_same_records(records: list[ChunkRecord], data: st.DataObject) -> None:
    """It does not matter in which pieces the bytes arrive."""
    stream = wire([*records, END])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert [*records, END] == received(pieces)


@given(RECORDS)
def test_a_byte_at_a_time_is_enough(records: list[ChunkRecord]) -> None:
    """Pieces of one byte make the same records."""
    stream = wire([*records, END])

    assert [*records, END] == received([stream[i : i + 1] for i in range(len(stream))])


@pytest.mark.parametrize("last", [Status.END, Status.CHANGED])
def test_nothing_counts_after_the_end(last: Status) -> None:
    """END and CHANGED close the stream, whatever follows."""
    closing = ChunkRecord(0, last)

    assert [closing] == received([wire([closing]) + b"\xff" * 100])


@given(RECORDS, st.data())
def test_a_stream_that_is_cut_off_is_a_bad_gateway(records: list[ChunkRecord], data: st.DataObject) -> None:
    """A stream without its end is never taken for complete."""
    stream = wire([*records, END])
    with pytest.raises(BadGatewayError):
        received([stream[: data.draw(st.integers(0, len(stream) - 1))]])


@given(st.binary(max_size=200))
def test_garbage_is_a_bad_gateway(garbage: bytes) -> None:
    """Random bytes raise nothing else, and never wait for an absurd length."""
    try:
        records = received([garbage])
    except BadGatewayError:
        return

    assert records[-1].status in {Status.END, Status.CHANGED}


@pytest.mark.parametrize(("status", "length"), [(max(Status) + 1, 0), (255, 0), (0, 2**32 - 1)])
def test_an_impossible_header_is_refused_at_once(status: int, length: int) -> None:
    """An unknown status or an absurd length does not wait for more."""
    with pytest.raises(BadGatewayError, match="no stream of chunks"):
        received([struct.pack("<qB3xIQ", 0, status, length, 0)])


def test_digests_are_xxh3() -> None:
    """The digest of nothing is xxh3's, and its text has 16 digits."""
    assert ("2d06800538d394c2", "0000000000000005") == (digest_text(digest_of(b"")), digest_text(5))


# -- skeletons --------------------------------------------------------------------------------------------


def _encoded(*, slotted: bool = False) -> tuple[bytes, Skeleton]:
    data = blosc2.asarray(example((100,)), chunks=(10,), blocks=(10,)).to_cframe()
    skeleton, layout = Skeleton.read(lambda offset, length: data[offset : offset + length], len(data))
    entry = DatasetEntry(path="ü/a.b2nd", kind="array", etag="1", nbytes=len(data), mtime=0.5)
    info = describe("array", skeleton, layout, cbytes=layout.cbytes, mtime=0.5)
    return encode_skeleton(entry, info, skeleton, slotted=slotted), skeleton


@pytest.mark.parametrize("slotted", [True, False])
def test_a_skeleton_survives_the_way(slotted: bool) -> None:  # noqa: FBT001
    """What was written is read, with its metadata."""
    data, skeleton = _encoded(slotted=slotted)
    head, again = decode_skeleton(data)

    assert (skeleton, slotted, "ü/a.b2nd", (100,)) == (again, head.slotted, head.entry.path, head.info.shape)  # type: ignore[union-attr]


def test_every_part_of_a_skeleton_is_missed() -> None:
    """Cut off anywhere, or with something behind it, it is a bad gateway."""
    data, _ = _encoded()
    for spoiled in [*(data[:n] for n in range(len(data))), data + b"x", b"\xff" * 8 + data]:
        with pytest.raises(BadGatewayError):
            decode_skeleton(spoiled)


@given(st.binary(max_size=300))
def test_garbage_is_no_skeleton(garbage: bytes) -> None:
    """Random bytes are a bad gateway."""
    with pytest.raises(BadGatewayError):
        decode_skeleton(garbage)


def test_a_payload_longer_than_any_chunk_is_refused_before_it_is_read() -> None:
    """A length that no chunk can have is an error at once, so that a bad publisher cannot fill the memory."""

    async def pieces() -> AsyncIterator[bytes]:
        yield ChunkRecord(0, Status.DATA, 0, bytes(2000)).header

    async def read() -> list[ChunkRecord]:
        return [record async for record in read_records(pieces(), 1000)]

    with pytest.raises(BadGatewayError):
        asyncio.run(read())
