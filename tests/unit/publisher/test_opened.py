"""caterva2.publisher.opened: what is read of frames, sparse frames and plain files."""

import os
from collections.abc import Callable
from pathlib import Path

import blosc2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caterva2.chunks import decompress_chunk
from caterva2.errors import FrameError, VersionChangedError
from caterva2.publisher.directory import Directory
from caterva2.publisher.opened import _runs
from caterva2.publisher.source import PIECE, Anatomy, OpenDataset

DATA = np.random.default_rng(1).integers(0, 100, 40_000)


def array(file: Path, *, contiguous: bool = True, data: np.ndarray = DATA, chunks: int = 1000) -> Path:
    """Write an array."""
    blosc2.asarray(data, chunks=(chunks,), urlpath=str(file), contiguous=contiguous, cparams={"nthreads": 1})
    return file


def read_all(dataset: OpenDataset, anatomy: Anatomy, numbers: list[int]) -> list[object]:
    """Read chunks piece by piece."""
    return [chunk for piece in dataset.pieces(anatomy, numbers) for chunk in dataset.chunks(anatomy, piece)]


@pytest.mark.parametrize("contiguous", [True, False])
def test_the_chunks_of_a_frame_are_those_that_blosc2_stored(tmp_path: Path, *, contiguous: bool) -> None:
    """Every chunk is given byte for byte, in the order asked, also twice."""
    file = array(tmp_path / "a.b2nd", contiguous=contiguous)
    numbers = [3, 0, 39, 7, 8, 9, 3]
    opened = blosc2.open(str(file))
    with Directory(tmp_path).open("a.b2nd") as dataset:
        found = read_all(dataset, dataset.anatomy(), numbers)

    assert [opened.schunk.get_chunk(n) for n in numbers] == found


def test_special_chunks_are_given_as_their_32_bytes(tmp_path: Path) -> None:
    """Chunks of zeros take no reading; uninitialised ones are given as zeros, never as memory."""
    for name, make in (("z.b2nd", blosc2.zeros), ("u.b2nd", blosc2.uninit)):
        made = make((5000,), dtype="f8", chunks=(1000,), urlpath=str(tmp_path / name))
        made[2000:3000] = 1.5
        with Directory(tmp_path).open(name) as dataset:
            anatomy = dataset.anatomy()
            found = read_all(dataset, anatomy, [0, 2, 4])

        assert [32, 32] == [len(found[0]), len(found[2])]
        decoded = [np.frombuffer(decompress_chunk(chunk, anatomy.layout.spec(0))) for chunk in found]
        assert [(0.0, 0.0), (1.5, 1.5), (0.0, 0.0)] == [(d.min(), d.max()) for d in (each[:1000] for each in decoded)]


@pytest.mark.parametrize("size", [0, 1, 100_000, (16 << 20) + 1])
def test_the_chunks_of_a_plain_file_are_the_file(tmp_path: Path, size: int) -> None:
    """Decompressed and joined, the chunks are the file's bytes, and always the same bytes."""
    data = (os.urandom(1000) + bytes(1000)) * (size // 2000 + 1)
    (tmp_path / "a").write_bytes(data[:size])
    with Directory(tmp_path).open("a") as dataset:
        anatomy = dataset.anatomy()
        numbers = list(range(anatomy.layout.nchunks))
        found, again = read_all(dataset, anatomy, numbers), read_all(dataset, anatomy, numbers)

    assert found == again
    decoded = [decompress_chunk(chunk, anatomy.layout.spec(n)) for n, chunk in enumerate(found)]
    assert data[:size] == b"".join(decoded)


def test_a_damaged_chunk_is_an_error_of_its_own(tmp_path: Path) -> None:
    """One broken chunk is told as such, and the others are given."""
    file = array(tmp_path / "a.b2nd")
    with Directory(tmp_path).open("a.b2nd") as dataset:
        offset = int(dataset.anatomy().layout.offsets[5])
    with file.open("r+b") as out:
        out.seek(offset + 12)
        out.write(b"\xff\xff\xff\x7f")
    with Directory(tmp_path).open("a.b2nd") as dataset:
        found = read_all(dataset, dataset.anatomy(), [4, 5, 6])

    assert [False, True, False] == [isinstance(each, FrameError) for each in found]


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _flip(file: Path) -> None:
    file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))


