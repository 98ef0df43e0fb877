"""One session with one subscriber: connections, login, URLs, and the errors that its answers mean.

This is the only module of the client that knows the HTTP library.
"""

from __future__ import annotations

import os
import socket
import ssl
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote

import httpx

from caterva2.address import base_url
from caterva2.client.answers import Answer, Currency, ServerEvent, error_of, etag_of, one_line, read_events
from caterva2.client.auth import TOKEN_PREFIX, Auth, BasicAuth
from caterva2.errors import (
    AddressError,
    AuthenticationError,
    BadGatewayError,
    BadRequestError,
    NotFoundError,
    SettingsError,
    UnavailableError,
    UnreachableError,
)

# The name is upstream's; programs import it.
sub_urlbase_default = "http://localhost:8002"
"""Where a subscriber on this machine listens when nothing else is said."""

_CONNECT_TIMEOUT = 5.0
_COOKIE = "c2subauth"
_MAX_ERROR_BODY = 64 * 1024
# Frames are compressed already, and a file's length is wanted for the progress of its download.
_VERBATIM = {"accept-encoding": "identity"}


class Session:
    """The connection pool, the login and the address of one subscriber. Threads may share it.

    Args:
        urlbase: `http://host:port`, `https://host/prefix`, or `host:port`.
        auth_cookie: the login cookie, `name=value`, as `login` and `get_auth_cookie` return it.
        timeout: seconds to wait for the next bytes of an answer; a cold read waits for the publisher.
        basic: a user and password to show with every request, to a service that has no login.
        service: what should be running there, for errors.
        ca: the file of more authorities whose certificates are believed, beside the system's or SSL_CERT_FILE's.
    """

    def __init__(
        self,
        urlbase: str | None = None,
        *,
        auth_cookie: str | None = None,
        timeout: float = 60.0,
        basic: BasicAuth | None = None,
        service: str = "a subscriber (cat2sub)",
        ca: str | os.PathLike[str] | None = None,
    ) -> None:
        self.urlbase = base_url(urlbase or sub_urlbase_default)
        self.auth_cookie = _checked_cookie(auth_cookie)
        self.timeout = timeout
        self._service = service
        self._authorization = {"authorization": basic.header} if basic is not None else {}
        self._tls = _tls(self.urlbase, ca)
        self._live: weakref.WeakSet[LiveAnswer] = weakref.WeakSet()
        self._http = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT)),
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=8, keepalive_expiry=30),
            verify=self._tls,
            cookies=_no_cookies(),
        )
        # Objects such as Root have no end that their user would declare; sockets are closed with the last of them.
        self._close = weakref.finalize(self, self._http.close)

    def close(self) -> None:
        """Close the connections; the session cannot be used afterwards."""
        self._close()
        for answer in list(self._live):
            answer.abort()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._http.is_closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session: {self.urlbase}>"

    def url(self, route: str, path: str = "") -> str:
        """Compose the URL of a route and a dataset path, whose segments are percent-encoded."""
        if not path:
            return f"{self.urlbase}/{route}"
        return f"{self.urlbase}/{route}/" + "/".join(quote(part, safe="@") for part in path.split("/"))

    def get(
        self,
        route: str,
        path: str = "",
        *,
        params: Mapping[str, str] | None = None,
        etag: str | None = None,
    ) -> Answer:
        """Get the whole answer of a route.

        Args:
            route: such as `api/info`.
            path: the dataset path, not encoded.
            params: the query.
            etag: a version at hand; the body is not sent again when it is still the present one.
        """
        headers = {"if-none-match": f'"{etag}"'} if etag else {}
        with self._answer("GET", self.url(route, path), params=params, headers=headers) as response:
            content = response.read()
            found = response.headers
            currency = Currency.of(found.get("cache-status", ""), found.get("age", ""))
            return Answer(content, etag_of(found.get("etag", "")), response.status_code != 304, currency)

    def post(self, route: str, path: str = "", *, body: Mapping[str, object] | None = None) -> Answer:
        """Post to a route, with a body of JSON, or with none."""
        with self._answer("POST", self.url(route, path), json=body) as response:
            return Answer(response.read(), etag_of(response.headers.get("etag", "")))

    def send(
        self,
        route: str,
        path: str,
        content: BinaryIO | bytes,
        conditions: Mapping[str, str],
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """Post a file, which may be larger than memory.

        Args:
            route: such as `api/upload`.
            path: the dataset path, not encoded.
            content: of the file.
            conditions: headers such as `If-Match`.
            params: the query.
        """
        url, form = self.url(route, path), {"file": (path.rpartition("/")[2], content)}
        with self._answer("POST", url, params=params, headers=conditions, files=form) as response:
            return Answer(response.read(), etag_of(response.headers.get("etag", "")))

    def delete(self, route: str, path: str) -> Answer:
        """Delete what a route has under a path."""
        with self._answer("DELETE", self.url(route, path)) as response:
            return Answer(response.read(), etag_of(response.headers.get("etag", "")))

    @contextmanager
    def stream(
        self, route: str, path: str, params: Mapping[str, str] | None = None
    ) -> Iterator[tuple[int | None, Iterator[bytes]]]:
        """Yield the length (when known) and the pieces of an answer that may be larger than memory."""
        with self._answer("GET", self.url(route, path), params=params) as response:
            length = response.headers.get("content-length", "")
            yield (int(length) if length.isdecimal() else None), response.iter_raw(1 << 20)

    @contextmanager
    def listen(
        self, route: str, params: Mapping[str, str], last_id: str | None, silence: float
    ) -> Iterator[LiveAnswer]:
        """Yield an answer that goes on until one side ends it; it has a connection of its own.

        Args:
            route: such as `api/events`.
            params: the query.
            last_id: of the last event at hand; None at the first time.
            silence: seconds after which a connection on which nothing comes counts as dead.
        """
        timeout = httpx.Timeout(silence, connect=min(silence, _CONNECT_TIMEOUT))
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
        # The pool of the other requests has a limit, which what lasts for ever would use up.
        with (
            httpx.Client(timeout=timeout, verify=self._tls, cookies=_no_cookies()) as http,
            self._answer("GET", self.url(route), params=params, headers=headers, http=http) as response,
        ):
            answer = LiveAnswer(response)
            self._live.add(answer)
            yield answer

    def login(self, auth: Auth) -> str:
        """Log in; further requests of this session carry the cookie, which is returned.

        Raises:
            AuthenticationError: if the subscriber does not know the user and password.
        """
        user = BasicAuth.of(auth)
        form = {"username": user.username, "password": user.password}
        try:
            with self._answer("POST", self.url("auth/jwt/login"), data=form) as response:
                cookies = response.headers.get_list("set-cookie")
        except NotFoundError as error:
            raise AuthenticationError(
                f"{self.urlbase} knows no users: read without a username, or start it with CATERVA2_SECRET set"
            ) from error
        except (BadRequestError, AuthenticationError) as error:
            raise AuthenticationError(f"{self.urlbase} refuses the login of {user.username!r}: {error}") from error
        return self._keep_cookie(cookies)

    def show(self, token: str) -> None:
        """Show an access token with further requests.

        Raises:
            BadRequestError: if it is none.
        """
        if not token.startswith(TOKEN_PREFIX):
            raise BadRequestError(f"this is no access token: one begins with {TOKEN_PREFIX}, a login is a pair")
        # As a cookie it can be handed on to Blosc2 too.
        self.auth_cookie = _checked_cookie(f"{_COOKIE}={token}")

    def _keep_cookie(self, cookies: Sequence[str]) -> str:
        if not cookies:
            raise BadGatewayError(f"{self.urlbase} answers a login without a cookie")
        self.auth_cookie = _checked_cookie(cookies[0].partition(";")[0])
        assert self.auth_cookie is not None
        return self.auth_cookie

    def change_password(self, password: str, new: str) -> str:
        """Get another password; all cookies of the user end, and a new one is returned, which this session carries."""
        with self._answer(
            "POST", self.url("auth/password"), json={"password": password, "new_password": new}
        ) as response:
            return self._keep_cookie(response.headers.get_list("set-cookie"))

    def logout(self) -> None:
        """Log out: the cookie ends, here and wherever else it was used."""
        self.post("auth/jwt/logout")
        self.auth_cookie = None

    @contextmanager
    def _answer(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        files: Mapping[str, tuple[str, BinaryIO | bytes]] | None = None,
        http: httpx.Client | None = None,
    ) -> Iterator[httpx.Response]:
        """Send a request; yield the answer before its body is read, or raise the error that it means."""
        own = {"cookie": self.auth_cookie} if self.auth_cookie else {}
        all_headers = {**_VERBATIM, **own, **self._authorization, **(headers or {})}
        with (
            self._translated(url),
            (http or self._http).stream(
                method, url, params=params, headers=all_headers, data=data, json=json, files=files
            ) as response,
        ):
            _raise_for_status(response)
            yield response

    @contextmanager
    def _translated(self, url: str) -> Iterator[None]:
        """Turn the HTTP library's errors into ours, with the address and the remedy."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise UnreachableError(
                    f"{self.urlbase} has a certificate that is not believed ({one_line(str(error))}): give the file of"
                    " its authority as ca (CATERVA2_CLIENT_CA, SSL_CERT_FILE)"
                ) from error
            raise UnreachableError(
                f"no answer from {self.urlbase} ({one_line(str(error)) or type(error).__name__}):"
                f" is the address right, and is {self._service} running there?"
            ) from error
        except httpx.TimeoutException as error:
            raise UnavailableError(f"{url} did not go on answering within {self.timeout:g} s: try again") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise UnavailableError(
                f"the answer of {url} broke off ({one_line(str(error)) or type(error).__name__}): try again"
            ) from error
        except httpx.InvalidURL as error:
            raise AddressError(f"{url!r} cannot be asked for: {error}") from error
        except RuntimeError as error:
            if not self._http.is_closed:
                raise
            raise UnavailableError(f"the session with {self.urlbase} is closed: open another") from error


class LiveAnswer:
    """An answer that goes on and on.

    Args:
        response: whose status was looked at.
    """

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def events(self) -> Iterator[ServerEvent]:
        """Read server-sent events as they come; ends when the server ends them, or after `abort`."""
        return read_events(self._response.iter_raw())

    def abort(self) -> None:
        """End it, whatever thread waits for it."""
        stream = self._response.extensions.get("network_stream")
        found = stream.get_extra_info("socket") if stream is not None else None
        if isinstance(found, socket.socket):
            # Closing would leave a thread that waits for data where it is. The class's own method, since that of TLS
            # takes away what that thread works with.
            with suppress(OSError):
                socket.socket.shutdown(found, socket.SHUT_RDWR)


def _raise_for_status(response: httpx.Response) -> None:
    status = response.status_code
    if 200 <= status < 300 or status == 304:
        return
    if status < 400:
        raise UnavailableError(
            f"{response.url} has moved to {one_line(response.headers.get('location', '?'))}: use that address"
        )
    raise error_of(status, _head(response))


def _head(response: httpx.Response) -> bytes:
    """Read an error's text, but no more of it than a sane server sends."""
    body = b""
    for piece in response.iter_bytes():
        body += piece
        if len(body) >= _MAX_ERROR_BODY:
            break
    return body


def _checked_cookie(cookie: str | None) -> str | None:
    if not cookie:
        return None
    if not (cookie.isascii() and cookie.isprintable()):
        raise BadRequestError("an authentication cookie is plain ASCII text, name=value")
    return cookie


def _tls(urlbase: str, ca: str | os.PathLike[str] | None) -> ssl.SSLContext:
    """Load the system's certificates only where they are used: it takes 40 ms, twenty times the rest.

    The empty context for plain HTTP trusts nobody, so a mistake here could only refuse.
    """
    if urlbase.startswith("https:"):
        context = httpx.create_ssl_context()
        if ca is not None:
            _believe(context, ca)
        return context
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _believe(context: ssl.SSLContext, ca: str | os.PathLike[str]) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise SettingsError(f"{os.fspath(ca)}: holds no certificates of authorities in PEM") from error
    except OSError as error:
        raise SettingsError(f"{os.fspath(ca)}: cannot be read: {error.strerror}; correct the path of ca") from error


def _no_cookies() -> CookieJar:
    """Keep the library from storing cookies: the one that counts is sent as it was received."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
