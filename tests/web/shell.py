"""The web client as the subscriber serves it, in a browser; what goes wrong in it is an error here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import axe_playwright_python
from playwright.sync_api import Browser, Page

from tests.support.waiting import wait_until
from tests.web.pages import WatchedPage, fresh_page

_AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Visit(WatchedPage):
    """A page of the client."""

    def go(self, path: str) -> Page:
        """Open an address, and wait until its page is shown."""
        self.page.goto(f"{self.url}/{path}")
        self.shown()
        return self.page

    def shown(self) -> None:
        """Wait until a page is shown, and nothing is being loaded."""
        self.page.wait_for_selector("body[data-shown]", timeout=15_000)
        wait_until(lambda: not self.page.locator("[aria-busy], .v-waiting").count(), "the page to have loaded")

    def look(self, file: Path, *, both: bool = False) -> None:
        """Take a screenshot, and check that everybody can use the page; with `both`, in dark colours too."""
        for theme in ("light", "dark") if both else (None,):
            if theme is not None:
                self.page.emulate_media(color_scheme=theme)
            self.page.screenshot(path=file if theme is None else file.with_stem(f"{file.stem}-{theme}"))
            found = self.violations()
            assert [] == found, found

    def violations(self) -> list[str]:
        """What axe-core finds wrong; it is put in by the browser's debugger, past the page's policy."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(_AXE.read_text())
        tags = json.dumps(_TAGS)
        found = self.page.evaluate(f"axe.run(document, {{runOnly: {tags}, resultTypes: ['violations']}})")
        return [
            f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes']][:3]}"
            for one in found["violations"]
        ]


@contextmanager
def visit(
    browser: Browser, url: str, *, width: int = 1280, theme: Literal["light", "dark"] = "light"
) -> Iterator[Visit]:
    """Give a page of its own context."""
    with fresh_page(browser, width=width, theme=theme) as page:
        yield Visit(page, url)
