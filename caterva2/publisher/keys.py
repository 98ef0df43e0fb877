"""The broker's public keys: in memory, on disk for when the broker is away, and asked for again when they are old."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from anyio import to_thread

from caterva2.daemon.locator import ask_broker
from caterva2.daemon.statedir import StateDir
from caterva2.daemon.tokens import MAX_KEYS, Verifier
from caterva2.models import Model

logger = logging.getLogger(__name__)

KEYS_FILE: Final = "broker-keys.json"
_LEAST_PAUSE: Final = 2.0
"""Seconds between two questions; forged tokens, which make it ask, shall not reach through to the broker."""
_FIRST_TRY: Final = 1.0
_REGULAR: Final = 600.0
"""Seconds after which the broker is asked in any case: a key that it took back counts no longer then."""


class KeptKeys(Model):
    """What is on disk.

    Attributes:
        broker: whose keys these are; those of another one do not count.
        keys: as JWKs.
    """

    broker: str
    keys: tuple[dict[str, Any], ...]


class BrokerKeys:
    """The keys of one broker.

    Args:
        broker: the base of its URLs.
        state: where they are kept; read here.
        tls: which authorities are believed.
    """

    def __init__(self, broker: str, state: StateDir, tls: ssl.SSLContext) -> None:
        self.on_change: Callable[[], None] = lambda: None
        """Called when there are other keys than before."""
        self._broker = broker
        self._state = state
        self._tls = tls
        kept = state.read_json(KEYS_FILE, KeptKeys)
        self._keys = kept.keys if kept is not None and kept.broker == broker else ()
        self._asked = float("-inf")
        self._asking = asyncio.Lock()
        self._complained = False
        self.verifier = Verifier(self._keys)

    async def follow(self) -> None:
        """Ask now, and now and then, for ever."""
        while True:
            answered = await self.refresh()
            await asyncio.sleep(_REGULAR if answered else _FIRST_TRY if not self.verifier else _REGULAR / 20)

    async def refresh(self) -> bool:
        """Ask the broker, unless it was just asked; return whether it has answered.

        Whoever comes while it is being asked waits for that answer.
        """
        waited = self._asking.locked()
        async with self._asking:
            if waited or time.monotonic() < self._asked + _LEAST_PAUSE:
                return not self._complained
            try:
                info = await ask_broker(self._broker, self._tls)
            except ConnectionError as error:
                self._complain(error)
                return False
            finally:
                self._asked = time.monotonic()
            self._complained = False
            if info.keys != self._keys:
                await self._take(info.keys[:MAX_KEYS])
            return True

    async def _take(self, keys: tuple[dict[str, Any], ...]) -> None:
        self._keys, self.verifier = keys, Verifier(keys)
        self.on_change()
        logger.info("tokens of the broker %s are checked with its keys: %d", self._broker, len(keys))
        try:
            await to_thread.run_sync(self._state.write_json, KEYS_FILE, KeptKeys(broker=self._broker, keys=keys))
        except OSError as error:
            logger.warning("the broker's keys cannot be kept for the next start: %s", error)

    def _complain(self, error: ConnectionError) -> None:
        level = logging.DEBUG if self._complained else logging.WARNING
        known = "those of before count" if self.verifier else "until it answers, its tokens are refused"
        logger.log(level, "the broker's keys cannot be asked for (%s): %s", known, error)
        self._complained = True
