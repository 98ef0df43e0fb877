from __future__ import annotations

import gc
import socket
import ssl

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from caterva2 import errors
from caterva2.client.auth import BasicAuth
from caterva2.client.session import Session
from tests.unit.client.subscriber import COOKIE, FakeSubscriber, broken, serving


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (412, errors.VersionChangedError),
        (413, errors.TooLargeError),
        (416, errors.RangeError),
        (418, errors.BadRequestError),
        (422, errors.FrameError),
        (500, errors.Caterva2Error),
        (502, errors.BadGatewayError),
        (503, errors.UnavailableError),
        (507, errors.StorageFullError),
    ],
)
def test_a_status_becomes_its_error(subscriber: FakeSubscriber, status: int, kind: type[errors.Caterva2Error]) -> None:
    """Each HTTP status raises the class that stands for it, with the server's own words."""
    subscriber.raw["GET /api/roots"] = [JSONResponse({"detail": "the server's words"}, status)]

    with Session(subscriber.url) as session, pytest.raises(kind, match=r"^the server's words$") as caught:
        session.get("api/roots")

    assert kind is type(caught.value)


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (PlainTextResponse("Internal Server Error", 500), "Internal Server Error"),
        (PlainTextResponse("", 500), "HTTP status 500"),
        (PlainTextResponse("a\x1b[31m\r\nb\x07", 500), "a [31m b"),
        (JSONResponse({"detail": [{"msg": "Field required"}, {"msg": "too long"}]}, 500), "Field required; too long"),
        (JSONResponse({"detail": "x" * 5000}, 500), "x" * 1000),
        (JSONResponse(["what?"], 500), "what?"),
        (PlainTextResponse("[" * 60000, 500), "[" * 1000),
    ],
)
def test_a_detail_is_one_harmless_line(subscriber: FakeSubscriber, answer: Response, detail: str) -> None:
    """Whatever a server says of an error is shown as one bounded line without control characters."""
    subscriber.raw["GET /api/roots"] = [answer]

    with Session(subscriber.url) as session, pytest.raises(errors.Caterva2Error) as caught:
        session.get("api/roots")

    assert detail == str(caught.value)


def test_nobody_listens() -> None:
    """An address where nobody listens is an UnreachableError that names it and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with (
        Session(f"127.0.0.1:{port}") as session,
        pytest.raises(errors.UnreachableError, match=f"http://127.0.0.1:{port} .*cat2sub"),
    ):
        session.get("api/roots")


def test_a_silent_server() -> None:
    """A server that accepts and then says nothing is given up after the timeout."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Session(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.2) as session,
        pytest.raises(errors.UnavailableError, match=r"within 0\.2 s"),
    ):
        session.get("api/roots")


def test_an_answer_that_breaks_off(subscriber: FakeSubscriber) -> None:
    """A truncated answer is never taken for a whole one."""
    subscriber.raw["GET /api/roots"] = [broken(b"{}", promised=100)]

    with Session(subscriber.url) as session, pytest.raises(errors.UnavailableError, match="broke off"):
        session.get("api/roots")


def test_another_server(subscriber: FakeSubscriber) -> None:
    """An answer that is not JSON asks whether this is a subscriber at all."""
    subscriber.raw["GET /api/roots"] = [PlainTextResponse("<html>welcome")]

    with Session(subscriber.url) as session, pytest.raises(errors.BadGatewayError, match="<html>welcome"):
        session.get("api/roots").json()


def test_a_redirect_names_the_new_address(subscriber: FakeSubscriber) -> None:
    """A redirect is not followed, since the cookie would go along; the error tells the new address."""
    subscriber.raw["GET /api/roots"] = [Response(status_code=308, headers={"location": "https://new.example.org"})]

    with Session(subscriber.url) as session, pytest.raises(errors.UnavailableError, match=r"https://new\.example"):
        session.get("api/roots")


def test_a_restarted_subscriber_is_found_again() -> None:
    """A session outlives the server's connections: the next request opens another."""
    fake = FakeSubscriber()
    with serving(fake.app()) as url, Session(url) as session:
        first = session.get("api/roots").json()
        session._http._transport._pool.connections[0]._connection._network_stream._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]

        assert first == session.get("api/roots").json()


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("a b", "a%20b"),
        ("ü/日本", "%C3%BC/%E6%97%A5%E6%9C%AC"),
        ("100%", "100%25"),
        ("%2e%2e", "%252e%252e"),
        ("%2F", "%252F"),
        ("a#b?c+d", "a%23b%3Fc%2Bd"),
        ("a&b=c;d", "a%26b%3Dc%3Bd"),
        ("a\\b", "a%5Cb"),
        ('"<>', "%22%3C%3E"),
        ("~._-", "~._-"),
    ],
)
def test_names_survive_the_url(subscriber: FakeSubscriber, name: str, encoded: str) -> None:
    """A name with any character reaches the server as it is."""
    subscriber.put(f"foo/{name}", b"content")

    with Session(subscriber.url) as session:
        answer = session.get("api/info", f"foo/{name}").json()

    assert len(b"content") == answer["nbytes"]
    assert [f"GET /api/info/foo/{encoded}"] == subscriber.requests


