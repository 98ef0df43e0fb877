from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.responses import JSONResponse

from caterva2.cli import commands
from caterva2.cli.main import ExitStatus, main, status_of
from caterva2.errors import Caterva2Error, SettingsError, error_for_status
from tests.unit.client.subscriber import COOKIE, FakeSubscriber

Cat2cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def foo(subscriber: FakeSubscriber) -> FakeSubscriber:
    """A subscriber with an example root."""
    subscriber.put("foo/README.md", "# Header\nü\n".encode())
    subscriber.put("foo/dir 1/ds.b2nd", np.arange(200, dtype="u2").reshape(10, 20), a=1)
    subscriber.put("foo/fields.b2nd", np.array([(1, 2.5), (3, 4.5)], [("a", "<i4"), ("b", "<f8")]))
    subscriber.put("foo/image.bin", bytes(range(32)))
    subscriber.put("@public/note.txt", b"x")
    return subscriber


@pytest.fixture
def cat2cli(
    foo: FakeSubscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cat2cli:
    """Run a command in a clean environment; give the exit status, stdout and stderr."""
    for name in [name for name in os.environ if name.startswith("CATERVA2_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "caterva2.toml").write_text(f'[subscriber]\nurlbase = "{foo.url}"\n')

    def run(*args: str) -> tuple[int, str, str]:
        try:
            status = main(args)
        except SystemExit as end:
            status = int(end.code or 0)
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def test_roots(cat2cli: Cat2cli) -> None:
    """`roots` tells name, address, whether subscribed, status, freshness and age."""
    cat2cli("subscribe", "foo")

    assert cat2cli("roots") == (
        0,
        "@public\t-\tno\tonline\t-\t-\nfoo\tlocalhost:8001\tyes\tonline\tstale\t7\n",
        "",
    )


def test_subscribe(cat2cli: Cat2cli, foo: FakeSubscriber) -> None:
    """`subscribe` makes the subscriber follow the root."""
    assert cat2cli("subscribe", "foo") == (0, "subscribed to foo\n", "")
    assert {"foo"} == foo.subscribed


@pytest.mark.parametrize("command", ["list", "ls"])
def test_list(cat2cli: Cat2cli, command: str) -> None:
    """`list` prints one name a line."""
    expected = "README.md\ndir 1/ds.b2nd\nfields.b2nd\nimage.bin\n"

    assert cat2cli(command, "foo") == (0, expected, "")
    assert cat2cli(command, "foo/dir 1") == (0, "ds.b2nd\n", "")


def test_info(cat2cli: Cat2cli) -> None:
    """`info` prints one property a line."""
    status, out, _ = cat2cli("info", "foo/dir 1/ds.b2nd")

    assert 0 == status
    assert {"shape: [10, 20]", "dtype: uint16", "schunk.vlmeta.a: 1"} <= set(out.splitlines())


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (["foo/dir 1/ds.b2nd[2:4, ::10]"], "[[40 50]\n [60 70]]\n"),
        (["foo/dir 1/ds.b2nd[-1, -1]"], "199\n"),
        (["foo/dir 1/ds.b2nd", "--slice=-1:, :2"], "[[180 181]]\n"),
        (["foo/fields.b2nd", "--field", "b"], "[2.5 4.5]\n"),
        (["foo/fields.b2nd[0]"], "(1, 2.5)\n"),
        (["foo/README.md"], "# Header\nü\n"),
        (["foo/README.md[2:8]"], "Header"),
        (["foo/image.bin[0:3]"], f"00000000  {'00 01 02':<48}  |...|\n"),
    ],
)
def test_show(cat2cli: Cat2cli, args: list[str], shown: str) -> None:
    """`show` prints values, text as it is, and bytes so that no terminal suffers."""
    assert cat2cli("show", *args) == (0, shown, "")


def test_show_is_complete_in_a_pipe(cat2cli: Cat2cli, foo: FakeSubscriber) -> None:
    """In a pipe an array is never shortened."""
    foo.put("foo/long.b2nd", np.arange(5000))

    assert "..." not in cat2cli("show", "foo/long.b2nd")[1]


def test_show_of_text_larger_than_a_piece(cat2cli: Cat2cli, foo: FakeSubscriber) -> None:
    """A long text is shown piece by piece, complete, also where a piece ends within a character."""
    text = "ä" * 3_000_000 + "\nend\n"
    foo.put("foo/long.txt", b"x" + text.encode())

    assert cat2cli("show", "foo/long.txt") == (0, "x" + text, "")


def test_show_of_far_too_much(cat2cli: Cat2cli, foo: FakeSubscriber) -> None:
    """All of a huge array is refused with the advice to say which part; a part of it is shown."""
    foo.put("foo/huge.b2nd", np.zeros((1000, 10000)))

    status, out, err = cat2cli("show", "foo/huge.b2nd")

    assert (2, "") == (status, out)
    assert "say which part, such as 'foo/huge.b2nd[0:10]'" in err
    assert cat2cli("show", "foo/huge.b2nd[0, :2]") == (0, "[0. 0.]\n", "")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["subscribe", "foo"], "Ok"),
        (["list", "foo/dir 1"], ["ds.b2nd"]),
        (["show", "foo/dir 1/ds.b2nd[0, :2]"], {"shape": [2], "dtype": "uint16", "data": [0, 1]}),
        (["show", "foo/README.md"], {"nbytes": 12, "text": "# Header\nü\n"}),
        (["download", "foo/README.md"], "foo/README.md"),
    ],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_json(cat2cli: Cat2cli, args: list[str], expected: Any, place: str) -> None:
    """--json gives JSON, before or after the command."""
    status, out, err = cat2cli("--json", *args) if place == "before" else cat2cli(*args, "--json")

    assert (0, "") == (status, err)
    assert expected == json.loads(out)


