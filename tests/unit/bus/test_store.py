import asyncio
import contextlib
import logging
import random
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bus.broker import EmbeddedBroker
from bus.packets import Publish
from bus.store import RetainedStore
from tests.contract.bus.harness import until
from tests.unit.bus.brokers import LOOPBACK
from tests.unit.bus.raw import (
    DEADLINE,
    PUBACK,
    PUBLISH,
    PUBREC,
    SUBACK,
    RawClient,
    publish,
    subscribe,
)

BROKER = """
import asyncio, sys
from pathlib import Path
from bus.broker import EmbeddedBroker
from bus.listeners import Listener
from bus.store import RetainedStore

async def main():
    async with EmbeddedBroker(listeners=[Listener("127.0.0.1", 0)], store=RetainedStore(Path(sys.argv[1]))) as broker:
        print(broker.ports[0], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def message(topic: str, payload: bytes = b"x", qos: int = 1) -> Publish:
    """A retained message."""
    return Publish(topic, payload, qos, retain=True)


def keep(file: Path, *messages: Publish) -> list[Publish]:
    """What a store knows when it opens; then it saves some more."""
    store = RetainedStore(file)
    known = store.open(lambda _: None)
    for each in messages:
        store.put(each)
    store.close()
    return known


def test_messages_are_kept_in_the_order_of_their_last_publication(tmp_path: Path) -> None:
    """With topic, payload and QoS; those that were taken back are gone."""
    file = tmp_path / "retained.sqlite"
    assert [] == keep(file, message("a"), message("é", b"\0\xff", 0), message("gone"), message("a", b"2", 2))
    assert [message("é", b"\0\xff", 0), message("gone"), message("a", b"2", 2)] == keep(file, message("gone", b""))
    assert [message("é", b"\0\xff", 0), message("a", b"2", 2)] == keep(file, message("é", b"3"), message("never", b""))
    assert [message("a", b"2", 2), message("é", b"3")] == keep(file)


def test_the_number_of_a_save_is_told_when_it_is_on_the_disk(tmp_path: Path) -> None:
    """Another process sees it then."""
    file = tmp_path / "retained.sqlite"
    seen: list[tuple[int, int]] = []

    def saved(number: int) -> None:
        with contextlib.closing(sqlite3.connect(file)) as other:
            seen.append((number, other.execute("SELECT count(*) FROM retained").fetchone()[0]))

    store = RetainedStore(file)
    store.open(saved)
    numbers = [store.put(message(f"t/{number}")) for number in range(1000)]
    store.close()

    assert list(range(1, 1001)) == numbers
    assert 1000 == seen[-1][0]
    assert all(number <= count for number, count in seen)


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_damaged_file_is_set_aside(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """In one line; what comes is kept in a new one."""
    file = tmp_path / "retained.sqlite"
    file.write_bytes(content)
    assert [] == keep(file, message("a"))
    assert [message("a")] == keep(file)
    assert content == (tmp_path / "retained.sqlite.damaged").read_bytes()
    (record,) = caplog.records
    assert "is damaged, set aside as retained.sqlite.damaged" in record.getMessage()


def test_a_damaged_row_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also when SQLite finds no fault with it."""
    file = tmp_path / "retained.sqlite"
    keep(file, message("a"))
    with contextlib.closing(sqlite3.connect(file)) as other, other:
        other.execute("UPDATE retained SET qos = 7")

    assert [] == keep(file)
    assert "is damaged" in caplog.text


def test_a_file_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it; once it can be written, it holds all that was published, and nothing older."""
    monkeypatch.setattr("bus.store._RETRY", 0.01)
    caplog.set_level(logging.INFO)
    directory = tmp_path / "later"
    file = directory / "retained.sqlite"
    saved = threading.Semaphore(0)
    store = RetainedStore(file)
    assert [] == store.open(lambda _: saved.release())
    for number in range(20):
        store.put(message(f"t/{number % 3}", b"%d" % number))
        assert saved.acquire(timeout=DEADLINE)
    assert store.failing
    (record,) = caplog.records
    assert f"cannot be saved in {file}" in record.getMessage()

    directory.mkdir()
    store.close()
    assert "retained messages are saved again" in caplog.records[-1].getMessage()
    assert [message(f"t/{number % 3}", b"%d" % number) for number in (17, 18, 19)] == keep(file)


def test_a_store_that_fails_does_not_stop_the_bus(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is published is acknowledged and retained, in memory."""

    async def scenario() -> None:
        async with EmbeddedBroker(listeners=LOOPBACK, store=RetainedStore(tmp_path / "none/retained")) as broker:
            client = await RawClient.join(broker.ports[0] or 0)
            await client.send(publish("a", b"x", qos=1, retain=True))
            await client.read(PUBACK)
            await client.send(subscribe("a"))
            await client.read(SUBACK)
            assert b"x" == (await client.read(PUBLISH)).payload
            await client.leave()

    asyncio.run(scenario())
    assert 1 == len(caplog.records)


