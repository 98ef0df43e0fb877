"""Writing to the subscriber's own roots; forms and answers are upstream's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, TypeVar

from anyio import to_thread
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.described import MULTIPART, Answer, Operation, Parameter, described
from caterva2.daemon.http import dataset_route, etag_matches, json_response, quoted, read_json
from caterva2.errors import BadRequestError, NotFoundError
from caterva2.models import QuotaFigures
from caterva2.paths import DatasetPath
from caterva2.subscriber.answers import Query
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.intake import FrameSpool
from caterva2.subscriber.placing import Condition
from caterva2.subscriber.routes.forms import FileForm, sent_file
from caterva2.subscriber.routes.outcomes import WRITING
from caterva2.subscriber.routes.pieces import pieces_in_thread
from caterva2.subscriber.routes.state import State, flag_of, state_of
from caterva2.subscriber.userwrites import Archive, Told, Upload

_Result = TypeVar("_Result")
_OWN: Final = "@personal or @shared or @public roots"
_NO_ROOT: Final = "Only copying from existing roots is allowed"


class Transfer(BaseModel):
    """The body of `POST /api/move/` and `POST /api/copy/`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    src: str
    dst: str


@described(
    Operation(
        {200: Answer("the path", str)},
        WRITING,
        {"unpack": Parameter("whether the file is an archive, of which the members are kept", bool)},
        body=FileForm,
        media=MULTIPART,
        who="user",
    )
)
async def upload(request: Request) -> Response:
    """`POST /api/upload/{path}`: write a dataset, or with `?unpack=true` a folder; the answer is its path."""
    state, caller, path = await _writer(request)
    if flag_of(request, "unpack"):
        if "if-match" in request.headers or "if-none-match" in request.headers:
            raise BadRequestError("If-Match and If-None-Match do not go with unpack=: its folder must be new anyway")
        with await in_thread(state, state.writes.begin_archive, caller, path) as archive:
            await _receive(state, request, archive)
            tell(state, await in_thread(state, archive.finish))
        return json_response(str(path))
    with await in_thread(state, state.writes.begin, caller, path, condition_of(request)) as sent:
        await _receive(state, request, sent)
        told = await in_thread(state, sent.finish)
    tell(state, told)
    return json_response(str(path), headers={"ETag": quoted(told.etag)})


@described(Operation({200: Answer("the path", str)}, WRITING, who="user"))
async def make_folder(request: Request) -> Response:
    """`POST /api/folder/{path}`: make an empty folder; the answer is its path."""
    state, caller, path = await _writer(request)
    await in_thread(state, state.writes.make_folder, caller, path)
    return json_response(str(path))


@described(Operation({200: Answer("the new shape", list[int])}, WRITING, body=FileForm, media=MULTIPART, who="user"))
async def append(request: Request) -> Response:
    """`POST /api/append/{path}`: append the rows of an array; the answer is the new shape."""
    state, caller, path = await _writer(request)
    with await in_thread(state, state.writes.begin, caller, path, condition_of(request)) as sent:
        await _receive(state, request, sent)
        told, shape = await in_thread(state, sent.append)
    tell(state, told)
    return json_response(list(shape), headers={"ETag": quoted(told.etag)})


@described(Operation({200: Answer("bytes that are used, and that may be", QuotaFigures)}, (401, 403), who="user"))
async def quota(request: Request) -> Response:
    """`GET /api/quota`: how much the user, and all together, have written of what they may."""
    state = state_of(request)
    caller = await state.callers.caller(request)
    state.permissions.check(caller, "write", DatasetPath.parse("@public"))
    return json_response(state.writes.figures(caller), headers={"Cache-Control": "no-store"})


@described(Operation({200: Answer("the path", str)}, WRITING, who="user"))
async def remove(request: Request) -> Response:
    """`POST /api/remove/{path}`: remove a dataset, or a folder with all that is in it; the answer is its path."""
    state, caller, path = await _writer(request)
    await _check_folder(state, caller, path)
    told = await in_thread(state, state.writes.remove, caller, path, condition_of(request))
    tell(state, told)
    return json_response(str(path))


@described(Operation({200: Answer("the path of what was made", str)}, WRITING, body=Transfer, who="user"))
async def move(request: Request) -> Response:
    """`POST /api/move/`: give a dataset or a folder another name; the answer is the new one."""
    state, caller, source, target, into = await _transfer(request, "moving")
    with _refused_as(f"Only moving from {_OWN} is allowed"):
        state.permissions.check(caller, "write", source)
    await _check_folder(state, caller, source)
    path, told = await in_thread(state, state.writes.move, caller, source, target, into=into)
    tell(state, *told)
    return json_response(str(path))


@described(Operation({200: Answer("the path of what was made", str)}, WRITING, body=Transfer, who="user"))
async def copy(request: Request) -> Response:
    """`POST /api/copy/`: copy a dataset or a folder, of any root; the answer is the new name."""
    state, caller, source, target, into = await _transfer(request, "copying")
    state.permissions.check_root(caller, source.root)
    if source.root.own:
        state.permissions.check(caller, "read", source)
        if source.root not in state.own.names(caller):
            raise BadRequestError(_NO_ROOT)
        await _check_folder(state, caller, source)
        path, told = await in_thread(state, state.writes.copy, caller, source, target, into=into)
        tell(state, *told)
        return json_response(str(path))
    try:
        await state.follower.subscribe(source.root)
    except NotFoundError:
        raise BadRequestError(_NO_ROOT) from None
    path = await in_thread(state, state.writes.target, caller, source, target, into=into)
    await _copy_published(state, caller, source, path)
    return json_response(str(path))


