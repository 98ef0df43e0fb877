"""Forms in which an array is taken away: NumPy's file (NPY, as NEP 1 has it) and text (CSV, RFC 4180).

Both are made part by part, in the order of the items: an encoding knows the shape and dtype of the whole, gives what
stands before the values, and turns each part of them into bytes.
"""

from __future__ import annotations

import csv
import io
import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from caterva2.errors import BadRequestError, TooLargeError

Array = npt.NDArray[Any]
# Columns of a CSV file: each of a row's values is an object in memory, and more fit into no program for tables.
_MOST_COLUMNS: Final = 1 << 20
# Bytes of values that are written as text at once: while it is, the event loop hardly turns.
_TEXT: Final = 256 << 10
_BINARY: Final = 4 << 20


class Format(StrEnum):
    """What `format=` may say; its value is the ending of such a file."""

    B2ND = "b2nd"
    NPY = "npy"
    CSV = "csv"

    @classmethod
    def parse(cls, text: str) -> Format:
        """Read the parameter `format`.

        Raises:
            BadRequestError: if there is no such format.
        """
        try:
            return cls(text)
        except ValueError:
            raise BadRequestError(f"{text[:40]!r} is no format: use {', '.join(cls)}") from None

    def named(self, name: str) -> str:
        """What a file of this format is called that is made of the dataset of this name."""
        return name if self is Format.B2ND else f"{name.removesuffix('.b2nd')}.{self}"

    @property
    def media_type(self) -> str:
        """What HTTP calls it."""
        return "text/csv; charset=utf-8" if self is Format.CSV else "application/octet-stream"


