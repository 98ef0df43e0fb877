"""caterva2.metadata and caterva2.models: what `GET /api/info` says."""

import json
import math
from typing import Any

import blosc2
import numpy as np
import pytest

from caterva2.errors import FrameError
from caterva2.frames import Skeleton, file_skeleton
from caterva2.metadata import describe
from caterva2.models import ArrayInfo, DatasetInfo, FrameInfo, Kind, timestamp
from tests.support.arrays import DTYPES, GEOMETRIES, example


def info_of(data: bytes, kind: Kind = "array") -> DatasetInfo:
    """Describe a frame."""
    skeleton, layout = Skeleton.read(lambda offset, length: data[offset : offset + length], len(data))
    return describe(kind, skeleton, layout, cbytes=layout.cbytes, mtime=0.5)


@pytest.mark.parametrize("shape, chunks, blocks", GEOMETRIES, ids=lambda each: "x".join(map(str, each)) or "0d")  # noqa: PT006
def test_arrays_are_described(shape: tuple[int, ...], chunks: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    """Shape, chunks, blocks and sizes are those that Blosc2 itself tells."""
    array = blosc2.asarray(example(shape), chunks=chunks, blocks=blocks)
    info = info_of(array.to_cframe())
    assert isinstance(info, ArrayInfo)

    assert (shape, chunks, blocks, "int64") == (info.shape, info.chunks, info.blocks, info.dtype)
    assert (array.schunk.nbytes, array.schunk.nchunks) == (info.schunk.nbytes, info.schunk.nchunks)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_said_survives_json(dtype: Any) -> None:
    """The description is JSON that is read as the same description."""
    info = info_of(blosc2.asarray(example((10,), dtype)).to_cframe())

    assert info == ArrayInfo.model_validate_json(info.model_dump_json())


def test_the_metadata_of_users_is_shown() -> None:
    """Values that JSON cannot hold are shown as text, and harm nothing."""
    array = blosc2.asarray(np.arange(10))
    values = {"a": 1, "b": "ü", "c": [1, {"d": None}], "e": math.nan, "f": b"\xff", "g": 2**60, "h": True}
    for name, value in values.items():
        array.schunk.vlmeta[name] = value
    info = info_of(array.to_cframe())
    assert isinstance(info, ArrayInfo)
    shown = json.loads(info.model_dump_json())["schunk"]["vlmeta"]

    assert values | {"e": "nan", "f": "\ufffd"} == shown


def test_a_frame_that_is_no_array_is_not_described_as_one() -> None:
    """A `.b2nd` without a shape is an error that names the remedy; as a frame it is fine."""
    data = blosc2.SChunk(chunksize=100, data=bytes(250)).to_cframe()
    with pytest.raises(FrameError, match=r"name it \.b2frame"):
        info_of(data)

    assert isinstance(info_of(data, "frame"), FrameInfo)


@pytest.mark.parametrize("nbytes", [0, 1, 100_000, 20 << 20])
def test_plain_files_are_described(nbytes: int) -> None:
    """A file's description has its size, and comes from no byte of it."""
    skeleton = file_skeleton(nbytes)
    info = describe("file", skeleton, skeleton.layout(), cbytes=nbytes, mtime=1e9)

    assert (nbytes, 1.0 if nbytes else 0.0, timestamp(1e9)) == (info.nbytes, info.cratio, info.mtime)  # type: ignore[union-attr]


def test_an_empty_frame_is_described() -> None:
    """A frame that never had a chunk has none."""
    info = info_of(blosc2.SChunk(chunksize=100, contiguous=True).to_cframe(), "frame")
    assert isinstance(info, FrameInfo)

    assert (0, 0) == (info.nbytes, info.nchunks)
