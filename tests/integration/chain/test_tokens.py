"""Tokens on their way: granted over the bus, shown by the subscriber, checked by the publisher; all over TLS.

The bus is a real one, beside a broker that only knows its keys; who grants is the test.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bus.broker import EmbeddedBroker
from bus.client import BusClient
from bus.messages import RootAnnouncement, ServiceStatus, TokenGrant
from bus.topics import Topics
from caterva2.address import Address
from caterva2.daemon.runner import serving
from caterva2.daemon.tls import client_context
from caterva2.daemon.tokens import Signer
from caterva2.publisher.app import create_app as create_publisher
from caterva2.settings import BrokerSettings, BusSettings, PublisherSettings, SubscriberSettings
from caterva2.subscriber.app import create_app as create_subscriber
from tests.support.authority import Authority, Pair
from tests.support.waiting import wait_until_async

SIGNER = Signer(Ed25519PrivateKey.generate())
FIXED = "0123456789abcdef0123"
TOPICS = Topics()
LOCALHOST = Address("localhost", 0)


@dataclass
class World:
    """A publisher of the root foo, which wants a token, a subscriber, and someone on their bus who grants.

    Attributes:
        root: the directory that is published.
        http: a client of the subscriber.
        granter: on the bus.
        seen: the subscribers that granter saw come, and the roots.
    """

    root: Path
    http: httpx.AsyncClient
    granter: BusClient
    publisher: str
    seen: list[ServiceStatus | RootAnnouncement]

    async def grant(self, lifetime: float = 600, roots: Iterable[str] = ("foo",)) -> None:
        """Grant tokens to the subscriber."""
        tokens = {root: SIGNER.issue("alice", root, lifetime) for root in roots}
        await self.granter.publish(TokenGrant(user="alice", tokens=tokens, expires=4e9))

    async def announce(self, name: str, http: str) -> None:
        """Announce a root that there is not."""
        said = RootAnnouncement(name=name, http=http, status="online", epoch="E", seq=1, instance="i", birth=1,
                                heartbeat=60, kind="directory", time=0, version="")  # fmt: skip
        await self.granter.publish(said)
        await self.known(name)

    async def known(self, name: str) -> None:
        """Wait until the subscriber knows a root."""
        end = asyncio.get_running_loop().time() + 20
        while name not in (await self.http.get("/api/roots")).json():
            assert asyncio.get_running_loop().time() < end, f"{name} never came"

    async def read(self, name: str) -> httpx.Response:
        """Write a new file, which no copy is of yet, and read it through the subscriber."""
        (self.root / name).write_text(f"this is {name}")
        return await self.http.get(f"/api/download/foo/{name}")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority of the organisation."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """The certificate of all daemons."""
    return authority.issue()


@pytest.fixture
def world(tmp_path: Path, authority: Authority, pair: Pair) -> Callable[..., Any]:
    """Make a world; `grants` says whether each subscriber that comes is granted a token at once."""

    @asynccontextmanager
    async def made(*, grants: bool = True, **settings: Any) -> AsyncIterator[World]:
        root = tmp_path / "root"
        root.mkdir()
        tls = {"certificate": pair.certificate, "key": pair.key, "bus": BusSettings(username="alice", ca=authority.ca)}
        async with AsyncExitStack() as stack:
            embedded = await stack.enter_async_context(EmbeddedBroker())
            broker = await stack.enter_async_context(serving(_keys_app, BrokerSettings(http=LOCALHOST, **tls)))

            def join(name: str, will: Any = None, birth: int = 0) -> BusClient:
                async def urls() -> tuple[str]:
                    return (embedded.local_url,)

                return BusClient(urls, topics=TOPICS, client_id=name, will=will, birth=birth)

            granter = await stack.enter_async_context(join("granter"))
            await granter.subscribe(TOPICS.all_services, TOPICS.all_roots)
            published = PublisherSettings(
                name="foo", root=root, http=Address("", 0), statedir=tmp_path / "pub", broker=broker, settle=0.02, **tls
            )
            publisher = await stack.enter_async_context(
                serving(
                    lambda s, a: create_publisher(s, a, join_bus=lambda _s, will, birth: join("pub", will, birth)),
                    published,
                )
            )
            subscribed = SubscriberSettings(http=LOCALHOST, statedir=tmp_path / "sub", broker=broker, **tls, **settings)
            subscriber = await stack.enter_async_context(
                serving(lambda s, a: create_subscriber(s, a, join_bus=lambda _s, _t: join("sub")), subscribed)
            )
            http = httpx.AsyncClient(base_url=subscriber, verify=client_context(authority.ca), timeout=30)
            await stack.enter_async_context(http)
            world = World(root, http, granter, publisher, [])
            granting = asyncio.create_task(_grant(world, grants=grants))
            stack.callback(granting.cancel)
            await world.known("foo")
            yield world

    return made


def _keys_app(_settings: BrokerSettings, _address: Address) -> Starlette:
    async def bus(_request: Request) -> Response:
        return JSONResponse({"urls": [], "keys": SIGNER.keys})

    return Starlette(routes=[Route("/api/bus", bus)])


async def _grant(world: World, *, grants: bool) -> None:
    """Do what the broker does: grant tokens to a subscriber when it comes, and when a root comes."""
    async for event in world.granter.messages():
        if isinstance(event, ServiceStatus | RootAnnouncement):
            world.seen.append(event)
            if grants:
                await world.grant()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait in vain only shortly."""
    monkeypatch.setattr("caterva2.subscriber.grants._FIRST_GRANT", 1.0)


