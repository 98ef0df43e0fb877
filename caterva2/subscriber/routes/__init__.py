"""The subscriber's REST API, by subject; `docs/reference/protocols.md` has the contract."""

from __future__ import annotations

from starlette.routing import BaseRoute

from caterva2.subscriber.routes import datasets, events, roots, verify


def routes() -> list[BaseRoute]:
    """All routes of the subscriber."""
    # The first that fits is taken: what is asked for most comes first.
    return [*datasets.ROUTES, *roots.ROUTES, *events.ROUTES, *verify.ROUTES]
