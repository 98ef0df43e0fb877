"""Brokers to compare: ours, and plain amqtt with the defects that ours answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import amqtt.broker
import pytest

from bus.broker import EmbeddedBroker, _quieten
from bus.connection import Limits
from tests.unit.bus.raw import RawClient

ANONYMOUS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}

Plugins = Mapping[str, Mapping[str, Any]]
OpenBroker = Callable[[Plugins | None], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def ours(plugins: Plugins | None = None, limits: Limits | None = None) -> AsyncIterator[int]:
    """The embedded broker; its port."""
    async with EmbeddedBroker(tcp=("127.0.0.1", 0), plugins=plugins, limits=limits) as broker:
        assert broker.tcp_port is not None
        yield broker.tcp_port


@asynccontextmanager
async def plain(plugins: Plugins | None = None) -> AsyncIterator[int]:
    """Plain amqtt as it is; its port."""
    _quieten()
    config = {"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}}, "plugins": plugins or ANONYMOUS}
    broker = amqtt.broker.Broker(config)
    await broker.start()
    try:
        yield broker._servers["default"].instance.sockets[0].getsockname()[1]
    finally:
        await broker.shutdown()


corrects_amqtt = pytest.mark.parametrize(
    "open_broker",
    [
        pytest.param(ours, id="ours"),
        pytest.param(plain, id="amqtt", marks=pytest.mark.xfail(strict=True, reason="a defect of amqtt 0.12.1")),
    ],
)
"""For a test that ours passes and amqtt must fail: when it does not, an override has had its day."""


def run(open_broker: OpenBroker, scenario: Callable[[int], Awaitable[None]], plugins: Plugins | None = None) -> None:
    """Play a scenario with the port of a broker."""

    async def play() -> None:
        async with open_broker(plugins) as port:
            try:
                await scenario(port)
            finally:
                await RawClient.cut_all()

    asyncio.run(play())
