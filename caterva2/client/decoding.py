"""Blosc2 frames from the network to values, checked before anything is decoded."""

from __future__ import annotations

from typing import Any

import blosc2
import numpy as np

from caterva2.errors import FrameError

# What blosc2 raises for bytes that are no frame, or one with senseless metadata.
_DAMAGED = (RuntimeError, ValueError, TypeError, SyntaxError, LookupError, AttributeError)


def array_from_cframe(content: bytes) -> blosc2.NDArray:
    """Open an array that came as a frame.

    Raises:
        FrameError: if the bytes are no array, or one of Python objects.
    """
    try:
        # Never copy=True: it crashes on a damaged index (blosc2 4.14).
        array = blosc2.ndarray_from_cframe(content)
        dtype = array.dtype
    except _DAMAGED as error:
        raise FrameError(f"{len(content)} bytes are no Blosc2 array: {error}") from error
    if dtype.hasobject:
        # Decoding it would follow pointers that came from the network.
        raise FrameError(f"an array of dtype {dtype} holds Python objects, which cannot be shared")
    return array


def numpy_from_array(array: blosc2.NDArray) -> np.ndarray[Any, Any]:
    """Decode a whole array.

    Raises:
        FrameError: if a chunk is damaged.
    """
    try:
        return np.asarray(array[...])
    except _DAMAGED as error:
        raise FrameError(f"the array cannot be decoded: {error}") from error


def schunk_from_cframe(content: bytes) -> blosc2.SChunk:
    """Open a sequence of bytes that came as a frame.

    Raises:
        FrameError: if the bytes are no frame.
    """
    try:
        return blosc2.schunk_from_cframe(content)
    except _DAMAGED as error:
        raise FrameError(f"{len(content)} bytes are no Blosc2 frame: {error}") from error


def bytes_from_schunk(schunk: blosc2.SChunk) -> bytes:
    """Decode all bytes of a frame.

    Raises:
        FrameError: if a chunk is damaged.
    """
    try:
        if schunk.nbytes % schunk.typesize:
            # [:] would drop the beginning of an item at the end. Some such chunks blosc2 4.14 writes and cannot read:
            # decompress_chunk says so, where decompress2 would return memory that nobody wrote.
            return b"".join(schunk.decompress_chunk(n) for n in range(schunk.nchunks))
        return bytes(schunk[:]) if schunk.nbytes else b""
    except _DAMAGED as error:
        raise FrameError(f"the frame cannot be decoded: {error}") from error


def is_array(content: bytes) -> bool:
    """Whether a frame holds an array, by the metalayer's name in its header."""
    header = int.from_bytes(content[11:15], "big") if content[2:9] == b"b2frame" else 0
    return b"\xa4b2nd" in content[:header]


def value_from_cframe(content: bytes) -> np.ndarray[Any, Any] | bytes:
    """Decode a frame to what it holds: an array, or bytes.

    Raises:
        FrameError: if the bytes are neither.
    """
    if is_array(content):
        return numpy_from_array(array_from_cframe(content))
    return bytes_from_schunk(schunk_from_cframe(content))
