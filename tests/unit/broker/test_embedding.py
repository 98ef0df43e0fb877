"""How the settings become a broker inside."""

import re
from pathlib import Path
from typing import Any

import pytest

from bus.messages import encode
from bus.topics import Topics
from caterva2.address import Address
from caterva2.broker.embedding import _limits, _tls, restored
from caterva2.errors import SettingsError
from caterva2.settings import BrokerSettings
from tests.unit.broker.test_registry import root, service

TOPICS = Topics()


@pytest.mark.parametrize(
    ("topic", "before", "after"),
    [
        (TOPICS.root("foo"), encode(root()), encode(root(status="offline"))),
        (TOPICS.root("foo"), encode(root(status="offline")), encode(root(status="offline"))),
        (TOPICS.service("subscriber", "s"), encode(service()), encode(service(status="offline"))),
        (TOPICS.root("foo"), b"garbage", b"garbage"),
        ("other", b"text", b"text"),
    ],
)
def test_presence_is_void(topic: str, before: bytes, after: bytes) -> None:
    """Who was there when the broker ended is offline when it is back; all else is as it was."""
    assert after == restored(TOPICS, topic, before)


def test_limits() -> None:
    """Every limit of the settings reaches the bus, and their defaults are those of the bus."""
    names = ("max_clients", "max_logins", "max_packet", "max_subscriptions", "max_retained", "max_queue")
    values = {name: 70_000_000 if name == "max_queue" else 70_000 + n for n, name in enumerate(names)}

    limits = _limits(BrokerSettings(**values))

    assert tuple(values.values()) == (
        *(limits.connections, limits.failed_logins, limits.packet),
        *(limits.subscriptions, limits.retained, limits.outbox),
    )
    assert type(limits)() == _limits(BrokerSettings())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mqtts": Address("localhost", 0)}, "broker.mqtts: needs a certificate"),
        ({"client_ca": Path("ca.pem")}, "broker.client_ca: needs a certificate"),
        ({"certificate": Path("none.pem")}, "none.pem: cannot be read"),
    ],
)
def test_tls_without_a_certificate(settings: dict[str, Any], told: str) -> None:
    """What needs a certificate says so."""
    with pytest.raises(SettingsError, match=re.escape(told)):
        _tls(BrokerSettings(**settings))


@pytest.mark.parametrize(
    ("settings", "mqtt", "mqtts"),
    [
        ({}, Address("localhost", 1883), None),
        ({"http": Address("", 1)}, Address("", 1883), None),
        ({"http": Address(socket=Path("./s"))}, Address("localhost", 1883), None),
        ({"certificate": Path("c")}, None, Address("localhost", 8883)),
        ({"certificate": Path("c"), "mqtt": "localhost:7"}, Address("localhost", 7), Address("localhost", 8883)),
        ({"certificate": Path("c"), "mqtts": ""}, None, None),
    ],
)
def test_default_listeners(settings: dict[str, Any], mqtt: Address | None, mqtts: Address | None) -> None:
    """Without a certificate MQTT is on its usual port; with one on the usual one with TLS, and on no other."""
    made = BrokerSettings(**settings)

    assert (mqtt, mqtts) == (made.mqtt, made.mqtts)
