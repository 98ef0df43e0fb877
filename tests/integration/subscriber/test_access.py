"""Rules for who reads what, on a running subscriber: every way to a dataset goes by them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import blosc2
import httpx
import numpy as np
import pytest

from caterva2.client import get_auth_cookie
from tests.integration.chain.daemons import PASSWORD, ROOT, Chain, add_users, open_chain
from tests.support.waiting import wait_until

ANN, BOB, ADMIN = "ann@example.com", "bob@example.com", "admin@example.com"
WHO = (None, ANN, BOB, ADMIN)
RULES = {
    ROOT: "users",
    f"{ROOT}/open": "anonymous",
    f"{ROOT}/lab": ["@lab"],
    f"{ROOT}/**/private-*": [BOB],
    "@public/inner": [BOB],
}
NAMES = ("a.b2nd", "lab/l.b2nd", "lab/private-l.b2nd", "open/o.b2nd", "private-p.b2nd")
SEEN: Mapping[str | None, tuple[str, ...]] = {
    None: ("open/o.b2nd",),
    ANN: ("a.b2nd", "lab/l.b2nd", "lab/private-l.b2nd", "open/o.b2nd"),
    BOB: ("a.b2nd", "open/o.b2nd", "private-p.b2nd"),
    ADMIN: NAMES,
}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain with users and rules."""
    directory = tmp_path_factory.mktemp("access")
    for name in NAMES:
        file = directory / ROOT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        blosc2.asarray(np.arange(10), urlpath=str(file))
    with open_chain(directory, secret="a secret of the tests", groups={"lab": [ANN]}) as chain:
        # A publisher has a setting of this name too.
        chain.subscriber.settings = chain.subscriber.settings.model_copy(update={"access": RULES})
        chain.start()
        add_users(chain, ANN, BOB, superusers=[ADMIN])
        yield chain


@pytest.fixture(scope="module")
def cookies(chain: Chain) -> dict[str | None, dict[str, str]]:
    """The header that says who it is, for each caller."""
    return {mail: {"cookie": get_auth_cookie(chain.subscriber.url, (mail, PASSWORD))} if mail else {} for mail in WHO}


@pytest.mark.parametrize("who", WHO)
def test_reads(chain: Chain, cookies: dict[str | None, dict[str, str]], who: str | None) -> None:
    """Lists show what one may read, and reading the rest is refused on every route."""
    http, headers = chain.http, cookies[who]
    routes = ("info/{}", "fetch/{}", "fetch/{}?slice_=1:3", "chunk/{}?nchunk=0", "download/{}")
    answers = {
        name: {http.get(f"/api/{route.format(f'{ROOT}/{name}')}", headers=headers).status_code for route in routes}
        for name in NAMES
    }

    assert {name: {200 if name in SEEN[who] else 403 if who else 401} for name in NAMES} == answers
    assert list(SEEN[who]) == http.get(f"/api/list/{ROOT}", headers=headers).json()
    assert ROOT in http.get("/api/roots", headers=headers).json()
    assert 200 == http.post(f"/api/subscribe/{ROOT}", headers=headers).status_code
    lab = http.get(f"/api/list/{ROOT}/lab", headers=headers)
    assert lab.status_code == {None: 401, BOB: 403}.get(who, 200)


def test_other_ways(chain: Chain, cookies: dict[str | None, dict[str, str]]) -> None:
    """Copies, expressions and verifying go by the rules too."""
    http = chain.http

    def post(path: str, body: Any = None, who: str = BOB) -> httpx.Response:
        return http.post(f"/api/{path}", json=body, headers=cookies[who])

    expression = {"name": "e", "expression": "a + 1", "operands": {"a": f"{ROOT}/lab/l.b2nd"}}
    assert 403 == post("copy/", {"src": f"{ROOT}/lab/l.b2nd", "dst": "@personal/l.b2nd"}).status_code
    assert 403 == post("copy/", {"src": f"{ROOT}/lab", "dst": "@personal/lab"}).status_code
    assert 403 == post("lazyexpr/", expression).status_code
    assert 403 == post(f"verify/{ROOT}/lab/l.b2nd").status_code
    assert 200 == http.get(f"/api/fetch/{ROOT}/lab/l.b2nd?slice_=1", headers=cookies[ADMIN]).status_code
    mine, all_of_it = (post(f"verify/{ROOT}", who=who).json()["checked"] for who in (BOB, ADMIN))
    assert mine < all_of_it
    assert 200 == post("copy/", {"src": ROOT, "dst": "@personal/all"}).status_code
    found = http.get("/api/list/@personal/all", headers=cookies[BOB]).json()
    assert list(SEEN[BOB]) == found
    assert 200 == post("lazyexpr/", expression | {"name": "@public/e"}, ANN).status_code
    assert 403 == http.get("/api/fetch/@public/e.b2nd", headers=cookies[BOB]).status_code
    assert 401 == http.get("/api/fetch/@public/e.b2nd").status_code


def test_public(chain: Chain, cookies: dict[str | None, dict[str, str]]) -> None:
    """A part of @public can be kept to some; others neither see nor overwrite nor remove it."""
    files = {"file": b"hello"}
    for who, expected in ((ANN, 403), (BOB, 200)):
        sent = chain.http.post("/api/upload/@public/inner/x.txt", files=files, headers=cookies[who])
        assert expected == sent.status_code
    gone = chain.http.post("/api/remove/@public/inner", headers=cookies[ANN])
    moved = chain.http.post(
        "/api/move/", json={"src": "@public/inner/x.txt", "dst": "@public/x.txt"}, headers=cookies[ANN]
    )

    assert [403, 403] == [gone.status_code, moved.status_code]
    assert "inner/x.txt" not in chain.http.get("/api/list/@public", headers=cookies[ANN]).json()
    assert "inner/x.txt" in chain.http.get("/api/list/@public", headers=cookies[BOB]).json()


def test_events(chain: Chain, cookies: dict[str | None, dict[str, str]]) -> None:
    """Nobody is told of changes to what it may not read, and a stream ends with its login."""
    cookie = get_auth_cookie(chain.subscriber.url, (BOB, PASSWORD))
    heard: list[str] = []
    with httpx.stream(
        "GET", f"{chain.subscriber.url}/api/events?root={ROOT}", headers={"cookie": cookie}, timeout=30
    ) as stream:
        lines = stream.iter_lines()
        next(lines)
        for name in ("lab/l.b2nd", "a.b2nd"):
            blosc2.asarray(np.arange(11), urlpath=str(chain.root / name), mode="w")
            wait_until(lambda name=name: _length(chain, name, cookies) == 11, "the change")  # type: ignore[misc]
        for line in lines:
            if line.startswith("data: "):
                heard.append(json.loads(line.removeprefix("data: "))["path"])
                break
        chain.http.post("/auth/jwt/logout", headers={"cookie": cookie})
        blosc2.asarray(np.arange(12), urlpath=str(chain.root / "a.b2nd"), mode="w")
        wait_until(lambda: _length(chain, "a.b2nd", cookies) == 12, "the change")
        rest = list(lines)

    assert ["a.b2nd"] == heard
    assert not [line for line in rest if "b2nd" in line and '"a.b2nd"' not in line]


def _length(chain: Chain, name: str, cookies: dict[str | None, dict[str, str]]) -> int:
    answer = chain.http.get(f"/api/info/{ROOT}/{name}", headers=cookies[ADMIN])
    return int(answer.json()["shape"][0]) if answer.status_code == 200 else -1
