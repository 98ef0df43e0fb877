"""Users of a running subscriber: the contract of their routes, and who may do what on every route."""

import json
import re
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import argon2
import blosc2
import httpx
import jwt
import numpy as np
import pytest
from starlette.routing import Route

import caterva2
from caterva2.cli.main import main
from caterva2.subscriber.routes import routes
from caterva2.subscriber.sessions import Sessions
from caterva2.subscriber.users import FILE, UserStore
from tests.integration.chain.daemons import PASSWORD, ROOT, Chain, add_users, open_chain, running_chain

QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
USER, ADMIN, GONE = "user@example.com", "admin@example.com", "gone@example.com"
SECRET = "c2sikrit-of-the-tests"
# Far too many failures would be counted otherwise, since all come from one address.
FORM = {"username": USER, "password": PASSWORD}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain whose subscriber has users, who may register."""
    directory = tmp_path_factory.mktemp("users")
    (directory / ROOT).mkdir()
    blosc2.asarray(np.arange(10), urlpath=str(directory / ROOT / "a.b2nd"), mode="w")
    with running_chain(directory, secret=SECRET, register=True, maxusers=8) as chain:
        add_users(chain, USER, GONE, superusers=[ADMIN])
        yield chain


@pytest.fixture
def http(chain: Chain) -> Iterator[httpx.Client]:
    """A client without cookies."""
    with httpx.Client(base_url=chain.subscriber.url, timeout=30, trust_env=False) as http:
        yield http


def store_of(chain: Chain) -> UserStore:
    """The store, as another process has it open."""
    return UserStore(chain.subscriber.settings.statedir / FILE)


def token(http: httpx.Client, mail: str = USER) -> str:
    """Log in, and return the token; the client forgets it."""
    answer = http.post("/auth/jwt/login", data={"username": mail, "password": PASSWORD})
    assert 204 == answer.status_code, answer.text
    http.cookies.clear()
    return answer.cookies["c2subauth"]


def cookie(value: str) -> dict[str, str]:
    """The header of a cookie."""
    return {"cookie": f"c2subauth={value}"}


# -- the contract -----------------------------------------------------------------------------------------


def test_login(http: httpx.Client) -> None:
    """A login is a form, and its answer a cookie that no script reads; the form is upstream's to the letter."""
    answer = http.post("/auth/jwt/login", data=FORM)

    assert (204, b"") == (answer.status_code, answer.content)
    assert re.fullmatch(r"c2subauth=[\w.-]+; HttpOnly; Path=/; SameSite=lax", answer.headers["set-cookie"])


def test_login_fails(http: httpx.Client) -> None:
    """A wrong password and an unknown user get one answer."""
    answers = [
        http.post("/auth/jwt/login", data={"username": mail, "password": "wrong"})
        for mail in (USER, "nobody@example.com")
    ]

    assert [(400, '{"detail":"LOGIN_BAD_CREDENTIALS"}')] * 2 == [(each.status_code, each.text) for each in answers]
    assert answers[0].headers.keys() == answers[1].headers.keys()


@pytest.mark.parametrize("given", [{"data": {}}, {"data": {"username": ""}}, {"json": FORM}, {"content": b"\xff" * 99}])
def test_login_without_fields(http: httpx.Client, given: Any) -> None:
    """What is not the form is 422, with upstream's list."""
    answer = http.post("/auth/jwt/login", **given)

    expected = [
        {"type": "missing", "loc": ["body", name], "msg": "Field required", "input": None}
        for name in ("username", "password")
    ]
    assert (422, {"detail": expected}) == (answer.status_code, answer.json())


def test_logout_ends_the_token(http: httpx.Client) -> None:
    """After logging out the token is nobody's, even if somebody kept it; other sessions go on."""
    first, second = token(http), token(http)
    answer = http.post("/auth/jwt/logout", headers=cookie(first))

    assert (204, b"") == (answer.status_code, answer.content)
    assert 'c2subauth=""; HttpOnly; Max-Age=0; Path=/; SameSite=lax' == answer.headers["set-cookie"]
    assert 401 == http.post("/auth/jwt/logout", headers=cookie(first)).status_code
    assert 401 == http.get("/api/list/@public", headers={"authorization": f"Bearer {first}"}).status_code
    assert 200 == http.get("/api/list/@public", headers={"authorization": f"Bearer {second}"}).status_code


