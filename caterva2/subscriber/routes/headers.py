"""Headers that say which version an answer is of, how fresh that is, and what a browser should call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from caterva2.daemon.http import quoted
from caterva2.subscriber.reader import Read

INERT: Final = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
"""Headers for what users or publishers wrote: on our origin no page or script of theirs has a say."""


def headers_of(etag: str, reads: Sequence[Read]) -> dict[str, str]:
    """The headers of an answer that was made of one version of each of some datasets."""
    worst = max(reads, key=lambda read: (read.stale, read.fetched, read.asked))
    ages = [read.age for read in reads if read.age is not None]
    age = {"Age": str(max(ages))} if ages else {}
    return {"ETag": quoted(etag), "Cache-Status": worst.cache_status, "Cache-Control": "no-cache", **age}


def read_headers(read: Read) -> dict[str, str]:
    """The headers of an answer that was read from one dataset."""
    return headers_of(read.frame.etag, (read,))


def disposition(name: str) -> dict[str, str]:
    """The headers of a file: its name (RFC 6266), and that a browser is never to run what is in it."""
    plain = quote(name) == name
    value = f'filename="{name}"' if plain else f"filename*=utf-8''{quote(name)}"
    return {"Content-Disposition": f"attachment; {value}"} | INERT
