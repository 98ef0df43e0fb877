"""Writing: what is sent to a subscriber's own roots, and what is moved, copied and removed there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeAlias

import blosc2
import numpy as np

from caterva2.client.session import Session
from caterva2.errors import BadGatewayError, BadRequestError
from caterva2.paths import DatasetPath

Path_ = str | PurePath
Content: TypeAlias = Any
"""What can be sent: the path of a file, bytes, a Blosc2 object, or what NumPy makes an array of."""


def upload(
    session: Session,
    content: Content,
    path: DatasetPath,
    *,
    if_match: str | None = None,
    create: bool = False,
    unpack: bool = False,
) -> PurePosixPath:
    """Write a dataset; it is there, whole, when this returns.

    Args:
        session: the subscriber.
        content: what to write.
        path: the dataset; `.b2nd` and `.b2frame` hold Blosc2 data, anything else is a plain file.
        if_match: the version (ETag) that it replaces; another one is not replaced.
        create: whether it must be new.
        unpack: whether the content is an archive, and the path the folder, which must be new, for what is in it.

    Returns:
        The path that it has.

    Raises:
        VersionChangedError: if there is another version.
    """
    conditions = _conditions(if_match, create=create)
    return _path(_send(session, "api/upload", content, path, conditions, {"unpack": "true"} if unpack else None))


def append(session: Session, content: Content, path: DatasetPath) -> tuple[int, ...]:
    """Append the rows of an array; returns the new shape."""
    shape = _send(session, "api/append", content, path, {})
    if not isinstance(shape, list) or not all(isinstance(n, int) for n in shape):
        raise BadGatewayError(f"{session.urlbase} answers with something that is no shape")
    return tuple(shape)


def remove(session: Session, path: DatasetPath) -> PurePosixPath:
    """Remove a dataset, or a folder with all that is in it."""
    return _path(session.post("api/remove", str(path)).json())


def transfer(session: Session, route: str, source: str, target: str) -> PurePosixPath:
    """Move or copy a dataset or a folder; returns its new path."""
    # As it was written: a slash at the end says that it is a folder.
    for path in (source, target):
        DatasetPath.parse(path)
    return _path(session.post(f"{route}/", body={"src": source, "dst": target}).json())


def lazyexpr(
    session: Session, name: str, expression: str, operands: Mapping[str, Path_], *, compute: bool
) -> PurePosixPath:
    """Store an expression, or the values that it has now; returns the path of the dataset."""
    named = {operand: str(path) for operand, path in operands.items()}
    body = {"name": name, "expression": expression, "operands": named, "compute": compute}
    return _path(session.post("api/lazyexpr/", body=body).json())


def make_folder(session: Session, path: DatasetPath) -> PurePosixPath:
    """Make an empty folder; returns its path."""
    return _path(session.post("api/folder", str(path)).json())


def join(session: Session, route: str, sources: Iterable[Path_], target: Path_, axis: int) -> PurePosixPath:
    """Make an array of others; returns its path."""
    body = {"srcs": [str(source) for source in sources], "dst": str(target), "axis": int(axis)}
    return _path(session.post(f"{route}/", body=body).json())


def _send(
    session: Session,
    route: str,
    content: Content,
    path: DatasetPath,
    conditions: dict[str, str],
    params: dict[str, str] | None = None,
) -> Any:
    if isinstance(content, str | PurePath):
        with Path(content).open("rb") as file:
            return session.send(route, str(path), file, conditions, params).json()
    return session.send(route, str(path), _bytes(content), conditions, params).json()


def _bytes(content: Content) -> bytes:
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    if not isinstance(content, blosc2.SChunk | blosc2.NDArray):
        array = np.asarray(content)
        if array.dtype.hasobject:
            raise BadRequestError(f"arrays of {array.dtype} hold Python objects, which cannot be sent: convert them")
        content = blosc2.asarray(np.ascontiguousarray(array).reshape(array.shape))
    data: bytes = content.to_cframe()
    return data


def _conditions(if_match: str | None, *, create: bool) -> dict[str, str]:
    match = {"if-match": f'"{if_match}"'} if if_match is not None else {}
    return match | ({"if-none-match": "*"} if create else {})


def _path(answer: Any) -> PurePosixPath:
    if not isinstance(answer, str):
        raise BadGatewayError("the subscriber answers with something that is no path")
    return PurePosixPath(answer)
