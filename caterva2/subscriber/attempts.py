"""Slowing down who tries out passwords.

Each failed login costs a point of three accounts: of the user from this address, of the address, and of the user from
anywhere. Points come back with time; where none is left, further attempts are refused without a look, right or wrong.
The counts are in memory, of each process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Final

from caterva2.errors import TooManyAttemptsError

# Addresses and users that are remembered; those that tried longest ago are forgotten first.
_MOST: Final = 100_000
# Bits of an IPv6 address that one household is given the rest of.
_NETWORK: Final = 64


@dataclass(frozen=True, slots=True)
class Allowance:
    """How often somebody may fail.

    Attributes:
        burst: times at once.
        every: seconds after which one more is allowed.
    """

    burst: int
    every: float


_USER_FROM_ADDRESS: Final = Allowance(5, 30.0)
_ADDRESS: Final = Allowance(30, 10.0)
_USER: Final = Allowance(100, 10.0)
_REGISTRATION: Final = Allowance(10, 60.0)
_RESET: Final = Allowance(3, 600.0)


class Attempts:
    """Counts failed logins, and registrations.

    Args:
        clock: seconds, from anywhere.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When all points are there again.
        self._full: OrderedDict[str, float] = OrderedDict()

    def login(self, user: str, address: str) -> None:
        """Count a login as failed before it is looked at, so that many at once count too; see `succeeded`.

        Args:
            user: the name given, whether there is such a user or not.
            address: where it comes from; "" is not known.

        Raises:
            TooManyAttemptsError: if there were too many.
        """
        self._spend(list(_accounts(user, address)))

    def succeeded(self, user: str, address: str) -> None:
        """Take back what `login` counted, since the password was right."""
        for key, allowance in _accounts(user, address):
            if key in self._full:
                self._full[key] -= allowance.every

    def registration(self, address: str) -> None:
        """Count a registration.

        Raises:
            TooManyAttemptsError: if there were too many.
        """
        self._spend([(f"register {_network(address)}", _REGISTRATION)])

    def reset(self, user: str, address: str) -> None:
        """Count a question for another password, or a try at the answer.

        Raises:
            TooManyAttemptsError: if there were too many.
        """
        named = [(f"reset {user.strip().casefold()[:256]}", _RESET)] if user else []
        self._spend([(f"resets {_network(address)}", _REGISTRATION), *named])

    def _spend(self, accounts: list[tuple[str, Allowance]]) -> None:
        now = self._clock()
        wait = max(self._full.get(key, now) - now - (each.burst - 1) * each.every for key, each in accounts)
        if wait > 0:
            raise TooManyAttemptsError(f"too many attempts: try again in {ceil(wait)} s", ceil(wait))
        for key, allowance in accounts:
            self._full[key] = max(self._full.get(key, now), now) + allowance.every
            self._full.move_to_end(key)
        while len(self._full) > _MOST:
            self._full.popitem(last=False)


def _accounts(user: str, address: str) -> Iterator[tuple[str, Allowance]]:
    name, network = user.strip().casefold()[:256], _network(address)
    yield f"user {name}", _USER
    if network:
        yield f"address {network}", _ADDRESS
    yield f"both {network} {name}", _USER_FROM_ADDRESS


def _network(address: str) -> str:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:256]
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or int(found) >> (128 - _NETWORK))
    return str(found)
