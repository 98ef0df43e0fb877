"""Tokens of users: what holds, and what does not."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from caterva2.errors import AuthenticationError
from caterva2.subscriber import sessions as module
from caterva2.subscriber.sessions import Sessions
from caterva2.subscriber.users import FILE, User, UserStore

MAIL = "user@example.com"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[UserStore]:
    """Where users are."""
    with UserStore(tmp_path / FILE) as store:
        yield store


@pytest.fixture
def user(store: UserStore) -> User:
    """A user."""
    return store.add(MAIL, "hash")


def test_a_token_is_its_user(store: UserStore, user: User) -> None:
    """Who logged in is found by the token, remembered, and also known to another process with the same secret."""
    sessions = Sessions("sikrit", store)
    token = sessions.begin(user)

    assert sessions.remembered(token) is None
    assert user.caller == sessions.find(token) == sessions.remembered(token)
    assert user.caller == Sessions("sikrit", store).find(token)
    assert token != sessions.begin(user)


def test_ended_everywhere_at_once(store: UserStore, user: User, tmp_path: Path) -> None:
    """A token that another process ended is nobody's, though it was remembered here."""
    with UserStore(tmp_path / FILE) as other:
        here, there = Sessions("sikrit", store), Sessions("sikrit", other)
        tokens = [here.begin(user) for _ in range(2)]
        for token in [*tokens, *tokens]:
            here.remembered(token)
            here.find(token)
        there.end(tokens[0])

        assert [None, None] == [here.remembered(tokens[0]), here.find(tokens[0])]
        assert user.caller == here.find(tokens[1])
        other.remove(MAIL)
        assert [None, None] == [here.remembered(tokens[1]), here.find(tokens[1])]


def test_expires(store: UserStore, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token holds for its time, remembered or not."""
    monkeypatch.setattr(module, "LIFETIME", 0.05)
    sessions = Sessions("sikrit", store)
    token = sessions.begin(user)
    sessions.remembered(token)
    sessions.find(token)
    end = time.time() + 0.06
    while time.time() < end:
        pass

    assert [None, None] == [sessions.remembered(token), sessions.find(token)]


def forged(sessions: Sessions, token: str, key: Any = None, algorithm: str = "HS256", **changes: Any) -> str:
    """The token with other claims, signed with another key or in another way."""
    claims = jwt.decode(token, options={"verify_signature": False}) | changes
    given = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(given, sessions._key if key is None else key, algorithm)


def test_forged(store: UserStore, user: User) -> None:
    """No token holds that is unsigned, signed otherwise, of another user, without a claim, or made up."""
    sessions = Sessions("sikrit", store)
    token = sessions.begin(user)
    another = store.add("root@example.com", "hash", superuser=True)
    header, body, signature = token.split(".")
    bad = [
        forged(sessions, token, "", "none"),
        forged(sessions, token, b"x" * 32),
        forged(sessions, token, b"sikrit" * 6),
        forged(sessions, token, sessions._key * 2, "HS512"),
        forged(sessions, token, sub=another.id),
        forged(sessions, token, jti="made-up"),
        forged(sessions, token, exp=time.time() - 1),
        *(forged(sessions, token, **{name: None}) for name in ("iss", "sub", "iat", "exp", "jti")),
        forged(sessions, token, iss="cat2bro"),
        forged(sessions, token, jti=["x"]),
        f"{header}.{body}.", f"{header}.{body}", f"{header}.{body[:-2]}.{signature}", token + "x", token * 9,
        "", "junk", "a.b.c", "ü.ü.ü", "..", "\ud800",
    ]  # fmt: skip

    assert [] == [each for each in bad if sessions.find(each) is not None or sessions.remembered(each) is not None]
    assert Sessions("another", store).find(token) is None
    assert user.caller == sessions.find(forged(sessions, token))


def test_changed_meanwhile(store: UserStore, user: User) -> None:
    """A login during which the user was removed does not begin a session."""
    store.remove(MAIL)

    with pytest.raises(AuthenticationError, match="log in again"):
        Sessions("sikrit", store).begin(user)
