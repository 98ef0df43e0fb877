import asyncio

from bus.client import BusClient
from bus.interface import Bus
from bus.memory import MemoryBroker, MemoryBus
from bus.topics import Topics


def test_every_member_is_a_bus() -> None:
    """The product depends on the protocol only; both kinds of member satisfy it, for mypy too."""

    async def urls() -> list[str]:
        return []

    async def scenario() -> list[bool]:
        buses: list[Bus] = [
            BusClient(urls, topics=Topics(), client_id="x"),
            MemoryBus(MemoryBroker()),
        ]
        return [isinstance(each, Bus) for each in buses]

    assert [True, True] == asyncio.run(scenario())
