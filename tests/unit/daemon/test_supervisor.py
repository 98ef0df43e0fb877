"""Background tasks: their crash is told, their end is waited for."""

import asyncio
import logging

import pytest
from starlette.applications import Starlette

from caterva2.daemon.supervisor import Supervisor


async def crash() -> None:
    """Crash."""
    raise RuntimeError("boom")


def test_crash_is_logged_once_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """A task that raises is logged with its name, and the owner hears of it."""
    crashes: list[BaseException] = []

    async def main() -> None:
        async with Supervisor(crashes.append) as tasks:
            await tasks.start(crash(), "the task")

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(main())

    assert ["boom"] == [str(error) for error in crashes]
    assert ["background task 'the task' crashed"] == [record.getMessage() for record in caplog.records]


def test_leaving_cancels_and_waits() -> None:
    """On leaving, tasks are cancelled, and have cleaned up when it returns."""
    log: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            log.append("cleaned up")

    async def main() -> None:
        async with Supervisor(lambda error: log.append(repr(error))) as tasks:
            tasks.start(work(), "work")
            await asyncio.sleep(0)
        log.append("left")

    asyncio.run(main())

    assert ["cleaned up", "left"] == log


def test_a_task_may_end() -> None:
    """A task that returns is done, and is no crash."""
    crashes: list[BaseException] = []

    async def work() -> None:
        """Return."""

    async def main() -> str:
        async with Supervisor(crashes.append) as tasks:
            task = tasks.start(work(), "short")
            await task
            return task.get_name()

    assert asyncio.run(main()) == "short"
    assert crashes == []


def test_crash_of_an_app_reaches_its_runner() -> None:
    """The supervisor of an app calls what the runner left in the app's state."""
    app, crashes = Starlette(), list[BaseException]()
    app.state.on_crash = crashes.append

    async def main() -> None:
        async with Supervisor.of(app) as tasks:
            await tasks.start(crash(), "task")

    asyncio.run(main())

    assert ["boom"] == [str(error) for error in crashes]
