"""Background tasks with a name, an owner and a defined answer to their crash."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from starlette.applications import Starlette

logger = logging.getLogger(__name__)


class Supervisor:
    """Owns the background tasks of a daemon; leaving the context cancels them and waits for their end.

    A task may return. A task that raises is logged once, and `on_crash` is called with the error: the runner
    ends the process then, since a daemon that lost a part of itself but still answers 200 helps nobody.

    Args:
        on_crash: called once for each crash.
    """

    def __init__(self, on_crash: Callable[[BaseException], None] | None = None) -> None:
        self._on_crash = on_crash
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def of(cls, app: Starlette) -> Self:
        """Make the supervisor of an app, whose crashes end the server that runs it."""
        return cls(getattr(app.state, "on_crash", None))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = self._tasks[::-1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` in a task of this name."""
        task = asyncio.create_task(self._guarded(work, name), name=name)
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception as error:
            logger.critical("background task %r crashed", name, exc_info=error)
            if self._on_crash is not None:
                self._on_crash(error)
