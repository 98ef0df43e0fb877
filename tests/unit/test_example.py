"""The example root."""

from pathlib import Path

import blosc2
import numpy as np
import pytest

from caterva2.example import write_array, write_example


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An example root."""
    made = tmp_path_factory.mktemp("example") / "root"
    write_example(made)
    return made


def test_names(root: Path) -> None:
    """The example root holds the files of upstream's one, without those of HDF5."""
    files = sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())

    assert [
        "README.md",
        "dir1/ds-2d.b2nd",
        "dir1/ds-3d.b2nd",
        "dir2/ds-4d.b2nd",
        "ds-1d-b.b2nd",
        "ds-1d-fields.b2nd",
        "ds-1d.b2nd",
        "ds-2d-fields.b2nd",
        "ds-hello.b2frame",
        "ds-sc-attr.b2nd",
    ] == files


def test_readme(root: Path) -> None:
    """The text file has the bytes that upstream's download gave."""
    expected = b"# Header example\nThis is a simple example,\n\nwith several lines,\n\nfor showing purposes.\n"

    assert expected == (root / "README.md").read_bytes()


def test_frame(root: Path) -> None:
    """The frame holds 1200 bytes in 12 chunks."""
    frame = blosc2.open(str(root / "ds-hello.b2frame"), mode="r")

    assert (12, 100, 1200, 1) == (frame.nchunks, frame.chunksize, frame.nbytes, frame.typesize)
    assert b"Hello world!" * 100 == frame[:]


@pytest.mark.parametrize(
    ("name", "chunks", "blocks", "values"),
    [
        ("ds-1d.b2nd", (100,), (10,), np.arange(1000)),
        ("ds-1d-b.b2nd", (100,), (10,), np.array([b"foobar"] * 1000)),
        ("ds-sc-attr.b2nd", (), (), np.array("foobar")),
        ("dir1/ds-2d.b2nd", (5, 5), (2, 3), np.arange(200, dtype="u2").reshape(10, 20)),
        ("dir1/ds-3d.b2nd", (2, 3, 4), (2, 2, 2), np.arange(60, dtype="f4").reshape(3, 4, 5)),
        ("dir2/ds-4d.b2nd", (1, 2, 3, 4), (1, 2, 2, 2), np.array([n + n * 1j for n in range(120)]).reshape(2, 3, 4, 5)),
    ],
)
def test_array(
    root: Path, name: str, chunks: tuple[int, ...], blocks: tuple[int, ...], values: np.ndarray[tuple[int, ...]]
) -> None:
    """An array has the values, dtype, chunks and blocks of upstream's."""
    array = blosc2.open(str(root / name), mode="r")

    assert (values.shape, chunks, blocks, values.dtype) == (array.shape, array.chunks, array.blocks, array.dtype)
    np.testing.assert_array_equal(array[()], values)


def test_fields_1d(root: Path) -> None:
    """The table of 1000 rows has the dtype, chunks and values of upstream's."""
    array = blosc2.open(str(root / "ds-1d-fields.b2nd"), mode="r")
    rows = array[:]

    assert "[('a', '<i4'), ('b', '<f8'), ('c', 'S10'), ('d', '?')]" == str(array.dtype)
    assert ((1000,), (100,), (10,)) == (array.shape, array.chunks, array.blocks)
    assert list(range(1000)) == rows["a"].tolist()
    assert (0.0, 1.0, 999) == (rows["b"][0], rows["b"][-1], np.count_nonzero(np.diff(rows["b"]) > 0))
    assert [f"foobar{row}".encode() for row in range(1000)] == rows["c"].tolist()
    assert 300 < np.count_nonzero(rows["d"]) < 700


def test_fields_2d(root: Path) -> None:
    """The table of 100 x 200 rows has the dtype, chunks and values of upstream's."""
    array = blosc2.open(str(root / "ds-2d-fields.b2nd"), mode="r")
    rows = array[:]

    assert "[('a', '<f4'), ('b', '<f8')]" == str(array.dtype)
    assert ((100, 200), (100, 200), (25, 200)) == (array.shape, array.chunks, array.blocks)
    assert (0.0, 1.0) == (rows["a"][0, 0], rows["a"][-1, -1])
    assert (1.0, 2.0) == (rows["b"][0, 0], rows["b"][-1, -1])


def test_vlmeta(root: Path) -> None:
    """The scalar carries three attributes."""
    array = blosc2.open(str(root / "ds-sc-attr.b2nd"), mode="r")

    assert {"a": 1, "b": "foo", "c": 123.456} == array.schunk.vlmeta.getall()


@pytest.mark.parametrize("name", ["ds-1d.b2nd", "ds-hello.b2frame"])
def test_compression(root: Path, name: str) -> None:
    """Everything is compressed with Zstandard at level 1 after a shuffle."""
    opened = blosc2.open(str(root / name), mode="r")
    cparams = opened.cparams

    assert (blosc2.Codec.ZSTD, 1) == (cparams.codec, cparams.clevel)
    assert blosc2.Filter.SHUFFLE == cparams.filters[-1]


def test_same_bytes(root: Path, tmp_path: Path) -> None:
    """Writing it again gives the same bytes, so tests may compare digests."""
    write_example(tmp_path)

    for file in tmp_path.rglob("*.b2*"):
        assert (root / file.relative_to(tmp_path)).read_bytes() == file.read_bytes()


def test_replaced_at_once(tmp_path: Path) -> None:
    """Writing over an array leaves a reader of the old one undisturbed, and no other file behind."""
    file = tmp_path / "a.b2nd"
    write_array(file, np.zeros(100), (10,), (10,))
    with file.open("rb") as old:
        write_array(file, np.ones(100), (10,), (10,))

        assert 0.0 == blosc2.ndarray_from_cframe(old.read())[0]
        assert 1.0 == blosc2.open(str(file), mode="r")[0]
    assert [file] == list(tmp_path.iterdir())
