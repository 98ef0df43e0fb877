"""The web client: one page for all its addresses, and the files that it loads."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.described import Answer, Operation, described
from caterva2.daemon.http import dataset_route, json_response, not_modified, quoted
from caterva2.errors import NotFoundError
from caterva2.models import SessionInfo, SessionUser
from caterva2.subscriber.routes.state import state_of

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; frame-src blob:; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""What a page may load, and from where: from here alone."""

_SAFE: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
_PAGE_HEADERS: Final = {
    **_SAFE,
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_KEPT: Final = {**_SAFE, "Cache-Control": "public, max-age=31536000, immutable"}
_PAGES: Final = ("login", "register", "forgot-password", "reset-password", "account", "users", "status")


_PAGE: Final = Operation({200: Answer("the page", media=("text/html",))})


@described(_PAGE)
async def get_page(request: Request) -> Response:
    """`GET /`, `/view/{path}` and the other addresses of the web client: its page."""
    site = state_of(request).site
    # From the depth of the address, so that it also works behind a proxy that puts a path before it.
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    content = site.page_at("../" * (raw.partition(b"?")[0].count(b"/") - 1) or "./")
    if (response := not_modified(request, site.digest, _PAGE_HEADERS)) is not None:
        return response
    headers = _PAGE_HEADERS | {"ETag": quoted(site.digest)}
    return Response(content, headers=headers, media_type="text/html")


@described(
    Operation({200: Answer("the file", media=("text/javascript", "text/css", "image/svg+xml", "text/plain"))}, (404,))
)
async def get_file(request: Request) -> Response:
    """`GET /static/{digest}/{path}`: a file of the web client, for ever the same."""
    site, path = state_of(request).site, request.path_params["path"]
    file = site.files.get(path) if request.path_params["digest"] == site.digest else None
    if file is None:
        # A page that was loaded before an update asks for files that are no more.
        raise NotFoundError("this file is not of the present web client: load the page again")
    return Response(file.content, headers=_KEPT, media_type=file.media_type)


@described(Operation({200: Answer("who asks, and what there is for users", SessionInfo)}, (401,)))
async def get_session(request: Request) -> Response:
    """`GET /auth/me`: who asks, and what this subscriber has for users; 200 for everybody."""
    state = state_of(request)
    caller = await state.callers.caller(request)
    user = SessionUser(email=caller.email, superuser=caller.superuser) if caller.known else None
    users = state.accounts is not None
    info = SessionInfo(
        user=user, users=users, registration=users and state.settings.register, mail=users and state.mailer is not None
    )
    return json_response(info, headers={"Cache-Control": "no-store"})


def _static_route() -> Route:
    route = Route("/static/{digest}/{path:path}", get_file)
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
    return route


ROUTES = (
    Route("/auth/me", get_session),
    Route("/", get_page),
    Route("/view", get_page),
    dataset_route("/view", get_page),
    _static_route(),
    *(Route(f"/{name}", get_page) for name in _PAGES),
)
