"""Events: `GET /api/events`, a stream for clients that follow along."""

from __future__ import annotations

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Send

from caterva2.errors import AuthenticationError, BadRequestError, UnavailableError
from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.events import Wanted, stream
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


async def events(request: Request) -> Response:
    """`GET /api/events?root=&path=`: changes from now on, or from `Last-Event-ID` on; follows the root."""
    state = state_of(request)
    caller = await state.callers.caller(request)
    wanted = _wanted(request, caller)
    if wanted.root:
        name = RootName.parse(wanted.root)
        state.permissions.check(caller, "read", DatasetPath(name, ""))
        await _follow(state, name, caller)
    if state.events.closed:
        raise UnavailableError("the subscriber is about to stop")
    last_id = request.headers.get("last-event-id")
    return EventResponse(stream(state.events, wanted, last_id), headers=_HEADERS)


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
