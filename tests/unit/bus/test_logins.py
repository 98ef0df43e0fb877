import asyncio

import pytest

from bus.logins import Logins


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def may_try(logins: Logins, host: str) -> bool:
    """Whether an address may try now."""
    async with logins.turn(host) as may:
        return may


@pytest.fixture
def clock() -> Clock:
    """It stands still."""
    return Clock()


@pytest.fixture
def logins(clock: Clock) -> Logins:
    """Three failures in a minute."""
    return Logins(3, clock)


def test_an_address_that_fails_too_often_has_to_wait(logins: Logins, clock: Clock) -> None:
    """For the rest of the minute; others do not."""
    for _ in range(3):
        assert asyncio.run(may_try(logins, "192.0.2.1"))
        logins.failed("192.0.2.1")

    assert not asyncio.run(may_try(logins, "192.0.2.1"))
    assert asyncio.run(may_try(logins, "192.0.2.2"))
    clock.now = 61.0
    assert asyncio.run(may_try(logins, "192.0.2.1"))
    logins.failed("192.0.2.1")
    assert asyncio.run(may_try(logins, "192.0.2.1"))


def test_whoever_succeeds_is_not_counted(logins: Logins) -> None:
    """However many come from one address; and nothing of them is kept."""

    async def all_at_once() -> list[bool]:
        return await asyncio.gather(*(may_try(logins, "192.0.2.1") for _ in range(1000)))

    assert [True] * 1000 == asyncio.run(all_at_once())
    assert {} == logins._addresses


def test_attempts_at_the_same_time_do_not_outrun_the_limit(logins: Logins) -> None:
    """Those that wait for their turn are refused once enough of those before them have failed."""
    tried = 0

    async def fail() -> None:
        nonlocal tried
        async with logins.turn("192.0.2.1") as may:
            if may:
                tried += 1
                await asyncio.sleep(0)
                logins.failed("192.0.2.1")

    async def all_at_once() -> None:
        await asyncio.gather(*(fail() for _ in range(1000)))

    asyncio.run(all_at_once())
    assert tried < 3 + 8


def test_a_cancelled_attempt_leaves_nothing(logins: Logins) -> None:
    """A client that goes while it waits takes no turn away."""

    async def scenario() -> None:
        hold = asyncio.Event()

        async def wait() -> None:
            async with logins.turn("192.0.2.1"):
                await hold.wait()

        tasks = [asyncio.create_task(wait()) for _ in range(50)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await asyncio.wait_for(may_try(logins, "192.0.2.1"), 1)

    asyncio.run(scenario())
    assert {} == logins._addresses


def test_an_ipv6_network_is_one_address(logins: Logins) -> None:
    """A host has 2^64 of them; the loopback one is for itself, and our own process has none."""
    for number in range(3):
        logins.failed(f"2001:db8::{number}")
        logins.failed("")

    assert not asyncio.run(may_try(logins, "2001:db8::ffff"))
    assert asyncio.run(may_try(logins, "2001:db8:0:1::"))
    assert asyncio.run(may_try(logins, "::1"))
    assert asyncio.run(may_try(logins, ""))


def test_addresses_are_forgotten(logins: Logins, clock: Clock) -> None:
    """An attack from everywhere costs little memory."""
    for number in range(40_000):
        clock.now += 0.0001
        logins.failed(f"host-{number}")

    assert len(logins._addresses) <= 10_000
