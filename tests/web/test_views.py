"""Views of datasets, in a browser, as a user meets them; each test is a journey over several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from caterva2.example import write_array
from tests.integration.chain.daemons import Chain, running_chain
from tests.support.waiting import wait_until
from tests.web.data import png, records, write_samples
from tests.web.pages import ViewPage, launch, open_page

# What nothing that others wrote may bring to the page.
_ACTIVE = "script, style, iframe, form, input, [onerror], [onload], [style], [href^=javascript]"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A subscriber of a root with datasets of every kind."""
    directory = tmp_path_factory.mktemp("views")
    (directory / "foo").mkdir()
    write_samples(directory / "foo")
    with running_chain(directory) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The browser of all these tests."""
    with sync_playwright() as playwright:
        opened = launch(playwright)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def opened(chain: Chain, browser: Any) -> Iterator[ViewPage]:
    """The page of all these tests."""
    with open_page(browser, chain.subscriber.url) as page:
        yield page


@pytest.fixture
def view(opened: ViewPage, tmp_path: Path) -> Iterator[ViewPage]:
    """The page; after a test nothing may have gone wrong in it. A screenshot of it is in `tmp_path`."""
    opened.problems.clear()
    yield opened
    opened.page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert [] == opened.problems
    assert opened.page.evaluate("window.hacked") is None


def _stored(chain: Chain, path: str) -> Any:
    return chain.client.get(f"foo/{path}")[...]


def _drag(view: ViewPage, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over the plot; places are shares of its width and height."""
    box = view.page.locator(".v-plot").bounding_box()
    assert box is not None
    mouse = view.page.mouse
    mouse.move(box["x"] + start[0] * box["width"], box["y"] + start[1] * box["height"])
    mouse.down()
    mouse.move(box["x"] + end[0] * box["width"], box["y"] + end[1] * box["height"], steps=4)
    mouse.up()
    view.settle()


def test_heat_map(view: ViewPage, chain: Chain) -> None:
    """An overview costs no more than the screen's pixels; a region refines to all values, and is a deep link."""
    values = _stored(chain, "field.b2nd")
    page = view.show("field.b2nd", "heatmap")
    received = page.evaluate("window.received")

    assert received < 1280 * 900 * 4 < values.nbytes
    assert {} == page.evaluate("window.selection()")
    assert "one row in" in view.text(".v-panel")

    _drag(view, (0.3, 0.3), (0.4, 0.4))

    assert "slice=" in page.url
    assert view.text(".v-panel .v-muted").startswith("All ")
    page.locator(".v-plot").press("ArrowRight")
    row, column, value = _pointed(view)
    assert values[row, column] == np.float32(value)

    drawn = _pixels(view).tolist()
    page.reload()
    page.wait_for_selector("body[data-shown]")
    view.settle()
    assert drawn == _pixels(view).tolist()

    page.get_by_role("button", name="Show all").click()
    view.settle()
    assert "slice=" not in page.url


def test_axes_and_colours(view: ViewPage, chain: Chain) -> None:
    """Any two axes are drawn at any place of the others, in the colours that their values have."""
    values = _stored(chain, "tomo.b2nd")
    page = view.show("tomo.b2nd", "heatmap", cmap="grey")
    page.get_by_label("Axis 0", exact=True).fill("7")
    view.settle()

    assert "slice=7" in page.url
    assert _grey(values[7]).tolist() == _pixels(view).tolist()

    page.get_by_label("Columns").select_option("0")
    view.settle()
    page.get_by_label("Rows").select_option("2")
    view.settle()
    page.get_by_label("Position on axis 1").fill("20")
    page.keyboard.press("Enter")
    view.settle()

    assert "axes=2%2C0" in page.url
    assert _grey(values[:, 20, :].T).tolist() == _pixels(view).tolist()

    page.get_by_label("Range").select_option("robust")
    page.get_by_label("Scale").select_option("log")
    page.get_by_label("From", exact=True).fill("1000")
    page.get_by_label("to", exact=True).fill("20000")
    page.keyboard.press("Enter")

    assert "range=1000%3A20000" in page.url
    assert "from 1000 to 20000, logarithmic" in page.locator(".v-bar").get_attribute("aria-label")