class Encoding(ABC):
    """How an array becomes a file.

    Args:
        shape: of the whole.
        dtype: of its items, which are no arrays themselves.

    Attributes:
        by_rows: whether a part must be whole rows: all that belongs to an index of the first axis.
        part: bytes of values that a part should not exceed.
    """

    by_rows: bool
    part: int

    def __init__(self, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype

    @property
    @abstractmethod
    def head(self) -> bytes:
        """What stands before the values."""

    @property
    @abstractmethod
    def length(self) -> int | None:
        """Of the file in bytes; None if that shows only when it is made."""

    @abstractmethod
    def body(self, part: Array) -> bytes:
        """Write a part of the values."""

    def pieces(self, values: Array) -> Iterator[bytes]:
        """Write an array that is in memory."""
        yield self.head
        rows = values.reshape(1, *values.shape) if not self.shape else values
        step = max(1, self.part * len(rows) // max(values.nbytes, 1))
        for start in range(0, len(rows) if values.size else 0, step):
            yield self.body(rows[start : start + step])


def encoding_of(format_: Format, shape: Sequence[int], dtype: np.dtype[Any]) -> Encoding:
    """The encoding of an array.

    Raises:
        BadRequestError: if the format holds no such array.
        TooLargeError: if its rows are too long.
    """
    return Csv(shape, dtype) if format_ is Format.CSV else Npy(shape, dtype)


def encoded(format_: Format, values: Array) -> bytes:
    """An array that is in memory as a file; errors are as of `encoding_of`."""
    return b"".join(encoding_of(format_, values.shape, values.dtype).pieces(values))


class Npy(Encoding):
    """NumPy's own file: a header, and the bytes of the items in C order."""

    by_rows, part = False, _BINARY

    @property
    def head(self) -> bytes:
        """Magic string, version, length and the header, so that the values begin at a multiple of 64 bytes."""
        described = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        text = "{" + "".join(f"{name!r}: {value!r}, " for name, value in described.items()) + "}"
        # NumPy leaves room for a longer first axis; so the file is the one that it would have written.
        text += " " * (21 - len(str(self.shape[0]))) if self.shape else ""
        version, width = _version(text)
        data = text.encode("latin-1" if version < 3 else "utf-8")
        start = 8 + struct.calcsize(width)
        data += b" " * (-(start + len(data) + 1) % 64) + b"\n"
        return b"\x93NUMPY" + bytes((version, 0)) + struct.pack(width, len(data)) + data

    @property
    def length(self) -> int:
        """Of the file in bytes."""
        return len(self.head) + math.prod(self.shape) * self.dtype.itemsize

    def body(self, part: Array) -> bytes:
        """The bytes of the items."""
        return part.tobytes()


def _version(header: str) -> tuple[int, str]:
    """The oldest version that holds a header, and how it writes its length; the third is for names beyond Latin-1."""
    if not all(ord(letter) < 256 for letter in header):
        return 3, "<I"
    return (1, "<H") if len(header) + 128 < 1 << 16 else (2, "<I")


class Csv(Encoding):
    """Comma-separated text in UTF-8: one record for each row, with a header where there are fields."""

    by_rows, part = True, _TEXT

    def __init__(self, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        super().__init__(shape, dtype)
        most = 1 if dtype.names else 2
        if len(self.shape) > most:
            kind = "a structured array" if dtype.names else "an array"
            raise BadRequestError(
                f"CSV holds {kind} of at most {most} {'axis' if most == 1 else 'axes'}, this has shape {self.shape}:"
                f" take a slice with fewer, {'or one field, ' if dtype.names else ''}or format=npy"
            )
        columns = sum(1 for _ in _names(dtype)) if dtype.names else self.shape[1] if len(self.shape) == 2 else 1
        if columns > _MOST_COLUMNS:
            raise TooLargeError(f"CSV holds rows of at most {_MOST_COLUMNS} values, these have {columns}")

    @property
    def head(self) -> bytes:
        """The record with the names of the fields."""
        return _records([list(_names(self.dtype))]) if self.dtype.names else b""

    @property
    def length(self) -> None:
        """Shows when it is made."""
        return

    def body(self, part: Array) -> bytes:
        """One record for each row."""
        if self.dtype.names:
            return _records(zip(*_columns(part.reshape(-1)), strict=True))
        rows = part.reshape(-1, self.shape[1] if len(self.shape) == 2 else 1)
        texts = iter(_texts(rows.reshape(-1)))
        return _records(zip(*[texts] * rows.shape[1], strict=True))


def _records(rows: Any) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    # Half of a surrogate pair, which a dtype of text may hold, has no form in UTF-8.
    return file.getvalue().encode(errors="backslashreplace")


def _names(dtype: np.dtype[Any], prefix: str = "") -> Iterator[str]:
    """The columns of a structured dtype: `a`, `a.x` for a field of a field, `a[0,1]` for an item of an array."""
    for name in dtype.names or ():
        item = dtype[name]
        for index in np.ndindex(item.shape):
            column = prefix + name + (f"[{','.join(map(str, index))}]" if item.shape else "")
            yield from _names(item.base, f"{column}.") if item.base.names else (column,)


def _columns(rows: Array) -> Iterator[list[Any]]:
    """What stands in these columns, one list for each."""
    for name in rows.dtype.names or ():
        item = rows.dtype[name]
        for index in np.ndindex(item.shape):
            values = rows[name][(slice(None), *index)]
            if item.base.names:
                yield from _columns(values)
            else:
                yield _texts(values)


def _texts(values: Array) -> list[Any]:
    """The values of one column, as the `csv` module writes them or as text."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "S":
        return [text.decode(errors="backslashreplace") for text in values.tolist()]
    if kind == "V":
        return [bytes(value).hex() for value in values]
    if kind == "c":
        return [text.strip("()") for text in values.astype("U").tolist()]
    if kind == "m":
        numbers, none = values.astype("i8").tolist(), np.isnat(values)
        return ["NaT" if nat else n for n, nat in zip(numbers, none, strict=True)]
    if kind == "M":
        values = np.datetime_as_string(values)
    elif kind == "f" and size != 8:
        # As few digits as tell it from its neighbours; of the same number as a Python float it would be more.
        values = values.astype("U")
    return list(values.tolist())
