"""Events: `GET /api/events`, a stream for clients that follow along."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Send

from caterva2.daemon.described import Answer, Operation, Parameter, described
from caterva2.errors import AuthenticationError, BadRequestError, Caterva2Error, UnavailableError
from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.events import Event, Wanted, stream
from caterva2.subscriber.permissions import Permissions
from caterva2.subscriber.routes.state import State, state_of

logger = logging.getLogger(__name__)

# Seconds that a client may take to read what fills the buffers on the way to it.
_PATIENCE = 30.0
_HEADERS = {
    "Cache-Control": "no-store",
    # For nginx: hand on each piece as it comes.
    "X-Accel-Buffering": "no",
}


class EventResponse(StreamingResponse):
    """Server-sent events; a client that does not read them is cut off."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        """Send the events as they come."""

        async def patient(message: Message) -> None:
            async with asyncio.timeout(_PATIENCE):
                await send(message)

        try:
            await super().stream_response(patient)
        except TimeoutError:
            # The server closes the connection when it sees that the answer is not complete.
            logger.info("a client of /api/events does not read: it is cut off")


@described(
    Operation(
        {200: Answer("events `change`, `root` and `reset`, without an end", media=("text/event-stream",))},
        (400, 401, 403, 404, 429, 502),
        {
            "root": Parameter("only the events of this root; all, if left out"),
            "path": Parameter("only the events of this dataset or directory of the root"),
        },
    )
)
async def events(request: Request) -> Response:
    """`GET /api/events?root=&path=`: changes from now on, or from `Last-Event-ID` on; follows the root."""
    state = state_of(request)
    caller = await state.callers.caller(request)
    wanted = _wanted(request, caller)
    if state.permissions.rules.by_root:
        wanted = replace(wanted, sees=partial(_sees, state.permissions, caller))
    if wanted.root:
        name = RootName.parse(wanted.root)
        state.permissions.check_root(caller, name)
        await _follow(state, name, caller)
    if state.events.closed:
        raise UnavailableError("the subscriber is about to stop")
    last_id = request.headers.get("last-event-id")
    still = partial(_still, state, request, caller)
    return EventResponse(stream(state.events, wanted, last_id, still), headers=_HEADERS)


async def _still(state: State, request: Request, caller: Caller) -> bool:
    """Whether the login that a request came with still holds."""
    try:
        return await state.callers.caller(request) == caller
    except Caterva2Error:
        return False


def _sees(permissions: Permissions, caller: Caller, event: Event) -> bool:
    root = RootName(event.root)
    if event.change is None:
        return permissions.shows(caller, root)
    return permissions.allows(caller, "read", DatasetPath(root, event.change.entry.path))


def _wanted(request: Request, caller: Caller) -> Wanted:
    root, path = request.query_params.get("root", ""), request.query_params.get("path", "")
    if not path:
        return Wanted(root, caller=caller)
    if not root:
        raise BadRequestError("path= is below a root: give root= too")
    return Wanted(root, DatasetPath.parse(f"{root}/{path}").name, caller)


async def _follow(state: State, name: RootName, caller: Caller) -> None:
    if not name.own:
        await state.follower.subscribe(name)
    elif name not in state.own.names(caller):
        raise AuthenticationError(f"{name} requires authentication")


ROUTES = (Route("/api/events", events),)
