"""What `GET /api/info` says of a dataset, taken from its skeleton."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Literal

import blosc2
import numpy as np

from caterva2.chunks import chunk_blocksize
from caterva2.dtypes import dtype_json
from caterva2.errors import FrameError
from caterva2.frames import FrameLayout, Skeleton, hollow_frame
from caterva2.models import ArrayInfo, DatasetInfo, FrameInfo, Kind, SchunkInfo, timestamp

# The keys that upstream's clients know; one that they do not know makes C2Array raise a TypeError.
_CPARAMS = ("codec", "codec_meta", "clevel", "filters", "filters_meta", "typesize", "blocksize", "splitmode")
_FIXED_CPARAMS = {"nthreads": 1, "tuner": 0, "use_dict": False}


def describe(
    kind: Kind,
    skeleton: Skeleton,
    layout: FrameLayout,
    *,
    cbytes: int,
    mtime: float,
    accept_ranges: Literal["bytes", "none"] = "bytes",
) -> DatasetInfo:
    """Make the metadata of a dataset.

    Args:
        kind: of the dataset.
        skeleton: of its frame.
        layout: of its frame.
        cbytes: the size of the chunks as they are stored where the dataset is published, in bytes.
        mtime: when it last changed there, in seconds since 1970.
        accept_ranges: whether byte ranges of the frame make sense.

    Raises:
        FrameError: if the metadata cannot be read, or is not of this kind.
    """
    if kind == "array" and layout.geometry is None:
        raise FrameError("the frame is not an array: name it .b2frame")
    try:
        schunk = blosc2.schunk_from_cframe(hollow_frame(skeleton, layout))
        form = _schunk_form(schunk, skeleton, layout, cbytes)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise FrameError("the frame's metadata is damaged") from error
    when = timestamp(mtime)
    if layout.geometry is None or kind != "array":
        return FrameInfo(**form, mtime=when, accept_ranges=accept_ranges)
    geometry = layout.geometry
    return ArrayInfo(
        shape=geometry.shape,
        chunks=geometry.chunks,
        blocks=geometry.blocks,
        dtype=dtype_json(geometry.dtype),
        schunk=SchunkInfo(**form, mtime=when),
        mtime=when,
        accept_ranges=accept_ranges,
    )


def _schunk_form(schunk: Any, skeleton: Skeleton, layout: FrameLayout, cbytes: int) -> dict[str, Any]:
    blocksize = layout.blocksize or (chunk_blocksize(skeleton.first) if skeleton.first else layout.chunksize)
    # Blosc2 notes a typesize of 1 for items of more than 255 bytes.
    itemsize = layout.geometry.dtype.itemsize if layout.geometry is not None else layout.typesize
    cparams = {key: _plain(getattr(schunk.cparams, key)) for key in _CPARAMS} | _FIXED_CPARAMS
    cparams["blocksize"] = blocksize
    pairs = zip(cparams["filters"], cparams["filters_meta"], strict=True)
    cparams["filters, meta"] = [[f, meta] for f, meta in pairs if f]
    return {
        "cbytes": cbytes,
        "chunkshape": layout.chunksize // itemsize,
        "chunksize": layout.chunksize,
        "blocksize": blocksize,
        "contiguous": True,
        "cparams": cparams,
        "cratio": layout.nbytes / cbytes if cbytes else 0.0,
        "nbytes": layout.nbytes,
        "vlmeta": _vlmeta(schunk),
        "nchunks": layout.nchunks,
    }


def _vlmeta(schunk: Any) -> dict[str, Any]:
    """The variable-length metadata; a value that Blosc2 will not read, or JSON cannot hold, is shown as text."""
    values: dict[str, Any] = {}
    for name in schunk.vlmeta:
        try:
            values[str(name)] = _plain(schunk.vlmeta[name])
        except Exception as error:  # noqa: BLE001  # Blosc2 raises anything for values it cannot unpack
            values[str(name)] = f"<unreadable: {type(error).__name__}>"
    return values


def _plain(value: Any) -> Any:
    """Turn a value of vlmeta or cparams into what JSON can hold."""
    match value:
        case Enum():
            return value.value
        case None | bool() | str():
            return value.encode(errors="replace").decode() if isinstance(value, str) else value
        case int():
            return int(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return value.decode(errors="replace")
        case np.generic() | np.ndarray():
            return _plain(value.tolist())
        case dict():
            return {str(k): _plain(v) for k, v in value.items()}
        case list() | tuple() | set():
            return [_plain(v) for v in value]
        case _:
            return str(value)
