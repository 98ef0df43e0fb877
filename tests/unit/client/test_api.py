from __future__ import annotations

import inspect
from pathlib import Path, PurePosixPath
from typing import Any

import blosc2
import numpy as np
import pytest
from starlette.responses import JSONResponse

import caterva2
from caterva2 import client as client_package
from caterva2.errors import AuthenticationError, BadGatewayError, NotFoundError, PathError, SliceError
from tests.unit.client.subscriber import COOKIE, FakeSubscriber

USER = {"username": "user@example.com", "password": "foobar11"}


@pytest.fixture
def foo(subscriber: FakeSubscriber) -> FakeSubscriber:
    """A subscriber with an example root."""
    subscriber.put("foo/README.md", b"# Header example\n")
    subscriber.put("foo/dir1/ds-2d.b2nd", np.arange(200, dtype="u2").reshape(10, 20))
    subscriber.put("foo/ds-1d.b2nd", np.arange(1000))
    subscriber.put("@public/note.txt", b"x")
    return subscriber


def test_the_functions_of_the_tutorial(foo: FakeSubscriber, tmp_path: Path) -> None:
    """Upstream's functions work with its arguments in its order."""
    url = foo.url

    assert ["@public", "foo"] == list(caterva2.get_roots(url))
    assert caterva2.subscribe("foo", url) == "Ok"
    assert caterva2.get_roots(urlbase=url)["foo"]["subscribed"] is True
    assert ["README.md", "dir1/ds-2d.b2nd", "ds-1d.b2nd"] == caterva2.get_list("foo", url)
    assert ["ds-2d.b2nd"] == caterva2.get_list("foo/dir1/", url)
    assert [10, 20] == caterva2.get_info("foo/dir1/ds-2d.b2nd", url)["shape"]
    assert [[0, 1], [20, 21]] == caterva2.fetch("foo/dir1/ds-2d.b2nd", url, "0:2, 0:2").tolist()
    assert b"# Header" == caterva2.fetch("foo/README.md", url, "0:8")
    assert np.arange(1000).tobytes() == blosc2.decompress2(caterva2.get_chunk("foo/ds-1d.b2nd", 0, url))
    assert tmp_path / "r" == caterva2.download(PurePosixPath("foo/README.md"), tmp_path / "r", url)


def test_the_login_of_the_tutorial(foo: FakeSubscriber) -> None:
    """A cookie is got once and handed to the functions."""
    cookie = caterva2.get_auth_cookie(foo.url, USER)
    caterva2.get_roots(foo.url, cookie)

    assert COOKIE == cookie
    assert COOKIE == foo.headers[-1]["cookie"]


@pytest.mark.parametrize("name", ["get_roots", "subscribe", "get_list", "get_info", "fetch", "get_chunk", "download"])
def test_a_subscriber_on_this_machine_is_the_default(name: str) -> None:
    """Each function has urlbase, localhost:8002 unless told otherwise, and auth_cookie."""
    parameters = inspect.signature(getattr(caterva2, name)).parameters

    assert "http://localhost:8002" == parameters["urlbase"].default == caterva2.sub_urlbase_default
    assert parameters["auth_cookie"].default is None


def test_a_root_subscribes_and_lists(foo: FakeSubscriber) -> None:
    """A root behaves as the collection of its files."""
    root = caterva2.Root("foo", foo.url)

    assert {"foo"} == foo.subscribed
    assert ["README.md", "dir1/ds-2d.b2nd", "ds-1d.b2nd"] == root.file_list == root.node_list == list(root)
    assert (3, "foo", "<Root: foo>", "foo", foo.url) == (len(root), root.name, repr(root), str(root), root.urlbase)
    assert "README.md" in root
    assert PurePosixPath("dir1/ds-2d.b2nd") in root
    assert [] == [name for name in ("nosuch", "..", "", 5) if name in root]


def test_a_root_sees_new_files(foo: FakeSubscriber) -> None:
    """The list of files is asked for anew each time."""
    root = caterva2.Root("foo", foo.url)
    foo.put("foo/new.txt", b"x")

    assert "new.txt" in root.file_list


def test_the_files_of_a_root(foo: FakeSubscriber) -> None:
    """An array is a Dataset, all else is a File, and what is not there is a LookupError."""
    root = caterva2.Root("foo", foo.url)

    assert isinstance(root["ds-1d.b2nd"], caterva2.Dataset)
    assert isinstance(root["README.md"], caterva2.File)
    with pytest.raises(NotFoundError) as caught:
        root["nosuch"]
    assert isinstance(caught.value, LookupError)


def test_a_damaged_file_is_in_its_root(foo: FakeSubscriber) -> None:
    """A file that cannot be read is there nevertheless."""
    root = caterva2.Root("foo", foo.url)
    foo.raw["GET /api/info/foo/ds-1d.b2nd"] = [JSONResponse({"detail": "damaged"}, 422)]

    assert "ds-1d.b2nd" in root


