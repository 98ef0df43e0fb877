"""Who may ask for what only operators see.

An admin may, by HTTP Basic; and where unnamed clients may come in, a program on this very machine.

A browser on this machine is such a program too, and shows pages from anywhere. So a request without a name must not
come through a proxy, and must be for a name of this machine, not for one that a stranger has pointed at it.
"""

from __future__ import annotations

import base64
import binascii
import logging
from ipaddress import ip_address
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from bus.access import on_this_machine
from bus.logins import Logins
from caterva2.broker.access import BrokerAccess
from caterva2.daemon.http import Endpoint, detail_response

logger = logging.getLogger(__name__)
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="cat2bro", charset="UTF-8"'}
_PROXY_HEADERS: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
_NO_STORE: Final = {"Cache-Control": "no-store"}


class Admins:
    """Lets operators in.

    Args:
        access: knows the users.
        logins: counts failures by address, together with those of the bus or apart.
    """

    def __init__(self, access: BrokerAccess, logins: Logins) -> None:
        self._access = access
        self._logins = logins

    async def refusal(self, request: Request) -> Response | None:
        """Why this request is not answered; None if it is from an admin."""
        header = request.headers.get("authorization")
        if header is None:
            return self._refuse_unnamed(request)
        shown = _basic(header)
        if shown is None:
            return detail_response("only HTTP Basic is understood here", 401, _CHALLENGE)
        return await self._check(*shown, _host(request))

    async def _check(self, name: str, password: bytes, host: str) -> Response | None:
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
        return None

    def _refuse_unnamed(self, request: Request) -> Response | None:
        if self._access.lets_in_unnamed(local=True) and _is_local(request):
            return None
        remedy = "ask as an admin" if self._access.has_users else "ask on the broker's machine, or add an admin there"
        return detail_response(f"{remedy}: cat2bro user add NAME --role admin", 401, _CHALLENGE)


def for_admins(endpoint: Endpoint) -> Endpoint:
    """Make an endpoint that answers admins alone."""

    async def guarded(request: Request) -> Response:
        admins: Admins = request.state.broker.admins
        return await admins.refusal(request) or await endpoint(request)

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


def _is_local(request: Request) -> bool:
    if any(name in request.headers for name in _PROXY_HEADERS):
        return False
    if request.client is None:  # a unix socket, which only this machine has
        return _names_this_machine(request.url.hostname, "")
    own = (request.scope.get("server") or ("",))[0]
    return on_this_machine(request.client.host, own) and _names_this_machine(request.url.hostname, own)


def _names_this_machine(name: str | None, own: str) -> bool:
    if name is None or name == "localhost":
        return True
    try:
        return on_this_machine(str(ip_address(name)), own)
    except ValueError:
        return False
