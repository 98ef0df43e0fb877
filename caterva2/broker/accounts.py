"""`cat2bro user add|remove|list`: the users file from the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from caterva2.broker.rules import Role
from caterva2.broker.users import User, changing_users, check_user_name, make_user, read_users
from caterva2.daemon.arguments import BROKER
from caterva2.daemon.asking import read_password
from caterva2.errors import SettingsError
from caterva2.settings import load_broker

_OPTIONS: Final = ("conf", *BROKER.keys)


def change_users(options: Mapping[str, Any], stdin: TextIO, stdout: TextIO, stderr: TextIO) -> int:
    """Do what the arguments say, and return the exit status.

    Args:
        options: as `daemon.arguments.parser` reads them, with an `action`.
        stdin: where a password comes from when there is no terminal.
        stdout: takes the result.
        stderr: takes what is asked on a terminal, and an error.
    """
    try:
        lines = _run(options, _users_file(options), stdin, stderr)
    except SettingsError as error:
        stderr.write(f"{BROKER.prog}: {' '.join(str(error).split())}\n")
        return 2
    except (KeyboardInterrupt, EOFError):
        stderr.write(f"\n{BROKER.prog}: nothing was changed\n")
        return 2
    stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _users_file(options: Mapping[str, Any]) -> Path:
    given = {key: options[key] for key in _OPTIONS}
    file = load_broker(given, os.environ, Path.cwd()).users
    if file is None:
        raise SettingsError("there is no users file: name one with --users, CATERVA2_BROKER_USERS or users in [broker]")
    return file


def _run(options: Mapping[str, Any], file: Path, stdin: TextIO, stderr: TextIO) -> list[str]:
    match options["action"]:
        case "add":
            name, role, roots = options["user"], options["role"], tuple(options["root"])
            return _add(file, name, role, roots, lambda: read_password(name, options["password_file"], stdin, stderr))
        case "remove":
            return _remove(file, options["user"])
    users = read_users(file).values()
    if options["json"]:
        return [json.dumps([{"name": user.name, "role": user.role, "roots": user.roots} for user in users])]
    return ["\t".join((user.name, user.role, " ".join(user.roots) or "-")) for user in users]


def _add(file: Path, name: str, role: Role, roots: tuple[str, ...], password: Callable[[], str]) -> list[str]:
    try:
        check_user_name(name)
    except ValueError as error:
        raise SettingsError(f"NAME: {error}") from None
    if role == "publisher" and not roots:
        raise SettingsError(f"--root: which roots may {name} announce? Say --root NAME, or --root '*' for any")
    if role != "publisher" and roots:
        raise SettingsError(f"--root: only a publisher has roots: leave it out, or say --role publisher for {name}")
    user = make_user(name, role, roots, password())
    with changing_users(file) as users:
        replaced = users.get(name)
        users[name] = user
    return [f"user {name} is {'changed' if replaced else 'added'}: {_described(user)}"]


def _remove(file: Path, name: str) -> list[str]:
    read_users(file)  # where there is none, none is made
    with changing_users(file) as users:
        if users.pop(name, None) is None:
            raise SettingsError(f"there is no user {name} in {file}: cat2bro user list shows who is")
    return [f"user {name} is removed"]


def _described(user: User) -> str:
    return f"{user.role} of {', '.join(user.roots)}" if user.roots else user.role
