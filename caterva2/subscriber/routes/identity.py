"""Who a request comes from, and whether a browser was led to send it by another site."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from caterva2.errors import AuthenticationError, ForbiddenError
from caterva2.subscriber.accounts import Accounts
from caterva2.subscriber.callers import ANONYMOUS, Caller

COOKIE: Final = "c2subauth"
"""The cookie of a login; the name is upstream's."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS: Final = {"http": 80, "https": 443}


class Callers:
    """Recognizes callers.

    Args:
        accounts: the users; None if there are none, and all are anonymous.
        urlbase: the address that clients reach the subscriber at, if that is another one than they ask.
    """

    def __init__(self, accounts: Accounts | None, urlbase: str | None = None) -> None:
        self._accounts = accounts
        self._origins = {_origin(urlbase)} if urlbase else set()

    async def caller(self, request: Request) -> Caller:
        """Who a request comes from; a cookie that does not hold is nobody's.

        Raises:
            AuthenticationError: if a token in the header Authorization does not hold.
            ForbiddenError: if it changes something, and another site's page sent it with the user's cookie.
        """
        if self._accounts is None:
            return ANONYMOUS
        if (bearer := bearer_of(request)) is not None:
            caller = await self._accounts.caller(bearer)
            if caller is None:
                raise AuthenticationError("the token does not hold: it is wrong, or it has expired")
            return caller
        token = request.cookies.get(COOKIE)
        caller = await self._accounts.caller(token) if token else None
        if caller is not None and request.method not in _SAFE:
            self.check_origin(request)
        return caller or ANONYMOUS

    def check_origin(self, request: Request) -> None:
        """Refuse what a browser sends for a page of another site, or from a link; programs are no browsers.

        Raises:
            ForbiddenError: if it is so.
        """
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            good = site == "same-origin"
        elif (origin := request.headers.get("origin")) is not None:
            good = _origin(origin) in {*self._origins, _origin(f"{request.url.scheme}://{request.url.netloc}")}
        else:
            # No script, image or form of another site does this with our cookie, which is SameSite=Lax; a link does.
            good = request.method != "GET" or "text/html" not in request.headers.get("accept", "")
        if not good:
            raise ForbiddenError("this request comes from a page of another site: open the subscriber's own")


def token_of(request: Request) -> str | None:
    """The token that a request shows, in the header Authorization, or in the cookie."""
    return bearer_of(request) or request.cookies.get(COOKIE)


def bearer_of(request: Request) -> str | None:
    """The token in the header Authorization."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def address_of(request: Request) -> str:
    """The address of the client; of a proxy on this machine the one that it tells. "" is not known."""
    host = request.client.host if request.client is not None else ""
    if host and not _is_loopback(host):
        return host
    # All would share the proxy's otherwise, and one could keep the others out. uvicorn does this for 127.0.0.1 alone.
    return request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip() or host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return "", "", None