def test_links_that_make_no_sense(view: ViewPage, chain: Chain) -> None:
    """A link that asks for what there is not shows what there is."""
    nonsense = {"slice": "a, 9:1, 77", "axes": "9,9", "range": "x:y", "scale": "?", "field": "none", "row": "-5x"}
    values = _stored(chain, "tomo.b2nd")
    view.show("tomo.b2nd", "heatmap", cmap="__proto__", **nonsense)
    assert values[0].shape == _pixels(view).shape

    view.show("image.b2nd", "image", order="constructor", **nonsense)
    view.show("signal.b2nd", "line", **nonsense)
    view.show("wide.b2nd", "table", **nonsense)
    assert "0" == view.text("tbody td")
    view.show("records.b2nd", "nothing", columns="%,constructor", sortby="id", order="?")
    assert "0" == view.text("tbody td")


def test_keyboard(view: ViewPage) -> None:
    """All of a heat map can be had with the keyboard alone."""
    page = view.show("tomo.b2nd", "heatmap")
    assert {"slice": "0, :, :"} == page.evaluate("window.selection()")
    page.get_by_label("Rows").focus()
    reached = []
    for _ in range(14):
        reached.append(page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"))
        page.keyboard.press("Tab")

    assert {"Zoom in", "Zoom out", "Show all", "Position on axis 0"} <= set(reached)
    assert any(label.startswith("Heat map") for label in reached)

    page.get_by_label("Axis 0", exact=True).press("ArrowRight")
    view.settle()
    plot = page.locator(".v-plot")
    plot.press("+")
    plot.press("Shift+ArrowRight")
    view.settle()
    assert "slice=1%2C+16%3A48%2C+30%3A70" in page.url
    plot.press("0")
    plot.press("ArrowDown")
    view.settle()
    assert view.text(".v-readout").startswith("[1, ")


def test_dear_look(view: ViewPage) -> None:
    """An overview that would be work for minutes is only read when that is wanted; a region of it at once."""
    page = view.show("huge.b2nd", "heatmap")

    assert "112 GiB must be decompressed" in view.text(".v-gate")
    assert page.evaluate("window.received") < 2000

    view.show("huge.b2nd", "heatmap", slice="1000000:1000400, 0:300")
    assert not page.locator(".v-gate").is_visible()
    assert "All 400" in view.text(".v-panel")


def test_odd_heat_maps(view: ViewPage) -> None:
    """No number at all, complex numbers, and steady values look as what they are."""
    view.show("nothing.b2nd")
    assert "None of them is finite" in view.text(".v-panel")
    assert {0} == set(_pixels(view, channel=3).flat)

    page = view.show("complex.b2nd")
    assert 1 == len(set(_pixels(view).flat))

    page.get_by_label("Part").select_option("phase")
    view.settle()
    assert len(set(_pixels(view).flat)) > 10
    page.locator(".v-plot").press("ArrowDown")
    assert "j (" in view.text(".v-readout")


def test_image(view: ViewPage, chain: Chain) -> None:
    """Arrays of colours are drawn as such, each picture of a stack."""
    values = _stored(chain, "image.b2nd")
    page = view.show("image.b2nd")
    page.get_by_label("Axis 0", exact=True).fill("3")
    view.settle()

    assert values[3, ..., 2].tolist() == _pixels(view, channel=2).tolist()
    page.locator(".v-plot").press("ArrowRight")
    assert f"[3, 0, 1] = {', '.join(map(str, values[3, 0, 1]))}" == view.text(".v-readout")


def test_line(view: ViewPage, chain: Chain) -> None:
    """A long line is read in steps, and says so; near enough, every value is there."""
    values = _stored(chain, "signal.b2nd")
    page = view.show("signal.b2nd")

    assert page.evaluate("window.received") < 60_000
    assert "one in " in view.text(".v-panel")

    view.show("signal.b2nd", slice="399990:400010")

    assert "All 20 values" in view.text(".v-panel")
    assert "\n9\n" in view.text(".v-figures")
    for _ in range(10):
        page.locator(".v-plot").press("ArrowRight")
    assert f"[400000] = {values[400000]}" == view.text(".v-readout")

    page.locator(".v-plot").press("+")
    view.settle()
    assert "All 10 values" in view.text(".v-panel")
    _drag(view, (0.5, 0.5), (0.7, 0.5))
    assert "slice=" in page.url
    page.locator(".v-plot").dblclick(position={"x": 200, "y": 80})
    view.settle()
    assert "slice=" not in page.url


def test_table(view: ViewPage, chain: Chain) -> None:
    """A table of any size shows what is asked for, and loads little more."""
    values = _stored(chain, "wide.b2nd")
    page = view.show("wide.b2nd", "table")

    assert 20001 == int(page.locator("table").get_attribute("aria-rowcount"))
    page.get_by_label("Go to row").fill("19990")
    page.keyboard.press("Enter")
    page.get_by_label("Go to column").fill("99")
    page.keyboard.press("Enter")
    view.settle()

    last = page.locator("tbody tr").last
    assert "19999" == last.locator("th").inner_text()
    assert str(values[-1, -1]) == last.locator("td:not(.v-rest)").last.inner_text()
    assert page.evaluate("window.received") < 40_000

    page.locator(".v-scroller").focus()
    page.keyboard.press("Home")
    view.settle()
    assert "0" == page.locator("tbody th").first.inner_text()
    page.mouse.move(400, 500)
    page.mouse.wheel(0, 28 * 100)
    wait_until(lambda: page.locator("tbody th").first.inner_text() != "0", "the table to scroll")
    view.settle()
    row = int(page.locator("tbody th").first.inner_text())
    column = int(page.locator("thead th").first.inner_text())
    assert str(values[row, column]) == page.locator("tbody td").first.inner_text()
    assert f"row={row}" in page.url


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("big-integers.b2nd", [str(2**53 + 1), str(-(2**63)), str(2**63 - 1)]),
        ("scalar.b2nd", ["2.5"]),
        ("times.b2nd", [f"2026-06-{day:02}" for day in range(1, 11)]),
        ("texts.b2nd", ["h\u00e9llo", "<b>bold</b>"]),
    ],
)
def test_odd_tables(view: ViewPage, path: str, texts: list[str]) -> None:
    """Values of all dtypes are exact, whatever they are."""
    view.show(path, "table")

    assert texts == view.page.locator("tbody td:not(.v-rest)").all_inner_texts()


