"""Writing to the subscriber's own roots through REST, the Python client and cat2cli; upstream's forms and answers."""

import contextlib
import http.client
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import blosc2
import httpx
import numpy as np
import pytest
from starlette.routing import Route

import caterva2
from caterva2.cli.main import main
from caterva2.client import Client, Root, get_auth_cookie
from caterva2.client.files import Dataset
from caterva2.errors import BadRequestError, ForbiddenError, NotFoundError, TooLargeError, VersionChangedError
from caterva2.example import HELLO, README, write_example
from caterva2.subscriber.routes import routes
from caterva2.subscriber.users import FILE, UserStore
from tests.integration.chain.daemons import PASSWORD, ROOT, Chain, add_users, running_chain
from tests.support.upstream import run_upstream

ANN, BOB = "ann@example.com", "bob@example.com"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain on the example root, with users."""
    directory = tmp_path_factory.mktemp("writing")
    write_example(directory / ROOT)
    with running_chain(directory, secret="a secret that nobody guesses", user_quota=8 << 20) as chain:
        add_users(chain, ANN, BOB)
        yield chain


@cache
def cookie_of(url: str, mail: str) -> str:
    """The cookie of a user's login."""
    return get_auth_cookie(url, (mail, PASSWORD))


@pytest.fixture
def client(chain: Chain) -> Iterator[Client]:
    """The Python client of a user whose roots are empty."""
    with Client(chain.subscriber.url, auth_cookie=cookie_of(chain.subscriber.url, ANN)) as client:
        for root in ("@public", "@shared", "@personal"):
            for name in {name.partition("/")[0] for name in client.get_list(root)}:
                client.remove(f"{root}/{name}")
        yield client


def post(chain: Chain, path: str, user: str | None = ANN, **options: Any) -> httpx.Response:
    """`POST` below `/api/` as a user."""
    headers = options.pop("headers", {}) | ({"cookie": cookie_of(chain.subscriber.url, user)} if user else {})
    return chain.http.post(f"/api/{path}", headers=headers, **options)


def get(chain: Chain, path: str, user: str | None = ANN, **params: Any) -> httpx.Response:
    """`GET` below `/api/` as a user."""
    headers = {"cookie": cookie_of(chain.subscriber.url, user)} if user else {}
    return chain.http.get(f"/api/{path}", headers=headers, params=params or None)


