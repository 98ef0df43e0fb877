"""What the lifespan hands to the routes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from anyio import CapacityLimiter
from starlette.requests import Request

from caterva2.errors import BadRequestError
from caterva2.settings import SubscriberSettings
from caterva2.subscriber.accounts import Accounts
from caterva2.subscriber.catalog import Catalog
from caterva2.subscriber.events import EventLog
from caterva2.subscriber.expressions import Evaluator
from caterva2.subscriber.figures import Figures
from caterva2.subscriber.follower import Follower
from caterva2.subscriber.lazyarrays import LazyArrays
from caterva2.subscriber.mail import Mailer
from caterva2.subscriber.mirrors import MirrorStore
from caterva2.subscriber.origin import Origin
from caterva2.subscriber.permissions import Permissions
from caterva2.subscriber.reader import Reader
from caterva2.subscriber.routes.identity import Callers
from caterva2.subscriber.site import Site
from caterva2.subscriber.userroots import UserRoots
from caterva2.subscriber.userwrites import UserWrites

# Most of the time they wait for the disk.
_MOST_WRITERS: Final = 16


@dataclass(frozen=True, slots=True)
class State:
    """The parts of a running subscriber.

    Attributes:
        settings: its settings.
        catalog: what is known of the roots.
        reader: answers reads.
        expressions: computes with what it reads.
        lazy: the datasets that are expressions.
        follower: keeps the catalog in step.
        own: its own roots, for reading.
        writes: the same, for writing.
        events: what clients that follow along are told.
        origin: the way to the publishers.
        mirrors: what is on disk of remote datasets.
        figures: what is counted.
        callers: recognizes who asks.
        permissions: decides who may do what.
        accounts: the users; None if there are none.
        mailer: sends them mail; None if nothing is sent.
        site: the web client.
        writers: counts the threads that write; some wait for each other, which reads must not wait for.
        mailing: counts the threads that send mail.
    """

    settings: SubscriberSettings
    catalog: Catalog
    reader: Reader
    expressions: Evaluator
    lazy: LazyArrays
    follower: Follower
    own: UserRoots
    writes: UserWrites
    events: EventLog
    origin: Origin
    mirrors: MirrorStore
    figures: Figures
    callers: Callers
    permissions: Permissions
    accounts: Accounts | None
    mailer: Mailer | None
    site: Site
    writers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_MOST_WRITERS))
    mailing: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))

    @property
    def users(self) -> Accounts:
        """The users, in the routes that are only there with them."""
        assert self.accounts is not None
        return self.accounts


def state_of(request: Request) -> State:
    """The parts of the subscriber that a request came to."""
    # What `request.state` gives, without making an object for it at each request.
    state: State = request.scope["state"]["subscriber"]
    return state


def flag_of(request: Request, name: str) -> bool:
    """A parameter of the query that is true or false; false if it is not there.

    Raises:
        BadRequestError: if it is something else.
    """
    text = request.query_params.get(name, "false").lower()
    if text not in {"true", "false", "1", "0"}:
        raise BadRequestError(f"{name}={text[:80]!r}: write true or false")
    return text in {"true", "1"}
