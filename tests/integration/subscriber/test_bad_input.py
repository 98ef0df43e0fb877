"""Bad input from clients, from files in a root and from the bus: a clear 4xx or a dropped message, and no harm."""

import contextlib
import json
import logging
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import blosc2
import httpx
import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.integration.chain.daemons import ROOT, Chain, running_chain
from tests.support.bus import on_mosquitto
from tests.support.expressions import ATTACKS
from tests.support.mosquitto import PASSWORDS
from tests.support.waiting import wait_until

VALUES = np.arange(4000, dtype="i4").reshape(80, 50)
CALLS = ["info", "fetch", "chunk", "download", "list"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain for the whole module, with one good array."""
    with running_chain(tmp_path_factory.mktemp("bad")) as chain:
        write(chain.root / "ds.b2nd")
        (chain.root / "dir").mkdir()
        (chain.root / "text.txt").write_bytes(b"0123456789")
        chain.client.subscribe(ROOT)
        yield chain


@pytest.fixture
def chain(served: Chain, caplog: pytest.LogCaptureFixture) -> Iterator[Chain]:
    """The chain; after the test all daemons are well, and have logged no traceback."""
    with caplog.at_level(logging.WARNING):
        yield served
        served.assert_well()

    assert [] == [record.getMessage() for record in caplog.records if record.exc_info]


def write(file: Path, values: Any = VALUES, **storage: Any) -> bytes:
    """Write an array over the file of that name, and return the file's bytes."""
    part = file.with_name(".part")
    array = blosc2.asarray(values, chunks=(16, 16), blocks=(8, 8), urlpath=str(part), mode="w", **storage)
    del array
    part.replace(file)
    return file.read_bytes()


def assert_refused(answer: httpx.Response, *statuses: int) -> str:
    """Assert that an answer is a 4xx with a detail in one line; return that."""
    assert answer.status_code in (statuses or range(400, 500)), (answer.status_code, answer.text)
    assert ["detail"] == list(answer.json())
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    assert detail
    assert "\n" not in detail
    assert len(detail) < 500
    return detail


def raw(chain: Chain, request: bytes, *, hang_up: bool = False) -> tuple[int, bytes]:
    """Send bytes to the subscriber; return the status and the answer, (0, b"") for none."""
    parts = urlsplit(chain.subscriber.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        connection.sendall(request)
        if hang_up:
            with contextlib.suppress(OSError):  # it may have hung up itself
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    return (int(answer.split(b" ", 2)[1]), answer) if answer else (0, b"")


def target(chain: Chain, path: str, call: str = "fetch") -> tuple[int, bytes]:
    """`GET` a path exactly as it is written, which HTTP clients would normalise."""
    return raw(chain, f"GET /api/{call}/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())


# -- paths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "foo/../../etc/passwd",
        "foo/%2e%2e/%2e%2e/etc/passwd",
        "foo/..%2f..%2fetc%2fpasswd",
        "foo/%252e%252e/secret",
        "foo//etc/passwd",
        "foo/%2fetc%2fpasswd",
        "/etc/passwd",
        "foo/./ds.b2nd",
        "foo/dir/../ds.b2nd",
        "foo/dir//x",
        "../foo/ds.b2nd",
        "..",
        ".",
        "%00",
        "foo/%00",
        "foo/ds.b2nd%00.txt",
        "foo/" + "x" * 256,
        "foo/" + "%C3%A9" * 128,
        "foo/" + "d/" * 3000 + "x",
        "foo/%ff%fe",
        "foo/%C3%28",
        "foo/%zz",
        "foo/%",
        "foo/%ed%a0%80",
        "x" * 300 + "/ds.b2nd",
        "a%20b/ds.b2nd",
        "@x/ds.b2nd",
        "@public/../x",
        "@public/%2e%2e/catalog.sqlite",
        "@public/nosuch",
        "foo/.part",
        "foo/nosuch",
        "nosuch/ds.b2nd",
        "foo\\ds.b2nd",
    ],
)
def test_refuses_paths_that_are_none(chain: Chain, path: str) -> None:
    """A path that leaves its root, or could be no file's name, is refused; nothing outside of a root is read."""
    for call in CALLS:
        status, answer = target(chain, path + ("?nchunk=0" if call == "chunk" else ""), call)

        assert status in {400, 401, 404}, (call, answer[:300])
        assert b'{"detail":' in answer
        assert b"root:x:0" not in answer
        assert b"SQLite" not in answer


def test_refuses_nothing_but_the_path_itself(chain: Chain) -> None:
    """A name that only looks like an escape is a name."""
    (chain.root / "%2e%2e").write_bytes(b"a name")

    assert b"a name" == chain.client.fetch("foo/%2e%2e")


# -- numbers, slices, bodies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "-1", "20", "99999999999", "9" * 50, "-" + "9" * 50, "x", "1.5", "0x1", "\u0661", "1;2"]
)
@pytest.mark.parametrize("name", ["ds.b2nd", "text.txt"])
def test_refuses_chunks_that_are_none(chain: Chain, name: str, text: str) -> None:
    """A chunk number that is none, or of no chunk, is refused."""
    answer = chain.get(f"chunk/foo/{name}", nchunk=text)

    assert_refused(answer, 400, 404, 416, 422)


