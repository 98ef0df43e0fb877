"""Lazy arrays: made from expressions, and read like stored arrays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.described import JSON, Answer, Operation, described
from caterva2.daemon.http import json_response, not_modified, quoted
from caterva2.daemon.ranges import OCTETS
from caterva2.dtypes import DtypeJson, dtype_json
from caterva2.errors import BadRequestError, NotFoundError
from caterva2.formats import Format, encoded
from caterva2.paths import DatasetPath
from caterva2.slices import Slice
from caterva2.subscriber.answers import Query, frame_of
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.definitions import Definition
from caterva2.subscriber.expressions import Computation
from caterva2.subscriber.intake import ArraySpool, DefinitionSpool
from caterva2.subscriber.lazyarrays import Stored, Version, chunks_of, template_of
from caterva2.subscriber.routes.headers import INERT, disposition, headers_of
from caterva2.subscriber.routes.outcomes import READING, WRITING
from caterva2.subscriber.routes.state import State, state_of
from caterva2.subscriber.routes.validation import read_valid
from caterva2.subscriber.routes.writing import any_writer, condition_of, in_thread, tell
from caterva2.subscriber.userwrites import Upload, check_operands


class LazyExprBody(BaseModel):
    """The body of `POST /api/lazyexpr/`.

    Attributes:
        name: of the dataset, without its ending; in `@personal` unless it begins with another root, as in `@shared/x`.
        expression: what is computed.
        operands: the path of the dataset that each name in it stands for.
        compute: whether the values are computed now, and kept, instead of each time they are read.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    expression: str
    operands: dict[str, str]
    compute: bool = False


class Form(BaseModel):
    """The shape and dtype that an expression has."""

    shape: tuple[int, ...]
    dtype: DtypeJson


class EvaluateBody(BaseModel):
    """The body of `POST /api/evaluate/`.

    Attributes:
        expression: what is computed.
        operands: the path of the dataset that each name in it stands for.
        slice_: of the result, "" is all of it; None to be told its shape and dtype alone.
        format: what the values are to be.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    expression: str
    operands: dict[str, str]
    slice_: str | None = None
    format: str = Format.B2ND


@described(Operation({200: Answer("the dataset's path", str)}, WRITING, body=LazyExprBody, who="user"))
async def create(request: Request) -> Response:
    """`POST /api/lazyexpr/`: store an expression, or the values that it has now; the answer is the dataset's path."""
    state, caller = await any_writer(request)
    body = await read_valid(request, LazyExprBody)
    if isinstance(body, Response):
        return body
    path = _path(body.name)
    state.permissions.check(caller, "write", path)
    definition = Definition.of(body.expression, body.operands)
    if body.compute:
        return await keep_values(request, state, caller, path, definition)
    check_operands(path, definition.operands.values())
    make = partial(_definition, state, caller, path, definition)
    return await _kept(request, state, caller, path, definition, make, (path,))


async def keep_values(
    request: Request, state: State, caller: Caller, path: DatasetPath, definition: Definition
) -> Response:
    """Compute an expression now, and keep its values; the answer is the path of the array.

    Raises:
        BadRequestError: if an operand is not there.
        ExpressionError: if the expression does not fit its operands.
        Caterva2Error: if there is no room for the values, or computing them takes too long.
    """
    make = partial(_values, state, caller, path)
    # It may be computed from the version that it replaces.
    return await _kept(request, state, caller, path, definition, make, ())


async def _kept(
    request: Request,
    state: State,
    caller: Caller,
    path: DatasetPath,
    definition: Definition,
    make: Callable[[Computation], Awaitable[Upload]],
    within: tuple[DatasetPath, ...],
) -> Response:
    try:
        made = await state.lazy.compute(definition, make, caller, within)
    except NotFoundError as error:
        raise BadRequestError(error.detail) from None
    with made:
        # Not before: the computation would take it for a change of an operand, and begin again.
        made.condition = condition_of(request)
        told = await in_thread(state, made.finish)
    tell(state, told)
    return json_response(str(path), headers={"ETag": quoted(told.etag)})


