"""`cat2sub adduser`: add a user on the machine, such as the first superuser, whom nobody else could add."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from caterva2.daemon.arguments import SUBSCRIBER
from caterva2.daemon.asking import read_password
from caterva2.errors import Caterva2Error, SettingsError
from caterva2.settings import SubscriberSettings, load_subscriber
from caterva2.subscriber.passwords import Passwords
from caterva2.subscriber.users import FILE, User, UserStore, check_email


def add_user(options: Mapping[str, Any], stdin: TextIO, stdout: TextIO, stderr: TextIO) -> int:
    """Do what the arguments say, and return the exit status.

    Args:
        options: as `daemon.arguments.parser` reads them.
        stdin: where the password comes from when there is no terminal.
        stdout: takes the result.
        stderr: takes what is asked on a terminal, an error, and what else must be done.
    """
    try:
        given = {key: options[key] for key in ("conf", *SUBSCRIBER.keys)}
        settings = load_subscriber(given, os.environ, Path.cwd())
        email = check_email(options["email"])
        password = read_password(email, options["password_file"], stdin, stderr)
        user = _add(settings, email, password, superuser=options["superuser"])
    except Caterva2Error as error:
        stderr.write(f"{SUBSCRIBER.prog}: {' '.join(str(error).split())}\n")
        return 2
    except (KeyboardInterrupt, EOFError):
        stderr.write(f"\n{SUBSCRIBER.prog}: nothing was changed\n")
        return 2
    stdout.write(f"{'superuser' if user.superuser else 'user'} {user.email} is added\n")
    if not settings.with_users:
        stderr.write(f"{SUBSCRIBER.prog}: users can log in when the daemon is started with CATERVA2_SECRET set\n")
    return 0


def _add(settings: SubscriberSettings, email: str, password: str, *, superuser: bool) -> User:
    try:
        settings.statedir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"state directory {settings.statedir} cannot be made: {error.strerror}") from None
    with Passwords() as passwords, UserStore(settings.statedir / FILE) as store:
        return store.add(email, passwords.hash_now(password), superuser=superuser, most=settings.maxusers)
