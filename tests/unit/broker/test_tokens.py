"""Who is handed which tokens, and when."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import pytest

from bus.errors import BusUnavailableError
from bus.messages import MAX_PAYLOAD, TokenGrant, encode
from caterva2.broker import tokens as tokens_module
from caterva2.broker.tokens import Grants
from tests.support.waiting import wait_until_async


class FakeSigner:
    """Makes tokens that say what they are for."""

    def __init__(self, padding: int = 0) -> None:
        self.issued: list[tuple[str, str]] = []
        self._padding = "x" * padding

    def issue(self, user: str, root: str, lifetime: float) -> str:
        self.issued.append((user, root))
        return f"{user}-{root}-{lifetime:g}{self._padding}"


class FakeBus:
    """Collects what is published; fails as often as it is told to."""

    def __init__(self) -> None:
        self.granted: list[TokenGrant] = []
        self.failures = 0

    async def publish(self, message: TokenGrant) -> None:
        if self.failures:
            self.failures -= 1
            raise BusUnavailableError("away")
        self.granted.append(message)

    def tokens(self, user: str) -> list[str]:
        """The roots that a user was handed tokens of, in order."""
        return [root for each in self.granted if each.user == user for root in each.tokens]


class World:
    """Grants among some users and roots."""

    def __init__(self, users: set[str], roots: set[str], lifetime: float = 3600.0, padding: int = 0) -> None:
        self.users, self.roots = users, roots
        self.signer = FakeSigner(padding)
        self.bus = FakeBus()
        self.grants = Grants(self.signer, lifetime, lambda: self.users, lambda: self.roots)

    def play(self, work: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            task = asyncio.create_task(self.grants.hand_out(self.bus))
            try:
                await work()
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

        asyncio.run(main())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter pauses."""
    monkeypatch.setattr(tokens_module, "_PAUSE", 0.01)


def test_a_subscriber_comes() -> None:
    """It is handed the tokens of all roots; nobody else is, and who has no name is called anonymous."""
    world = World({"sue", "", "bob"}, {"foo", "bar"})

    async def work() -> None:
        world.grants.user_came("sue")
        await wait_until_async(lambda: world.bus.granted)
        world.grants.user_came("")
        await wait_until_async(lambda: len(world.bus.granted) > 1)

    world.play(work)

    first, second = world.bus.granted
    assert ("sue", {"foo": "sue-foo-3600", "bar": "sue-bar-3600"}) == (first.user, first.tokens)
    assert 3500 < first.expires - time.time() <= 3600
    assert ("anonymous", {"foo": "-foo-3600", "bar": "-bar-3600"}) == (second.user, second.tokens)


def test_a_root_comes() -> None:
    """All subscribers are handed its token, and that alone."""
    world = World({"sue", "bob"}, {"foo", "bar"})

    async def work() -> None:
        world.grants.root_came("bar")
        await wait_until_async(lambda: len(world.bus.granted) > 1)

    world.play(work)

    assert [("bob", ["bar"]), ("sue", ["bar"])] == [(each.user, list(each.tokens)) for each in world.bus.granted]


def test_who_may_not_have_tokens_gets_none() -> None:
    """A status with a made-up user hands out nothing."""
    world = World({"sue"}, {"foo"})

    async def work() -> None:
        world.grants.user_came("not/a user")
        world.grants.user_came("sue")
        await wait_until_async(lambda: world.bus.granted)

    world.play(work)

    assert ["sue"] == [each.user for each in world.bus.granted]
    assert [("sue", "foo")] == world.signer.issued


def test_renewal() -> None:
    """At half of their lifetime all get all again, though something else happens all the time."""
    world = World({"sue"}, {"foo", "bar"}, lifetime=0.4)

    async def work() -> None:
        world.grants.everyone()

        def renewed() -> bool:
            world.grants.root_came("foo")
            return world.bus.tokens("sue").count("bar") > 2

        await wait_until_async(renewed)

    world.play(work)


def test_many_roots() -> None:
    """Grants stay within the payload limit, with names and tokens as long as can be."""
    roots = {f"{n:03}".ljust(255, "r") for n in range(130)}
    world = World({"u" * 64}, roots, padding=700)

    async def work() -> None:
        world.grants.everyone()
        await wait_until_async(lambda: len(world.bus.tokens("u" * 64)) == len(roots))

    world.play(work)

    assert set(world.bus.tokens("u" * 64)) == roots
    assert max(len(encode(each)) for each in world.bus.granted) <= MAX_PAYLOAD


def test_the_bus_is_away() -> None:
    """What cannot be handed out is not tried again by itself: whoever comes back says so."""
    world = World({"sue"}, {"foo"})
    world.bus.failures = 1

    async def work() -> None:
        world.grants.everyone()
        await wait_until_async(lambda: world.bus.failures == 0)
        world.grants.everyone()
        await wait_until_async(lambda: world.bus.granted)

    world.play(work)

    assert ["foo"] == world.bus.tokens("sue")


def test_a_storm_makes_few_rounds() -> None:
    """A subscriber that says again and again that it is there is signed for once in a pause."""
    world = World({"sue"}, {"foo"})

    async def work() -> None:
        for _ in range(1000):
            world.grants.user_came("sue")
        await wait_until_async(lambda: world.bus.granted)

    world.play(work)

    assert 1 == len(world.signer.issued)
