"""Where the bus is."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from caterva2.address import Address
from caterva2.daemon.locator import bus_urls
from caterva2.daemon.runner import serving
from caterva2.settings import BrokerSettings, BusSettings


def ask(answer: Response, prefix: str = "caterva2") -> Sequence[str]:
    """Ask a broker that gives this answer."""

    async def endpoint(_request: Request) -> Response:
        return answer

    async def main() -> Sequence[str]:
        app = Starlette(routes=[Route("/api/bus", endpoint)])
        async with serving(lambda _settings, _address: app, BrokerSettings(http=Address("localhost", 0))) as url:
            return await bus_urls(url, BusSettings(prefix=prefix))()

    return asyncio.run(main())


def test_url_of_the_settings_is_the_answer() -> None:
    """With an external broker in the settings nobody is asked."""
    urls = bus_urls("http://localhost:1", BusSettings(url="mqtt://bus:1883"))

    assert ("mqtt://bus:1883",) == asyncio.run(_call(urls))


def test_no_broker_no_bus() -> None:
    """Without a broker there is nowhere to try."""
    assert () == asyncio.run(_call(bus_urls("", BusSettings())))


def test_broker_tells() -> None:
    """The broker's answer is taken in its order."""
    assert ("mqtt://b:1", "ws://b:2/mqtt") == ask(JSONResponse({"urls": ["mqtt://b:1", "ws://b:2/mqtt"]}))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (PlainTextResponse("hello"), "is that a cat2bro"),
        (JSONResponse({"urls": 1}), "is that a cat2bro"),
        (PlainTextResponse("", 404), "404"),
        (JSONResponse({"urls": [], "prefix": "other"}), r"set \[bus\] prefix"),
    ],
)
def test_wrong_answers(answer: Response, message: str) -> None:
    """Something else at the broker's address is an error that the bus client tells, and tries again."""
    with pytest.raises(ConnectionError, match=message):
        ask(answer)


def test_broker_away() -> None:
    """A broker that cannot be reached is such an error too, with its address."""
    with pytest.raises(ConnectionError, match="broker http://localhost:1: "):
        asyncio.run(_call(bus_urls("http://localhost:1", BusSettings())))


async def _call(urls: object) -> Sequence[str]:
    assert callable(urls)
    found: Sequence[str] = await urls()
    return found
