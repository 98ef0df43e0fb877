"""caterva2.publisher.streams: texts, ranges and records on their way."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caterva2.errors import FrameError
from caterva2.models import CatalogHead, ChunkWish, DatasetEntry
from caterva2.publisher.source import PIECE
from caterva2.publisher.streams import _parts, _record, catalog_text, gzipped, list_text
from caterva2.records import Status, digest_of, digest_text


def entries(*paths: str) -> list[DatasetEntry]:
    """Entries of a catalog."""
    return [DatasetEntry(path=path, kind="file", etag="e", nbytes=1, mtime=2.0) for path in paths]


HEAD = CatalogHead(epoch="E", seq=5)


@pytest.mark.parametrize("batches", [[], [entries("a")], [entries("a", "b"), entries('c"\n')]])
def test_the_catalog_is_json_with_one_dataset_a_line(batches: list[list[DatasetEntry]]) -> None:
    """The text is one JSON document, and each line between the first and the last is a dataset."""
    text = b"".join(catalog_text(iter(batches), HEAD))
    flat = [entry.model_dump() for batch in batches for entry in batch]

    assert {"epoch": "E", "seq": 5, "datasets": flat} == json.loads(text)
    lines = [line for line in text.decode().split("\n")[1:-2] if line]
    assert flat == [json.loads(line.removesuffix(",")) for line in lines]


@pytest.mark.parametrize("batches", [[], [entries("a")], [entries("a", "b"), entries("ü")]])
def test_the_list_is_json(batches: list[list[DatasetEntry]]) -> None:
    """The list is the paths as a JSON list, also the empty one."""
    assert [e.path for batch in batches for e in batch] == json.loads(b"".join(list_text(iter(batches))))


def test_a_gzipped_stream_is_the_stream() -> None:
    """What was compressed piece by piece decompresses as a whole."""
    assert b"one two" == gzip.decompress(b"".join(gzipped(iter([b"one ", b"two"]))))


def test_records_say_data_same_or_error() -> None:
    """A chunk is sent, or said to be the same as the copy at hand, or its error is told in one line."""
    digest = digest_of(b"chunk")
    wish, other = ChunkWish(n=3), ChunkWish(n=3, have="0" * 16)
    good, probe = ChunkWish(n=3, have=digest_text(digest)), other.model_copy(update={"probe": True})
    sent, again = _record(3, b"chunk", wish), _record(3, b"chunk", other)
    same, error = _record(3, b"chunk", good), _record(3, FrameError("bad\nchunk"), wish)
    different = _record(3, b"chunk", probe)

    assert sent == again
    assert (Status.DATA, digest, b"chunk") == (sent.status, sent.digest, sent.payload)
    assert (Status.SAME, digest, b"") == (same.status, same.digest, same.payload)
    assert (Status.DIFFERENT, b"") == (different.status, different.payload)
    assert (Status.ERROR, 0, b"bad chunk") == (error.status, error.digest, error.payload)


@given(st.lists(st.integers(0, 5).map(lambda n: n**5 * 1000)))
def test_records_are_sent_whole_and_in_parts_of_bounded_size(sizes: list[int]) -> None:
    """Small records are joined and large payloads cut, but joined again they are the records."""
    found = [_record(n, memoryview(bytes([n % 256]) * size), ChunkWish(n=n)) for n, size in enumerate(sizes)]
    parts = [*_parts(found)]

    assert b"".join(part for record in found for part in (record.header, record.payload)) == b"".join(parts)
    assert all(0 < len(part) for part in parts)
    assert all(len(part) <= PIECE for part in parts if isinstance(part, memoryview))
