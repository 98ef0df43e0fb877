"""Who comes in, as whom, and what the broker hears of it."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from bus.access import Access, Credentials, Member
from bus.topics import Topics
from caterva2.broker import passwords as passwords_module
from caterva2.broker.access import BrokerAccess
from caterva2.broker.passwords import Passwords
from caterva2.broker.registry import Registry
from caterva2.broker.users import User, fits
from tests.support.users import quick_user

TOPICS = Topics()
PIA = quick_user("pia", "publisher", ("foo", "lab-*"), "pia's")
SUE = quick_user("sue", "subscriber", (), "sue's")
USERS = {"pia": PIA, "sue": SUE}


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """Checks passwords."""
    with Passwords() as made:
        yield made


def access(passwords: Passwords, registry: Registry | None = None, **options: Any) -> BrokerAccess:
    """The rules, with two users."""
    return BrokerAccess(TOPICS, registry or Registry(), passwords, **{"users": USERS, **options})


def credentials(**shown: Any) -> Credentials:
    """What a client on another machine shows."""
    values = {"client_id": "c", "username": None, "password": None, "peer": "192.0.2.7:5", "host": "192.0.2.7"}
    return Credentials(**{**values, "local": False, **shown})


def admit(access: Access, **shown: Any) -> Member | None:
    """Let a client in, or not."""
    return asyncio.run(access.admit(credentials(**shown)))


@pytest.mark.parametrize(
    ("shown", "member"),
    [
        ({"username": "pia", "password": b"pia's"}, Member("pia", "publisher")),
        ({"username": "sue", "password": b"sue's"}, Member("sue", "subscriber")),
        ({"username": "pia", "password": b"sue's"}, None),
        ({"username": "pia", "password": b""}, None),
        ({"username": "pia"}, None),
        ({"username": "bob", "password": b"pia's"}, None),
        ({"username": "anonymous", "password": b""}, None),
        ({"username": "pia", "password": b"wrong", "local": True}, None),
        ({"username": "bob", "password": b"x", "local": True}, None),
        ({"certificate": "sue"}, Member("sue", "subscriber")),
        ({"certificate": "sue", "username": "sue"}, Member("sue", "subscriber")),
        ({"certificate": "sue", "username": "pia"}, None),
        ({"certificate": "sue", "username": "pia", "password": b"pia's"}, Member("pia", "publisher")),
        ({"certificate": "sue", "username": "sue", "password": b"wrong"}, None),
        ({"certificate": "bob"}, None),
        ({"certificate": "bob", "local": True}, Member("", "anonymous")),
        ({"certificate": ""}, None),
        ({}, None),
        ({"local": True}, Member("", "anonymous")),
        ({"username": "", "local": True}, Member("", "anonymous")),
    ],
)
def test_admit(passwords: Passwords, shown: dict[str, Any], member: Member | None) -> None:
    """Name and password, or a certificate, make a user; nothing makes an anonymous one, on this machine."""
    assert member == admit(access(passwords), **shown)


@pytest.mark.parametrize(
    ("anonymous", "local", "expected"),
    [
        (None, True, True),
        (None, False, False),
        (True, True, True),
        (True, False, True),
        (False, True, False),
        (False, False, False),
    ],
)
@pytest.mark.parametrize("users", [USERS, {}])
def test_anonymous(passwords: Passwords, anonymous: Any, local: Any, expected: Any, users: Any) -> None:
    """Clients without a name come in as the setting says, with users or without."""
    made = access(passwords, anonymous=anonymous, users=users)

    assert expected == (admit(made, local=local) is not None)


def test_a_refusal_says_who_and_why(passwords: Passwords, caplog: pytest.LogCaptureFixture) -> None:
    """The log tells a wrong password from an unknown user; what a client calls itself is bounded there."""
    caplog.set_level(logging.DEBUG, "caterva2.broker.access")
    made = access(passwords)
    admit(made, username="pia", password=b"x")
    admit(made, username="b" * 1000, password=b"x", client_id="c" * 1000)
    admit(made)

    assert "client 'c' at 192.0.2.7:5 is refused: wrong password of pia" == caplog.messages[0]
    assert "no user 'bbb" in caplog.messages[1]
    assert len(caplog.messages[1]) < 300
    assert "only clients on this machine" in caplog.messages[2]


def test_a_right_password_is_hashed_once(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm of logins of one user costs two hashes at most, and later ones none; a wrong one always costs one."""
    hashed: list[bytes] = []

    def counted(user: User, password: bytes) -> bool:
        hashed.append(password)
        return fits(user, password)

    monkeypatch.setattr(passwords_module, "fits", counted)
    made = access(passwords)

    async def storm() -> list[Member | None]:
        shown = credentials(username="pia", password=b"pia's")
        return await asyncio.gather(*(made.admit(shown) for _ in range(100)))

    assert [Member("pia", "publisher")] * 100 == asyncio.run(storm())
    assert len(hashed) <= 2
    hashed.clear()
    for name, password in (("pia", b"pia's"), ("pia", b"x"), ("bob", b"x"), ("bob", b"pia's"), ("sue", b"pia's")):
        admit(made, username=name, password=password)
    assert [b"x", b"x", b"pia's", b"pia's"] == hashed


