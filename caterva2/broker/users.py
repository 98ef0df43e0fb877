"""The users file: who may join the bus under a name, as what, with which password.

It is JSON, written whole or not at all, and readable by its owner alone (mode 0600); passwords are in it as argon2
hashes. `cat2bro user` changes it, also while a daemon reads it.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import argon2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from caterva2.broker.rules import ANONYMOUS, PATTERN, Rights, Role
from caterva2.errors import SettingsError

NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_MAX_FILE: Final = 64 << 20
_HASHER: Final = argon2.PasswordHasher()


def check_user_name(name: str) -> str:
    """Return `name` if a user may have it, which is also a level of a topic; else raise ValueError."""
    if NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a user's name: use letters, digits, '_', '-' and '.', at most 64")
    if name == ANONYMOUS:
        raise ValueError(f"{name!r} stands for clients without a name: take another one")
    return name


def check_pattern(pattern: str) -> str:
    """Return `pattern` if it can name roots; else raise ValueError."""
    if PATTERN.fullmatch(pattern) is None:
        raise ValueError(f"{pattern!r} names no roots: use letters, digits, '_', '-', '.', and '*' for any text")
    return pattern


def _check_hash(text: str) -> str:
    try:
        argon2.extract_parameters(text)
    except argon2.exceptions.InvalidHashError:
        raise ValueError("is not an argon2 hash") from None
    return text


class User(BaseModel):
    """One user.

    Attributes:
        name: as it is shown at login; a client certificate may stand for it with this common name.
        role: what it may do.
        roots: patterns of the roots that a publisher may announce.
        password: the argon2 hash.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, AfterValidator(check_user_name)]
    role: Role
    roots: tuple[Annotated[str, AfterValidator(check_pattern)], ...] = ()
    password: Annotated[str, AfterValidator(_check_hash)] = Field(repr=False)

    @property
    def rights(self) -> Rights:
        """What the rules need to know."""
        return Rights(self.name, self.role, self.roots)


Users: TypeAlias = Mapping[str, User]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    users: tuple[User, ...]


def make_user(name: str, role: Role, roots: tuple[str, ...], password: str) -> User:
    """Make a user; hashing the password takes about 0.1 s.

    Raises:
        SettingsError: if a part of it cannot be used.
    """
    try:
        return User(name=name, role=role, roots=roots, password=_HASHER.hash(password))
    except ValidationError as error:
        raise SettingsError(_first(error)) from None


def fits(user: User, password: bytes) -> bool:
    """Whether this is the user's password; takes about 0.1 s, and 64 MB."""
    try:
        return _HASHER.verify(user.password, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def read_users(file: Path) -> Users:
    """Read the users by name.

    Raises:
        SettingsError: if there is no such file, if others may read it, or if it is damaged.
    """
    try:
        with file.open("rb") as opened:
            _check_mode(os.fstat(opened.fileno()).st_mode, file)
            content = opened.read(_MAX_FILE)
    except FileNotFoundError:
        raise SettingsError(
            f"users file {file}: no such file: make it with: cat2bro user add NAME --role admin, or unset users"
        ) from None
    except OSError as error:
        raise SettingsError(f"users file {file}: cannot be read: {error.strerror}; make it readable") from None
    try:
        users = _Document.model_validate_json(content).users
    except ValidationError as error:
        raise SettingsError(
            f"users file {file}: is damaged: {_first(error)}; restore it, or add the users anew"
        ) from None
    by_name = {user.name: user for user in users}
    if len(by_name) < len(users):
        twice = next(name for name in by_name if sum(user.name == name for user in users) > 1)
        raise SettingsError(f"users file {file}: is damaged: {twice} is there twice; remove one of the two")
    return by_name


@contextmanager
def changing_users(file: Path) -> Iterator[dict[str, User]]:
    """Give the users for changes, which are written at the end; other changes wait meanwhile.

    Raises:
        SettingsError: as `read_users`, except for a missing file; or if the file cannot be written.
    """
    try:
        with _locked(file.parent):
            users = dict(read_users(file)) if file.exists() else {}
            before = dict(users)
            yield users
            if users != before or not file.exists():
                _write(file, users)
    except OSError as error:
        raise SettingsError(
            f"users file {file}: cannot be written: {error.strerror}; make its directory, and let it be writable"
        ) from None


def fingerprint(file: Path) -> tuple[int, ...]:
    """What tells that a file was changed; empty if there is none."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # The directory's own lock: a lock file would stay behind, and the users file itself is replaced.
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _write(file: Path, users: Users) -> None:
    file = file.resolve()
    partial = file.with_name(f".{file.name}.partial")
    with suppress(FileNotFoundError):
        partial.unlink()
    document = _Document(users=tuple(users[name] for name in sorted(users)))
    opened = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "wb") as writing:
        _give_away(opened, file)
        writing.write(document.model_dump_json(indent=1).encode() + b"\n")
        writing.flush()
        os.fsync(opened)
    partial.replace(file)


def _give_away(opened: int, file: Path) -> None:
    """A file that root writes must stay readable by the daemon, which runs as another user."""
    if os.geteuid() == 0:
        owner = (file if file.exists() else file.parent).stat()
        os.fchown(opened, owner.st_uid, owner.st_gid)


def _check_mode(mode: int, file: Path) -> None:
    if not stat.S_ISREG(mode):
        raise SettingsError(f"users file {file}: is not a file: name another one")
    if mode & 0o077:
        raise SettingsError(
            f"users file {file}: others may read or change it (mode {stat.S_IMODE(mode):04o}): chmod 600 {file}"
        )


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    cause = found.get("ctx", {}).get("error")
    where = ".".join(map(str, found["loc"]))
    return f"{where}: {cause or found['msg']}" if where else str(cause or found["msg"])
