"""Dtypes as they travel: text or JSON, parsed and never evaluated.

Blosc2 stores a structured dtype as the text of a Python literal; C2Array wants it as JSON with names and formats.
Object dtypes are refused: decoding one would follow pointers that came from the network.
"""

from __future__ import annotations

import ast
import reprlib
from typing import Any

import numpy as np

from caterva2.errors import FrameError

DtypeJson = str | dict[str, Any]
_MAX_TEXT = 64 * 1024


def parse_dtype(form: Any) -> np.dtype[Any]:
    """Read a dtype from text (`"<i4"`, `"[('a', '<i4')]"`) or from `{"names": [...], "formats": [...]}`.

    Raises:
        FrameError: if it is no dtype, or one that holds Python objects.
    """
    try:
        dtype: np.dtype[Any] = np.dtype(_literal(form) if isinstance(form, str) else _plain(form))
    except Exception as error:  # NumPy and ast raise anything on what is no dtype
        raise FrameError(f"{_shown(form)} is not a NumPy dtype") from error
    if dtype.hasobject:
        raise FrameError(f"dtype {_shown(form)} holds Python objects, which cannot be shared")
    return dtype


def dtype_json(dtype: np.dtype[Any]) -> DtypeJson:
    """Give the form that `parse_dtype`, NumPy and C2Array all read back."""
    if dtype.names is None or dtype.fields is None or _has_array_of_structures(dtype):
        return _subarray(dtype) if dtype.subdtype else str(dtype)
    fields = [dtype.fields[name] for name in dtype.names]
    form: dict[str, Any] = {
        "names": list(dtype.names),
        "formats": [dtype_json(f[0]) if f[0].subdtype is None else _subarray(f[0]) for f in fields],
    }
    if np.dtype(_plain(form)) != dtype:
        form |= {"offsets": [f[1] for f in fields], "itemsize": dtype.itemsize}
    return form


def _has_array_of_structures(dtype: np.dtype[Any]) -> bool:
    """Whether a field, at any depth, repeats a structure: the one thing that names and formats cannot say."""
    inner = [field[0] for field in (dtype.fields or {}).values()]
    return any(f.subdtype is not None and f.base.names is not None for f in inner) or any(
        map(_has_array_of_structures, inner)
    )


def _subarray(dtype: np.dtype[Any]) -> str:
    assert dtype.subdtype is not None
    base, shape = dtype.subdtype
    return f"({', '.join(map(str, shape))},){base.str}"


def _literal(text: str) -> Any:
    if len(text) > _MAX_TEXT:
        raise ValueError("too long")
    if text[:1] in {"[", "{"} or text[:2] in {"('", "(("}:
        return ast.literal_eval(text)
    return text


def _plain(form: Any) -> Any:
    """Turn the nested JSON of a structured dtype into what `numpy.dtype` takes."""
    if isinstance(form, dict):
        return {str(key): _plain(value) for key, value in form.items()}
    if isinstance(form, list):
        return [_plain(item) for item in form]
    if isinstance(form, str | int):
        return form
    raise TypeError


def _shown(form: Any) -> str:
    text = repr(form) if isinstance(form, str) else reprlib.repr(form)
    return text if len(text) <= 100 else text[:97] + "..."
