"""JSON in and out, errors, ETags."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.http import (
    error_handlers,
    etag_matches,
    health_route,
    json_response,
    not_modified,
    quoted,
    read_json,
    ready_route,
)
from caterva2.errors import (
    Caterva2Error,
    NotFoundError,
    RangeError,
    UnavailableError,
    VersionChangedError,
)
from caterva2.models import CatalogHead, Health


def ask(error: Exception | None = None, **request: Any) -> httpx.Response:
    """Ask an app that echoes a CatalogHead sent to it, or raises."""

    async def endpoint(request: Request) -> Response:
        if error is not None:
            raise error
        return json_response(await read_json(request, CatalogHead, limit=100))

    async def etag(request: Request) -> Response:
        return not_modified(request, "v1") or json_response({"new": True}, headers={"ETag": quoted("v1")})

    routes = [
        Route("/", endpoint, methods=["POST"]),
        Route("/etag", etag),
        health_route(_health),
        ready_route(_health),
    ]
    app = Starlette(routes=routes, exception_handlers=error_handlers())

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(**{"method": "POST", "url": "/", **request})

    return asyncio.run(main())


def _health(request: Request) -> Health:
    detail = request.headers.get("detail")
    return Health(kind="broker", id="x", version="1", ready=detail is None, detail=detail)


@pytest.mark.parametrize(("detail", "status"), [(None, 200), ("no bus", 503)])
def test_a_daemon_that_is_not_ready_is_healthy(detail: str | None, status: int) -> None:
    """It lives, which /health says with the reason; /ready is for whoever sends work to it."""
    headers = {} if detail is None else {"detail": detail}
    health, ready = (ask(method="GET", url=url, headers=headers) for url in ("/health", "/ready"))

    assert (200, detail is None, detail) == (health.status_code, health.json()["ready"], health.json()["detail"])
    assert (status, {"detail": detail or "ready"}) == (ready.status_code, ready.json())
    assert "no-store" == ready.headers["cache-control"]


@pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For"])
def test_strangers_are_not_told_the_reason(header: str) -> None:
    """It names users, files and addresses; so who comes through a proxy learns only that it is not ready."""
    headers = {"detail": "user 'foo', /etc/secret", header: "1.2.3.4"}
    answers = [ask(method="GET", url=url, headers=headers) for url in ("/health", "/ready")]

    assert [200, 503] == [answer.status_code for answer in answers]
    assert all("its log says why" in answer.text and "secret" not in answer.text for answer in answers)


def test_model_in_and_out() -> None:
    """A body of the right form is read, unknown fields are ignored."""
    answer = ask(json={"epoch": "e", "seq": 1, "more": 2})

    assert (200, {"epoch": "e", "seq": 1}) == (answer.status_code, answer.json())
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"epoch": "e"}', b'{"epoch": "e", "seq": "x"}', b"\xff", b"[" * 90]
)
def test_body_of_another_form(body: bytes) -> None:
    """A body of another form is a 400 with one line of detail."""
    answer = ask(content=body)

    assert answer.status_code == 400
    assert "\n" not in answer.json()["detail"]


def test_body_too_large() -> None:
    """A body beyond the limit is a 413, whether its length is announced or not."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 50

    assert ask(content=b" " * 101).status_code == 413
    assert ask(content=pieces()).status_code == 413


@pytest.mark.parametrize(
    ("error", "status", "detail", "headers"),
    [
        (NotFoundError("no x"), 404, "no x", {}),
        (UnavailableError("wait", 2.6), 503, "wait", {"retry-after": "3"}),
        (UnavailableError("wait", 0.1), 503, "wait", {"retry-after": "1"}),
        (RangeError("far", 10), 416, "far", {"content-range": "bytes */10"}),
        (VersionChangedError("old", "v2"), 412, "old", {"etag": '"v2"'}),
        (VersionChangedError("old"), 412, "old", {}),
        (HTTPException(429, "slow", {"Retry-After": "9"}), 429, "slow", {"retry-after": "9"}),
        (Caterva2Error("broken"), 500, "broken", {}),
        (RuntimeError("secret"), 500, "Internal Server Error", {}),
    ],
)
def test_errors(error: Exception, status: int, detail: str, headers: dict[str, str]) -> None:
    """An error becomes its status with a detail, and the headers that belong to it; a bug tells nothing."""
    answer = ask(error)

    assert (status, {"detail": detail}) == (answer.status_code, answer.json())
    assert headers == {key: answer.headers[key] for key in headers}


def test_unknown_routes_and_methods() -> None:
    """404 and 405 have the form of all errors too."""
    unknown, method = ask(url="/x"), ask(method="GET")

    assert (404, {"detail": "Not Found"}) == (unknown.status_code, unknown.json())
    assert (405, {"detail": "Method Not Allowed"}) == (method.status_code, method.json())
    assert method.headers["allow"] == "POST"


def test_health() -> None:
    """The health route answers with the model."""
    answer = ask(method="GET", url="/health")

    assert (200, "ok", "broker") == (answer.status_code, answer.json()["status"], answer.json()["kind"])


@pytest.mark.parametrize(
    ("header", "weak", "strong"),
    [
        (None, False, False),
        ("", False, False),
        ("*", True, True),
        (" * ", True, True),
        ('"v1"', True, True),
        ('W/"v1"', True, False),
        ('"v0", "v1"', True, True),
        ('"v0",W/"v1" , "v2"', True, False),
        ('"v0"', False, False),
        ("v1", False, False),
        ('"a,v1"', False, False),
        ('"v1', False, False),
    ],
)
def test_etag_matches(header: str | None, weak: bool, strong: bool) -> None:  # noqa: FBT001 - expectations
    """Tags are compared as RFC 9110 says: quoted, in lists, weakly or strongly."""
    assert weak == etag_matches(header, "v1")
    assert strong == etag_matches(header, "v1", weak=False)


@given(st.lists(st.text(st.sampled_from("ab,W/ *é~"), max_size=5)), st.text(st.sampled_from("ab,W/ *é~"), max_size=5))
def test_etags_with_commas(others: list[str], etag: str) -> None:
    """A tag is found in a list exactly if it is there, whatever characters tags have."""
    etag, others = etag.replace(" ", ""), [other.replace(" ", "") for other in others]

    assert (etag in others) == etag_matches(", ".join(map(quoted, others)), etag)


def test_not_modified() -> None:
    """A client that has the version gets 304 with the tag and no body; another one the answer."""
    same = ask(method="GET", url="/etag", headers=[("If-None-Match", '"v0"'), ("If-None-Match", 'W/"v1"')])
    other = ask(method="GET", url="/etag", headers={"If-None-Match": '"v0"'})

    assert (304, b"", '"v1"') == (same.status_code, same.content, same.headers["etag"])
    assert (200, '"v1"') == (other.status_code, other.headers["etag"])
