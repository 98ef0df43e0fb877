"""Waiting for a condition, with a deadline and without luck."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_PAUSE = 0.02


def wait_until(condition: Callable[[], T], what: str = "", timeout: float = 20.0) -> T:
    """Return the first true value of `condition`; an exception counts as "not yet".

    Args:
        condition: called again and again.
        what: what is waited for, for the error.
        timeout: seconds.

    Raises:
        AssertionError: if nothing true came in time; it names the last value or exception.
    """
    end = time.monotonic() + timeout
    while True:
        last, value = _tried(condition)
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what or condition} did not happen within {timeout} s; last: {last!r}")
        time.sleep(_PAUSE)


async def wait_until_async(condition: Callable[[], T], what: str = "", timeout: float = 20.0) -> T:
    """As `wait_until`, inside an event loop that goes on meanwhile."""
    end = time.monotonic() + timeout
    while True:
        last, value = _tried(condition)
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what or condition} did not happen within {timeout} s; last: {last!r}")
        await asyncio.sleep(_PAUSE)


def _tried(condition: Callable[[], T]) -> tuple[object, T | None]:
    try:
        value = condition()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again and shown at the end
        return error, None
    return value, value
