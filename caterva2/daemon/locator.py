"""What the broker is asked: where the message bus is, unless the settings say it, and its public keys."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence

import httpx
from anyio import to_thread
from pydantic import ValidationError

from caterva2.daemon.bus import client_tls
from caterva2.errors import SettingsError, reason_of
from caterva2.models import BusInfo
from caterva2.settings import BusSettings

_TIMEOUT = 5.0
_MOST = 256 * 1024  # bytes of an answer


async def ask_broker(broker: str, tls: ssl.SSLContext | None) -> BusInfo:
    """Get a broker's `/api/bus`.

    Args:
        broker: the base of its URLs.
        tls: which authorities are believed; None will do for plain http.

    Raises:
        ConnectionError: if it cannot be asked, or is something else.
    """
    try:
        # A client for each question: they are rare, and an idle connection would only go stale.
        async with (
            asyncio.timeout(2 * _TIMEOUT),
            httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False, verify=tls or False) as client,
            client.stream("GET", f"{broker}/api/bus") as answer,
        ):
            return BusInfo.model_validate_json(await _body(answer.raise_for_status()))
    except (httpx.HTTPError, TimeoutError) as error:
        raise ConnectionError(f"broker {broker}: {reason_of(error)}") from error
    except (httpx.InvalidURL, ValidationError, ValueError) as error:
        raise ConnectionError(f"broker {broker}: is that a cat2bro? {_first_line(error)}") from error


async def _body(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > _MOST:
            raise ValueError(f"its answer has more than {_MOST} bytes")
    return bytes(body)


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
            # Reading the authorities takes milliseconds, and is done only for who needs them.
            tls = await to_thread.run_sync(client_tls, self._bus) if self._broker.startswith("https:") else None
        except SettingsError as error:
            raise ConnectionError(f"broker {self._broker}: {error}") from error
        info = await ask_broker(self._broker, tls)
        if info.prefix != self._bus.prefix:
            raise ConnectionError(f"the broker's topics start with {info.prefix!r}: set [bus] prefix to the same")
        return info.urls


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
