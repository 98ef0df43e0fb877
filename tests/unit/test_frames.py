"""caterva2.frames: the layout of every kind of frame, and frames made of skeleton and chunks."""

import math
import os
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest

from caterva2.chunks import NAN, UNINIT, ZERO, check_chunk, compress_file_chunk, special_chunk
from caterva2.errors import FrameError, NotFoundError
from caterva2.frames import (
    FrameLayout,
    Geometry,
    Skeleton,
    file_skeleton,
    frame_parts,
    hollow_frame,
    slot_size,
    sparse_skeleton,
)
from tests.support.arrays import DTYPES, GEOMETRIES, Array, example, same, write

CODECS = [c for c in blosc2.Codec if c.value < 32]
FILTERS = [f for f in blosc2.Filter if f not in {blosc2.Filter.NDCELL, blosc2.Filter.NDMEAN, blosc2.Filter.INT_TRUNC}]


def reader(data: bytes) -> Callable[[int, int], bytes]:
    """Read from bytes as from a file."""
    return lambda offset, length: data[offset : offset + length]


def skeleton_of(data: bytes) -> tuple[Skeleton, FrameLayout]:
    """Take the skeleton out of a frame in memory."""
    return Skeleton.read(reader(data), len(data))


def stored_chunks(data: bytes, layout: FrameLayout) -> dict[int, bytes]:
    """The chunks of a frame, found by the layout alone; each is checked."""
    found = {}
    for n in map(int, layout.order):
        offset = int(layout.offsets[n])
        (length,) = struct.unpack_from("<i", data, offset + 12)
        assert offset + length <= layout.ends[n]
        found[n] = data[offset : offset + length]
        check_chunk(found[n], layout.spec(n))
    return found


def rebuild(file: Path, skeleton: Skeleton, layout: FrameLayout, chunks: dict[int, bytes]) -> bytes:
    """Make a sparse file of a skeleton and put the chunks in."""
    with file.open("wb") as out:
        out.truncate(skeleton.length)
        for offset, part in [*skeleton.parts(), *((int(layout.offsets[n]), c) for n, c in chunks.items())]:
            out.seek(offset)
            out.write(part)
    return file.read_bytes()


def check_frame(tmp_path: Path, values: Array, expected: Geometry, file: Path) -> None:
    """Assert that a frame of these values is understood, and made again from its parts byte for byte."""
    data = file.read_bytes()
    skeleton, layout = skeleton_of(data)
    chunks = stored_chunks(data, layout)

    assert expected == layout.geometry
    assert layout.offsets.tolist() == skeleton.layout().offsets.tolist()
    assert data == rebuild(tmp_path / "again.b2nd", skeleton, layout, chunks)
    assert same(values, blosc2.open(str(tmp_path / "again.b2nd"), mode="r")[...])


# -- contiguous frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, chunks, blocks", GEOMETRIES, ids=lambda each: "x".join(map(str, each)) or "0d")  # noqa: PT006
def test_frames_of_every_geometry(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], blocks: tuple[int, ...]
) -> None:
    """With 0 to 8 dimensions, empty axes, ragged chunks or one block, skeleton and chunks are the file."""
    values = example(shape)
    write(tmp_path / "a.b2nd", values, chunks=chunks, blocks=blocks)

    check_frame(tmp_path, values, Geometry(shape, chunks, blocks, values.dtype), tmp_path / "a.b2nd")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_frames_of_every_dtype(tmp_path: Path, dtype: Any) -> None:
    """Each dtype is read out of the frame as it went in."""
    values = example((10, 21), dtype)
    write(tmp_path / "a.b2nd", values, chunks=(4, 5), blocks=(2, 3))

    check_frame(tmp_path, values, Geometry((10, 21), (4, 5), (2, 3), values.dtype), tmp_path / "a.b2nd")


