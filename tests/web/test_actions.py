"""What is done with datasets in the browser: take away, upload, manage, expressions, status."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from caterva2.cli.target import Target
from caterva2.client import Client, get_auth_cookie
from caterva2.example import write_example
from caterva2.subscriber.routes.pages import POLICY
from tests.integration.chain.daemons import PASSWORD, ROOT, Chain, add_users, running_chain
from tests.support.waiting import wait_until
from tests.web.pages import ViewPage, launch, open_page

ANN = "ann@example.com"
HARNESS = Path(__file__).parent / "harness"
HOSTILE = [
    "foo/a b'c\"d.b2nd",
    "foo/$(touch pwned)`touch pwned`;touch pwned.b2nd",
    "foo/new\nline\r\x1b[31m.b2nd",
    "foo/\u202egnp.b2nd",
    "foo/-rf [0]\\.b2nd",
    "foo/<img src=x onerror=alert(1)>.b2nd",
    "foo/%41#?&数🙂!~.b2nd",
]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain on the example root, with a user."""
    directory = tmp_path_factory.mktemp("actions")
    write_example(directory / ROOT)
    with running_chain(directory, secret="a secret that nobody guesses") as chain:
        add_users(chain, ANN)
        yield chain


@pytest.fixture(scope="module")
def client(chain: Chain) -> Iterator[Client]:
    """The Python client of the user."""
    with Client(chain.subscriber.url, auth_cookie=get_auth_cookie(chain.subscriber.url, (ANN, PASSWORD))) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


class ActionsPage:
    """A page that mounts actions; at its end nothing may have gone wrong in it.

    Attributes:
        page: Playwright's page.
    """

    def __init__(self, view: ViewPage) -> None:
        self.page, self.url, self._view = view.page, view.url, view
        self.page.route(f"{view.url}/harness/actions.html*", self._answer)

    def show(self, page: str, **state: str) -> Page:
        """Open what is to be tried out."""
        query = "&".join(f"{key}={_quoted(value)}" for key, value in {"page": page, **state}.items())
        self.page.goto(f"{self.url}/harness/actions.html?{query}")
        self.page.wait_for_selector("body[data-shown]", timeout=10_000)
        return self.page

    def login(self, cookie: str) -> None:
        """Let the browser be a user's."""
        name, _, value = cookie.partition("=")
        self.page.context.add_cookies([{"name": name, "value": value, "url": self.url}])

    def problems(self, *expected: str) -> list[str]:
        """What went wrong, without what was meant to: the browser itself complains of refusals."""
        return [text for text in self._view.problems if not any(word in text for word in expected)]

    def _answer(self, route: Route) -> None:
        headers = {"Content-Security-Policy": POLICY, "Content-Type": "text/html"}
        assert urlsplit(route.request.url).path == "/harness/actions.html"
        route.fulfill(path=HARNESS / "actions.html", headers=headers)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


@pytest.fixture
def actions(chain: Chain, browser: Browser, client: Client) -> Iterator[ActionsPage]:
    """A page of the user's."""
    with open_page(browser, chain.subscriber.url) as view:
        page = ActionsPage(view)
        assert client.cookie is not None
        page.login(client.cookie)
        yield page


