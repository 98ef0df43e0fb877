"""The users and their sessions, in an SQLite file of the statedir.

Several processes may have it open: the daemon, `cat2sub adduser`, other workers. Passwords are in it as argon2 hashes,
sessions as digests, so that a copy of the file lets nobody in.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from caterva2.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    SettingsError,
    StorageFullError,
    UnavailableError,
)
from caterva2.subscriber.callers import Caller

FILE: Final = "users.sqlite"
"""Its name in the statedir."""
# What RFC 5321 takes without quotes, except for "/", which would not fit into one segment of a URL.
_EMAIL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+=?^_`{|}~.-]{1,64}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}")
_LONGEST_EMAIL: Final = 254
# Sessions of one user at once; those that end first give way.
_MOST_SESSIONS: Final = 1000
# Seconds between two notes that a token is used.
_USE: Final = 3600.0
# Seconds to wait for another process that writes.
_PATIENCE: Final = 10.0

# One entry for each version of the schema, to get there from the one before; entries are only ever added.
_MIGRATIONS: Final = (
    (
        """CREATE TABLE users (
            id TEXT PRIMARY KEY, email TEXT NOT NULL, name TEXT NOT NULL UNIQUE, password TEXT NOT NULL,
            active INTEGER NOT NULL, superuser INTEGER NOT NULL, verified INTEGER NOT NULL, created REAL NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE sessions (
            digest BLOB PRIMARY KEY, user TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, expires REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX sessions_of_user ON sessions (user, expires)",
    ),
    (
        """CREATE TABLE tokens (
            id TEXT PRIMARY KEY, digest BLOB NOT NULL UNIQUE,
            user TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            name TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL, used REAL
        ) WITHOUT ROWID""",
        "CREATE INDEX tokens_of_user ON tokens (user, created)",
        """CREATE TABLE resets (
            user TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
            digest BLOB NOT NULL UNIQUE, expires REAL NOT NULL
        ) WITHOUT ROWID""",
    ),
)
_COLUMNS: Final = "id, email, password, active, superuser, verified"


class UserExistsError(ConflictError):
    """Another user has this e-mail address."""


class TooManyUsersError(ConflictError):
    """There are as many users as there may be."""


class NoSuchUserError(NotFoundError):
    """There is no user of this e-mail address."""


