"""What waits to go out to one client of the embedded broker.

Bounded: amqtt 0.12.1 starts a task for every message and client without end (B11), so that one
stuck reader takes all the memory. Written in batches, which is what makes fan-out fast.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from bus.packets import Publish, publish_head

MAX_UNACKNOWLEDGED: Final = 20_000
"""Messages of QoS 1; there are only 65,535 identifiers for them."""

_LEISURELY: Final = 2000
"""Messages of QoS 1 that may be without an acknowledgement when there is no hurry. With more, a client that takes
100,000 retained messages faster than it acknowledges them would be cut off, come again, and be cut off again."""

_BATCH: Final = 16 * 1024
"""Bytes written at once. Python's WebSocket clients are slow on larger frames."""


class Writer(Protocol):
    """What the outbox knows of a stream."""

    async def write(self, data: bytes) -> None:
        """Send, and return when there is room for more."""


class Outbox:
    """A queue of packets, and the loop that writes them."""

    def __init__(self, writer: Writer, limit: int) -> None:
        self._writer = writer
        self._limit = limit
        self._parts: deque[bytes] = deque()
        self._waiting = 0
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._empty = asyncio.Event()
        self._unacknowledged: set[int] = set()
        self._last_id = 0
        self._room.set()
        self._empty.set()

    @property
    def overfull(self) -> bool:
        """Whether the client is too slow to be waited for."""
        return self._waiting > self._limit or len(self._unacknowledged) > MAX_UNACKNOWLEDGED

    @property
    def waiting(self) -> int:
        """How many bytes wait to go out."""
        return self._waiting

    def send(self, *parts: bytes) -> None:
        """Queue the parts of a packet."""
        self._parts.extend(parts)
        self._waiting += sum(map(len, parts))
        self._wake()

    def publish(self, message: Publish, *, qos: int, retain: bool) -> None:
        """Queue a message; its payload is shared with the queues of other clients."""
        payload = message.payload
        head = publish_head(
            message.topic.encode(), len(payload), packet_id=self._next_id() if qos else 0, retain=retain
        )
        self._parts.append(head)
        self._parts.append(payload)
        self._waiting += len(head) + len(payload)
        self._wake()

    def acknowledge(self, packet_id: int) -> None:
        """The client has the message, its identifier is free again."""
        self._unacknowledged.discard(packet_id)
        self._make_room()

    async def room(self) -> None:
        """Wait until little waits to go out, or to be acknowledged."""
        await self._room.wait()

    async def empty(self) -> None:
        """Wait until nothing waits to go out."""
        await self._empty.wait()

    async def run(self) -> None:
        """Write for ever; OSError when the client is gone."""
        while True:
            await self._work.wait()
            batch = self._take()
            await self._writer.write(batch)
            self._waiting -= len(batch)
            self._make_room()
            if not self._waiting:
                self._empty.set()

    def _take(self) -> bytes:
        taken: list[bytes] = []
        size = 0
        while self._parts and size < _BATCH:
            taken.append(self._parts.popleft())
            size += len(taken[-1])
        if not self._parts:
            self._work.clear()
        return b"".join(taken)

    def _wake(self) -> None:
        self._work.set()
        self._empty.clear()
        if self._waiting > _BATCH or len(self._unacknowledged) > _LEISURELY:
            self._room.clear()

    def _make_room(self) -> None:
        if self._waiting <= _BATCH and len(self._unacknowledged) <= _LEISURELY:
            self._room.set()

    def _next_id(self) -> int:
        while True:
            self._last_id = self._last_id % 0xFFFF + 1
            if self._last_id not in self._unacknowledged:
                self._unacknowledged.add(self._last_id)
                return self._last_id
