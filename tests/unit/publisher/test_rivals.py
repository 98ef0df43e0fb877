"""caterva2.publisher.announcer.is_alive: whether another publisher of the name answers, wherever the bus says it is."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bus.messages import RootAnnouncement
from caterva2.address import Address
from caterva2.daemon.runner import serving
from caterva2.publisher.announcer import is_alive
from caterva2.settings import BrokerSettings, BusSettings


async def endless() -> AsyncIterator[bytes]:
    """A body without end."""
    while True:
        yield b"x" * 1000
        await asyncio.sleep(0)


def alive(answer: Response | None) -> bool:
    """Ask someone who gives this answer to `/health`; None is nobody."""

    async def health(_request: Request) -> Response:
        assert answer is not None
        return answer

    async def main() -> bool:
        app = Starlette(routes=[Route("/health", health)])
        async with serving(lambda _settings, _address: app, BrokerSettings(http=Address("localhost", 0))) as url:
            said = RootAnnouncement(
                name="foo",
                http=url if answer else "http://localhost:1",
                status="online",
                epoch="E",
                seq=1,
                instance="me",
                birth=1,
                heartbeat=60,
                kind="directory",
                time=0,
                version="",
            )
            return await is_alive(said, BusSettings())

    return asyncio.run(main())


def test_it_is_alive() -> None:
    """Who answers with the instance that was announced is the one."""
    assert alive(JSONResponse({"kind": "publisher", "id": "foo", "version": "1", "instance": "me"}))


@pytest.mark.parametrize(
    "answer",
    [
        None,
        JSONResponse({"kind": "publisher", "id": "foo", "version": "1", "instance": "other"}),
        JSONResponse([]),
        Response(b"garbage"),
        Response(status_code=302, headers={"Location": "/health"}),
        StreamingResponse(endless()),
    ],
)
def test_it_is_not(answer: Response | None) -> None:
    """Someone else, nobody, or an answer that makes no sense or no end is not the one."""
    assert not alive(answer)
