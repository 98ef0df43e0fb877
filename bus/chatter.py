"""Log lines that strangers can cause as often as they like, within reason."""

import logging
import time
from collections.abc import Callable
from typing import Final

_LINES: Final = 20
_SECONDS: Final = 1.0


class Chatter:
    """Logs so many lines in so many seconds, and how many it left out.

    Args:
        logger: where to.
        lines: how many in `seconds`.
        seconds: the time that they are for.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        logger: logging.Logger,
        lines: int = _LINES,
        seconds: float = _SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._lines = lines
        self._seconds = seconds
        self._clock = clock
        self._since = clock()
        self._logged = 0
        self._left_out = 0

    def log(self, level: int, line: str, *args: object) -> None:
        """Log a line, unless there were enough of them lately."""
        if not self._logger.isEnabledFor(level):
            return
        now = self._clock()
        if now - self._since > self._seconds:
            self.flush()
            self._since, self._logged = now, 0
        if self._logged < self._lines:
            self._logged += 1
            self._logger.log(level, line, *args)
        else:
            self._left_out += 1

    def flush(self) -> None:
        """Say how many lines were left out, if any."""
        if self._left_out:
            self._logger.warning("%d more lines like these were left out", self._left_out)
            self._left_out = 0
