"""The broker inside: its listeners, limits and retained messages, as the settings say."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from bus.access import Access
from bus.broker import EmbeddedBroker
from bus.errors import DecodeError
from bus.limits import Limits
from bus.listeners import Listener
from bus.messages import Message, RootAnnouncement, ServiceStatus, decode, encode, topic_of
from bus.store import RetainedStore
from bus.topics import Topics
from caterva2.address import Address
from caterva2.broker.registry import Registry
from caterva2.daemon.tls import Reloadable
from caterva2.errors import SettingsError
from caterva2.settings import BrokerSettings

logger = logging.getLogger(__name__)
RETAINED_FILE: Final = "retained.sqlite"
Scheme = Literal["mqtt", "mqtts"]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running broker, and where it is reached.

    Attributes:
        broker: itself.
        listeners: the addresses that it listens on, with their real ports.
    """

    broker: EmbeddedBroker
    listeners: dict[Scheme, Address]


async def embed(
    stack: AsyncExitStack,
    settings: BrokerSettings,
    registry: Registry,
    topics: Topics,
    access: Access,
    on_reload: list[Callable[[], object]],
) -> Embedded:
    """Start the broker; it ends with the stack.

    Args:
        stack: what it ends with.
        settings: where it listens, and what it allows.
        registry: knows what was announced before there was a store of retained messages.
        topics: the topics of the bus.
        access: the rules.
        on_reload: gets what is to be called at SIGHUP.

    Raises:
        SettingsError: if a certificate cannot be used.
    """
    tls = _tls(settings)
    if tls is not None:
        on_reload.append(tls.reload)
    wanted = dict(_wanted(settings))
    saved = registry.saved()
    messages: tuple[Message, ...] = (*saved.roots, *saved.services)
    broker = EmbeddedBroker(
        listeners=[_listener(scheme, address, tls) for scheme, address in wanted.items()],
        access=access,
        store=RetainedStore(settings.statedir / RETAINED_FILE),
        limits=_limits(settings),
        restore=partial(restored, topics),
        retained={topic_of(topics, message): encode(message) for message in messages},
        sys_interval=settings.sys_interval,
    )
    await stack.enter_async_context(broker)
    return Embedded(broker, dict(_served(wanted, broker)))


def restored(topics: Topics, topic: str, payload: bytes) -> bytes:
    """What becomes of a retained message when the broker starts: who was there then is offline until heard of.

    A broker that was killed published no last wills, and who went away meanwhile will not say so.
    """
    try:
        message = decode(topics, topic, payload)
    except DecodeError:
        return payload
    if not isinstance(message, RootAnnouncement | ServiceStatus):
        return payload
    return encode(message.model_copy(update={"status": "offline"}))


def _wanted(settings: BrokerSettings) -> Iterator[tuple[Scheme, Address]]:
    if settings.mqtt is not None:
        yield "mqtt", settings.mqtt
    if settings.mqtts is not None:
        yield "mqtts", settings.mqtts


def _tls(settings: BrokerSettings) -> Reloadable | None:
    if settings.certificate is not None:
        return Reloadable(settings.certificate, settings.key, settings.client_ca) if settings.mqtts else None
    for name in ("mqtts", "client_ca"):
        if getattr(settings, name) is not None:
            raise SettingsError(f"broker.{name}: needs a certificate: set certificate and key in [broker] too")
    return None


def _listener(scheme: Scheme, address: Address, tls: Reloadable | None) -> Listener:
    context: ssl.SSLContext | None = tls.context if tls is not None and scheme == "mqtts" else None
    return Listener(address.host, address.port, context)


def _limits(settings: BrokerSettings) -> Limits:
    return Limits(
        connections=settings.max_clients,
        failed_logins=settings.max_logins,
        packet=settings.max_packet,
        subscriptions=settings.max_subscriptions,
        retained=settings.max_retained,
        outbox=settings.max_queue,
    )


def _served(wanted: dict[Scheme, Address], broker: EmbeddedBroker) -> Iterator[tuple[Scheme, Address]]:
    for (scheme, address), port, error in zip(wanted.items(), broker.ports, broker.errors, strict=True):
        if error is not None:
            logger.warning(
                "MQTT tools cannot be served on %s: %s; all else works; to have it, free the port or choose another"
                " with --%s or [broker] %s",
                *(address, error.strerror, scheme, scheme),
            )
        elif port is not None:
            logger.info(
                "MQTT tools are served on %s%s", address.with_port(port), " with TLS" if scheme == "mqtts" else ""
            )
            yield scheme, address.with_port(port)
