"""`cat2sub adduser` and `passwd`: on the machine, for the first superuser, and for who has forgotten the password."""

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
from caterva2.subscriber.users import FILE, UserStore, check_email


def change_users(options: Mapping[str, Any], stdin: TextIO, stdout: TextIO, stderr: TextIO) -> int:
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
        done = _run(settings, options, email, password)
    except Caterva2Error as error:
        stderr.write(f"{SUBSCRIBER.prog}: {' '.join(str(error).split())}\n")
        return 2
    except (KeyboardInterrupt, EOFError):
        stderr.write(f"\n{SUBSCRIBER.prog}: nothing was changed\n")
        return 2
    stdout.write(f"{done}\n")
    if not settings.with_users:
        stderr.write(f"{SUBSCRIBER.prog}: users can log in when the daemon is started with CATERVA2_SECRET set\n")
    return 0


def _run(settings: SubscriberSettings, options: Mapping[str, Any], email: str, password: str) -> str:
    try:
        settings.statedir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"state directory {settings.statedir} cannot be made: {error.strerror}") from None
    with Passwords() as passwords, UserStore(settings.statedir / FILE) as store:
        hashed = passwords.hash_now(password)
        if options["action"] == "passwd":
            return f"user {store.set_password(email, hashed).email} has got another password"
        user = store.add(email, hashed, superuser=options["superuser"], most=settings.maxusers)
        return f"{'superuser' if user.superuser else 'user'} {user.email} is added"