@pytest.mark.parametrize("dtype", ["S255", "S256", "<U100"])
def test_frames_of_long_strings_as_blosc2_writes_them_by_default(tmp_path: Path, dtype: str) -> None:
    """Of items above 255 bytes the frame's header says size 1; the dtype counts."""
    values = example((100,), dtype)
    blosc2.asarray(values, chunks=(30,), blocks=(7,), urlpath=str(tmp_path / "a.b2nd"))

    check_frame(tmp_path, values, Geometry((100,), (30,), (7,), values.dtype), tmp_path / "a.b2nd")


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("clevel", [0, 1, 9])
def test_frames_of_every_codec(tmp_path: Path, codec: blosc2.Codec, clevel: int) -> None:
    """The layout does not depend on the codec, nor on whether it compresses at all."""
    values = example((60, 50))
    cparams = blosc2.CParams(codec=codec, clevel=clevel, nthreads=1, typesize=8)
    write(tmp_path / "a.b2nd", values, chunks=(16, 50), blocks=(4, 50), cparams=cparams)

    check_frame(tmp_path, values, Geometry((60, 50), (16, 50), (4, 50), values.dtype), tmp_path / "a.b2nd")


@pytest.mark.parametrize("name", FILTERS, ids=lambda name: name.name)
@pytest.mark.parametrize("split", [blosc2.SplitMode.ALWAYS_SPLIT, blosc2.SplitMode.NEVER_SPLIT], ids=["split", "whole"])
def test_frames_of_every_filter(tmp_path: Path, name: blosc2.Filter, split: blosc2.SplitMode) -> None:
    """The layout does not depend on filters, nor on splitting."""
    values = example((60, 50), "<f8")
    meta = [20 if name is blosc2.Filter.TRUNC_PREC else 0]
    cparams = blosc2.CParams(
        filters=[name], filters_meta=meta, nthreads=1, typesize=8, splitmode=split, codec=blosc2.Codec.LZ4
    )
    write(tmp_path / "a.b2nd", values, chunks=(16, 50), blocks=(4, 50), cparams=cparams)
    values = blosc2.open(str(tmp_path / "a.b2nd"), mode="r")[...]

    check_frame(tmp_path, values, Geometry((60, 50), (16, 50), (4, 50), values.dtype), tmp_path / "a.b2nd")


@pytest.mark.parametrize("use_dict", [True, False])
def test_frames_with_a_dictionary(tmp_path: Path, *, use_dict: bool) -> None:
    """A dictionary in the chunks, as ZSTD has it, changes nothing."""
    values = example((4000,))
    cparams = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=5, use_dict=use_dict, nthreads=1, typesize=8)
    write(tmp_path / "a.b2nd", values, chunks=(2000,), blocks=(500,), cparams=cparams)

    check_frame(tmp_path, values, Geometry((4000,), (2000,), (500,), values.dtype), tmp_path / "a.b2nd")


def full_of_sevens(shape: tuple[int, ...], **options: Any) -> Any:
    """Make an array of one repeated value that is not zero."""
    return blosc2.full(shape, 7.0, **options)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(blosc2.zeros, ZERO), (blosc2.nans, NAN), (blosc2.uninit, UNINIT), (full_of_sevens, None)],
    ids=["zeros", "nans", "uninit", "full"],
)  # fmt: skip
def test_special_chunks_are_told_from_stored_ones(tmp_path: Path, make: Any, kind: int | None) -> None:
    """Chunks that are one repeated value cost no payload; of `full` each is a chunk in the file."""
    array = make((1003,), dtype="<f8", chunks=(100,), blocks=(10,), urlpath=str(tmp_path / "a.b2nd"))
    array[250] = 1.0
    values = array[...] if kind is not UNINIT else None
    data = (tmp_path / "a.b2nd").read_bytes()
    skeleton, layout = skeleton_of(data)

    assert [None if n == 2 else kind for n in range(11)] == [layout.special(n) for n in range(11)]
    assert data == rebuild(tmp_path / "b.b2nd", skeleton, layout, stored_chunks(data, layout))
    if values is not None:
        assert same(values, blosc2.open(str(tmp_path / "b.b2nd"), mode="r")[...])