def send(chain: Chain, path: str, content: bytes, user: str | None = ANN, **headers: str) -> httpx.Response:
    """Upload as upstream's client does."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return post(chain, f"upload/{path}", user, files={"file": io.BytesIO(content)}, headers=named)


def cframe(values: Any) -> bytes:
    """An array as it is sent."""
    data: bytes = blosc2.asarray(np.asarray(values)).to_cframe()
    return data


# -- the contract -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("client")
def test_answers_are_upstreams(chain: Chain) -> None:
    """Statuses and bodies as they were captured, in the same order."""
    ds = cframe(np.arange(1000))
    transfer = {"src": "@personal/ds.b2nd", "dst": "@shared/ds.b2nd"}
    moved = {"src": "@shared/ds.b2nd", "dst": "@shared/sub/ds2.b2nd"}
    wrong = {"src": "@personal/ds.b2nd", "dst": "foo/x.b2nd"}
    answers = [
        send(chain, "@personal/dir/x.txt", b"hello world"),
        send(chain, "@personal/ds.b2nd", ds),
        send(chain, "foo/x.txt", b"x"),
        get(chain, "list/@personal"),
        post(chain, "append/@personal/ds.b2nd", files={"file": io.BytesIO(ds)}),
        post(chain, "copy/", json=transfer),
        post(chain, "move/", json=moved),
        post(chain, "move/", json=wrong),
        post(chain, "move/", json={"src": "foo/ds-1d.b2nd", "dst": "@personal/x.b2nd"}),
        post(chain, "copy/", json={"src": "nosuch/x.b2nd", "dst": "@personal/x.b2nd"}),
        post(chain, "copy/", json=wrong),
        post(chain, "remove/@personal/dir/x.txt"),
        post(chain, "remove/@personal/nosuch"),
        post(chain, "remove/@shared/sub"),
        post(chain, "remove/@personal/ds.b2nd"),
    ]

    only = "@personal or @shared or @public roots"
    assert [
        (200, "@personal/dir/x.txt"),
        (200, "@personal/ds.b2nd"),
        (400, {"detail": f"Only {only} can be modified"}),
        (200, ["dir/x.txt", "ds.b2nd"]),
        (200, [2000]),
        (200, "@shared/ds.b2nd"),
        (200, "@shared/sub/ds2.b2nd"),
        (400, {"detail": f"Only moving to {only} is allowed"}),
        (400, {"detail": f"Only moving from {only} is allowed"}),
        (400, {"detail": "Only copying from existing roots is allowed"}),
        (400, {"detail": f"Only copying to {only} is allowed"}),
        (200, "@personal/dir/x.txt"),
        (404, {"detail": "The specified path does not exist"}),
        (200, "@shared/sub"),
        (200, "@personal/ds.b2nd"),
    ] == [(answer.status_code, answer.json()) for answer in answers]


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("upload/@public/x.txt", {"files": {"file": b"x"}}),
        ("append/@public/x.b2nd", {"files": {"file": b"x"}}),
        ("move/", {"json": {"src": "@public/x", "dst": "@public/y"}}),
        ("move/", {"content": b"no JSON"}),
        ("copy/", {"json": {"src": "foo/README.md", "dst": "@public/y"}}),
        ("remove/@public/x.txt", {}),
        ("remove/@personal/x.txt", {}),
    ],
)
def test_nobody_in_particular_writes_nothing(chain: Chain, path: str, options: Any) -> None:
    """401 for whoever has not logged in, before anything else is looked at."""
    answer = post(chain, path, None, **options)

    assert (401, {"detail": "Unauthorized"}) == (answer.status_code, answer.json())


def test_info_of_an_upload_is_upstreams(chain: Chain, client: Client) -> None:
    """A plain file is one chunk of its own size, as upstream makes it."""
    client.upload(b"hello world", "@personal/dir/x.txt")
    info = get(chain, "info/@personal/dir/x.txt").json()

    assert {"chunkshape": 11, "chunksize": 11, "nbytes": 11, "nchunks": 1, "vlmeta": {}}.items() <= info.items()
    assert (1, 11) == (info["cparams"]["typesize"], info["cparams"]["blocksize"])
    assert b"hello world" == get(chain, "download/@personal/dir/x.txt").content
    assert b"hello world" == blosc2.schunk_from_cframe(get(chain, "fetch/@personal/dir/x.txt").content)[:]


def test_users_do_not_see_each_others_personal_root(chain: Chain, client: Client) -> None:
    """What one user has in @personal no other gets at, on any route."""
    client.upload(np.arange(10), "@personal/a.b2nd")
    for route in ("info", "fetch", "download", "chunk"):
        params = {"nchunk": 0} if route == "chunk" else {}
        statuses = [get(chain, f"{route}/@personal/a.b2nd", user, **params).status_code for user in (ANN, BOB, None)]
        assert (route, [200, 404, 401]) == (route, statuses)
    assert [] == get(chain, "list/@personal", BOB).json()
    assert 404 == post(chain, "remove/@personal/a.b2nd", BOB).status_code
    stolen = post(chain, "copy/", BOB, json={"src": "@personal/a.b2nd", "dst": "@shared/a.b2nd"})
    assert 404 == stolen.status_code


@pytest.mark.parametrize(
    "path",
    [
        "@personal/../../x",
        "@personal/%2e%2e/x",
        "@personal/a/%2e%2e/%2e%2e/x",
        "@personal//x",
        "@personal/%00x",
        "@personal/.x",
        "@personal/" + "x" * 300,
        "@personal/" + "d/" * 3000 + "x",
        "@personal",
        "@personal/",
        "%40personal/..%2f..%2fx",
        "@nosuch/x",
    ],
)
def test_tricks_with_paths_are_refused(chain: Chain, path: str) -> None:
    """Whatever the path, nothing is written outside of the root, and the answer is no server error."""
    before = sorted(str(file) for file in (chain.directory / "sub").rglob("*") if "catalog" not in file.name)
    answers = [
        send(chain, path, b"x"),
        post(chain, f"remove/{path}"),
        post(chain, "move/", json={"src": unquote(path), "dst": "@personal/y"}),
        post(chain, "copy/", json={"src": f"{ROOT}/dir1/ds-2d.b2nd", "dst": unquote(path).rstrip("/") + "/x"}),
    ]

    assert {400, 404} >= {answer.status_code for answer in answers}
    after = sorted(str(file) for file in (chain.directory / "sub").rglob("*") if "catalog" not in file.name)
    assert [file for file in before if "/cache" not in file] == [file for file in after if "/cache" not in file]


# -- forms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"content": b"x"}, "no form with a file"),
        ({"data": {"file": "x"}}, "no form with a file"),
        ({"files": {"other": b"x"}}, "has no file"),
        ({"files": [("file", b"x"), ("file", b"y")]}, "several files"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "no form with a file"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}}, "damaged"),
        (
            {
                "content": b'--a\r\nContent-Disposition: form-data; name="file"\r\n\r\nhalf',
                "headers": {"content-type": "multipart/form-data; boundary=a"},
            },
            "cut off",
        ),
    ],
)
def test_other_bodies_are_refused(chain: Chain, client: Client, options: Any, detail: str) -> None:
    """What is no form with one file is a 400 that says so, and nothing is written."""
    answer = post(chain, "upload/@personal/x", **options)

    assert 400 == answer.status_code
    assert detail in answer.json()["detail"]
    assert [] == client.get_list("@personal")


def test_a_damaged_frame_is_refused(chain: Chain, client: Client) -> None:
    """422, and nothing is written."""
    answer = send(chain, "@personal/a.b2nd", cframe(np.arange(1000))[:-10])

    assert (422, []) == (answer.status_code, client.get_list("@personal"))


# -- versions ---------------------------------------------------------------------------------------------


def test_conditions_are_honoured(chain: Chain, client: Client) -> None:
    """An upload of a version that is not there any more, or of a name that is taken, is a 412 with what there is."""
    etag = send(chain, "@public/x", b"1", if_none_match="*").headers["etag"]
    taken = send(chain, "@public/x", b"2", if_none_match="*")
    assert (412, etag) == (taken.status_code, taken.headers["etag"])
    assert etag == get(chain, "info/@public/x", None).headers["etag"]

    second = send(chain, "@public/x", b"3", if_match=etag)
    assert 200 == second.status_code
    assert 412 == send(chain, "@public/x", b"4", if_match=etag).status_code
    assert 412 == send(chain, "@public/new", b"4", if_match="*").status_code
    assert 412 == post(chain, "remove/@public/x", headers={"if-match": etag}).status_code
    with pytest.raises(VersionChangedError):
        client.upload(b"5", "@public/x", create=True)
    assert b"3" == client.fetch("@public/x")


def test_many_uploads_at_once_lose_nothing(chain: Chain, client: Client) -> None:
    """Each of many small arrays, sent at once, is there afterwards."""
    with ThreadPoolExecutor(32) as pool:
        done = list(pool.map(lambda i: client.upload(np.full(10, i), f"@shared/{i % 5}/{i}.b2nd"), range(1000)))

        assert sorted(map(str, done)) == [f"@shared/{name}" for name in client.get_list("@shared")]
        assert all(pool.map(lambda i: i == client.fetch(f"@shared/{i % 5}/{i}.b2nd", 0), range(1000)))


# Who is refused before the body was read loses the connection; httpcore leaves its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_two_users_race_for_a_name(chain: Chain, client: Client) -> None:
    """Of two who both want to be the first one is, and the other is told; what is there is one of the two, whole."""
    with ThreadPoolExecutor(8) as pool:
        for i in range(10):
            sent = [
                pool.submit(send, chain, f"@shared/race{i}.b2nd", cframe(np.full(5000, n)), user, if_none_match="*")
                for n, user in enumerate([ANN, BOB] * 4)
            ]
            codes = [each.result().status_code for each in sent]
            values = set(client.fetch(f"@shared/race{i}.b2nd").tolist())

            assert [200, *[412] * 7] == sorted(codes)
            assert {codes.index(200)} == values


def test_a_quota_is_told_with_its_figures(chain: Chain, client: Client) -> None:
    """More than a user may have is a 413 with the figures, while it is sent, and nothing of it remains."""
    client.upload(os.urandom(3 << 20), "@personal/x")
    with pytest.raises(TooLargeError, match=r"may keep 8388608 bytes, \d{7} are taken"):
        client.upload(os.urandom(12 << 20), "@personal/y")

    assert ["x"] == client.get_list("@personal")
    assert [] == list((chain.directory / "sub/incoming").iterdir())
    client.upload(os.urandom(4 << 20), "@personal/x")


# -- copies from published roots --------------------------------------------------------------------------


def test_published_datasets_are_copied(chain: Chain, client: Client) -> None:
    """An array, a frame and a plain file come as they are, with what was not here of them yet."""
    for name in ("ds-1d.b2nd", "ds-sc-attr.b2nd", "ds-hello.b2frame", "README.md", "ds-1d-fields.b2nd"):
        assert f"@personal/{name}" == str(client.copy(f"{ROOT}/{name}", "@personal"))

    fields = blosc2.open(str(chain.root / "ds-1d-fields.b2nd"), mode="r")[...]
    np.testing.assert_array_equal(np.arange(1000), client.fetch("@personal/ds-1d.b2nd"))
    np.testing.assert_array_equal(fields, client.fetch("@personal/ds-1d-fields.b2nd"))
    assert {"a": 1, "b": "foo", "c": 123.456} == client.get_info("@personal/ds-sc-attr.b2nd")["schunk"]["vlmeta"]
    assert (HELLO, README.encode()) == (client.fetch("@personal/ds-hello.b2frame"), client.fetch("@personal/README.md"))
    with pytest.raises(NotFoundError):
        client.copy(f"{ROOT}/nosuch.b2nd", "@personal/x.b2nd")


def test_a_published_directory_is_copied(client: Client) -> None:
    """With all that is in it."""
    assert "@shared/all" == str(client.copy(f"{ROOT}/dir1", "@shared/all"))

    assert ["all/ds-2d.b2nd", "all/ds-3d.b2nd"] == client.get_list("@shared")
    np.testing.assert_array_equal(client.fetch(f"{ROOT}/dir1/ds-2d.b2nd"), client.fetch("@shared/all/ds-2d.b2nd"))


# -- Python and cat2cli -----------------------------------------------------------------------------------


def test_objects_are_written(chain: Chain, client: Client, tmp_path: Path) -> None:
    """A root takes arrays without a file; a file is moved, copied, appended to and removed."""
    root = client.get("@personal")
    assert isinstance(root, Root)
    root["a.b2nd"] = np.arange(10)
    root["s.b2frame"] = blosc2.SChunk(data=b"hello")
    (tmp_path / "local.txt").write_bytes(b"text")
    assert "local.txt" == root.upload(tmp_path / "local.txt").name
    array = root["a.b2nd"]
    assert isinstance(array, Dataset)

    assert (15,) == array.append(np.arange(5)) == array.shape
    assert [*range(10), *range(5)] == array[:].tolist()
    assert "@shared/b.b2nd" == str(array.copy("@shared/b.b2nd"))
    assert "@personal/dir/c.b2nd" == str(array.move("@personal/dir/c.b2nd"))
    assert (14, "dir/c.b2nd") == (array[:].sum() - 41, array.name)
    assert ["dir/c.b2nd", "local.txt", "s.b2frame"] == root.file_list
    array.remove()
    del root["s.b2frame"]
    assert ["local.txt"] == root.file_list
    with pytest.raises(TypeError):
        root["x"] = "a text is taken for a path by upload"


def test_functions_write(chain: Chain, client: Client) -> None:
    """What upstream's programs call: functions with an address and a cookie."""
    where: Any = {"urlbase": chain.subscriber.url, "auth_cookie": cookie_of(chain.subscriber.url, ANN)}
    caterva2.upload(np.arange(3), "@personal/a.b2nd", **where)

    assert (6,) == caterva2.append("@personal/a.b2nd", np.arange(3), **where)
    assert "@shared/b.b2nd" == str(caterva2.copy("@personal/a.b2nd", "@shared/b.b2nd", **where))
    assert "@shared/c.b2nd" == str(caterva2.move("@personal/a.b2nd", "@shared/c.b2nd", **where))
    assert "@shared/c.b2nd" == str(caterva2.remove("@shared/c.b2nd", **where))
    assert (["b.b2nd"], []) == (client.get_list("@shared"), client.get_list("@personal"))


