"""Checking passwords without holding anybody up.

argon2 is slow and hungry on purpose, so it runs in two threads and no more; what waits for them is dropped when its
client goes. A password that was right once is remembered as a keyed hash, so that a thousand clients that come back
at once cost no hashing. The key is random and never leaves the process.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self

from caterva2.broker.users import User, Users, fits

_THREADS: Final = 2
_MAX_REMEMBERED: Final = 10_000


class Passwords:
    """Checks passwords; a context manager, which ends its threads."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="password")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def check(self, users: Users, name: str, password: bytes) -> User | None:
        """The user that has this name and password; unknown name and wrong password take equally long."""
        user = users.get(name)
        # Any other user's hash costs as much as that of the one that is not there.
        measured = user or next(iter(users.values()), None)
        if measured is None:
            return None
        digest = hmac.digest(self._key, b"\0".join((measured.password.encode(), password)), hashlib.sha256)
        if user is not None and digest in self._good:
            return user
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._verify, user, measured, password, digest)

    def _verify(self, user: User | None, measured: User, password: bytes, digest: bytes) -> User | None:
        if user is not None and digest in self._good:  # found right while this one waited for its turn
            return user
        if not fits(measured, password) or user is None:
            return None
        self._good[digest] = None
        if len(self._good) > _MAX_REMEMBERED:
            self._good.popitem(last=False)
        return user
