"""caterva2.subscriber.answers: what is sent decodes to what NumPy selects."""

import os
import tracemalloc
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caterva2.chunks import compress_file_chunk
from caterva2.errors import BadRequestError, SliceError, TooLargeError
from caterva2.frames import file_skeleton
from caterva2.metadata import describe
from caterva2.models import DatasetEntry
from caterva2.records import SkeletonHead, digest_of
from caterva2.slices import Slice
from caterva2.subscriber.answers import Request, compose
from caterva2.subscriber.mirrors import MirrorStore
from caterva2.subscriber.stored import StoredFrame
from tests.support.arrays import DTYPES, GEOMETRIES, example, same
from tests.unit.subscriber.frames import PATH, array_source, mirrored, source

LARGE = example((600, 500), "<i4")


def frame_of(request: Request) -> bytes:
    """Compose an answer; its length is what it said."""
    answer = compose(request)
    frame = b"".join(answer.pieces)
    assert answer.length == len(frame)
    return frame


def read(stored: StoredFrame, key: Any, field: str | None = None) -> Any:
    """Read as a client does."""
    return blosc2.ndarray_from_cframe(frame_of(Request.of(stored, Slice.from_key(key), field)))[()]


def content(stored: StoredFrame, key: Any) -> bytes:
    """Read bytes of what is no array, as a client does."""
    schunk = blosc2.schunk_from_cframe(frame_of(Request.of(stored, Slice.from_key(key), None)))
    return schunk[:] if schunk.nbytes else b""


def plain_file(directory: Path, data: bytes) -> StoredFrame:
    """Mirror a plain file."""
    skeleton = file_skeleton(len(data))
    layout = skeleton.layout()
    entry = DatasetEntry(path="f", kind="file", etag="1", nbytes=len(data), mtime=0.0)
    info = describe("file", skeleton, layout, cbytes=1, mtime=0.0)
    mirror = MirrorStore(directory).create(PATH, SkeletonHead(entry=entry, info=info, slotted=True), skeleton)
    for n in range(layout.nchunks):
        chunk = compress_file_chunk(data[n * layout.chunksize : (n + 1) * layout.chunksize])
        mirror.put(n, digest_of(chunk), chunk)
    return mirror


# -- arrays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, chunks, blocks", GEOMETRIES, ids=lambda each: "x".join(map(str, each)) or "0d")  # noqa: PT006
def test_arrays_of_every_geometry(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], blocks: tuple[int, ...]
) -> None:
    """All of an array, one item, every other item and nothing of it are what NumPy gives."""
    values = example(shape)
    mirror = mirrored(tmp_path, array_source(values, chunks=chunks, blocks=blocks))
    keys: list[Any] = [(), ..., (slice(None, None, -1),) * len(shape), (slice(None, None, 2),) * len(shape)]
    keys += [(-1,) * len(shape)] if values.size else []
    keys += [(slice(5, 5),), (slice(100, None), ...)] if shape else []
    for key in keys:
        assert same(np.asarray(values[key], values.dtype), read(mirror, key)), key


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arrays_of_every_dtype(tmp_path: Path, dtype: Any) -> None:
    """Small, middling and whole results keep the dtype."""
    values = example((130, 130), dtype)
    mirror = mirrored(tmp_path, array_source(values, chunks=(40, 50), blocks=(10, 20)))
    for key in [(3, 4), (slice(1, 3), slice(None, None, 7)), (), slice(40, 80), slice(None, None, -1)]:
        assert same(np.asarray(values[key], values.dtype), read(mirror, key)), key


@pytest.mark.parametrize("dtype", ["S256", "<U100"])
def test_long_strings_as_blosc2_writes_them_by_default(tmp_path: Path, dtype: str) -> None:
    """Items above 255 bytes are read in small, middling and whole-chunk results."""
    values = example((2000,), dtype)
    mirror = mirrored(
        tmp_path, source(blosc2.asarray(values, chunks=(600,), blocks=(70,), contiguous=True).to_cframe())
    )
    for key in [3, slice(5, 9), slice(600, 1200), slice(1, 1999), slice(None, None, -7)]:
        assert same(np.asarray(values[key], dtype), read(mirror, key)), key


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> StoredFrame:
    """A mirror of a megabyte."""
    return mirrored(tmp_path_factory.mktemp("large"), array_source(LARGE, chunks=(100, 90), blocks=(20, 45)))


BOUND = st.none() | st.integers(-700, 700)
STEP = st.none() | st.sampled_from([1, 1, 1, 2, 7, 100, -1, -3, -1000])
ALIGNED = st.builds(lambda a, b: slice(a * 100, b * 100), st.integers(0, 3), st.integers(3, 6))
COLUMNS = st.builds(lambda a, b: slice(a * 90, b * 90), st.integers(0, 3), st.integers(3, 6))
SIDE = st.builds(slice, BOUND, BOUND, STEP) | st.just(slice(None))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(key=st.tuples(SIDE | st.integers(-600, 599), SIDE | st.integers(-500, 499)) | st.tuples(ALIGNED, COLUMNS))
def test_any_slice_is_numpys(large: StoredFrame, key: tuple[Any, ...]) -> None:
    """Aligned or not, large or empty, forwards or backwards: the answer decodes to NumPy's."""
    assert same(np.asarray(LARGE[key]), read(large, key))