def test_commands_write(
    chain: Chain, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cat2cli upload`, `append`, `copy`, `move` and `remove` print where things are."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.arange(6).reshape(3, 2))
    Path("note.txt").write_bytes(b"a note")
    monkeypatch.setattr("caterva2.cli.context.Context.client", client)

    def cat2cli(*argv: str) -> tuple[int, str]:
        status = main(argv)
        return status, capsys.readouterr().out

    assert (0, "@personal/a.b2nd\n") == cat2cli("upload", "rows.npy", "@personal/a.b2nd")
    assert (0, "@personal/sub/note.txt\n") == cat2cli("upload", "note.txt", "@personal/sub/", "--new")
    assert (0, "6, 2\n") == cat2cli("append", "rows.npy", "@personal/a.b2nd")
    assert (0, '"@shared/b.b2nd"\n') == cat2cli("copy", "@personal/a.b2nd", "@shared/b.b2nd", "--json")
    assert (0, "@personal/sub/a.b2nd\n") == cat2cli("move", "@personal/a.b2nd", "@personal/sub")
    assert (0, "@personal/sub\n") == cat2cli("remove", "@personal/sub")
    assert (1, "") == cat2cli("upload", "nosuch.txt", "@personal/x")
    assert (["b.b2nd"], []) == (client.get_list("@shared"), client.get_list("@personal"))


def test_changes_are_told_to_who_may_know(chain: Chain, client: Client) -> None:
    """A user hears of writes to the own roots, also of those to its @personal; another one does not hear of these."""
    cookie = cookie_of(chain.subscriber.url, BOB)
    with (
        Client(chain.subscriber.url, auth_cookie=cookie) as bob,
        client.watch("@personal") as mine,
        bob.watch("@personal") as others,
    ):
        client.upload(b"1", "@personal/x")
        client.move("@personal/x", "@shared/x")
        bob.upload(b"1", "@personal/bobs")

        told = [change and (change.root, change.type, change.path) for change in (mine.wait(10), mine.wait(10))]
        assert [("@personal", "created", "x"), ("@personal", "deleted", "x")] == told
        heard = others.wait(10)
        assert heard is not None
        assert "bobs" == heard.path
        bob.remove("@personal/bobs")


# -- without users ----------------------------------------------------------------------------------------


def test_without_users_nothing_is_written(tmp_path: Path) -> None:
    """A subscriber without a secret says what it takes to write."""
    write_example(tmp_path / ROOT)
    with running_chain(tmp_path) as chain:
        with pytest.raises(ForbiddenError, match="CATERVA2_SECRET"):
            chain.client.upload(b"x", "@public/x")
        assert [403] * 4 == [
            chain.http.post(f"/api/{path}").status_code
            for path in ("move/", "copy/", "append/@public/x", "remove/@public/x")
        ]
        assert [] == chain.client.get_list("@public")
        assert json.loads(chain.http.get("/api/roots").text).keys() == {"@public", ROOT}


def test_a_removed_user_leaves_nothing_in_personal(chain: Chain, tmp_path: Path) -> None:
    """With a user goes its @personal; an upload that is still on its way is refused, and leaves nothing either."""
    state = chain.subscriber.settings.statedir
    add_users(chain, "gone@example.com", superusers=["boss@example.com"])
    with UserStore(state / FILE) as store:
        user = store.find("gone@example.com")
        assert user is not None
    cookie = get_auth_cookie(chain.subscriber.url, ("gone@example.com", PASSWORD))
    with Client(chain.subscriber.url, auth_cookie=cookie) as gone:
        gone.upload(np.arange(10), "@personal/dir/a.b2nd")
    deleted = []

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + bytes(2 << 20)
        with Client(chain.subscriber.url, ("boss@example.com", PASSWORD)) as boss:
            deleted.append(boss.deluser("gone@example.com"))
        yield b"\r\n--x--\r\n"

    headers = {"cookie": cookie, "content-type": "multipart/form-data; boundary=x"}
    late = chain.http.post("/api/upload/@personal/late.txt", content=body(), headers=headers)

    assert (403, 1) == (late.status_code, len(deleted)), late.text
    assert not (state / "personal" / user.id).exists()
    assert [] == list((state / "incoming").iterdir())


TRICKS = [
    "../x", "..%2fx", "%2e%2e/x", "a/../../x", "a/%2e%2e/%2e%2e/x", "%2fetc/passwd", "//etc/passwd", "a//x", "./x",
    "a/./x", "..%5cx%00", "%00", "a%00.txt", ".hidden", "a/.ssh/x", "x" * 300, "d/" * 40 + "x", "", "..",
]  # fmt: skip


def test_tricks_with_paths_on_every_route(chain: Chain, client: Client) -> None:
    """Whatever a path looks like, in an address or in a body, no route writes or reads anything outside of a root."""
    cookie = cookie_of(chain.subscriber.url, ANN)
    before = sorted(str(file) for file in chain.directory.rglob("*") if "sqlite" not in file.name)
    parts = urlsplit(chain.subscriber.url)
    walked = set()
    with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as plain:
        for method, url, body in _tricky_requests():
            walked.add(f"{method} {url.split('/')[2]}")
            headers = {"cookie": cookie, "content-type": body[0]} if body else {"cookie": cookie}
            plain.request(method, url, body[1] if body else None, headers)
            answer = plain.getresponse()
            text = answer.read()
            assert answer.status in {400, 401, 403, 404, 409, 413, 422}, (method, url, body, answer.status, text[:200])

    assert {
        "POST upload",
        "POST folder",
        "POST append",
        "POST remove",
        "POST move",
        "POST copy",
        "POST lazyexpr",
    } <= walked
    assert {
        "POST concat",
        "POST stack",
        "POST evaluate",
        "GET fetch",
        "GET info",
        "GET download",
        "GET chunk",
    } <= walked
    assert before == sorted(str(file) for file in chain.directory.rglob("*") if "sqlite" not in file.name)
    assert [] == client.get_list("@personal")


def _tricky_requests() -> Iterator[tuple[str, str, tuple[str, bytes] | None]]:
    """Requests to every route that has a path, in its address or in its body; sent as they are written here."""
    form = (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
    )
    paths = [
        (method, route.path.partition("{")[0])
        for route in routes(with_users=True)
        if isinstance(route, Route) and route.path.endswith("{path:path}") and route.path.startswith("/api/")
        # What is not there has nothing to be verified.
        if "verify" not in route.path
        for method in (route.methods or set()) - {"HEAD"}
    ]
    for trick in TRICKS:
        for root in ("@personal", "@shared", ROOT):
            for method, start in paths:
                # These are about whole roots too.
                if not (trick == "" and start in {"/api/list/", "/api/verify/"}):
                    yield (
                        method,
                        f"{start}{root}/{trick}?nchunk=0" if "chunk" in start else f"{start}{root}/{trick}",
                        form,
                    )
            path = f"{root}/{unquote(trick, errors='surrogateescape')}"
            operands = {"a": path}
            bodies = {
                "move/": {"src": path, "dst": "@personal/got"},
                "copy/": {"src": path, "dst": "@personal/got.b2nd"},
                "lazyexpr/": {"name": "got", "expression": "a + 1", "operands": operands},
                "evaluate/": {"expression": "a + 1", "operands": operands},
                "concat/": {"srcs": [path, path], "dst": "@personal/got.b2nd", "axis": 0},
                "stack/": {"srcs": [path, path], "dst": "@personal/got.b2nd", "axis": 0},
            }
            for route, body in bodies.items():
                if trick:
                    yield "POST", f"/api/{route}", ("application/json", json.dumps(body).encode())


def test_a_frame_that_stands_for_a_terabyte(client: Client) -> None:
    """A few hundred bytes that claim to be 1 TB are kept, read in parts and refused as a whole, at little cost."""
    bomb = blosc2.zeros((1 << 40,), dtype="u1", chunks=(1 << 30,), blocks=(1 << 20,))
    client.upload(bomb, "@personal/bomb.b2nd")
    assert (1 << 40,) == tuple(client.get_info("@personal/bomb.b2nd")["shape"])
    assert [0, 0] == list(client.fetch("@personal/bomb.b2nd", slice(1 << 39, (1 << 39) + 2)))
    assert "@shared/bomb.b2nd" == str(client.copy("@personal/bomb.b2nd", "@shared/bomb.b2nd"))
    for refused in (
        lambda: client.append("@personal/bomb.b2nd", bomb),
        lambda: client.fetch("@personal/bomb.b2nd", slice(1, None)),
    ):
        with pytest.raises((TooLargeError, BadRequestError)):
            refused()
    path = client.lazyexpr("bomb2", "a + 1", {"a": "@personal/bomb.b2nd"})
    assert [1, 1] == list(client.fetch(path, slice(5, 7)))
    with pytest.raises(TooLargeError):
        client.fetch(path)


HOSTILE = "<img src=x onerror=alert(1)>'\"&<script>.html"


def test_what_users_write_is_no_page_of_ours(chain: Chain, client: Client) -> None:
    """Names and contents with HTML come back as they are, and never as something that a browser would run."""
    page = b"<html><script>alert(1)</script></html>"
    for name in (HOSTILE, "page.html", "image.svg", "code.js"):
        client.upload(page, f"@public/{name}")
        answers = {
            route: chain.http.get(f"/api/{route}/@public/{quote(name)}")
            for route in ("list", "info", "fetch", "download")
        }

        assert page == answers["download"].content
        for route in ("list", "info"):
            assert "application/json" == answers[route].headers["content-type"].partition(";")[0]
        for route in ("fetch", "download"):
            headers = answers[route].headers
            assert headers["content-disposition"].startswith("attachment; filename")
            assert ("nosniff", "default-src 'none'; sandbox") == (
                headers["x-content-type-options"],
                headers["content-security-policy"],
            )
    missing = chain.http.get(f"/api/info/@public/{quote('<script>')}")
    assert (404, "application/json") == (missing.status_code, missing.headers["content-type"].partition(";")[0])


# -- upstream's client -----------------------------------------------------------------------------------

UPSTREAM = """
import sys, pathlib, numpy as np, blosc2, caterva2
base, mail, password = sys.argv[1:]
client = caterva2.Client(base, (mail, password))
blosc2.asarray(np.arange(20), urlpath="own.b2nd", mode="w")
pathlib.Path("notes.txt").write_text("hello")
root = client.get("@personal")
ds = root.upload("own.b2nd", "up/own.b2nd")
assert (ds[3:5] == [3, 4]).all() and ds.shape == (20,), ds
assert str(client.upload("notes.txt", "@shared/notes.txt")) == "@shared/notes.txt"
assert client.get("@shared/notes.txt")[:] == b"hello"
assert ds.append(np.arange(5)) == (25,)
assert str(ds.copy("@shared/copied.b2nd")) == "@shared/copied.b2nd"
assert str(client.copy("foo/ds-1d.b2nd", "@personal/published.b2nd")) == "@personal/published.b2nd"
assert (root["published.b2nd"][990:] == np.arange(990, 1000)).all()
assert str(ds.move("@personal/moved.b2nd")) == "@personal/moved.b2nd"
assert "up/own.b2nd" not in root and "moved.b2nd" in root
assert str(root["moved.b2nd"].remove()) == "@personal/moved.b2nd"
assert sorted(client.get_list("@personal")) == ["published.b2nd"]
"""


def test_upstreams_client_writes(chain: Chain, client: Client, tmp_path: Path) -> None:
    """Upstream's own client logs in, uploads, appends, copies, moves and removes."""
    run_upstream(UPSTREAM, chain.subscriber.url, ANN, PASSWORD, cwd=tmp_path)

    assert (np.r_[0:20, 0:5] == client.get("@shared/copied.b2nd")[:]).all()