def test_empty(view: ViewPage) -> None:
    """What is empty is called so."""
    view.show("empty.b2nd")
    assert "This array is empty: its shape is (0, 3)." == view.text(".v-note")

    view.show("nothing.txt")
    assert "This file is empty." == view.text(".v-note")


def test_records(view: ViewPage) -> None:
    """Records are filtered and sorted by the subscriber, and shown in the columns that are wanted."""
    rows = records()
    good = rows[rows["energy"] > 498]
    page = view.show("records.b2nd")
    page.get_by_label("Rows where").fill("energy > 498")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="energy").click()
    view.settle()

    assert f"{len(good)} of 5\u2009000 rows" == view.text("[role=status]")
    shown = page.locator("tbody tr td:nth-child(3)").all_inner_texts()
    assert sorted(good["energy"])[: len(shown)] == [float(text) for text in shown]

    page.get_by_role("button", name="energy").click()
    view.settle()
    assert "descending" == page.locator("th[aria-sort]").get_attribute("aria-sort")
    assert max(good["energy"]) == float(page.locator("tbody td:nth-child(3)").first.inner_text())
    page.get_by_role("button", name="energy").click()
    page.get_by_role("button", name="energy").click()

    page.get_by_text("Columns", exact=True).click()
    for name in ("name", "when", "good", "pos", "at", "energy"):
        page.locator(f".v-check input[value={name}]").uncheck()
    view.settle()

    assert ["id"] == page.locator("thead th").all_inner_texts()
    assert {"filter": "energy > 498", "sortby": "energy"} == page.evaluate("window.selection()")
    assert "filter=energy" in page.url
    assert "sortby=energy" in page.url
    first = page.locator("tbody td").first.inner_text()
    assert str(good[np.argsort(good["energy"])]["id"][0]) == first


def test_refusal(view: ViewPage) -> None:
    """What the subscriber does not accept is said in its words, and does not end the view."""
    page = view.show("records.b2nd", filter="nothere > 1")
    expect(page.locator(".v-error:visible").first).to_contain_text("nothere")
    view.problems.clear()  # the browser reports the 400 by itself

    page.get_by_label("Rows where").fill("id < 3")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.locator(".v-error:visible")).to_have_count(0)


def test_documents(view: ViewPage) -> None:
    """Markdown and notebooks are rendered, and nothing in them runs, or is fetched from elsewhere."""
    page = view.show("README.md")
    document = page.locator(".v-document")

    assert "12" == document.locator("td").nth(1).inner_text()
    assert "/view/foo/signal.b2nd" == document.get_by_text("the array").get_attribute("href")
    assert "noopener" in document.get_by_text("elsewhere").get_attribute("rel")
    wait_until(lambda: document.locator("img").first.evaluate("i => i.naturalWidth") == 64, "the picture beside it")
    assert 0 == document.locator(_ACTIVE).count()

    page = view.show("analysis.ipynb")
    assert "counted 12" in view.text(".v-output")
    assert 0 == page.locator("main").locator(_ACTIVE).count()
    assert 40 == page.locator("img.v-image").first.evaluate("i => i.naturalWidth")
    assert "ValueError: no" == view.text(".v-trace")


