"""Passwords: hashing and checking them without holding anybody up.

argon2 is slow and hungry on purpose, so it runs in two threads and no more, and only so many requests wait for them.
"""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self, TypeVar

import argon2

from caterva2.errors import BadRequestError, UnavailableError

SHORTEST: Final = 8
"""Characters of a password at least."""
LONGEST: Final = 1024
_THREADS: Final = 2
# Requests that may wait for the threads: some seconds.
_MOST_WAITING: Final = 64
_T = TypeVar("_T")


def check_new_password(password: str) -> str:
    """Return a password that somebody may have.

    Raises:
        BadRequestError: if it is too short, or no password at all; the text does not repeat it.
    """
    if len(password) < SHORTEST:
        raise BadRequestError(f"Password should be at least {SHORTEST} characters")
    if len(password) > LONGEST:
        raise BadRequestError(f"Password should be at most {LONGEST} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in password):
        raise BadRequestError("Password should be Unicode text")
    return password


class Passwords:
    """Hashes and checks passwords; a context manager, which ends its threads.

    Args:
        hasher: says how much a hash costs; by default what RFC 9106 recommends: 64 MB, some 0.1 s.
    """

    def __init__(self, hasher: argon2.PasswordHasher | None = None) -> None:
        self._hasher = hasher or argon2.PasswordHasher()
        self._nobody = _unknown(self._hasher)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="password")
        self._waiting = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def hash_now(self, password: str) -> str:
        """Hash a password, in this thread."""
        return self._hasher.hash(check_new_password(password))

    async def hash(self, password: str) -> str:
        """Hash a password.

        Raises:
            BadRequestError: if nobody may have it.
            UnavailableError: if too many wait.
        """
        check_new_password(password)
        return await self._run(lambda: self._hasher.hash(password))

    async def check(self, known: str | None, password: str) -> bool:
        """Whether a password fits a hash; for None, a user who is not there, it takes as long to say no.

        Raises:
            UnavailableError: if too many wait.
        """
        fits = await self._run(lambda: self._fits(known or self._nobody, password[: LONGEST + 1]))
        return fits and known is not None

    def _fits(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password.encode("utf-8", "surrogatepass"))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._waiting >= _MOST_WAITING:
            raise UnavailableError("too many passwords wait to be checked: try again", 5.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _unknown(hasher: argon2.PasswordHasher) -> str:
    """A hash that no known password fits, without the work of making one."""
    salt, digest = (
        b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (hasher.salt_len, hasher.hash_len)
    )
    return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${digest}"