def test_another_password(chain: Chain, http: httpx.Client) -> None:
    """With another password all tokens of the user end, but for the new one; the old password must be known."""
    old = {"authorization": f"Bearer {token(http, GONE)}"}
    with caterva2.Client(chain.subscriber.url, (GONE, PASSWORD)) as client:
        with pytest.raises(caterva2.BadRequestError, match="LOGIN_BAD_CREDENTIALS"):
            client.change_password("wrong", "another password")
        with pytest.raises(caterva2.BadRequestError, match="at least 8"):
            client.change_password(PASSWORD, "short")
        assert 200 == http.get("/api/roots", headers=old).status_code
        client.change_password(PASSWORD, "another password")

        assert 401 == http.get("/api/roots", headers=old).status_code
        assert 400 == http.post("/auth/jwt/login", data=FORM | {"username": GONE}).status_code
        client.change_password("another password", PASSWORD)
    assert token(http, GONE)


def test_register(http: httpx.Client) -> None:
    """Who registers is a user and never a superuser; an address is taken once, and passwords are not too short."""
    body = {"email": "new@example.com", "password": PASSWORD, "is_superuser": True}
    made = http.post("/auth/register", json=body)
    again = http.post("/auth/register", json=body | {"email": "NEW@example.com"})
    short = http.post("/auth/register", json=body | {"password": "short"})
    wrong = http.post("/auth/register", json=body | {"email": "<i>"})
    missing = http.post("/auth/register", json={"password": PASSWORD})

    found = made.json()
    assert 201 == made.status_code
    assert ["id", "email", "is_active", "is_superuser", "is_verified"] == list(found)
    assert ["new@example.com", True, False, False] == [*found.values()][1:]
    assert (400, "REGISTER_USER_ALREADY_EXISTS") == (again.status_code, again.json()["detail"])
    assert (400, "REGISTER_INVALID_PASSWORD") == (short.status_code, short.json()["detail"]["code"])
    assert (422, ["body", "email"]) == (wrong.status_code, wrong.json()["detail"][0]["loc"])
    assert (422, ["body", "email"]) == (missing.status_code, missing.json()["detail"][0]["loc"])
    assert PASSWORD not in again.text + short.text + wrong.text + missing.text


def test_manage_users(http: httpx.Client) -> None:
    """A superuser adds, lists and removes users, in upstream's words; no hash and no password is told."""
    admin = cookie(token(http, ADMIN))

    def call(method: str, path: str, **given: Any) -> tuple[int, Any]:
        answer = http.request(method, path, headers=admin, **given)
        return answer.status_code, answer.json()

    body = {"username": "t@user.com", "password": "testpassword", "superuser": False}
    assert (200, "User added: username='t@user.com' superuser=False") == call("POST", "/api/adduser/", json=body)
    assert 400 == call("POST", "/api/adduser/", json=body)[0]
    assert 400 == call("POST", "/api/adduser/", json=body | {"password": "short"})[0]
    assert 422 == call("POST", "/api/adduser/", content=b"{")[0]
    status, listed = call("GET", "/api/listusers/?username=t@user.com")
    assert (200, ["t@user.com"]) == (status, [user["email"] for user in listed])
    assert {"id", "email", "is_active", "is_superuser", "is_verified"} == listed[0].keys()
    assert {USER, ADMIN, "t@user.com"} <= {user["email"] for user in call("GET", "/api/listusers/")[1]}
    assert (200, "User deleted: t@user.com") == call("GET", "/api/deluser/t@user.com")
    gone = {"detail": "Error in deleting t@user.com: UserNotExists"}
    assert (400, gone) == call("GET", "/api/deluser/t@user.com")
    assert (200, []) == call("GET", "/api/listusers/?username=t@user.com")
    made = call("POST", "/api/adduser/", json={"username": "t@user.com"})[1]
    password = re.fullmatch(r"User added: username='t@user.com' password='(\S{16})' superuser=False", made)
    assert password is not None
    login = http.post("/auth/jwt/login", data={"username": "t@user.com", "password": password[1]})
    assert 204 == login.status_code
    assert 200 == call("POST", "/api/deluser/t@user.com")[0]


