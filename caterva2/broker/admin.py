"""Who may ask for what only operators see.

An admin may, by HTTP Basic; and where unnamed clients may come in, a program on this very machine.

A browser on this machine is such a program too, and shows pages from anywhere. So a request without a name must not
come through a proxy, and must be for a name of this machine, not for one that a stranger has pointed at it (DNS
rebinding: then the browser takes the stranger's page and us for one site).
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Collection
from typing import Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from bus.access import on_this_machine
from bus.logins import Logins
from caterva2.broker.access import BrokerAccess
from caterva2.daemon.http import Endpoint, detail_response

logger = logging.getLogger(__name__)
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="cat2bro", charset="UTF-8"'}
_PROXY_HEADERS: Final = frozenset({"forwarded", "via", "x-real-ip"})
"""Headers that a proxy adds, beside those that begin with X-Forwarded-."""


class Admins:
    """Lets operators in.

    Args:
        access: knows the users.
        logins: counts failures by address.
        names: the names that this machine has in the settings.
    """

    def __init__(self, access: BrokerAccess, logins: Logins, names: Collection[str] = ()) -> None:
        self._access = access
        self._logins = logins
        self._names = frozenset(name.lower() for name in names) | {"localhost"}

    async def identify(self, request: Request) -> str | Response:
        """Who asks, in words for the log; or the answer to who may not."""
        header = request.headers.get("authorization")
        if header is None:
            return self._unnamed(request)
        shown = _basic(header)
        if shown is None:
            return detail_response("only HTTP Basic is understood here", 401, _CHALLENGE)
        return await self._check(*shown, _host(request))

    async def _check(self, name: str, password: bytes, host: str) -> str | Response:
        async with self._logins.turn(host) as may_try:
            if not may_try:
                return detail_response("too many failed logins from this address: wait a minute", 429)
            who = await self._access.authenticate(name, password)
            if who is None:
                self._logins.failed(host)
                logger.warning("refused %.80r at %s: no user with this password", name, host)
                return detail_response(f"there is no user {name!r} with this password", 401, _CHALLENGE)
        if who.role != "admin":
            return detail_response(f"{name} is no admin but {who.role}: cat2bro user add NAME --role admin", 403)
        return name

    def _unnamed(self, request: Request) -> str | Response:
        if self._access.lets_in_unnamed(local=True) and self._is_local(request):
            return "a program on this machine"
        remedy = "ask as an admin" if self._access.has_users else "ask on the broker's machine, or add an admin there"
        return detail_response(f"{remedy}: cat2bro user add NAME --role admin", 401, _CHALLENGE)

    def is_rebound(self, connection: HTTPConnection) -> bool:
        """Whether a page in a browser on this machine has us under a stranger's name."""
        return "origin" in connection.headers and _came_directly(connection) and not self._is_local(connection)

    def _is_local(self, connection: HTTPConnection) -> bool:
        name = (connection.url.hostname or "").lower()
        named = name in self._names or on_this_machine(name, _own_address(connection))
        return named and _came_directly(connection)


def for_admins(endpoint: Endpoint) -> Endpoint:
    """Make an endpoint that answers admins alone; it finds who asks in `request.state.operator`."""

    async def guarded(request: Request) -> Response:
        admins: Admins = request.state.broker.admins
        found = await admins.identify(request)
        if isinstance(found, Response):
            return found
        request.state.operator = found
        return await endpoint(request)

    return guarded


def _basic(header: str) -> tuple[str, bytes] | None:
    """Name and password of an `Authorization` header (RFC 7617)."""
    scheme, _, coded = header.partition(" ")
    try:
        name, colon, password = base64.b64decode(coded.strip(), validate=True).partition(b":")
        text = name.decode()
    except (binascii.Error, ValueError):
        return None
    return (text, password) if scheme.lower() == "basic" and colon else None


def _host(request: Request) -> str:
    return request.client.host if request.client else ""


def _came_directly(connection: HTTPConnection) -> bool:
    """From this machine, and not through a proxy."""
    if any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in connection.headers):
        return False
    # A unix socket is one that only this machine has.
    return connection.client is None or on_this_machine(connection.client.host, _own_address(connection))


def _own_address(connection: HTTPConnection) -> str:
    return str((connection.scope.get("server") or ("",))[0])
