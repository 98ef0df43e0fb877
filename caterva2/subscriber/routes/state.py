"""What the lifespan hands to the routes."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from caterva2.settings import SubscriberSettings
from caterva2.subscriber.catalog import Catalog
from caterva2.subscriber.events import EventLog
from caterva2.subscriber.expressions import Evaluator
from caterva2.subscriber.follower import Follower
from caterva2.subscriber.mirrors import MirrorStore
from caterva2.subscriber.origin import Origin
from caterva2.subscriber.reader import Reader
from caterva2.subscriber.userroots import UserRoots


@dataclass(frozen=True, slots=True)
class State:
    """The parts of a running subscriber.

    Attributes:
        settings: its settings.
        catalog: what is known of the roots.
        reader: answers reads.
        expressions: computes with what it reads.
        follower: keeps the catalog in step.
        own: its own roots.
        events: what clients that follow along are told.
        origin: the way to the publishers.
        mirrors: what is on disk of remote datasets.
    """

    settings: SubscriberSettings
    catalog: Catalog
    reader: Reader
    expressions: Evaluator
    follower: Follower
    own: UserRoots
    events: EventLog
    origin: Origin
    mirrors: MirrorStore


def state_of(request: Request) -> State:
    """The parts of the subscriber that a request came to."""
    # What `request.state` gives, without making an object for it at each request.
    state: State = request.scope["state"]["subscriber"]
    return state