def test_a_frame_with_metadata_keeps_it(tmp_path: Path) -> None:
    """The vlmeta is in the trailer, and so in the skeleton."""
    array = write(tmp_path / "a.b2nd", example((100,)), chunks=(10,), blocks=(10,))
    array.schunk.vlmeta["text"] = "x" * 5000
    array.schunk.vlmeta["list"] = [1, {"b": None}]
    data = (tmp_path / "a.b2nd").read_bytes()
    skeleton, layout = skeleton_of(data)
    hollow = blosc2.schunk_from_cframe(hollow_frame(skeleton, layout))

    assert data == rebuild(tmp_path / "b.b2nd", skeleton, layout, stored_chunks(data, layout))
    assert {"text": "x" * 5000, "list": [1, {"b": None}]} == {k: hollow.vlmeta[k] for k in hollow.vlmeta}


def test_a_frame_updated_in_place_is_read_as_it_is_now(tmp_path: Path) -> None:
    """After chunks grew, shrank and moved within the file, the layout still is the file's."""
    array = write(tmp_path / "a.b2nd", example((1000,)), chunks=(100,), blocks=(100,))
    rng = np.random.default_rng(1)
    for n in [3, 0, 9, 3, 5]:
        array[n * 100 : n * 100 + 100] = rng.integers(0, 2**60, 100)
        array[n * 100 + 100 : n * 100 + 200] = 0
    array.resize((1250,))
    array[1200:] = 7
    values = array[...]

    check_frame(tmp_path, values, Geometry((1250,), (100,), (100,), values.dtype), tmp_path / "a.b2nd")


