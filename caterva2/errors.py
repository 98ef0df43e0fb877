"""The errors of Caterva2: one tree for the daemons and for their clients.

Each class stands for one HTTP status. A daemon answers with the status of the error that it met, a client
raises the class of the status that it got, so an error keeps its meaning across the network::

    Caterva2Error                           500
    ├── BadRequestError (ValueError)        400  the request makes no sense, whatever the state of the server
    │   ├── AddressError                         not a host:port, *:port or socket path
    │   ├── PathError                            not a dataset path, or one that leaves its root
    │   ├── SliceError (IndexError)              not a slice, or one outside of the dataset's shape
    │   ├── ExpressionError                      not an expression, or one that does not fit its operands
    │   └── SettingsError                        caterva2.toml, environment or options
    ├── AuthenticationError                 401
    │   └── UnauthorizedError                    the token that a daemon shows is missing, or does not hold
    ├── ForbiddenError                      403
    ├── NotFoundError (LookupError)         404
    ├── ConflictError                       409
    ├── GoneError                           410  a history that no longer reaches back that far
    ├── VersionChangedError                 412  the dataset is no longer at the version that was asked for
    ├── TooLargeError                       413
    ├── RangeError                          416  a byte range outside of the file
    ├── FrameError                          422  bytes that are no sound Blosc2 frame or chunk
    ├── TooManyAttemptsError                429  refused unseen, as too many failed before; `retry_after` as below
    ├── BadGatewayError                     502  a publisher answered with something that makes no sense
    ├── UnavailableError                    503  not now; `retry_after` says when to try again
    │   └── UnreachableError                     no answer at all from the other side
    └── StorageFullError                    507
"""

from __future__ import annotations

import os
from collections.abc import Iterator


class Caterva2Error(Exception):
    """Anything that goes wrong in Caterva2.

    Args:
        detail: one line that names the input and, where there is one, the remedy.
    """

    status: int = 500

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class BadRequestError(Caterva2Error, ValueError):
    """The request makes no sense, whatever the state of the server."""

    status = 400


class AddressError(BadRequestError):
    """A text that is not an address to listen on or to connect to."""


class PathError(BadRequestError):
    """A text that is not a dataset path, or that would leave its root."""


class SliceError(BadRequestError, IndexError):
    """A slice that cannot be read, or that lies outside of the dataset's shape."""


class ExpressionError(BadRequestError):
    """An expression that is not one of the language, or that does not fit its operands."""


class SettingsError(BadRequestError):
    """A setting that cannot be used; the detail names the place and the remedy."""


class AuthenticationError(Caterva2Error):
    """The request needs a login."""

    status = 401


class UnauthorizedError(AuthenticationError):
    """The token that a daemon shows is missing, or does not hold."""


class ForbiddenError(Caterva2Error):
    """The user may not do this."""

    status = 403


class NotFoundError(Caterva2Error, LookupError):
    """A root, dataset or chunk that does not exist."""

    status = 404


class ConflictError(Caterva2Error):
    """The request contradicts the present state."""

    status = 409


class GoneError(Caterva2Error):
    """A history that does not reach back to what was asked for: start afresh."""

    status = 410


class VersionChangedError(Caterva2Error):
    """The dataset is no longer at the version (ETag) that was asked for.

    Args:
        detail: what was asked for.
        etag: the present version, where it is known.
    """

    status = 412

    def __init__(self, detail: str, etag: str | None = None) -> None:
        super().__init__(detail)
        self.etag = etag


class TooLargeError(Caterva2Error):
    """More than the server is ready to take or to make."""

    status = 413


class RangeError(Caterva2Error):
    """A byte range that lies outside of the file.

    Args:
        detail: the range that was asked for.
        length: the length of the file, in bytes.
    """

    status = 416

    def __init__(self, detail: str, length: int = 0) -> None:
        super().__init__(detail)
        self.length = length


class FrameError(Caterva2Error):
    """Bytes that are no sound Blosc2 frame or chunk, or of a kind that cannot be served."""

    status = 422


class TooManyAttemptsError(Caterva2Error):
    """Refused unseen, since too many failed before.

    Args:
        detail: what was too much.
        retry_after: seconds after which it makes sense to try again.
    """

    status = 429

    def __init__(self, detail: str, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class BadGatewayError(Caterva2Error):
    """Another daemon answered with something that makes no sense."""

    status = 502


class UnavailableError(Caterva2Error):
    """Not possible now.

    Args:
        detail: what is not available.
        retry_after: seconds after which it makes sense to try again.
    """

    status = 503

    def __init__(self, detail: str, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class UnreachableError(UnavailableError):
    """The other side gave no answer at all."""


class StorageFullError(Caterva2Error):
    """No room is left on the server's disk."""

    status = 507


def reason_of(error: BaseException) -> str:
    """Say in a few words why something on the network failed: what the system said, where it said something.

    HTTP libraries wrap that several times, in words of their own such as "All connection attempts failed".
    """
    seen: BaseException | None = error
    reason = str(error) or type(error).__name__
    while seen is not None:
        if (why := getattr(seen, "verify_message", "")) != "":
            # TLS counts its errors as the system's, but in numbers of its own.
            return f"its certificate is not believed ({why}): give the file of its authority as ca"
        if isinstance(seen, OSError) and seen.errno is not None and seen.errno > 0 and not hasattr(seen, "library"):
            reason = os.strerror(seen.errno)
        inner = seen.exceptions[0] if isinstance(seen, BaseExceptionGroup) else None
        seen = inner or seen.__cause__ or seen.__context__
    return reason


def _tree(base: type[Caterva2Error]) -> Iterator[type[Caterva2Error]]:
    for child in base.__subclasses__():
        yield child
        yield from _tree(child)


def error_for_status(status: int, detail: str) -> Caterva2Error:
    """Make the error that stands for an HTTP status of 400 or more."""
    for kind in _tree(Caterva2Error):
        if kind.status == status:
            return kind(detail)
    return BadRequestError(detail) if 400 <= status < 500 else Caterva2Error(detail)
