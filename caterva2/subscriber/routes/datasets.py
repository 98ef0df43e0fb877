"""Datasets: their metadata, slices, chunks and files."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from caterva2.daemon.described import Answer as Answered
from caterva2.daemon.described import Operation, Parameter, described, parameters_of
from caterva2.daemon.http import dataset_route, json_response, not_modified, read_json
from caterva2.daemon.ranges import OCTETS, FileResponse, file_response
from caterva2.errors import BadRequestError, NotFoundError
from caterva2.formats import Format
from caterva2.models import ArrayInfo, FrameInfo, LazyArrayInfo
from caterva2.paths import DatasetPath
from caterva2.subscriber.answers import Answer, Query
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.reader import Read, Reader
from caterva2.subscriber.routes.formats import formatted
from caterva2.subscriber.routes.headers import disposition, read_headers
from caterva2.subscriber.routes.lazyarrays import lazy_chunk, lazy_fetch, lazy_info
from caterva2.subscriber.routes.outcomes import PARTS, READING
from caterva2.subscriber.routes.pieces import pieces_in_thread
from caterva2.subscriber.routes.state import State, state_of

# Bytes; a list of a million coordinates fits.
_MOST_BODY = 16 << 20
# Bytes of a query string that is worth keeping: many clients ask for the same slices.
_SHORT = 256


class FetchBody(BaseModel):
    """The body of `POST /api/fetch`: parameters that do not fit in a URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slice_: str = ""
    field: str | None = None
    indices: str | list[Any] | None = None
    filter: str | None = None
    sortby: str | None = None
    format: str | None = None


_FETCH_ABOUT: Final = {
    "slice_": "as in NumPy: `0:10`, or `0:2, 1, :3`; all, if left out",
    "field": "one field of a structured array",
    "indices": "fancy indexing, as JSON: for each axis a list, a number, `a:b` or null",
    "filter": "a condition over the fields, such as `a < 5`: the rows for which it holds",
    "sortby": "a field: the rows in its order",
    "format": "what an array becomes: `b2nd` (Blosc2, as without it), `npy` (NumPy) or `csv`",
}
_FRAME: Final = Answered(
    "a Blosc2 frame with what was asked for, or the frame as it is stored; or a file of another format",
    media=(OCTETS, "text/csv"),
)
_QUERY: Final = parameters_of(FetchBody, _FETCH_ABOUT)
_NCHUNK: Final = Parameter("the number of the chunk, from 0", int, required=True)


@described(Operation({200: Answered("the metadata", LazyArrayInfo | ArrayInfo | FrameInfo)}, READING))
async def get_info(request: Request) -> Response:
    """`GET /api/info/{path}`: the metadata."""
    state, path, caller = await _dataset(request)
    if (stored := await state.lazy.find(path, caller)) is not None:
        return await lazy_info(request, state, stored, caller)
    read = await state.reader.open(path, caller)
    headers = read_headers(read)
    return not_modified(request, read.frame.etag, headers) or json_response(read.frame.info, headers=headers)


@described(Operation({200: _FRAME}, READING, body=FetchBody), "POST")
@described(Operation({200: _FRAME, **PARTS}, READING, query=_QUERY), "GET")
async def fetch(request: Request) -> Response:
    """`GET /api/fetch/{path}?slice_=&field=&filter=`: a Blosc2 frame with the selection, or the stored frame.

    With `format=` it is a file of another format.
    """
    state, path, caller = await _dataset(request)
    query = await _body(request) if request.method == "POST" else _parameters(request)
    if (stored := await state.lazy.find(path, caller)) is not None:
        return await lazy_fetch(request, state, stored, caller, query)
    if query.format is not None:
        return await formatted(request, state, path, caller, query, query.format)
    if "range" in request.headers and query == Query():
        return await _frame(request, state.reader, path, caller)
    by_rows = query.filter or query.sortby
    read, answer = await (state.expressions.rows if by_rows else state.reader.fetch)(path, query, caller)
    headers = read_headers(read)
    if (response := not_modified(request, read.frame.etag, headers)) is not None:
        return response
    if answer is None:
        return _stream_frame(request, state.reader, read, path.basename)
    if isinstance(answer, bytes):
        return Response(answer, headers=headers, media_type=OCTETS)
    return _answer_response(read, answer, path.basename)


@described(Operation({200: Answered("the compressed chunk", media=(OCTETS,))}, READING, {"nchunk": _NCHUNK}))
async def get_chunk(request: Request) -> Response:
    """`GET /api/chunk/{path}?nchunk=n`: one compressed chunk."""
    state, path, caller = await _dataset(request)
    text = request.query_params.get("nchunk", "")
    if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() and len(text) < 20):
        raise BadRequestError(f"nchunk={text!r} is not the number of a chunk: give ?nchunk=0 or more")
    if (stored := await state.lazy.find(path, caller)) is not None:
        return await lazy_chunk(request, state, stored, caller, int(text))
    read, chunk = await state.reader.chunk(path, int(text), caller)
    headers = read_headers(read)
    return not_modified(request, read.frame.etag, headers) or Response(chunk, headers=headers, media_type=OCTETS)


