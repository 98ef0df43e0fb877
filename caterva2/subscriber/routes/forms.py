"""A file in a form (`multipart/form-data`), taken out of it while it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final

from pydantic import BaseModel, WithJsonSchema
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from caterva2.errors import BadRequestError

_FIELD: Final = b"file"
# Bytes that are handed on at once.
_PIECE: Final = 1 << 20
# Seconds that a client may take to send what fills a buffer on the way from it.
_PATIENCE: Final = 60.0


class FileForm(BaseModel):
    """A form with a file; its name is not looked at."""

    file: Annotated[bytes, WithJsonSchema({"type": "string", "contentMediaType": "application/octet-stream"})]


async def sent_file(request: Request) -> AsyncIterator[bytes]:
    """The pieces of the file in the form's field `file`.

    Raises:
        BadRequestError: if the body is no form, has no such field, ends too early, or does not go on.
    """
    form = _Form(request.headers.get("content-type", ""))
    body = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(_PATIENCE):
                piece = await anext(body, None)
        except ClientDisconnect:
            raise BadRequestError("the request's body ended too early") from None
        except TimeoutError:
            raise BadRequestError(f"the request's body did not go on for {_PATIENCE:g} seconds") from None
        if piece is None:
            break
        form.feed(piece)
        if len(form.data) >= _PIECE:
            yield form.take()
    form.check_complete()
    yield form.take()


class _Form:
    """The parts of a form as they come; only the file's data is kept.

    Args:
        content_type: the header that names the boundary between the parts.
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise BadRequestError('the body is no form with a file: send multipart/form-data, with the file as "file"')
        self.data = bytearray()
        self._header = [bytearray(), bytearray()]
        self._current = False
        self._found = False
        self._complete = False
        self._parser = self._make_parser(boundary)

    def _make_parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, piece: bytes) -> None:
        """Take in a piece of the body."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise BadRequestError(f"the form is damaged: {error}") from None

    def take(self) -> bytes:
        """The file's data that came since the last call."""
        data = bytes(self.data)
        self.data.clear()
        return data

    def check_complete(self) -> None:
        """Refuse a form that is cut off, or has no file."""
        if not self._complete:
            raise BadRequestError("the form is cut off")
        if not self._found:
            raise BadRequestError('the form has no file: send it in the field "file"')

    def _on_header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = [bytearray(), bytearray()]
        if name.lower() == b"content-disposition" and parse_options_header(value)[1].get(b"name") == _FIELD:
            if self._found:
                raise BadRequestError('the form has several files "file": send one')
            self._current = self._found = True

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._current:
            self.data += data[start:end]

    def _on_part_end(self) -> None:
        self._current = False

    def _on_end(self) -> None:
        self._complete = True