def test_whole_chunks_are_sent_as_they_are(large: StoredFrame) -> None:
    """A box of whole chunks has the stored chunks in it, byte for byte."""
    frame = frame_of(Request.of(large, Slice.parse("100:500, 90:"), None))

    assert all(large.chunk(n) in frame for n in (7, 29))
    assert large.chunk(0) not in frame


def test_middling_results_are_compressed(large: StoredFrame) -> None:
    """What is worth it is compressed, what is small is not."""
    assert len(frame_of(Request.of(large, Slice.parse("1:"), None))) < LARGE[1:].nbytes / 2
    assert len(frame_of(Request.of(large, Slice.parse("1:3"), None))) > LARGE[1:3].nbytes


@pytest.mark.parametrize("key", ["::2", "1:", "::-1", ":, 3:", "3:, 5", ":, 1::2, :"])
def test_results_too_large_for_memory_are_cut_into_slabs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Beyond what is packed in memory, the answer is uncompressed chunks; the last may be shorter."""
    monkeypatch.setattr("caterva2.subscriber.answers._PLAIN", 100)
    monkeypatch.setattr("caterva2.subscriber.answers._PACKED", 200)
    monkeypatch.setattr("caterva2.subscriber.answers._SLAB", 1000)
    values = example((41, 23, 6))
    mirror = mirrored(tmp_path, array_source(values, chunks=(10, 10, 6), blocks=(5, 5, 3)))
    sliced = Slice.parse(key)

    assert same(values[sliced.items], read(mirror, sliced.items))


def test_a_selection_across_an_axis_that_is_dropped(tmp_path: Path) -> None:
    """One plane of the last axis, as large as it may be, is cut along the first axis that is kept."""
    values = example((3, 300, 200))
    mirror = mirrored(tmp_path, array_source(values, chunks=(2, 100, 100), blocks=(1, 50, 50)))
    for key in [
        (slice(None), slice(None), -1),
        (1,),
        (slice(None), 7),
        (slice(None, None, -1), 7, slice(None, None, -2)),
    ]:
        assert same(values[key], read(mirror, key)), key


@pytest.mark.parametrize("field", ["a", "b", "c", "d"])
def test_a_field_is_an_array_of_its_own(tmp_path: Path, field: str) -> None:
    """One field of a structured array, sliced, is NumPy's."""
    values = example((3000,), [("a", "<i4"), ("b", "<f8"), ("c", "S10"), ("d", "?")])
    mirror = mirrored(tmp_path, array_source(values, chunks=(700,), blocks=(100,)))
    for key in [(), slice(700, 1400), slice(None, None, -3), 5, slice(0, 0)]:
        assert same(np.asarray(values[field][key], values.dtype[field]), read(mirror, key, field)), key


def test_a_field_that_repeats_itself(tmp_path: Path) -> None:
    """A field that is an array itself adds its axes."""
    values = example((50,), [("p", "<i2", (2, 3)), ("q", "u1")])
    mirror = mirrored(tmp_path, array_source(values, chunks=(20,), blocks=(10,)))

    assert same(values["p"][3:40:2], read(mirror, slice(3, 40, 2), "p"))
    assert same(values["p"][7], read(mirror, 7, "p"))


@pytest.mark.parametrize("field", ["nosuch", "", "p q"])
def test_a_field_that_is_not_there_is_refused(tmp_path: Path, large: StoredFrame, field: str) -> None:
    """The error names the fields that there are."""
    values = example((50,), [("p", "<i2"), ("q", "u1")])
    mirror = mirrored(tmp_path, array_source(values, chunks=(20,), blocks=(10,)))
    with pytest.raises(BadRequestError, match="its fields are p, q"):
        Request.of(mirror, Slice(), field)
    with pytest.raises(BadRequestError, match="it has no fields"):
        Request.of(large, Slice(), field)


def test_a_slice_that_does_not_fit_is_refused(large: StoredFrame) -> None:
    """Ints out of bounds and too many axes are SliceError before anything is read."""
    for text in ("600", "0, 0, 0", "-601"):
        with pytest.raises(SliceError):
            Request.of(large, Slice.parse(text), None)


@pytest.mark.parametrize("key", ["", "1:7", "10:30", "3", "::-7", "5:5"])
def test_what_is_not_initialised_is_zeros(tmp_path: Path, key: str) -> None:
    """Chunks that nobody wrote are zeros, and not what the server's memory holds."""
    array = blosc2.uninit((100_000,), dtype="<f8", chunks=(10_000,), blocks=(1000,), contiguous=True)
    array[20_000:30_000] = 1.5
    expected = np.zeros(100_000)
    expected[20_000:30_000] = 1.5
    junk = [os.urandom(80_000) for _ in range(50)]
    del junk
    items = tuple(
        slice(*(None if x is None else x * 1000 for x in (i.start, i.stop)), i.step)
        if isinstance(i, slice)
        else i * 1000
        for i in Slice.parse(key).items
    )

    assert same(np.asarray(expected[items]), read(mirrored(tmp_path, source(array.to_cframe())), items))


