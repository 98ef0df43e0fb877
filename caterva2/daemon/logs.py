"""Logging of a daemon: one line a record, on stderr."""

from __future__ import annotations

import asyncio
import logging
import traceback
from types import TracebackType

# Libraries that tell at "info" what is of interest only to who looks for a fault.
_TALKATIVE = ("uvicorn.error", "httpx", "httpcore", "amqtt", "transitions", "asyncio", "aiohttp")
_MAX_FRAMES = 8

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class OneLine(logging.Formatter):
    """Formats a record as one line; of a traceback it keeps the error and where it came from, innermost first."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Format and join what would be several lines."""
        return " | ".join(line.rstrip() for line in super().format(record).splitlines() if line.strip())

    def formatException(self, ei: _ExcInfo) -> str:
        """Show the error and the frames that it passed."""
        frames = traceback.extract_tb(ei[2])[::-1][:_MAX_FRAMES]
        where = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
        return f"{''.join(traceback.format_exception_only(ei[0], ei[1])).strip()} ({where})"


def configure_logging(level: str) -> None:
    """Log to stderr what is at least of this level; libraries only from warnings on, except at debug."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    least = logging.DEBUG if level == "debug" else max(logging.WARNING, logging.getLevelName(level.upper()))
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(least)
    logging.getLogger("uvicorn.error").addFilter(_worth_telling)


def _worth_telling(record: logging.LogRecord) -> bool:
    # At shutdown uvicorn complains of streams that it cancels because they never end: they are meant to.
    cancelled = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cancelled and "timeout graceful shutdown exceeded" not in str(record.msg)
