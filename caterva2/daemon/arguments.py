"""The options of the daemons; each stands for a setting, so the parser only collects texts."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, NoReturn

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from caterva2.settings import BrokerSettings, PublisherSettings, SubscriberSettings

Kind = Literal["broker", "publisher", "subscriber"]
ROLES = ("publisher", "subscriber", "observer", "admin")


@dataclass(frozen=True, slots=True)
class Command:
    """A daemon as its user knows it.

    Attributes:
        kind: the name of its section in `caterva2.toml`.
        prog: the command's name.
        summary: a sentence for `--help`.
        model: the model of its settings, which knows the defaults.
        keys: the settings that are options.
        arguments: the settings that are positional arguments.
    """

    kind: Kind
    prog: str
    summary: str
    model: type[BaseModel]
    keys: tuple[str, ...]
    arguments: tuple[str, ...] = ()


BROKER = Command(
    "broker",
    "cat2bro",
    "Run the broker: it brings the message bus, and knows which roots are published, and where.",
    BrokerSettings,
    ("http", "mqtt", "mqtts", "users", "statedir", "loglevel"),
)
PUBLISHER = Command(
    "publisher",
    "cat2pub",
    "Publish a directory as a root: its files are announced at the broker and served to subscribers.",
    PublisherSettings,
    ("id", "http", "statedir", "loglevel", "broker"),
    ("name", "root"),
)
SUBSCRIBER = Command(
    "subscriber",
    "cat2sub",
    "Run a subscriber: it follows the roots of publishers, and serves slices of them to clients.",
    SubscriberSettings,
    ("id", "http", "statedir", "loglevel", "broker"),
)

_HELP = {
    "id": ("ID", "read section [{kind}.ID] of the file too, so that several {kind}s can share it"),
    "http": ("ADDRESS", "listen for HTTP there: host:port, *:port (all interfaces), [::1]:port, or ./a.sock"),
    "mqtt": ("ADDRESS", "listen for MQTT tools there too, such as mosquitto_sub; '' is nowhere"),
    "mqtts": ("ADDRESS", "listen for MQTT with TLS there too; '' is nowhere"),
    "users": ("FILE", "let users in by name and password from this file; `cat2bro user` makes it"),
    "statedir": ("DIR", "keep the state in this directory"),
    "loglevel": ("LEVEL", "log what is at least: debug, info, warning or error"),
    "broker": ("ADDRESS", "the broker's address, host:port or a URL; '' is no broker"),
    "name": ("NAME", "the name to publish the root under"),
    "root": ("ROOT", "the directory to publish"),
}
# Defaults that follow from other settings.
_DERIVED = {
    "mqtt": "port 1883 on the host of --http, nowhere with a certificate",
    "mqtts": "port 8883 on the host of --http with a certificate, else nowhere",
    "users": "none",
    "publisher.statedir": "_caterva2/pub, or _caterva2/pub.ID",
    "subscriber.statedir": "_caterva2/sub, or _caterva2/sub.ID",
    "broker": "[broker] http in the file, or localhost:8000",
    "id": "none",
    "name": "what [publisher] says",
    "root": "what [publisher] says",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it in one line: the usage would hide what is wrong."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


@cache
def package_version() -> str:
    """The version of the installed package."""
    try:
        return version("caterva2")
    except PackageNotFoundError:
        return "0+unknown"


def without_services(command: Command, error: ModuleNotFoundError) -> int:
    """Say what to do when the daemons' libraries are not installed, and return the exit status."""
    if (error.name or "").partition(".")[0] in {"caterva2", "bus"}:
        raise error
    remedy = 'install the daemons with: pip install "caterva2[services]"'
    sys.stderr.write(f"{command.prog}: {error.name} is not installed; {remedy}\n")
    return 2


def parser(command: Command) -> argparse.ArgumentParser:
    """Make the parser of a daemon; an option that is not given is None."""
    made = _Parser(
        prog=command.prog,
        description=command.summary,
        epilog="Precedence: option, environment, file, default. deploy/caterva2.sample.toml shows all settings.",
        allow_abbrev=False,
    )
    for key in command.arguments:
        made.add_argument(key, nargs="?", metavar=_HELP[key][0], help=_help(command, key))
    made.add_argument(
        "--conf", metavar="FILE", help="read settings from this file [$CATERVA2_CONF; default: caterva2.toml, if any]"
    )
    for key in command.keys:
        made.add_argument(f"--{key}", metavar=_HELP[key][0], help=_help(command, key))
    made.add_argument("--version", action="version", version=f"%(prog)s {package_version()}")
    if command is BROKER:
        _add_user_commands(made)
    return made


def _add_user_commands(made: argparse.ArgumentParser) -> None:
    """Describe `cat2bro user ...`; the namespace then has an `action`, which it lacks where the daemon is meant."""
    # Given before the command, these must not be undone by what is left out after it.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--conf", metavar="FILE", help="read settings from this file")
    common.add_argument("--users", metavar="FILE", help="the users file; else what [broker] users says")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", prog=made.prog)
    summary = "Add, change, remove and list users; the running daemon goes by it within a second."
    user = commands.add_parser("user", help="manage the users file", description=summary, allow_abbrev=False)
    actions = user.add_subparsers(title="commands", metavar="COMMAND", required=True, prog=f"{made.prog} user")

    def add(action: str, summary: str) -> argparse.ArgumentParser:
        each = actions.add_parser(action, help=summary, description=summary, parents=[common], allow_abbrev=False)
        each.set_defaults(action=action)
        return each

    adding = add("add", "Add a user, or replace one; the password is asked for, or read from a pipe.")
    adding.add_argument("user", metavar="NAME", help="the name to log in with")
    adding.add_argument("--role", required=True, choices=ROLES, help="what the user may do")
    adding.add_argument(
        "--root",
        metavar="PATTERN",
        action="append",
        default=[],
        help="a root that a publisher may announce: foo, lab-*",
    )
    adding.add_argument("--password-file", metavar="FILE", help="read the password from the first line of this file")
    removing = add("remove", "Remove a user; its roots still belong to it until an admin releases them.")
    removing.add_argument("user", metavar="NAME")
    listing = add("list", "List the users: name, role and roots, separated by tabs.")
    listing.add_argument("--json", action="store_true", help="as JSON, for programs")


def _help(command: Command, key: str) -> str:
    text = _HELP[key][1].format(kind=command.kind)
    default = _DERIVED.get(f"{command.kind}.{key}") or _DERIVED.get(key) or _default(command.model, key)
    return f"{text} [$CATERVA2_{command.kind}_{key}; default: {default}]".replace(
        f"CATERVA2_{command.kind}_{key}", f"CATERVA2_{command.kind}_{key}".upper()
    )


def _default(model: type[BaseModel], key: str) -> str:
    default = model.model_fields[key].default
    return "none" if default is PydanticUndefined else str(default)
