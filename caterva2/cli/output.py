"""Results on stdout: tables and colours on a terminal, plain lines in a pipe, JSON for programs.

In a pipe nothing is shortened and nothing is escaped; on a terminal, foreign text cannot steer it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from caterva2.errors import Caterva2Error

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LINE_BREAKING = re.compile(r"[\t\n]")


_NO_RICH = 'on a terminal this needs rich: run pip install "caterva2[clients]", or add --json'


class Output:
    """Where a command puts its results.

    Args:
        stream: usually stdout.
        json: whether the results are for a program.

    Attributes:
        terminal: whether a person reads along.
    """

    def __init__(self, stream: TextIO, *, json: bool = False) -> None:
        self.stream = stream
        self.json = json
        self.terminal = stream.isatty()

    @property
    def width(self) -> int | None:
        """The columns of the terminal; None in a pipe, where lines have no end."""
        return shutil.get_terminal_size().columns if self.terminal else None

    def data(self, value: Any) -> None:
        """Write a result as JSON, in one line."""
        self.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")

    def lines(self, items: Iterable[str]) -> None:
        """Write one item a line."""
        for item in items:
            self.write((visible(item) if self.terminal else item) + "\n")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table; in a pipe, tab-separated lines without a heading."""
        if not self.terminal:
            self.lines("\t".join(row) for row in rows)
            return
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            drawn.add_column(column, overflow="fold")
        for row in rows:
            drawn.add_row(*(Text(visible(cell), style=_STYLES.get(cell, "")) for cell in row))
        self._console.print(drawn)

    def pairs(self, values: Mapping[str, str]) -> None:
        """Write names and values; in a pipe, `name: value` lines."""
        if not self.terminal:
            self.lines(f"{name}: {value}" for name, value in values.items())
            return
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=None, show_header=False, pad_edge=False)
        drawn.add_column(style="bold")
        drawn.add_column(overflow="fold")
        for name, value in values.items():
            drawn.add_row(Text(visible(name)), Text(visible(value)))
        self._console.print(drawn)

    def text(self, text: str) -> None:
        """Write text as it is; on a terminal, what would steer it becomes visible."""
        self.write(_CONTROL.sub(_escape, text) if self.terminal else text)

    def write(self, text: str) -> None:
        """Write to the stream."""
        self.stream.write(text)

    def flush(self) -> None:
        """Hand on what was written, to whoever waits for it."""
        self.stream.flush()

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console

        return Console(file=self.stream, highlight=False)

    def check(self) -> None:
        """Make sure that tables can be drawn, before work is done.

        Raises:
            Caterva2Error: if the terminal needs what is not installed.
        """
        if self.terminal and not self.json:
            try:
                import rich  # noqa: F401
            except ImportError as error:
                raise Caterva2Error(_NO_RICH) from error


_STYLES = {"online": "green", "offline": "red", "live": "green", "stale": "red"}


def visible(text: str) -> str:
    """Write control characters, also line ends, as what they are instead of obeying them."""
    return _LINE_BREAKING.sub(_escape, _CONTROL.sub(_escape, text))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
