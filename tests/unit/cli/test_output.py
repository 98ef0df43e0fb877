from __future__ import annotations

import io
import sys

import pytest

from caterva2.cli.output import Output, visible
from caterva2.errors import Caterva2Error


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_in_a_pipe() -> None:
    """In a pipe a table is tab-separated lines, complete and without heading or colours."""
    stream = io.StringIO()
    output = Output(stream)

    output.table(("name", "status"), [("x" * 500, "online"), ("ü", "offline")])
    output.pairs({"shape": "[1]"})
    output.lines(["a\x1bb"])

    assert stream.getvalue() == f"{'x' * 500}\tonline\nü\toffline\nshape: [1]\na\x1bb\n"


def test_tables_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a table has a heading and colours, and long cells are folded, not cut."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()

    Output(stream).table(("name", "status"), [("x" * 100, "online"), ("[red]a", "offline")])

    text = stream.getvalue()
    assert text.count("x") == 100
    assert "name" in text
    assert "\x1b[32monline" in text
    assert "[red]a" in text


def test_foreign_text_cannot_steer_a_terminal() -> None:
    """Control characters from a server are shown, not obeyed."""
    stream = Terminal()
    output = Output(stream)

    output.lines(["a\x1b[2Jb\nc"])
    output.text("a\x1b]0;title\x07\r\n\tb\n")
    output.pairs({"k\x1b": "\x9bv"})

    assert "a\\x1b[2Jb\\nc\na\\x1b]0;title\\x07\\r\n\tb\n" in stream.getvalue()
    assert "k\\x1b" in stream.getvalue()
    assert "\\x9bv" in stream.getvalue()


def test_json_is_one_line() -> None:
    """JSON is one line with the characters as they are."""
    stream = io.StringIO()

    Output(stream, json=True).data({"ü": [1, None]})

    assert stream.getvalue() == '{"ü": [1, null]}\n'


def test_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing rich is an error that names the remedy, on terminals only."""
    monkeypatch.setitem(sys.modules, "rich", None)

    Output(io.StringIO()).check()
    Output(Terminal(), json=True).check()
    with pytest.raises(Caterva2Error, match=r'pip install "caterva2\[clients\]"'):
        Output(Terminal()).check()


@pytest.mark.parametrize(
    ("text", "shown"), [("a b", "a b"), ("a\nb\t", "a\\nb\\t"), ("\x1b[31m", "\\x1b[31m"), ("日本", "日本")]
)
def test_visible(text: str, shown: str) -> None:
    """Only control characters are rewritten."""
    assert shown == visible(text)
