"""The rights of deploy/mosquitto/caterva2.acl: each role can do what it must, and nothing else."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator

import pytest

from tests.support.mosquitto import PASSWORDS, DeployedMosquitto
from tests.unit.bus.raw import PUBACK, PUBLISH, SUBACK, RawClient, connect, publish, subscribe

TOPICS = [
    "root/foo", "root/bar", "change/foo", "change/bar", "service/publisher/foo", "service/publisher/bar",
    "service/subscriber/here", "service/broker/here", "token/foo", "token/cat2sub", "token/watcher", "other",
]  # fmt: skip
COMMON = set(TOPICS) - {"token/foo", "token/cat2sub", "token/watcher", "other"}
WRITES = {
    "cat2bro": {each for each in TOPICS if each.startswith(("root/", "service/", "token/"))},
    "foo": {"root/foo", "change/foo", "service/publisher/foo"},
    "cat2sub": {"service/subscriber/here"},
    "watcher": set(),
    "admin": set(TOPICS),
}
READS = {
    "cat2bro": {each for each in TOPICS if each.startswith(("root/", "service/"))},
    "foo": {"root/foo", "token/foo"},
    "cat2sub": COMMON | {"token/cat2sub"},
    "watcher": COMMON | {"token/watcher"},
    "admin": set(TOPICS),
}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a broker that is set up as in deploy/."""
    with DeployedMosquitto(tmp_path_factory.mktemp("mosquitto")) as mosquitto:
        yield mosquitto.port


def run(scenario: Awaitable[None]) -> None:
    """Play a scenario, and leave no connection."""

    async def play() -> None:
        try:
            await scenario
        finally:
            await RawClient.cut_all()

    asyncio.run(play())


async def member(port: int, user: str, will: str | None = None) -> RawClient:
    """A client of this user."""
    left = (f"caterva2/{will}", b"will") if will else None
    return await RawClient.join(port, connect("", will=left, username=user, password=PASSWORDS[user]))


async def listening(port: int, user: str) -> RawClient:
    """A client that asked for everything, as mosquitto_sub -t 'caterva2/#' does."""
    client = await member(port, user)
    await client.send(subscribe("caterva2/#"))
    await client.read(SUBACK)
    return client


async def heard(client: RawClient) -> set[str]:
    """The topics of what a client has been sent."""
    received = await client.received_until_pong()
    return {each.topic.removeprefix("caterva2/") for each in received if each.kind == PUBLISH}


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("user", WRITES)
def test_who_may_publish_what(port: int, user: str, *, retain: bool) -> None:
    """Retained or not; what is not allowed arrives nowhere, though it may be acknowledged."""

    async def scenario() -> None:
        admin = await listening(port, "admin")
        await heard(admin)
        for topic in TOPICS:
            client = await member(port, user)
            await client.send(publish(f"caterva2/{topic}", b"x", qos=1, retain=retain))
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
                await client.read(PUBACK)
        assert WRITES[user] == await heard(admin)

    run(scenario())


@pytest.mark.parametrize("user", READS)
def test_who_may_read_what(port: int, user: str) -> None:
    """What is retained, and what is published while they listen; a wide filter is taken, and gives no more."""

    async def scenario() -> None:
        admin = await member(port, "admin")
        for topic in TOPICS:
            await admin.send(publish(f"caterva2/{topic}", b"x", qos=1, retain=True))
            await admin.read(PUBACK)
        client = await listening(port, user)
        assert READS[user] == await heard(client)
        for topic in TOPICS:
            await admin.send(publish(f"caterva2/{topic}", b"y", qos=1))
            await admin.read(PUBACK)
        assert READS[user] == await heard(client)

    run(scenario())


def test_last_wills_obey_the_same_rights(port: int) -> None:
    """A watcher cannot take a root offline by leaving a will, and its publisher can."""

    async def scenario() -> None:
        admin = await listening(port, "admin")
        await heard(admin)
        for user, will in (("watcher", "root/foo"), ("foo", "root/bar"), ("cat2sub", "token/watcher")):
            await (await member(port, user, will)).cut()
        await (await member(port, "foo", "root/foo")).cut()
        seen: list[str] = []
        while "caterva2/root/foo" not in seen:
            seen.append((await admin.read(PUBLISH)).topic)
        assert ["caterva2/root/foo"] == seen

    run(scenario())


@pytest.mark.parametrize(("user", "password"), [("foo", "wrong"), ("nobody", "secret of foo"), (None, None)])
def test_who_is_not_let_in(port: int, user: str | None, password: str | None) -> None:
    """A wrong password, an unknown name, and no name at all."""

    async def scenario() -> None:
        client = await RawClient.open(port, connect("", username=user, password=password))
        assert b"\0\5" == (await client.read()).body

    run(scenario())
