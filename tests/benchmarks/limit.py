"""The limit: a bare Starlette endpoint on uvicorn, run as `python -m tests.benchmarks.limit DIRECTORY`.

It serves the files of a directory: small ones from memory in one piece, large ones from memory in pieces of 1 MiB, and
all of them as static files. What the product serves is compared with the same bytes from here.
"""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from caterva2.address import Address
from caterva2.daemon.arguments import BROKER
from caterva2.daemon.runner import serve
from caterva2.settings import BrokerSettings

_PIECE = 1 << 20


def create_app(directory: Path) -> Starlette:
    """Make the bare app."""
    kept: dict[str, bytes] = {}

    async def memory(request: Request) -> Response:
        name = request.path_params["name"]
        data = kept.get(name) or kept.setdefault(name, (directory / name).read_bytes())
        if len(data) <= _PIECE:
            return Response(data, media_type="application/octet-stream")

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(data), _PIECE):
                yield data[at : at + _PIECE]

        return StreamingResponse(pieces(), headers={"Content-Length": str(len(data))})

    async def static(request: Request) -> Response:
        return FileResponse(directory / request.path_params["name"])

    return Starlette(routes=[Route("/memory/{name}", memory), Route("/static/{name}", static)])


if __name__ == "__main__":
    where = Path(sys.argv[1])
    settings = BrokerSettings.model_construct(http=Address("localhost", 0), loglevel="warning")
    sys.exit(serve(lambda _settings, _address: create_app(where), settings, BROKER))