def test_json_of_roots_and_info(cat2cli: Cat2cli) -> None:
    """--json of roots and info is the subscriber's own answer."""
    assert ["@public", "foo"] == list(json.loads(cat2cli("roots", "--json")[1]))
    assert [10, 20] == json.loads(cat2cli("info", "foo/dir 1/ds.b2nd", "--json")[1])["shape"]


def test_url(cat2cli: Cat2cli, foo: FakeSubscriber) -> None:
    """`url` prints the URL, encoded, without asking the subscriber."""
    assert cat2cli("url", "foo/dir 1/ü.txt") == (0, f"{foo.url}/api/download/foo/dir%201/%C3%BC.txt\n", "")
    assert [] == foo.requests


def test_download(cat2cli: Cat2cli, tmp_path: Path) -> None:
    """`download` writes the file and prints where."""
    assert cat2cli("download", "foo/README.md") == (0, "foo/README.md\n", "")
    assert cat2cli("download", "foo/README.md", "new/") == (0, "new/README.md\n", "")
    assert (tmp_path / "foo/README.md").read_text() == (tmp_path / "new/README.md").read_text()


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["show", "foo/nosuch"], ExitStatus.NOT_FOUND, "foo/nosuch"),
        (["subscribe", "nosuch"], ExitStatus.NOT_FOUND, "nosuch not known by the broker"),
        (["show", "foo/fields.b2nd[7]"], ExitStatus.USAGE, "out of bounds"),
        (["show", "foo/fields.b2nd[a]"], ExitStatus.USAGE, "'a' is not a slice"),
        (["show", "foo/fields.b2nd", "--field", "z"], ExitStatus.USAGE, "it has a, b"),
        (["show", "foo/README.md", "--field", "z"], ExitStatus.USAGE, "no array"),
        (["show", "foo"], ExitStatus.USAGE, "is a root"),
        (["list", "../x"], ExitStatus.USAGE, "not a root name"),
        (["--subscriber", "localhost:1", "roots"], ExitStatus.UNREACHABLE, "http://localhost:1"),
        (["--subscriber", "ftp://x", "roots"], ExitStatus.USAGE, "ftp://x"),
        (["--username", "me", "--password", "x", "roots"], ExitStatus.UNAUTHENTICATED, "'me'"),
        (["--conf", "nosuch.toml", "roots"], ExitStatus.USAGE, "nosuch.toml"),
        (["download", "foo/README.md", "caterva2.toml/x"], ExitStatus.ERROR, "caterva2.toml"),
        ([], ExitStatus.USAGE, "cat2cli roots"),
        (["frobnicate"], ExitStatus.USAGE, "invalid choice"),
        (["show"], ExitStatus.USAGE, "PATH"),
        (["roots", "--frob"], ExitStatus.USAGE, "--frob"),
    ],
)
def test_errors(cat2cli: Cat2cli, args: list[str], status: ExitStatus, words: str) -> None:
    """An error is one line on stderr that names what is wrong, with its exit status."""
    actual, out, err = cat2cli(*args)

    assert (status, "") == (actual, out)
    assert words in err
    assert err.startswith("cat2cli")
    assert 1 == err.count("\n")


def test_an_error_of_several_lines(cat2cli: Cat2cli, foo: FakeSubscriber) -> None:
    """What a server says cannot break the one line, nor steer the terminal."""
    foo.raw["GET /api/roots"] = [JSONResponse({"detail": "a\n\x1b[2Jb"}, 503)]

    assert cat2cli("roots") == (ExitStatus.UNAVAILABLE, "", "cat2cli: error: a [2Jb\n")


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, 2), (401, 5), (403, 6), (404, 3), (409, 1), (412, 1), (422, 1), (500, 1), (502, 1), (503, 7)],
)
def test_the_exit_status_of_an_http_status(status: int, expected: int) -> None:
    """Scripts can tell the kinds of errors apart."""
    assert expected == status_of(error_for_status(status, ""))


def test_other_exit_statuses() -> None:
    """A setting is a usage error; what nobody foresaw is an error."""
    assert ExitStatus.USAGE == status_of(SettingsError(""))
    assert ExitStatus.ERROR == status_of(Caterva2Error(""))