def test_a_changed_password_is_asked_for_again(passwords: Passwords) -> None:
    """What was right once does not outlive the change of the user."""
    made = access(passwords)
    assert admit(made, username="sue", password=b"sue's")
    made.replace({"sue": quick_user("sue", "subscriber", (), "new")})

    assert admit(made, username="sue", password=b"sue's") is None
    assert admit(made, username="sue", password=b"new")


def test_removed_while_it_was_checked(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who is removed while the password is hashed does not come in."""
    made = access(passwords)

    def slow(user: User, password: bytes) -> bool:
        made.replace({})
        return fits(user, password)

    monkeypatch.setattr(passwords_module, "fits", slow)

    assert admit(made, username="pia", password=b"pia's") is None


def test_whom_a_change_concerns(passwords: Passwords) -> None:
    """Those who are gone or changed are named; new ones and the others are not."""
    made = access(passwords)
    other = PIA.model_copy(update={"roots": ("bar",)})

    assert set() == made.outdated({**USERS, "new": quick_user("new", "admin", (), "x")})
    assert {"pia"} == made.outdated({"pia": other, "sue": SUE})
    assert {"pia", "sue"} == made.outdated({})


def test_the_first_owner_keeps_a_root(passwords: Passwords, caplog: pytest.LogCaptureFixture) -> None:
    """The first user who may announce a root owns it, until it is released; only then another gets it."""
    caplog.set_level(logging.INFO)
    claims: list[int] = []
    registry = Registry()
    users = {"pia": PIA, "pat": quick_user("pat", "publisher", ("*",), "x"), "sue": SUE}
    made = access(passwords, registry, users=users)
    made.on_claim = lambda: claims.append(1)
    pia, pat, anonymous = Member("pia", "publisher"), Member("pat", "publisher"), Member("", "anonymous")

    assert made.may_publish(anonymous, "caterva2/root/foo") is None
    assert registry.owner("foo") is None
    assert made.may_publish(pia, "caterva2/change/foo") is None
    assert registry.owner("foo") is None
    assert made.may_publish(pia, "caterva2/root/foo") is None
    assert ("pia", [1]) == (registry.owner("foo"), claims)
    for member in (pat, anonymous):
        for topic in ("caterva2/root/foo", "caterva2/change/foo"):
            assert "root foo belongs to pia" in str(made.may_publish(member, topic))
    assert made.may_publish(pia, "caterva2/root/foo") is None
    assert [1] == claims
    registry.release("foo")
    assert made.may_publish(pat, "caterva2/root/foo") is None
    assert registry.owner("foo") == "pat"
    assert ["root foo belongs to pia from now on", "root foo belongs to pat from now on"] == caplog.messages


def test_a_refused_announcement_makes_no_owner(passwords: Passwords) -> None:
    """Who may not announce a root does not get it."""
    registry = Registry()
    made = access(passwords, registry)

    assert made.may_publish(Member("pia", "publisher"), "caterva2/root/bar")
    assert made.may_publish(Member("sue", "subscriber"), "caterva2/root/foo")
    assert {} == registry.owners()


def test_owners_are_bounded(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who claims names without end is refused in the end."""
    monkeypatch.setattr("caterva2.broker.registry.MAX_ENTRIES", 100)
    registry = Registry()
    for n in range(100):
        assert registry.claim(f"r{n}", "pat")

    assert "too many" in str(access(passwords, registry).may_publish(Member("pia", "publisher"), "caterva2/root/foo"))


def test_a_removed_user_may_nothing(passwords: Passwords) -> None:
    """Between the change of the file and the end of its connection a removed user writes nothing."""
    made = access(passwords)
    made.replace({})

    assert made.may_publish(Member("pia", "publisher"), "caterva2/root/foo")
    assert not made.may_receive(Member("sue", "subscriber"), "caterva2/token/sue")


@pytest.mark.parametrize(
    ("topic", "guarded"),
    [
        ("caterva2/root/foo", False),
        ("caterva2/change/foo", False),
        ("caterva2/service/publisher/foo", False),
        ("caterva2/token/sue", True),
        ("caterva2/other", True),
        ("caterva2", True),
        ("x", True),
        ("$SYS/broker/clients", True),
    ],
)
def test_guarded(passwords: Passwords, topic: str, guarded: Any) -> None:
    """Only what is not for all readers is asked about at each delivery."""
    assert guarded == access(passwords).guarded(topic)
