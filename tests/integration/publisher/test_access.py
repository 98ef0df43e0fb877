"""Who may read a publisher: every route but one wants the token, and only the right one."""

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from caterva2.address import Address
from caterva2.daemon.runner import serving
from caterva2.daemon.tokens import Signer
from caterva2.errors import SettingsError
from caterva2.publisher.routes import routes
from caterva2.settings import BrokerSettings
from tests.integration.publisher.harness import Running, running, settings_for
from tests.support.waiting import wait_until_async

KEY, STRANGER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
SIGNER = Signer(KEY)
KID = SIGNER.keys[0]["kid"]
FIXED = "0123456789abcdef0123"
ANYWHERE = Address("", 0)


@asynccontextmanager
async def broker(*signers: Signer) -> AsyncIterator[str]:
    """A broker that has keys, and no bus."""

    async def bus(_request: Request) -> Response:
        return JSONResponse({"urls": [], "keys": [key for signer in signers for key in signer.keys]})

    app = Starlette(routes=[Route("/api/bus", bus)])
    async with serving(lambda _settings, _address: app, BrokerSettings(http=Address("localhost", 0))) as url:
        yield url


def requests() -> Iterator[tuple[str, str]]:
    """A request for each route and method, but `/health`."""
    for route in routes():
        assert isinstance(route, Route)
        if route.path != "/health":
            for method in sorted((route.methods or set()) | {"OPTIONS"}):
                yield method, route.path.replace("{path:path}", "a.txt")


def forged() -> dict[str, str]:
    """What is not a token of the broker for foo, as `Authorization`."""
    now = int(time.time())
    claims = {"iss": "cat2bro", "sub": "alice", "aud": "root:foo", "iat": now, "exp": now + 600}

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    public = base64.urlsafe_b64decode(SIGNER.keys[0]["x"] + "=")
    tokens = {
        "other key": Signer(STRANGER).issue("alice", "foo", 600),
        "other key under the name of ours": jwt.encode(claims, STRANGER, "EdDSA", headers={"kid": KID}),
        "other root": SIGNER.issue("alice", "bar", 600),
        "expired": SIGNER.issue("alice", "foo", -61),
        "not yet valid": jwt.encode(claims | {"iat": now + 200}, KEY, "EdDSA", headers={"kid": KID}),
        "alg none": f"{part({'alg': 'none', 'kid': KID})}.{part(claims)}.",
        "HS256 with the public key": jwt.encode(claims, public, "HS256", headers={"kid": KID}),
        "garbage": "a.b.c",
        "huge": "x" * 20_000,
        "fixed token of another": "0123456789abcdef0124",
    }
    headers = {name: f"Bearer {token}" for name, token in tokens.items()}
    return headers | {"Basic": f"Basic {FIXED}", "no scheme": FIXED, "empty": "Bearer"}


def test_every_route_wants_a_token(tmp_path: Path) -> None:
    """Without a token, or with a forged one, every route but /health is 401 in one line; with a good one it answers."""

    async def main() -> None:
        async with broker(SIGNER) as url:
            settings = settings_for(tmp_path, http=ANYWHERE, broker=url, token=FIXED)
            (settings.root / "a.txt").write_text("hello")
            async with running(settings) as made:
                good = (f"Bearer {SIGNER.issue('alice', 'foo', 600)}", f"Bearer {FIXED}")
                assert "hello" == (await ask(made, "GET", "/api/download/a.txt", good[0])).text
                others = [("GET", "/"), ("GET", "/health/"), ("GET", "//health"), ("PUT", "/x")]
                for method, path in [*requests(), *others]:
                    for header in (None, *forged().values()):
                        refused = await ask(made, method, path, header)
                        assert 401 == refused.status_code, (method, path, header)
                        assert "Bearer" == refused.headers["www-authenticate"]
                        if method != "HEAD":
                            assert "\n" not in refused.json()["detail"]
                    for header in good:
                        assert 401 != (await ask(made, method, path, header)).status_code, (method, path)
                assert 200 == (await ask(made, "GET", "/health", None)).status_code
                with pytest.raises(InvalidStatus, match="403"):
                    await connect(f"{made.url.replace('http', 'ws')}/api/list")

    asyncio.run(main())


