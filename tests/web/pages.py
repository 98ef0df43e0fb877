"""A page in a real browser, whose API is that of a running subscriber; what goes wrong in it is an error here."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, Page, Playwright, Route, expect

from caterva2.subscriber.routes.pages import POLICY
from tests.support.programs import require_program
from tests.support.waiting import wait_until

_WEB = Path(__file__).parents[2] / "caterva2" / "web"
_HARNESS = Path(__file__).parent / "harness"


def launch(playwright: Playwright) -> Browser:
    """Start Debian's chromium; what is expected of its pages may take longer on a busy machine."""
    expect.set_options(timeout=20_000)
    return playwright.chromium.launch(
        executable_path=require_program("chromium"),
        args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    )


class WatchedPage:
    """A page of which everything is noted that goes wrong in it.

    Attributes:
        page: Playwright's page.
        url: the subscriber's address.
        problems: console errors, policy violations, uncaught errors and requests to others, so far.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        page.on("request", lambda request: self._check(request.url))

    def _note(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.problems.append(f"{kind}: {text}")

    def _check(self, url: str) -> None:
        if not url.startswith((self.url, "blob:", "data:", "chrome")):
            self.problems.append(f"a request to {url}")


class ViewPage(WatchedPage):
    """A page that shows views of a subscriber's datasets."""

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        page.route(f"{url}/**", self._answer)

    def show(self, path: str, view: str = "", **state: str) -> Page:
        """Open a dataset, and wait until its view has been shown."""
        query = "&".join(f"{key}={quote(value)}" for key, value in ({"view": view} | state).items() if value)
        url = f"{self.url}/view/foo/{quote(path)}?{query}"
        if self.page.url.startswith(f"{self.url}/view/"):
            # As a user goes from one dataset to the next: the page stays.
            self.page.evaluate("url => window.look(url)", url)
        else:
            self.page.goto(url)
            self.page.wait_for_selector("body[data-shown]", timeout=15_000)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until nothing is being loaded."""
        self.page.wait_for_timeout(90)  # longer than a view waits for more input
        wait_until(lambda: not self.page.locator("[aria-busy], .v-waiting").count(), "the view to have loaded")

    def text(self, selector: str) -> str:
        """The text of the first element."""
        return self.page.locator(selector).first.inner_text()

    def _answer(self, route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path.startswith("/api/"):
            route.continue_()
        elif path.startswith("/view/"):
            headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
            route.fulfill(path=_HARNESS / "page.html", headers=headers | {"Content-Type": "text/html"})
        elif path.startswith(("/static/", "/harness/")):
            base = _WEB if path.startswith("/static/") else _HARNESS
            file = base / path.split("/", 2)[2]
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            route.fulfill(path=file, headers={"Content-Type": kind, "X-Content-Type-Options": "nosniff"})
        else:
            route.fulfill(body="<!doctype html><title>empty</title>", headers={"Content-Type": "text/html"})


@contextmanager
def fresh_page(browser: Browser, *, width: int = 1280, theme: Literal["light", "dark"] = "light") -> Iterator[Page]:
    """Give a page of its own context."""
    height = 844 if width < 500 else 900
    context: Any = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    try:
        yield context.new_page()
    finally:
        context.close()


@contextmanager
def open_page(
    browser: Browser, url: str, *, width: int = 1280, theme: Literal["light", "dark"] = "light"
) -> Iterator[ViewPage]:
    """Give a page for views, of its own context."""
    with fresh_page(browser, width=width, theme=theme) as page:
        yield ViewPage(page, url)
