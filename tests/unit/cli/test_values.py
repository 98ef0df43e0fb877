from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from caterva2.cli.values import array_text, hex_lines, is_text, json_of_array, json_of_bytes


@pytest.mark.parametrize(
    ("array", "data"),
    [
        (np.array([1, 2], "u1"), [1, 2]),
        (np.array([[1.5, np.nan], [np.inf, -np.inf]]), [[1.5, "nan"], ["inf", "-inf"]]),
        (np.array([1 + 2j]), [[1.0, 2.0]]),
        (np.array([True]), [True]),
        (np.array([b"ab\xff"]), ["ab\\xff"]),
        (np.array(["ü"]), ["ü"]),
        (np.array(["2026-11-22", "NaT"], "M8[D]"), ["2026-11-22", "NaT"]),
        (np.array([5], "m8[s]"), ["5 seconds"]),
        (np.array(7), 7),
        (np.zeros((0, 3)), []),
        (np.array([(1, b"x")], [("a", "<i4"), ("b", "S3")]), {"a": [1], "b": ["x"]}),
    ],
    ids=lambda x: str(getattr(x, "dtype", ""))[:20],
)
def test_arrays_for_programs(array: np.ndarray, data: Any) -> None:
    """Each dtype has a form in strict JSON, beside its shape and dtype."""
    found = json_of_array(array)

    assert data == found["data"]
    assert list(array.shape) == found["shape"]
    assert json.dumps(found, allow_nan=False)


def test_arrays_for_people() -> None:
    """With a width long arrays are shortened; without one nothing is, and a row is a line."""
    array = np.arange(4000).reshape(2, 2000)

    assert "..." in array_text(array, 80)
    assert "..." not in array_text(array)
    assert len(array_text(array).splitlines()) == 2
    assert array_text(np.int64(5)) == "5"
    assert array_text(np.array("x")) == "x"


@pytest.mark.parametrize("piece", [b"", "ü\n".encode(), b"\x1b[31m"])
def test_what_is_text(piece: bytes) -> None:
    """Text is UTF-8 without NUL."""
    assert is_text(piece)


@pytest.mark.parametrize("piece", [b"a\0b", b"\xff\xfe", b"\xc3"])
def test_what_is_no_text(piece: bytes) -> None:
    """Other bytes, and a text that ends within a character, are no text."""
    assert not is_text(piece)


def test_a_character_across_two_pieces() -> None:
    """A large file whose first piece ends within a character is text all the same."""
    assert is_text(b"a" * ((4 << 20) - 1) + "ü".encode()[:1])


def test_bytes_for_programs() -> None:
    """Text is given as text, other bytes in base64."""
    assert json_of_bytes("ü".encode()) == {"nbytes": 2, "text": "ü"}
    assert json_of_bytes(b"\xff") == {"nbytes": 1, "base64": "/w=="}


def test_bytes_for_people() -> None:
    """Bytes are shown as hexdump -C shows them."""
    lines = list(hex_lines(b"\0\x1bHello world!...12", 16))

    assert lines == [
        "00000010  00 1b 48 65 6c 6c 6f 20  77 6f 72 6c 64 21 2e 2e  |..Hello world!..|",
        "00000020  2e 31 32                                          |.12|",
    ]