def test_not_too_many(http: httpx.Client, chain: Chain) -> None:
    """With `maxusers` users there, no more are added, by whoever it is."""
    admin = cookie(token(http, ADMIN))
    with store_of(chain) as store:
        more = [f"m{n}@example.com" for n in range(8 - store.count())]
        for mail in more:
            store.add(mail, "x")
        added = http.post("/api/adduser/", json={"username": "m@example.com", "password": PASSWORD}, headers=admin)
        registered = http.post("/auth/register", json={"email": "m@example.com", "password": PASSWORD})
        for mail in more:
            store.remove(mail)

    assert (400, 409) == (added.status_code, registered.status_code)
    assert "maxusers" in added.text


def test_slowed_down(http: httpx.Client) -> None:
    """After five failures further ones are refused unseen for a while, right or wrong."""
    given = {"username": "slow@example.com", "password": "wrong"}
    statuses = [http.post("/auth/jwt/login", data=given).status_code for _ in range(6)]
    refused = http.post("/auth/jwt/login", data=given)

    assert [400] * 5 + [429] == statuses
    assert 1 <= int(refused.headers["retry-after"]) <= 30


def test_slowed_down_behind_a_proxy(http: httpx.Client) -> None:
    """Behind a proxy on this machine each client has an address of its own, which nobody else can make up."""
    given = {"username": "behind@example.com", "password": "wrong"}

    def status(forwarded: str) -> int:
        return http.post("/auth/jwt/login", data=given, headers={"x-forwarded-for": forwarded}).status_code

    assert [400] * 5 + [429] == [status("203.0.113.7") for _ in range(6)]
    assert [429, 400] == [status("198.51.100.1, 203.0.113.7"), status("203.0.113.8")]


def test_a_removed_user(http: httpx.Client, chain: Chain) -> None:
    """A user whom another process removes is logged out at once."""
    shown = {"authorization": f"Bearer {token(http, GONE)}"}
    assert 200 == http.get("/api/roots", headers=shown).status_code
    with store_of(chain) as store:
        store.remove(GONE)

        assert 401 == http.get("/api/roots", headers=shown).status_code
        assert 400 == http.post("/auth/jwt/login", data=FORM | {"username": GONE}).status_code
        store.add(GONE, QUICK.hash(PASSWORD))


# -- other sites ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": "{url}"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "{url}.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[::1"}, 403),
    ],
)
def test_another_site(http: httpx.Client, chain: Chain, headers: Mapping[str, str], status: int) -> None:
    """What a page of another site sends with a user's cookie changes nothing; what shows a bearer token may."""
    found = token(http)
    sent = {name: value.format(url=chain.subscriber.url) for name, value in headers.items()}

    assert status == http.post(f"/api/subscribe/{ROOT}", headers=sent | cookie(found)).status_code
    assert 200 == http.post(f"/api/subscribe/{ROOT}", headers=sent | {"authorization": f"Bearer {found}"}).status_code
    login = http.post("/auth/jwt/login", data=FORM, headers=sent)
    assert (204 if status == 200 else 403) == login.status_code


def test_a_link_removes_nobody(http: httpx.Client) -> None:
    """A link on another site, which a browser follows with the cookie, does not remove a user."""
    admin = cookie(token(http, ADMIN))
    for browser in ({"sec-fetch-site": "cross-site"}, {"accept": "text/html,*/*"}):
        assert 403 == http.get(f"/api/deluser/{USER}", headers=admin | browser).status_code
    assert token(http)


def test_another_site_on_every_route(http: httpx.Client) -> None:
    """No route that changes something does it for a page of another site, even with a superuser's cookie."""
    headers = cookie(token(http, ADMIN)) | {"origin": "https://evil.example"}

    let_in = []
    for name in EXPECTED.keys() - {"POST /auth/forgot-password"}:  # which is not there without mail
        method, path, argument = [*name.split(" "), ""][:3]
        if method != "GET" or "deluser" in path:
            answer = http.request(method, re.sub(r"\{.*\}", argument, path), headers=headers, content=b"{}")
            let_in += [name] if answer.status_code != 403 else []
    assert [] == let_in
    assert 200 == http.get("/api/listusers/", headers=headers).status_code  # which no other page can read
    assert not [name for name in http.get("/api/roots", headers=headers).headers if name.startswith("access-control")]


def test_a_session_that_was_there_before(http: httpx.Client) -> None:
    """A login makes another session than what the browser showed before, which stays what it was."""
    other = token(http, GONE)
    for shown in ("chosen-by-another", forged(other), other):
        answer = http.post("/auth/jwt/login", data=FORM, headers=cookie(shown))
        http.cookies.clear()
        made = answer.cookies["c2subauth"]
        assert made != shown
        assert 200 == http.get("/api/list/@personal", headers=cookie(made)).status_code
        assert (404 if shown != other else 200) == http.get("/api/list/@personal", headers=cookie(shown)).status_code


