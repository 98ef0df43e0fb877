"""Answers that are sent piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

from caterva2.daemon.ahead import ahead
from caterva2.subscriber.reader import Read


async def pieces_in_thread(read: Read, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of an answer, each made while the one before is sent."""
    try:
        async with aclosing(ahead(lambda: next(pieces, None))) as made:
            async for piece in made:
                yield piece
    finally:
        read.release()
