"""Slows down who guesses passwords, and nobody else.

Only failures count: a thousand clients behind one address, coming again at once with the right
password, all get in. Attempts of one address take turns, so that a thousand wrong ones that come
at the same time are not all looked at before the first has failed.
"""

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

_WINDOW: Final = 60.0
"""Seconds that failures are counted for."""

_AT_ONCE: Final = 8
"""Attempts of one address at once; to check a password takes a thread and much memory."""

_MAX_ADDRESSES: Final = 10_000


@dataclass(slots=True)
class _Address:
    since: float
    failures: int = 0
    attempts: int = 0
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))


class Logins:
    """The failed logins of the last minute, by address.

    Args:
        limit: how many failures an address has in a minute.
        clock: seconds that only go forward.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._addresses: dict[str, _Address] = {}

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[bool]:
        """Wait for a turn of this address; whether it may try at all."""
        if self._blocked(host):  # without waiting
            yield False
            return
        address = self._addresses.setdefault(_key(host), _Address(self._clock()))
        address.attempts += 1
        try:
            async with address.turns:
                yield not self._blocked(host)
        finally:
            address.attempts -= 1
            if not (address.attempts or address.failures):
                self._addresses.pop(_key(host), None)

    def failed(self, host: str) -> None:
        """Count a failure; never of our own process, which has no address."""
        if not host:
            return
        now = self._clock()
        address = self._addresses.setdefault(_key(host), _Address(now))
        if now - address.since > _WINDOW:
            address.since, address.failures = now, 0
        address.failures += 1
        if len(self._addresses) > _MAX_ADDRESSES:
            self._tidy(now)

    def _blocked(self, host: str) -> bool:
        address = self._addresses.get(_key(host))
        if address is None or self._clock() - address.since > _WINDOW:
            return False
        return address.failures >= self._limit

    def _tidy(self, now: float) -> None:
        """Forget those whose minute is over; when that does not help, whoever is not trying right now."""
        for window in (_WINDOW, -1.0):
            for key, each in list(self._addresses.items()):
                if not each.attempts and now - each.since > window:
                    del self._addresses[key]
            if len(self._addresses) <= _MAX_ADDRESSES // 2:
                return


def _key(host: str) -> str:
    """What counts as one address: of IPv6 the network, since a host has billions of addresses there."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return host
