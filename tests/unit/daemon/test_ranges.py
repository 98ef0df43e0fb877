"""caterva2.daemon.ranges: byte ranges as RFC 9110 means them."""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.http import error_handlers
from caterva2.daemon.ranges import file_response, parse_ranges
from caterva2.errors import RangeError

CONTENT = bytes(range(256)) * 4


# -- the header -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-0", [range(1)]),
        ("bytes=0-499", [range(500)]),
        ("bytes=500-", [range(500, 1000)]),
        ("bytes=-500", [range(500, 1000)]),
        ("bytes=-5000", [range(1000)]),
        ("bytes=990-5000", [range(990, 1000)]),
        ("bytes=0-99999999999999999999"[:25], [range(1000)]),
        ("BYTES = 1-2", [range(1, 3)]),
        ("bytes=0-0,-1", [range(1), range(999, 1000)]),
        ("bytes= 5-6 , 0-1,4-4", [range(5, 7), range(2), range(4, 5)]),
        ("bytes=0-1,2000-", [range(2)]),
    ],
)
def test_ranges_are_read(header: str, spans: list[range]) -> None:
    """First-last, open, suffix and several ranges mean what RFC 9110 says; what lies outside is left out."""
    assert spans == parse_ranges(header, 1000)


@pytest.mark.parametrize(
    "header",
    [
        None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=5-2", "bytes=1-2-3", "bytes=--1",
        "bytes=0-1,x", "bytes=0-1,5-2", "items=0-1", "bytes 0-1", "bytes=0x1-2", "bytes=1.5-2", "bytes=" + "9" * 20,
        "bytes=" + ",".join("0-0" for _ in range(65)), "\xff=1-2", "bytes=+1-2", "bytes=0 -1",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_ignored(header: str | None) -> None:
    """Another unit, an invalid range, or too many of them: the whole is sent."""
    assert parse_ranges(header, 1000) is None


@pytest.mark.parametrize(
    ("header", "length"),
    [("bytes=1000-", 1000), ("bytes=-0", 1000), ("bytes=1000-2000,5000-", 1000), ("bytes=0-", 0), ("bytes=-1", 0)],
)
def test_no_range_within_the_file_is_an_error(header: str, length: int) -> None:
    """Ranges that all lie outside are a RangeError that knows the length."""
    with pytest.raises(RangeError) as caught:
        parse_ranges(header, length)

    assert length == caught.value.length


@given(st.text("bytes=0123456789-, ", max_size=25).map(lambda text: f"bytes={text}"), st.integers(0, 50))
def test_every_range_found_lies_within_the_file(header: str, length: int) -> None:
    """Whatever is asked for, what is answered are non-empty ranges of the file."""
    try:
        spans = parse_ranges(header, length)
    except RangeError:
        return

    assert all(0 <= span.start < span.stop <= length for span in spans or [])


# -- the answer -------------------------------------------------------------------------------------------


async def _file(request: Request) -> Response:
    async def stream(start: int, stop: int) -> AsyncIterator[bytes]:
        for at in range(start, stop, 100):
            yield CONTENT[at : min(at + 100, stop)]

    return file_response(request, stream, len(CONTENT), "e1", {"X-More": "1"}, "image/png")


def ask(headers: dict[str, str] | None = None, method: str = "GET") -> httpx.Response:
    """Ask for the file."""
    app = Starlette(routes=[Route("/", _file)], exception_handlers=error_handlers())

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", trust_env=False) as client:
            return await client.request(method, "/", headers=headers)

    return asyncio.run(asked())


def test_the_whole_is_sent_with_its_length_and_version() -> None:
    """Without a range the answer is 200 with the length, and says that ranges are possible."""
    answer = ask()

    assert (200, CONTENT) == (answer.status_code, answer.content)
    names = ("etag", "content-length", "accept-ranges", "content-type", "x-more")
    assert ['"e1"', "1024", "bytes", "image/png", "1"] == [answer.headers[name] for name in names]


@pytest.mark.parametrize(
    ("header", "start", "stop"), [("bytes=10-19", 10, 20), ("bytes=-3", 1021, 1024), ("bytes=1000-9999", 1000, 1024)]
)
def test_one_range_is_a_part_that_says_where_it_is(header: str, start: int, stop: int) -> None:
    """One range is answered with 206, Content-Range and just these bytes."""
    answer = ask({"Range": header})

    assert (206, CONTENT[start:stop]) == (answer.status_code, answer.content)
    assert (f"bytes {start}-{stop - 1}/1024", str(stop - start)) == (
        answer.headers["content-range"],
        answer.headers["content-length"],
    )


def test_several_ranges_are_a_multipart() -> None:
    """Several ranges are answered in the order asked, as multipart/byteranges of exactly the stated length."""
    answer = ask({"Range": "bytes=500-749, 0-0, -2"})
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode("latin-1")
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)

    assert (206, str(len(answer.content))) == (answer.status_code, answer.headers["content-length"])
    assert [
        ("image/png", "bytes 500-749/1024", CONTENT[500:750]),
        ("image/png", "bytes 0-0/1024", CONTENT[:1]),
        ("image/png", "bytes 1022-1023/1024", CONTENT[-2:]),
    ] == [
        (part.get_content_type(), part["Content-Range"], part.get_payload(decode=True)) for part in message.iter_parts()
    ]
    assert "content-range" not in answer.headers


def test_the_multipart_body_is_exact() -> None:
    """Delimiters, part headers and blank lines are where RFC 2046 wants them."""
    answer = ask({"Range": "bytes=0-1,65-66"})
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()

    assert (
        b"--%b\r\nContent-Type: image/png\r\nContent-Range: bytes 0-1/1024\r\n\r\n\x00\x01\r\n"
        b"--%b\r\nContent-Type: image/png\r\nContent-Range: bytes 65-66/1024\r\n\r\nAB\r\n--%b--\r\n"
    ) % (boundary, boundary, boundary) == answer.content


def test_no_satisfiable_range_is_416() -> None:
    """Outside of the file the answer is 416 with the length, so that the client can ask better."""
    answer = ask({"Range": "bytes=1024-"})

    assert (416, "bytes */1024") == (answer.status_code, answer.headers["content-range"])
    assert "1024 bytes" in answer.json()["detail"]


@pytest.mark.parametrize("header", ["lines=1-2", "bytes=x", "bytes=9-1", "nonsense"])
def test_a_senseless_range_gets_the_whole(header: str) -> None:
    """What is no range of bytes is ignored."""
    answer = ask({"Range": header})

    assert (200, len(CONTENT)) == (answer.status_code, len(answer.content))


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"e1"', 206), ('"e2"', 200), ('W/"e1"', 200), ("Tue, 01 Jan 2030 00:00:00 GMT", 200), ("e1", 200), ('""', 200)],
)
def test_if_range_asks_for_a_part_of_one_version_only(condition: str, status: int) -> None:
    """With another version, a weak tag or a date in If-Range, the whole is sent."""
    answer = ask({"Range": "bytes=0-9", "If-Range": condition})

    assert status == answer.status_code
    assert CONTENT[: 10 if status == 206 else None] == answer.content


def test_a_known_version_is_not_sent_again() -> None:
    """If-None-Match is looked at before the range."""
    answer = ask({"Range": "bytes=0-9", "If-None-Match": 'W/"x", "e1"'})

    assert (304, b"", '"e1"') == (answer.status_code, answer.content, answer.headers["etag"])


@pytest.mark.parametrize("header", ["bytes=0-9", "bytes=5000-", "bytes=0-1,4-5"])
def test_head_says_what_a_get_of_the_whole_would(header: str) -> None:
    """A HEAD has the headers of the whole and no body; a range means nothing to it."""
    answer = ask(method="HEAD", headers={"Range": header})

    assert (200, "1024", b"") == (answer.status_code, answer.headers["content-length"], answer.content)


def test_ranges_that_overlap_beyond_the_file_are_ignored() -> None:
    """Ranges that together have more bytes than the file are answered with the whole of it, once."""
    assert parse_ranges("bytes=0-,0-", 10) is None
