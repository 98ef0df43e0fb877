"""The store of users: one file for several processes."""

import multiprocessing
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from caterva2.errors import BadRequestError, SettingsError, UnavailableError
from caterva2.subscriber import users
from caterva2.subscriber.users import NoSuchUserError, TooManyUsersError, UserExistsError, UserStore, check_email

MAIL = "user@example.com"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / users.FILE


def test_what_is_added_is_found(file: Path) -> None:
    """A user is there for every process, by the address in any case, and nobody else may read the file."""
    with UserStore(file) as store, UserStore(file) as other:
        added = store.add(MAIL, "hash", superuser=True)

        assert added == other.find("USER@example.com ")
        assert [added] == other.users()
        assert (MAIL, True) == (added.caller.email, added.caller.superuser)
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert "hash" not in repr(added)


def test_one_user_of_an_address(file: Path) -> None:
    """An address belongs to one user, however it is written, also when two processes add it."""
    with UserStore(file) as store, UserStore(file) as other:
        store.add(MAIL, "hash")

        with pytest.raises(UserExistsError, match="User@Example"):
            other.add("User@Example.com", "hash")


def test_no_more_users_than_there_may_be(file: Path) -> None:
    """The number of users is bounded, and an address that is taken is told before that."""
    with UserStore(file) as store:
        store.add(MAIL, "hash", most=1)

        with pytest.raises(TooManyUsersError, match="maxusers"):
            store.add("b@example.com", "hash", most=1)
        with pytest.raises(UserExistsError):
            store.add(MAIL, "hash", most=1)
        assert 1 == store.count()


def test_removed_with_all_sessions(file: Path) -> None:
    """A user who is removed has no session any more, and is never the same again."""
    with UserStore(file) as store:
        first = store.add(MAIL, "hash")
        store.open_session(b"1", first, time.time() + 60)
        assert first == store.remove(MAIL.upper())

        assert store.user_of(b"1") is None
        assert first.id != store.add(MAIL, "hash").id
        assert store.user_of(b"1") is None
        assert not store.open_session(b"2", first, time.time() + 60)
        with pytest.raises(NoSuchUserError):
            store.remove("nobody@example.com")


def test_another_password_ends_all_sessions(file: Path) -> None:
    """With another password old sessions end, and one whose password was checked before does not begin."""
    with UserStore(file) as store:
        before = store.add(MAIL, "hash")
        store.open_session(b"1", before, time.time() + 60)
        store.set_password(MAIL, "another")

        assert store.user_of(b"1") is None
        assert not store.open_session(b"2", before, time.time() + 60)
        with pytest.raises(NoSuchUserError):
            store.set_password("nobody@example.com", "hash")


def test_sessions_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session ends at its time, or when it is ended, and there are only so many of a user."""
    monkeypatch.setattr(users, "_MOST_SESSIONS", 3)
    with UserStore(file) as store:
        user = store.add(MAIL, "hash")
        for n in range(5):
            store.open_session(bytes([n]), user, time.time() + 60 + n)
        store.open_session(b"late", user, time.time() - 1)

        assert [False, False, True, True, True] == [store.user_of(bytes([n])) is not None for n in range(5)]
        store.end_session(bytes([4]))
        assert store.user_of(bytes([4])) is None
        assert store.user_of(b"late") is None


def test_a_change_is_noticed(file: Path) -> None:
    """Whichever process changes something, the version is another one then, and the same otherwise."""
    with UserStore(file) as store, UserStore(file) as other:
        before = store.version
        assert before == store.version
        other.add(MAIL, "hash")
        after = store.version
        store.remove(MAIL)

        assert 3 == len({before, after, store.version})


def _add_many(file: Path, who: int) -> None:
    with UserStore(file) as store:
        for n in range(20):
            store.add(f"user{who}-{n}@example.com", "hash", most=70)


def test_several_processes(file: Path) -> None:
    """Processes that begin with no file, and add users at once, lose none."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add_many, args=(file, who)) for who in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    with UserStore(file) as store:
        assert [0, 0, 0] == [process.exitcode for process in processes]
        assert 60 == store.count()


@pytest.mark.parametrize(
    "text", ["", "user", "user@host", "a@b@example.com", "a b@example.com", "<i>@example.com", "a/b@example.com",
             "a@example.com\n", "ü@example.com", f"{'a' * 65}@example.com", f"a@{'b' * 60}.{'c.' * 100}org"],
)  # fmt: skip
def test_no_address(text: str) -> None:
    """What is no e-mail address, or would be trouble elsewhere, is refused."""
    with pytest.raises(BadRequestError, match="not a valid email address"):
        check_email(text)


def test_a_file_that_cannot_be_used(file: Path) -> None:
    """A damaged file, one of a newer version, or one that cannot be made is a line that says so."""
    with pytest.raises(SettingsError, match="cannot be made"):
        UserStore(file / "below" / "users")
    file.write_bytes(b"no database" * 100)
    with pytest.raises(SettingsError, match="restore it from a backup"):
        UserStore(file)
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SettingsError, match="newer version"):
        UserStore(file)


def test_locked_for_long(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process holds the file for too long, it is "not now", and nothing is half done."""
    monkeypatch.setattr(users, "_PATIENCE", 0.05)
    with UserStore(file) as store:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="try again"):
            store.add(MAIL, "hash")
        assert store.find(MAIL) is None
        other.close()
        assert store.add(MAIL, "hash")
