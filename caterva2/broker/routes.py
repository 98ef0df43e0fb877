"""The broker's HTTP API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from bus.client import BusClient
from bus.traffic import ClientInfo
from caterva2.address import Address
from caterva2.broker.admin import Admins, for_admins
from caterva2.broker.embedding import Embedded, Scheme
from caterva2.broker.registry import Registry
from caterva2.daemon.arguments import package_version
from caterva2.daemon.http import health_route, json_response
from caterva2.errors import AddressError, ConflictError, NotFoundError
from caterva2.models import BusInfo, BusReport, ClientEntry, Health, OwnedRoot
from caterva2.settings import BrokerSettings

logger = logging.getLogger(__name__)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class State:
    """What the lifespan hands to the routes.

    Attributes:
        settings: the broker's settings.
        address: where it listens for HTTP.
        id: its name on the bus.
        instance: tells this process from others.
        registry: the roots.
        bus: our own end of the bus.
        embedded: the broker inside; None with an external one.
        admins: lets operators in.
        changed: has the registry saved.
        keys: the public keys of our tokens, as JWKs.
    """

    settings: BrokerSettings
    address: Address
    id: str
    instance: str
    registry: Registry
    bus: BusClient
    embedded: Embedded | None
    admins: Admins
    changed: Callable[[], None]
    keys: tuple[dict[str, str], ...]


def routes(*, embedded: bool) -> list[BaseRoute]:
    """The routes; `/mqtt` only with a broker inside."""
    made: list[BaseRoute] = [
        Route("/api/roots", get_roots),
        Route("/api/roots/{name}", for_admins(release), methods=["DELETE"]),
        Route("/api/bus", get_bus),
        Route("/api/clients", for_admins(get_clients)),
        health_route(_health),
    ]
    return [*made, WebSocketRoute("/mqtt", mqtt)] if embedded else made


async def get_roots(request: Request) -> Response:
    """`GET /api/roots`: all roots that were ever announced, with their presence."""
    return json_response(dict(_state(request).registry.roots()), headers={"Cache-Control": "no-cache"})


async def get_bus(request: Request) -> Response:
    """`GET /api/bus`: where the bus is, as this client can reach it."""
    state = _state(request)
    info = BusInfo(urls=tuple(_bus_urls(state, request)), prefix=state.settings.bus.prefix, keys=state.keys)
    return json_response(info, headers={"Cache-Control": "no-store"})


async def get_clients(request: Request) -> Response:
    """`GET /api/clients`: who is on the bus, and whom the roots belong to."""
    state = _state(request)
    members = state.embedded.broker.members() if state.embedded is not None else []
    report = BusReport(
        broker=state.settings.bus.url,
        clients=tuple(_entry(each) for each in sorted(members, key=lambda each: (each.name, each.client_id))),
        roots=tuple(_owned_roots(state.registry)),
    )
    return json_response(report, headers={"Cache-Control": "no-store"})


async def release(request: Request) -> Response:
    """`DELETE /api/roots/{name}`: let a root belong to nobody, so that the next user who announces it gets it.

    While its publisher is there it would be the next one, with its next heartbeat: so not then.
    """
    state, name = _state(request), request.path_params["name"]
    owner = state.registry.owner(name)
    if owner is None:
        raise NotFoundError(f"root {name} belongs to nobody")
    if name in state.registry.online():
        http = state.registry.roots()[name].http
        raise ConflictError(
            f"root {name} is online at {http}: stop that publisher of {owner} first, or remove the user"
        )
    state.registry.release(name)
    state.changed()
    logger.info("root %s no longer belongs to %s: released by %s", name, owner, request.state.operator)
    return json_response(OwnedRoot(name=name, owner=None, status="offline", http=""))


async def mqtt(websocket: WebSocket) -> None:
    """`/mqtt`: MQTT over WebSocket."""
    embedded = _state(websocket).embedded
    if _state(websocket).admins.is_rebound(websocket):
        await websocket.close()  # before accept: the page sees 403
    elif embedded is not None:
        await embedded.broker.websocket(websocket)


def _state(connection: Request | WebSocket) -> State:
    state: State = connection.state.broker
    return state


def _health(request: Request) -> Health:
    state = _state(request)
    return Health(
        kind="broker",
        id=state.id,
        version=package_version(),
        instance=state.instance,
        bus="connected" if state.bus.connected else "disconnected",
    )


def _bus_urls(state: State, request: Request) -> Iterator[str]:
    if state.embedded is None:
        yield state.settings.bus.url
        return
    base = urlsplit(state.settings.urlbase or _base_used(state, request))
    tls = base.scheme == "https"
    websocket = f"{'wss' if tls else 'ws'}://{base.netloc}{base.path}/mqtt"
    # Who came over TLS is not sent back to where passwords are read along.
    tcp = _tcp_url(state, "mqtts" if tls else "mqtt", base.hostname or "localhost")
    # Before a proxy the TCP port may be shut, and a client would wait for it; else it is the shorter way.
    proxied = bool(state.settings.urlbase) or "x-forwarded-proto" in request.headers
    yield from filter(None, (websocket, tcp) if proxied else (tcp, websocket))


def _tcp_url(state: State, scheme: Scheme, host: str) -> str | None:
    """The URL of a TCP listener under the host that the client used; None if it does not lead there."""
    listener = state.embedded.listeners.get(scheme) if state.embedded is not None else None
    if listener is None or (listener.host in _LOOPBACK and host not in _LOOPBACK):
        return None
    return f"{scheme}://{Address(host, listener.port)}"


def _entry(info: ClientInfo) -> ClientEntry:
    return ClientEntry(
        id=info.client_id,
        user=info.name,
        role=info.role,
        peer=info.peer,
        since=info.since,
        subscriptions=info.subscriptions,
        queued=info.queued,
        received=info.received,
        sent=info.sent,
        received_rate=info.received_rate,
        sent_rate=info.sent_rate,
    )


def _owned_roots(registry: Registry) -> Iterator[OwnedRoot]:
    roots, owners = registry.roots(), registry.owners()
    for name in sorted({*roots, *owners}):
        known = roots.get(name)
        status, http = (known.status, known.http) if known is not None else ("offline", "")
        yield OwnedRoot(name=name, owner=owners.get(name), status=status, http=http)


def _base_used(state: State, request: Request) -> str:
    """The base of the URL that the client used, as far as it tells."""
    forwarded = request.headers.get("x-forwarded-proto", request.url.scheme).partition(",")[0].strip().lower()
    scheme = "https" if forwarded == "https" else "http"
    host = request.headers.get("host", "")
    try:
        Address.parse(host if urlsplit(f"//{host}").port is not None else f"{host}:80")
    except (AddressError, ValueError):
        host = ""
    if not host or "/" in host or host.startswith((":", "*")):
        host = "localhost" if state.address.socket else str(state.address.connectable)
    return f"{scheme}://{host}"
