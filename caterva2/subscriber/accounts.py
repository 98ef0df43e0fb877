"""What users and superusers do with accounts: logging in and out, registering, adding, removing, listing."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Final

from caterva2.subscriber.attempts import Attempts
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.passwords import Passwords, check_new_password
from caterva2.subscriber.sessions import PREFIX, Sessions, digest_of
from caterva2.subscriber.users import AccessToken, User, UserStore, check_email

logger = logging.getLogger(__name__)

RESET_LIFETIME: Final = 24 * 3600.0
"""Seconds that a link for another password holds."""
# Of one user.
_MOST_TOKENS: Final = 100


class Accounts:
    """The users of a subscriber.

    Args:
        store: where they are.
        sessions: who is logged in.
        passwords: checks passwords.
        attempts: slows down who tries them out.
        most: how many users there may be; 0 is any number.
    """

    def __init__(
        self, store: UserStore, sessions: Sessions, passwords: Passwords, attempts: Attempts, most: int = 0
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._passwords = passwords
        self._attempts = attempts
        self._most = most

    async def caller(self, token: str) -> Caller | None:
        """Who shows a token; None if it does not hold."""
        return self._sessions.remembered(token) or await asyncio.to_thread(self._sessions.find, token)

    async def login(self, email: str, password: str, address: str) -> str | None:
        """Begin a session, and return its token; None for a wrong password, or an unknown user, which takes as long.

        Raises:
            TooManyAttemptsError: if too many failed before.
            UnavailableError: if too many wait.
        """
        user = await self._checked(email, password, address)
        return None if user is None else await asyncio.to_thread(self._sessions.begin, user)

    async def _checked(self, email: str, password: str, address: str) -> User | None:
        """The user with this password."""
        self._attempts.login(email, address)
        user = await asyncio.to_thread(self._store.find, email)
        fits = await self._passwords.check(user.password if user else None, password)
        if user is None or not fits or not user.active:
            logger.info("login failed from %s", address or "an unknown address")
            return None
        self._attempts.succeeded(email, address)
        return user

    async def logout(self, token: str) -> None:
        """End a session."""
        await asyncio.to_thread(self._sessions.end, token)

    async def change_password(self, caller: Caller, password: str, new: str, address: str) -> str | None:
        """Give a user another password, end all sessions, and return the token of a new one; None if it is wrong.

        Raises:
            BadRequestError: if the new password cannot be used.
            TooManyAttemptsError: if too many failed before, here or at logins.
        """
        check_new_password(new)
        if await self._checked(caller.email, password, address) is None:
            return None
        hashed = await self._passwords.hash(new)
        user = await asyncio.to_thread(self._store.set_password, caller.email, hashed)
        logger.info("user %s has got another password", user.email)
        return await asyncio.to_thread(self._sessions.begin, user)

    async def register(self, email: str, password: str, address: str) -> User:
        """Add a user who asks for it; as `add`.

        Raises:
            TooManyAttemptsError: if too many came from there.
        """
        check_email(email)
        check_new_password(password)
        self._attempts.registration(address)
        return await self.add(email, password)

    async def add(self, email: str, password: str, *, superuser: bool = False) -> User:
        """Add a user.

        Raises:
            BadRequestError: if address or password cannot be used.
            UserExistsError: if another user has this address.
            TooManyUsersError: if there are as many as there may be.
        """
        check_email(email)
        hashed = await self._passwords.hash(password)
        user = await asyncio.to_thread(self._store.add, email, hashed, superuser=superuser, most=self._most)
        logger.info("user %s is added", user.email)
        return user

    async def remove(self, email: str) -> User:
        """Remove a user, and end its sessions.

        Raises:
            NoSuchUserError: if there is none.
        """
        user = await asyncio.to_thread(self._store.remove, email)
        logger.info("user %s is removed", user.email)
        return user

    async def add_token(self, caller: Caller, name: str, days: int) -> tuple[AccessToken, str]:
        """Make an access token for a user; returns what is kept of it, and the token itself, which is not.

        Raises:
            ConflictError: if the user has too many, or one of this name.
        """
        token = f"{PREFIX}{secrets.token_urlsafe(32)}"
        expires = time.time() + days * 86_400
        kept = await asyncio.to_thread(
            self._store.add_token, caller.id, digest_of(token), name, expires, _MOST_TOKENS
        )  # fmt: skip
        logger.info("user %s has made the access token %r", caller.email, name)
        return kept, token

    async def tokens(self, caller: Caller) -> list[AccessToken]:
        """The access tokens of a user."""
        return await asyncio.to_thread(self._store.tokens, caller.id)

    async def remove_token(self, caller: Caller, identifier: str) -> bool:
        """Revoke an access token of a user; whether there was one."""
        return await asyncio.to_thread(self._store.remove_token, caller.id, identifier)

    async def open_reset(self, email: str) -> tuple[User, str]:
        """Make a secret with which a user can be given another password, once, within `RESET_LIFETIME`.

        Raises:
            NoSuchUserError: if there is none.
        """
        secret = secrets.token_urlsafe(32)
        expires = time.time() + RESET_LIFETIME
        user = await asyncio.to_thread(self._store.open_reset, email, digest_of(secret), expires)
        logger.info("a link for another password of user %s is made", user.email)
        return user, secret

    def count_reset(self, email: str, address: str) -> None:
        """Count that somebody asks for another password.

        Raises:
            TooManyAttemptsError: if too many came from there, or for this user.
        """
        self._attempts.reset(email, address)

    async def reset(self, secret: str, password: str, address: str) -> User | None:
        """Give the user of a secret another password, and end its sessions; None if the secret does not hold.

        Raises:
            BadRequestError: if the password cannot be used.
            TooManyAttemptsError: if too many came from there.
        """
        check_new_password(password)
        self._attempts.reset("", address)
        digest = digest_of(secret)
        if not await asyncio.to_thread(self._store.reset_holds, digest):
            return None
        user = await asyncio.to_thread(self._store.reset, digest, await self._passwords.hash(password))
        if user is not None:
            logger.info("user %s has got another password", user.email)
        return user

    async def users(self, email: str | None = None) -> list[User]:
        """All users, or the one of an address, if there is one."""
        if email is None:
            return await asyncio.to_thread(self._store.users)
        user = await asyncio.to_thread(self._store.find, email)
        return [user] if user else []