@pytest.mark.parametrize(
    "text",
    [
        "80",
        "-81",
        "0, 50",
        "0, 0, 0",
        "abc",
        "1:2:3:4",
        "::0",
        "1.5",
        "1e3",
        "0:10;1",
        "(1, 2)",
        "[1]",
        "...,...",
        ", ,",
        ",,",
        "1 2",
        "9" * 4000,
        "9" * 4400 + ":",
        ",".join("0" * 1000),
        "__import__('os').system('true')",
        "None",
        "True",
        "\x00",
        "\u0661:\u0662",
        "0x10",
        "--1",
        "🙂",
    ],
)
def test_refuses_slices_that_are_none(chain: Chain, text: str) -> None:
    """A slice that cannot be read, or that does not fit the shape, is a 400 which names it."""
    answer = chain.get("fetch/foo/ds.b2nd", slice_=text)

    assert_refused(answer, 400)


@pytest.mark.parametrize("bound", [10**9, 10**18, 2**63])
def test_clips_bounds_as_numpy_does(chain: Chain, bound: int) -> None:
    """However far a slice's bounds lie outside, it selects what is there."""
    answer = chain.get("fetch/foo/ds.b2nd", slice_=f"-{bound}:{bound}:{bound}, {bound}:")

    assert (1, 0) == blosc2.ndarray_from_cframe(answer.content).shape


def test_refuses_slices_that_are_too_large(chain: Chain) -> None:
    """A slice of more than anyone can want is a 413, and nothing of it is computed."""
    part = chain.root / ".huge"
    blosc2.zeros((1 << 20, 1 << 20), "f8", chunks=(1 << 10, 1 << 10), blocks=(64, 64), urlpath=str(part))
    part.replace(chain.root / "huge.b2nd")
    answers = [chain.get("fetch/foo/huge.b2nd", slice_=text) for text in ("1:", "::2, ::2", "::-1", ":, 1:")]

    for answer in answers:
        assert_refused(answer, 413)
    one = chain.get("fetch/foo/huge.b2nd", slice_="1048575, -1")
    assert 0 == blosc2.ndarray_from_cframe(one.content)[()]


def test_refuses_conditions_that_are_attacks(chain: Chain) -> None:
    """Whatever is no expression is a 400 in `filter=`, and the subscriber lives on."""
    for text, _ in ATTACKS:
        if text.strip() and "\ud800" not in text:
            assert_refused(chain.http.post("/api/fetch/foo/ds.b2nd", json={"filter": text}), 400)
            assert_refused(chain.get("fetch/foo/ds.b2nd", filter=text), 400)
    assert_refused(chain.http.post("/api/fetch/foo/ds.b2nd", content=b'{"filter": "a \\ud800"}'), 400)


@pytest.mark.parametrize(
    "query", [{"filter": "a < 1"}, {"sortby": "a"}, {"filter": "a < 1", "sortby": "\x00"}, {"sortby": "\U0001f642"}]
)
def test_refuses_rows_of_what_has_none(chain: Chain, query: dict[str, str]) -> None:
    """Rows of an array without fields, or of a plain file, are a 400."""
    for name in ("ds.b2nd", "text.txt"):
        assert_refused(chain.get(f"fetch/foo/{name}", **query), 400)


@pytest.mark.parametrize("field", ["nosuch", "a" * 5000, "'; drop", "\x00", "🙂"])
def test_refuses_fields_that_are_none(chain: Chain, field: str) -> None:
    """A field that the dtype does not have is a 400."""
    assert_refused(chain.get("fetch/foo/ds.b2nd", field=field), 400)


