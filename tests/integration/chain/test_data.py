"""Every kind of data through the whole chain: what a client reads is what Blosc2 and NumPy read from the file."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caterva2.client import Dataset, File
from tests.integration.chain.daemons import ROOT, Chain, running_chain
from tests.support.waiting import wait_until

MIB = 1 << 20
# fmt: off
DTYPES = [
    "?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "f16", "c8", "c16", "c32",
    ">i2", ">u4", ">i8", ">f2", ">f4", ">f8", ">c16",
    "S1", "S5", "U1", "U7", ">U3", "M8[ns]", "M8[D]", "M8[us]", ">M8[s]", "m8[ms]", "m8[h]",
]
# fmt: on
STRUCTURES = {
    "flat": np.dtype([("a", "<i4"), ("b", ">f8"), ("c", "S7"), ("d", "?"), ("e", "U3"), ("f", "M8[s]")]),
    "nested": np.dtype([("point", [("x", "f4"), ("y", [("re", "f8"), ("im", "f8")])]), ("n", "u1")]),
    "sub-arrays": np.dtype([("matrix", "f4", (2, 3)), ("n", "i2"), ("rgb", "u1", (3,))]),
    "array of structures": np.dtype([("pairs", [("x", "i2"), ("y", "f8")], (2,)), ("n", "i4")]),
    "aligned": np.dtype([("a", "i1"), ("b", "f8"), ("c", "i2")], align=True),
    "one field": np.dtype([("only", "c16")]),
    "odd names": np.dtype([("a b", "i4"), ("ñ", "f4"), ("x'\"y", "u1")]),
}
SHAPES = {
    # shape: chunks, blocks
    (): ((), ()),
    (0,): ((3,), (2,)),
    (0, 3): ((2, 2), (1, 2)),
    (3, 0): ((2, 2), (1, 2)),
    (4, 0, 2): ((2, 1, 2), (2, 1, 1)),
    (1,): ((1,), (1,)),
    (17,): ((5,), (2,)),
    (12,): ((4,), (4,)),
    (7, 9): ((4, 4), (3, 2)),
    (300, 200): ((77, 64), (10, 33)),
    (5, 6, 7): ((5, 6, 7), (5, 6, 7)),
    (3, 4, 5): ((2, 3, 4), (2, 2, 2)),
    (2, 3, 4, 5): ((1, 2, 3, 4), (1, 2, 2, 2)),
    (3, 2, 3, 2, 3): ((2, 2, 2, 2, 2), (1, 2, 1, 2, 1)),
    (2, 2, 3, 2, 2, 3): ((2, 1, 2, 1, 2, 2), (1, 1, 1, 1, 1, 1)),
    (2, 2, 2, 2, 2, 2, 3): ((2, 2, 2, 2, 2, 2, 2), (1, 2, 1, 2, 1, 2, 1)),
    (2, 3, 2, 2, 2, 1, 2, 3): ((1, 2, 2, 1, 2, 1, 2, 2), (1, 1, 2, 1, 1, 1, 2, 1)),
}
NAMES = [
    "a name with spaces",
    " leading and trailing ",
    "ünïcödé-数据-🙂",
    "e\u0301-decomposed",
    "100%",
    "%41%2f%00",
    "a#b",
    "what?",
    "a?b=c&d=e",
    "a+b",
    "quote\"s and 'apostrophes'",
    "back\\slash",
    "new\nline",
    "tab\tand\rreturn",
    "semi;colon, comma: colon",
    "<script>alert(1)<",
    "*[glob]{a,b}|$HOME`x`!",
    "..x",
    "...",
    "x..",
    "-dash",
    "~tilde",
    "@at",
    "control\x01\x7f",
]
NAMES = [name for name in NAMES if not name.startswith(".")]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain for the whole module; each test adds files of its own."""
    with running_chain(tmp_path_factory.mktemp("data")) as chain:
        yield chain


