"""Slowing down who tries out passwords."""

import pytest

from caterva2.errors import TooManyAttemptsError
from caterva2.subscriber import attempts as module
from caterva2.subscriber.attempts import Attempts


class Clock:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_user_from_an_address() -> None:
    """After five failures a user is refused from there, and one attempt comes back each half minute."""
    clock = Clock()
    attempts = Attempts(clock)
    for name in ("me@x.org", "ME@x.org", " me@x.org") + ("me@x.org",) * 2:
        attempts.login(name, "1.2.3.4")

    with pytest.raises(TooManyAttemptsError, match="in 30 s") as refused:
        attempts.login("me@x.org", "1.2.3.4")
    assert 30 == refused.value.retry_after
    attempts.login("me@x.org", "1.2.3.5")
    attempts.login("you@x.org", "1.2.3.4")
    clock.now += 30
    attempts.login("me@x.org", "1.2.3.4")
    with pytest.raises(TooManyAttemptsError):
        attempts.login("me@x.org", "1.2.3.4")


def test_success_costs_nothing() -> None:
    """Who knows the password may come as often as is wanted."""
    attempts = Attempts(Clock())
    for _ in range(200):
        attempts.login("me@x.org", "1.2.3.4")
        attempts.succeeded("me@x.org", "1.2.3.4")
    for _ in range(5):
        attempts.login("me@x.org", "1.2.3.4")


@pytest.mark.parametrize(
    ("addresses", "most"),
    [(["1.2.3.4"], 30), (["2001:db8::1", "2001:db8::2"], 30), (["::ffff:1.2.3.4", "1.2.3.4"], 30), ([""], 1000)],
)
def test_an_address(addresses: list[str], most: int) -> None:
    """An address, or a network of IPv6, may fail only so often with all users; one that is not known is not counted."""
    attempts = Attempts(Clock())
    done = 0
    with pytest.raises(TooManyAttemptsError) if most < 1000 else pytest.raises(StopIteration):
        for n in range(1000):
            attempts.login(f"user{n}@x.org", addresses[n % len(addresses)])
            done += 1
        raise StopIteration

    assert most == done


def test_a_user_from_anywhere() -> None:
    """A user is not tried out from a hundred addresses either."""
    attempts = Attempts(Clock())
    for n in range(100):
        attempts.login("me@x.org", f"10.0.0.{n}")

    with pytest.raises(TooManyAttemptsError):
        attempts.login("me@x.org", "10.0.1.1")


def test_registrations() -> None:
    """From one address only so many accounts are made."""
    attempts = Attempts(Clock())
    for _ in range(10):
        attempts.registration("1.2.3.4")

    with pytest.raises(TooManyAttemptsError):
        attempts.registration("1.2.3.4")
    attempts.registration("1.2.3.5")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so much is remembered, and what is tried out now stays."""
    monkeypatch.setattr(module, "_MOST", 50)
    attempts = Attempts(Clock())
    for n in range(5):
        attempts.login("me@x.org", "1.2.3.4")
        for m in range(10):
            attempts.registration(f"10.{n}.0.{m}")

    assert len(attempts._full) <= 50
    with pytest.raises(TooManyAttemptsError):
        attempts.login("me@x.org", "1.2.3.4")
