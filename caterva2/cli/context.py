"""What a command works with: the settings, the subscriber or the broker, and the output."""

from __future__ import annotations

import getpass
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from caterva2.cli.logins import Logins
from caterva2.cli.output import Output
from caterva2.errors import AuthenticationError, NotFoundError, SettingsError
from caterva2.settings import ClientSettings

if TYPE_CHECKING:
    from caterva2.client import Client
    from caterva2.client.broker import Broker


class Context:
    """The settings, the output, and clients that are made, and logged in, when a command first needs them.

    Args:
        settings: the settings.
        output: takes the results.
        logins: those that `cat2cli login` has kept.
    """

    def __init__(self, settings: ClientSettings, output: Output, logins: Logins) -> None:
        self.settings = settings
        self.output = output
        self.logins = logins

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "client" in self.__dict__:
            self.client.close()
        if "broker" in self.__dict__:
            self.broker.close()

    @cached_property
    def client(self) -> Client:
        """The subscriber."""
        # Imported late: NumPy and Blosc2 take half a second, which `--help` and a typing error need not wait for.
        from caterva2.client import Client

        if self.settings.token:
            return Client(self.settings.urlbase, self.settings.token, ca=self.settings.ca)
        given = self.settings.password or self.settings.password_file
        kept = None if given else self.logins.find(self.settings.urlbase, self.settings.username)
        if kept is not None:
            return Client(self.settings.urlbase, auth_cookie=kept, ca=self.settings.ca)
        return Client(self.settings.urlbase, self._auth(), ca=self.settings.ca)

    def log_in(self) -> None:
        """Log in with name and password, whatever is kept, and keep that."""
        from caterva2.client import Client

        if not self.settings.username:
            raise SettingsError("--username: is missing: say who you are, or set CATERVA2_CLIENT_USERNAME")
        with Client(self.settings.urlbase, self._auth(), ca=self.settings.ca) as client:
            self.logins.keep(self.settings.urlbase, self.settings.username, client.cookie or "")

    def log_out(self) -> None:
        """End the login that is kept, at the subscriber and here."""
        from caterva2.client import Client

        kept = self.logins.find(self.settings.urlbase)
        if kept is None:
            raise SettingsError(f"no login is kept for {self.settings.urlbase}: cat2cli login keeps one")
        client = Client(self.settings.urlbase, auth_cookie=kept, ca=self.settings.ca)
        with client, suppress(AuthenticationError, NotFoundError):  # it may have ended already
            client.logout()
        self.logins.forget(self.settings.urlbase)

    @cached_property
    def broker(self) -> Broker:
        """The broker."""
        from caterva2.client.broker import Broker

        return Broker(self.settings.broker, self._auth(), ca=self.settings.ca)

    def _auth(self) -> tuple[str, str] | None:
        return (self.settings.username, self._password()) if self.settings.username else None

    def _password(self) -> str:
        if self.settings.password:
            return self.settings.password
        if self.settings.password_file:
            return _first_line(self.settings.password_file)
        return self.ask(f"Password of {self.settings.username}")

    def ask(self, what: str) -> str:
        """Ask for a secret on the terminal, or take the next line of what is piped in.

        Raises:
            SettingsError: if there is none.
        """
        if sys.stdin.isatty():
            return getpass.getpass(f"{what}: ", sys.stderr)
        if line := sys.stdin.readline().rstrip("\r\n"):
            return line
        raise SettingsError(f"{what}: is missing: pipe it in, or use --password-file or CATERVA2_CLIENT_PASSWORD")


def _first_line(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            line = opened.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--password-file: {file} cannot be read: {error}") from None
    if not line:
        raise SettingsError(f"--password-file: the first line of {file} is empty: write the password there")
    return line