def test_a_user_from_the_settings(cat2cli: Cat2cli, foo: FakeSubscriber, tmp_path: Path) -> None:
    """The [client] section logs in."""
    with (tmp_path / "caterva2.toml").open("a") as file:
        file.write('[client]\nusername = "user@example.com"\npassword = "foobar11"\n')

    assert 0 == cat2cli("roots")[0]
    assert COOKIE == foo.headers[-1]["cookie"]


def test_a_user_from_the_environment(cat2cli: Cat2cli, foo: FakeSubscriber, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment logs in, and an option counts more."""
    monkeypatch.setenv("CATERVA2_CLIENT_USERNAME", "nobody")
    monkeypatch.setenv("CATERVA2_CLIENT_PASSWORD", "foobar11")

    assert ExitStatus.UNAUTHENTICATED == cat2cli("roots")[0]
    assert 0 == cat2cli("roots", "--username", "user@example.com")[0]


def test_a_missing_password(cat2cli: Cat2cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can be asked, a missing password is an error that says how to give it."""
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: PTH123, SIM115
    status, _, err = cat2cli("--username", "user@example.com", "roots")
    sys.stdin.close()

    assert ExitStatus.USAGE == status
    assert "CATERVA2_CLIENT_PASSWORD" in err


def test_version(cat2cli: Cat2cli) -> None:
    """--version prints it."""
    status, out, _ = cat2cli("--version")

    assert 0 == status
    assert out.startswith("cat2cli ")


@pytest.mark.parametrize("command", ["roots", "subscribe", "list", "info", "show", "url", "download"])
def test_help(cat2cli: Cat2cli, command: str) -> None:
    """Each command explains itself, with the common options and their variables."""
    status, out, _ = cat2cli(command, "--help")

    assert 0 == status
    assert "CATERVA2_CLIENT_SUBSCRIBER" in out
    assert command in cat2cli("--help")[1]


def test_every_command_is_listed() -> None:
    """No command is described and then forgotten."""
    described = {value for name, value in vars(commands).items() if name.startswith("add_")}

    assert described == set(commands.COMMANDS)


def _command(foo: FakeSubscriber, *args: str) -> list[str]:
    return [sys.executable, "-m", "caterva2.cli", "--subscriber", foo.url, *args]


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CATERVA2_")}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[3]), **more}


def test_whoever_reads_has_seen_enough(foo: FakeSubscriber, tmp_path: Path) -> None:
    """`cat2cli list foo | head -1` ends quietly."""
    for n in range(20000):
        foo.put(f"foo/{'x' * 100}{n}", b"")
    with subprocess.Popen(
        _command(foo, "list", "foo"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        assert b"" == process.stderr.read()
        assert ExitStatus.BROKEN_PIPE == process.wait(30)


def test_interrupt(foo: FakeSubscriber, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a request ends with one line and status 130."""
    foo.raw["GET /api/roots"] = []
    held = _held(foo)
    with subprocess.Popen(
        _command(foo, "roots"), stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=_environment()
    ) as process:
        deadline = time.monotonic() + 30
        while not held and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

    assert "cat2cli: error: interrupted\n" == err
    assert ExitStatus.INTERRUPTED == process.returncode


def _held(foo: FakeSubscriber) -> list[str]:
    """Let the subscriber begin to answer and never end; the list fills when it has begun."""
    from collections.abc import AsyncIterator

    from starlette.responses import StreamingResponse

    begun: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        import asyncio

        begun.append("begun")
        yield b"{"
        await asyncio.sleep(30)

    foo.raw["GET /api/roots"] = [StreamingResponse(pieces())]
    return begun


def _on_a_terminal(command: list[str], cwd: Path, **environment: str) -> tuple[int, str]:
    """Run a program on a pseudo-terminal; give its exit status and all that it wrote there."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, cwd=cwd, env=_environment(TERM="xterm", **environment)
    ) as process:
        os.close(its)
        text = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux reports the end of a terminal as an error
                break
            if not piece:
                break
            text += piece
        os.close(ours)
        return process.wait(30), text.decode()


def test_on_a_terminal(foo: FakeSubscriber, tmp_path: Path) -> None:
    """On a terminal the roots are a table with a heading, and text cannot steer."""
    foo.put("foo/evil.txt", b"\x1b[2Jgone")

    status, table = _on_a_terminal(_command(foo, "roots"), tmp_path, COLUMNS="80")
    _, text = _on_a_terminal(_command(foo, "show", "foo/evil.txt"), tmp_path)
    _, bare = _on_a_terminal(_command(foo, "roots"), tmp_path, NO_COLOR="1")

    assert 0 == status
    assert "address" in table
    assert "\x1b[32monline" in table
    assert "\\x1b[2Jgone\r\n" == text
    assert "\x1b[32m" not in bare


def test_a_terminal_without_rich(foo: FakeSubscriber, tmp_path: Path) -> None:
    """Without rich a terminal gets one line with the remedy."""
    (tmp_path / "rich.py").write_text("raise ImportError('not installed')\n")
    command = _command(foo, "roots")

    status, text = _on_a_terminal(command, tmp_path)

    assert ExitStatus.ERROR == status
    assert 'pip install "caterva2[clients]"' in text
    assert 1 == text.count("\n")
