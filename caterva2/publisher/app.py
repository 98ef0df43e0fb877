"""The publisher as an app: building opens nothing, the lifespan opens everything."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import blosc2
from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware

from bus.client import BusClient
from bus.interface import Bus
from bus.messages import RootAnnouncement
from bus.topics import Topics
from caterva2.address import Address
from caterva2.daemon.arguments import package_version
from caterva2.daemon.bus import bus_client, client_tls
from caterva2.daemon.http import error_handlers
from caterva2.daemon.locator import bus_urls
from caterva2.daemon.statedir import StateDir
from caterva2.daemon.supervisor import Supervisor
from caterva2.models import ChangeEntry
from caterva2.publisher.announcer import Announcer, Identity, NameTakenError, is_alive
from caterva2.publisher.changes import Journal
from caterva2.publisher.directory import Directory
from caterva2.publisher.guard import Guard, Guarded, Policy
from caterva2.publisher.keys import BrokerKeys
from caterva2.publisher.metrics import Metered, Metrics
from caterva2.publisher.reader import Reader
from caterva2.publisher.routes import Publisher, State, routes
from caterva2.publisher.watcher import Watcher, open_inotify
from caterva2.settings import PublisherSettings

logger = logging.getLogger(__name__)

JOURNAL: Final = "journal.sqlite"
_FIRST_ANNOUNCEMENT: Final = 2.0
"""Seconds that the start waits for the bus, which tells whether the name is taken."""

Will = Callable[[int], RootAnnouncement]
JoinBus = Callable[[PublisherSettings, Will, int], AbstractAsyncContextManager[Bus]]


def create_app(settings: PublisherSettings, address: Address, *, join_bus: JoinBus | None = None) -> Starlette:
    """Make a publisher's app.

    Args:
        settings: its settings.
        address: where it listens for HTTP, with the real port.
        join_bus: makes its end of the bus, from the settings, its last will and its number of births.
    """
    metrics = Metrics()
    policy = Policy.of(settings, address)
    door = _Door()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        # Otherwise a thread that compresses would hold up all others.
        blosc2.set_releasegil(True)
        identity = _identity(settings, address)
        tls = client_tls(settings.bus)
        async with AsyncExitStack() as stack:
            state = stack.enter_context(StateDir(settings.statedir))
            keys = None if policy.open else door.close(settings, state, tls)
            _say_who_may_read(settings, policy)
            journal = await to_thread.run_sync(Journal, state.path / JOURNAL)
            stack.callback(journal.close)
            announcer = Announcer(identity, journal, partial(is_alive, bus=settings.bus))

            def tell(changes: list[ChangeEntry]) -> None:
                metrics.changes += len(changes)
                announcer.tell(changes)

            directory = Directory(settings.root, exclude=[settings.statedir])
            inotify = open_inotify()
            if inotify is not None:
                stack.enter_context(inotify)
            watcher = Watcher(directory, journal, tell, settle=settings.settle, rescan=settings.rescan, inotify=inotify)
            await watcher.catch_up()
            bus = await _join(stack, settings, announcer, journal, join_bus)
            tasks = await stack.enter_async_context(Supervisor.of(app))
            if keys is not None:
                tasks.start(keys.follow(), "follow the broker's keys")
            tasks.start(watcher.run(), "watch the root")
            if bus is not None:
                await _announce(app, tasks, announcer, bus, Topics(settings.bus.prefix))
            reader = Reader(directory, settle=settings.settle, on_version=_noticer(journal, watcher))
            yield {"publisher": Publisher(identity, journal, reader, metrics, bus, announcer)}

    return Starlette(
        routes=routes(),
        lifespan=lifespan,
        exception_handlers=error_handlers(),
        middleware=[Middleware(Metered, metrics), Middleware(Guarded, lambda: door.guard)],
    )


class _Door:
    """The guard, which the middleware needs before the lifespan has made it."""

    def __init__(self) -> None:
        self.guard: Guard | None = None

    def close(self, settings: PublisherSettings, state: StateDir, tls: ssl.SSLContext) -> BrokerKeys | None:
        """Let in only who shows a token; return the keys that it is checked with."""
        keys = BrokerKeys(settings.broker, state, tls) if settings.broker else None
        self.guard = Guard(settings.name, settings.token, keys)
        if keys is not None:
            keys.on_change = self.guard.forget
        return keys


def _say_who_may_read(settings: PublisherSettings, policy: Policy) -> None:
    if policy.open:
        remedy = '; [publisher] access = "token" would let in only who shows a token' if policy.exposed else ""
        level = logging.WARNING if policy.exposed else logging.INFO
        logger.log(level, "root %s is open to all: %s%s", settings.name, policy.reason, remedy)
        return
    kinds = [*(["the broker's"] if settings.broker else []), *(["its own"] if settings.token else [])]
    logger.info("root %s wants a token (%s): %s", settings.name, " or ".join(kinds), policy.reason)


def _identity(settings: PublisherSettings, address: Address) -> Identity:
    return Identity(
        name=settings.name,
        id=settings.id or settings.name,
        http=settings.urlbase or address.url,
        heartbeat=settings.heartbeat,
        kind="directory",
        version=package_version(),
        user=settings.bus.username,
    )


async def _join(
    stack: AsyncExitStack,
    settings: PublisherSettings,
    announcer: Announcer,
    journal: Journal,
    join_bus: JoinBus | None,
) -> Bus | None:
    if not (join_bus or settings.broker or settings.bus.url):
        return None
    birth = await to_thread.run_sync(journal.begin_births)
    bus = await stack.enter_async_context((join_bus or _bus_client)(settings, announcer.will, birth))
    # Said after the announcer's task has ended, which would contradict it.
    stack.push_async_callback(announcer.say_goodbye, bus)
    return bus


def _bus_client(settings: PublisherSettings, will: Will, birth: int) -> BusClient:
    urls = bus_urls(settings.broker, settings.bus)
    return bus_client(settings.bus, urls, client_id=f"cat2pub-{settings.name}", will=will, birth=birth)


async def _announce(app: Starlette, tasks: Supervisor, announcer: Announcer, bus: Bus, topics: Topics) -> None:
    """Start announcing; wait for the first announcement, since the name may be taken."""
    refused: asyncio.Future[NameTakenError] = asyncio.get_running_loop().create_future()

    async def announce() -> None:
        try:
            await announcer.run(bus, topics)
        except NameTakenError as error:
            if not refused.done():
                refused.set_result(error)
            elif (on_crash := getattr(app.state, "on_crash", None)) is not None:
                on_crash(error)

    tasks.start(announce(), "announce the root")
    first = asyncio.create_task(announcer.announced.wait(), name="wait for the first announcement")
    waiting: set[asyncio.Future[Any]] = {refused, first}
    await asyncio.wait(waiting, timeout=_FIRST_ANNOUNCEMENT, return_when=asyncio.FIRST_COMPLETED)
    first.cancel()
    if refused.done():
        raise refused.result()
    refused.cancel()


def _noticer(journal: Journal, watcher: Watcher) -> Callable[[str, str | None], None]:
    """Make what has the watcher look when a reader, in a thread, met another version than the journal's."""
    loop = asyncio.get_running_loop()

    def on_version(path: str, etag: str | None) -> None:
        if journal.etag(path) != etag:
            loop.call_soon_threadsafe(watcher.notice, path)

    return on_version
