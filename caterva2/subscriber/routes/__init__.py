"""The subscriber's REST API, by subject; `docs/reference/protocols.md` has the contract."""

from __future__ import annotations

from starlette.routing import BaseRoute

from caterva2.subscriber.routes import (
    datasets,
    docs,
    events,
    joins,
    lazyarrays,
    login,
    pages,
    roots,
    status,
    tokens,
    users,
    verify,
    writing,
)


def routes(*, with_users: bool) -> list[BaseRoute]:
    """All routes of the subscriber.

    Args:
        with_users: whether there are users, and so the routes for them.
    """
    # The first that fits is taken: what is asked for most comes first.
    for_users = [login, users, tokens] if with_users else []
    parts = [datasets, roots, events, verify, writing, lazyarrays, joins, status, *for_users, docs, pages]
    return [route for part in parts for route in part.ROUTES]
