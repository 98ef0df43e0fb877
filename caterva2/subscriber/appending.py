"""Growing an array along its first axis, in a file that nobody reads yet."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import blosc2

from caterva2.errors import BadRequestError, FrameError, TooLargeError

# Bytes, decompressed: a few bytes may stand for any number of zeros, which all would be written out here.
MOST_APPENDED: Final = 256 << 20
_AT_ONCE: Final = 16 << 20


def extend(file: Path, extra: Path) -> tuple[int, ...]:
    """Append the rows of one array to another one; both were checked before.

    Args:
        file: of the array that grows.
        extra: of the array with the rows to append.

    Returns:
        The new shape.

    Raises:
        BadRequestError: if they do not fit together.
        TooLargeError: if it is too much for one request.
        FrameError: if a chunk is damaged.
    """
    rows = blosc2.open(str(extra), mode="r")
    grown = blosc2.open(str(file), mode="a")
    _check(grown, rows)
    try:
        _append(grown, rows)
    except (RuntimeError, ValueError) as error:
        raise FrameError(f"the rows cannot be appended: a chunk does not decompress ({error})") from error
    return tuple(map(int, grown.shape))


def _append(grown: Any, rows: Any) -> None:
    before, more, inner = grown.shape[0], rows.shape[0], grown.shape[1:]
    grown.resize((before + more, *inner))
    row = max(1, math.prod(inner) * rows.dtype.itemsize)
    step = max(1, _AT_ONCE // row)
    for start in range(0, more if math.prod(inner) else 0, step):
        stop = min(start + step, more)
        grown[before + start : before + stop] = rows[start:stop]


def _check(grown: Any, rows: Any) -> None:
    if grown.ndim == 0 or grown.ndim != rows.ndim or grown.shape[1:] != rows.shape[1:]:
        raise BadRequestError(
            f"an array of shape {list(rows.shape)} cannot be appended to one of shape {list(grown.shape)}:"
            " they must agree in all axes but the first"
        )
    if grown.dtype != rows.dtype:
        raise BadRequestError(f"items of {rows.dtype} cannot be appended to an array of {grown.dtype}: convert them")
    nbytes = math.prod(rows.shape) * rows.dtype.itemsize
    if nbytes > MOST_APPENDED:
        raise TooLargeError(f"these are {nbytes} bytes: append at most {MOST_APPENDED} at once")