def test_tokens_of_others(http: httpx.Client, tmp_path: Path) -> None:
    """A token holds at the subscriber that made it, even if another one has the same secret; and as a whole only."""
    real = token(http)
    with UserStore(tmp_path / FILE) as store:
        store.add(USER, QUICK.hash(PASSWORD))
        user = store.find(USER)
        assert user is not None
        elsewhere = Sessions(SECRET, store).begin(user)
    for bad in (
        elsewhere,
        real[:-4] + "AAAA",
        real.rpartition(".")[0] + ".",
        real + ".x",
    ):
        assert 401 == http.get("/api/roots", headers={"authorization": f"Bearer {bad}"}).status_code
        assert 404 == http.get("/api/list/@personal", headers=cookie(bad)).status_code
    assert 200 == http.get("/api/list/@personal", headers=cookie(real)).status_code


def test_behind_a_proxy(tmp_path: Path) -> None:
    """Behind https the cookie is Secure, and for the path of `urlbase` alone, whose origin is good."""
    with open_chain(tmp_path, secret=SECRET) as chain:
        changes = {"broker": "", "urlbase": "https://sub.example.org:3126/science/c2"}
        chain.subscriber.settings = chain.subscriber.settings.model_copy(update=changes)
        chain.subscriber.start()
        with store_of(chain) as store:
            store.add(USER, QUICK.hash(PASSWORD))
        answer = chain.http.post("/auth/jwt/login", data=FORM, headers={"origin": "https://sub.example.org:3126"})

        assert answer.headers["set-cookie"].endswith("; HttpOnly; Path=/science/c2; SameSite=lax; Secure")
        # It does not let everybody register, unless it is told to.
        assert 404 == chain.http.post("/auth/register", json={}).status_code


# -- who may do what --------------------------------------------------------------------------------------


def forged(real: str, **changes: Any) -> str:
    """A token with other claims and a key of its own, or none at all."""
    claims = jwt.decode(real, options={"verify_signature": False}) | changes
    return jwt.encode(claims, b"k" * 32, "HS256")


def unsigned(real: str) -> str:
    """The same token, which says that it needs no signature."""
    claims = jwt.decode(real, options={"verify_signature": False})
    return jwt.encode(claims, "", "none")


# For each route what an anonymous caller, a user and a superuser get: "go" is anything but 401 and 403.
OPEN, LOGIN, SUPERUSER = ("go", "go", "go"), (401, "go", "go"), (401, 403, "go")
LISTED = (404, "go", "go")  # upstream's status
EXPECTED: Mapping[str, tuple[Any, Any, Any]] = {
    **{
        f"{method} /api/{name}/{{path:path}} {root}": expected
        for root, expected in (
            (f"{ROOT}/a.b2nd", OPEN), ("@public/x", OPEN), ("@shared/x", LOGIN), ("@personal/x", LOGIN)
        )
        for method, name in (
            ("GET", "fetch"), ("POST", "fetch"), ("GET", "info"), ("GET", "chunk"), ("GET", "download"),
            ("POST", "verify"),
        )
    },
    **{
        f"GET /api/list/{{path:path}} {root}": expected
        for root, expected in ((ROOT, OPEN), ("@public", OPEN), ("@shared", LISTED), ("@personal", LISTED))
    },
    f"POST /api/subscribe/{{root}} {ROOT}": OPEN,
    "POST /api/subscribe/{root} @public": OPEN,
    **{
        f"POST /api/{name}/{{path:path}} {root}/x": LOGIN
        for root in ("@public", "@shared", "@personal")
        for name in ("upload", "folder", "append", "remove")
    },
    "GET /api/quota": LOGIN,
    "POST /api/move/": LOGIN,
    "POST /api/copy/": LOGIN,
    "POST /api/lazyexpr/": LOGIN,
    "GET /": OPEN,
    "GET /view": OPEN,
    "GET /view/{path:path} foo": OPEN,
    "GET /static/{digest}/{path:path} x": OPEN,
    **{
        f"GET /{name}": OPEN
        for name in ("login", "register", "forgot-password", "reset-password", "account", "users", "status")
    },
    "GET /auth/me": OPEN,
    "POST /api/evaluate/": OPEN,
    "POST /api/concat/": LOGIN,
    "POST /api/stack/": LOGIN,
    "GET /api/roots": OPEN,
    "GET /api/status": SUPERUSER,
    "GET /health": OPEN,
    "GET /ready": OPEN,
    "GET /openapi.json": OPEN,
    "GET /docs": OPEN,
    "GET /docs/style.css": OPEN,
    "POST /auth/jwt/login": OPEN,
    "POST /auth/register": OPEN,
    "POST /auth/password": LOGIN,
    "POST /api/adduser/": SUPERUSER,
    "GET /api/deluser/{username} nobody@example.com": SUPERUSER,
    "POST /api/deluser/{username} nobody@example.com": SUPERUSER,
    "GET /api/listusers/": SUPERUSER,
    "POST /auth/tokens": LOGIN,
    "GET /auth/tokens": LOGIN,
    "DELETE /auth/tokens/{id} nosuch": LOGIN,
    "POST /auth/reset-link": SUPERUSER,
    "POST /auth/forgot-password": OPEN,
    "POST /auth/reset-password": OPEN,
    "POST /auth/jwt/logout": LOGIN,
    # The rest of these is a stream without an end.
    "GET /api/events @personal": (401, None, None),
    "GET /api/events @shared": (401, None, None),
}  # fmt: skip


