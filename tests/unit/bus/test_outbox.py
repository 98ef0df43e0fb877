import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bus import outbox as module
from bus.outbox import Outbox
from bus.packets import Publish
from tests.unit.bus.raw import DEADLINE


class Gate:
    """A writer that lets bytes through only when it is open."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, data: bytes) -> None:
        await self.open.wait()
        self.written.append(data)


def run(scenario: Callable[[Outbox, Gate], Awaitable[None]], limit: int = 100_000) -> None:
    """Play a scenario beside the outbox's own loop."""

    async def play() -> None:
        gate = Gate()
        outbox = Outbox(gate, limit)
        task = asyncio.create_task(outbox.run())
        try:
            await asyncio.wait_for(scenario(outbox, gate), DEADLINE)
        finally:
            task.cancel()

    asyncio.run(play())


def message(payload: bytes = b"x") -> Publish:
    """A message on the topic a."""
    return Publish("a", payload, 1, False)


def test_packets_are_written_in_order_and_together() -> None:
    """Many small packets become few writes."""

    async def scenario(outbox: Outbox, gate: Gate) -> None:
        for number in range(100):
            outbox.send(b"%03d" % number, b";")
        await outbox.empty()

        assert [b"".join(b"%03d;" % number for number in range(100))] == gate.written

    run(scenario)


def test_large_batches_are_split() -> None:
    """No write is much larger than a batch."""

    async def scenario(outbox: Outbox, gate: Gate) -> None:
        for _ in range(100):
            outbox.send(b"x" * 1000)
        await outbox.empty()

        assert 100_000 == sum(map(len, gate.written))
        assert 20_000 > max(map(len, gate.written))

    run(scenario)


def test_room_is_there_when_little_waits() -> None:
    """Who has much to send waits for the client."""

    async def scenario(outbox: Outbox, gate: Gate) -> None:
        gate.open.clear()
        outbox.send(b"x" * 50_000)
        room = asyncio.create_task(outbox.room())
        await asyncio.sleep(0)
        assert not room.done()
        gate.open.set()

        await room

    run(scenario)


def test_too_much_waiting_is_overfull() -> None:
    """Beyond its limit an outbox says so, and takes it back when it has written."""

    async def scenario(outbox: Outbox, gate: Gate) -> None:
        gate.open.clear()
        outbox.send(b"x" * 1000)
        assert not outbox.overfull
        outbox.send(b"x")
        assert outbox.overfull
        gate.open.set()
        await outbox.empty()

        assert not outbox.overfull

    run(scenario, limit=1000)


def test_too_little_acknowledged_is_overfull(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads and never acknowledges is no better."""
    monkeypatch.setattr(module, "MAX_UNACKNOWLEDGED", 3)

    async def scenario(outbox: Outbox, _gate: Gate) -> None:
        for _ in range(4):
            outbox.publish(message(), qos=1, retain=False)
        assert outbox.overfull
        outbox.acknowledge(1)
        outbox.acknowledge(1)

        assert not outbox.overfull

    run(scenario)


def test_identifiers_in_use_are_not_given_again() -> None:
    """They wrap around, past 0 and past those not yet acknowledged."""

    async def scenario(outbox: Outbox, _gate: Gate) -> None:
        first = outbox._next_id()
        for _ in range(0xFFFF - 1):
            outbox.acknowledge(outbox._next_id())

        assert (1, 2) == (first, outbox._next_id())

    run(scenario)


def test_room_is_there_when_little_is_unacknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has much to send also waits for acknowledgements, not only for the network."""
    monkeypatch.setattr(module, "_LEISURELY", 3)

    async def scenario(outbox: Outbox, _gate: Gate) -> None:
        for _ in range(4):
            outbox.publish(message(), qos=1, retain=True)
        await outbox.empty()
        room = asyncio.create_task(outbox.room())
        await asyncio.sleep(0)
        assert not room.done()
        outbox.acknowledge(1)

        await room

    run(scenario)