@described(Operation({200: Answered("the file", media=("*/*",)), **PARTS}, READING, query=_QUERY))
async def download(request: Request) -> Response:
    """`GET /api/download/{path}`: the file; a plain one as it was, any other as a Blosc2 frame.

    With the parameters of `fetch` it is what is selected, in the format that is wanted.
    """
    if _parameters(request) != Query():
        return await _selected(request)
    state, path, caller = await _dataset(request)
    if (stored := await state.lazy.find(path, caller)) is not None:
        return await lazy_fetch(request, state, stored, caller, Query())
    read = await state.reader.open(path, caller)
    if read.frame.kind != "file":
        return await _frame(request, state.reader, path, caller)

    if request.method == "GET":
        read = await state.reader.run(path, state.reader.begin_contents, caller)

    def contents(start: int, stop: int) -> AsyncIterator[bytes]:
        return state.reader.contents(read, start, stop)

    media_type = mimetypes.guess_type(path.basename)[0] or OCTETS
    headers = read_headers(read) | disposition(path.basename)
    return file_response(request, contents, read.frame.layout.nbytes, read.frame.etag, headers, media_type)


async def _selected(request: Request) -> Response:
    """Answer as `fetch`, to be kept as a file."""
    response = await fetch(request)
    if response.status_code == 200:
        for name, value in disposition(_path(request.path_params["path"]).basename).items():
            response.headers.setdefault(name, value)
    return response


async def _frame(request: Request, reader: Reader, path: DatasetPath, caller: Caller) -> Response:
    """Answer with the stored frame, or ranges of it; one that is not compact is packed on the way."""
    read = await reader.open(path, caller)
    if not read.frame.compact:
        read, answer = await reader.fetch(path, Query(), caller)
        assert isinstance(answer, Answer | bytes)
        return _answer_response(read, answer, path.basename)
    if "range" not in request.headers and request.method == "GET":
        read = await reader.run(path, reader.begin, caller)
    return _stream_frame(request, reader, read, path.basename)


def _stream_frame(request: Request, reader: Reader, read: Read, name: str) -> Response:
    def stream(start: int, stop: int) -> AsyncIterator[bytes]:
        return reader.stream(read, start, stop)

    headers = read_headers(read) | disposition(name if read.frame.kind != "file" else f"{name}.b2")
    return file_response(request, stream, read.frame.layout.length, read.frame.etag, headers)


def _answer_response(read: Read, answer: Answer | bytes, name: str) -> Response:
    if isinstance(answer, bytes):
        return Response(answer, headers=read_headers(read) | disposition(name), media_type=OCTETS)
    headers = read_headers(read) | disposition(name) | {"Content-Length": str(answer.length)}
    return FileResponse(pieces_in_thread(read, answer.pieces), 200, headers, OCTETS)


async def _dataset(request: Request) -> tuple[State, DatasetPath, Caller]:
    """The dataset of the URL; the first read of a root follows it."""
    state, path = state_of(request), _path(request.path_params["path"])
    caller = await state.callers.caller(request)
    state.permissions.check(caller, "read", path)
    if not path.name:
        raise NotFoundError(f"{path} is a root, not a dataset")
    if not path.root.own:
        await state.follower.subscribe(path.root)
    return state, path, caller


async def _body(request: Request) -> Query:
    body = await read_json(request, FetchBody, _MOST_BODY)
    indices = body.indices if isinstance(body.indices, str | None) else json.dumps(body.indices)
    selected = (body.slice_, body.field or None, indices, body.filter or None, body.sortby or None)
    return Query(*selected, _format(body.format or ""))


def _parameters(request: Request) -> Query:
    text = request.scope["query_string"]
    return (_query if len(text) <= _SHORT else _query.__wrapped__)(text)


@lru_cache(4096)
def _query(text: bytes) -> Query:
    # Starlette's query_params costs more than the rest of a small read's preparations.
    given = dict(parse_qsl(text.decode("latin-1")))
    format_ = _format(given.pop("format", ""))
    try:
        return Query(**given, format=format_)
    except TypeError:
        known = list(FetchBody.model_fields)
        name = next(name for name in given if name not in known)
        raise BadRequestError(f"{name!r} is no parameter here: use {', '.join(known)}") from None


def _format(text: str) -> Format | None:
    """What the answer is to be, if that is not what it is anyway."""
    found = Format.parse(text or Format.B2ND)
    return None if found is Format.B2ND else found


@lru_cache(4096)
def _path(text: str) -> DatasetPath:
    return DatasetPath.parse(text)


ROUTES = (
    dataset_route("/api/fetch", fetch, ["GET", "POST"]),
    dataset_route("/api/info", get_info),
    dataset_route("/api/chunk", get_chunk),
    dataset_route("/api/download", download),
)
