"""caterva2.client.watching: following along with a subscriber that comes, goes, and tells strange things."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

import caterva2
from caterva2.client import Client
from caterva2.client.answers import Currency, ServerEvent, read_events
from caterva2.errors import AuthenticationError, BadGatewayError, BadRequestError, NotFoundError
from tests.support.waiting import wait_until
from tests.unit.client.subscriber import FakeSubscriber

ODD = "ü\u2028\x85"
EVENTS = "GET /api/events"


def change(path: str, **more: Any) -> str:
    """The JSON of a change."""
    told = {"root": "foo", "type": "modified", "path": path, "kind": "file", "etag": "v", "nbytes": 1, "time": 2.0}
    return json.dumps(told | more)


def stream(*pieces: str, lasts: bool = False) -> Response:
    """A stream of events that then ends, or lasts for a while."""

    async def body() -> AsyncIterator[bytes]:
        import asyncio

        for piece in pieces:
            yield piece.encode()
        if lasts:
            await asyncio.sleep(30)

    return StreamingResponse(body(), media_type="text/event-stream")


@pytest.fixture
def client(subscriber: FakeSubscriber) -> Iterator[Client]:
    """A client of the subscriber, which is closed at the end."""
    subscriber.put("foo/a.txt", b"text")
    with Client(subscriber.url) as client:
        yield client


def test_changes_come_as_objects(subscriber: FakeSubscriber, client: Client) -> None:
    """Each event becomes a frozen `Change`; what is not understood is left out."""
    subscriber.raw[EVENTS] = [
        stream(
            "retry: 5\nid: i-1\n\n",
            f"id: i-2\nevent: change\ndata: {change('a.txt', more='unknown')}\n\n",
            "event: news\ndata: of the future\n\nevent: change\ndata: {}\n\n: comment\n\n",
            f"id: i-3\r\nevent: change\r\ndata: {change(ODD)}\r\n\r\n",
            lasts=True,
        )
    ]
    with client.watch("foo") as changes:
        first, second = next(changes), next(changes)

    assert caterva2.Change("modified", "foo", "a.txt", "file", "v", 1, 0.0, 2.0) == first
    assert ODD == second.path
    with pytest.raises(AttributeError):
        first.path = "b"  # type: ignore[misc]


def test_a_broken_connection_is_resumed(subscriber: FakeSubscriber, client: Client) -> None:
    """After a break the client asks for what came after its last event, again and again."""
    busy = JSONResponse({"detail": "not now"}, 503)
    subscriber.raw[EVENTS] = [
        stream("id: i-1\n\n", f"id: i-2\nevent: change\ndata: {change('a')}\n\n"),
        busy,
        JSONResponse({"detail": "foo not known by the broker"}, 404),
        stream(f"id: i-3\nevent: change\ndata: {change('b')}\n\n"),
        stream("id: i-9\nevent: reset\ndata: {}\n\n", lasts=True),
    ]
    with client.watch("foo", timeout=20) as changes:
        seen = [next(changes) for _ in range(3)]
        wait_until(lambda: len(subscriber.headers) == 5, "the last request")

    assert [("modified", "a"), ("modified", "b"), ("reset", "")] == [(each.type, each.path) for each in seen]
    assert [None, "i-2", "i-2", "i-2", "i-3"] == [headers.get("last-event-id") for headers in subscriber.headers]


def test_without_an_id_a_break_is_a_reset(subscriber: FakeSubscriber, client: Client) -> None:
    """A first attempt that fails, or a stream without ids, leaves a gap, which is told."""
    subscriber.raw[EVENTS] = [JSONResponse({"detail": "not now"}, 503), stream("id: i-1\n\n", lasts=True)]
    with client.watch("foo", timeout=20) as changes:
        assert "reset" == next(changes).type


@pytest.mark.parametrize(("status", "kind"), [(400, BadRequestError), (401, AuthenticationError), (404, NotFoundError)])
def test_what_no_patience_helps_with_is_raised(
    subscriber: FakeSubscriber, client: Client, status: int, kind: type[Exception]
) -> None:
    """A refusal at the start is raised by `watch`; a later one by the iteration."""
    subscriber.raw[EVENTS] = [JSONResponse({"detail": "no"}, status)]
    with pytest.raises(kind, match=r"^no$"):
        client.watch("foo")
    subscriber.raw[EVENTS] = [stream("id: i-1\n\n"), JSONResponse({"detail": "not any more"}, 403)]
    with client.watch("foo", timeout=20) as changes, pytest.raises(caterva2.ForbiddenError, match="not any more"):
        next(changes)


@pytest.mark.parametrize("end", [lambda c, w: w.close(), lambda c, w: c.close()], ids=["watch", "client"])
def test_closing_ends_a_wait(
    subscriber: FakeSubscriber, client: Client, end: Callable[[Client, caterva2.Watch], None]
) -> None:
    """`close`, of the watch or of the client, ends an iteration that waits in another thread."""
    subscriber.raw[EVENTS] = [stream("id: i-1\n\n", lasts=True)]
    changes = client.watch("foo")
    timer = threading.Timer(0.1, end, [client, changes])
    timer.start()
    began = time.monotonic()

    assert [] == list(changes)
    assert changes.closed
    assert time.monotonic() - began < 5
    timer.join()
    wait_until(lambda: not any(t.name == "watching foo" for t in threading.enumerate()), "the end of the thread")


def test_a_forgotten_watch_ends(subscriber: FakeSubscriber, client: Client) -> None:
    """A watch that nobody holds any more leaves no thread and no connection behind."""
    subscriber.raw[EVENTS] = [stream("id: i-1\n\n", lasts=True)]
    changes = client.watch("foo")
    assert changes.wait(0.05) is None
    del changes
    gc.collect()

    wait_until(lambda: not any(t.name == "watching foo" for t in threading.enumerate()), "the end of the thread")


def test_a_program_that_does_not_ask_makes_the_subscriber_wait(subscriber: FakeSubscriber, client: Client) -> None:
    """Only so many changes are held; all of them are there when they are asked for."""
    events = [f"id: i-{n}\nevent: change\ndata: {change(str(n))}\n\n" for n in range(5000)]
    subscriber.raw[EVENTS] = [stream(*events, lasts=True)]
    with client.watch("foo", timeout=20) as changes:
        wait_until(lambda: len(changes._feed._held) == 1000, "as many as are held")
        assert [str(n) for n in range(5000)] == [next(changes).path for _ in range(5000)]


def test_lines_without_end_are_given_up() -> None:
    """What sends no line ends is no subscriber, and does not fill the memory."""
    with pytest.raises(BadGatewayError):
        list(read_events([b"x" * 70_000] * 100))


def test_events_in_any_pieces() -> None:
    """However a stream is cut into pieces, the events are the same."""
    text = "id: 1\nevent: change\ndata: ü\n\nid: 2\n\n: x\n\nevent: reset\ndata:{}\n\nid: 3".encode()
    expected = [ServerEvent("change", "1", "ü"), ServerEvent("", "2", ""), ServerEvent("reset", "", "{}")]

    for size in (1, 2, 3, 7, 1000):
        assert expected == list(read_events(text[i : i + size] for i in range(0, len(text), size)))


@pytest.mark.parametrize(
    ("status", "age", "expected"),
    [
        ("", "", Currency()),
        ("nginx; hit", "7", Currency()),
        ("caterva2; hit", "", Currency("live")),
        ("caterva2; fwd=miss; stored; detail=revalidated", "9", Currency("revalidated")),
        ("caterva2; fwd=stale; fwd-status=503", "12", Currency("stale", 12)),
        ("caterva2; fwd=stale", "soon", Currency("stale")),
    ],
)
def test_how_current_an_answer_is(status: str, age: str, expected: Currency) -> None:
    """`Cache-Status` and `Age` tell it; anything else tells nothing."""
    assert expected == Currency.of(status, age)


def test_the_state_of_a_root_is_asked_for(client: Client) -> None:
    """`status`, `freshness` and `age` are what the subscriber says now."""
    root = client.get("foo")
    assert isinstance(root, caterva2.Root)

    assert ("online", "stale", 7) == (root.status, root.freshness, root.age)
