"""The tokens that are shown to publishers: granted by the broker over the bus, or fixed in the settings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from bus.messages import TokenGrant

_FIRST_GRANT: Final = 3.0
"""Seconds that a request which was refused waits for a token; the broker grants it when it sees us, or the root."""


class Grants:
    """What may be shown, by root.

    Args:
        fixed: the tokens of the settings.
    """

    def __init__(self, fixed: Mapping[str, str] | None = None) -> None:
        self._fixed = dict(fixed or {})
        self._granted: dict[str, tuple[str, float]] = {}
        self._news = asyncio.Event()
        self._in_vain: set[str] = set()

    def take(self, grant: TokenGrant) -> None:
        """Use these tokens from now on."""
        for root, token in grant.tokens.items():
            self._granted[root] = token, grant.expires
            self._in_vain.discard(root)
        self._news.set()
        self._news = asyncio.Event()

    def token(self, root: str, tried: Collection[str | None] = ()) -> str | None:
        """The best token for a root that was not tried yet; None if there is none."""
        return next((token for token in self._tokens(root) if token not in tried), None)

    async def another(self, root: str, tried: Collection[str | None]) -> str | None:
        """The next token to try after others were refused; waits a little for one on its way.

        Having waited in vain once, it does so again only after a grant for this root has come.
        """
        token = self.token(root, tried)
        if token is not None or root in self._in_vain:
            return token
        end = time.monotonic() + _FIRST_GRANT
        while token is None and (left := end - time.monotonic()) > 0:
            await self.news(left)
            token = self.token(root, tried)
        if token is None:
            self._in_vain.add(root)
        return token

    async def news(self, timeout: float) -> None:
        """Return when something is granted, at the latest after so many seconds."""
        news = self._news
        try:
            async with asyncio.timeout(timeout):
                await news.wait()
        except TimeoutError:
            pass

    def _tokens(self, root: str) -> Iterator[str]:
        granted, expires = self._granted.get(root, ("", 0.0))
        fixed = self._fixed.get(root, "")
        # One that has expired by our clock comes last: the clock may be wrong.
        pair = (granted, fixed) if expires > time.time() else (fixed, granted)
        return filter(None, pair)