def test_every_route_is_walked() -> None:
    """No route is missing from the walk below."""
    found = {
        f"{method} {route.path}"
        for route in routes(with_users=True)
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }

    assert found == {" ".join(name.split(" ")[:2]) for name in EXPECTED}


def _walk(http: httpx.Client, headers: Mapping[str, str], kind: int) -> dict[str, Any]:
    """What each route answers: "go", or the status that keeps out; without those that are not expected of a kind."""
    seen: dict[str, Any] = {}
    for name, expected in EXPECTED.items():
        method, path, argument = [*name.split(" "), ""][:3]
        url = re.sub(r"\{.*\}", argument, path) if "{" in path else path
        params = {"root": argument} if path == "/api/events" else None
        if expected[kind] is None:
            continue
        status = http.request(method, url, headers=headers, params=params).status_code
        seen[name] = status if status in {401, 403} or status == expected[kind] else "go"
    return seen


@pytest.mark.parametrize(
    "kind", ["nobody", "junk", "other key", "unsigned", "expired", "logged out", "superuser's name"]
)
def test_who_is_nobody(http: httpx.Client, kind: str) -> None:
    """With a cookie that does not hold every route answers as without one, and with such a bearer token none does."""
    real = token(http)
    if kind == "logged out":
        http.post("/auth/jwt/logout", headers=cookie(real))
    bad = {
        "nobody": "",
        "junk": "junk",
        "other key": forged(real),
        "unsigned": unsigned(real),
        "expired": forged(real, exp=time.time() - 100),
        "logged out": real,
        "superuser's name": forged(real, email=ADMIN, superuser=True),
    }[kind]

    assert {name: each[0] for name, each in EXPECTED.items()} == _walk(http, cookie(bad) if bad else {}, 0)
    if bad:
        bearer = http.get("/api/roots", headers={"authorization": f"Bearer {bad}"})
        assert 401 == bearer.status_code


@pytest.mark.parametrize("shown", ["cookie", "bearer"])
@pytest.mark.parametrize(("mail", "kind"), [(USER, 1), (ADMIN, 2)])
def test_who_is_somebody(http: httpx.Client, mail: str, kind: int, shown: str) -> None:
    """Every route lets a user and a superuser do what they may, and no more."""
    found = token(http, mail)
    headers = cookie(found) if shown == "cookie" else {"authorization": f"Bearer {found}"}

    expected = {name: each[kind] for name, each in EXPECTED.items() if each[kind] is not None}
    assert expected == _walk(http, headers, kind)


def test_without_a_secret(tmp_path: Path) -> None:
    """A subscriber without a secret has none of the routes for users, and takes no notice of tokens."""
    with running_chain(tmp_path) as chain:
        shown = {"authorization": "Bearer x", "cookie": "c2subauth=x", "origin": "https://evil.example"}

        assert 404 == chain.http.post("/auth/jwt/login", data=FORM).status_code
        assert 404 == chain.http.get("/api/listusers/").status_code
        assert 200 == chain.http.post(f"/api/subscribe/{ROOT}", headers=shown).status_code
        assert not (chain.subscriber.settings.statedir / FILE).exists()


