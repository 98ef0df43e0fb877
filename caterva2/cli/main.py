"""The command line of cat2cli: arguments, settings, and what an error becomes at the shell."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import NoReturn

import caterva2
from caterva2.cli.commands import COMMANDS
from caterva2.cli.context import Context
from caterva2.cli.logins import Logins
from caterva2.cli.output import Output, visible
from caterva2.errors import (
    AuthenticationError,
    BadRequestError,
    Caterva2Error,
    ForbiddenError,
    NotFoundError,
    TooManyAttemptsError,
    UnavailableError,
    UnreachableError,
)
from caterva2.settings import load_client


class ExitStatus(IntEnum):
    """What cat2cli ends with."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    UNAUTHENTICATED = 5
    FORBIDDEN = 6
    UNAVAILABLE = 7
    # As a shell reports programs that the signals SIGINT and SIGPIPE ended.
    INTERRUPTED = 130
    BROKEN_PIPE = 141


# The first class that matches counts.
_STATUS_OF: tuple[tuple[type[Caterva2Error], ExitStatus], ...] = (
    (NotFoundError, ExitStatus.NOT_FOUND),
    (AuthenticationError, ExitStatus.UNAUTHENTICATED),
    (ForbiddenError, ExitStatus.FORBIDDEN),
    (UnreachableError, ExitStatus.UNREACHABLE),
    (UnavailableError, ExitStatus.UNAVAILABLE),
    (TooManyAttemptsError, ExitStatus.UNAVAILABLE),
    (BadRequestError, ExitStatus.USAGE),
    (Caterva2Error, ExitStatus.ERROR),
)

_DESCRIPTION = "Look at the arrays and files that a Caterva2 subscriber serves, and download them."
_EPILOG = """\
where the subscriber is, and who you are:
  an option counts first, then the environment, then caterva2.toml, then http://localhost:8002

  CATERVA2_CLIENT_SUBSCRIBER, CATERVA2_CLIENT_USERNAME, CATERVA2_CLIENT_PASSWORD   as the options
  CATERVA2_CLIENT_TOKEN   an access token, instead of name and password
  CATERVA2_CONF        the file to read instead of ./caterva2.toml
  NO_COLOR             no colours on a terminal

  caterva2.toml:       [subscriber]
                       urlbase = "https://sub.example.org"
                       [client]
                       username = "user@example.com"

exit status:
  0 done, 1 error, 2 wrong arguments, settings or slice, 3 no such root or file, 4 no subscriber at the address,
  5 login needed or refused, 6 not allowed, 7 not available now

examples:
  cat2cli roots
  cat2cli subscribe foo
  cat2cli list foo
  cat2cli show 'foo/dir1/ds-3d.b2nd[0:2, 1]'
  cat2cli download foo/README.md
"""


class Parser(argparse.ArgumentParser):
    """A parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        """End the program with the message and where to read on."""
        self.exit(ExitStatus.USAGE, f"{self.prog}: error: {visible(message)}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of cat2cli with all its commands."""
    parser = Parser(
        prog="cat2cli",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common(default=None)],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    # The common options may stand after the command too; there, left out, they must not undo what stood before.
    common = _common(default=argparse.SUPPRESS)
    for add in COMMANDS:
        add(subparsers, common)
    return parser


def _common(default: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, argument_default=default)
    group = parser.add_argument_group("where and how")
    group.add_argument("--subscriber", metavar="URL", help="the subscriber's address (CATERVA2_CLIENT_SUBSCRIBER)")
    group.add_argument("--username", metavar="NAME", help="log in as this user (CATERVA2_CLIENT_USERNAME)")
    group.add_argument(
        "--password", help="the user's password (CATERVA2_CLIENT_PASSWORD); asked for when it is missing"
    )
    group.add_argument("--password-file", metavar="FILE", help="a file whose first line is the password")
    group.add_argument("--conf", metavar="FILE", help="settings instead of ./caterva2.toml (CATERVA2_CONF)")
    group.add_argument("--json", action="store_true", default=default or False, help="answer as JSON, for programs")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run cat2cli and return its exit status.

    Args:
        argv: the arguments; by default those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show must not end the program
            stream.reconfigure(errors="backslashreplace")
    try:
        _run(make_parser().parse_args(argv))
        sys.stdout.flush()
    except BrokenPipeError:
        # What reads our output has seen enough. The interpreter must not try to flush the rest again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.BROKEN_PIPE
    except (KeyboardInterrupt, EOFError):
        return _complain("interrupted", ExitStatus.INTERRUPTED)
    except Caterva2Error as error:
        return _complain(str(error), status_of(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}", ExitStatus.ERROR)
    except MemoryError:
        return _complain("that does not fit into memory: ask for a smaller slice", ExitStatus.ERROR)
    return ExitStatus.OK


def status_of(error: Caterva2Error) -> ExitStatus:
    """Return the exit status that stands for an error."""
    return next(status for kind, status in _STATUS_OF if isinstance(error, kind))


def _run(args: argparse.Namespace) -> None:
    if args.version:
        print(f"cat2cli {caterva2.__version__}")
        return
    if args.command is None:
        raise BadRequestError("say what to do, such as `cat2cli roots`; `cat2cli --help` shows the commands")
    names = ("subscriber", "broker", "username", "password", "password_file", "conf")
    options = {name: getattr(args, name, None) for name in names}
    settings = load_client(options, os.environ, Path.cwd())
    with Context(settings, Output(sys.stdout, json=args.json), Logins.of(os.environ)) as context:
        args.run(context, args)


def _complain(message: str, status: ExitStatus) -> ExitStatus:
    print(f"cat2cli: error: {visible(' '.join(message.split()))}", file=sys.stderr)
    return status