def values_of(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int = 1) -> np.ndarray[Any, Any]:
    """Random values of any dtype, extreme ones among them."""
    rng = np.random.default_rng(seed)
    if dtype.names is not None:
        out = np.zeros(shape, dtype)
        for name in dtype.names:
            out[name] = values_of(dtype[name].base, shape + dtype[name].shape, seed + 1)
        return out
    if dtype.kind in "US":
        letters = np.array(list("aé数🙂" if dtype.kind == "U" else "abcd"))
        length = dtype.itemsize // (4 if dtype.kind == "U" else 1)
        texts = ["".join(rng.choice(letters, rng.integers(0, length + 1))) for _ in range(int(np.prod(shape)))]
        return np.array(texts, dtype).reshape(shape)
    if dtype.kind == "b":
        return rng.integers(2, size=shape).astype(dtype)
    if dtype.kind in "fc":
        parts = rng.normal(size=(2, *shape)) * 10.0 ** rng.integers(-4, 4)
        made = (parts[0] + 1j * parts[1]).astype(dtype) if dtype.kind == "c" else parts[0].astype(dtype)
        if made.size > 3:
            made.flat[:4] = [np.nan, np.inf, -np.inf, -0.0]
        return made
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def write(file: Path, values: np.ndarray[Any, Any], **storage: Any) -> Path:
    """Write an array beside the file of that name, and then over it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(".part")
    blosc2.asarray(values, urlpath=str(part), mode="w", **storage)
    return part.replace(file)


def assert_same(expected: Any, actual: Any) -> None:
    """Assert that two arrays or scalars have the same type, shape and bits."""
    expected, actual = np.asarray(expected), np.asarray(actual)

    assert (expected.dtype, expected.shape) == (actual.dtype, actual.shape)
    # Bits alone would compare the padding of long doubles and aligned structures too.
    for name in expected.dtype.names or ():
        assert_same(expected[name], actual[name])
    if expected.dtype.names is None:
        np.testing.assert_array_equal(actual, expected)


def assert_right(chain: Chain, file: Path) -> Dataset:
    """Assert that all ways to read an array give what is in its file; return it."""
    name = str(file.relative_to(chain.root))
    local = blosc2.open(str(file), mode="r")
    dataset = chain.client.get(f"{ROOT}/{name}")

    assert isinstance(dataset, Dataset)
    assert (local.shape, local.dtype) == (dataset.shape, dataset.dtype)
    assert_same(local[...], dataset[...])
    for key in keys_of(local.shape):
        assert_same(local[...][key], dataset[key])
    for n in range(local.schunk.nchunks):
        # A special chunk is not in the file; there are several ways to write it.
        stored, actual = bytes(local.schunk.get_chunk(n)), dataset.get_chunk(n)
        assert stored == actual or (len(stored), stored[31]) == (len(actual), actual[31])
    assert dict(local.schunk.vlmeta.getall()) == dataset.vlmeta
    return dataset


def keys_of(shape: tuple[int, ...]) -> Iterator[Any]:
    """A few slices of a shape: an item, a box that is no chunk's, steps, backwards, an ellipsis."""
    yield ...
    if shape and all(shape):
        yield tuple(n // 2 for n in shape)
        yield tuple(slice(n // 3, n - n // 4) for n in shape)
        yield tuple(slice(None, None, 2) for _ in shape)
        yield tuple(slice(None, None, -1) for _ in shape)
        yield (..., -1)
        yield 0


def decompressed(chunk: bytes) -> bytes:
    """The data of a compressed chunk."""
    data: bytes = blosc2.decompress2(chunk)
    return data


@pytest.mark.parametrize("text", DTYPES)
def test_reads_each_dtype_as_it_was_written(chain: Chain, text: str) -> None:
    """Each simple dtype, of any byte order, arrives with its type and its bits."""
    values = values_of(np.dtype(text), (23, 7))
    file = write(chain.root / f"dtype-{text}.b2nd", values, chunks=(10, 4), blocks=(3, 2))

    dataset = assert_right(chain, file)

    assert values.dtype == dataset.dtype
    assert_same(values, dataset[...])


@pytest.mark.parametrize("name", STRUCTURES)
def test_reads_structured_dtypes(chain: Chain, name: str) -> None:
    """Structured dtypes keep their fields, nested and repeated ones too, and each field can be read alone."""
    values = values_of(STRUCTURES[name], (40,))
    file = write(chain.root / f"structure-{name}.b2nd", values, chunks=(11,), blocks=(4,))

    dataset = assert_right(chain, file)

    for field in STRUCTURES[name].names or ():
        assert_same(values[field], dataset[field])
        assert_same(values[field][5:30:3], dataset.fetch(np.s_[5:30:3], field=field))
        assert_same(values[field][7], dataset.fetch(7, field=field))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reads_each_shape(chain: Chain, shape: tuple[int, ...]) -> None:
    """Arrays of 0 to 8 dimensions, with empty axes, cut and whole chunks, are read in any slice."""
    chunks, blocks = SHAPES[shape]
    values = np.arange(np.prod(shape, dtype=int), dtype="i4").reshape(shape)
    file = write(chain.root / f"shape-{'x'.join(map(str, shape))}.b2nd", values, chunks=chunks, blocks=blocks)

    assert_same(values, assert_right(chain, file)[...])


def _mixed(urlpath: str) -> Any:
    """An array with chunks of every kind: data, zeros, NaN, a repeated value, uninitialised."""
    array = blosc2.uninit((60,), "f8", chunks=(10,), blocks=(5,), urlpath=urlpath, mode="w")
    array[10:20] = np.arange(10)
    array.schunk.update_special(2, blosc2.SpecialValue.ZERO)
    array.schunk.update_special(3, blosc2.SpecialValue.NAN)
    array[40:50] = np.full(10, 7.0)
    array[50:60] = np.arange(10)


SPECIALS: dict[str, tuple[Callable[[str], Any], Any]] = {
    "zeros": (lambda path: blosc2.zeros((25, 9), "i4", chunks=(10, 4), urlpath=path), np.zeros((25, 9), "i4")),
    "nans": (lambda path: blosc2.nans((25, 9), "f8", chunks=(10, 4), urlpath=path), np.full((25, 9), np.nan)),
    "uninit": (lambda path: blosc2.uninit((25, 9), "i8", chunks=(10, 4), urlpath=path), np.zeros((25, 9), "i8")),
    "empty": (lambda path: blosc2.empty((25, 9), "i8", chunks=(10, 4), urlpath=path), np.zeros((25, 9), "i8")),
    "full": (lambda path: blosc2.full((25, 9), 2.5, chunks=(10, 4), urlpath=path), np.full((25, 9), 2.5)),
    "full-S3": (lambda path: blosc2.full((25,), b"abc", chunks=(10,), urlpath=path), np.full((25,), b"abc")),
    "huge": (
        lambda path: blosc2.zeros((100_000, 100_000), "f8", chunks=(1000, 1000), urlpath=path),
        np.broadcast_to(np.zeros((), "f8"), (100_000, 100_000)),
    ),
    "mixed": (
        _mixed,
        np.concatenate(
            [np.zeros(10), np.arange(10), np.zeros(10), np.full(10, np.nan), np.full(10, 7.0), np.arange(10)]
        ),
    ),
}


@pytest.mark.parametrize("name", SPECIALS)
def test_reads_special_chunks(chain: Chain, name: str) -> None:
    """Chunks that are not stored are read as what they stand for; uninitialised ones as zeros, never as memory."""
    make, expected = SPECIALS[name]
    part = chain.root / ".special"
    make(str(part))
    part.replace(chain.root / f"special-{name}.b2nd")

    dataset = chain.client.get(f"{ROOT}/special-{name}.b2nd")

    assert isinstance(dataset, Dataset)
    if expected.size < MIB:
        assert_same(expected, dataset[...])
    for key in keys_of(expected.shape) if expected.size < MIB else (np.s_[5, 7], np.s_[999:1001, -3:]):
        assert_same(expected[key], dataset[key])
    chunk = np.frombuffer(decompressed(dataset.get_chunk(0)), expected.dtype)
    first = expected[tuple(slice(0, n) for n in dataset.chunks)]
    assert_same(first.ravel()[:1], chunk[:1])


@pytest.mark.parametrize("name", [name for name in SPECIALS if name not in {"full", "full-S3", "mixed"}])
def test_special_chunks_cost_nothing(chain: Chain, name: str) -> None:
    """An array of special chunks is read without asking the publisher for any chunk."""
    make, _ = SPECIALS[name]
    part = chain.root / ".special"
    make(str(part))
    part.replace(chain.root / f"free-{name}.b2nd")

    dataset = chain.client.get(f"{ROOT}/free-{name}.b2nd")
    _ = dataset[:20, :7]

    assert [] == chain.publisher.asked(f"POST /api/chunks/free-{name}")


CPARAMS = {
    **{
        f"codec-{codec.name}": {"codec": codec}
        for codec in blosc2.Codec
        if codec.name in {"BLOSCLZ", "LZ4", "LZ4HC", "ZLIB", "ZSTD", "NDLZ", "ZFP_ACC", "ZFP_PREC", "ZFP_RATE"}
    },
    **{
        f"filter-{f.name}": {"filters": [f], "filters_meta": [0]}
        for f in blosc2.Filter
        if f.name not in {"INT_TRUNC", "TRUNC_PREC"}
    },
    "filter-TRUNC_PREC-8": {"filters": [blosc2.Filter.TRUNC_PREC, blosc2.Filter.SHUFFLE], "filters_meta": [8, 0]},
    "filter-INT_TRUNC": {"filters": [blosc2.Filter.INT_TRUNC], "filters_meta": [4]},
    "filter-pipeline": {
        "filters": [blosc2.Filter.TRUNC_PREC, blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA],
        "filters_meta": [20, 0, 4],
    },
    "clevel-0": {"clevel": 0},
    "clevel-9": {"clevel": 9},
    "dictionary": {"codec": blosc2.Codec.ZSTD, "use_dict": True},
    "split-always": {"splitmode": blosc2.SplitMode.ALWAYS_SPLIT},
    "split-never": {"splitmode": blosc2.SplitMode.NEVER_SPLIT},
}
META = {"codec-NDLZ": 4, "codec-ZFP_ACC": 0xFD, "codec-ZFP_PREC": 20, "codec-ZFP_RATE": 50}


@pytest.mark.parametrize("name", CPARAMS)
def test_reads_each_codec_and_filter(chain: Chain, name: str) -> None:
    """What any codec or filter of Blosc2 has written is read as Blosc2 reads it, lossy or not."""
    dtype = "u1" if "NDLZ" in name else "i4" if "INT_TRUNC" in name else "f4"
    values = np.cumsum(np.ones((64, 64), "f4"), axis=1).astype(dtype) + np.arange(64, dtype=dtype)[:, None]
    cparams: dict[str, Any] = {"nthreads": 1, **CPARAMS[name]}
    if name in META:
        cparams |= {"codec_meta": META[name], "filters": [blosc2.Filter.NOFILTER], "filters_meta": [0]}
    if "ND" in name and name.startswith("filter"):
        cparams["filters_meta"] = [4]
    file = write(
        chain.root / f"{name}.b2nd", values, chunks=(32, 32), blocks=(16, 16), cparams=blosc2.CParams(**cparams)
    )

    dataset = assert_right(chain, file)

    stored = blosc2.open(str(file), mode="r").schunk.cparams
    assert [f.value for f in stored.filters] == dataset.schunk.cparams["filters"]
    assert stored.codec.value == dataset.schunk.cparams["codec"]


def test_gives_all_values_of_vlmeta(chain: Chain) -> None:
    """The user's attributes arrive with their values, large and nested ones too."""
    file = write(chain.root / "vlmeta.b2nd", np.arange(10), chunks=(5,), blocks=(5,))
    array = blosc2.open(str(file), mode="a")
    values = {
        "int": -5,
        "float": 0.1,
        "text": "ñ数🙂",
        "empty": "",
        "none": None,
        "true": True,
        "list": [1, [2, "x"], {}],
        "map": {"a": {"b": [1.5, None]}},
        "large": "x" * 100_000,
        "ключ": 1,
    }
    for key, value in values.items():
        array.schunk.vlmeta[key] = value

    dataset = assert_right(chain, file)

    assert values == dataset.vlmeta


@pytest.mark.parametrize("typesize", [1, 4, 7])
@pytest.mark.parametrize("size", [0, 84, 100, 2800, 2884])
def test_reads_frames(chain: Chain, typesize: int, size: int) -> None:
    """A `.b2frame` is read by items of its type, whole, sliced and by chunks, its last chunk may be short."""
    size -= size % typesize
    content = np.random.default_rng(size).bytes(size)
    file = chain.root / f"frame-{typesize}-{size}.b2frame"
    cparams = blosc2.CParams(typesize=typesize, nthreads=1)
    blosc2.SChunk(chunksize=700, data=content or None, cparams=cparams, urlpath=str(file), contiguous=True)

    frame = chain.client.get(f"{ROOT}/{file.name}")

    assert isinstance(frame, File)
    assert content == frame[...]
    assert size == frame.nbytes
    items = [content[i : i + typesize] for i in range(0, size, typesize)]
    for key in (slice(3, 20), slice(None, None, 2), slice(None, None, -3), slice(-5, None)):
        assert b"".join(items[key]) == frame[key]
    chunks = b"".join(decompressed(frame.get_chunk(n)) for n in range(frame.schunk.nchunks))
    assert content == chunks


@pytest.mark.parametrize("suffix", [".b2nd", ".b2frame"])
def test_reads_frames_that_are_stored_as_directories(chain: Chain, suffix: str) -> None:
    """A sparse frame, a directory of chunk files, is one dataset that is read as any other."""
    values = np.arange(3000, dtype="i4").reshape(60, 50)
    part, file = chain.root / f".sparse{suffix}", chain.root / f"sparse{suffix}"
    if suffix == ".b2nd":
        blosc2.asarray(values, chunks=(16, 16), blocks=(5, 8), urlpath=str(part), contiguous=False)
    else:
        cparams = blosc2.CParams(typesize=4, nthreads=1)
        blosc2.SChunk(chunksize=1000, data=values.tobytes(), cparams=cparams, urlpath=str(part), contiguous=False)
    part.rename(file)

    if suffix == ".b2nd":
        actual = assert_right(chain, file)[...]
    else:
        actual = np.frombuffer(chain.client.fetch(f"{ROOT}/{file.name}"), "i4").reshape(60, 50)

    assert_same(values, actual)
    # What is read before the publisher has announced it is listed a little later.
    wait_until(lambda: file.name in chain.client.get_list(ROOT), "the frame in the list")
    assert not any(name.startswith(f"{file.name}/") for name in chain.client.get_list(ROOT))


def test_downloads_a_sparse_frame_as_one_file(chain: Chain, tmp_path: Path) -> None:
    """A download of a frame that is stored as a directory is a contiguous frame with the same contents."""
    values = np.arange(3000, dtype="i4").reshape(60, 50)
    part = chain.root / ".packed"
    blosc2.asarray(values, chunks=(16, 16), blocks=(5, 8), urlpath=str(part), contiguous=False)
    part.rename(chain.root / "packed.b2nd")

    file = chain.client.download(f"{ROOT}/packed.b2nd", tmp_path / "packed.b2nd")

    assert_same(values, blosc2.open(str(file), mode="r")[...])


PLAIN = {
    "empty": b"",
    "one byte": b"x",
    "text": b"# Header\n\nsome text\n",
    "a page": bytes(range(256)) * 16,
    "16 MiB": b"0123456789abcdef" * MIB,
    "16 MiB + 1": b"0123456789abcdef" * MIB + b"!",
    "zeros": bytes(17 * MIB + 3),
    "small zeros": bytes(1000),
    "40 MiB": np.random.default_rng(5).integers(0, 4, 40 * MIB + 11, "u1").tobytes(),
    "incompressible": np.random.default_rng(6).bytes(3 * MIB),
}


@pytest.mark.parametrize("name", PLAIN)
def test_reads_plain_files(chain: Chain, tmp_path: Path, name: str) -> None:
    """Any other file is read as its bytes: whole, sliced, by chunks, and downloaded as it is."""
    content = PLAIN[name]
    (chain.root / f"{name}.bin").write_bytes(content)

    file = chain.client.get(f"{ROOT}/{name}.bin")

    assert isinstance(file, File)
    assert len(content) == file.nbytes
    for key in (slice(2, 9), slice(-7, None), slice(None, 100, 7), slice(len(content) // 2 - 3, len(content) // 2 + 9)):
        assert content[key] == file[key]
    assert content == file[...]
    chunks = b"".join(decompressed(file.get_chunk(n)) for n in range(file.schunk.nchunks))
    assert _digest(content) == _digest(chunks)
    downloaded = file.download(tmp_path / "copy").read_bytes()
    assert _digest(content) == _digest(downloaded)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_reads_files_of_any_name(chain: Chain, tmp_path: Path, name: str) -> None:
    """A name may hold whatever a file name can: the file is listed, read, described and downloaded by it."""
    (chain.root / "names" / name).mkdir(parents=True, exist_ok=True)
    (chain.root / "names" / name / f"{name}.txt").write_bytes(name.encode())
    file = write(chain.root / "names" / name / f"{name}.b2nd", np.arange(5), chunks=(2,), blocks=(2,))
    path = f"names/{name}/{name}"
    wait_until(lambda: {f"{path}.b2nd", f"{path}.txt"} <= set(chain.client.get_list(ROOT)), "the announcement")

    assert_same(np.arange(5), assert_right(chain, file)[...])
    assert name.encode() == chain.client.fetch(f"{ROOT}/{path}.txt")
    names = [f"{name}.b2nd", f"{name}.txt"]
    # A list is as new as what the bus has told; only a read asks after what it does not know.
    wait_until(lambda: names == chain.client.get_list(f"{ROOT}/names/{name}"), "the list")
    copy = chain.client.download(f"{ROOT}/{path}.b2nd", tmp_path / "copy.b2nd")
    assert file.read_bytes() == copy.read_bytes()


def test_reads_names_of_255_bytes_and_deep_directories(chain: Chain) -> None:
    """The longest names and the deepest paths that a file system allows are names like any other."""
    long = chain.root / ("é" * 125 + ".b2nd")
    deep = chain.root.joinpath("deep", *(f"{n:02}-{'d' * 40}" for n in range(60)), "ds.b2nd")
    for file in (long, deep):
        write(file, np.arange(7), chunks=(3,), blocks=(2,))

    for file in (long, deep):
        assert_same(np.arange(7), assert_right(chain, file)[...])
    assert 255 == len(long.name.encode())


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], tuple[int, ...], tuple[int, ...], list[Any], str | None]:
    """An array, its chunks and blocks, slices of it, and a field."""
    shape = tuple(draw(st.lists(st.integers(0, 9) | st.integers(1, 40), max_size=4)))
    chunks = tuple(draw(st.integers(1, max(1, n + 2))) for n in shape)
    blocks = tuple(draw(st.integers(1, n)) for n in chunks)
    dtype = np.dtype(
        draw(
            st.sampled_from(["u1", ">i4", "f8", "c16", "S3", "U2", "M8[us]", "?", "flat", "structure"]).map(
                lambda name: {"flat": STRUCTURES["flat"], "structure": STRUCTURES["sub-arrays"]}.get(name, name)
            )
        )
    )
    values = values_of(dtype, shape, draw(st.integers(0, 1000)))
    keys = draw(st.lists(keys_for(shape), min_size=1, max_size=5))
    return values, chunks, blocks, keys, draw(st.sampled_from([None, *(dtype.names or ())]))


def keys_for(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Any index that NumPy takes of a shape: ints, slices of any step, an ellipsis, fewer items than axes."""

    def item(n: int) -> st.SearchStrategy[Any]:
        bound = st.none() | st.integers(-n - 3, n + 3)
        step = st.none() | st.integers(-4, 4).filter(bool)
        slices = st.builds(slice, bound, bound, step)
        return slices | st.integers(-n, n - 1) if n else slices

    def with_ellipsis(items: tuple[Any, ...], keep: int, at: int, *, there: bool) -> tuple[Any, ...]:
        return (*items[:at], ..., *items[max(at, keep) :]) if there else items[:keep]

    length = len(shape)
    numbers = st.integers(0, length)
    return st.builds(with_ellipsis, st.tuples(*map(item, shape)), numbers, numbers, there=st.booleans())


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_slices_are_those_of_numpy(chain: Chain, case: Any) -> None:
    """Any slice of any array in any chunks, read through the whole chain, is what NumPy gives."""
    values, chunks, blocks, keys, field = case
    file = write(chain.root / f"random-{next(_NUMBERS)}.b2nd", values, chunks=chunks, blocks=blocks)
    stored = blosc2.open(str(file), mode="r")[...]

    dataset = chain.client.get(f"{ROOT}/{file.name}")

    assert isinstance(dataset, Dataset)
    for key in keys:
        expected = stored[key] if field is None else stored[key][field]
        assert_same(expected, dataset.fetch(key, field=field))


_NUMBERS = iter(range(1 << 30))