# -- clients ----------------------------------------------------------------------------------------------


def test_the_client(chain: Chain) -> None:
    """The Python client logs in in upstream's ways, manages users, and logs out."""
    url = chain.subscriber.url
    auth = {"username": ADMIN, "password": PASSWORD}
    shown = caterva2.get_auth_cookie(url, auth)
    with caterva2.Client(url, (ADMIN, PASSWORD)) as client:
        assert client.adduser("o'b+c@example.com", PASSWORD, superuser=True).startswith("User added: username=")
        assert [True] == [user["is_superuser"] for user in client.listusers("o'b+c@example.com")]
        assert client.listusers() == caterva2.listusers(urlbase=url, auth_cookie=shown)
        assert "User deleted: o'b+c@example.com" == client.deluser("o'b+c@example.com")
        with pytest.raises(caterva2.BadRequestError, match="UserNotExists"):
            client.deluser("o'b+c@example.com")
        client.logout()
        with pytest.raises(caterva2.AuthenticationError):
            client.listusers()
    assert [3] == caterva2.Root(ROOT, url, user_auth=auth)["a.b2nd"][3:4].tolist()
    with pytest.raises(caterva2.ForbiddenError, match="no superuser"):
        caterva2.adduser("x@example.com", urlbase=url, auth_cookie=caterva2.get_auth_cookie(url, (USER, PASSWORD)))
    with pytest.raises(caterva2.AuthenticationError, match="LOGIN_BAD_CREDENTIALS"):
        caterva2.Client(url, (USER, "wrong"))


def test_cat2cli(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cat2cli` logs in with `--username` and `--password`, and manages users."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def run(*argv: str, username: str = ADMIN) -> tuple[int, str]:
        options = ("--subscriber", chain.subscriber.url, "--username", username, "--password", PASSWORD)
        status = main([*options, *argv])
        return status, capsys.readouterr().out

    assert (0, "User added: username='c@example.com' superuser=False\n") == run(
        "adduser", "c@example.com", "--newpassword", PASSWORD
    )
    assert run("listusers", "c@example.com")[1].startswith("c@example.com\t")
    assert "c@example.com" in run("listusers", "--json")[1]
    assert 0 == run("show", f"{ROOT}/a.b2nd[0:3]", username="c@example.com")[0]
    assert 6 == run("listusers", username="c@example.com")[0]
    assert (0, "User deleted: c@example.com\n") == run("deluser", "c@example.com")
    assert 5 == run("roots", username="c@example.com")[0]


def test_blosc2_logs_in(chain: Chain) -> None:
    """`blosc2.c2context` with name and password reads, as a user."""
    before = len(chain.subscriber.asked("POST /auth/jwt/login"))
    with blosc2.c2context(urlbase=chain.subscriber.url, username=USER, password=PASSWORD):
        assert [3, 4] == blosc2.C2Array(f"{ROOT}/a.b2nd")[3:5].tolist()

    assert before + 1 == len(chain.subscriber.asked("POST /auth/jwt/login"))


def test_cat2cli_keeps_a_login(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After `cat2cli login` commands need no password, until `logout`, which ends the token that was kept too."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "caterva2" / "logins.json"
    where = ("--subscriber", chain.subscriber.url)

    assert 5 == main([*where, "listusers"])
    assert 2 == main([*where, "login"])
    assert 5 == main([*where, "login", "--username", ADMIN, "--password", "wrong"])
    assert not file.exists()
    assert 0 == main([*where, "login", "--username", ADMIN, "--password", PASSWORD])
    kept = json.loads(file.read_text())[chain.subscriber.url]["cookie"]
    assert (0o600, 0o700) == tuple(stat.S_IMODE(each.stat().st_mode) for each in (file, file.parent))
    assert PASSWORD not in file.read_text()
    capsys.readouterr()
    assert 0 == main([*where, "listusers", "--username", ADMIN])
    assert ADMIN in capsys.readouterr().out
    assert 6 == main([*where, "listusers", "--username", USER, "--password", PASSWORD])
    assert 0 == main([*where, "logout"])
    assert 401 == httpx.get(f"{chain.subscriber.url}/api/listusers/", headers={"cookie": kept}).status_code
    assert 5 == main([*where, "listusers"])
    assert 2 == main([*where, "logout"])
    assert "{}" == file.read_text()