async def ask(made: Running, method: str, path: str, header: str | None) -> httpx.Response:
    """Ask a publisher."""
    return await made.http.request(method, path, headers={"Authorization": header} if header is not None else {})


@pytest.mark.parametrize(
    ("host", "more", "status", "said"),
    [
        ("localhost", {}, 200, "root foo is open to all: only programs on this machine reach it"),
        ("", {"token": FIXED}, 401, "root foo wants a token (its own): others may reach *:"),
        ("", {"access": "open"}, 200, '[publisher] access = "token" would let in only who shows a token'),
        ("localhost", {"access": "token", "token": FIXED}, 401, 'wants a token (its own): access = "token"'),
        (
            "localhost",
            {"urlbase": "https://x.example.org", "token": FIXED},
            401,
            "others may reach https://x.example.org",
        ),
    ],
)
def test_who_may_read_is_said_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: str, more: dict[str, str], status: int, said: str
) -> None:
    """A publisher is open on loopback only, unless told otherwise; the log says what holds, and why."""

    async def main() -> int:
        async with running(settings_for(tmp_path, http=Address(host, 0), **more)) as made:
            return (await ask(made, "GET", "/api/list", None)).status_code

    with caplog.at_level(logging.INFO, "caterva2.publisher"):
        assert status == asyncio.run(main())

    assert said in caplog.text


def test_a_secret_that_nobody_could_know(tmp_path: Path) -> None:
    """A publisher for others without a broker and without a token does not start."""

    async def main() -> None:
        async with running(settings_for(tmp_path, http=ANYWHERE)):
            pass

    with pytest.raises(SettingsError, match="nobody could read"):
        asyncio.run(main())


def test_a_restart_without_the_broker(tmp_path: Path) -> None:
    """With the broker away its tokens hold after a restart too; those of a new key do once it is back."""
    good, new = f"Bearer {SIGNER.issue('a', 'foo', 600)}", Signer(STRANGER)

    async def main() -> None:
        async with broker(SIGNER) as url:
            settings = settings_for(tmp_path, http=ANYWHERE, broker=url)
            async with running(settings) as made:
                assert 200 == (await ask(made, "GET", "/api/list", good)).status_code
        async with running(settings) as made:
            assert 200 == (await ask(made, "GET", "/api/list", good)).status_code
            assert 401 == (await ask(made, "GET", "/api/list", f"Bearer {new.issue('a', 'foo', 60)}")).status_code
        async with broker(new) as url, running(settings.model_copy(update={"broker": url})) as made:
            assert 200 == (await ask(made, "GET", "/api/list", f"Bearer {new.issue('a', 'foo', 60)}")).status_code
            assert 401 == (await ask(made, "GET", "/api/list", good)).status_code

    asyncio.run(main())


def test_a_token_ends(tmp_path: Path) -> None:
    """A token that was good is refused once its time is over."""

    async def main() -> None:
        async with broker(SIGNER) as url, running(settings_for(tmp_path, http=ANYWHERE, broker=url)) as made:
            header = f"Bearer {SIGNER.issue('a', 'foo', -59)}"  # a minute is left to clocks that differ
            end, statuses = time.monotonic() + 20, list[int]()
            while statuses[-1:] != [401] and time.monotonic() < end:
                statuses.append((await ask(made, "GET", "/api/list", header)).status_code)
            assert {200, 401} == set(statuses)
            assert (200, 401) == (statuses[0], statuses[-1])

    asyncio.run(main())


def test_refusals_are_counted(tmp_path: Path) -> None:
    """The metrics tell how many were refused."""

    async def main() -> None:
        async with running(settings_for(tmp_path, http=ANYWHERE, token=FIXED)) as made:
            await ask(made, "GET", "/api/list", None)
            text = (await ask(made, "GET", "/metrics", f"Bearer {FIXED}")).text
            assert 'caterva2_http_requests_total{status="401"} 1' in text
            await wait_until_async(lambda: made.announcements, "the announcement")

    asyncio.run(main())
