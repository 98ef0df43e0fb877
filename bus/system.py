"""The `$SYS` topics of the embedded broker, under the names that other brokers have made customary."""

import asyncio
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from bus.packets import Publish
from bus.traffic import BrokerStatistics

_PREFIX: Final = "$SYS/broker/"


def system_values(statistics: BrokerStatistics, uptime: float) -> dict[str, str]:
    """What is told, by topic; `uptime` in seconds."""
    values = {
        "version": f"caterva2 version {_version()}",
        "uptime": f"{uptime:.0f} seconds",
        "clients/connected": statistics.clients,
        "clients/total": statistics.connections,
        "messages/received": statistics.received,
        "messages/sent": statistics.sent,
        "retained messages/count": statistics.retained,
        "subscriptions/count": statistics.subscriptions,
    }
    return {f"{_PREFIX}{name}": str(value) for name, value in values.items()}


async def tell_system(
    publish: Callable[[Publish], object], statistics: Callable[[], BrokerStatistics], interval: float
) -> None:
    """Tell what goes on, retained, every `interval` seconds, as far as it has changed."""
    started = time.monotonic()
    told: dict[str, str] = {}
    while True:
        values = system_values(statistics(), time.monotonic() - started)
        for topic, value in values.items():
            if told.get(topic) != value:
                publish(Publish(topic, value.encode(), qos=0, retain=True))
        told = values
        await asyncio.sleep(interval)


def _version() -> str:
    try:
        return version("caterva2")
    except PackageNotFoundError:  # the bus is on its own
        return "unknown"