@pytest.mark.parametrize(
    "damage", [_cut, _flip, lambda file: file.write_bytes(b""), lambda file: os.truncate(file, 90)]
)
def test_a_damaged_frame_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A frame that is cut off or no frame at all raises FrameError, and nothing else."""
    damage(array(tmp_path / "a.b2nd"))
    with Directory(tmp_path).open("a.b2nd") as dataset, pytest.raises(FrameError):
        dataset.anatomy()


@pytest.mark.parametrize("damage", ["index", "chunk", "first", "fifo"])
def test_a_damaged_sparse_frame_is_refused_in_part_or_as_a_whole(tmp_path: Path, damage: str) -> None:
    """A broken index refuses the frame; a missing chunk file only that chunk."""
    directory = array(tmp_path / "a.b2nd", contiguous=False)
    if damage == "index":
        os.truncate(directory / "chunks.b2frame", 100)
    elif damage == "first":
        (directory / "00000000.chunk").unlink()
    else:
        (directory / "00000005.chunk").unlink()
    if damage == "fifo":
        os.mkfifo(directory / "00000005.chunk")
    with Directory(tmp_path).open("a.b2nd") as dataset:
        if damage in {"index", "first"}:
            with pytest.raises(FrameError):
                dataset.anatomy()
        else:
            found = read_all(dataset, dataset.anatomy(), [4, 5, 6])

            assert [False, True, False] == [isinstance(each, FrameError) for each in found]


def test_a_plain_file_cut_off_while_it_is_read_is_no_answer(tmp_path: Path) -> None:
    """A file that became shorter raises VersionChangedError instead of giving short chunks."""
    (tmp_path / "a").write_bytes(bytes(1000))
    with Directory(tmp_path).open("a") as dataset:
        anatomy = dataset.anatomy()
        os.truncate(tmp_path / "a", 10)

        with pytest.raises(VersionChangedError):
            dataset.chunks(anatomy, [0])


@pytest.mark.parametrize(("chunks", "contiguous"), [(1000, True), (1000, False), (40_000, True)])
def test_pieces_keep_the_order_and_the_size(tmp_path: Path, *, chunks: int, contiguous: bool) -> None:
    """Pieces joined are the numbers asked for; none but that of one large chunk exceeds the size."""
    data = np.random.default_rng(2).integers(0, 1 << 62, 400_000)
    array(tmp_path / "a.b2nd", data=data, chunks=chunks, contiguous=contiguous)
    with Directory(tmp_path).open("a.b2nd") as dataset:
        anatomy = dataset.anatomy()
        numbers = [*reversed(range(anatomy.layout.nchunks))] * 2
        pieces = dataset.pieces(anatomy, numbers)
        sizes = [sum(map(len, dataset.chunks(anatomy, piece))) for piece in pieces]

    assert numbers == [n for piece in pieces for n in piece]
    assert all(size <= PIECE or len(piece) == 1 for size, piece in zip(sizes, pieces, strict=True))
    assert [] == dataset.pieces(anatomy, [])


@given(st.lists(st.tuples(st.integers(0, 5 * PIECE), st.integers(1, 2 * PIECE)), max_size=20))
def test_runs_cover_every_extent_once(extents: list[tuple[int, int]]) -> None:
    """Grouping neither loses an extent nor reads far more than was asked for."""
    wanted = sorted((start, start + length, n) for n, (start, length) in enumerate(extents))
    runs = list(_runs(wanted))

    assert wanted == [extent for run in runs for extent in run]
    assert all(run[-1][1] - run[0][0] <= 2 * PIECE or len(run) == 1 for run in runs)
