"""The broker as an app: building opens nothing, the lifespan opens everything."""

from __future__ import annotations

import logging
import re
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette

from bus.client import BusClient
from bus.logins import Logins
from bus.messages import ServiceStatus
from bus.topics import Topics
from caterva2.address import Address
from caterva2.broker.access import BrokerAccess
from caterva2.broker.admin import Admins
from caterva2.broker.embedding import Embedded, embed
from caterva2.broker.follower import REGISTRY_FILE, Follower, Retained
from caterva2.broker.passwords import Passwords
from caterva2.broker.registry import Registry, Saved
from caterva2.broker.routes import State, routes
from caterva2.broker.tokens import Grants
from caterva2.broker.users import NAME
from caterva2.broker.userwatch import UserWatch
from caterva2.daemon.arguments import package_version
from caterva2.daemon.http import error_handlers
from caterva2.daemon.statedir import StateDir
from caterva2.daemon.supervisor import Supervisor
from caterva2.daemon.tokens import Signer
from caterva2.settings import BrokerSettings

logger = logging.getLogger(__name__)
KEY_FILE: Final = "token.key"


def create_app(settings: BrokerSettings, address: Address) -> Starlette:
    """Make the broker's app.

    Args:
        settings: its settings.
        address: where it listens for HTTP, with the real port.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, State]]:
        topics = Topics(settings.bus.prefix)
        identity = _Identity(settings, address)
        on_reload: list[Callable[[], object]] = getattr(app.state, "on_reload", [])
        async with AsyncExitStack() as stack:
            state = stack.enter_context(StateDir(settings.statedir))
            signer = Signer.load(settings.statedir / KEY_FILE)
            registry = Registry(state.read_json(REGISTRY_FILE, Saved))
            access = BrokerAccess(topics, registry, stack.enter_context(Passwords()), anonymous=settings.anonymous)
            users = UserWatch(settings.users, access) if settings.users is not None else None
            embedded = None
            if not settings.bus.url:
                _say_who_may_come(settings, access)
                embedded = await embed(stack, settings, registry, topics, access, on_reload)
            bus = await stack.enter_async_context(_bus_client(settings, embedded, topics, identity))
            await bus.subscribe(topics.all_roots, topics.all_services)
            grants = Grants(signer, settings.token_lifetime, _subscribers(registry, access, embedded), registry.online)
            follower = Follower(registry, bus, state, identity.status, grants)
            access.on_claim = follower.changed
            stack.push_async_callback(follower.leave)
            tasks = await stack.enter_async_context(Supervisor.of(app))
            tasks.start(follower.follow(), "follow the bus")
            tasks.start(follower.save(), "save the registry")
            tasks.start(follower.watch(topics, _retained(embedded)), "watch presence")
            tasks.start(grants.hand_out(bus), "hand out tokens")
            if users is not None:
                users.serve(embedded.broker if embedded is not None else None)
                on_reload.append(users.reload)
                tasks.start(users.watch(), "watch the users file")
            yield {
                "broker": State(
                    settings,
                    address,
                    identity.id,
                    identity.instance,
                    registry,
                    bus,
                    embedded,
                    Admins(access, Logins(settings.max_logins), _names(settings)),
                    follower.changed,
                    tuple(signer.keys),
                )
            }

    return Starlette(
        routes=routes(embedded=not settings.bus.url), lifespan=lifespan, exception_handlers=error_handlers()
    )


class _Identity:
    """Who we are on the bus."""

    def __init__(self, settings: BrokerSettings, address: Address) -> None:
        self.id = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).lstrip(".") or "broker"
        self.instance = secrets.token_hex(8)
        self._http = settings.urlbase or ("" if address.socket else address.url)
        self._user = settings.bus.username if settings.bus.url else ""

    def status(self, birth: int, online: bool) -> ServiceStatus:  # noqa: FBT001 - a plain callback
        """Our status, in the connection of this number."""
        return ServiceStatus(
            kind="broker",
            id=self.id,
            status="online" if online else "offline",
            http=self._http,
            instance=self.instance,
            birth=birth,
            time=time.time(),
            version=package_version(),
            user=self._user,
        )


def _names(settings: BrokerSettings) -> list[str]:
    """What this machine is called in the settings."""
    return [name for name in (settings.http.host, urlsplit(settings.urlbase or "").hostname) if name]


def _say_who_may_come(settings: BrokerSettings, access: BrokerAccess) -> None:
    """One line on who may join the bus, since whoever may not only sees that it is refused."""
    rule = {
        None: "clients without a user name may join the bus from this machine only; to let in others add users with"
        " `cat2bro user add`, or set anonymous = true in [broker]",
        True: "clients without a user name may join the bus from anywhere ([broker] anonymous)",
        False: "clients without a user name may not join the bus ([broker] anonymous)",
    }
    if settings.anonymous is False and not access.has_users:
        logger.warning("nobody may join the bus: add users with `cat2bro user add`, or set anonymous in [broker]")
    else:
        logger.info(rule[settings.anonymous])
    plain = [settings.mqtt, None if settings.certificate else settings.http]
    open_to_all = [str(each) for each in plain if each is not None and not each.loopback]
    if access.has_users and open_to_all:
        logger.warning(
            "passwords travel unencrypted to %s: set a certificate in [broker], or listen on localhost behind a proxy",
            " and ".join(open_to_all),
        )


def _subscribers(registry: Registry, access: BrokerAccess, embedded: Embedded | None) -> Callable[[], Collection[str]]:
    """Who is handed tokens: the users of the subscribers that are there, as far as they may be."""

    def known(user: str) -> bool:
        if not user:
            return access.lets_in_unnamed(local=True)
        return access.has_user(user) if embedded is not None else NAME.fullmatch(user) is not None

    return lambda: [user for user in registry.subscribers() if known(user)]


def _retained(embedded: Embedded | None) -> Retained | None:
    if embedded is None:
        return None
    broker = embedded.broker
    return Retained(broker.retained.keys, lambda: broker.statistics.cleared)


def _bus_client(settings: BrokerSettings, embedded: Embedded | None, topics: Topics, identity: _Identity) -> BusClient:
    url = settings.bus.url if embedded is None else embedded.broker.local_url

    async def urls() -> Sequence[str]:
        return (url,)

    return BusClient(
        urls,
        topics=topics,
        client_id="cat2bro",
        will=lambda birth: identity.status(birth, online=False),
        keepalive=settings.bus.keepalive,
        username=settings.bus.username or None,
        password=settings.bus.password or None,
    )