def test_a_root_logs_in(foo: FakeSubscriber) -> None:
    """`user_auth` logs in first, and the files read as that user."""
    root = caterva2.Root("foo", foo.url, USER)
    root["README.md"].fetch()

    assert "POST /auth/jwt/login" == foo.requests[0]
    assert {COOKIE} == {headers.get("cookie") for headers in foo.headers[1:]}


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "#"])
def test_what_is_no_root(foo: FakeSubscriber, name: str) -> None:
    """A name that no root can have is refused before anything is asked."""
    with pytest.raises(PathError):
        caterva2.Root(name, foo.url)

    assert [] == foo.requests


def test_an_unknown_root(foo: FakeSubscriber) -> None:
    """A root that nobody publishes is a NotFoundError with the server's words."""
    with pytest.raises(NotFoundError, match="nosuch not known by the broker"):
        caterva2.Root("nosuch", foo.url)


@pytest.mark.parametrize("auth", [USER, tuple(USER.values()), caterva2.BasicAuth(**USER)], ids=["dict", "pair", "auth"])
def test_a_client_with_a_user(foo: FakeSubscriber, auth: Any) -> None:
    """A client takes a user in each of the forms, and tells the cookie."""
    with caterva2.Client(foo.url, auth) as client:
        assert COOKIE == client.cookie


def test_a_client_with_a_wrong_user(foo: FakeSubscriber) -> None:
    """A client of an unknown user does not come to be."""
    with pytest.raises(AuthenticationError):
        caterva2.Client(foo.url, ("x", "y"))


def test_a_client_gets_roots_and_files(foo: FakeSubscriber) -> None:
    """`get` gives the object for a path, over the client's connections."""
    with caterva2.Client(foo.url) as client:
        objects = [client.get("foo"), client.get("foo/README.md"), client.get(PurePosixPath("foo/ds-1d.b2nd"))]

    assert ["<Root: foo>", "<File: foo/README.md>", "<Dataset: foo/ds-1d.b2nd>"] == [repr(x) for x in objects]


def test_a_client_reads_without_objects(foo: FakeSubscriber) -> None:
    """`fetch` and `get_slice` take a path and a slice in any form; one request each."""
    with caterva2.Client(foo.url) as client:
        assert [0, 1, 2] == client.fetch("foo/ds-1d.b2nd", slice(3)).tolist()
        assert 5 == client.fetch("foo/ds-1d.b2nd", "5")
        assert isinstance(client.get_slice("foo/ds-1d.b2nd", "0:3"), blosc2.NDArray)
        assert isinstance(client.get_slice("foo/README.md", slice(3)), blosc2.SChunk)
        assert b"# H" == client.get_slice("foo/README.md", slice(3), as_blosc2=False)
        assert f"{foo.url}/api/download/foo/README.md" == client.get_download_url("foo/README.md")

    assert 5 == len(foo.requests)


def test_the_servers_view_of_a_slice(foo: FakeSubscriber) -> None:
    """A slice that only the server can refuse is an IndexError all the same."""
    with caterva2.Client(foo.url) as client, pytest.raises(SliceError, match="5000") as caught:
        client.fetch("foo/ds-1d.b2nd", 5000)

    assert isinstance(caught.value, IndexError)


@pytest.mark.parametrize(
    ("route", "call"),
    [
        ("roots", lambda c: c.get_roots()),
        ("list/foo", lambda c: c.get_list("foo")),
        ("info/foo/x", lambda c: c.get_info("foo/x")),
    ],
    ids=["roots", "list", "info"],
)
def test_answers_of_another_form(foo: FakeSubscriber, route: str, call: Any) -> None:
    """JSON of another form is refused, not handed on."""
    foo.put("foo/x", b"")
    foo.raw[f"GET /api/{route}"] = [JSONResponse([1, 2])]

    with caterva2.Client(foo.url) as client, pytest.raises(BadGatewayError):
        call(client)


def test_everything_exported_exists() -> None:
    """`__all__` lists what there is, sorted, and `dir` shows it."""
    assert sorted(caterva2.__all__) == sorted(set(caterva2.__all__))
    assert [] == [name for name in caterva2.__all__ if not hasattr(caterva2, name)]
    assert [] == [name for name in client_package.__all__ if not hasattr(client_package, name)]
    assert set(caterva2.__all__) <= set(dir(caterva2))


def test_everything_public_is_exported() -> None:
    """No public class or function of the client is missing from the package, nor an error that it raises."""
    names = {name for name in client_package.__all__ if name != "Session"}

    assert set() == names - set(caterva2.__all__)
    assert {"Caterva2Error", "SliceError", "NotFoundError", "UnreachableError"} <= set(caterva2.__all__)


def test_an_unknown_name() -> None:
    """A name that is not there is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="nosuch"):
        caterva2.nosuch  # noqa: B018


def test_the_version() -> None:
    """The package tells its version."""
    assert isinstance(caterva2.__version__, str)