@pytest.mark.parametrize("make", [blosc2.zeros, blosc2.nans])
def test_special_chunks_stay_special(tmp_path: Path, make: Any) -> None:
    """A gigabyte of one value is answered with few bytes, and partly too."""
    array = make((2**27,), dtype="<f8", chunks=(2**20,), blocks=(2**15,), contiguous=True)
    mirror = mirrored(tmp_path, source(array.to_cframe()))
    frame = frame_of(Request.of(mirror, Slice.parse(f"{2**20}:{2**26}"), None))

    assert len(frame) < 10_000
    assert same(array[2**20 : 2**20 + 5], first_items(frame, 5))
    assert same(array[7:12345], read(mirror, slice(7, 12345)))


def first_items(frame: bytes, n: int) -> Any:
    """The first items of an answer that is too large to decode."""
    return blosc2.ndarray_from_cframe(frame)[:n]


@pytest.mark.parametrize("name", [f for f in blosc2.Filter if f.value < 32 and f.name != "TRUNC_PREC"], ids=str)
@pytest.mark.parametrize("codec", [c for c in blosc2.Codec if c.value < 32], ids=str)
def test_every_codec_and_filter(tmp_path: Path, codec: blosc2.Codec, name: blosc2.Filter) -> None:
    """Reads of parts and of whole chunks do not depend on how the chunks are compressed."""
    values = example((90, 500), "<i8")
    cparams = blosc2.CParams(codec=codec, filters=[name], filters_meta=[0], typesize=8, nthreads=1)
    mirror = mirrored(tmp_path, array_source(values, chunks=(20, 300), blocks=(6, 70), cparams=cparams))
    for key in [(slice(40, 80),), (33, slice(100, 400)), (slice(5, 7), slice(299, 301)), (slice(None, None, -3), -1),
                (85, 499), (slice(12, 14), slice(369, 371)), (slice(0, 45, 5), slice(2, None, 90))]:  # fmt: skip
        assert same(values[key], read(mirror, key)), key


# -- what is no array -------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 1, 87, 100_000, (16 << 20) + 5])
def test_plain_files(tmp_path: Path, nbytes: int) -> None:
    """The bytes of a plain file, all or some of them, are those of the file."""
    data = (b"The quick brown fox. " * (nbytes // 21 + 1))[: nbytes // 2] + bytes(nbytes - nbytes // 2)
    stored = plain_file(tmp_path, data)
    for key in [slice(None), slice(0, 10), slice(50_000, 50_010), slice(None, None, -1000), slice(5, 200_000)]:
        assert data[key] == content(stored, key), key
    if nbytes:
        assert data[-1:] == content(stored, -1)


@pytest.mark.parametrize("typesize", [1, 4, 7])
@pytest.mark.parametrize("nitems", [0, 3, 1000, 100_000])
def test_frames(tmp_path: Path, typesize: int, nitems: int) -> None:
    """A frame is sliced in items, whatever their size."""
    data = os.urandom(typesize * nitems // 2).ljust(typesize * nitems, b"x")
    cparams = blosc2.CParams(typesize=typesize, nthreads=1)
    made = blosc2.SChunk(chunksize=typesize * 999, data=data, cparams=cparams, contiguous=True)
    stored = mirrored(tmp_path, source(made.to_cframe(), kind="frame"))
    items = np.frombuffer(data, f"V{typesize}")
    for key in [slice(None), slice(1, 5), slice(999, 2997), slice(None, None, -2), slice(900, 90_000)]:
        assert items[key].tobytes() == content(stored, key), key


# -- bounds -----------------------------------------------------------------------------------------------


def test_what_no_client_can_want_is_refused_without_memory(tmp_path: Path) -> None:
    """A part of terabytes is TooLargeError at once; a small part of the same array is answered."""
    array = blosc2.zeros((10**6, 10**6), dtype="<f8", chunks=(2000, 2000), blocks=(200, 2000), contiguous=True)
    mirror = mirrored(tmp_path, source(array.to_cframe()))
    tracemalloc.start()
    try:
        for text in ("1:", "::2", "::-1", ":, 1:"):
            with pytest.raises(TooLargeError, match="at most"):
                Request.of(mirror, Slice.parse(text), None)
        for text in (":, 1", "1"):
            Request.of(mirror, Slice.parse(text), None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 10 << 20
    assert same(np.zeros((3, 2)), read(mirror, (slice(10**6 - 3, None), slice(0, 4000, 2000))))


def test_rows_too_large_for_a_chunk_are_refused(tmp_path: Path) -> None:
    """A result whose single row is too large for a Blosc2 chunk is TooLargeError before anything is made."""
    array = blosc2.zeros((3, 2**30), dtype="u1", chunks=(1, 2**24), blocks=(1, 2**20), contiguous=True)
    mirror = mirrored(tmp_path, source(array.to_cframe()))
    with pytest.raises(TooLargeError, match="select less"):
        compose(Request.of(mirror, Slice.parse(":, 1:"), None))
