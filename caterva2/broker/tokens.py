"""Hands out the tokens that publishers accept: over the bus, to each subscriber on its own topic.

A subscriber is handed the tokens of all roots when it joins, of a root when that comes online, and of all again at
half of their lifetime. Signing takes some 50 us a token, so it is done in a thread, some at a time, and with pauses:
who joins again and again cannot keep the broker busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Protocol

from bus.errors import BusError
from bus.messages import TokenGrant
from bus.topics import ANONYMOUS

logger = logging.getLogger(__name__)
_BATCH: Final = 50
"""Tokens that are signed at once and fit a message, even if each has a name of 255 letters and 1000 of its own."""
_PAUSE: Final = 0.1
"""Seconds between two rounds at least, so that many subscribers that come at once make few of them."""
_SHARE: Final = 4.0
"""The pause after a round, as a multiple of the time that it took."""


class Signs(Protocol):
    """Makes tokens; see `daemon.tokens.Signer`."""

    def issue(self, user: str, root: str, lifetime: float) -> str:
        """Make a token."""


class Publishes(Protocol):
    """The end of the bus that grants go out through."""

    async def publish(self, message: TokenGrant) -> None:
        """Return once the broker has the message."""


class Grants:
    """Who is handed which tokens, and when.

    Args:
        signer: makes them.
        lifetime: seconds that a token holds.
        users: gives the names of the subscribers that are there; "" is anonymous.
        roots: gives the names of the roots that are there.
    """

    def __init__(
        self,
        signer: Signs,
        lifetime: float,
        users: Callable[[], Collection[str]],
        roots: Callable[[], Collection[str]],
    ) -> None:
        self._signer = signer
        self._lifetime = lifetime
        self._users = users
        self._roots = roots
        self._new_users: set[str] = set()
        self._new_roots: set[str] = set()
        self._wake = asyncio.Event()

    def user_came(self, user: str) -> None:
        """A subscriber of this user is there: it gets all."""
        self._new_users.add(user)
        self._wake.set()

    def root_came(self, root: str) -> None:
        """A root is there: all subscribers get its token."""
        self._new_roots.add(root)
        self._wake.set()

    def everyone(self) -> None:
        """The bus is there (again), or half of the lifetime has passed: all get all."""
        for user in self._users():
            self.user_came(user)

    async def hand_out(self, bus: Publishes) -> None:
        """Do it, for ever."""
        renewal = time.monotonic() + self._lifetime / 2
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, renewal - time.monotonic())):
                    await self._wake.wait()
            started = time.monotonic()
            if started >= renewal:
                renewal = started + self._lifetime / 2
                self.everyone()
            self._wake.clear()
            await self._round(bus)
            await asyncio.sleep(max(_PAUSE, _SHARE * (time.monotonic() - started)))

    async def _round(self, bus: Publishes) -> None:
        users, roots = self._new_users, self._new_roots
        self._new_users, self._new_roots = set(), set()
        present = self._users()
        try:
            for user in sorted(present):
                await self._grant(bus, user, sorted(self._roots() if user in users else roots))
        except (BusError, TimeoutError) as error:
            # Who is there when the bus is back says so, and is handed all.
            logger.debug("tokens were not handed out: %s", error)

    async def _grant(self, bus: Publishes, user: str, roots: Sequence[str]) -> None:
        for batch in _batched(roots, _BATCH):
            expires = time.time() + self._lifetime
            tokens = await asyncio.to_thread(self._issue, user, batch)
            await bus.publish(TokenGrant(user=user or ANONYMOUS, tokens=tokens, expires=expires))

    def _issue(self, user: str, roots: Sequence[str]) -> dict[str, str]:
        return {root: self._signer.issue(user, root, self._lifetime) for root in roots}


def _batched(roots: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(roots), size):
        yield roots[start : start + size]
