from __future__ import annotations

from contextlib import suppress

import blosc2
import numpy as np
import pytest

from caterva2.client.decoding import array_from_cframe, is_array, numpy_from_array, value_from_cframe
from caterva2.errors import FrameError
from tests.unit.client.subscriber import cframe

_ARRAYS = [
    np.arange(12).reshape(3, 4),
    np.array("foobar"),
    np.zeros((0, 3), "f4"),
    np.array([1 + 2j, np.nan], "c16"),
    np.array([True, False]),
    np.array([b"ab", b"c"]),
    np.array(["2026-11-22", "NaT"], "M8[D]"),
    np.array([1, 2], ">i4"),
    np.array([(1, b"x", [1.0, 2.0])], [("a", "<i4"), ("b", "S3"), ("c", "<f8", (2,))]),
    np.arange(2**8).reshape((2,) * 8),
]


@pytest.mark.parametrize("array", _ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_come_out_as_they_went_in(array: np.ndarray) -> None:
    """A frame decodes to the array with its dtype and shape, and own, writable memory."""
    decoded = value_from_cframe(cframe(array))

    assert isinstance(decoded, np.ndarray)
    assert (array.shape, array.dtype) == (decoded.shape, decoded.dtype)
    assert array.tobytes() == decoded.tobytes()
    assert decoded.flags.writeable


@pytest.mark.parametrize("content", [b"", b"x", b"Hello world!" * 10000])
def test_bytes_come_out_as_they_went_in(content: bytes) -> None:
    """A frame that is no array decodes to bytes."""
    assert content == value_from_cframe(cframe(content))


def _odd_frame(content: bytes) -> bytes:
    return bytes(blosc2.SChunk(chunksize=800, data=content, cparams={"typesize": 8}).to_cframe())


def test_a_frame_that_ends_within_an_item() -> None:
    """A frame of eight-byte items keeps the bytes behind the last whole item."""
    content = bytes(range(251)) * 5

    assert content == value_from_cframe(_odd_frame(content))


def test_a_frame_that_blosc2_cannot_read_back() -> None:
    """Where blosc2 would end such a frame with whatever was in memory, there is an error and never a wrong byte."""
    content = b"Hello world!" * 100 + b"xyz"

    with suppress(FrameError):
        assert content == value_from_cframe(_odd_frame(content))


def test_what_kind_a_frame_is() -> None:
    """The header tells arrays from bytes."""
    assert [True, False, False] == [is_array(cframe(np.arange(3))), is_array(cframe(b"\xa4b2nd")), is_array(b"")]


@pytest.mark.parametrize("content", [b"", b"\0" * 300, cframe(np.arange(1000))[:-1], cframe(b"x" * 999)[:99]])
def test_damaged_frames(content: bytes) -> None:
    """Bytes that are no whole frame are a FrameError."""
    with pytest.raises(FrameError):
        value_from_cframe(content)


def test_a_damaged_chunk() -> None:
    """A chunk that cannot be decompressed is a FrameError, not a wrong value."""
    array = blosc2.asarray(np.random.default_rng(1).random(1000), cparams={"codec": blosc2.Codec.ZLIB, "clevel": 9})
    content = bytearray(array.to_cframe())
    header = int.from_bytes(content[11:15], "big")
    content[header + 32 : header + 300] = b"\xff" * 268

    with pytest.raises(FrameError, match="decoded"):
        value_from_cframe(bytes(content))


def test_python_objects_are_refused() -> None:
    """An array of Python objects is refused before a value is read: it would follow pointers from the network."""
    content = cframe(np.arange(4)).replace(b"<i8", b"|O8")

    with pytest.raises(FrameError, match="Python objects"):
        value_from_cframe(content)


def test_an_opened_array_outlives_its_bytes() -> None:
    """A Blosc2 array keeps the bytes that it was opened from."""
    array = array_from_cframe(bytes(bytearray(cframe(np.arange(100000)))))

    assert np.array_equal(np.arange(100000), numpy_from_array(array))
