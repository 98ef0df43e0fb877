"""Asking for a password on the machine: from a terminal, a pipe or a file, and never from the command line."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Final, TextIO

from caterva2.errors import SettingsError

_MAX_PASSWORD: Final = 1024


def read_password(name: str, file: str | None, stdin: TextIO, stderr: TextIO) -> str:
    """Read the password of a user: twice from a terminal, else the first line of a file, or of stdin.

    Args:
        name: the user.
        file: the file's path; None is stdin.
        stdin: where it comes from when there is no file.
        stderr: takes what is asked on a terminal.

    Raises:
        SettingsError: if there is none, or it cannot be used.
    """
    if file is not None:
        return _checked(_first_line(Path(file)), f"--password-file {file}")
    if not stdin.isatty():
        return _checked(stdin.readline(_MAX_PASSWORD + 2), "the password on stdin")
    password = _checked(getpass.getpass(f"Password of {name}: ", stderr), "the password")
    if getpass.getpass("Once more: ", stderr) != password:
        raise SettingsError("the two passwords differ: nothing was changed, try again")
    return password


def _first_line(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.readline(_MAX_PASSWORD + 2)
    except OSError as error:
        raise SettingsError(f"--password-file {file}: cannot be read: {error.strerror}; name another file") from None
    except UnicodeDecodeError:
        raise SettingsError(f"--password-file {file}: is not UTF-8 text: name another file") from None


def _checked(line: str, place: str) -> str:
    password = line.rstrip("\r\n")
    if not password:
        raise SettingsError(f"{place}: is empty: a user needs a password")
    if len(password) > _MAX_PASSWORD or "\0" in password:
        raise SettingsError(f"{place}: is no password: it has at most {_MAX_PASSWORD} letters, and no NUL")
    return password