class SlowStore(RetainedStore):
    """Saves when it is told to."""

    def __init__(self) -> None:
        self._number = 0

    def open(self, saved: Callable[[int], None]) -> list[Publish]:
        self.saved = saved
        return []

    def put(self, message: Publish) -> int:
        self._number += 1
        return self._number

    def close(self) -> None:
        pass


def test_retained_messages_are_acknowledged_once_they_are_saved() -> None:
    """Those after them wait too, since acknowledgements come in order; other clients do not wait."""
    store = SlowStore()

    async def scenario() -> None:
        async with EmbeddedBroker(listeners=LOOPBACK, store=store) as broker:
            one, two = [await RawClient.join(broker.ports[0] or 0) for _ in range(2)]
            kept = publish("a", b"1", qos=1, retain=True), publish("b", b"2", qos=2, retain=True, packet_id=2)
            await one.send(*kept, publish("c", b"3", qos=1, packet_id=3))
            assert [] == await one.received_until_pong()
            await two.send(publish("c", b"4", qos=1), publish("", b""))
            assert (PUBACK, b"\0\1") == ((first := await two.read()).kind, first.body)
            store.saved(1)
            assert (PUBACK, b"\0\1") == ((first := await one.read()).kind, first.body)
            assert [] == await one.received_until_pong()
            store.saved(2)
            assert [(PUBREC, b"\0\2"), (PUBACK, b"\0\3")] == [
                ((each := await one.read()).kind, each.body) for _ in range(2)
            ]
            await one.send(publish("c", b"5", qos=1, packet_id=4))
            assert (PUBACK, b"\0\4") == ((last := await one.read()).kind, last.body)
            await RawClient.cut_all()

    asyncio.run(scenario())


def test_who_does_not_wait_for_acknowledgements_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs fills no memory: reading from the client stops."""
    monkeypatch.setattr("bus.connection._MAX_UNSAVED", 32)
    store = SlowStore()

    async def scenario() -> None:
        async with EmbeddedBroker(listeners=LOOPBACK, store=store) as broker:
            client = await RawClient.join(broker.ports[0] or 0)
            await client.send(*[publish("a", b"x", qos=1, retain=True, packet_id=each) for each in range(1, 201)])
            await until(lambda: store._number >= 32)
            for _ in range(50):
                await asyncio.sleep(0)
            assert 48 >= store._number
            while store._number < 200:
                store.saved(store._number)
                await asyncio.sleep(0)
            store.saved(200)
            assert [each.to_bytes(2, "big") for each in range(1, 201)] == [
                (await client.read(PUBACK)).body for _ in range(200)
            ]
            await client.leave()

    asyncio.run(scenario())


@contextlib.asynccontextmanager
async def killed_broker(file: Path) -> AsyncIterator[int]:
    """A broker in a process of its own, its port; killed with SIGKILL at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BROKER, str(file), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await asyncio.wait_for(process.stdout.readline(), DEADLINE))
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await RawClient.cut_all()


async def acknowledged_until_killed(port: int, numbers: range, acks: int) -> int:
    """Publish all numbers without waiting, on 50 topics; the last one that was acknowledged, of so many."""
    client = await RawClient.join(port)
    await client.send(
        *(
            publish(f"t/{number % 50}", b"%d" % number, qos=1, retain=True, packet_id=1 + number % 0xFFFF)
            for number in numbers
        )
    )
    for number in numbers[:acks]:
        assert (1 + number % 0xFFFF).to_bytes(2, "big") == (await client.read(PUBACK)).body
    return numbers[acks - 1]


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """Killed in the midst of writing, again and again: the file is whole, and in the order of publication."""
    file = tmp_path / "retained.sqlite"
    dice = random.Random(4)

    async def rounds() -> None:
        for number in range(5):
            numbers = range(number * 3000, (number + 1) * 3000)
            async with killed_broker(file) as port:
                last = await acknowledged_until_killed(port, numbers, acks=dice.randrange(1, 3000))
            kept = [int(each.payload) for each in await asyncio.to_thread(keep, file)]
            assert sorted(kept) == kept
            assert kept[-1] >= last
            # Of each topic that was acknowledged, the last word or a later one.
            by_topic = {each % 50: each for each in kept}
            assert all(by_topic[each % 50] >= each for each in range(max(numbers[0], last - 49), last + 1))

        async with killed_broker(file) as port:
            client = await RawClient.join(port)
            await client.send(subscribe("t/+"))
            await client.read(SUBACK)
            assert kept == [int((await client.read(PUBLISH)).payload) for _ in kept]

    asyncio.run(rounds())


def test_the_order_of_a_hundred_thousand_roots_survives(tmp_path: Path) -> None:
    """As many as an organisation may have, and each with a daemon: they fit, and come back as they were."""
    file = tmp_path / "retained.sqlite"
    topics = [f"caterva2/{kind}/{number}" for number in range(50_000) for kind in ("root", "service/publisher")]
    random.Random(4).shuffle(topics)
    keep(file, *map(message, topics))

    async def scenario() -> None:
        async with EmbeddedBroker(store=RetainedStore(file)) as broker:
            assert topics == list(broker.retained)

    asyncio.run(scenario())