@dataclass(frozen=True, slots=True)
class User:
    """One user.

    Attributes:
        id: a UUID, for ever the same and never given again.
        email: what the user logs in with, as it was given.
        password: the argon2 hash.
        active: whether the user may log in.
        superuser: whether the user may manage the others.
        verified: whether the address is known to be the user's.
    """

    id: str
    email: str
    password: str = field(repr=False)
    active: bool = True
    superuser: bool = False
    verified: bool = False

    @property
    def caller(self) -> Caller:
        """The user as one who asks."""
        return Caller(self.id, self.email, self.superuser)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token that a user has made for scripts; the token itself is not kept.

    Attributes:
        id: to revoke it by.
        name: what it is for, in the user's words.
        created: when it was made, in seconds since 1970.
        expires: when it ends.
        used: when it was last used, to the hour; None if never.
    """

    id: str
    name: str
    created: float
    expires: float
    used: float | None


def check_email(text: str) -> str:
    """Return an e-mail address if it can be one.

    Raises:
        BadRequestError: if it cannot.
    """
    if len(text) > _LONGEST_EMAIL or _EMAIL.fullmatch(text) is None:
        raise BadRequestError(f"{text[:80]!r} is not a valid email address: use name@example.org")
    return text


class UserStore:
    """The file; its methods may be called from any thread.

    Args:
        file: where it is; made, readable by its owner alone, when it does not exist.

    Raises:
        SettingsError: if it cannot be used, is damaged, or was made by a newer version.
    """

    def __init__(self, file: Path) -> None:
        self._writing, self._reading = threading.Lock(), threading.Lock()
        try:
            _make(file)
            self._writer = _connect(file)
        except OSError as error:
            raise SettingsError(f"{file}: cannot be made: {error.strerror}; make its directory writable") from error
        except sqlite3.DatabaseError as error:
            raise SettingsError(
                f"{file}: cannot be used ({error}): restore it from a backup, or remove it to begin without users"
            ) from error
        # One of its own, since SQLite tells a connection only of what others changed.
        self._reader = _connect(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._reader.close()
        self._writer.close()

    @property
    def version(self) -> int:
        """Another number after each change, whichever process made it; quick to ask for."""
        return int(self._rows("PRAGMA data_version")[0][0])

    def count(self) -> int:
        """How many users there are."""
        return int(self._rows("SELECT count(*) FROM users")[0][0])

    def users(self) -> list[User]:
        """All users, in the order in which they came."""
        return [_user(row) for row in self._rows(f"SELECT {_COLUMNS} FROM users ORDER BY created, id")]  # noqa: S608

    def find(self, email: str) -> User | None:
        """The user of an e-mail address, in upper or lower case."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM users WHERE name = ?", _name(email))  # noqa: S608
        return _user(rows[0]) if rows else None

    def add(self, email: str, password: str, *, superuser: bool = False, most: int = 0) -> User:
        """Add a user.

        Args:
            email: the address; checked.
            password: its argon2 hash.
            superuser: whether the user may manage the others.
            most: how many users there may be then; 0 is any number.

        Raises:
            UserExistsError: if another user has this address.
            TooManyUsersError: if there are too many.
        """
        user = User(str(uuid.uuid4()), check_email(email), password, superuser=superuser)
        row = user.id, email, _name(email), password, True, superuser, False, time.time()
        with self._changing() as connection:
            (count,) = connection.execute("SELECT count(*) FROM users").fetchone()
            if connection.execute("SELECT 1 FROM users WHERE name = ?", (_name(email),)).fetchone():
                raise UserExistsError(f"there is a user {email} already")
            if most and count >= most:
                raise TooManyUsersError(f"there are {count} users, and there may be no more: maxusers says so")
            connection.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return user

    def remove(self, email: str) -> User:
        """Remove a user, and end all sessions of it.

        Raises:
            NoSuchUserError: if there is none.
        """
        user = self.find(email)
        with self._changing() as connection:
            found = connection.execute("DELETE FROM users WHERE id = ?", (user.id if user else "",)).rowcount
        if user is None or not found:
            raise NoSuchUserError(f"there is no user {email}")
        return user

    def set_password(self, email: str, password: str) -> User:
        """Give a user another password (its hash), end all its sessions and tokens, and return the user as it is then.

        Raises:
            NoSuchUserError: if there is none.
        """
        with self._changing() as connection:
            values = password, _name(email)
            if not connection.execute("UPDATE users SET password = ? WHERE name = ?", values).rowcount:
                raise NoSuchUserError(f"there is no user {email}")
            for table in ("sessions", "tokens", "resets"):
                ended = f"DELETE FROM {table} WHERE user = (SELECT id FROM users WHERE name = ?)"  # noqa: S608
                connection.execute(ended, (_name(email),))
            row = connection.execute(f"SELECT {_COLUMNS} FROM users WHERE name = ?", (_name(email),)).fetchone()  # noqa: S608
        return _user(row)

    def open_session(self, digest: bytes, user: User, expires: float) -> bool:
        """Begin a session, unless the user was removed or has got another password meanwhile.

        Args:
            digest: what it is found by.
            user: as it was found when the password was checked.
            expires: when it ends, in seconds since 1970.
        """
        begin = "INSERT INTO sessions SELECT ?, id, ? FROM users WHERE id = ? AND password = ? AND active"
        surplus = (
            "DELETE FROM sessions WHERE digest IN"
            " (SELECT digest FROM sessions WHERE user = ? ORDER BY expires DESC LIMIT -1 OFFSET ?)"
        )
        with self._changing() as connection:
            connection.execute("DELETE FROM sessions WHERE expires < ?", (time.time(),))
            begun = connection.execute(begin, (digest, expires, user.id, user.password)).rowcount
            connection.execute(surplus, (user.id, _MOST_SESSIONS))
        return bool(begun)

    def user_of(self, digest: bytes) -> User | None:
        """The user of a session that has not ended."""
        columns = ", ".join(f"users.{name}" for name in _COLUMNS.split(", "))
        query = f"SELECT {columns} FROM sessions JOIN users ON user = id WHERE digest = ? AND expires > ? AND active"  # noqa: S608
        rows = self._rows(query, digest, time.time())
        return _user(rows[0]) if rows else None

    def end_session(self, digest: bytes) -> None:
        """End a session."""
        with self._changing() as connection:
            connection.execute("DELETE FROM sessions WHERE digest = ?", (digest,))

    def add_token(self, user: str, digest: bytes, name: str, expires: float, most: int) -> AccessToken:
        """Keep a token of a user.

        Args:
            user: its id.
            digest: what the token is found by.
            name: what it is for.
            expires: when it ends, in seconds since 1970.
            most: how many a user may have.

        Raises:
            ConflictError: if the user has too many, or one of this name.
            NoSuchUserError: if the user was removed.
        """
        token = AccessToken(uuid.uuid4().hex, name, time.time(), expires, None)
        with self._changing() as connection:
            connection.execute("DELETE FROM tokens WHERE expires < ?", (time.time(),))
            names = [row[0] for row in connection.execute("SELECT name FROM tokens WHERE user = ?", (user,))]
            if name in names:
                raise ConflictError(f"there is a token {name!r} already: revoke it first, or give another name")
            if len(names) >= most:
                raise ConflictError(f"there are {len(names)} tokens, and there may be no more: revoke some")
            row = token.id, digest, user, name, token.created, expires
            try:
                connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, NULL)", row)
            except sqlite3.IntegrityError:
                raise NoSuchUserError("the user was removed meanwhile") from None
        return token

    def tokens(self, user: str) -> list[AccessToken]:
        """The tokens of a user that have not ended, in the order in which they were made."""
        query = "SELECT id, name, created, expires, used FROM tokens WHERE user = ? AND expires > ? ORDER BY created"
        return [AccessToken(*row) for row in self._rows(query, user, time.time())]

    def remove_token(self, user: str, identifier: str) -> bool:
        """Revoke a token of a user; whether there was one."""
        with self._changing() as connection:
            return bool(connection.execute("DELETE FROM tokens WHERE user = ? AND id = ?", (user, identifier)).rowcount)

    def user_with(self, digest: bytes) -> tuple[User, float] | None:
        """The user of a token that has not ended, and when that ends; notes that it is used."""
        columns = ", ".join(f"users.{name}" for name in _COLUMNS.split(", "))
        query = (
            f"SELECT {columns}, expires, used FROM tokens JOIN users ON user = users.id"  # noqa: S608
            " WHERE digest = ? AND expires > ? AND active"
        )
        now = time.time()
        if not (rows := self._rows(query, digest, now)):
            return None
        *row, expires, used = rows[0]
        # Not each time: every change makes all processes look everybody up anew.
        if used is None or used < now - _USE:
            with self._changing() as connection:
                connection.execute("UPDATE tokens SET used = ? WHERE digest = ?", (now, digest))
        return _user(tuple(row)), float(expires)

    def open_reset(self, email: str, digest: bytes, expires: float) -> User:
        """Let whoever has a secret give a user another password, once; an earlier secret ends.

        Raises:
            NoSuchUserError: if there is no such user.
        """
        user = self.find(email)
        with self._changing() as connection:
            values = digest, expires, user.id if user else ""
            done = connection.execute("INSERT OR REPLACE INTO resets SELECT id, ?, ? FROM users WHERE id = ?", values)
            if user is None or not done.rowcount:
                raise NoSuchUserError(f"there is no user {email}")
        return user

    def reset(self, digest: bytes, password: str) -> User | None:
        """Give the user of a secret another password (its hash), as `set_password`; None if it does not hold."""
        with self._changing() as connection:
            query = "SELECT email FROM resets JOIN users ON user = users.id WHERE digest = ? AND expires > ?"
            row = connection.execute(query, (digest, time.time())).fetchone()
            # Used up by whoever comes first.
            connection.execute("DELETE FROM resets WHERE digest = ?", (digest,))
        return None if row is None else self.set_password(row[0], password)

    def reset_holds(self, digest: bytes) -> bool:
        """Whether a secret for another password holds."""
        return bool(self._rows("SELECT 1 FROM resets WHERE digest = ? AND expires > ?", digest, time.time()))

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._reading, closing(self._reader.execute(query, values)) as cursor:
            return cursor.fetchall()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing."""
        try:
            with self._writing, _transaction(self._writer):
                yield self._writer
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise StorageFullError("no room is left on the subscriber's disk: nothing was changed") from error
            raise UnavailableError(f"the users cannot be changed now ({error}): try again") from error


def _name(email: str) -> str:
    """What tells users apart: nobody should be able to register the address of another one in capitals."""
    return email.strip().casefold()


def _user(row: tuple[Any, ...]) -> User:
    identifier, email, password, active, superuser, verified = row
    return User(identifier, email, password, bool(active), bool(superuser), bool(verified))


def _make(file: Path) -> None:
    try:
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        # What root makes with `cat2sub adduser` must be the daemon's, which runs as another user.
        owner = file.parent.stat()
        if os.geteuid() == 0:
            os.fchown(opened, owner.st_uid, owner.st_gid)
    finally:
        os.close(opened)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection, file)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, file: Path) -> None:
    with _transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise SettingsError(f"{file}: was made by a newer version of Caterva2: install that one")
        for statements in _MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        if version < len(_MIGRATIONS):
            connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # At once for writing: two that begin by reading could not both go on to write.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
