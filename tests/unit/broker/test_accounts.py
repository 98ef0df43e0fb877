"""`cat2bro user`: what it changes, what it says, and what it refuses."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from caterva2.broker.main import main
from caterva2.broker.users import fits, read_users
from caterva2.daemon import asking

Cat2bro = Callable[..., tuple[int, str, str]]


class Terminal(io.StringIO):
    """A stdin with a person before it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def cat2bro(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cat2bro:
    """Run cat2bro where caterva2.toml names a users file; give the exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("CATERVA2_CONF", "CATERVA2_BROKER_USERS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "caterva2.toml").write_text('[broker]\nusers = "users.json"\n')

    def run(*args: str, stdin: str | None = "secret\n") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", Terminal() if stdin is None else io.StringIO(stdin))
        try:
            status = main(["user", *args])
        except SystemExit as end:
            status = int(end.code or 0)
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def test_add_list_remove(cat2bro: Cat2bro, tmp_path: Path) -> None:
    """Users are added, listed for people and programs, replaced and removed."""
    added = cat2bro("add", "pia", "--role", "publisher", "--root", "foo", "--root", "lab-*")
    assert (0, "user pia is added: publisher of foo, lab-*\n", "") == added
    assert (0, "user ada is added: admin\n", "") == cat2bro("add", "ada", "--role", "admin")
    assert (0, "ada\tadmin\t-\npia\tpublisher\tfoo lab-*\n", "") == cat2bro("list")
    assert {"name": "ada", "role": "admin", "roots": []} == json.loads(cat2bro("list", "--json")[1])[0]

    changed = cat2bro("add", "pia", "--role", "observer", stdin="other\n")
    assert (0, "user pia is changed: observer\n", "") == changed
    assert fits(read_users(tmp_path / "users.json")["pia"], b"other")
    assert (0, "user pia is removed\n", "") == cat2bro("remove", "pia")
    assert ["ada"] == list(read_users(tmp_path / "users.json"))


@pytest.mark.parametrize("options", [["--users", "u.json"], ["--users", "u.json", "--json"]])
def test_options_on_either_side(cat2bro: Cat2bro, tmp_path: Path, options: list[str]) -> None:
    """Where the file is may be said before the command or after it."""
    assert 0 == cat2bro("add", "a", "--role", "observer", "--users", "u.json")[0]
    assert (tmp_path / "u.json").exists()
    assert "a" in cat2bro("list", *options)[1]
    assert 0 == main(["--users", "u.json", "user", "remove", "a"])


def test_password_from_a_file(cat2bro: Cat2bro, tmp_path: Path) -> None:
    """The first line of the file counts, without its end."""
    (tmp_path / "pw").write_text("pass wörd \r\nmore\n", encoding="utf-8")

    assert 0 == cat2bro("add", "a", "--role", "observer", "--password-file", "pw", stdin="")[0]
    assert fits(read_users(tmp_path / "users.json")["a"], "pass wörd ".encode())


@pytest.mark.parametrize(
    ("answers", "status", "told"), [(["a", "a"], 0, ""), (["a", "b"], 2, "differ"), ([""], 2, "empty")]
)
def test_password_from_a_terminal(
    cat2bro: Cat2bro, monkeypatch: pytest.MonkeyPatch, answers: list[str], status: int, told: str
) -> None:
    """On a terminal the password is asked for, twice."""
    monkeypatch.setattr(asking.getpass, "getpass", lambda *_args: answers.pop(0))

    ended = cat2bro("add", "a", "--role", "observer", stdin=None)

    assert status == ended[0]
    assert told in ended[2]
    assert [] == answers


@pytest.mark.parametrize(
    ("args", "stdin", "told"),
    [
        (["add", "a", "--role", "publisher"], "x", r"cat2bro: --root: which roots may a announce?"),
        (["add", "a", "--role", "admin", "--root", "x"], "x", "cat2bro: --root: only a publisher has roots"),
        (["add", "a/b", "--role", "admin"], "x", "cat2bro: NAME: 'a/b' is not a user's name"),
        (["add", "anonymous", "--role", "admin"], "x", "cat2bro: NAME: 'anonymous' stands for"),
        (["add", "a", "--role", "publisher", "--root", "a/#"], "x", "cat2bro: roots.0: 'a/#' names no roots"),
        (["add", "a", "--role", "admin"], "", "cat2bro: the password on stdin: is empty"),
        (["add", "a", "--role", "admin"], "\n", "cat2bro: the password on stdin: is empty"),
        (["add", "a", "--role", "admin"], "x" * 1025, "cat2bro: the password on stdin: is no password"),
        (["add", "a", "--role", "admin", "--password-file", "no"], "", "cat2bro: --password-file no: cannot be read"),
        (["add", "a", "--role", "king"], "x", "cat2bro user add: argument --role: invalid choice: 'king'"),
        (["add", "a"], "x", "cat2bro user add: the following arguments are required: --role"),
        (["add", "a", "--role", "admin", "--users", "no/u"], "x", "/no/u: cannot be written: No such file"),
        (["remove", "a"], "", "users.json: no such file"),
        (["list"], "", "users.json: no such file"),
        (["frob"], "", "cat2bro user: argument COMMAND: invalid choice: 'frob'"),
        ([], "", "cat2bro user: the following arguments are required: COMMAND"),
    ],
)
def test_errors(cat2bro: Cat2bro, tmp_path: Path, args: list[str], stdin: str, told: str) -> None:
    """What cannot be done is one line, status 2, and no file."""
    status, out, err = cat2bro(*args, stdin=stdin)

    assert (2, "", 1) == (status, out, err.count("\n"))
    assert told in err
    assert not (tmp_path / "users.json").exists()


def test_unknown_user(cat2bro: Cat2bro) -> None:
    """Who is not there cannot be removed."""
    cat2bro("add", "a", "--role", "admin")

    assert "there is no user b in" in cat2bro("remove", "b")[2]


def test_no_users_file(cat2bro: Cat2bro, tmp_path: Path) -> None:
    """Without a users file in the settings it says how to name one."""
    (tmp_path / "caterva2.toml").write_text("[broker]\n")

    ended = cat2bro("add", "a", "--role", "admin")

    assert (2, "") == ended[:2]
    assert "there is no users file: name one with --users, CATERVA2_BROKER_USERS or users in [broker]" in ended[2]
