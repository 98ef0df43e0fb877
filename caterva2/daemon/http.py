"""What the daemons' HTTP has in common: JSON in and out, errors as `{"detail": ...}`, ETags."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ExceptionHandler

from caterva2.daemon.described import Answer, Detail, Operation, described
from caterva2.errors import (
    BadRequestError,
    Caterva2Error,
    RangeError,
    TooLargeError,
    TooManyAttemptsError,
    UnavailableError,
    VersionChangedError,
)
from caterva2.models import Health

logger = logging.getLogger(__name__)
_Model = TypeVar("_Model", bound=BaseModel)
# RFC 9110, 8.8.3: an opaque tag may hold commas, so a list is not simply split.
_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
# Headers that a proxy adds, beside those that begin with X-Forwarded-.
_PROXY_HEADERS = frozenset({"forwarded", "via", "x-real-ip"})
Endpoint = Callable[[Request], Awaitable[Response]]
MAX_JSON_BODY = 1024 * 1024


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a model, or with anything made of models, dicts, lists and plain values."""
    return Response(to_json(value), status, headers, media_type="application/json")


def detail_response(detail: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with an error, in the form that clients expect."""
    return json_response({"detail": detail}, status, headers)


def health_route(describe: Callable[[Request], Health]) -> Route:
    """Make `GET /health`, which answers as long as the event loop turns."""

    @described(Operation({200: Answer("it is alive", Health)}))
    async def health(request: Request) -> Response:
        """`GET /health`: whether it is alive, and what it is."""
        return json_response(_told(request, describe(request)), headers={"Cache-Control": "no-store"})

    return Route("/health", health)


def ready_route(describe: Callable[[Request], Health]) -> Route:
    """Make `GET /ready`: 200 when the daemon can do its part for others, else 503 with the reason."""

    @described(Operation({200: Answer("it is ready", Detail)}))
    async def ready(request: Request) -> Response:
        """`GET /ready`: whether it can do its part for others."""
        health = _told(request, describe(request))
        headers = {"Cache-Control": "no-store"}
        if health.ready:
            return detail_response("ready", 200, headers)
        return detail_response(health.detail or "not ready", 503, headers)

    return Route("/ready", ready)


def _told(request: Request, health: Health) -> Health:
    """What this client is told: the reason names users, files and addresses, which are no stranger's business."""
    if health.detail is None or is_local(request):
        return health
    return health.model_copy(
        update={"detail": "not ready: its log says why, and so does this address to a local client"}
    )


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, and not through a proxy on it."""
    proxied = any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in request.headers)
    return not proxied and _is_loopback(request)


def _is_loopback(request: Request) -> bool:
    # Without an address it is a unix socket, which only a proxy or a local program reaches.
    if request.client is None or not request.client.host:
        return True
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def dataset_route(start: str, endpoint: Endpoint, methods: Sequence[str] = ("GET",)) -> Route:
    """Make the route of `{start}/{path}`, where the path may hold whatever a file name can."""
    route = Route(f"{start}/{{path:path}}", endpoint, methods=list(methods))
    # Starlette's own path ends at a newline.
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
    return route


async def read_json(request: Request, model: type[_Model], limit: int = MAX_JSON_BODY) -> _Model:
    """Read a body of JSON, and of a bounded size.

    Raises:
        TooLargeError: if it has more than `limit` bytes.
        BadRequestError: if it is not JSON of the model's form.
    """
    body = await read_body(request, limit)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise BadRequestError(f"{where}: {first['msg']}") from None


async def read_body(request: Request, limit: int = MAX_JSON_BODY) -> bytes:
    """Read a body of at most `limit` bytes.

    Raises:
        TooLargeError: as soon as there are more.
        BadRequestError: if the client hangs up before its end.
    """
    announced = request.headers.get("content-length", "")
    body = bytearray()
    if not (announced.isascii() and announced.isdigit() and int(announced[:20]) > limit):
        try:
            async for piece in request.stream():
                body += piece
                if len(body) > limit:
                    break
            else:
                return bytes(body)
        except ClientDisconnect:
            raise BadRequestError("the request's body ended too early") from None
    raise TooLargeError(f"the request's body is too large: at most {limit} bytes are read here")


def quoted(etag: str) -> str:
    """Write an ETag as it stands in a header."""
    return f'"{etag}"'


def etag_matches(header: str | None, etag: str, *, weak: bool = True) -> bool:
    """Whether an `If-None-Match` or `If-Match` names this version (RFC 9110, 13.1).

    Args:
        header: the header's value: `*`, or a list of quoted tags; None if there is none, which matches nothing.
        etag: the present version, without quotes.
        weak: compare as `If-None-Match` does; `If-Match` takes no weak tags.
    """
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return any(tag == etag and (weak or not mark) for mark, tag in _ETAG.findall(header))


def not_modified(request: Request, etag: str, headers: Mapping[str, str] | None = None) -> Response | None:
    """Answer 304 if the client has this version already; else None.

    Args:
        request: whose `If-None-Match` counts.
        etag: the present version, without quotes.
        headers: more headers for that answer.
    """
    # A client may send the header on several lines; they mean one list.
    header = ",".join(request.headers.getlist("if-none-match")) or None
    if not etag_matches(header, etag):
        return None
    return Response(status_code=304, headers={**(headers or {}), "ETag": quoted(etag)})


async def _on_caterva2_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Caterva2Error)
    if error.status == 500:
        logger.error("internal error", exc_info=error)
    return detail_response(error.detail, error.status, _headers_of(error))


def _headers_of(error: Caterva2Error) -> dict[str, str]:
    match error:
        case UnavailableError() | TooManyAttemptsError():
            return {"Retry-After": str(max(1, round(error.retry_after)))}
        case RangeError():
            return {"Content-Range": f"bytes */{error.length}"}
        case VersionChangedError(etag=str(etag)):
            return {"ETag": quoted(etag)}
    return {}


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return detail_response(error.detail, error.status_code, error.headers)


async def _on_anything_else(_request: Request, _error: Exception) -> Response:
    # Starlette raises it again after this answer, and uvicorn logs it.
    return detail_response("Internal Server Error", 500)


def error_handlers() -> dict[int | type[Exception], ExceptionHandler]:
    """The `exception_handlers` of an app: each error becomes `{"detail": ...}` with its status."""
    return {
        Caterva2Error: _on_caterva2_error,
        HTTPException: _on_http_exception,
        Exception: _on_anything_else,
    }