@pytest.mark.parametrize(
    "indices",
    [
        "",
        "x",
        "{}",
        "[",
        "[[0.5]]",
        '[["x"]]',
        "[[99]]",
        "[[0], [0], [0]]",
        "[[[[[[0]]]]]]",
        "[" * 5000,
        '["::0"]',
        "[true]",
        "[null, null, null]",
        "[[0, 1], [0, 1, 2]]",
        "1e400",
        "[1e400]",
        "NaN",
    ],
)
def test_refuses_indices_that_are_none(chain: Chain, indices: str) -> None:
    """Fancy indices that cannot be read, or do not fit the shape, are a 400."""
    answer = chain.get("fetch/foo/ds.b2nd", indices=indices)

    if answer.status_code != 200:
        assert_refused(answer, 400, 413)


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"{", b"[]", b"null", b"1", b'{"slice_": 1}', b'{"slice_": ["0"]}', b'{"nosuch": 1}', b"\xff\xfe",
     b"[" * 100_000, b'{"indices": "' + b"9" * 100_000 + b'"}', b'{"slice_": "\\ud800"}', b'{"field": {}}',
     b'{"slice_": NaN}'],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
def test_refuses_bodies_that_are_none(chain: Chain, body: bytes) -> None:
    """A body of `POST /api/fetch` that is not what it takes is a 4xx."""
    answer = chain.http.post("/api/fetch/foo/ds.b2nd", content=body)

    assert_refused(answer, 400, 413, 422)


def test_refuses_bodies_that_are_too_large(chain: Chain) -> None:
    """A body that is larger than any sensible one is a 413, whether it says so or not."""
    said = chain.http.post("/api/fetch/foo/ds.b2nd", content=bytes(17 << 20))
    unsaid = chain.http.post("/api/fetch/foo/ds.b2nd", content=iter([bytes(1 << 20)] * 17))

    for answer in (said, unsaid):
        assert_refused(answer, 413)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_refuses_methods_that_are_none(chain: Chain, method: str) -> None:
    """A method that an address does not know is a 405 which names those that it knows."""
    for path in ("roots", "list/foo", "info/foo/ds.b2nd", "fetch/foo/ds.b2nd", "subscribe/foo"):
        answer = chain.http.request(method, f"/api/{path}")

        assert_refused(answer, 405)
        assert "allow" in answer.headers


@pytest.mark.parametrize("path", ["/nosuch", "/api", "/api/", "/api/nosuch", "/api/fetch/", "/%00", "//"])
def test_refuses_addresses_that_are_none(chain: Chain, path: str) -> None:
    """An unknown address is a 404, or a 400 where a root's name is missing."""
    status, answer = raw(chain, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

    assert status in {400, 404}
    assert b'{"detail":' in answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(2000))},
        {"Range": "bytes=a-b"},
        {"Range": "bytes=-"},
        {"Range": "bytes=5-1"},
        {"Range": "bytes=" + "9" * 4000 + "-"},
        {"Range": "\u00ff"},
        {"If-None-Match": '"' * 5000},
        {"If-None-Match": "x" * 60_000},
        {"If-Range": "Wed, 99 Foo 9999"},
        {"Cookie": "c2subauth=" + "x" * 8000},
        {"Accept-Encoding": "\u00e9"},
        {f"X-{n}": "y" * 100 for n in range(200)},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_survives_senseless_headers(chain: Chain, headers: dict[str, str]) -> None:
    """A header that makes no sense is ignored or refused."""
    answer = chain.http.get(
        "/api/fetch/foo/ds.b2nd", headers={key: value.encode("latin-1") for key, value in headers.items()}
    )

    assert answer.status_code in {200, 400, 416, 431}


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00" * 100,
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/roots HTTP/1.1\r\n" + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api/fetch/foo/ds.b2nd HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/fetch/foo/ds.b2nd HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{}",
        b"POST /api/fetch/foo/ds.b2nd HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /api/fetch/foo/\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /api/fetch/foo/ünï HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
    ],
    ids=lambda request: repr(request[:30]),
)
def test_survives_what_is_no_http(chain: Chain, request_: bytes) -> None:
    """Bytes that are no request are refused, or the connection ends."""
    status, _ = raw(chain, request_, hang_up=True)

    assert status < 500


# -- files in a root --------------------------------------------------------------------------------------


