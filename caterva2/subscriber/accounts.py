"""What users and superusers do with accounts: logging in and out, registering, adding, removing, listing."""

from __future__ import annotations

import asyncio
import logging

from caterva2.subscriber.attempts import Attempts
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.passwords import Passwords, check_new_password
from caterva2.subscriber.sessions import Sessions
from caterva2.subscriber.users import User, UserStore, check_email

logger = logging.getLogger(__name__)


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

    async def users(self, email: str | None = None) -> list[User]:
        """All users, or the one of an address, if there is one."""
        if email is None:
            return await asyncio.to_thread(self._store.users)
        user = await asyncio.to_thread(self._store.find, email)
        return [user] if user else []
