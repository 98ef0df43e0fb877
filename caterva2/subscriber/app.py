"""The subscriber as an app: building opens nothing, the lifespan opens everything."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import blosc2
from starlette.applications import Starlette

from bus.client import BusClient
from bus.interface import Bus
from bus.messages import ServiceStatus
from bus.topics import Topics
from caterva2.address import Address
from caterva2.daemon.arguments import package_version
from caterva2.daemon.bus import bus_client, client_tls
from caterva2.daemon.http import error_handlers
from caterva2.daemon.locator import bus_urls
from caterva2.daemon.statedir import StateDir
from caterva2.daemon.supervisor import Supervisor
from caterva2.errors import SettingsError
from caterva2.settings import SubscriberSettings
from caterva2.subscriber.access import AccessRules
from caterva2.subscriber.accounts import Accounts
from caterva2.subscriber.attempts import Attempts
from caterva2.subscriber.catalog import Catalog
from caterva2.subscriber.events import EventLog
from caterva2.subscriber.expressions import Evaluator, Limits
from caterva2.subscriber.figures import Figures
from caterva2.subscriber.follower import Follower
from caterva2.subscriber.grants import Grants
from caterva2.subscriber.lazyarrays import LazyArrays
from caterva2.subscriber.mail import Mailer
from caterva2.subscriber.mirrors import MirrorStore
from caterva2.subscriber.origin import Origin
from caterva2.subscriber.passwords import Passwords
from caterva2.subscriber.permissions import Permissions
from caterva2.subscriber.places import Places
from caterva2.subscriber.quotas import Quotas
from caterva2.subscriber.reader import Reader
from caterva2.subscriber.routes import routes
from caterva2.subscriber.routes.identity import Callers
from caterva2.subscriber.routes.state import State
from caterva2.subscriber.sessions import Sessions
from caterva2.subscriber.site import Site
from caterva2.subscriber.store import CatalogStore
from caterva2.subscriber.userroots import UserRoots
from caterva2.subscriber.users import FILE, UserStore
from caterva2.subscriber.userwrites import UserWrites

logger = logging.getLogger(__name__)
JoinBus = Callable[[SubscriberSettings, Topics], AbstractAsyncContextManager[Bus]]


_TIDY = 20.0  # seconds
# Characters of a secret that nobody guesses.
_GOOD_SECRET = 16


def create_app(settings: SubscriberSettings, address: Address, *, join_bus: JoinBus | None = None) -> Starlette:
    """Make the subscriber's app.

    Args:
        settings: its settings.
        address: where it listens for HTTP, with the real port.
        join_bus: makes its end of the bus.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, State]]:
        # So that decompressing in a thread leaves the event loop running; one thread each beats two that share.
        blosc2.set_releasegil(True)
        # A file that is missing is the only thing to be said then.
        tls = client_tls(settings.bus)
        rules, mailer = _rules(settings), Mailer.of(settings)
        async with AsyncExitStack() as stack:
            directory = stack.enter_context(StateDir(settings.statedir)).path
            store = stack.enter_context(CatalogStore(directory / "catalog.sqlite"))
            accounts = stack.enter_context(_accounts(settings, directory))
            mirrors = MirrorStore(directory / "cache", cache_size=settings.cache_size)
            stack.callback(mirrors.close)
            catalog = Catalog()
            for root, datasets in await asyncio.to_thread(lambda: list(store.load())):
                catalog.restore(root, datasets)
            stack.callback(_remember, catalog, store)
            origin = await stack.enter_async_context(Origin.open(Grants(settings.tokens), tls))
            tasks = await stack.enter_async_context(Supervisor.of(app))
            topics = Topics(settings.bus.prefix)
            events = EventLog()
            # Streams would hold up the end of the server otherwise.
            getattr(app.state, "on_stop", []).append(events.close)
            figures = Figures()
            follower = Follower(catalog, store, mirrors, origin, tasks, topics, events, figures)
            own, writes = await _own_roots(settings, Places(directory), tasks)
            reader = Reader(catalog, mirrors, origin, own, follower.carry_out, tasks, settings.max_staleness, figures)
            if join_bus or settings.broker or settings.bus.url:
                status = _status(settings, address)
                joined = join_bus(settings, topics) if join_bus else _bus_client(settings, status)
                bus = await stack.enter_async_context(joined)
                follower.join(bus, status)
                stack.push_async_callback(follower.leave)
                tasks.start(follower.follow(), "follow the bus")
            tasks.start(_tidy(mirrors), "tidy the cache")
            callers, permissions = Callers(accounts, settings.urlbase), Permissions(accounts is not None, rules)
            asked = (callers, permissions, accounts, mailer, await asyncio.to_thread(Site.load))
            evaluator = Evaluator(reader, _limits(settings))
            lazy = LazyArrays(evaluator, own, permissions, follower.subscribe)
            core = (settings, catalog, reader, evaluator, lazy, follower)
            yield {"subscriber": State(*core, own, writes, events, origin, mirrors, figures, *asked)}

    found = routes(with_users=settings.with_users)
    return Starlette(routes=found, lifespan=lifespan, exception_handlers=error_handlers())