async def _copy_published(state: State, caller: Caller, source: DatasetPath, target: DatasetPath) -> None:
    """Copy a dataset of a publisher, or those below a directory, one after the other."""
    if not source.name or state.catalog.lookup(source) is None:
        found = await asyncio.to_thread(state.catalog.names, source)
        names = state.permissions.readable(caller, source.root, found, source.name)
        if not names:
            state.permissions.check(caller, "read", source)
        pairs = [(f"{source}/{name}", f"{target}/{name}") for name in names]
    else:
        state.permissions.check(caller, "read", source)
        pairs = [(str(source), str(target))]
    for one, other in pairs:
        await _copy_one(state, caller, DatasetPath.parse(one), DatasetPath.parse(other))


async def _copy_one(state: State, caller: Caller, source: DatasetPath, target: DatasetPath) -> None:
    free = state.writes.free(caller, target)
    with await in_thread(state, state.writes.begin, caller, target, free, FrameSpool) as made:
        async for piece in _frame(state, caller, source):
            await in_thread(state, made.write, piece)
        told = await in_thread(state, made.finish)
    tell(state, told)


async def _frame(state: State, caller: Caller, source: DatasetPath) -> AsyncIterator[bytes]:
    """A dataset as one frame; what is not here of it is fetched."""
    read, answer = await state.reader.fetch(source, Query(), caller)
    if isinstance(answer, bytes):
        yield answer
        return
    pieces = state.reader.stream(read, 0, read.frame.layout.length)
    if answer is not None:
        pieces = pieces_in_thread(read, answer.pieces)
    async for piece in pieces:
        yield piece


async def _check_folder(state: State, caller: Caller, path: DatasetPath) -> None:
    """Refuse to move, copy or remove a folder of which the caller may not read everything."""
    if path.root.own and not state.permissions.rules.whole(caller, path.root):
        with suppress(NotFoundError):
            names = await asyncio.to_thread(state.own.list, caller, path)
            if names != [path.basename]:
                state.permissions.check_all(caller, path, names)


async def _writer(request: Request) -> tuple[State, Caller, DatasetPath]:
    """Who writes what; only who may gets further than here."""
    state, path = state_of(request), DatasetPath.parse(request.path_params["path"])
    caller = await state.callers.caller(request)
    state.permissions.check(caller, "write", path)
    return state, caller, path


async def any_writer(request: Request) -> tuple[State, Caller]:
    """Who writes, where the body says to what: who may not write at all is told nothing of its form."""
    state = state_of(request)
    caller = await state.callers.caller(request)
    state.permissions.check(caller, "write", DatasetPath.parse("@public"))
    return state, caller


async def _transfer(request: Request, what: str) -> tuple[State, Caller, DatasetPath, DatasetPath, bool]:
    """Who moves or copies what to where, and whether that is a folder; only who may gets further than here."""
    state, caller = await any_writer(request)
    body = await read_json(request, Transfer)
    target = DatasetPath.parse(body.dst)
    with _refused_as(f"Only {what} to {_OWN} is allowed"):
        state.permissions.check(caller, "write", target)
    return state, caller, DatasetPath.parse(body.src), target, body.dst.endswith("/")


@contextmanager
def _refused_as(detail: str) -> Iterator[None]:
    """Say in upstream's words that a root cannot be written to."""
    try:
        yield
    except BadRequestError:
        raise BadRequestError(detail) from None


async def _receive(state: State, request: Request, sent: Upload | Archive) -> None:
    async for piece in sent_file(request):
        await in_thread(state, sent.write, piece)


def condition_of(request: Request) -> Condition:
    """What `If-Match` and `If-None-Match` say (RFC 9110, 13.1)."""
    match, none_match = (",".join(request.headers.getlist(name)) or None for name in ("if-match", "if-none-match"))

    def holds(etag: str | None) -> bool:
        if match is not None and (etag is None or not etag_matches(match, etag, weak=False)):
            return False
        return etag is None or not etag_matches(none_match, etag)

    return holds


def tell(state: State, *told: Told) -> None:
    """Let those who follow along know of writes."""
    for one in told:
        if one.changes.changes:
            state.events.add(one.changes, one.owner)


async def in_thread(state: State, work: Callable[..., _Result], *args: object, **options: object) -> _Result:
    """Do something in a thread of those for writes, and wait for its end even when the request is given up."""
    return await to_thread.run_sync(partial(work, *args, **options), limiter=state.writers)


ROUTES = (
    dataset_route("/api/upload", upload, ["POST"]),
    Route("/api/quota", quota),
    dataset_route("/api/folder", make_folder, ["POST"]),
    dataset_route("/api/append", append, ["POST"]),
    dataset_route("/api/remove", remove, ["POST"]),
    Route("/api/move/", move, methods=["POST"]),
    Route("/api/copy/", copy, methods=["POST"]),
)
