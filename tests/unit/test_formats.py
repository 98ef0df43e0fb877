"""caterva2.formats: NPY is what NumPy saves, CSV is what RFC 4180 and the csv module read."""

import csv
import io
import warnings
from typing import Any

import numpy as np
import pytest

from caterva2.errors import BadRequestError, TooLargeError
from caterva2.formats import Format, encoding_of
from tests.support.arrays import DTYPES, example, same

NESTED = np.dtype([("p", [("x", "f4"), ("y", "i1", (2,))]), ("s", "U3"), ("n,m", "i2")])
LATIN = np.dtype([("é", "i4"), ("b", ">f8")])
BEYOND = np.dtype([("数", "i4")])
MANY = np.dtype([(f"{'field' * 20}{i}", "i1") for i in range(1000)])


def file_of(format_: Format, values: np.ndarray[Any, Any]) -> bytes:
    """The whole file; its length is what was said."""
    encoding = encoding_of(format_, values.shape, values.dtype)
    data = b"".join(encoding.pieces(values))
    assert encoding.length in {None, len(data)}
    return data


def rows_of(values: np.ndarray[Any, Any]) -> list[list[str]]:
    """What the csv module reads from it."""
    return list(csv.reader(io.StringIO(file_of(Format.CSV, values).decode(), newline="")))


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0), (5, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [*DTYPES, ">f4", LATIN, BEYOND, MANY], ids=lambda dtype: str(dtype)[:20])
def test_npy_is_what_numpy_saves(dtype: Any, shape: tuple[int, ...]) -> None:
    """An NPY file is the one that NumPy writes, byte for byte, with a header of the oldest version that holds it."""
    values = example(shape, dtype)

    data = file_of(Format.NPY, values)

    saved = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of header versions that old readers do not know
        np.save(saved, values)
    assert saved.getvalue() == data
    assert same(values, np.load(io.BytesIO(data), max_header_size=1 << 20))


@pytest.mark.parametrize("dtype", ["?", "i1", "<u8", "<i8", "<f2", ">f4", "<f8", "<f16", "<c8", "<c16", "<M8[ns]"])
def test_csv_loses_nothing_of_numbers(dtype: str) -> None:
    """Numbers, times and truth are read back from text as they were; a 2-d array has a record for each row."""
    values = example((3, 4), dtype) / np.array(3, "i1") if dtype[1:2] in set("fc") else example((3, 4), dtype)
    values = values.astype(dtype)
    if dtype[1:2] in set("fc"):
        values.flat[:3] = [np.nan, np.inf, -np.inf]

    rows = np.array(rows_of(values))

    if dtype == "?":
        assert (values == (rows == "True")).all()
    else:
        assert np.array_equal(values, rows.astype(dtype), equal_nan=True)


def test_csv_writes_fewest_digits() -> None:
    """A float32 is not written with the digits of a float64."""
    assert b"0.1\r\n3.3e+38\r\n-0.0\r\n" == file_of(Format.CSV, np.array([0.1, 3.3e38, -0.0], "f4"))
    assert b"18446744073709551615\r\n" == file_of(Format.CSV, np.array(2**64 - 1, "u8"))


def test_csv_quotes_text() -> None:
    """Commas, quotes, line ends and empty text survive; bytes that are no UTF-8 are written as escapes."""
    texts = ["a,b", 'say "x"', "two\r\nlines", "", " 数 ", "=1+1"]

    assert texts == [row[0] for row in rows_of(np.array(texts))]
    assert b'a\\xff\r\n""\r\n' == file_of(Format.CSV, np.array([b"a\xff", b""]))
    assert b"\\ud800\r\n" == file_of(Format.CSV, np.array(["\ud800"]))


def test_csv_of_times_and_raw_items() -> None:
    """Times are ISO 8601, durations counts of their unit, raw bytes hexadecimal."""
    assert [["2026-11-25T10:00"], ["NaT"]] == rows_of(np.array(["2026-11-25T10:00", "NaT"], "M8[m]"))
    assert [["-5"], ["NaT"]] == rows_of(np.array([-5, "NaT"], "m8[s]"))
    assert [["00ff"]] == rows_of(np.array([b"\x00\xff"], "V2"))


def test_csv_of_fields_has_a_header() -> None:
    """Fields are columns with a header; fields of fields and items of arrays have columns of their own."""
    values = np.zeros(2, NESTED)
    values[1] = ((1.5, (2, 3)), "a,b", -4)

    assert [
        ["p.x", "p.y[0]", "p.y[1]", "s", "n,m"],
        ["0.0", "0", "0", "", "0"],
        ["1.5", "2", "3", "a,b", "-4"],
    ] == rows_of(values)
    assert rows_of(values)[::2] == rows_of(values[1])
    assert [["p.x", "p.y[0]", "p.y[1]", "s", "n,m"]] == rows_of(values[:0])


@pytest.mark.parametrize("dtype", ["<i8", NESTED], ids=["plain", "fields"])
def test_csv_is_cut_anywhere(dtype: Any) -> None:
    """A large array is written in small parts, which join to the same rows."""
    values = np.zeros(100_000, dtype) if dtype == NESTED else np.arange(100_000, dtype=dtype)
    pieces = list(encoding_of(Format.CSV, values.shape, values.dtype).pieces(values))

    assert len(pieces) > 2
    assert max(map(len, pieces)) < 2 << 20
    assert 100_000 + (dtype == NESTED) == b"".join(pieces).count(b"\r\n")


def test_csv_refuses_what_is_no_table() -> None:
    """What has too many axes is refused with a remedy, rows beyond any program for tables too."""
    with pytest.raises(BadRequestError, match=r"at most 2 axes, this has shape \(2, 3, 4\): take a slice"):
        encoding_of(Format.CSV, (2, 3, 4), np.dtype("i4"))
    with pytest.raises(BadRequestError, match=r"a structured array of at most 1 axis.*one field"):
        encoding_of(Format.CSV, (2, 3), NESTED)
    with pytest.raises(TooLargeError, match="rows of at most"):
        encoding_of(Format.CSV, (2, 10**7), np.dtype("i1"))


def test_names() -> None:
    """A format is named by its ending, and files get it."""
    assert (Format.CSV, "ds.csv", "ds.b2nd", "x.y.npy") == (
        Format.parse("csv"),
        Format.CSV.named("ds.b2nd"),
        Format.B2ND.named("ds.b2nd"),
        Format.NPY.named("x.y"),
    )
    with pytest.raises(BadRequestError, match="'xls' is no format: use b2nd, npy, csv"):
        Format.parse("xls")
