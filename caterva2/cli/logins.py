"""Logins that `cat2cli login` keeps, in a file of the user's config directory that nobody else may read.

Where the package `keyring` is installed and the desktop has a keyring, the cookies are in that, and the file says so.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from caterva2.errors import SettingsError

_MAX_FILE: Final = 1 << 20
_SERVICE: Final = "caterva2"


class Logins:
    """The file.

    Args:
        file: where it is; made, with mode 0600, when something is kept.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """The file of the user whose environment this is: below XDG_CONFIG_HOME, or ~/.config."""
        config = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or "~", ".config")  # noqa: PTH118
        return cls(Path(config).expanduser() / "caterva2" / "logins.json")

    def find(self, urlbase: str, username: str = "") -> str | None:
        """The cookie that is kept for a subscriber, and for this user, if one is named.

        Raises:
            SettingsError: if others may read the file, or it cannot be used.
        """
        kept = self._read().get(urlbase)
        if kept is None or username not in {"", kept["username"]}:
            return None
        return kept["cookie"] or _from_keyring(urlbase)

    def keep(self, urlbase: str, username: str, cookie: str) -> None:
        """Keep a login; as `find`."""
        hidden = _into_keyring(urlbase, cookie)
        self._write({**self._read(), urlbase: {"username": username, "cookie": "" if hidden else cookie}})

    def forget(self, urlbase: str) -> None:
        """Keep a login no longer; as `find`."""
        kept = self._read()
        if (login := kept.pop(urlbase, None)) is not None:
            if not login["cookie"]:
                _out_of_keyring(urlbase)
            self._write(kept)

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            with self.file.open("rb") as opened:
                mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
                content = opened.read(_MAX_FILE)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise SettingsError(f"{self.file}: cannot be read: {error.strerror}; remove it, and log in again") from None
        if mode & 0o077:
            raise SettingsError(f"{self.file}: others may read it: chmod 600 {self.file}, or remove it")
        return _parsed(content, self.file)

    def _write(self, logins: Mapping[str, Mapping[str, str]]) -> None:
        partial = self.file.with_name(f"{self.file.name}.{os.getpid()}.partial")
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                partial.unlink()
            opened = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(opened, "w", encoding="utf-8") as writing:
                json.dump(logins, writing, indent=1)
            partial.replace(self.file)
        except OSError as error:
            raise SettingsError(f"{self.file}: cannot be written: {error.strerror}") from None


def _keyring() -> Any:
    """The package `keyring`, if it is installed and has something better than a file; None otherwise."""
    try:
        import keyring
    except ImportError:
        return None
    # Backends that keep nothing have 0; those that keep a file in plain text less than 1.
    return keyring if keyring.get_keyring().priority >= 1 else None


def _into_keyring(urlbase: str, cookie: str) -> bool:
    if (keyring := _keyring()) is None:
        return False
    try:
        keyring.set_password(_SERVICE, urlbase, cookie)
    except keyring.errors.KeyringError:  # it is locked, and nobody opens it
        return False
    return True


def _from_keyring(urlbase: str) -> str | None:
    if (keyring := _keyring()) is None:
        return None
    try:
        found: str | None = keyring.get_password(_SERVICE, urlbase)
    except keyring.errors.KeyringError as error:
        raise SettingsError(f"the keyring does not give the login for {urlbase}: {error}; log in again") from None
    return found


def _out_of_keyring(urlbase: str) -> None:
    if (keyring := _keyring()) is not None:
        with suppress(keyring.errors.KeyringError):
            keyring.delete_password(_SERVICE, urlbase)


def _parsed(content: bytes, file: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(content)
        return {str(url): {key: str(each[key]) for key in ("username", "cookie")} for url, each in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SettingsError(f"{file}: is damaged: remove it, and log in again") from None
