"""Answers of a subscriber, and the errors that they mean; nothing here knows the HTTP library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from caterva2.errors import BadGatewayError, Caterva2Error, error_for_status
from caterva2.models import Freshness

_MAX_DETAIL = 1000
_MAX_LINE = 1 << 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


_FRESHNESS = re.compile(r"^caterva2;.*?(?:(?P<stale>fwd=stale)|detail=(?P<asked>revalidated)|$)")


@dataclass(frozen=True, slots=True)
class Currency:
    """What a subscriber says of how current an answer is.

    Attributes:
        freshness: `live`, `revalidated` or `stale`; None when it does not say.
        age: seconds since a stale answer was last known to be current; None if that is not known, or it is not stale.
    """

    freshness: Freshness | None = None
    age: int | None = None

    @classmethod
    def of(cls, cache_status: str, age: str) -> Self:
        """Read the headers `Cache-Status` and `Age`."""
        match = _FRESHNESS.match(cache_status)
        if match is None:
            return cls()
        if match["stale"]:
            return cls("stale", int(age) if age.isascii() and age.isdigit() and len(age) < 19 else None)
        return cls("revalidated" if match["asked"] else "live")


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer.

    Attributes:
        content: the bytes.
        etag: the version that they belong to, without quotes; None when the server names none.
        modified: False when the version that was named in the request is still the present one.
        currency: how current it is.
    """

    content: bytes
    etag: str | None
    modified: bool = True
    currency: Currency = Currency()

    def json(self) -> Any:
        """Decode the body.

        Raises:
            BadGatewayError: if it is not JSON.
        """
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError) as error:
            raise BadGatewayError(
                f"an answer is not JSON ({one_line(self.content[:60].decode(errors='replace'))!r}):"
                " is there a Caterva2 subscriber at this address?"
            ) from error


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event of a stream.

    Attributes:
        name: what kind it is; "" for a sign of life.
        id: to resume after it; "" when there is none.
        data: the rest.
    """

    name: str
    id: str
    data: str


def read_events(pieces: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Read server-sent events (of the HTML standard what a subscriber makes use of).

    Raises:
        BadGatewayError: if it is something else.
    """
    fields: dict[str, str] = {}
    for line in _lines(pieces):
        if not line:
            if fields:
                yield ServerEvent(fields.get("event", ""), fields.get("id", ""), fields.get("data", ""))
            fields = {}
        name, _, value = line.partition(":")
        if name in {"event", "id", "data"}:
            fields[name] = value.removeprefix(" ")


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _MAX_LINE:
            raise BadGatewayError(
                "the stream of events makes no sense: is there a Caterva2 subscriber at this address?"
            )
        for line in lines:
            yield line.removesuffix(b"\r").decode(errors="replace")


def error_of(status: int, body: bytes) -> Caterva2Error:
    """Make the error that an answer of 400 or more means.

    Args:
        status: the HTTP status.
        body: the answer, usually `{"detail": "..."}`.
    """
    return error_for_status(status, _detail(body) or f"HTTP status {status}")


def _detail(body: bytes) -> str:
    text = body.decode(errors="replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return one_line(text)
    detail = found.get("detail", found) if isinstance(found, dict) else found
    if isinstance(detail, list):  # the form in which FastAPI complains about parameters
        detail = "; ".join(str(item.get("msg", item)) if isinstance(item, dict) else str(item) for item in detail)
    return one_line(str(detail))


def one_line(text: str) -> str:
    """Make foreign text fit for a terminal: one line, bounded, without control characters."""
    return _CONTROL.sub(" ", text).strip()[:_MAX_DETAIL]


def etag_of(header: str) -> str | None:
    """Read the version in an ETag header; a proxy that compresses may have marked it as weak."""
    return header.removeprefix("W/").strip('"') or None
