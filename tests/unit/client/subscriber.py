"""A subscriber of a few lines on a real socket: what the client sees of the REST contract, from NumPy arrays.

It stands in for the daemon where a test needs answers that a sound daemon never gives.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import blosc2
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from caterva2.dtypes import dtype_json
from caterva2.errors import SliceError
from caterva2.slices import Slice

COOKIE = "c2subauth=token.of-the_user"


class FakeSubscriber:
    """The state of the application; tests change it between requests.

    Attributes:
        datasets: arrays and bytes by `root/name`.
        vlmeta: attributes by `root/name`.
        requests: the method, undecoded path and query of every request so far.
        raw: answers to give instead of the right one, by `METHOD /route/path`.
        url: the address, once it listens.
    """

    def __init__(self) -> None:
        self.datasets: dict[str, Any] = {}
        self.vlmeta: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, int] = {}
        self.requests: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.raw: dict[str, list[Response]] = {}
        self.subscribed: set[str] = set()
        self.url = ""

    def put(self, path: str, value: Any, **vlmeta: Any) -> None:
        """Publish a dataset, or another version of it."""
        self.datasets[path] = value
        self.vlmeta[path] = vlmeta
        self.versions[path] = self.versions.get(path, 0) + 1

    def etag(self, path: str) -> str:
        return f'"{path.encode().hex()}-{self.versions[path]}"'

    def value(self, path: str) -> Any:
        if path not in self.datasets:
            raise HTTPException(404, f"{path} is not in a root")
        return self.datasets[path]

    def app(self, prefix: str = "") -> Starlette:
        routes = [
            Route("/api/roots", self.roots),
            Route("/api/subscribe/{root}", self.subscribe, methods=["POST"]),
            Route("/api/events", self.events),
            Route("/api/list/{path:path}", self.list),
            Route("/api/info/{path:path}", self.info),
            Route("/api/fetch/{path:path}", self.fetch),
            Route("/api/chunk/{path:path}", self.chunk),
            Route("/api/download/{path:path}", self.download),
            Route("/auth/jwt/login", self.login, methods=["POST"]),
        ]
        app = Starlette(routes=[Mount(prefix, routes=routes)] if prefix else routes)
        app.add_exception_handler(HTTPException, _detail)  # type: ignore[arg-type]
        return app

    async def roots(self, request: Request) -> Response:
        names = sorted({path.partition("/")[0] for path in self.datasets})
        roots = {
            name: {
                "name": name,
                "http": "" if name.startswith("@") else "localhost:8001",
                "subscribed": name in self.subscribed or None,
                "status": "online",
                **({"freshness": "stale", "age": 7} if name in self.subscribed else {}),
            }
            for name in names
        }
        return self.answer(request, JSONResponse(roots))

    async def subscribe(self, request: Request) -> Response:
        root = request.path_params["root"]
        if not any(path.startswith(f"{root}/") for path in self.datasets):
            return self.answer(request, JSONResponse({"detail": f"{root} not known by the broker"}, 404))
        self.subscribed.add(root)
        return self.answer(request, JSONResponse("Ok"))

    async def events(self, request: Request) -> Response:
        # One that tests put into `raw`, or else silence.
        return self.answer(request, StreamingResponse(_silence(), media_type="text/event-stream"))

    async def list(self, request: Request) -> Response:
        path = request.path_params["path"]
        names = [name.removeprefix(path).lstrip("/") for name in sorted(self.datasets) if name.startswith(path)]
        return self.answer(request, JSONResponse(names))

    async def info(self, request: Request) -> Response:
        path = request.path_params["path"]
        value = self.value(path)
        if request.headers.get("if-none-match") == self.etag(path):
            return self.answer(request, Response(status_code=304))
        return self.answer(request, JSONResponse(info_of(value, self.vlmeta[path])), self.etag(path))

    async def fetch(self, request: Request) -> Response:
        path = request.path_params["path"]
        value, field = self.value(path), request.query_params.get("field")
        values = value if isinstance(value, np.ndarray) else np.frombuffer(value, "S1")
        try:
            selection = Slice.parse(request.query_params.get("slice_", "")).resolve(values.shape)
        except SliceError as error:
            return self.answer(request, JSONResponse({"detail": str(error)}, 400))
        result = values[tuple(index_of(axis) for axis in selection.axes)]
        if field:
            result = np.asarray(result)[field]
        content = cframe(result if isinstance(value, np.ndarray) else np.asarray(result).tobytes())
        return self.answer(request, Response(content, media_type="application/octet-stream"), self.etag(path))

    async def chunk(self, request: Request) -> Response:
        array = blosc2.asarray(self.value(request.path_params["path"]))
        return self.answer(request, Response(array.schunk.get_chunk(int(request.query_params["nchunk"]))))

    async def download(self, request: Request) -> Response:
        value = self.value(request.path_params["path"])
        content = value if isinstance(value, bytes) else cframe(value)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(content), 1 << 16):
                yield content[start : start + (1 << 16)]

        return self.answer(request, StreamingResponse(pieces(), headers={"content-length": str(len(content))}))

    async def login(self, request: Request) -> Response:
        body = await request.body()
        if body != b"username=user%40example.com&password=foobar11":
            return self.answer(request, JSONResponse({"detail": "LOGIN_BAD_CREDENTIALS"}, 400))
        cookie = f"{COOKIE}; HttpOnly; Path=/; SameSite=lax"
        return self.answer(request, Response(status_code=204, headers={"set-cookie": cookie}))

    def answer(self, request: Request, response: Response, etag: str | None = None) -> Response:
        target = request.scope["raw_path"].decode()
        query = request.scope["query_string"].decode()
        self.requests.append(f"{request.method} {target}" + (f"?{query}" if query else ""))
        self.headers.append(dict(request.headers))
        if etag:
            response.headers["etag"] = etag
        waiting = self.raw.get(f"{request.method} {request.url.path}")
        return waiting.pop(0) if waiting else response


async def _silence() -> AsyncIterator[bytes]:
    yield b"id: silence-0\n\n"
    await asyncio.sleep(30)


def broken(content: bytes, promised: int) -> Response:
    """Make an answer that ends before its content-length."""

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    return StreamingResponse(pieces(), headers={"content-length": str(promised)})


def index_of(axis: Any) -> Any:
    """Turn a resolved axis into an index for NumPy, written independently of the client."""
    if not axis.kept:
        return axis.start
    end = axis.start + axis.count * axis.step
    return slice(axis.start, None if end < 0 else end, axis.step)


def cframe(value: Any) -> bytes:
    """Compress an array or bytes to a frame."""
    if isinstance(value, bytes):
        return bytes(blosc2.SChunk(chunksize=1 << 16, data=value or None, cparams={"typesize": 1}).to_cframe())
    return bytes(blosc2.asarray(np.ascontiguousarray(value).reshape(np.shape(value))).to_cframe())


def info_of(value: Any, vlmeta: dict[str, Any]) -> dict[str, Any]:
    """Describe a dataset as `GET /api/info` does."""
    is_array = isinstance(value, np.ndarray)
    array = blosc2.asarray(value) if is_array else None
    nbytes = value.nbytes if is_array else len(value)
    schunk = {
        "cbytes": 10,
        "chunkshape": 100,
        "chunksize": 800,
        "blocksize": 80,
        "contiguous": True,
        "cparams": {"codec": 5, "typesize": value.dtype.itemsize if is_array else 1},
        "cratio": nbytes / 10,
        "nbytes": nbytes,
        "urlpath": None,
        "vlmeta": vlmeta,
        "nchunks": 1,
        "mtime": "2026-11-22T19:02:03.448553Z",
    }
    if array is None:
        return schunk
    shape, chunks, blocks = (list(x) for x in (array.shape, array.chunks, array.blocks))
    dtype = dtype_json(value.dtype)
    return {"shape": shape, "chunks": chunks, "blocks": blocks, "dtype": dtype, "schunk": schunk, "mtime": None}


def _detail(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"detail": error.detail}, error.status_code)


class Stage:
    """The application that whichever test is running put there."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on."""
        await self.app(scope, receive, send)


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve an application on a free port, from a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


__all__ = ["COOKIE", "FakeSubscriber", "Stage", "broken", "cframe", "info_of", "serving"]