def test_files(view: ViewPage) -> None:
    """Text, pictures, PDF and bytes of any kind are shown, and markup in them is text."""
    view.show("notes.txt")
    assert view.text(".v-text").startswith("First line\n<b>no markup</b>\n")

    for path, width in (("square.png", 64), ("drawing.svg", 120)):
        page = view.show(path)
        wait_until(lambda page=page: "pixels" in view.text(".v-muted"), "the picture")
        assert width == page.locator("img").evaluate("i => i.naturalWidth")

    view.show("blob.bin")
    assert view.text(".v-text").splitlines()[2].endswith(" !\"#$%&'()*+,-./")
    view.page.get_by_role("button", name="Show more").click()
    view.settle()
    assert 256 * 40 // 16 == len(view.text(".v-text").splitlines())

    view.show("hello.b2frame")
    assert view.text(".v-text").splitlines()[0].endswith("Hello frame! Hel")

    page = view.show("paper.pdf")
    assert page.locator("iframe").get_attribute("src").startswith("blob:")


def test_changes(view: ViewPage, chain: Chain) -> None:
    """A view follows its dataset: new values in place, another shape with other controls, another picture."""
    write_array(chain.root / "moving.b2nd", np.arange(12.0).reshape(3, 4), (3, 4), (3, 4))
    wait_until(lambda: "moving.b2nd" in chain.client.get("foo").file_list, "the dataset")
    page = view.show("moving.b2nd", cmap="grey")
    before = _pixels(view).tolist()

    _write(chain, "moving.b2nd", -np.arange(12.0).reshape(3, 4))
    page.evaluate("window.renew()")
    view.settle()
    assert before[::-1] != _pixels(view).tolist() != before

    _write(chain, "moving.b2nd", np.arange(24.0).reshape(2, 3, 4))
    page.evaluate("window.renew()")
    view.settle()
    assert page.get_by_label("Axis 0", exact=True).is_visible()

    page = view.show("square.png")
    (chain.root / "square.png").write_bytes(png(20, 10))
    wait_until(lambda: chain.get("info/foo/square.png").json()["nbytes"] == len(png(20, 10)), "the new picture")
    page.evaluate("window.renew()")
    wait_until(lambda: page.locator("img").evaluate("i => i.naturalWidth") == 20, "the new picture on the page")


def test_phone(view: ViewPage) -> None:
    """On a phone nothing is wider than the screen; what was wide before makes itself narrow."""
    view.show("field.b2nd")
    view.page.set_viewport_size({"width": 390, "height": 844})
    wait_until(lambda: view.page.evaluate("document.documentElement.scrollWidth") <= 390, "the picture to fit")
    view.page.emulate_media(color_scheme="dark")
    for path in ("tomo.b2nd", "signal.b2nd", "records.b2nd", "analysis.ipynb"):
        page = view.show(path)
        assert 390 >= page.evaluate("document.documentElement.scrollWidth"), path


def _write(chain: Chain, path: str, values: Any) -> None:
    write_array(chain.root / path, values, values.shape, values.shape)
    wait_until(lambda: np.array_equal(_stored(chain, path), values), "the new values at the subscriber")


def _pointed(view: ViewPage) -> tuple[int, int, float]:
    """What the cursor is on: row, column, value."""
    place, value = view.text(".v-readout").split(" = ")
    row, column = place.strip("[]").split(", ")
    return int(row), int(column), float(value)


def _pixels(view: ViewPage, channel: int = 0) -> Any:
    """One channel of the pixels that are drawn."""
    width, height, pixels = view.page.evaluate(
        """() => {
          const canvas = document.querySelector(".v-pixels");
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
          copy.drawImage(canvas, 0, 0);
          const image = copy.getImageData(0, 0, canvas.width, canvas.height);
          return [canvas.width, canvas.height, [...image.data]];
        }"""
    )
    return np.array(pixels).reshape(height, width, 4)[..., channel]


def _grey(values: Any) -> Any:
    """The greys that values have between their least and their greatest."""
    low, high = float(values.min()), float(values.max())
    return np.floor((values - low) * (255 / (high - low)) + 0.5).astype(int)
