"""Roots: which there are, following them, and their lists of datasets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final, Literal

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from caterva2.daemon.arguments import package_version
from caterva2.daemon.described import Answer, Operation, Parameter, described
from caterva2.daemon.http import dataset_route, health_route, json_response, ready_route
from caterva2.errors import AuthenticationError, NotFoundError, UnavailableError
from caterva2.models import FollowedRoot, Freshness, Health, ListedDataset
from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.catalog import Root
from caterva2.subscriber.routes.state import State, flag_of, state_of

# Datasets that are told of in one piece.
_LINES: Final = 1000


@described(Operation({200: Answer("the roots by name", dict[str, FollowedRoot])}, (401,)))
async def get_roots(request: Request) -> Response:
    """`GET /api/roots`: the roots that publishers announced, and the subscriber's own."""
    state = state_of(request)
    caller = await state.callers.caller(request)
    infos = [followed(state, root, time.monotonic()) for root in state.catalog.roots()]
    infos += [FollowedRoot(name=name, http="", subscribed=True, freshness="live") for name in state.own.names(caller)]
    seen = (info for info in infos if state.permissions.shows(caller, RootName(info.name)))
    return json_response({info.name: info for info in seen}, headers={"Cache-Control": "no-cache"})


def followed(state: State, root: Root, now: float) -> FollowedRoot:
    """What clients are told of a published root."""
    bus = state.follower.bus_state == "connected"
    there = root.there(now, state.origin.outcome(root.http), bus=bus)
    freshness: Freshness = "live" if root.live(now) else "revalidated" if there else "stale"
    return FollowedRoot(
        name=root.name,
        http=root.http.removeprefix("http://"),
        subscribed=root.subscribed or None,
        status="online" if there else "offline",
        freshness=freshness if root.subscribed else None,
        age=None if freshness == "live" else age_of(root, now),
    )


def age_of(root: Root, now: float) -> int | None:
    """Seconds since the datasets of a root were last known to be the current ones."""
    return None if root.current is None else max(0, round(now - root.current))


@described(Operation({200: Answer("it is followed", Literal["Ok"])}, (400, 401, 403, 404, 429, 502)))
async def subscribe(request: Request) -> Response:
    """`POST /api/subscribe/{root}`: follow a root; `"Ok"` once its datasets are known."""
    state, name = state_of(request), RootName.parse(request.path_params["root"])
    caller = await state.callers.caller(request)
    shown = state.permissions.shows(caller, name)
    if not shown and caller.known:
        state.permissions.check_root(caller, name)
    if not shown or (name.own and name not in state.own.names(caller)):
        raise AuthenticationError(f"Subscribing to {name} requires authentication")
    if not name.own:
        await state.follower.subscribe(name)
    return json_response("Ok")


@described(
    Operation(
        {200: Answer("the names below the path; with details an object for each", list[str] | list[ListedDataset])},
        (400, 401, 403, 404, 429, 502),
        {
            "details": Parameter("whether kind, size and time of each dataset are told, one a line", bool),
            "folders": Parameter("whether folders are listed too; not with details", bool),
        },
    )
)
async def get_list(request: Request) -> Response:
    """`GET /api/list/{path}?details=&folders=`: the datasets of a root or directory, or the name of a dataset."""
    state, path = state_of(request), DatasetPath.parse(request.path_params["path"])
    caller = await state.callers.caller(request)
    try:
        state.permissions.check_root(caller, path.root)
    except AuthenticationError as error:
        raise NotFoundError(error.detail) from None  # upstream's status, here alone
    headers: dict[str, str] = {}
    if path.root.own:
        found = await asyncio.to_thread(state.own.list, caller, path)
    else:
        headers = await _follow_and_refresh(state, path.root)
        found = await asyncio.to_thread(state.catalog.names, path)
    names = await asyncio.to_thread(_readable, state, caller, path, found)
    if flag_of(request, "details"):
        lines = _detailed(state, caller, path, names)
        return StreamingResponse(lines, headers=headers, media_type="application/json")
    if flag_of(request, "folders"):
        own = await asyncio.to_thread(state.own.folders, caller, path) if path.root.own else []
        names = sorted({*names, *_folders(names), *state.permissions.readable(caller, path.root, own, path.name)})
    return json_response(names, headers=headers)


def _detailed(state: State, caller: Caller, path: DatasetPath, names: list[str]) -> Iterator[bytes]:
    """A list with a dataset on each line, in pieces, so that it can be read while it comes."""
    entry_of = partial(state.own.entry, caller) if path.root.own else state.catalog.lookup
    folder = path.name.removesuffix(path.basename).rstrip("/") if entry_of(path) is not None else path.name
    above = f"{folder}/" if folder else ""
    separator = b"[\n"
    for start in range(0, len(names), _LINES):
        entries = [(name, entry_of(DatasetPath(path.root, above + name))) for name in names[start : start + _LINES]]
        # What has vanished meanwhile is left out.
        lines = [
            to_json(ListedDataset(path=name, kind=entry.kind, nbytes=entry.nbytes, mtime=entry.mtime))
            for name, entry in entries
            if entry is not None
        ]
        if lines:
            yield separator + b",\n".join(lines)
            separator = b",\n"
    yield b"\n]\n" if separator == b",\n" else b"[\n]\n"


def _folders(names: Iterable[str]) -> Iterator[str]:
    """The folders that hold datasets, each with a slash at its end."""
    for name in names:
        for i, letter in enumerate(name):
            if letter == "/":
                yield name[: i + 1]


def _readable(state: State, caller: Caller, path: DatasetPath, found: list[str]) -> list[str]:
    """What a caller may read of what there is below a path; a path of which nothing is left is refused."""
    if found == [path.basename] and state.permissions.allows(caller, "read", path):
        return found  # a dataset
    names = state.permissions.readable(caller, path.root, found, path.name)
    if found and not names:
        state.permissions.check(caller, "read", path)
    return names


async def _follow_and_refresh(state: State, name: RootName) -> dict[str, str]:
    """Make the list current if that can be had; say so in a header if not."""
    await state.follower.subscribe(name)
    if not state.catalog.root(name).live(time.monotonic()):
        try:
            await state.follower.refresh(name)
        except UnavailableError:
            age = age_of(state.catalog.root(name), time.monotonic())
            return {"Cache-Status": "caterva2; fwd=stale"} | ({"Age": str(age)} if age is not None else {})
        if not state.catalog.root(name).live(time.monotonic()):
            return {"Cache-Status": "caterva2; hit; detail=revalidated"}
    return {"Cache-Status": "caterva2; hit"}


def _health(request: Request) -> Health:
    state = state_of(request)
    trouble = state.follower.trouble
    return Health(
        kind="subscriber",
        id=state.settings.id,
        version=package_version(),
        bus=state.follower.bus_state,
        ready=not trouble,
        detail=trouble or None,
    )


ROUTES = (
    Route("/api/roots", get_roots),
    Route("/api/subscribe/{root}", subscribe, methods=["POST"]),
    dataset_route("/api/list", get_list),
    health_route(_health),
    ready_route(_health),
)
