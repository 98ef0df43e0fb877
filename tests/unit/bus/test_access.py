import asyncio

from bus.access import Credentials, Member, OpenAccess


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
