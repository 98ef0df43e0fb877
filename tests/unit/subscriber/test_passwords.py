"""Hashing and checking passwords."""

import argon2
import pytest
from anyio.from_thread import start_blocking_portal

from caterva2.errors import BadRequestError, UnavailableError
from caterva2.subscriber import passwords as module
from caterva2.subscriber.passwords import Passwords, check_new_password

QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def test_there_and_back() -> None:
    """A password fits its hash, another one does not, and none fits a user who is not there."""
    with start_blocking_portal() as portal, Passwords(QUICK) as passwords:
        hashed = portal.call(passwords.hash, "pass wörd")

        assert hashed.startswith("$argon2id$")
        assert portal.call(passwords.check, hashed, "pass wörd")
        assert not portal.call(passwords.check, hashed, "pass word")
        assert not portal.call(passwords.check, hashed, "pass wörd" * 1000)
        assert not portal.call(passwords.check, None, "pass wörd")
        assert not portal.call(passwords.check, "damaged", "pass wörd")


def test_an_unknown_user_costs_as_much() -> None:
    """What is checked for a user who is not there has the cost of a real hash."""
    with Passwords() as passwords:
        unknown = argon2.extract_parameters(passwords._nobody)

    assert unknown == argon2.extract_parameters(argon2.PasswordHasher().hash("x"))


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025, "\ud800" * 8])
def test_no_password(password: str) -> None:
    """A password has 8 characters at least, and is not repeated in the error."""
    with pytest.raises(BadRequestError) as refused:
        check_new_password(password)
    assert not password or password not in str(refused.value)
    assert "12345678" == check_new_password("12345678")


def test_not_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """When many wait already, further ones are told to come again."""
    monkeypatch.setattr(module, "_MOST_WAITING", 0)
    with (
        start_blocking_portal() as portal,
        Passwords(QUICK) as passwords,
        pytest.raises(UnavailableError, match="try again"),
    ):
        portal.call(passwords.check, None, "x")
