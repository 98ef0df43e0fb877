"""caterva2.publisher.keys: the broker's keys, asked for, kept, and asked for again."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from caterva2.address import Address
from caterva2.daemon.runner import serving
from caterva2.daemon.statedir import StateDir
from caterva2.daemon.tokens import Signer
from caterva2.errors import UnauthorizedError
from caterva2.publisher import keys as module
from caterva2.publisher.keys import KEYS_FILE, BrokerKeys, KeptKeys
from caterva2.settings import BrokerSettings
from tests.support.waiting import wait_until_async

ONE, TWO = (Signer(Ed25519PrivateKey.generate()) for _ in range(2))
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Broker:
    """Answers `/api/bus` with the keys of a signer, or with anything else."""

    def __init__(self, signer: Signer = ONE) -> None:
        self.signer = signer
        self.answer: Response | None = None
        self.asked = 0

    async def answered(self, _request: Request) -> Response:
        self.asked += 1
        return self.answer or JSONResponse({"urls": [], "keys": self.signer.keys})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Let it answer; give its address."""
        app = Starlette(routes=[Route("/api/bus", self.answered)])
        async with serving(lambda _settings, _address: app, BrokerSettings(http=Address("localhost", 0))) as url:
            yield url


def good(keys: BrokerKeys, signer: Signer) -> bool:
    """Whether a token of a signer holds."""
    try:
        keys.verifier.check(signer.issue("a", "foo", 60), "foo")
    except UnauthorizedError:
        return False
    return True


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Let the broker be asked again at once."""
    return lambda: monkeypatch.setattr(module, "_LEAST_PAUSE", 0.0)


def test_keys_are_asked_for_and_kept(tmp_path: Path) -> None:
    """What the broker said counts after a restart too, with the broker away; those of another broker do not."""

    async def main() -> None:
        with StateDir(tmp_path) as state:
            async with Broker().running() as url:
                keys = BrokerKeys(url, state, NO_TLS)
                assert not good(keys, ONE)
                assert await keys.refresh()
                assert good(keys, ONE)
            again = BrokerKeys(url, state, NO_TLS)
            assert good(again, ONE)
            assert not await again.refresh()
            assert good(again, ONE)
            assert not good(BrokerKeys("http://other:1", state, NO_TLS), ONE)

    asyncio.run(main())


def test_new_keys_take_the_place_of_old_ones(tmp_path: Path, no_pause: Callable[[], Any]) -> None:
    """A key that the broker does not name any more counts no longer, and who remembers tokens is told."""
    no_pause()
    told: list[str] = []

    async def main() -> None:
        broker = Broker()
        async with broker.running() as url:
            with StateDir(tmp_path) as state:
                keys = BrokerKeys(url, state, NO_TLS)
                keys.on_change = lambda: told.append("changed")
                await keys.refresh()
                await keys.refresh()
                assert ["changed"] == told
                broker.signer = TWO
                await keys.refresh()
                assert [False, True] == [good(keys, ONE), good(keys, TWO)]
                kept = state.read_json(KEYS_FILE, KeptKeys)
                assert KeptKeys(broker=url, keys=tuple(TWO.keys)) == kept

    asyncio.run(main())

    assert ["changed", "changed"] == told


def test_the_broker_is_asked_seldom(tmp_path: Path) -> None:
    """However many want to know at once, or soon after, it is one question."""

    async def main() -> int:
        broker = Broker()
        async with broker.running() as url:
            with StateDir(tmp_path) as state:
                keys = BrokerKeys(url, state, NO_TLS)
                assert [True] * 50 == await asyncio.gather(*(keys.refresh() for _ in range(50)))
                assert await keys.refresh()
                return broker.asked

    assert 1 == asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        Response(b"garbage"),
        Response(b"x" * 1_000_000),
        Response(status_code=500),
        Response(status_code=302, headers={"Location": "http://localhost:1/"}),
        JSONResponse({"urls": [], "keys": "x"}),
        JSONResponse({"urls": [], "keys": ["x"]}),
        JSONResponse([]),
    ],
)
def test_answers_that_are_none_change_nothing(tmp_path: Path, answer: Response, no_pause: Callable[[], Any]) -> None:
    """A broker that answers with something else leaves the keys as they were."""
    no_pause()

    async def main() -> None:
        broker = Broker()
        async with broker.running() as url:
            with StateDir(tmp_path) as state:
                keys = BrokerKeys(url, state, NO_TLS)
                await keys.refresh()
                broker.answer = answer
                assert not await keys.refresh()
                assert good(keys, ONE)

    asyncio.run(main())


def test_it_complains_once(
    tmp_path: Path, no_pause: Callable[[], Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that is away is one line in the log, and is asked again until it answers."""
    no_pause()
    monkeypatch.setattr(module, "_FIRST_TRY", 0.01)

    async def main() -> None:
        broker = Broker()
        async with broker.running() as url:
            with StateDir(tmp_path) as state:
                broker.answer = Response(status_code=503)
                keys = BrokerKeys(url, state, NO_TLS)
                following = asyncio.create_task(keys.follow())
                await wait_until_async(lambda: broker.asked > 3, "more questions")
                broker.answer = None
                await wait_until_async(lambda: good(keys, ONE), "the keys")
                following.cancel()
                await asyncio.wait({following})

    with caplog.at_level(logging.WARNING, "caterva2.publisher.keys"):
        asyncio.run(main())

    (line,) = [record.getMessage() for record in caplog.records]
    assert "until it answers, its tokens are refused" in line


def test_damaged_keys_on_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged file is set aside; the broker is asked anyway."""
    (tmp_path / KEYS_FILE).write_text('{"broker": 1')
    with StateDir(tmp_path) as state:
        assert not BrokerKeys("http://localhost:1", state, NO_TLS).verifier

    assert "damaged" in caplog.text
