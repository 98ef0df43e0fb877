"""The options of the daemons."""

import re

import pytest

from caterva2.daemon.arguments import BROKER, PUBLISHER, SUBSCRIBER, Command, parser

COMMANDS = [BROKER, PUBLISHER, SUBSCRIBER]


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (BROKER, {"conf", "http", "mqtt", "mqtts", "users", "statedir", "loglevel"}),
        (PUBLISHER, {"conf", "id", "http", "statedir", "loglevel", "broker", "name", "root"}),
        (SUBSCRIBER, {"conf", "id", "http", "statedir", "loglevel", "broker"}),
    ],
)
def test_what_is_not_given_is_none(command: Command, options: set[str]) -> None:
    """Each daemon has the documented options, and those that are not given stay None."""
    assert dict.fromkeys(options) == vars(parser(command).parse_args([]))


def test_options_are_kept_as_text() -> None:
    """The parser collects texts; the settings check them, with the option's name in the error."""
    options = vars(parser(PUBLISHER).parse_args(["--http", "nonsense", "foo", "./foo-root", "--id", "x"]))

    assert ("nonsense", "foo", "./foo-root", "x") == tuple(options[key] for key in ("http", "name", "root", "id"))


@pytest.mark.parametrize("arguments", [["--htp", "x:1"], ["--stat", "x"], ["a", "b", "c"], ["--http"]])
def test_wrong_options_are_told_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option ends with status 2 and one line that names it and `--help`."""
    with pytest.raises(SystemExit) as caught:
        parser(PUBLISHER).parse_args(arguments)

    assert caught.value.code == 2
    assert re.fullmatch(r"cat2pub: .*; see cat2pub --help\n", capsys.readouterr().err)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_variable_and_default(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """The help names, for each option, the environment variable and the default."""
    with pytest.raises(SystemExit) as caught:
        parser(command).parse_args(["--help"])

    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for key in (*command.arguments, *command.keys):
        assert re.search(rf"\[\$CATERVA2_{command.kind}_{key}; default: [^\]]+".upper(), text.upper()), key


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version shows the command and the version."""
    with pytest.raises(SystemExit) as caught:
        parser(BROKER).parse_args(["--version"])

    assert caught.value.code == 0
    assert re.fullmatch(r"cat2bro \S+\n", capsys.readouterr().out)
