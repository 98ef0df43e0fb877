"""The requests that objects and functions have in common, and slices as they are written in URLs."""

from __future__ import annotations

from types import EllipsisType
from typing import Any, SupportsIndex

import blosc2

from caterva2.client.answers import Answer
from caterva2.client.decoding import numpy_from_array
from caterva2.client.session import Session
from caterva2.errors import BadGatewayError, BadRequestError, SliceError
from caterva2.paths import DatasetPath
from caterva2.slices import Slice

Index = SupportsIndex | slice | EllipsisType
Key = Index | tuple[Index, ...]
"""What stands between the brackets; NumPy's basic indexing."""

_WHOLE = Slice((Ellipsis,))
# Beyond any shape, and short enough for the text of a slice.
_FAR = 1 << 62


def selection(
    cut: Slice, field: str | None = None, filter: str | None = None, sortby: str | None = None
) -> dict[str, str]:
    """The parameters that say what of a dataset is wanted; none are all of it."""
    given = {"slice_": _text(cut) or None, "field": field, "filter": filter, "sortby": sortby}
    return {name: value for name, value in given.items() if value is not None}


def fetch(
    session: Session,
    path: DatasetPath,
    cut: Slice,
    field: str | None = None,
    filter: str | None = None,
    sortby: str | None = None,
) -> Answer:
    """Get a slice as a Blosc2 frame.

    Args:
        session: the subscriber.
        path: the dataset.
        cut: the slice; of the rows where the condition holds if there is one.
        field: the only field wanted.
        filter: a condition over the fields of a structured array.
        sortby: the field by which its rows are sorted.

    Raises:
        SliceError: if the slice does not fit the shape, or there is no such field.
    """
    try:
        return session.get("api/fetch", str(path), params=selection(cut, field, filter, sortby))
    except BadRequestError as error:
        # The path is sound, so it is the slice or the field; callers wait for an IndexError.
        raise SliceError(error.detail) from error


def get_roots(session: Session) -> dict[str, dict[str, Any]]:
    """Return the roots that the subscriber knows, by name."""
    roots = session.get("api/roots").json()
    if not isinstance(roots, dict) or not all(isinstance(root, dict) for root in roots.values()):
        raise BadGatewayError(f"{session.urlbase} answers with something that are no roots: is it a subscriber?")
    return roots


def get_list(session: Session, path: DatasetPath) -> list[str]:
    """Return the paths of all files below a root or directory, relative to it."""
    names = session.get("api/list", str(path)).json()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadGatewayError(f"the list of {path} is no list of names")
    return names


def get_chunk(session: Session, path: DatasetPath, nchunk: int) -> bytes:
    """Return a compressed chunk."""
    return session.get("api/chunk", str(path), params={"nchunk": str(nchunk)}).content


def slice_of(key: Key | str | None) -> Slice:
    """Read a slice in any of the forms that the API takes; None is everything."""
    if key is None:
        return _WHOLE
    if isinstance(key, str):
        return Slice.parse(key) if key.strip() else _WHOLE
    return Slice.from_key(key)


def as_numpy(array: blosc2.NDArray, cut: Slice) -> Any:
    """Decode the answer to a slice; like NumPy, give a scalar where every axis was selected by an int."""
    values = numpy_from_array(array)
    return values if values.ndim or Ellipsis in cut.items else values[()]


def _text(cut: Slice) -> str:
    """The text for the URL: "" for everything, which the server answers with the stored frame as it is."""
    if all(item is Ellipsis or item in (slice(None), slice(None, None, 1)) for item in cut.items):
        return ""
    return str(Slice(tuple(_near(item) for item in cut.items)))


def _near(item: int | slice | EllipsisType) -> int | slice | EllipsisType:
    """Bring bounds that lie beyond any array near enough to be written down; NumPy clips them as well."""
    if not isinstance(item, slice):
        return item
    bounds = (item.start, item.stop, item.step)
    return slice(*(None if bound is None else max(-_FAR, min(_FAR, bound)) for bound in bounds))
