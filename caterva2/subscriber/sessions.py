"""Sessions: the tokens that users get when they log in, and who shows one.

A session's token is a JWT (RFC 7519), signed with a key that is derived from the secret. It counts only as long as its
session is in the store, found by the digest of the token's random name: so logging out, another password and removing a
user end it at once, in all processes, and whoever guesses the secret still cannot make one up.

An access token, which a user makes for scripts, is a random text that begins with `cat2_`. It is for data: who shows
one is the user, but no superuser, and neither changes the password nor makes further tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from typing import Any, Final

import jwt

from caterva2.errors import AuthenticationError
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.users import User, UserStore

LIFETIME: Final = 24 * 3600.0
"""Seconds that a token holds."""
PREFIX: Final = "cat2_"
"""What an access token begins with, so that a scanner of published code knows one."""
_LONGEST_TOKEN: Final = 2048
_ALGORITHM: Final = "HS256"
_ISSUER: Final = "cat2sub"
_CLAIMS: Final = ["iss", "sub", "iat", "exp", "jti"]
_MOST_REMEMBERED: Final = 10_000


class Sessions:
    """Begins, finds and ends sessions; its methods may be called from any thread.

    Args:
        secret: what tokens are signed with; another one ends all sessions.
        store: where they are kept.
    """

    def __init__(self, secret: str, store: UserStore) -> None:
        self._key = hmac.digest(secret.encode(), b"caterva2 session tokens, 1", hashlib.sha256)
        self._store = store
        self._lock = threading.Lock()
        self._version = -1
        self._seen: dict[str, tuple[Caller, float]] = {}

    def begin(self, user: User) -> str:
        """Begin a session, and return its token.

        Raises:
            AuthenticationError: if the user was removed or has got another password meanwhile.
        """
        now = time.time()
        name = secrets.token_urlsafe(24)
        if not self._store.open_session(digest_of(name), user, now + LIFETIME):
            raise AuthenticationError("the user was changed meanwhile: log in again")
        claims = {"iss": _ISSUER, "sub": user.id, "iat": now, "exp": now + LIFETIME, "jti": name}
        return jwt.encode(claims, self._key, _ALGORITHM)

    def remembered(self, token: str) -> Caller | None:
        """Who shows a token, if that was found before and nothing has changed since; quick."""
        version = self._store.version
        with self._lock:
            if version != self._version:
                self._seen.clear()
                self._version = version
            caller, expires = self._seen.get(token, (None, 0.0))
        return caller if time.time() < expires else None

    def find(self, token: str) -> Caller | None:
        """Who shows a token; None if it does not hold."""
        version = self._store.version
        if (found := self._found(token)) is None:
            return None
        with self._lock:
            # What was found before a change must not outlive it.
            if version == self._version and len(self._seen) < _MOST_REMEMBERED:
                self._seen[token] = found
        return found[0]

    def _found(self, token: str) -> tuple[Caller, float] | None:
        """Who shows a token, and when that ends."""
        if token.startswith(PREFIX):
            shown = self._store.user_with(digest_of(token)) if len(token) <= _LONGEST_TOKEN else None
            return None if shown is None else (Caller(shown[0].id, shown[0].email, scripted=True), shown[1])
        claims = self._claims(token)
        user = self._store.user_of(digest_of(claims["jti"])) if claims else None
        if claims is None or user is None or user.id != claims["sub"]:
            return None
        return user.caller, float(claims["exp"])

    def end(self, token: str) -> None:
        """End the session of a token, if it has one."""
        if (claims := self._claims(token)) is not None:
            self._store.end_session(digest_of(claims["jti"]))

    def _claims(self, token: str) -> dict[str, Any] | None:
        if len(token) > _LONGEST_TOKEN:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._key, algorithms=[_ALGORITHM], issuer=_ISSUER, options={"require": _CLAIMS}
            )
        # Whatever a token makes the library raise, it is a bad token.
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return claims


def digest_of(name: str) -> bytes:
    """What a random text is kept as; it has so much of chance that nothing slower is needed."""
    return hashlib.sha256(name.encode()).digest()
