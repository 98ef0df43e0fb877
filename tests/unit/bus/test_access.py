import asyncio

import pytest

from bus.access import Credentials, Member, OpenAccess, on_this_machine


def test_open_access_lets_everybody_do_everything() -> None:
    """Under the name that a client gives itself, which nobody has checked."""
    access = OpenAccess()
    named = Credentials("id", "alice", b"secret", "127.0.0.1:1", "127.0.0.1", local=True)
    member = asyncio.run(access.admit(named))

    assert Member("alice", "") == member
    assert access.may_publish(member, "a") is access.may_subscribe(member, "#") is None
    assert (False, True) == (access.guarded("a"), access.may_receive(member, "a"))


def test_a_password_is_not_shown() -> None:
    """Credentials may go to a log or a traceback."""
    shown = repr(Credentials("id", "alice", b"secret", "127.0.0.1:1", "127.0.0.1", local=True))

    assert "alice" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("peer", "own", "local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.9.9.9", "127.0.0.1", True),
        ("::1", "::1", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("192.0.2.2", "192.0.2.1", False),
        ("::ffff:192.0.2.2", "::ffff:192.0.2.1", False),
        ("0.0.0.0", "127.0.0.1", False),  # noqa: S104
        ("", "127.0.0.1", False),
        ("localhost", "localhost", False),
    ],
)
def test_who_is_on_this_machine(peer: str, own: str, *, local: bool) -> None:
    """Loopback, or one of its own addresses; anything that is not an address is far away."""
    assert local == on_this_machine(peer, own)
