"""Which statuses the routes answer with, by what they do; for their descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from caterva2.daemon.described import OCTETS, Answer

READING: Final = (304, 400, 401, 403, 404, 409, 412, 413, 416, 422, 429, 502, 507)
"""Of what reads a dataset: something is wrong with the request, with what it names, or with where that comes from."""
WRITING: Final = (400, 401, 403, 404, 409, 412, 413, 422, 429, 502, 507)
"""Of what writes to an own root; copying also reads."""
USERS: Final = (400, 401, 403, 404, 409, 413, 422, 429)
"""Of what is about users."""
PARTS: Final[Mapping[int, Answer]] = {
    206: Answer("the bytes of `Range`", media=(OCTETS, "multipart/byteranges", "*/*"))
}
"""What is answered to a `Range` of a file beside 200."""