def test_a_read_with_a_granted_token(world: Callable[..., Any]) -> None:
    """A subscriber tells its user, is granted a token, and reads with it over https; others do not get in."""

    async def main() -> None:
        async with world() as made:
            answer = await made.read("a.txt")
            assert (200, "this is a.txt") == (answer.status_code, answer.text)
            told = [each for each in made.seen if isinstance(each, ServiceStatus) and each.kind == "subscriber"]
            assert {"alice"} == {each.user for each in told}
            assert all(each.http.startswith("https://") for each in made.seen)
            refused = await made.http.get(f"{made.publisher}/api/download/a.txt")
            assert 401 == refused.status_code

    asyncio.run(main())


def test_a_read_before_its_token(world: Callable[..., Any]) -> None:
    """A read that comes before the first grant waits for it, and goes on at once."""

    async def main() -> None:
        async with world(grants=False) as made:
            reading = asyncio.create_task(made.read("a.txt"))
            requests = httpx.Request  # only to make plain that nothing but the publisher is asked meanwhile
            assert requests is httpx.Request
            await asyncio.wait({reading}, timeout=0.1)
            assert not reading.done()
            await made.grant()
            assert "this is a.txt" == (await reading).text

    asyncio.run(main())


def test_without_a_token_it_is_a_bad_gateway(world: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """Where none is granted, reads are 502 with the remedy, and the log says so once; a grant mends it at once."""

    async def main() -> None:
        async with world(grants=False) as made:
            for name in ("a.txt", "b.txt"):
                answer = await made.read(name)
                assert 502 == answer.status_code
                assert "wants a token, and none is here" in answer.json()["detail"]
                assert "set [subscriber] tokens" in answer.json()["detail"]
            await made.grant()
            assert 200 == (await made.read("c.txt")).status_code

    with caplog.at_level(logging.WARNING, "caterva2"):
        asyncio.run(main())

    assert 1 == sum("wants a token" in record.getMessage() for record in caplog.records)


def test_a_token_ends_and_is_renewed(world: Callable[..., Any]) -> None:
    """With an expired token reads fail; the next grant is used from the next read on."""

    async def main() -> None:
        async with world(grants=False) as made:
            await made.grant(lifetime=-58)  # of the minute that is left to clocks that differ, two seconds remain
            found = [(await made.read("0.txt")).status_code]
            while found[-1] == 200 and len(found) < 10_000:
                found.append((await made.read(f"{len(found)}.txt")).status_code)
            assert (200, 502) == (found[0], found[-1])
            await made.grant()
            assert 200 == (await made.read("last.txt")).status_code

    asyncio.run(main())


def test_the_fixed_token_is_the_remedy(world: Callable[..., Any]) -> None:
    """A token in the settings, which the publisher has too, needs no grant."""
    # The publisher takes it from nowhere else, so it is one that its broker signed for long.
    token = SIGNER.issue("operator", "foo", 10_000)

    async def main() -> None:
        async with world(grants=False, tokens={"foo": token}) as made:
            assert "this is a.txt" == (await made.read("a.txt")).text

    asyncio.run(main())


def test_tokens_go_to_the_address_of_their_root_alone(world: Callable[..., Any]) -> None:
    """A root that someone announces at a host of his own brings him no token of another root, whatever he answers."""
    shown: list[str | None] = []

    async def answer(request: Request) -> Response:
        shown.append(request.headers.get("authorization"))
        return Response(b'{"detail": "show it"}', 401)

    app = Starlette(routes=[Route("/{path:path}", answer)])
    foreign = BrokerSettings(http=LOCALHOST)

    async def main() -> None:
        async with serving(lambda _s, _a: app, foreign) as host, world(tokens={"foo": FIXED}) as made:
            await made.announce("bar", host)
            assert 502 == (await made.http.get("/api/download/bar/x")).status_code
            assert "this is a.txt" == (await made.read("a.txt")).text
            await wait_until_async(lambda: shown, "a question")

    asyncio.run(main())

    assert {None} == set(shown)


def test_an_announcement_of_a_metadata_address(world: Callable[..., Any]) -> None:
    """What is announced there is a bad gateway at once; other roots are read as ever."""

    async def main() -> None:
        async with world() as made:
            await made.announce("evil", "http://169.254.169.254")
            for path in ("/api/download/evil/latest/meta-data", "/api/list/evil"):
                answer = await made.http.get(path)
                assert 502 == answer.status_code or path.startswith("/api/list")
            answer = await made.http.post("/api/subscribe/evil")
            assert 502 == answer.status_code
            assert "link-local or metadata address" in answer.json()["detail"]
            assert 200 == (await made.read("a.txt")).status_code

    asyncio.run(main())
