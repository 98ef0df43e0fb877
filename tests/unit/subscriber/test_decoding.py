"""caterva2.subscriber.decoding: a box of a chunk is the same however it is decompressed."""

import tempfile
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caterva2.errors import FrameError
from caterva2.subscriber import decoding
from caterva2.subscriber.decoding import geometry_of, read_blocks, read_box
from tests.support.arrays import DTYPES, GEOMETRIES, example, same
from tests.unit.subscriber.frames import array_source, mirrored, source


@pytest.fixture(params=["whole chunks", "blocks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Take every chunk as a whole, or leave it to Blosc2."""
    monkeypatch.setattr(decoding, "_LITTLE", 0 if request.param == "whole chunks" else 1 << 62)
    monkeypatch.setattr(decoding, "_MUCH", 0)
    return str(request.param)


def chunks_of(shape: tuple[int, ...], chunks: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """The box of each chunk, in their order."""
    grid = [-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True)]
    return [
        tuple(slice(i * c, min(n, (i + 1) * c)) for i, c, n in zip(index, chunks, shape, strict=True))
        for index in np.ndindex(*grid)
    ]


@pytest.mark.parametrize("shape, chunks, blocks", GEOMETRIES, ids=lambda each: "x".join(map(str, each)) or "0d")  # noqa: PT006
def test_every_chunk_of_every_geometry(
    tmp_path: Path, way: str, shape: tuple[int, ...], chunks: tuple[int, ...], blocks: tuple[int, ...]
) -> None:
    """The items of a chunk, without those that pad it."""
    values = example(shape)
    frame = mirrored(tmp_path, array_source(values, chunks=chunks, blocks=blocks))
    geometry = geometry_of(frame)
    for n, box in enumerate(chunks_of(shape, geometry.chunks) if values.size else []):
        assert same(np.asarray(values[box]), read_box(frame, geometry, box, n)), (way, n)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(tmp_path: Path, way: str, dtype: Any) -> None:
    """Whatever an item is."""
    values = example((7, 9), dtype)
    frame = mirrored(tmp_path, array_source(values, chunks=(5, 4), blocks=(2, 3)))
    for n, box in enumerate(chunks_of((7, 9), (5, 4))):
        assert same(values[box], read_box(frame, geometry_of(frame), box, n)), way


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Any, ...]:
    """Shape, chunks and blocks, and a box in one of the chunks."""
    ndim = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, extent)) for extent in shape)
    blocks = tuple(draw(st.integers(1, chunk)) for chunk in chunks)
    within = chunks_of(shape, chunks)
    n = draw(st.integers(0, len(within) - 1))
    box = []
    for side in within[n]:
        start = draw(st.integers(side.start, side.stop - 1))
        box.append(slice(start, draw(st.integers(start + 1, side.stop))))
    return shape, chunks, blocks, n, tuple(box)


@given(case=boxes())
def test_any_box_is_the_same_by_blocks_and_by_whole_chunks(case: tuple[Any, ...]) -> None:
    """NumPy, a whole chunk and Blosc2 agree on each box."""
    shape, chunks, blocks, n, box = case
    values = example(shape, "<i2")
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        frame = mirrored(Path(directory), array_source(values, chunks=chunks, blocks=blocks))
        geometry = geometry_of(frame)
        patch.setattr(decoding, "_LITTLE", 0)
        patch.setattr(decoding, "_MUCH", 0)
        assert same(values[box], read_box(frame, geometry, box, n))
        assert same(values[box], read_blocks(frame, geometry, box))


def test_parts_of_delta_chunks_are_cut_out_of_whole_ones(tmp_path: Path) -> None:
    """Blosc2 would decode them wrongly, or hang."""
    values = example((64, 64), "<i4")
    filters = [blosc2.Filter.NOFILTER] * 4 + [blosc2.Filter.DELTA, blosc2.Filter.SHUFFLE]
    cparams = blosc2.CParams(filters=filters, nthreads=1, typesize=4)
    frame = mirrored(tmp_path, array_source(values, chunks=(32, 64), blocks=(8, 8), cparams=cparams))
    box = (slice(40, 41), slice(10, 30))
    assert same(values[box], read_box(frame, geometry_of(frame), box, 1))


def test_uninitialised_chunks_are_zeros(tmp_path: Path, way: str) -> None:
    """Nobody sees what the memory held."""
    made = blosc2.uninit((8, 8), dtype="<f8", chunks=(4, 8), blocks=(2, 4), contiguous=True)
    frame = mirrored(tmp_path, source(made.to_cframe()))
    box = (slice(5, 8), slice(0, 8))
    assert same(np.zeros((3, 8)), read_box(frame, geometry_of(frame), box, 1)), way


def test_a_chunk_that_does_not_decompress_is_an_error_that_names_it(tmp_path: Path, way: str) -> None:
    """Damage inside of a chunk, whose form is right."""
    values = np.random.default_rng(0).integers(0, 9, (512, 512)).astype("<i4")
    published = array_source(values, chunks=(256, 512), blocks=(64, 512))
    data = bytearray(published.data)
    start = int(published.layout.offsets[1])
    data[start + 32 + 4 * 4 + 40 : start + len(published.chunk(1))] = bytes(len(published.chunk(1)) - 32 - 16 - 40)
    frame = mirrored(tmp_path, source(bytes(data)))
    with pytest.raises(FrameError, match="does not decompress"):
        read_box(frame, geometry_of(frame), (slice(256, 512), slice(0, 512)), 1)