@contextmanager
def _accounts(settings: SubscriberSettings, directory: Path) -> Iterator[Accounts | None]:
    """The users, if there are any; says what that means for who comes."""
    if not settings.with_users:
        why = "login is off" if settings.secret else "CATERVA2_SECRET is not set"
        logger.info("%s: there are no users, so this subscriber is read-only, and all who read are anonymous", why)
        yield None
        return
    if len(settings.secret) < _GOOD_SECRET:
        logger.warning("the secret is short, so it could be guessed: make one with `openssl rand -hex 24`")
    with UserStore(directory / FILE) as store, Passwords() as passwords:
        if not store.count():
            logger.info("there are no users yet: add the first one with: cat2sub adduser --superuser EMAIL")
            if not settings.register:
                logger.info(
                    "nobody can register in the web client: set register = true in [subscriber] to let all do so"
                )
        yield Accounts(store, Sessions(settings.secret, store), passwords, Attempts(), settings.maxusers)


async def _own_roots(settings: SubscriberSettings, places: Places, tasks: Supervisor) -> tuple[UserRoots, UserWrites]:
    """The own roots; what is there is counted meanwhile, if anybody needs to know."""
    writes = UserWrites(places, Quotas(settings.quota, settings.user_quota))
    await asyncio.to_thread(writes.clear)
    tasks.start(asyncio.to_thread(writes.count), "count the own roots")
    return UserRoots(places), writes


def _rules(settings: SubscriberSettings) -> AccessRules:
    rules = AccessRules.parse(settings.access, settings.groups)
    if rules.needs_users and not settings.with_users:
        raise SettingsError("subscriber.access lets only users read: set CATERVA2_SECRET, or there are none")
    return rules


def _limits(settings: SubscriberSettings) -> Limits:
    size = settings.expression_size
    return Limits(size if size is not None else sys.maxsize, settings.expression_seconds)


def _remember(catalog: Catalog, store: CatalogStore) -> None:
    """Save until when what is known was current, so that a later run can say how old it is."""
    catalog.disconnected(time.monotonic())
    for root in catalog.roots():
        store.save_root(root)


def _bus_client(settings: SubscriberSettings, status: ServiceStatus) -> BusClient:
    return bus_client(
        settings.bus,
        bus_urls(settings.broker, settings.bus),
        client_id=f"cat2sub-{settings.id}" if settings.id else "cat2sub",
        will=lambda birth: status.model_copy(update={"status": "offline", "birth": birth}),
    )


async def _tidy(mirrors: MirrorStore) -> None:
    while True:
        await asyncio.sleep(_TIDY)
        await asyncio.to_thread(mirrors.tidy)


def _status(settings: SubscriberSettings, address: Address) -> ServiceStatus:
    # Without an id of its own, it is told from those of other machines and ports.
    place = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{socket.gethostname()}-{address.port}").lstrip(".")
    return ServiceStatus(
        kind="subscriber",
        id=settings.id or place,
        status="online",
        http=settings.urlbase or ("" if address.socket else address.url),
        instance=secrets.token_hex(8),
        birth=0,
        time=time.time(),
        version=package_version(),
        user=settings.bus.username,
    )
