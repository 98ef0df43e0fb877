"""Mosquitto's limits, which are made for few topics."""

import asyncio
from pathlib import Path

from bus.client import BusClient, Credentials
from bus.interface import Connected
from bus.messages import RootAnnouncement
from bus.topics import Topics
from tests.support.mosquitto import PASSWORDS, DeployedMosquitto
from tests.unit.bus.raw import DEADLINE

MANY = 1500  # more than the 1,000 messages that wait for a client by default


def announcement(number: int) -> RootAnnouncement:
    """One of many roots."""
    return RootAnnouncement(
        name=f"r{number}", http="http://localhost:1", status="online", epoch="e", seq=0, instance="i", birth=1,
        heartbeat=30, kind="directory", time=1.0, version="1",
    )  # fmt: skip


def test_a_new_subscriber_hears_of_all_of_many_roots(tmp_path: Path) -> None:
    """With deploy/mosquitto/mosquitto.conf; by default those beyond the thousandth would be dropped."""
    with DeployedMosquitto(tmp_path, autosave=False) as mosquitto:

        def member(user: str) -> BusClient:
            async def urls() -> list[str]:
                return [mosquitto.url]

            login = Credentials(user, PASSWORDS[user])
            return BusClient(urls, topics=Topics(), client_id=user, login=lambda _url: login)

        async def scenario() -> None:
            async with member("admin") as admin, member("cat2sub") as subscriber:
                assert isinstance(await anext(admin.messages()), Connected)
                for start in range(0, MANY, 50):
                    await asyncio.gather(*(admin.publish(announcement(n)) for n in range(start, start + 50)))
                await subscriber.subscribe(Topics().all_roots)
                names: set[str] = set()
                async with asyncio.timeout(DEADLINE):
                    async for event in subscriber.messages():
                        names |= {event.name} if isinstance(event, RootAnnouncement) else set()
                        if len(names) == MANY:
                            return

        asyncio.run(scenario())
