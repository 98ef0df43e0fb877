"""Values for people and programs: arrays, text and bytes as `cat2cli show` writes them."""

from __future__ import annotations

import base64
import codecs
import math
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from caterva2.cli.context import Context
from caterva2.cli.output import Output
from caterva2.cli.target import Target
from caterva2.client.files import Dataset, File
from caterva2.client.objects import open_file
from caterva2.dtypes import dtype_json
from caterva2.errors import SliceError, VersionChangedError

_PIECE = 4 << 20
_LARGE = 64 << 20
_BYTES_ON_TERMINAL = 1024


def show_target(context: Context, target: Target) -> None:
    """Write a part of a file.

    Raises:
        SliceError: if the slice does not fit, or if all of a very large array was asked for.
    """
    file = open_file(context.client.session, target.path)
    if isinstance(file, Dataset):
        _show_array(context.output, file, target)
    elif target.field or target.filter or target.sortby:
        raise SliceError(f"{file} has no fields: it is no array")
    elif context.output.json:
        _check_size(file.nbytes, file, target)
        context.output.data(json_of_bytes(file.fetch(_key(target))))
    else:
        _show_bytes(context.output, _pieces(file, target), str(file))


def _show_array(output: Output, dataset: Dataset, target: Target) -> None:
    if target.filter or target.sortby:
        values = dataset.rows(target.filter, sortby=target.sortby, slice_=_key(target), field=target.field)
    else:
        _check_size(dataset.nbytes, dataset, target)
        values = dataset.fetch(_key(target), field=target.field)
    if output.json:
        output.data(json_of_array(np.asarray(values)))
    else:
        output.text(array_text(values, output.width) + "\n")


def _check_size(nbytes: int, file: File | Dataset, target: Target) -> None:
    if target.cut is None and nbytes > _LARGE:
        raise SliceError(f"{file} holds {nbytes:,} bytes: say which part, such as '{file}[0:10]', or download it")


def _key(target: Target) -> str | None:
    return None if target.cut is None else str(target.cut)


def array_text(values: Any, width: int | None = None) -> str:
    """Write an array as NumPy does; without a width nothing is shortened and a row is a line."""
    if np.ndim(values) == 0:
        return str(values)
    threshold = 1000 if width else sys.maxsize
    return np.array2string(np.asarray(values), max_line_width=width or sys.maxsize, threshold=threshold)


def json_of_array(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Describe an array for JSON.

    Complex numbers become [real, imaginary], a structured array one array per field; what else JSON has no form
    for becomes text: bytes, dates, "nan" and "inf".
    """
    return {"shape": list(values.shape), "dtype": dtype_json(values.dtype), "data": _plain(_listed(values))}


def _listed(values: np.ndarray[Any, Any]) -> Any:
    if values.dtype.names is not None:
        return {name: _listed(values[name]) for name in values.dtype.names}
    if values.dtype.kind in "mM":
        return values.astype("U").tolist() if values.dtype.kind == "m" else np.datetime_as_string(values).tolist()
    return values.tolist()


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, complex):
        return [_plain(value.real), _plain(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def json_of_bytes(content: bytes) -> dict[str, Any]:
    """Describe the content of a file for JSON: as text, or else in base64."""
    try:
        return {"nbytes": len(content), "text": content.decode()}
    except UnicodeDecodeError:
        return {"nbytes": len(content), "base64": base64.b64encode(content).decode()}


def _pieces(file: File, target: Target) -> Iterator[bytes]:
    """Yield the content piece by piece, so that a file larger than memory can be shown, all of one version."""
    if target.cut is not None:
        yield file.fetch(str(target.cut))
        return
    etag, itemsize = file.etag, max(1, int(file.info.cparams.get("typesize", 1)))
    items = max(1, _PIECE // itemsize)
    for start in range(0, file.nbytes // itemsize, items):
        piece = file.fetch(slice(start, start + items))
        if file.etag != etag:
            raise VersionChangedError(f"{file} changed while it was shown: try again", file.etag)
        yield piece


def _show_bytes(output: Output, pieces: Iterator[bytes], name: str) -> None:
    first = next(pieces, b"")
    if is_text(first):
        _show_text(output, first, pieces)
    elif output.terminal:
        output.lines(hex_lines(first[:_BYTES_ON_TERMINAL]))
        if len(first) > _BYTES_ON_TERMINAL:
            print(f"... and more bytes: cat2cli download {name}", file=sys.stderr)
    else:
        start = 0
        for piece in chain([first], pieces):
            output.lines(hex_lines(piece, start))
            start += len(piece)


def _show_text(output: Output, first: bytes, pieces: Iterator[bytes]) -> None:
    # A character may lie across two pieces; damaged ones further on do not make the file binary.
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    text = decoder.decode(first)
    last = text[-1:]
    output.text(text)
    for piece in pieces:
        text = decoder.decode(piece)
        last = text[-1:] or last
        output.text(text)
    output.text(decoder.decode(b"", final=True))
    if output.terminal and last not in {"", "\n"}:
        output.write("\n")


def is_text(piece: bytes) -> bool:
    """Whether the beginning of a file looks like text: UTF-8 without NUL."""
    if b"\0" in piece:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(piece, final=len(piece) < _PIECE)
    except UnicodeDecodeError:
        return False
    return True


def hex_lines(content: bytes, start: int = 0) -> Iterator[str]:
    """Write bytes as `hexdump -C` does, 16 a line."""
    for offset in range(0, len(content), 16):
        row = content[offset : offset + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{start + offset:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{shown}|"
