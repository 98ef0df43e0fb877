"""Goes by the users file while the daemon runs: notices a change, and sends away whom it concerns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from bus.access import Member
from caterva2.broker.access import BrokerAccess
from caterva2.broker.users import fingerprint, read_users
from caterva2.errors import SettingsError

logger = logging.getLogger(__name__)
_TICK: Final = 0.5
"""Seconds between two looks at the file."""


class Cuts(Protocol):
    """A broker that ends connections."""

    def cut(self, predicate: Callable[[Member], bool], reason: str) -> int:
        """End the connections of members; how many they were."""


class UserWatch:
    """Keeps the rules at the present users.

    Args:
        file: the users file.
        access: the rules.

    Raises:
        SettingsError: if the file cannot be used.
    """

    def __init__(self, file: Path, access: BrokerAccess) -> None:
        self._file = file
        self._access = access
        self._broker: Cuts | None = None
        self._seen = fingerprint(file)
        access.replace(read_users(file))

    def serve(self, broker: Cuts | None) -> None:
        """Have connections ended there, from now on."""
        self._broker = broker

    def reload(self) -> None:
        """Read the file again; if it cannot be used, that is logged, and the users stay as they are."""
        self._seen = fingerprint(self._file)
        try:
            users = read_users(self._file)
        except SettingsError as error:
            logger.error("the users stay as they are: %s", error)
            return
        outdated = self._access.outdated(users)
        if outdated and self._broker is not None:
            # Before the rules change, so that the last wills of those who go are heard.
            self._broker.cut(lambda member: member.name in outdated, "its user was changed or removed")
        self._access.replace(users)
        logger.info("users are read again from %s: %d, of whom %d have changed", self._file, len(users), len(outdated))

    async def watch(self) -> None:
        """Read the file again whenever it has changed, for ever."""
        while True:
            await asyncio.sleep(_TICK)
            if fingerprint(self._file) != self._seen:
                self.reload()
