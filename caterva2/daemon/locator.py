"""Where the message bus is: what the settings say, or else what the broker answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import httpx
from anyio import to_thread
from pydantic import ValidationError

from caterva2.daemon.bus import client_tls
from caterva2.errors import SettingsError, reason_of
from caterva2.models import BusInfo
from caterva2.settings import BusSettings

_TIMEOUT = 5.0


def bus_urls(broker: str, bus: BusSettings) -> Callable[[], Awaitable[Sequence[str]]]:
    """Make the function that a bus client asks, before each attempt to connect, where to try.

    Args:
        broker: the base of the broker's URLs; "" is no broker.
        bus: the settings of the bus; a `url` there is the answer.

    Returns:
        A function that answers with URLs, best first, or raises ConnectionError while the broker cannot be asked.
    """

    async def fixed() -> Sequence[str]:
        return (bus.url,) if bus.url else ()

    return fixed if bus.url or not broker else _Locator(broker, bus)


class _Locator:
    """Asks the broker; asked again and again while that is away, it leaves the complaining to the bus client."""

    def __init__(self, broker: str, bus: BusSettings) -> None:
        self._broker = broker
        self._bus = bus

    async def __call__(self) -> Sequence[str]:
        try:
            info = await self._ask()
        except httpx.HTTPError as error:
            raise ConnectionError(f"broker {self._broker}: {reason_of(error)}") from error
        except SettingsError as error:
            raise ConnectionError(f"broker {self._broker}: [bus] {error}") from error
        except (httpx.InvalidURL, ValidationError) as error:
            raise ConnectionError(f"broker {self._broker}: is that a cat2bro? {_first_line(error)}") from error
        if info.prefix != self._bus.prefix:
            raise ConnectionError(f"the broker's topics start with {info.prefix!r}: set [bus] prefix to the same")
        return info.urls

    async def _ask(self) -> BusInfo:
        # A client for each question: they are rare, and an idle connection would only go stale.
        # Reading the authorities takes milliseconds, and is done only for who needs them.
        verify = await to_thread.run_sync(client_tls, self._bus) if self._broker.startswith("https:") else False
        async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False, verify=verify) as client:
            answer = await client.get(f"{self._broker}/api/bus")
            return BusInfo.model_validate_json(answer.raise_for_status().content)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
