"""How the subscriber is, for those who operate it."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.arguments import package_version
from caterva2.daemon.described import Answer, Operation, described
from caterva2.daemon.http import is_local, json_response
from caterva2.models import CacheStatus, EventStatus, LagStatus, RootStatus, StatusReport
from caterva2.subscriber.catalog import Root
from caterva2.subscriber.routes.roots import followed
from caterva2.subscriber.routes.state import State, state_of


@described(Operation({200: Answer("how it is", StatusReport)}, (401, 403), who="superuser"))
async def get_status(request: Request) -> Response:
    """`GET /api/status`: the roots and their publishers, what is told of them, and the cache."""
    state = state_of(request)
    state.permissions.check_operator(await state.callers.caller(request), local=is_local(request))
    now = time.monotonic()
    report = StatusReport(
        id=state.settings.id,
        version=package_version(),
        started=state.figures.started,
        bus=state.follower.bus_state,
        trouble=state.follower.trouble or None,
        roots=tuple(_root(state, root, now) for root in state.catalog.roots()),
        events=_events(state),
        cache=await _cache(state),
    )
    return json_response(report, headers={"Cache-Control": "no-store"})


def _root(state: State, root: Root, now: float) -> RootStatus:
    return RootStatus(
        **dict(followed(state, root, now)),
        datasets=len(state.catalog.datasets(root.name)),
        heard=None if root.heard is None else round(max(0.0, now - root.heard), 1),
        changes=state.figures.changes[root.name],
    )


def _events(state: State) -> EventStatus:
    lag = state.figures.lag
    return EventStatus(
        changes=state.figures.changes.total(),
        rate=round(state.figures.rate, 3),
        lag=None if lag is None else LagStatus(latest=lag[0], median=lag[1], longest=lag[2]),
        listeners=state.events.listeners,
    )


async def _cache(state: State) -> CacheStatus:
    figures, evicted = state.figures, state.mirrors.evicted
    return CacheStatus(
        limit=state.settings.cache_size,
        nbytes=await asyncio.to_thread(state.mirrors.usage),
        writable=state.mirrors.writable,
        wanted=figures.wanted,
        found=figures.found,
        hit_ratio=figures.found / figures.wanted if figures.wanted else None,
        evictions=evicted.times,
        evicted=evicted.nbytes,
    )


ROUTES = (Route("/api/status", get_status),)