@described(
    Operation(
        {200: Answer('`{"shape", "dtype"}`; with `slice_` the values', media=(JSON, OCTETS, "text/csv"))},
        READING,
        body=EvaluateBody,
    )
)
async def evaluate(request: Request) -> Response:
    """`POST /api/evaluate/`: compute an expression, or tell what it would be; nothing is stored."""
    state = state_of(request)
    caller = await state.callers.caller(request)
    body = await read_valid(request, EvaluateBody)
    if isinstance(body, Response):
        return body
    format_ = Format.parse(body.format)
    key = None if body.slice_ is None else Slice.parse(body.slice_)

    async def work(computation: Computation) -> Response:
        if key is None:
            form = computation.form
            return json_response(Form(shape=form.shape, dtype=dtype_json(form.dtype)))
        encode = frame_of if format_ is Format.B2ND else partial(encoded, format_)
        content = await asyncio.to_thread(encode, await computation.values(key))
        return Response(content, media_type=format_.media_type)

    try:
        response = await state.lazy.compute(Definition.of(body.expression, body.operands), work, caller)
    except NotFoundError as error:
        raise BadRequestError(error.detail) from None
    response.headers.update(INERT | {"Cache-Control": "no-store"})
    return response


def _path(name: str) -> DatasetPath:
    path = name if name.startswith("@") and "/" in name else f"@personal/{name}"
    return DatasetPath.parse(path if path.endswith(".b2nd") else f"{path}.b2nd")


async def _definition(
    state: State, caller: Caller, path: DatasetPath, definition: Definition, computation: Computation
) -> Upload:
    """The stored expression, still without its name."""
    data = definition.frame(computation.form.shape, computation.form.dtype)
    with ExitStack() as stack:
        made = stack.enter_context(await in_thread(state, state.writes.begin, caller, path, make=DefinitionSpool))
        await in_thread(state, made.write, data)
        stack.pop_all()
    return made


async def _values(state: State, caller: Caller, path: DatasetPath, computation: Computation) -> Upload:
    """An array of the values, still without its name."""
    make = partial(ArraySpool, template=template_of(computation))
    with ExitStack() as stack:
        made = stack.enter_context(await in_thread(state, state.writes.begin, caller, path, make=make))
        async for chunk in chunks_of(computation):
            await in_thread(state, made.write, chunk)
        stack.pop_all()
    return made


async def lazy_info(request: Request, state: State, stored: Stored, caller: Caller) -> Response:
    """What `GET /api/info` answers."""

    async def answer(version: Version) -> Response:
        return json_response(version.info)

    return await _answered(request, state, stored, caller, answer)


async def lazy_fetch(request: Request, state: State, stored: Stored, caller: Caller, query: Query) -> Response:
    """What `GET /api/fetch` and `GET /api/download` answer: what was computed, in the format that is wanted."""
    format_ = query.format or Format.B2ND
    encode = frame_of if query.format is None else partial(encoded, query.format)

    async def answer(version: Version) -> Response:
        content, name = await version.answer(query, encode), format_.named(stored.path.basename)
        return Response(content, headers=disposition(name), media_type=format_.media_type)

    return await _answered(request, state, stored, caller, answer)


async def lazy_chunk(request: Request, state: State, stored: Stored, caller: Caller, n: int) -> Response:
    """What `GET /api/chunk` answers."""

    async def answer(version: Version) -> Response:
        if (chunk := await version.chunk(n)) is None:
            nchunks = version.info.schunk.nchunks
            return json_response({"detail": f"there is no chunk {n} in {stored.path}: it has {nchunks}"}, 404)
        return Response(chunk, media_type=OCTETS)

    return await _answered(request, state, stored, caller, answer)


async def _answered(
    request: Request,
    state: State,
    stored: Stored,
    caller: Caller,
    answer: Callable[[Version], Awaitable[Response]],
) -> Response:
    """Answer from one version, unless it is the one that the client has."""

    async def work(version: Version) -> Response:
        if (response := not_modified(request, version.etag, headers_of(version.etag, version.reads))) is not None:
            return response
        response = await answer(version)
        # Only now it is known what had to be fetched.
        response.headers.update(headers_of(version.etag, version.reads))
        return response

    return await state.lazy.read(stored, work, caller)


ROUTES = (
    Route("/api/lazyexpr/", create, methods=["POST"]),
    Route("/api/evaluate/", evaluate, methods=["POST"]),
)