@pytest.mark.parametrize("nbytes", [0, 1, 99, 100, 101, 1000, 12345])
def test_frames_that_are_no_arrays(tmp_path: Path, nbytes: int) -> None:
    """An SChunk has no geometry, and its last chunk may be shorter."""
    content = os.urandom(nbytes)
    blosc2.SChunk(chunksize=100, data=content, urlpath=str(tmp_path / "a.b2frame"), contiguous=True,
                  cparams=blosc2.CParams(typesize=1))  # fmt: skip
    data = (tmp_path / "a.b2frame").read_bytes()
    skeleton, layout = skeleton_of(data)

    assert (None, nbytes, -(-nbytes // 100)) == (layout.geometry, layout.nbytes, layout.nchunks)
    assert data == rebuild(tmp_path / "b.b2frame", skeleton, layout, stored_chunks(data, layout))
    assert content == (blosc2.open(str(tmp_path / "b.b2frame"), mode="r")[:] if nbytes else b"")


def test_a_frame_may_leave_the_block_size_open() -> None:
    """With blocksize 0 in its header each chunk says its own."""
    data = blosc2.SChunk(chunksize=4000, data=os.urandom(9000), contiguous=True).to_cframe()
    _, layout = skeleton_of(data)

    assert (0, {0, 1, 2}) == (layout.blocksize, set(stored_chunks(data, layout)))


def test_a_frame_within_more_bytes_ends_where_it_says() -> None:
    """What follows the frame in its file is not part of it."""
    data = blosc2.asarray(example((100,)), chunks=(10,)).to_cframe()

    assert skeleton_of(data)[0] == skeleton_of(data + os.urandom(500))[0]


# -- sparse frames ----------------------------------------------------------------------------------------


def sparse_chunk(directory: Path, number: int) -> bytes:
    """The chunk in a file of a sparse frame."""
    return (directory / f"{number:08X}.chunk").read_bytes()


@pytest.mark.parametrize("shape, chunks, blocks", GEOMETRIES, ids=lambda each: "x".join(map(str, each)) or "0d")  # noqa: PT006
def test_a_sparse_frame_becomes_a_slotted_one(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], blocks: tuple[int, ...]
) -> None:
    """The skeleton made for a directory of chunks, with the chunks put in, decodes to the array."""
    values = example(shape)
    source = tmp_path / "a.b2nd"
    write(source, values, contiguous=False, chunks=chunks, blocks=blocks)
    index = (source / "chunks.b2frame").read_bytes()
    skeleton, files = sparse_skeleton(index, lambda number: sparse_chunk(source, number)[:32])
    layout = skeleton.layout()
    found = {n: sparse_chunk(source, int(files[n])) for n in map(int, layout.order)}
    rebuild(tmp_path / "b.b2nd", skeleton, layout, found)

    assert Geometry(shape, chunks, blocks, values.dtype) == layout.geometry
    assert same(values, blosc2.open(str(tmp_path / "b.b2nd"), mode="r")[...])


def test_special_chunks_of_a_sparse_frame_stay_special(tmp_path: Path) -> None:
    """Chunks without a file have no slot filled, and read as before."""
    source = tmp_path / "a.b2nd"
    array = blosc2.zeros((1000,), dtype="<f4", chunks=(100,), blocks=(10,), urlpath=str(source), contiguous=False)
    array[420:430] = 1.5
    index = (source / "chunks.b2frame").read_bytes()
    skeleton, files = sparse_skeleton(index, lambda number: sparse_chunk(source, number)[:32])
    layout = skeleton.layout()
    rebuild(tmp_path / "b.b2nd", skeleton, layout, {4: sparse_chunk(source, int(files[4]))})

    assert ([None if n == 4 else ZERO for n in range(10)], [4]) == (
        [layout.special(n) for n in range(10)],
        np.flatnonzero(files >= 0).tolist(),
    )
    assert same(array[...], blosc2.open(str(tmp_path / "b.b2nd"), mode="r")[...])


def test_a_sparse_frame_without_its_first_chunk_is_refused(tmp_path: Path) -> None:
    """A directory that lacks its first chunk's file is truncated."""
    write(tmp_path / "a.b2nd", example((1000,)), contiguous=False, chunks=(100,), blocks=(10,))
    index = (tmp_path / "a.b2nd/chunks.b2frame").read_bytes()
    with pytest.raises(FrameError, match="first chunk is missing"):
        sparse_skeleton(index, lambda _number: b"")


def test_the_index_of_a_sparse_frame_is_not_a_frame(tmp_path: Path) -> None:
    """The index alone cannot be served, and a contiguous frame is no index."""
    write(tmp_path / "a.b2nd", example((1000,)), contiguous=False, chunks=(100,), blocks=(10,))
    index = (tmp_path / "a.b2nd/chunks.b2frame").read_bytes()
    with pytest.raises(FrameError, match="without its chunk files"):
        skeleton_of(index)
    with pytest.raises(FrameError, match="not the index of a sparse frame"):
        sparse_skeleton(blosc2.asarray(np.arange(10)).to_cframe(), lambda _number: b"")


# -- plain files ------------------------------------------------------------------------------------------

MIB = 1 << 20


@pytest.mark.parametrize("content", ["random", "text", "zeros", "mixed"])
@pytest.mark.parametrize("nbytes", [0, 1, 87, 16 * MIB, 16 * MIB + 5, 40 * MIB], ids=str)
def test_a_plain_file_becomes_a_slotted_frame(tmp_path: Path, nbytes: int, content: str) -> None:
    """The skeleton made from the size alone, with the chunks put in, decodes to the file."""
    if content == "random" and nbytes > 16 * MIB + 5:
        pytest.skip("random bytes are as long as their chunks: nothing more is shown by more of them")
    data = _content(nbytes, content)
    skeleton = file_skeleton(nbytes)
    layout = skeleton.layout()
    assert (nbytes, None) == (layout.nbytes, layout.geometry)
    file = tmp_path / "frame"
    with file.open("wb") as out:
        out.truncate(skeleton.length)
        for offset, part in skeleton.parts():
            os.pwrite(out.fileno(), part, offset)
        for n in range(layout.nchunks):
            chunk = compress_file_chunk(data[n * layout.chunksize : (n + 1) * layout.chunksize])
            check_chunk(chunk, layout.spec(n))
            assert int(layout.offsets[n]) + len(chunk) <= layout.ends[n]
            os.pwrite(out.fileno(), chunk, int(layout.offsets[n]))

    assert data == (blosc2.open(str(file), mode="r")[:] if nbytes else b"")


def _content(nbytes: int, kind: str) -> bytes:
    if kind == "random":
        return os.urandom(nbytes)
    data = bytearray(nbytes)
    if kind == "text":
        data[:] = (b"The quick brown fox. " * (nbytes // 21 + 1))[:nbytes]
    elif kind == "mixed":
        data[nbytes // 2 : nbytes // 2 + 1000] = os.urandom(min(1000, nbytes - nbytes // 2))
    return bytes(data)


def test_the_skeleton_of_a_huge_file_is_small() -> None:
    """The skeleton of a 5 TB file is made in little time and memory."""
    began = time.process_time()
    skeleton = file_skeleton(5 << 40)

    assert 5 << 40 == skeleton.layout().nbytes
    assert sum(len(part) for _, part in skeleton.parts()) < 32 * MIB
    assert time.process_time() - began < 20


def test_large_slots_are_whole_pages() -> None:
    """From 64 KiB up a slot is whole pages, so that a chunk's disk space can be given back by itself."""
    assert [33, 65535, 65536, 69632] == [slot_size(n) for n in (33, 65535, 65536, 65537)]


# -- parts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nchunks", [0, 1, 3, 1000])
def test_frame_parts_make_an_openable_frame(nchunks: int) -> None:
    """Header and tail around any chunks are a frame of them, special ones included."""
    data = example((nchunks * 10,), "<f8")
    template = blosc2.uninit(data.shape, dtype="<f8", chunks=(10,), blocks=(10,), contiguous=True).to_cframe()
    chunks = [blosc2.compress2(data[n * 10 : n * 10 + 10], typesize=8, blocksize=80) for n in range(nchunks)]
    lengths = np.array([len(chunk) for chunk in chunks], np.int64)
    offsets = np.cumsum(lengths) - lengths
    if nchunks > 2:
        offsets[1] = (-1 << 63) | (ZERO << 56)
        data[10:20] = 0
    head, tail = frame_parts(template, offsets, int(lengths.sum()), data.nbytes)
    frame = b"".join([head, *chunks, tail])

    assert same(data, blosc2.ndarray_from_cframe(frame)[...])
    assert nchunks == skeleton_of(frame)[1].nchunks


def test_chunk_numbers_are_checked() -> None:
    """A number that no chunk has is NotFoundError."""
    _, layout = skeleton_of(blosc2.asarray(example((100,)), chunks=(10,)).to_cframe())

    assert [0, 9] == [layout.check_number(0), layout.check_number(9)]
    for n in (-1, 10, 2**70):
        with pytest.raises(NotFoundError, match="0 to 9"):
            layout.check_number(n)


# -- bad frames -------------------------------------------------------------------------------------------


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    """Write another number into a frame."""
    out = bytearray(data)
    struct.pack_into(form, out, at, value)
    return bytes(out)


def good_frame() -> bytes:
    """Make a sound frame of ten chunks."""
    return bytes(blosc2.asarray(example((100,)), chunks=(10,), blocks=(5,)).to_cframe())


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        (11, ">i", -1), (11, ">i", 86), (11, ">i", 2**31 - 1), (11, ">i", 2**20 + 1), (16, ">q", -1), (16, ">q", 0),
        (16, ">q", 2**62), (26, "B", 7), (26, "B", 1), (30, ">q", -1), (30, ">q", 2**62), (30, ">q", 2**40),
        (39, ">q", -1), (39, ">q", 2**62), (39, ">q", 0), (48, ">i", 0), (48, ">i", -8), (48, ">i", 4), (53, ">i", -1),
        (58, ">i", -1), (58, ">i", 0), (58, ">i", 1), (58, ">i", 2**31 - 1), (2, "B", 0),
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused(at: int, form: str, value: int) -> None:
    """Negative, huge and contradicting sizes in the header are a FrameError."""
    with pytest.raises(FrameError):
        skeleton_of(patched(good_frame(), at, form, value))


def test_object_dtypes_are_refused() -> None:
    """A frame whose dtype holds Python objects is refused before anything decodes it."""
    frame = blosc2.asarray(np.arange(10, dtype="<i8")).to_cframe()
    assert 1 == frame.count(b"<i8")
    with pytest.raises(FrameError, match="Python objects"):
        skeleton_of(frame.replace(b"<i8", b"|O8"))


def test_code_in_place_of_a_dtype_is_refused() -> None:
    """The text where a frame has its dtype is not evaluated."""
    frame = blosc2.asarray(np.zeros(3, [("a", "<i4"), ("b", "<f8")])).to_cframe()
    text = str([("a", "<i4"), ("b", "<f8")]).encode()
    assert 1 == frame.count(text)
    with pytest.raises(FrameError, match="not a NumPy dtype"):
        skeleton_of(frame.replace(text, b"[__import__('os')._exit(3)]".ljust(len(text))))


def test_chunks_of_different_sizes_are_refused() -> None:
    """A frame whose chunks have different sizes cannot be addressed by number and size."""
    schunk = blosc2.SChunk(chunksize=1000, contiguous=True)
    for size in (1000, 500, 700):
        schunk.append_data(b"x" * size)
    with pytest.raises(FrameError, match="chunks of different sizes"):
        skeleton_of(schunk.to_cframe())


def test_overlapping_chunks_are_refused() -> None:
    """An index whose chunks overlap, or that leads out of the frame, is a FrameError."""
    data = good_frame()
    _, layout = skeleton_of(data)
    relative = layout.offsets - layout.header_length
    for place in (relative[4], relative[6] - 16, 0, 1 << 40, 2**62, 2**63 - 1, -(1 << 63), -1, -(1 << 63) | 3 << 56):
        offsets = relative.copy()
        offsets[5] = place
        head, tail = frame_parts(data, offsets, layout.cbytes, layout.nbytes)
        with pytest.raises(FrameError):
            skeleton_of(head + data[layout.header_length : layout.index_offset] + tail)


def test_huge_sizes_that_are_true_are_cheap() -> None:
    """An array of 8 TB of zeros takes little memory to understand."""
    data = blosc2.zeros((10**6, 10**6), dtype="<f8", chunks=(2000, 2000), blocks=(200, 2000), contiguous=True)
    data = data.to_cframe()
    tracemalloc.start()
    try:
        _, layout = skeleton_of(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (8 * 10**12, 250_000) == (layout.nbytes, layout.nchunks)
    assert peak < 32 * MIB


def test_a_number_of_chunks_that_no_memory_holds_is_refused() -> None:
    """A frame of a few bytes that states very many chunks is refused before its index is decoded."""
    data = blosc2.SChunk(chunksize=1, data=b"0123", cparams=blosc2.CParams(typesize=1)).to_cframe()
    data = patched(data, 30, ">q", 2**40)
    with pytest.raises(FrameError, match="at most"):
        skeleton_of(data)


@pytest.mark.parametrize("length", [0, 1, 10, 86, 87, 100])
def test_too_few_bytes_are_no_frame(length: int) -> None:
    """An empty or cut-off header is a FrameError."""
    for data in (good_frame()[:length], bytes(length), os.urandom(length), b"\x9e\xa8b2frame\0".ljust(length, b"\xff")):
        with pytest.raises(FrameError):
            skeleton_of(data)


def test_a_skeleton_that_contradicts_itself_is_refused() -> None:
    """Parts that do not belong together are a FrameError."""
    skeleton, _ = skeleton_of(good_frame())
    whole = {name: getattr(skeleton, name) for name in ("head", "first", "first_offset", "tail", "length")}
    for change in (
        {"first": b""}, {"first": skeleton.first[:-1]}, {"first_offset": 0}, {"first_offset": -1}, {"tail": b""},
        {"tail": skeleton.tail[1:]}, {"tail": b"x" + skeleton.tail}, {"length": 0}, {"length": -5}, {"length": 2**62},
        {"length": skeleton.length + 1}, {"head": b""}, {"head": skeleton.head[:-1]}, {"head": skeleton.head + b"x"},
    ):  # fmt: skip
        with pytest.raises(FrameError):
            Skeleton(**(whole | change)).layout()


_FUZZ = """
import faulthandler, os, random, struct, sys, time
faulthandler.enable()
import blosc2, numpy as np
from caterva2.chunks import check_chunk, decompress_chunk
from caterva2.errors import FrameError
from caterva2.frames import Skeleton, sparse_skeleton, hollow_frame
from caterva2.metadata import describe
seed, seconds = int(sys.argv[1]), float(sys.argv[2])
random.seed(seed)
rng = np.random.default_rng(seed)
frames = []
for codec in (blosc2.Codec.LZ4, blosc2.Codec.ZSTD, blosc2.Codec.BLOSCLZ, blosc2.Codec.ZLIB):
    cparams = blosc2.CParams(codec=codec, nthreads=1)
    array = blosc2.asarray(rng.integers(0, 50, (40, 30)), chunks=(7, 9), blocks=(3, 4), cparams=cparams)
    array.schunk.vlmeta["a"] = {"b": [1, 2.5, "x" * 50]}
    frames.append(array.to_cframe())
frames.append(blosc2.asarray(np.zeros(300, [("a", "<i4"), ("b", "S5")]), chunks=(50,), blocks=(20,)).to_cframe())
frames.append(blosc2.zeros((1000, 1000), chunks=(10, 100), blocks=(10, 10)).to_cframe())
frames.append(blosc2.SChunk(chunksize=1000, data=os.urandom(3500), cparams=blosc2.CParams(typesize=1)).to_cframe())
frames.append(blosc2.asarray(np.array(5.0)).to_cframe())
kept = refused = 0
def look(data):
    global kept, refused
    try:
        skeleton, layout = Skeleton.read(lambda o, n: data[o:o + n], len(data))
        again = skeleton.layout()
        assert again.offsets.tolist() == layout.offsets.tolist()
        describe("array" if layout.geometry else "frame", skeleton, layout, cbytes=layout.cbytes, mtime=0.0)
        for n in range(min(layout.nchunks, 3)):
            if layout.special(n) is None:
                offset = int(layout.offsets[n])
                length = struct.unpack_from("<i", data, offset + 12)[0]
                decompress_chunk(data[offset:offset + max(length, 0)], layout.spec(n))
        kept += 1
    except FrameError:
        refused += 1
def run():
    for data in frames:
        for end in [*range(0, 200), *range(200, len(data), max(1, len(data) // 100))]:
            yield data[:end]
    while True:
        data = bytearray(random.choice(frames))
        header = struct.unpack_from(">i", data, 11)[0]
        cbytes = struct.unpack_from(">q", data, 39)[0]
        for _ in range(random.choice((1, 1, 1, 2, 5, 30))):
            where = random.choice(("header", "header", "tail", "tail", "any"))
            low, high = {"header": (0, header), "tail": (header + cbytes, len(data)), "any": (0, len(data))}[where]
            at = random.randrange(low, high)
            if random.random() < 0.7:
                data[at] ^= 1 << random.randrange(8)
            else:
                value = random.choice((b"\\0", b"\\xff", b"\\x7f\\xff\\xff\\xff", b"\\x80\\0\\0\\0", os.urandom(4)))
                data[at:at + len(value)] = value
        if random.random() < 0.1:
            data = random.choice((data[:random.randrange(len(data))], os.urandom(random.randrange(400))))
        yield bytes(data)
end = time.monotonic() + seconds
for data in run():
    with open(sys.argv[3], "wb") as out:
        out.write(data)
    try:
        look(data)
    except BaseException:
        print("seed", seed, "left the frame in", sys.argv[3], file=sys.stderr)
        raise
    if time.monotonic() > end and kept > 50 and refused > 500:  # on a busy machine it takes longer
        break
print(kept, refused)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_frames_are_refused_and_nothing_crashes(tmp_path: Path, seed: int) -> None:
    """Truncated, flipped, overwritten and random bytes are a frame or a FrameError; a crash would show as a signal."""
    done = subprocess.run(
        [sys.executable, "-c", _FUZZ, str(seed), "5", str(tmp_path / "last")],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip

    assert 0 == done.returncode, done.stderr[-3000:]
    kept, refused = map(int, done.stdout.split())
    assert kept > 50
    assert refused > 500


def test_special_chunks_decode_to_what_they_stand_for() -> None:
    """The short form of zeros and NaNs decodes; what is not initialised is given as zeros."""
    data = blosc2.nans((100,), dtype="<f8", chunks=(10,), blocks=(10,)).to_cframe()
    _, layout = skeleton_of(data)
    for kind, value in ((ZERO, 0.0), (NAN, math.nan), (UNINIT, 0.0)):
        chunk = special_chunk(kind, layout.spec(0))
        check_chunk(chunk, layout.spec(0))

        assert np.array_equal(np.full(10, value), np.frombuffer(blosc2.decompress2(chunk)), equal_nan=True)
