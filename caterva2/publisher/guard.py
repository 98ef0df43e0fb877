"""Who may read the root: everybody, or who shows a token.

A token is one that the broker has signed for this root, or the fixed one of the settings. The middleware decides for
every route alike, so that a new one cannot be forgotten; only `/health` is open, which tells nothing of the root's
data.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from caterva2.address import Address
from caterva2.daemon.http import detail_response
from caterva2.daemon.tokens import MAX_TOKEN, UnknownKeyError
from caterva2.errors import SettingsError, UnauthorizedError
from caterva2.publisher.keys import BrokerKeys
from caterva2.settings import PublisherSettings

OPEN_PATHS: Final = frozenset({"/health"})
_MOST_KNOWN: Final = 1000
"""Good tokens that are remembered, of which each subscriber has one at a time."""
_SCHEME: Final = b"bearer "


@dataclass(frozen=True, slots=True)
class Policy:
    """Whether a token is wanted.

    Attributes:
        open: whether everybody may read.
        reason: why, for the log.
        exposed: whether others than programs of this machine may reach it, as far as is known.
    """

    open: bool
    reason: str
    exposed: bool

    @classmethod
    def of(cls, settings: PublisherSettings, address: Address) -> Policy:
        """Decide.

        Raises:
            SettingsError: if a token is wanted and there is none that could be good.
        """
        exposed = _exposed(settings, address)
        if settings.access == "open":
            return cls(True, 'access = "open" in its settings', exposed)
        if settings.access == "auto" and not exposed:
            return cls(True, "only programs on this machine reach it", exposed)
        if not (settings.token or settings.broker):
            raise SettingsError(
                "publisher.access: nobody could read: without a broker that gives tokens, set token, or access to open"
            )
        where = settings.urlbase or address
        reason = 'access = "token" in its settings' if settings.access == "token" else f"others may reach {where}"
        return cls(False, reason, exposed)


def _exposed(settings: PublisherSettings, address: Address) -> bool:
    # Who announces another address has a proxy there, which brings everybody to this machine.
    host = urlsplit(settings.urlbase).hostname if settings.urlbase else ""
    return not (address.loopback and (not host or Address(host).loopback))


class Guard:
    """Tells good tokens from others.

    Args:
        root: that the tokens must be for.
        fixed: the token of the settings; "" is none.
        keys: of the broker; None without one.
        now: the clock, in seconds since 1970.
    """

    def __init__(self, root: str, fixed: str, keys: BrokerKeys | None, now: Callable[[], float] = time.time) -> None:
        self._root = root
        self._fixed = fixed.encode()
        self._keys = keys
        self._now = now
        self._known: dict[bytes, float] = {}

    def forget(self) -> None:
        """Check every token again, since the keys are other ones."""
        self._known.clear()

    def knows(self, header: bytes | None) -> bool:
        """Whether this `Authorization` was found good before, and still is; costs next to nothing."""
        expires = self._known.get(header or b"")
        return expires is not None and self._now() < expires

    async def check(self, header: bytes | None) -> None:
        """Return if this `Authorization` is good.

        Raises:
            UnauthorizedError: if it is not.
        """
        if header is None:
            raise UnauthorizedError("this publisher answers only who shows a token: Authorization: Bearer TOKEN")
        scheme, token = header[: len(_SCHEME)].lower(), header[len(_SCHEME) :].strip()
        if scheme != _SCHEME or not token:
            raise UnauthorizedError("this Authorization is not of the form: Bearer TOKEN")
        if self._fixed and hmac.compare_digest(token, self._fixed):
            return
        expires = await self._check_signed(token)
        if len(self._known) >= _MOST_KNOWN:
            self._known = {each: until for each, until in self._known.items() if until > self._now()}
        if len(self._known) < _MOST_KNOWN:
            self._known[header] = expires

    async def _check_signed(self, token: bytes) -> float:
        """When the broker's token ends."""
        if self._keys is None:
            raise UnauthorizedError("the token is not that of this publisher")
        if len(token) > MAX_TOKEN or not token.isascii():
            raise UnauthorizedError("the token is none of the broker's")
        text = token.decode("ascii")
        try:
            return self._keys.verifier.vouched(text, self._root).expires
        except UnknownKeyError:
            await self._keys.refresh()
        return self._keys.verifier.vouched(text, self._root).expires


class Guarded:
    """ASGI middleware that lets through only who shows a good token.

    Args:
        app: what it guards.
        guard: made by the time of the first request; gives None if everybody may read.
    """

    def __init__(self, app: ASGIApp, guard: Callable[[], Guard | None]) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app inside does, or with 401."""
        guard = self._guard()
        if guard is None or (scope["type"] == "http" and scope["path"] in OPEN_PATHS):
            await self._app(scope, receive, send)
            return
        header = _authorization(scope)
        try:
            if not guard.knows(header):
                await guard.check(header)
        except UnauthorizedError as error:
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)


def _authorization(scope: Scope) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == b"authorization"), None)


async def _refuse(error: UnauthorizedError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    response = detail_response(error.detail, error.status, {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"})
    await response(scope, receive, send)
