"""The OpenAPI document, and a page of it for readers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from caterva2.daemon.apipage import HEADERS, page_of
from caterva2.daemon.arguments import package_version
from caterva2.daemon.described import Answer, Operation, described
from caterva2.daemon.http import json_response
from caterva2.daemon.openapi import About, document
from caterva2.subscriber.routes.identity import COOKIE

_TEXT: Final = (
    "Reads compressed arrays of publishers, and keeps those of users. Every `GET` answers `HEAD` too. "
    'Every error is `{"detail": ...}`. An answer that reads a dataset names its version in `ETag`.'
)
_PATH: Final = {
    "path": "a root, and what is below it: `foo/dir/a.b2nd`; slashes may stand as they are",
    "root": "the name of a root, such as `foo` or `@public`",
    "username": "an e-mail address",
    "id": "the id of an access token",
    "digest": "the version of the web client, as its page names it",
}


@described(Operation({200: Answer("the document", dict[str, Any])}))
async def openapi(request: Request) -> Response:
    """`GET /openapi.json`: this document."""
    return json_response(_made(request))


@described(Operation({200: Answer("the page", media=("text/html",))}))
async def page(request: Request) -> Response:
    """`GET /docs`: this document as a page."""
    # Relative, since a proxy may put a path before them.
    return Response(page_of(_made(request), "docs/style.css", "openapi.json"), headers=HEADERS, media_type="text/html")


@described(Operation({200: Answer("the style sheet", media=("text/css",))}))
async def style(_request: Request) -> Response:
    """`GET /docs/style.css`: the style of that page."""
    return Response(files("caterva2").joinpath("web/docs.css").read_bytes(), headers=HEADERS, media_type="text/css")


def openapi_of(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document of the subscriber's routes."""
    return document(routes, About("Caterva2 subscriber", package_version(), _TEXT, _PATH, COOKIE))


def _made(request: Request) -> dict[str, Any]:
    """The document of the app that a request came to; made once."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = openapi_of(request.app.routes)
    made: dict[str, Any] = state.openapi
    return made


ROUTES = (
    Route("/openapi.json", openapi),
    Route("/docs", page),
    Route("/docs/style.css", style),
)
