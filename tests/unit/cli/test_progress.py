from __future__ import annotations

import io
import sys

import pytest

from caterva2.cli import progress
from caterva2.cli.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def stderr(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal; not in a fixture, after which pytest puts its own stderr back."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    return stream


def test_a_long_download_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a download that lasts shows its name and how far it is."""
    terminal = stderr(monkeypatch)
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)

    with ProgressBar("foo/[b]\x1bx") as bar:
        bar(500_000, 1_000_000)

    assert "foo/[b]\\x1bx" in terminal.getvalue()
    assert "1.0 MB" in terminal.getvalue()


def test_a_short_download_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done at once needs no bar."""
    terminal = stderr(monkeypatch)
    with ProgressBar("foo/x") as bar:
        bar(1, 1)

    assert terminal.getvalue() == ""


def test_in_a_pipe_there_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A log file gets no bars."""
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)

    with ProgressBar("foo/x") as bar:
        bar(1, 2)

    assert capsys.readouterr() == ("", "")


def test_without_rich_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download does not fail for want of a bar."""
    terminal = stderr(monkeypatch)
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)
    monkeypatch.setitem(sys.modules, "rich.console", None)

    with ProgressBar("foo/x") as bar:
        bar(1, 2)
        bar(2, 2)

    assert terminal.getvalue() == ""
