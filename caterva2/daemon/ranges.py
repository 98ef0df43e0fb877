"""Byte ranges of HTTP (RFC 9110, 14): one as 206 with `Content-Range`, several as `multipart/byteranges`."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from caterva2.daemon.http import etag_matches, not_modified, quoted
from caterva2.errors import Caterva2Error, RangeError

logger = logging.getLogger(__name__)

OCTETS = "application/octet-stream"
_SPAN = re.compile(r"(?P<first>\d{1,19})?-(?P<last>\d{1,19})?")
# As many as C2Array asks for at once; who asks for more gets the whole, as the RFC allows.
_MOST_SPANS = 64

Stream = Callable[[int, int], AsyncIterator[bytes]]


def parse_ranges(header: str | None, length: int) -> list[range] | None:
    """Read a `Range` header.

    Returns:
        The ranges that can be satisfied, in the order asked; None where the whole is to be sent.

    Raises:
        RangeError: if none of the ranges lies within the file.
    """
    unit, _, text = (header or "").partition("=")
    parts = [part.strip() for part in text.split(",")]
    matches = [_SPAN.fullmatch(part) for part in parts]
    if unit.strip().lower() != "bytes" or len(parts) > _MOST_SPANS:
        return None
    spans: list[range] = []
    for match in matches:
        if match is None or not _sensible(match["first"], match["last"]):
            return None
        spans.append(_span(match["first"], match["last"], length))
    found = [span for span in spans if span]
    if sum(map(len, found)) > length:
        # Ranges that overlap would make a small request an answer of many times the file (RFC 9110, 14.2).
        return None
    if not found:
        raise RangeError(f"range {header!r} lies outside of the {length} bytes of the file", length)
    return found


def _sensible(first: str | None, last: str | None) -> bool:
    return bool(first or last) and not (first and last and int(last) < int(first))


def _span(first: str | None, last: str | None, length: int) -> range:
    if first is None:
        return range(max(0, length - int(last or 0)), length)
    return range(int(first), min(length, int(last) + 1) if last is not None else length)


class FileResponse(StreamingResponse):
    """Bytes of a known length, made while they are sent; an error in the middle cuts the connection.

    A cut connection is how the client learns that it must not take what it has for the whole.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing but the headers to a HEAD."""
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            await super().__call__(scope, receive, send)
        except Caterva2Error as error:
            # The server cuts the connection when it sees that the answer is not complete.
            logger.warning("the answer to %s is cut off: %s", scope["path"], error)


def file_response(
    request: Request, stream: Stream, length: int, etag: str, headers: Mapping[str, str], media_type: str = OCTETS
) -> Response:
    """Answer a GET or HEAD for a file, for ranges of it, or only whether it changed.

    Args:
        request: whose `Range`, `If-Range` and `If-None-Match` are followed.
        stream: gives the bytes from a first to before a last offset.
        length: of the file in bytes.
        etag: the file's version, without quotes.
        headers: more headers.
        media_type: of the file.

    Raises:
        RangeError: if no range lies within the file.
    """
    kept = {name: headers[name] for name in ("Age", "Cache-Control", "Cache-Status") if name in headers}
    if (response := not_modified(request, etag, kept)) is not None:
        return response
    headers = {**headers, "ETag": quoted(etag), "Accept-Ranges": "bytes"}
    condition = request.headers.get("if-range")
    ranged = request.method == "GET" and (condition is None or etag_matches(condition, etag, weak=False))
    spans = parse_ranges(request.headers.get("range"), length) if ranged else None
    if spans is None:
        headers["Content-Length"] = str(length)
        return FileResponse(stream(0, length), 200, headers, media_type)
    if len(spans) > 1:
        return _multipart(stream, spans, length, headers, media_type)
    span = spans[0]
    headers |= {"Content-Range": _content_range(span, length), "Content-Length": str(len(span))}
    return FileResponse(stream(span.start, span.stop), 206, headers, media_type)


def _content_range(span: range, length: int) -> str:
    return f"bytes {span.start}-{span.stop - 1}/{length}"


def _multipart(
    stream: Stream, spans: list[range], length: int, headers: Mapping[str, str], media_type: str
) -> Response:
    boundary = secrets.token_hex(13)
    heads = [
        f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {_content_range(span, length)}\r\n\r\n".encode()
        for span in spans
    ]
    end = f"--{boundary}--\r\n".encode()
    total = sum(len(head) + len(span) + 2 for head, span in zip(heads, spans, strict=True)) + len(end)

    async def parts() -> AsyncIterator[bytes]:
        for head, span in zip(heads, spans, strict=True):
            yield head
            pieces = stream(span.start, span.stop)
            async for piece in pieces:
                yield piece
            yield b"\r\n"
        yield end

    headers = {**headers, "Content-Length": str(total)}
    return FileResponse(parts(), 206, headers, f"multipart/byteranges; boundary={boundary}")