def shoot(page: Page, directory: Path, name: str) -> None:
    """Keep pictures of a page: light and dark, wide and narrow."""
    for theme in ("light", "dark"):
        for width in (1280, 390):
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 900 if width > 500 else 844})
            page.screenshot(path=directory / f"{name}-{theme}-{width}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})


# -- take away --------------------------------------------------------------------------------------------


def test_lines_are_what_they_say(actions: ActionsPage, chain: Chain, tmp_path: Path) -> None:
    """The lines for what is shown give it, in a shell and in Python; names and conditions are data to both."""
    page = actions.show("dataset", part=json.dumps({"path": "foo/dir1/ds-2d.b2nd", "array": True, "slice": "1:3, ::5"}))
    page.get_by_role("button", name="Take away").click()
    made = {
        name: page.locator("figure", has_text=name).locator("code").inner_text()
        for name in ("Python", "cat2cli", "curl")
    }
    page.get_by_role("button", name="Copy Python").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    shoot(page, tmp_path, "takeaway")
    expected = np.asarray(chain.client.fetch("foo/dir1/ds-2d.b2nd")[1:3, ::5])

    found: dict[str, Any] = {}
    exec(made["Python"], found)  # noqa: S102
    found["client"].close()
    subprocess.run(["/bin/bash", "-c", made["curl"]], cwd=tmp_path, check=True, timeout=30, capture_output=True)

    assert (expected == found["values"]).all()
    assert (expected == np.load(tmp_path / "ds-2d.npy")).all()
    assert ["cat2cli", "--subscriber", actions.url, "show", "foo/dir1/ds-2d.b2nd[1:3, ::5]"] == shlex.split(
        made["cat2cli"]
    )
    assert "ds-2d.csv" == download.value.suggested_filename
    assert (expected == np.loadtxt(download.value.path(), "u2", delimiter=",")).all()
    assert [] == actions.problems()


def test_hostile_names_are_data(actions: ActionsPage, tmp_path: Path) -> None:
    """No name, slice or condition of a URL becomes a program of the lines that are copied."""
    page = actions.show("none")
    slice_, condition = "0]; __import__('os').system('touch pwned') #", "a == '\"); import os #'"
    script = (
        "([part, base]) => ['pythonLines', 'cliLine', 'curlLine'].map((name) => window.parts.lines[name](part, base))"
    )
    for path in HOSTILE:
        for part in ({"slice": slice_}, {"filter": condition, "field": "-x y"}, {"field": "a'b", "slice": "0:2"}):
            python, cli, curl = page.evaluate(script, [{"path": path, "array": True, **part}, actions.url])

            called = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Call)]
            texts = [node.value for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Constant)]
            assert 3 == len(called), python
            assert path in texts
            assert {part.get("filter", part.get("slice")), part.get("field", path)} <= {*texts}
            words = _bash(f"set -- {cli}; printf '%s\\0' \"$@\"", tmp_path)
            assert ["cat2cli", "--subscriber", actions.url, "show"] == words[:4]
            given = next((word for word in words if word.startswith("--slice=")), "--slice=").removeprefix("--slice=")
            if part.get("slice") != slice_:
                assert path == str(Target.parse(words[4], given or None).path)
            assert [*_bash(f"set -- {curl}; printf '%s\\0' \"$@\"", tmp_path)][:2] == ["curl", "-fS"]
    assert [] == [*tmp_path.iterdir()]


def _bash(line: str, directory: Path) -> list[str]:
    done = subprocess.run(["/bin/bash", "-c", line], cwd=directory, check=True, capture_output=True, timeout=10)
    return [word.decode() for word in done.stdout.split(b"\0")[:-1]]


# -- writing ----------------------------------------------------------------------------------------------


