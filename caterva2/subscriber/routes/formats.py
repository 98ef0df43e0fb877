"""Answers in other formats than Blosc2's: `format=npy` and `format=csv`."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from caterva2.daemon.http import not_modified
from caterva2.daemon.ranges import FileResponse
from caterva2.formats import Format, encoded
from caterva2.paths import DatasetPath
from caterva2.subscriber.answers import Query
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.exports import export
from caterva2.subscriber.routes.headers import disposition, read_headers
from caterva2.subscriber.routes.state import State


async def formatted(
    request: Request, state: State, path: DatasetPath, caller: Caller, query: Query, format_: Format
) -> Response:
    """Answer with what is selected as a file of another format.

    Raises:
        BadRequestError: if the dataset is no array, or the format does not hold what is selected.
    """
    read = await state.reader.open(path, caller)
    if (response := not_modified(request, read.frame.etag, read_headers(read))) is not None:
        return response
    named = disposition(format_.named(path.basename))
    if query.filter or query.sortby:
        read, content = await state.expressions.rows(path, query, caller, partial(encoded, format_))
        return Response(content, headers=read_headers(read) | named, media_type=format_.media_type)
    read, made = await export(state.reader, path, query, format_, caller)
    length = made.encoding.length
    headers = read_headers(read) | named | ({} if length is None else {"Content-Length": str(length)})
    return FileResponse(made.pieces, 200, headers, format_.media_type)
