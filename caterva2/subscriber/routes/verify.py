"""Verifying the cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from caterva2.daemon.described import Answer, Operation, described
from caterva2.daemon.http import dataset_route
from caterva2.models import VerifyAnswer
from caterva2.paths import DatasetPath
from caterva2.subscriber.routes.outcomes import READING
from caterva2.subscriber.routes.state import state_of
from caterva2.subscriber.scrub import Scrubber

# Seconds after which a client hears something, so that it does not give up.
_SIGN_OF_LIFE = 5.0


@described(Operation({200: Answer("the counts; spaces may come before them", VerifyAnswer)}, READING))
async def verify(request: Request) -> Response:
    """`POST /api/verify/{path}`: check every chunk on disk; spaces while that takes, then the counts."""
    state, path = state_of(request), DatasetPath.parse(request.path_params["path"])
    caller = await state.callers.caller(request)
    state.permissions.check(caller, "read", path)
    lets = partial(state.permissions.allows, caller, "read")
    scrubber = Scrubber(state.catalog, state.mirrors, state.reader, lets)
    await asyncio.to_thread(scrubber.paths, path)
    return StreamingResponse(_answer(scrubber, path), media_type="application/json")


async def _answer(scrubber: Scrubber, path: DatasetPath) -> AsyncIterator[bytes]:
    answer = VerifyAnswer(checked=0, wrong=0, refetched=0)
    loop = asyncio.get_running_loop()
    said = loop.time()
    async for found in scrubber.verify(path):
        answer = found
        if loop.time() > said + _SIGN_OF_LIFE:
            said = loop.time()
            yield b" "
    yield answer.model_dump_json().encode()


ROUTES = (dataset_route("/api/verify", verify, ["POST"]),)