def test_upload_and_manage(actions: ActionsPage, client: Client, tmp_path: Path) -> None:
    """Files and folders are sent with progress, cancelled and replaced; what is moved, copied or removed comes back."""
    folder = tmp_path / "measured"
    (folder / "day 1").mkdir(parents=True)
    for name in ("a.txt", "day 1/b <i>.txt", ".hidden"):
        (folder / name).write_text(name)
    page = actions.show("folder", path="@personal", user="ann")

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a folder").click()
    chooser.value.set_files(folder)
    expect(page.locator("strong", has_text="2 of 2 uploaded")).to_be_visible()
    assert ["measured/a.txt", "measured/day 1/b <i>.txt"] == client.get_list("@personal")

    _drop(page, {"dropped/c.txt": "c", "d.txt": "d"})
    expect(page.locator("strong", has_text="4 of 4 uploaded")).to_be_visible()
    assert b"c" == client.fetch("@personal/dropped/c.txt")

    # A name that is taken replaces nothing by itself.
    _drop(page, {"d.txt": "other"})
    expect(page.get_by_text("the name is taken")).to_be_visible()
    shoot(page, tmp_path, "uploads")
    assert b"d" == client.fetch("@personal/d.txt")
    page.get_by_role("button", name="Replace @personal/d.txt").click()
    expect(page.locator("strong", has_text="5 of 5 uploaded")).to_be_visible()
    assert b"other" == client.fetch("@personal/d.txt")

    # One that takes long is cancelled.
    page.route("**/api/upload/**", lambda route: None)
    _drop(page, {"slow.txt": "x"})
    page.get_by_role("button", name="Cancel @personal/slow.txt").click()
    expect(page.locator("strong", has_text="5 of 6 uploaded")).to_be_visible()
    page.unroute("**/api/upload/**")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("region", name="Uploads")).to_be_hidden()

    _rename(page, "@personal/d.txt", "e.txt")
    expect(page.get_by_text("Moved to @personal/e.txt")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    wait_until(lambda: "d.txt" in client.get_list("@personal"), "the move back")

    page.evaluate("() => { window.parts.actions.manager.copy('foo/README.md'); }")
    page.get_by_role("textbox", name="To").fill("@personal/d.txt")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("alert")).to_contain_text("d.txt")
    shoot(page, tmp_path, "dialog")
    page.get_by_role("textbox", name="To").fill("@personal/copy.md")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Copied to @personal/copy.md")).to_be_visible()
    assert "copy.md" in client.get_list("@personal")

    page.evaluate("() => { window.parts.actions.manager.remove('@personal/d.txt'); }")
    shoot(page, tmp_path, "notices")
    page.locator(".a-notice", has_text="Removed").get_by_role("button", name="Undo").click()
    page.evaluate("() => { window.parts.actions.manager.remove('@personal/measured', { folder: true }); }")
    page.get_by_role("button", name="Remove").click()
    page.locator(".a-notice", has_text="Removed").get_by_role("button", name="Dismiss").click()
    wait_until(lambda: "measured/a.txt" not in client.get_list("@personal"), "the folder to be removed")
    assert "d.txt" in client.get_list("@personal")
    # What is about to go goes when the page does.
    page.evaluate("() => { window.parts.actions.manager.remove('@personal/d.txt'); }")
    page.goto("about:blank")
    wait_until(lambda: "d.txt" not in client.get_list("@personal"), "the file to be removed")
    assert [] == actions.problems("404", "409", "412")


def test_what_is_shown_follows(actions: ActionsPage, client: Client) -> None:
    """A dataset that gets another name is shown under it; one that is removed gives way to its folder."""
    client.upload(b"x", "@personal/shown/a.txt")
    part = json.dumps({"path": "@personal/shown/a.txt", "array": False})
    page = actions.show("dataset", part=part, user="ann")

    page.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="New name").fill("b.txt")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Moved to @personal/shown/b.txt")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    wait_until(lambda: "shown/a.txt" in client.get_list("@personal"), "the move back")
    page.get_by_role("button", name="Remove").click()

    assert ["/view/@personal/shown/b.txt", "/view/@personal/shown"] == page.evaluate("window.parts.opened")
    page.evaluate("window.parts.tools.update({ sortby: 'a', order: 'descending', view: 'records' })")
    assert 'rows(sortby="a", slice_="::-1")' in (page.locator("code").first.text_content() or "")
    page.evaluate("window.parts.tools.destroy()")
    assert 0 == page.get_by_role("button", name="Take away").count()
    assert [] == actions.problems()


def _drop(page: Page, files: dict[str, str]) -> None:
    """Drop files where the page takes them; Chromium makes entries of folders for real drops alone."""
    page.evaluate(
        """(files) => {
          const made = ([path, text]) => ({ path, file: new File([text], path.split("/").at(-1)) });
          window.parts.actions.uploads.add(Object.entries(files).map(made), "@personal");
        }""",
        files,
    )


