"""The broker's HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from bus.broker import EmbeddedBroker
from bus.client import BusClient
from caterva2.address import Address
from caterva2.broker.registry import Registry
from caterva2.daemon.arguments import package_version
from caterva2.daemon.http import health_route, json_response, ready_route
from caterva2.errors import AddressError
from caterva2.models import BusInfo, Health
from caterva2.settings import BrokerSettings

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
    """

    settings: BrokerSettings
    address: Address
    id: str
    instance: str
    registry: Registry
    bus: BusClient
    embedded: EmbeddedBroker | None


def routes(*, embedded: bool) -> list[BaseRoute]:
    """The routes; `/mqtt` only with a broker inside."""
    made: list[BaseRoute] = [
        Route("/api/roots", get_roots),
        Route("/api/bus", get_bus),
        health_route(_health),
        ready_route(_health),
    ]
    return [*made, WebSocketRoute("/mqtt", mqtt)] if embedded else made


async def get_roots(request: Request) -> Response:
    """`GET /api/roots`: all roots that were ever announced, with their presence."""
    return json_response(dict(_state(request).registry.roots()), headers={"Cache-Control": "no-cache"})


async def get_bus(request: Request) -> Response:
    """`GET /api/bus`: where the bus is, as this client can reach it."""
    state = _state(request)
    info = BusInfo(urls=tuple(_bus_urls(state, request)), prefix=state.settings.bus.prefix)
    return json_response(info, headers={"Cache-Control": "no-store"})


async def mqtt(websocket: WebSocket) -> None:
    """`/mqtt`: MQTT over WebSocket."""
    embedded = _state(websocket).embedded
    if embedded is not None:
        await embedded.websocket(websocket)


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
        ready=state.bus.connected,
        detail=f"not connected to the message bus: {state.bus.trouble}" if state.bus.trouble else None,
    )


def _bus_urls(state: State, request: Request) -> Iterator[str]:
    if state.embedded is None:
        yield state.settings.bus.url
        return
    base = urlsplit(state.settings.urlbase or _base_used(state, request))
    websocket = f"{'wss' if base.scheme == 'https' else 'ws'}://{base.netloc}{base.path}/mqtt"
    tcp = _tcp_url(state, base.hostname or "localhost")
    # Before a proxy the TCP port may be shut, and a client would wait for it; else it is the shorter way.
    proxied = bool(state.settings.urlbase) or "x-forwarded-proto" in request.headers
    yield from filter(None, (websocket, tcp) if proxied else (tcp, websocket))


def _tcp_url(state: State, host: str) -> str | None:
    """The URL of the TCP listener under the host that the client used; None if it does not lead there."""
    listener = state.settings.mqtt
    port = state.embedded.tcp_port if state.embedded is not None else None
    if port is None or listener is None or (listener.host in _LOOPBACK and host not in _LOOPBACK):
        return None
    return f"mqtt://{Address(host, port)}"


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