def damaged_frames() -> dict[str, bytes]:
    """Files named as frames that are none, or no sound ones."""
    good = blosc2.asarray(VALUES, chunks=(16, 16), blocks=(8, 8), contiguous=True).to_cframe()
    objects = bytearray(blosc2.asarray(np.arange(64), chunks=(8,), blocks=(8,), contiguous=True).to_cframe())
    at = bytes(objects).index(b"<i8")
    objects[at : at + 3] = b"|O8"
    rng = random.Random(4)
    frames = {
        "empty": b"",
        "text": b"this is a text file\n" * 100,
        "zeros": bytes(5000),
        "object": bytes(objects),
        "header-only": good[:100],
        "half": good[: len(good) // 2],
        "all-but-one": good[:-1],
        "length": good[:16] + struct.pack(">q", 1 << 60) + good[24:],
        "nbytes": good[:30] + struct.pack(">q", 1 << 62) + good[38:],
        "negative": good[:39] + struct.pack(">q", -5) + good[47:],
        "chunksize": good[:58] + struct.pack(">i", 0) + good[62:],
        "noise": good[:200] + rng.randbytes(len(good) - 200),
        "tail": good[:-300] + rng.randbytes(300),
    }
    for n in range(40):
        frame = bytearray(good)
        frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        frames[f"bit-{n}"] = bytes(frame)
    return frames


def test_damaged_frames_harm_nothing_else(chain: Chain) -> None:
    """What is named as a frame and is none is listed; reading it is a 4xx, or at most wrong values of itself."""
    frames = damaged_frames()
    for name, frame in frames.items():
        (chain.root / f"bad-{name}.b2nd").write_bytes(frame)
    names = {f"bad-{name}.b2nd" for name in frames}
    wait_until(lambda: names <= set(chain.client.get_list(ROOT)), "the list of the damaged frames")

    for name in sorted(names):
        for path in (f"info/foo/{name}", f"fetch/foo/{name}?slice_=3:60, 5", f"fetch/foo/{name}",
                     f"download/foo/{name}", f"chunk/foo/{name}?nchunk=1"):  # fmt: skip
            try:
                answer = chain.http.get(f"/api/{path}")
            except httpx.RemoteProtocolError:
                continue  # damage in the middle of a stream cuts it
            if answer.status_code != 200:
                assert_refused(answer)
    for name in ("empty", "text", "zeros", "object", "header-only", "half", "all-but-one", "noise"):
        detail = assert_refused(chain.get(f"fetch/foo/bad-{name}.b2nd", slice_="0"), 422)
        assert f"bad-{name}.b2nd" in detail or "frame" in detail or "dtype" in detail


def test_directories_named_as_frames_are_directories(chain: Chain) -> None:
    """A directory named `x.b2nd` that holds no frame is a directory with files."""
    (chain.root / "x.b2nd").mkdir()
    (chain.root / "x.b2nd" / "inner.txt").write_bytes(b"inner")

    assert b"inner" == chain.client.fetch("foo/x.b2nd/inner.txt")
    assert_refused(chain.get("info/foo/x.b2nd"), 404)


def test_a_damaged_sparse_frame_is_refused(chain: Chain) -> None:
    """A directory whose index is garbage, or whose chunk files are missing, is a 4xx that says so."""
    for name, spoil in (("index", True), ("chunk", False)):
        part = chain.root / ".sparse"
        blosc2.asarray(VALUES, chunks=(16, 16), blocks=(8, 8), urlpath=str(part), contiguous=False)
        if spoil:
            (part / "chunks.b2frame").write_bytes(b"garbage" * 50)
        else:
            (part / "00000003.chunk").unlink()
        part.rename(chain.root / f"sparse-{name}.b2nd")

    assert_refused(chain.get("info/foo/sparse-index.b2nd"), 422)
    assert_refused(chain.get("fetch/foo/sparse-chunk.b2nd", slice_="0:80"), 404, 422)
    np.testing.assert_array_equal(chain.client.fetch("foo/sparse-chunk.b2nd", np.s_[:16, :16]), VALUES[:16, :16])


def test_links_out_of_a_root_are_not_followed(chain: Chain) -> None:
    """A symbolic link that leads out of the root is not there."""
    (chain.directory / "secret.txt").write_bytes(b"secret")
    (chain.root / "link.txt").symlink_to(chain.directory / "secret.txt")
    (chain.root / "linked").symlink_to(chain.directory)

    for path in ("link.txt", "linked/secret.txt"):
        assert_refused(chain.get(f"fetch/foo/{path}"), 404)


# -- the bus ----------------------------------------------------------------------------------------------


def garbage() -> Iterator[tuple[str, bytes, bool]]:
    """Topics, payloads and whether they are retained."""
    change = {"root": "foo", "epoch": "e", "seq": 1, "type": "created", "path": "x", "etag": "1", "nbytes": 1,
              "kind": "array", "time": 0}  # fmt: skip
    root = {"name": "evil", "http": "http://localhost:1", "status": "online", "epoch": "e", "seq": 1, "instance": "i",
            "birth": 0, "kind": "directory", "time": 0, "version": "1", "heartbeat": 30}  # fmt: skip
    payloads = [b"", b"x", b"\x00\xff", b"{}", b"[]", b"null", b"1e999", b"[" * 30_000, b'{"changes": 1}',
                bytes(60_000),
                json.dumps(root | {"http": "::not an address::", "name": "bad-http"}).encode(),
                json.dumps(root | {"name": "../x"}).encode(), json.dumps(root | {"seq": -1}).encode(),
                json.dumps(root | {"heartbeat": "NaN"}).encode(), json.dumps(root | {"seq": 10**40}).encode(),
                json.dumps({"root": "foo", "changes": [change | {"path": "../../x"}]}).encode(),
                json.dumps({"root": "foo", "changes": [change | {"seq": 2**70}]}).encode(),
                json.dumps({"root": "foo", "changes": [change] * 100}).encode()]  # fmt: skip
    topics = ["root/foo", "root/evil", "root/bad-http", "change/foo", "change/nosuch", "service/subscriber/x"]
    # Our own broker lets nobody publish where no daemon listens.
    topics += ["root", "nosuch/x", "root/a/b", "service/x"] if on_mosquitto() else []
    for topic in topics:
        for payload in payloads:
            # An empty retained message would clear the announcement of the real root.
            yield f"caterva2/{topic}", payload, bool(payload) and topic != "root/foo"


def test_garbage_on_the_bus_is_dropped(chain: Chain) -> None:
    """Any payload on any topic is dropped, at most a line in the log; the root goes on being followed."""
    urls = httpx.get(f"{chain.broker.url}/api/bus", trust_env=False).json()["urls"]
    address = urlsplit(next(url for url in urls if url.startswith("mqtt:")))
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    if on_mosquitto():
        client.username_pw_set("admin", PASSWORDS["admin"])
    client.connect(address.hostname or "", address.port or 1883)
    client.loop_start()
    try:
        sent = [client.publish(topic, payload, qos=1, retain=retained) for topic, payload, retained in garbage()]
        for message in sent:
            message.wait_for_publish(10)
        write(chain.root / "after.b2nd", VALUES + 1)
        wait_until(lambda: "after.b2nd" in chain.client.get_list(ROOT), "a change after the garbage")
        np.testing.assert_array_equal(chain.client.fetch("foo/after.b2nd"), VALUES + 1)
        for root in ("evil", "bad-http"):
            assert chain.get(f"list/{root}").status_code in {404, 502, 503}
        assert 200 == chain.get("roots").status_code
    finally:
        client.disconnect()
        client.loop_stop()


# -- fuzz -------------------------------------------------------------------------------------------------


def test_random_requests_are_answered(chain: Chain) -> None:
    """Whatever is asked, the answer is never a 500."""
    rng = random.Random(7)
    words = [
        "foo",
        "ds.b2nd",
        "text.txt",
        "..",
        ".",
        "",
        "%2e",
        "%00",
        "%ff",
        "dir",
        "@public",
        "é",
        " ",
        "a" * 300,
        "?",
        "#",
    ]
    slices = ["0", "1:2", "::-1", "...", ":", ",", "-1", "9999999999999", "x", "::0", "[0]", "[[0,1],null]", "\x00"]
    keys = ["slice_", "field", "indices", "nchunk", "x", "filter"]

    for _ in range(400):
        path = "/".join(rng.choice(words) for _ in range(rng.randint(1, 4)))
        if rng.random() < 0.6:
            path = "foo/" + rng.choice(["ds.b2nd", "text.txt", "dir"])
        query = "&".join(f"{rng.choice(keys)}={quote(rng.choice(slices))}" for _ in range(rng.randint(0, 3)))
        url = f"/api/{rng.choice([*CALLS, 'subscribe', 'roots'])}/{quote(path, safe='/%@.')}?{query}"
        answer = chain.http.request(rng.choice(["GET", "GET", "GET", "HEAD", "POST"]), url)

        assert answer.status_code < 500 or answer.status_code in {502, 503}, (url, answer.text)