def test_a_path_prefix() -> None:
    """A subscriber behind a reverse proxy is reached below the proxy's prefix, with or without a slash."""
    fake = FakeSubscriber()
    with serving(fake.app("/science/c2")) as url, Session(f"{url}/science/c2/") as session:
        session.get("api/roots")

        assert ["GET /science/c2/api/roots"] == fake.requests
        assert f"{url}/science/c2/api/info/@public/x%20y" == session.url("api/info", "@public/x y")


def test_login_gives_the_cookie_for_all_requests(subscriber: FakeSubscriber) -> None:
    """The cookie of the login is returned, and sent back as it was received, once."""
    with Session(subscriber.url) as session:
        cookie = session.login({"username": "user@example.com", "password": "foobar11"})
        session.get("api/roots")

    assert cookie == COOKIE
    assert subscriber.headers[-1]["cookie"] == COOKIE
    assert "cookie" not in subscriber.headers[0]


def test_cookies_of_other_answers_are_not_kept(subscriber: FakeSubscriber) -> None:
    """Only a login changes who the session is."""
    subscriber.raw["GET /api/roots"] = [JSONResponse({}, headers={"set-cookie": "track=me"})]
    with Session(subscriber.url, auth_cookie="c2subauth=mine") as session:
        session.get("api/roots")
        session.get("api/roots")

    assert subscriber.headers[-1]["cookie"] == "c2subauth=mine"


def test_login_refused(subscriber: FakeSubscriber) -> None:
    """Wrong credentials are an AuthenticationError that names the user, and not the password."""
    with Session(subscriber.url) as session, pytest.raises(errors.AuthenticationError, match="'me'") as caught:
        session.login(("me", "sikrit"))

    assert "sikrit" not in str(caught.value)


def test_login_where_nobody_can(subscriber: FakeSubscriber) -> None:
    """A subscriber without users says so, instead of "not found"."""
    subscriber.raw["POST /auth/jwt/login"] = [JSONResponse({"detail": "Not Found"}, 404)]

    with Session(subscriber.url) as session, pytest.raises(errors.AuthenticationError, match="CATERVA2_SECRET"):
        session.login(BasicAuth("me", "x"))


def test_login_without_a_cookie(subscriber: FakeSubscriber) -> None:
    """A login that is answered without a cookie is no login."""
    subscriber.raw["POST /auth/jwt/login"] = [Response(status_code=204)]

    with Session(subscriber.url) as session, pytest.raises(errors.BadGatewayError, match="without a cookie"):
        session.login(BasicAuth("me", "x"))


@pytest.mark.parametrize("cookie", ["a=b\r\nx: y", "a=ü"])
def test_a_cookie_cannot_smuggle_headers(cookie: str) -> None:
    """A cookie with line ends or foreign characters is refused before anything is sent."""
    with pytest.raises(errors.BadRequestError, match="cookie"):
        Session(auth_cookie=cookie)


@pytest.mark.parametrize("urlbase", ["ftp://x", "http://", "http://a b", "nonsense", "http://x:99999"])
def test_a_bad_address(urlbase: str) -> None:
    """An address that is none is refused at once, with the remedy."""
    with pytest.raises(errors.AddressError, match=r"host:port|65535"):
        Session(urlbase)


@pytest.mark.parametrize("header", ['W/"abc"', '"abc"', "abc"])
def test_the_etag_without_its_dress(subscriber: FakeSubscriber, header: str) -> None:
    """A version is the same whether or not a proxy marked it as weak."""
    subscriber.raw["GET /api/roots"] = [JSONResponse({}, headers={"etag": header})]

    with Session(subscriber.url) as session:
        assert session.get("api/roots").etag == "abc"


def test_a_closed_session(subscriber: FakeSubscriber) -> None:
    """A closed session says that it is closed."""
    session = Session(subscriber.url)
    session.close()

    with pytest.raises(errors.UnavailableError, match="closed"):
        session.get("api/roots")


def test_a_forgotten_session_leaves_no_socket(subscriber: FakeSubscriber) -> None:
    """Whoever drops a session without closing it gets no ResourceWarning (an error in this test run)."""
    session = Session(subscriber.url)
    session.get("api/roots")
    del session

    assert gc.collect() >= 0


def test_certificates_are_checked_for_https() -> None:
    """An https address is verified against the system's certificates."""
    with Session("https://example.org") as session:
        context = session._http._transport._pool._ssl_context  # type: ignore[attr-defined]

        assert ssl.CERT_REQUIRED == context.verify_mode
        assert context.check_hostname


def test_the_password_is_not_shown() -> None:
    """Neither user nor session shows a secret when printed."""
    session = Session("localhost:8002", auth_cookie="c2subauth=sikrit")

    assert "sikrit" not in repr(BasicAuth("me", "sikrit")) + repr(session)


@pytest.mark.parametrize("auth", [{"username": "me"}, {}])
def test_half_a_user(auth: dict[str, str]) -> None:
    """A mapping without both fields is refused."""
    with pytest.raises(errors.BadRequestError, match="username and a password"):
        BasicAuth.of(auth)
