"""Users of a broker whose passwords take a millisecond to check, where real ones take a hundred."""

from typing import Literal

import argon2

from caterva2.broker.users import User

_HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def quick_user(
    name: str, role: Literal["publisher", "subscriber", "observer", "admin"], roots: tuple[str, ...], password: str
) -> User:
    """Make a user."""
    return User(name=name, role=role, roots=roots, password=_HASHER.hash(password))
