"""Caterva2: share compressed arrays, and read fresh slices of them from anywhere.

The client library: `Client`, `Root` and module functions such as `get_roots`, with the errors that they raise.
Names are loaded when they are first used, so a daemon that imports `caterva2.settings` pays for no client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caterva2.client import (
        BasicAuth,
        Change,
        Client,
        Dataset,
        File,
        Root,
        Watch,
        adduser,
        append,
        copy,
        deluser,
        download,
        fetch,
        get_auth_cookie,
        get_chunk,
        get_info,
        get_list,
        get_roots,
        lazyexpr,
        listusers,
        move,
        remove,
        sub_urlbase_default,
        subscribe,
        upload,
    )
    from caterva2.errors import (
        AuthenticationError,
        BadGatewayError,
        BadRequestError,
        Caterva2Error,
        ConflictError,
        ForbiddenError,
        FrameError,
        NotFoundError,
        PathError,
        SliceError,
        StorageFullError,
        TooLargeError,
        TooManyAttemptsError,
        UnavailableError,
        UnreachableError,
        VersionChangedError,
    )

    __version__: str

__all__ = [
    "AuthenticationError",
    "BadGatewayError",
    "BadRequestError",
    "BasicAuth",
    "Caterva2Error",
    "Change",
    "Client",
    "ConflictError",
    "Dataset",
    "File",
    "ForbiddenError",
    "FrameError",
    "NotFoundError",
    "PathError",
    "Root",
    "SliceError",
    "StorageFullError",
    "TooLargeError",
    "TooManyAttemptsError",
    "UnavailableError",
    "UnreachableError",
    "VersionChangedError",
    "Watch",
    "__version__",
    "adduser",
    "append",
    "copy",
    "deluser",
    "download",
    "fetch",
    "get_auth_cookie",
    "get_chunk",
    "get_info",
    "get_list",
    "get_roots",
    "lazyexpr",
    "listusers",
    "move",
    "remove",
    "sub_urlbase_default",
    "subscribe",
    "upload",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        return _version()
    from caterva2 import client, errors

    return getattr(errors if name.endswith("Error") else client, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("caterva2")
    except PackageNotFoundError:  # a source tree that nobody installed
        return "0+unknown"
