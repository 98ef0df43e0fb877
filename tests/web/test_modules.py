"""The modules without a face, in the browser that they are for."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, sync_playwright

from tests.web.data import records
from tests.web.pages import launch, open_page


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page with the modules, which no server answers for."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        with open_page(browser, "http://modules.invalid") as opened:
            opened.page.goto("http://modules.invalid/empty")
            yield opened.page
            assert not opened.problems
        browser.close()


def _npy(array: Any) -> str:
    file = io.BytesIO()
    np.save(file, np.asarray(array), allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()


def _texts(page: Page, array: Any) -> Any:
    """What the page says that the values of an array are."""
    return page.evaluate(
        """async (text) => {
          const { parseNpy } = await import("/static/js/npy.js");
          const { formatValue } = await import("/static/js/values.js");
          const array = parseNpy(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
          return Array.from({ length: array.size }, (_, i) => formatValue(array.at(i), array.dtype));
        }""",
        _npy(array),
    )


def _numbers(page: Page, array: Any, part: str = "abs") -> Any:
    return page.evaluate(
        """async ([text, part]) => {
          const { parseNpy } = await import("/static/js/npy.js");
          return [...parseNpy(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer).numbers(part)];
        }""",
        [_npy(array), part],
    )


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([1, -(2**63), 2**53 + 1]), ["1", "-9223372036854775808", "9007199254740993"]),
        (np.array([2**64 - 1], ">u8"), ["18446744073709551615"]),
        (np.array([0.1, np.nan, np.inf, -np.inf, 1e300, -0.0]), ["0.1", "NaN", "inf", "-inf", "1e+300", "-0.0"]),
        (np.array([0.1, 1 / 3, 16777216], "f4"), ["0.1", "0.33333334", "16777216.0"]),
        (np.array([0.5, 65504, np.inf, np.nan], "f2"), ["0.5", "65504.0", "inf", "NaN"]),
        (np.array([1 + 2j, -1.5 - 0.1j], "c8"), ["1.0+2.0j", "-1.5-0.1j"]),
        (np.array([True, False]), ["True", "False"]),
        (np.array([b"abc", b"\xff\x01"]), ["abc", "\\xff\\x01"]),
        (np.array(["h\u00e9\u20ac\U0001d11e", ""]), ["h\u00e9\u20ac\U0001d11e", ""]),
        (np.array(["2026-02-28", "NaT", "1900-01-01"], "M8[D]"), ["2026-02-28", "NaT", "1900-01-01"]),
        (np.array(["1969-12-31T23:59:59.5"], "M8[ns]"), ["1969-12-31T23:59:59.500000000"]),
        (np.array(["1969-12", "2026-07"], "M8[M]"), ["1969-12", "2026-07"]),
        (np.array([5, -3], "m8[s]"), ["5 s", "-3 s"]),
        (np.array(2.5), ["2.5"]),
        (np.zeros((0, 3)), []),
        (np.array([b"ab"]).view("V2"), ["0x6162"]),
        (records(2)[1:], ["(1, 0.1, run1, 2026-06-01T08:00:01, False, [1.0, 1.5, 1.25], (1, 0))"]),
    ],
    ids=lambda value: str(value.dtype)[:20] if isinstance(value, np.ndarray) else "",
)
def test_npy_values(page: Page, array: Any, expected: list[str]) -> None:
    """Values of every dtype are read from NPY, and written exactly."""
    assert expected == _texts(page, array)


def test_npy_of_padded_records(page: Page) -> None:
    """The padding that NPY notes between fields is no field."""
    form = np.dtype([("a", "i1"), ("b", "f8"), ("c", "i2")], align=True)

    assert ["(1, 2.5, 3)"] == _texts(page, np.array([(1, 2.5, 3)], form))


def test_npy_numbers(page: Page) -> None:
    """Numbers to draw are the values, in either byte order; of complex ones, the part that is asked for."""
    z = np.array([3 + 4j, -1j])

    assert [1.5, -2.0] == _numbers(page, np.array([1.5, -2]))
    assert [1.5, -2.0] == _numbers(page, np.array([1.5, -2], ">f4"))
    assert [7, -(2**40)] == _numbers(page, np.array([7, -(2**40)]))
    assert [5, 1] == _numbers(page, z)
    assert [3, 0] == _numbers(page, z, "re")
    assert pytest.approx(np.angle(z)) == _numbers(page, z, "phase")


def test_npy_that_is_none(page: Page) -> None:
    """What is cut off, damaged, or of a kind that cannot be shown is an error of its own kind, whatever the bytes."""
    whole = base64.b64decode(_npy(np.arange(10.0)))
    header = whole.replace(b"<f8", b"|O8")
    cut = [b"", b"no", whole[:9], whole[:60], whole[:-1]]
    cases = [*cut, header, whole.replace(b"(10,)", b"(1e9)"), whole[:10] + b"(" * 118]
    fortran = base64.b64decode(_npy(np.asfortranarray(np.ones((2, 3)))))
    names = page.evaluate(
        """async (texts) => {
          const { parseNpy } = await import("/static/js/npy.js");
          return texts.map((text) => {
            try { parseNpy(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer); return "read"; }
            catch (error) { return error.constructor.name; }
          });
        }""",
        [base64.b64encode(case).decode() for case in [*cases, fortran]],
    )

    assert ["NpyError"] * 9 == names


def test_look(page: Page) -> None:
    """A slice in the URL says axes, region and position; what does not fit the shape counts for nothing."""
    looks = page.evaluate(
        """async () => {
          const { Look } = await import("/static/js/look.js");
          const shape = [10, 20, 30];
          const of = (state, wanted = 2) => Look.of(shape, wanted, state);
          const steps = new Map([[1, 4], [2, 3]]);
          return [
            of({}).text(), of({ slice: "3, :, 5:9" }).text(steps), of({ slice: "-1, :, :" }).text(),
            of({ slice: ":, 7, :" }).axes.join(), of({ slice: "99, 5:3, x" }).text(), of({ axes: "2,0" }).text(),
            of({ axes: "2,0" }).toState().axes, of({}).toState().slice ?? "none", of({ axes: "1,1" }).axes.join(),
            of({}).withAxis(0, 2).axes.join(), of({}).withAxis(0, 0).text(), of({}, 1).text(),
            of({ slice: "3, :, 5:9" }).withRegion(2, { start: 25, stop: 35 }).text(), Look.of([], 0, {}).text(),
            of({ slice: "4, 2:6, 5:9" }).whole().text(),
          ];
        }"""
    )

    assert [
        "0, :, :", "3, ::4, 5:9:3", "9, :, :", "0,2", "9, :, :", ":, 0, :", "2,0", "none", "1,2",
        "2,1", ":, 0, :", "0, 0, :", "3, :, 20:30", "", "4, :, :",
    ] == looks  # fmt: skip


def test_statistics(page: Page) -> None:
    """Figures and histogram are NumPy's, of the finite values."""
    values = np.random.default_rng(3).normal(1e6, 2, 5000)
    given = [*values.tolist(), None]
    figures, counts, ticks = page.evaluate(
        """async (given) => {
          const { histogram, statisticsOf, ticks } = await import("/static/js/statistics.js");
          const values = given.map((value) => value ?? NaN);
          const figures = statisticsOf([...values, Infinity]);
          const counts = [...histogram(values, figures.min, figures.max, 20)];
          return [figures, counts, [ticks(0, 1, 5), ticks(-3, 1000, 4), ticks(2, 2, 5)]];
        }""",
        given,
    )

    assert (5002, 5000, 1, 1) == tuple(figures[name] for name in ("count", "finite", "nan", "infinite"))
    assert (values.min(), values.max()) == (figures["min"], figures["max"])
    assert pytest.approx(values.mean()) == figures["mean"]
    assert pytest.approx(values.std()) == figures["std"]
    assert np.histogram(values, 20)[0].tolist() == counts
    assert [[0, 0.2, 0.4, 0.6, 0.8, 1], [0, 500, 1000], [2]] == ticks


def test_colours(page: Page) -> None:
    """Colour maps begin and end where matplotlib's do, values map in between, and NaN has no colour."""
    ends, drawn = page.evaluate(
        """async () => {
          const { COLORMAPS, colour, palette } = await import("/static/js/colormaps.js");
          const rgba = (pixel) => [...new Uint8Array(Uint32Array.of(pixel).buffer)];
          const pixels = new Uint32Array(5);
          colour([0, 5, 10, 99, NaN], pixels, palette("grey"), { low: 0, high: 10, log: false });
          const ends = COLORMAPS.map((name) => [name, [0, 255].map((i) => rgba(palette(name)[i]))]);
          return [Object.fromEntries(ends), [...pixels].map(rgba)];
        }"""
    )

    assert [[68, 1, 84, 255], [253, 231, 37, 255]] == ends["viridis"]
    assert [252, 253, 191, 255] == ends["magma"][1]
    assert [0, 34, 78, 255] == ends["cividis"][0]
    assert [[0, 0, 0, 255], [128] * 3 + [255], [255] * 4, [255] * 4, [0] * 4] == drawn


def test_links_of_documents(page: Page) -> None:
    """What a document names is looked for beside it, and never outside of its root."""
    found = page.evaluate(
        """async () => {
          const { linksOf } = await import("/static/js/sanitise.js");
          const { image } = linksOf("foo/docs/README.md", { downloadUrl: (p) => p, viewUrl: (p) => p });
          return ["a.png", "./img/a.png", "../a.png", "../../a.png", "../../bar/a.png", "../../../etc", ""].map(image);
        }"""
    )

    assert ["foo/docs/a.png", "foo/docs/img/a.png", "foo/a.png", None, None, None, "foo/docs"] == found


def test_names_of_files() -> None:
    """Every module is small, and has its licence if it came from others."""
    web = Path(__file__).parents[2] / "caterva2" / "web"
    long = [file.name for file in web.glob("js/**/*.js") if len(file.read_text().splitlines()) >= 300]
    bare = [file.name for file in web.glob("vendor/*.js") if not file.with_suffix(".LICENSE").exists()]

    assert ([], []) == (long, bare)
