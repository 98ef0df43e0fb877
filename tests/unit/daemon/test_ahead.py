"""caterva2.daemon.ahead: one step ahead of what is taken, and nothing left running."""

import asyncio
import time
from collections.abc import Callable, Iterable

import pytest
from anyio import CapacityLimiter

from caterva2.daemon.ahead import ahead, ahead_of
from caterva2.errors import VersionChangedError


def each(read: Callable[[int], int], numbers: Iterable[int]) -> Callable[[], int | None]:
    """A step that reads the next number."""
    answers = map(read, numbers)
    return lambda: next(answers, None)


def test_reading_goes_one_piece_ahead_and_no_further() -> None:
    """While the caller has one piece the next is read, never more; the end waits for what is being read."""

    async def scenario() -> None:
        started: list[int] = []
        ended: list[int] = []

        def read(n: int) -> int:
            started.append(n)
            time.sleep(0.02)
            ended.append(n)
            return n

        found = ahead(each(read, range(6)), CapacityLimiter(4))
        got = [await anext(found), await anext(found)]
        await asyncio.sleep(0.1)
        assert ([0, 1], [0, 1, 2]) == (got, started)
        assert 2 == await anext(found)
        await found.aclose()

        assert started == ended

    asyncio.run(scenario())


def test_reading_ahead_gives_everything_in_order_and_errors_where_they_happen() -> None:
    """All pieces come in order; an error comes after the pieces before it."""

    async def scenario() -> None:
        def read(n: int) -> int:
            if n == 3:
                raise VersionChangedError("changed")
            return n

        assert [0, 1, 2] == [n async for n in ahead(each(read, range(3)), CapacityLimiter(1))]
        assert [] == [n async for n in ahead(each(read, range(0)))]
        found = ahead(each(read, range(9)), CapacityLimiter(2))
        assert [0, 1, 2] == [await anext(found) for _ in range(3)]
        with pytest.raises(VersionChangedError):
            await anext(found)

    asyncio.run(scenario())


def test_a_coroutine_goes_ahead_too() -> None:
    """Of coroutines the next one runs while the caller has a result; it is cancelled when the caller stops."""

    async def scenario() -> None:
        started: list[int] = []
        ended: list[int] = []

        async def step() -> int | None:
            started.append(len(started))
            await asyncio.sleep(0 if len(started) < 3 else 60)
            ended.append(1)
            return len(started)

        found = ahead_of(step)
        assert 1 == await anext(found)
        await asyncio.sleep(0)
        assert [0, 1] == started
        assert 2 == await anext(found)
        await found.aclose()

        assert [1, 1] == ended
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())
