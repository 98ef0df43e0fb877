"""One line a record."""

import logging
import sys

from caterva2.daemon.logs import OneLine


def record(message: str, *, error: BaseException | None = None) -> logging.LogRecord:
    """Make a record."""
    return logging.LogRecord(
        "name", logging.ERROR, "file", 1, message, (), (type(error), error, error.__traceback__) if error else None
    )


def test_lines_are_joined() -> None:
    """A message of several lines is one line in the log."""
    assert OneLine().format(record("a\n\nb\r\nc")).endswith(" ERROR name: a | b | c")


def test_traceback_is_one_line() -> None:
    """Of a traceback the error and its frames are kept, innermost first."""
    try:
        int("x\ny")
    except ValueError as error:
        text = OneLine().format(record("failed", error=error))

    assert "\n" not in text
    assert "ValueError: invalid literal" in text
    assert f"{__file__}:" in text
    assert sys._getframe().f_code.co_name in text
