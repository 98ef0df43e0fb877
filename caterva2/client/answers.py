"""Answers of a subscriber, and the errors that they mean; nothing here knows the HTTP library."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from caterva2.errors import BadGatewayError, Caterva2Error, error_for_status

_MAX_DETAIL = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer.

    Attributes:
        content: the bytes.
        etag: the version that they belong to, without quotes; None when the server names none.
        modified: False when the version that was named in the request is still the present one.
    """

    content: bytes
    etag: str | None
    modified: bool = True

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