def _rename(page: Page, path: str, name: str) -> None:
    page.evaluate("(path) => { window.parts.actions.manager.rename(path); }", path)
    page.get_by_role("textbox", name="New name").fill(name)
    page.keyboard.press("Enter")


def test_a_real_drop(actions: ActionsPage, client: Client) -> None:
    """What is dropped on the page goes where it is; the page says so while it hovers."""
    page = actions.show("folder", path="@personal", user="ann")
    page.evaluate(
        """() => {
          const transfer = new DataTransfer();
          transfer.items.add(new File(["dropped"], "real.txt"));
          const main = document.querySelector("main");
          const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
          const send = (name) => main.dispatchEvent(new DragEvent(name, options));
          send("dragenter");
          window.hovered = main.hasAttribute("data-dropping");
          send("drop");
        }"""
    )
    expect(page.locator("strong", has_text="1 of 1 uploaded")).to_be_visible()

    assert page.evaluate("window.hovered && !document.querySelector('main').hasAttribute('data-dropping')")
    assert b"dropped" == client.fetch("@personal/real.txt")
    assert [] == actions.problems("404")


# -- expressions ------------------------------------------------------------------------------------------


def test_an_expression_is_tried_out_and_saved(actions: ActionsPage, client: Client, tmp_path: Path) -> None:
    """Names ask for their datasets, with completion; what comes of it is shown before it is saved; all by keyboard."""
    page = actions.show("expression")
    page.get_by_role("textbox", name="Expression").fill("where(a > 2, a * max(b), 0)")
    page.get_by_role("combobox", name="b").fill("2d")
    page.wait_for_selector("datalist option[value='foo/dir1/ds-2d.b2nd']", state="attached")
    page.get_by_role("combobox", name="b").fill("foo/dir1/ds-2d.b2nd")
    expect(page.locator("output")).to_contain_text("shape (1000), int64")
    expect(page.locator("output pre")).to_contain_text("597")
    shoot(page, tmp_path, "expression")

    page.keyboard.press("Enter")
    expect(page.get_by_text("say as what it is to be saved")).to_be_visible()
    page.get_by_role("textbox", name="Save as").fill("made")
    page.keyboard.press("Enter")
    assert "@personal/made.b2nd" == page.evaluate("window.parts.saved")
    assert [0, 0, 0, 597] == client.get("@personal/made.b2nd")[:4].tolist()

    page = actions.show("expression")
    page.get_by_role("textbox", name="Expression").fill("a +")
    expect(page.locator("output .a-error")).to_be_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("window.parts.saved.then((path) => path === undefined)")
    names = page.evaluate(
        "window.parts.names.namesIn(\"where(t['a'] == b'x', arr[0:2].sum(axis=0), sin(é_1) + 1e5) and not z\")"
    )
    assert ["t", "arr", "é_1", "z"] == names
    assert [] == actions.problems("400")


# -- status -----------------------------------------------------------------------------------------------


def test_status(browser: Browser, tmp_path: Path) -> None:
    """The status page shows roots and figures, and follows them; who may not see it is told why."""
    write_example(tmp_path / "chain" / ROOT)
    with running_chain(tmp_path / "chain") as chain, open_page(browser, chain.subscriber.url) as view:
        actions = ActionsPage(view)
        page = actions.show("status")
        expect(page.get_by_role("row", name="foo")).to_contain_text("online")
        expect(page.locator(".a-figure", has_text="Hit ratio")).to_contain_text("0 of 0 chunks")
        chain.client.fetch("foo/dir1/ds-2d.b2nd")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator(".a-figure", has_text="Hit ratio")).to_contain_text("0 of 8 chunks")
        shoot(page, tmp_path, "status")
        chain.subscriber.stop()
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.get_by_role("alert")).to_be_visible()
        assert [] == actions.problems("ERR_CONNECTION_REFUSED")


def test_status_is_not_for_all(actions: ActionsPage) -> None:
    """A user who is no superuser reads the server's words."""
    page = actions.show("status")

    expect(page.get_by_role("alert")).to_contain_text("only those see the status")
    assert [] == actions.problems("403")
