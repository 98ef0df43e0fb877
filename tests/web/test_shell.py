"""The web client as a whole, in a browser: journeys of a user, of a superuser, and on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from caterva2.client import Client
from caterva2.example import write_array, write_example
from tests.integration.chain.daemons import PASSWORD, Chain, add_users, running_chain
from tests.web.pages import launch
from tests.web.shell import Visit, visit

ADMIN, BOSS, USER = "admin@example.com", "boss@example.com", "somebody@example.com"
HOSTILE = "<img src=x onerror=alert(1)>.txt"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A subscriber with users, of the example root."""
    directory = tmp_path_factory.mktemp("shell")
    write_example(directory / "foo")
    (directory / "foo" / HOSTILE).write_text("<script>alert(1)</script>")
    with running_chain(directory, secret="x" * 32, register=True) as running:
        add_users(running, superusers=[ADMIN, BOSS])
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The browser of all these tests."""
    with sync_playwright() as playwright:
        opened = launch(playwright)
        yield opened
        opened.close()


@pytest.fixture
def client(browser: Any, chain: Chain) -> Iterator[Visit]:
    """A page; after a test nothing may have gone wrong in it."""
    with visit(browser, chain.subscriber.url) as page:
        yield page
        assert [] == page.problems


def test_a_user(client: Visit, chain: Chain) -> None:
    """Register, browse, see a change and a deletion as they happen, log out."""
    page = client.go("")
    page.get_by_role("link", name="Register").first.click()
    page.get_by_label("E-mail address").fill("user@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("link", name="user@example.com")).to_be_visible()

    tree = page.get_by_role("tree")
    tree.get_by_role("treeitem", name="foo").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("foo")
    page.get_by_role("main").get_by_role("link", name="README.md").click()
    client.shown()
    expect(page.get_by_role("main")).to_contain_text("Header example")

    (chain.root / "README.md").write_text("# Another header")
    expect(page.get_by_role("main")).to_contain_text("Another header")
    expect(page.locator(".told")).to_contain_text("updated")
    (chain.root / "later").mkdir()
    (chain.root / "later/new.txt").write_text("new")
    expect(tree.get_by_role("treeitem", name="later")).to_be_visible()
    (chain.root / "README.md").unlink()
    expect(page.get_by_role("main").get_by_role("alert")).to_contain_text("deleted")

    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("foo")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in").first).to_be_visible()


def test_keyboard(client: Visit) -> None:
    """Search, go through the tree and open a dataset without a mouse; hostile names and contents do nothing."""
    page = client.go("")
    page.keyboard.press("/")
    page.keyboard.type("dir1 3d")
    expect(page.locator(".found")).to_have_text("1 dataset found")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("ds-3d.b2nd")
    client.shown()
    page.keyboard.press("/")
    page.keyboard.type("onerror")
    expect(page.locator(".found")).to_have_text("1 dataset found")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    client.shown()
    expect(page.get_by_role("main")).to_contain_text("<script>alert(1)</script>")


def test_a_superuser(client: Visit, tmp_path: Path) -> None:
    """Refused and let in; adds and removes a user, and changes the password."""
    page = client.go("login")
    page.get_by_label("E-mail address").fill(ADMIN)
    page.get_by_label("Password").fill("wrong password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("E-mail address or password is wrong.")
    # The browser says itself that the server refused.
    client.problems.clear()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Users").click()
    page.get_by_label("E-mail address").fill("new@example.com")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("User added")).to_be_visible()
    client.look(tmp_path / "users.png", both=True)
    page.get_by_role("button", name="Remove new@example.com").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("User deleted")).to_be_visible()
    page.get_by_role("link", name=ADMIN).click()
    page.get_by_label("Present password").fill(PASSWORD)
    page.get_by_label("New password").fill(PASSWORD + "x")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_text("The password is changed")).to_be_visible()
    page.get_by_label("What it is for").fill("notebook")
    page.get_by_role("button", name="Make a token").click()
    expect(page.locator("code.token")).to_contain_text("cat2_")
    client.look(tmp_path / "account.png", both=True)
    page.get_by_role("button", name="Revoke notebook").click()
    expect(page.get_by_text("The token notebook is revoked")).to_be_visible()
    page.get_by_role("link", name="Status").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Status")
    expect(page.get_by_role("table")).to_contain_text("foo")
    client.look(tmp_path / "status.png", both=True)


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_looks(browser: Any, chain: Chain, tmp_path: Path, width: int, theme: Literal["light", "dark"]) -> None:
    """Everybody can use every page, in every form; a screenshot of each is in `tmp_path`."""
    pages = ("", "login", "register", "view/foo", "view/foo/dir1/ds-2d.b2nd", "view/foo/ds-1d-fields.b2nd")
    with visit(browser, chain.subscriber.url, width=width, theme=theme) as client:
        for i, path in enumerate(pages):
            page = client.go(path)
            client.look(tmp_path / f"{i}.png")

            assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width < 500:
            page.get_by_role("button", name="Datasets").click()
            expect(page.get_by_role("tree")).to_be_visible()
            client.look(tmp_path / "side.png")
        assert [] == client.problems


def test_lost_and_found(browser: Any, chain: Chain) -> None:
    """A lost connection is said, and recovers by itself."""
    with visit(browser, chain.subscriber.url) as client:
        page = client.go("view/foo/ds-1d.b2nd")
        expect(page.locator(".live")).to_have_text("Live")
        chain.subscriber.stop()
        expect(page.locator(".live")).to_have_text("Connection lost")
        chain.subscriber.start()
        expect(page.locator(".live")).to_have_text("Live", timeout=15_000)

        assert [] == [text for text in client.problems if "ERR_" not in text]


def test_another_password(client: Visit, chain: Chain, tmp_path: Path) -> None:
    """The link that a superuser makes leads to a page that sets another password; a wrong one is refused in words."""
    add_users(chain, "lost@example.com")
    with Client(chain.subscriber.url, (BOSS, PASSWORD)) as boss:
        link = boss.make_reset_link("lost@example.com")
    page = client.go(link.removeprefix(f"{chain.subscriber.url}/"))
    client.look(tmp_path / "reset.png", both=True)
    page.get_by_label("New password").fill("another password")
    page.get_by_role("button", name="Set").click()
    page.get_by_label("E-mail address").fill("lost@example.com")
    page.get_by_label("Password").fill("another password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("link", name="lost@example.com")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    page = client.go("reset-password#nothing")
    page.get_by_label("New password").fill("another password")
    page.get_by_role("button", name="Set").click()
    expect(page.get_by_role("alert")).to_contain_text("does not hold any more")
    client.problems = [text for text in client.problems if "400" not in text]
    client.go("forgot-password")
    client.look(tmp_path / "forgot.png", both=True)


def test_a_day(client: Visit, chain: Chain, tmp_path: Path) -> None:
    """Register, look at a plot that follows its publisher, upload, compute with both, take that away, log out."""
    grid = chain.root / "dir1/grid.b2nd"
    write_array(grid, np.arange(600.0).reshape(20, 30), (10, 10), (5, 5))
    page = client.go("register?next=login")
    page.get_by_label("E-mail address").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Register").click()
    page.get_by_role("button", name="Log out").click()
    page = client.go("login?next=view/foo/dir1")
    page.get_by_label("E-mail address").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("main").get_by_role("link", name="grid.b2nd").click()
    client.shown()
    statistics = page.get_by_role("main")
    expect(statistics).to_contain_text("299.5")
    client.look(tmp_path / "plot.png", both=True)
    write_array(grid, np.full((20, 30), 7.25), (10, 10), (5, 5))
    expect(page.locator(".told")).to_contain_text("updated")
    expect(statistics).to_contain_text("7.25")

    page.get_by_role("treeitem", name="@personal").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("@personal")
    client.shown()
    write_array(tmp_path / "two.b2nd", np.full((20, 30), 2.0), (10, 10), (5, 5))
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload files").click()
    chooser.value.set_files(tmp_path / "two.b2nd")
    page.get_by_role("main").get_by_role("link", name="two.b2nd").click()
    client.shown()
    page.get_by_role("button", name="New expression").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Expression").fill("a * b")
    dialog.get_by_role("combobox", name="a").fill("@personal/two.b2nd")
    dialog.get_by_role("combobox", name="b").fill("foo/dir1/grid.b2nd")
    expect(dialog.locator("output pre")).to_contain_text("14.5")
    dialog.get_by_role("textbox", name="Save as").fill("product")
    dialog.get_by_role("textbox", name="Save as").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("product.b2nd")
    client.shown()
    expect(page.get_by_role("main")).to_contain_text("a * b")
    client.look(tmp_path / "expression.png", both=True)
    page.get_by_role("button", name="Take away").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="NumPy").click()
    assert (14.5 == np.load(download.value.path())).all()

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in").first).to_be_visible()
    expect(page.get_by_role("tree")).not_to_contain_text("@personal")
    # What was shown was the user's alone, which the browser says of the answer too.
    client.problems = [text for text in client.problems if "401" not in text]


def test_many(browser: Any, chain: Chain) -> None:
    """A hundred thousand datasets are listed, scrolled and searched without holding up the page."""
    lines = (
        f'{{"path":"many/{n // 1000:03}/d{n:06}.b2nd","kind":"array","nbytes":{n},"mtime":1.0}}' for n in range(100_000)
    )
    body = "[\n" + ",\n".join(lines) + "\n]\n"
    with visit(browser, chain.subscriber.url) as client:
        client.page.route("**/api/list/foo?details=true", lambda route: route.fulfill(body=body))
        page = client.go("")
        page.evaluate(
            "window.long = []; new PerformanceObserver((list) => window.long.push(...list.getEntries().map("
            "(entry) => entry.duration))).observe({type: 'longtask'})"
        )
        page.keyboard.press("/")
        page.keyboard.type("d099")
        expect(page.locator(".found")).to_have_text("1,000 datasets found")
        page.keyboard.press("Escape")
        tree = page.get_by_role("tree")
        tree.focus()
        for _ in range(60):
            for key in ("Home", "ArrowRight", "ArrowRight", "ArrowRight", "*", "End", "PageUp", "Home", "PageDown"):
                page.keyboard.press(key)
            long = [duration for duration in page.evaluate("window.long.splice(0)") if duration > 100]
            # On a machine that is busy with other tests a task lasts longer than it works.
            if not long:
                break

        assert 100 > page.get_by_role("treeitem").count()
        assert [] == long
        assert [] == client.problems


def test_headers(chain: Chain) -> None:
    """Pages are guarded and asked for anew, their files are kept, and a page knows its depth."""
    page = chain.http.get("/view/foo/dir1/ds-2d.b2nd")
    (digest,) = set(re.findall(r"static/(\w+)/", page.text))
    script = chain.http.get(f"/static/{digest}/js/main.js")

    assert "default-src 'none'; script-src 'self'" in page.headers["content-security-policy"]
    assert ("nosniff", "no-cache") == (page.headers["x-content-type-options"], page.headers["cache-control"])
    assert '<base href="../../../">' in page.text
    assert '<base href="./">' in chain.http.get("/login").text
    assert 304 == chain.http.get("/", headers={"if-none-match": page.headers["etag"]}).status_code
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]
    assert 404 == chain.http.get("/static/other/js/main.js").status_code
    assert {"detail": "Not Found"} == chain.http.get("/nosuch").json()


def test_details(chain: Chain) -> None:
    """A list with details has the kind, size and time of each dataset, in any root, and of one dataset too."""
    found = {one["path"]: one for one in chain.get("list/foo", details="true").json()}
    (one,) = chain.get("list/foo/dir1/ds-2d.b2nd", details="true").json()

    assert sorted(found) == chain.get("list/foo").json()
    assert "array" == found["dir1/ds-2d.b2nd"]["kind"]
    assert (chain.root / "dir1/ds-2d.b2nd").stat().st_size == found["dir1/ds-2d.b2nd"]["nbytes"]
    assert ("ds-2d.b2nd", found["dir1/ds-2d.b2nd"]["mtime"]) == (one["path"], one["mtime"])
    assert [] == chain.get("list/@public", details="true").json()
    assert 400 == chain.get("list/foo", details="maybe").status_code


def test_session(chain: Chain) -> None:
    """Anybody is told who one is, and what there is for users."""
    nobody = chain.http.get("/auth/me").json()

    assert {"user": None, "users": True, "registration": True, "mail": False} == nobody
