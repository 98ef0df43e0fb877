"""Work one step ahead of what is taken, in a thread or in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

_Result = TypeVar("_Result")


async def ahead(
    step: Callable[[], _Result | None], limiter: CapacityLimiter | None = None
) -> AsyncGenerator[_Result, None]:
    """Call `step` in a thread until it returns None, each time while the caller still has the result before.

    When the caller stops early, or a step raises, no step is left running.
    """
    running = _start(step, limiter)
    try:
        while (result := await running) is not None:
            running = _start(step, limiter)
            yield result
    finally:
        # The thread uses what the caller is about to close; it takes milliseconds.
        if not running.done():
            await asyncio.wait({running})
        if not running.cancelled():
            running.exception()


def _start(step: Callable[[], _Result | None], limiter: CapacityLimiter | None) -> asyncio.Task[_Result | None]:
    return asyncio.create_task(to_thread.run_sync(step, limiter=limiter), name="reading ahead")


async def ahead_of(step: Callable[[], Coroutine[Any, Any, _Result | None]]) -> AsyncGenerator[_Result, None]:
    """Do as `ahead` with a coroutine, which is cancelled when the caller stops early."""
    running = asyncio.create_task(step(), name="going ahead")
    try:
        while (result := await running) is not None:
            running = asyncio.create_task(step(), name="going ahead")
            yield result
    finally:
        running.cancel()
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()
