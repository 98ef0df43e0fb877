"""caterva2.subscriber.events: what clients that follow along are told, however they read."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from caterva2.client.answers import ServerEvent, read_events
from caterva2.models import DatasetEntry
from caterva2.paths import RootName
from caterva2.subscriber.callers import ANONYMOUS, Caller
from caterva2.subscriber.catalog import DatasetChange, TellChanges, TellRoot
from caterva2.subscriber.events import Event, EventLog, Wanted, stream

FOO = RootName("foo")
Type = Literal["created", "modified", "deleted"]


def changed(*paths: str, kind: Type = "modified", root: str = FOO) -> TellChanges:
    """Changes of some datasets, as the catalog tells them."""
    entries = [DatasetEntry(path=path, kind="file", etag="v", nbytes=3, mtime=0.5) for path in paths]
    return TellChanges(RootName(root), tuple(DatasetChange(kind, entry) for entry in entries))


async def read(pieces: AsyncIterator[bytes], count: int) -> list[ServerEvent]:
    """The next events of a stream, without those that only give an id."""
    events: list[ServerEvent] = []
    async with asyncio.timeout(10):
        while len(events) < count:
            events += [event for event in read_events([await anext(pieces)]) if event.name]
    return events


def paths(events: list[ServerEvent]) -> list[str]:
    """The datasets that events are about."""
    return [json.loads(event.data)["path"] for event in events]


def test_what_is_added_is_told() -> None:
    """A client is told what happens from its request on, in order, with ascending ids."""

    async def main() -> None:
        log = EventLog()
        log.add(changed("before"))
        pieces = stream(log, Wanted(), None)
        log.add(changed("a", "b"))
        log.add(TellRoot(FOO, online=False))
        log.add(changed("c", kind="deleted"))
        events = await read(pieces, 4)

        assert ["change", "change", "root", "change"] == [event.name for event in events]
        assert [log.id(n) for n in (2, 3, 4, 5)] == [event.id for event in events]
        assert {"name": "foo", "status": "offline"}.items() <= json.loads(events[2].data).items()
        gone = {"type": "deleted", "path": "c", "kind": "file", "etag": None, "nbytes": 0, "mtime": 0.0, "root": "foo"}
        assert gone.items() <= json.loads(events[3].data).items()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), ["d/a", "d", "da", "e", "d/a"]),
        (Wanted("foo"), ["d/a", "d", "da", "e"]),
        (Wanted("foo", "d"), ["d/a", "d"]),
        (Wanted("foo", "d/a"), ["d/a"]),
        (Wanted("bar", "d/a"), ["d/a"]),
    ],
)
def test_only_what_is_wanted_is_told(wanted: Wanted, expected: list[str]) -> None:
    """A root, a directory or a file of it can be asked for."""

    async def main() -> None:
        log = EventLog()
        pieces = stream(log, wanted, None)
        log.add(changed("d/a", "d", "da", "e"))
        log.add(changed("d/a", root="bar"))

        assert expected == paths(await read(pieces, len(expected)))

    asyncio.run(main())


@pytest.mark.parametrize("count", [5, 20, 45])
def test_a_client_resumes_where_it_was(count: int) -> None:
    """As long as the log has what came after a client's last event, nothing is left out; beyond it there is a reset."""

    async def main() -> None:
        log = EventLog(kept=20)
        log.add(changed("first"))
        for n in range(count):
            log.add(changed(str(n)))
        if count <= 20:
            assert [str(n) for n in range(count)] == paths(await read(stream(log, Wanted(), log.id(1)), count))
        else:
            reset = (await read(stream(log, Wanted("foo"), log.id(1)), 1))[0]
            assert ("reset", log.id(log.last), "foo") == (reset.name, reset.id, json.loads(reset.data)["root"])
        assert ["19"] == paths(await read(stream(log, Wanted("foo", "19"), log.id(1)), 1)) if count == 20 else True

    asyncio.run(main())


@pytest.mark.parametrize(
    "last_id", ["", "x", "-", "-1", "x-1", "{}", "{}-", "{}-x", "{}-3", "{}--1", "{}-1" + "0" * 99]
)
def test_an_unknown_id_is_answered_with_a_reset(last_id: str) -> None:
    """An id of an earlier run, of the future, or of nobody tells that the client must look afresh."""

    async def main() -> None:
        log = EventLog()
        log.add(changed("a", "b"))
        events = await read(stream(log, Wanted(), last_id.format(log.id(0).rpartition("-")[0])), 1)

        assert ["reset"] == [event.name for event in events]

    asyncio.run(main())


def test_a_client_that_is_left_behind_is_cut_off() -> None:
    """A client that does not read costs nothing, and its stream ends when the log has forgotten what comes next."""

    async def main() -> None:
        log = EventLog(kept=10)
        pieces = stream(log, Wanted(), None)
        await anext(pieces)
        for n in range(1000):
            log.add(changed(str(n)))

        assert [] == [piece async for piece in pieces]
        assert 1000 == log.last
        assert len(log._events) <= 20

    asyncio.run(main())


def test_a_bulk_of_changes_leaves_the_latest() -> None:
    """Of more changes at once than are kept the latest stay, and the numbers count all."""

    async def main() -> None:
        log = EventLog(kept=10)
        log.add(changed("x"))
        log.add(changed(*map(str, range(100))))

        assert 101 == log.last
        assert [str(n) for n in range(90, 100)] == paths(await read(stream(log, Wanted(), log.id(91)), 10))
        assert ["reset"] == [event.name for event in await read(stream(log, Wanted(), log.id(90)), 1)]

    asyncio.run(main())


def test_a_silent_stream_shows_signs_of_life() -> None:
    """Where nothing happens that a client wants, a comment comes now and then, with the id up to which it is told."""

    async def main() -> None:
        log = EventLog(heartbeat=0.05)
        pieces = stream(log, Wanted("foo", "a"), None)
        await anext(pieces)
        log.add(changed(*("b" * n for n in range(1, 500))))
        async with asyncio.timeout(10):
            while (sign := await anext(pieces)) != f": still here\nid: {log.id(499)}\n\n".encode():
                assert sign.startswith(b": still here")

    asyncio.run(main())


@pytest.mark.parametrize("waiting", [True, False])
def test_closing_ends_all_streams(waiting: bool) -> None:  # noqa: FBT001
    """Streams end at once, whether they wait or have more to tell."""

    async def main() -> None:
        log = EventLog()
        pieces = stream(log, Wanted(), None)
        await anext(pieces)
        if waiting:
            left: Any = asyncio.ensure_future(anext(pieces, None))
            await asyncio.sleep(0)
            log.close()
            assert await asyncio.wait_for(left, 5) is None
        else:
            log.add(changed("a"))
            log.close()
            assert [] == [piece async for piece in pieces]

    asyncio.run(main())


def test_changes_of_own_roots_are_told_to_who_has_them() -> None:
    """A user hears of @public, @shared and of its own @personal; others do not hear of the latter two."""
    ann, bob = Caller("a"), Caller("b")
    change = DatasetChange("created", DatasetEntry(path="x", kind="file", etag="1", nbytes=1, mtime=1.0))
    events = [
        Event(root, change, online=True, time=1.0, owner=owner)
        for root, owner in (("@public", ""), ("@shared", ""), ("@personal", "a"))
    ]

    heard = {who.id: [e.root for e in events if Wanted(caller=who).covers(e)] for who in (ANONYMOUS, ann, bob)}
    assert {"": ["@public"], "a": ["@public", "@shared", "@personal"], "b": ["@public", "@shared"]} == heard
    assert not Wanted("@personal", "x", bob).covers(events[2])
