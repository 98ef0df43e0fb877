"""Stored expressions: small frames that hold an expression and the paths of its operands instead of data.

They are Blosc2's own persisted lazy arrays (a frame of the result's shape with the metalayer `b2o` and, in its
variable-length metadata, the payload of a `lazyexpr`; operands are references of the kind `c2array`). Only this
subscriber makes them, from text that was checked: Blosc2 would evaluate whatever a foreign one says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import blosc2
import numpy as np

from caterva2.errors import Caterva2Error, ExpressionError, FrameError
from caterva2.expressions import Expression
from caterva2.frames import read_metalayers
from caterva2.paths import DatasetPath

# Metadata that makes Blosc2 give something else than an array or a frame: expressions, references to other files.
ACTIVE: Final = frozenset({b"LazyArray", b"b2o", b"batcharray", b"listarray", b"proxy-source", b"vlarray"})
_KEY: Final = "b2o"
_VERSION: Final = 1
# Bytes; the longest expression with a hundred operands has far less.
_MOST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Definition:
    """What a lazy dataset is computed from.

    Attributes:
        expression: that is checked.
        operands: the dataset that each of its names stands for.
    """

    expression: Expression
    operands: Mapping[str, DatasetPath]

    @classmethod
    def of(cls, text: str, operands: Mapping[str, str]) -> Self:
        """Check a text and its operands; those that it does not name are left out.

        Raises:
            ExpressionError: if the text is no expression.
            PathError: if an operand is no path.
        """
        expression = Expression.parse(text)
        named = {name: DatasetPath.parse(operands[name]) for name in expression.names if name in operands}
        return cls(expression, named)

    def frame(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
        """The frame that it is stored as."""
        carrier = hollow_array(shape, dtype, meta={_KEY: {"kind": "lazyexpr", "version": _VERSION}})
        carrier.schunk.vlmeta[_KEY] = {
            "kind": "lazyexpr",
            "version": _VERSION,
            "expression": self.expression.text,
            "operands": {
                name: {"kind": "c2array", "version": _VERSION, "path": str(path), "urlbase": None}
                for name, path in self.operands.items()
            },
        }
        data: bytes = carrier.to_cframe()
        return data


def hollow_array(shape: tuple[int, ...], dtype: np.dtype[Any], **options: Any) -> Any:
    """An array of a form, cut into chunks as Blosc2 thinks best, without data.

    Raises:
        ExpressionError: if it is too large for Blosc2.
    """
    try:
        return blosc2.uninit(shape, dtype, cparams=blosc2.CParams(nthreads=1), contiguous=True, **options)
    except (RuntimeError, OverflowError):
        raise ExpressionError(f"an array of shape {shape} with items of {dtype} is larger than can be kept") from None


def is_definition(fd: int) -> bool:
    """Whether an open file is a stored expression."""
    layers = read_metalayers(lambda offset, length: os.pread(fd, length, offset), os.fstat(fd).st_size)
    return _KEY.encode() in layers


def read_definition(path: DatasetPath, fd: int) -> Definition | None:
    """Read a stored expression; None if the open file is none.

    Raises:
        FrameError: if it is damaged.
    """
    if not is_definition(fd):
        return None
    try:
        schunk = blosc2.schunk_from_cframe(os.pread(fd, _MOST, 0))
        payload = schunk.vlmeta[_KEY]
        operands = {name: reference["path"] for name, reference in payload["operands"].items()}
        return Definition.of(payload["expression"], operands)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, Caterva2Error) as error:
        raise FrameError(f"{path} is damaged: it is an expression that cannot be read ({error})") from error


def find_definition(path: DatasetPath, file: Path) -> Definition | None:
    """The same of a file by its name; None also if there is no such file, or it is no array."""
    if file.suffix != ".b2nd":
        return None
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return read_definition(path, fd)
    finally:
        os.close(fd)
