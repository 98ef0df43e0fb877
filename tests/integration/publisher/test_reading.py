"""What subscribers are answered: right bytes of one version, or a clear refusal."""

import asyncio
import gzip
import json
import os
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import blosc2
import httpx
import numpy as np
import pytest

from caterva2.chunks import decompress_chunk
from caterva2.records import ChunkRecord, Status, decode_skeleton, digest_of, digest_text
from tests.integration.publisher.harness import Running, running, settings_for
from tests.support.waiting import wait_until_async

DATA = np.random.default_rng(1).integers(0, 1000, (400, 300))


def array(file: Path, data: np.ndarray[Any, Any] = DATA, **more: Any) -> Path:
    """Write an array."""
    file.parent.mkdir(parents=True, exist_ok=True)
    blosc2.asarray(data, chunks=(50, 300), urlpath=str(file), mode="w", cparams={"nthreads": 1}, **more)
    return file


def rebuild(skeleton: bytes, records: list[ChunkRecord]) -> bytes:
    """The frame that a subscriber makes of a skeleton and chunks."""
    head, parts = decode_skeleton(skeleton)
    layout = parts.layout()
    frame = bytearray(head.frame_length)
    for offset, part in parts.parts():
        frame[offset : offset + len(part)] = part
    for record in records[:-1]:
        if layout.special(record.n) is None:
            offset = int(layout.offsets[record.n])
            frame[offset : offset + len(record.payload)] = record.payload
    return bytes(frame)


async def whole(pub: Running, path: str) -> bytes:
    """A dataset's whole frame, as its mirror would be."""
    skeleton = (await pub.http.get(f"/api/skeleton/{path}")).raise_for_status().content
    head, parts = decode_skeleton(skeleton)
    records = await pub.chunks(path, head.entry.etag, range(parts.layout().nchunks))
    assert [Status.DATA] * (len(records) - 1) + [Status.END] == [record.status for record in records]
    return rebuild(skeleton, records)


def test_a_mirror_of_a_contiguous_frame_is_the_file(tmp_path: Path) -> None:
    """Skeleton and chunks put together are the publisher's file, byte for byte."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        file = array(settings.root / "dir/a.b2nd")
        async with running(settings) as pub:
            assert file.read_bytes() == await whole(pub, "dir/a.b2nd")

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["a.b2nd", "a b/ü%23#?+%.b2nd"])
def test_a_mirror_of_a_sparse_frame_has_its_data(tmp_path: Path, name: str) -> None:
    """A frame stored as a directory is given in a slotted layout that Blosc2 opens; any name will do."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        array(settings.root / name, contiguous=False)
        async with running(settings) as pub:
            quoted = "/".join(map(_quote, name.split("/")))
            frame = await whole(pub, quoted)

            assert np.array_equal(DATA, blosc2.ndarray_from_cframe(frame)[:])
            assert 422 == (await pub.http.get(f"/api/download/{quoted}")).status_code

    asyncio.run(scenario())


def _quote(segment: str) -> str:
    return quote(segment, safe="")


@pytest.mark.parametrize("size", [0, 1, 70_000, 17 << 20])
def test_a_mirror_of_a_plain_file_decodes_to_the_file(tmp_path: Path, size: int) -> None:
    """The chunks of a plain file decompress to its bytes."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        data = (os.urandom(10_000) * (size // 10_000 + 1))[:size]
        (settings.root / "a.bin").write_bytes(data)
        async with running(settings) as pub:
            frame = blosc2.schunk_from_cframe(await whole(pub, "a.bin"))

            assert data == (frame[:] if size else b"")

    asyncio.run(scenario())


def test_chunks_come_in_the_order_asked_and_those_at_hand_are_not_sent(tmp_path: Path) -> None:
    """The order is the request's; a digest that agrees saves the bytes, one that does not costs them."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        file = array(settings.root / "a.b2nd")
        opened = blosc2.open(str(file))
        stored = [opened.schunk.get_chunk(n) for n in range(8)]
        async with running(settings) as pub:
            etag = (await pub.catalog())["a.b2nd"].etag
            wishes = [5, {"n": 2, "have": digest_text(digest_of(stored[2]))}, {"n": 0, "have": "0" * 16}, 5]
            records = await pub.chunks("a.b2nd", etag, wishes)

            assert [(5, 0), (2, 1), (0, 0), (5, 0), (0, 4)] == [(r.n, r.status) for r in records]
            assert [stored[5], b"", stored[0], stored[5], b""] == [r.payload for r in records]
            assert digest_of(stored[2]) == records[1].digest
            assert [Status.END] == [r.status for r in await pub.chunks("a.b2nd", etag, [])]

    asyncio.run(scenario())


def test_a_dataset_of_another_version_is_refused(tmp_path: Path) -> None:
    """With an ETag that is not the current one there are no chunks, and the answer names the current one."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        array(settings.root / "a.b2nd")
        async with running(settings) as pub:
            current = (await pub.catalog())["a.b2nd"].etag
            with pytest.raises(httpx.HTTPStatusError) as caught:
                await pub.chunks("a.b2nd", "0123456789abcdef", [0])
            without = await pub.http.post("/api/chunks/a.b2nd", json={"chunks": []})

            assert 412 == caught.value.response.status_code
            assert f'"{current}"' == caught.value.response.headers["etag"]
            assert 428 == without.status_code

    asyncio.run(scenario())


def test_conditional_requests_are_answered_in_short(tmp_path: Path) -> None:
    """A client that has the current version is told so, for each kind of answer."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        array(settings.root / "a.b2nd")
        async with running(settings) as pub:
            for path in (
                "info/a.b2nd",
                "skeleton/a.b2nd",
                "download/a.b2nd",
                "download/a.b2nd?nchunk=1",
                "catalog",
                "list",
            ):
                first = await pub.http.get(f"/api/{path}")
                again = await pub.http.get(f"/api/{path}", headers={"If-None-Match": first.headers["etag"]})
                other = await pub.http.get(f"/api/{path}", headers={"If-None-Match": '"x"'})

                assert (200, 304, 200) == (first.status_code, again.status_code, other.status_code), path
                assert b"" == again.content

    asyncio.run(scenario())


def test_a_file_is_downloaded_whole_or_in_ranges(tmp_path: Path) -> None:
    """Downloads are the file; ranges, HEAD and refusals are as HTTP says."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        data = os.urandom(3_000_000)
        (settings.root / "ü.bin").write_bytes(data)
        async with running(settings) as pub:
            url = "/api/download/ü.bin"
            answer = await pub.http.get(url)
            etag = answer.headers["etag"]
            head = await pub.http.head(url)
            part = await pub.http.get(url, headers={"Range": "bytes=1000000-2999998"})
            last = await pub.http.get(url, headers={"Range": "bytes=-5", "If-Range": etag})
            stale = await pub.http.get(url, headers={"Range": "bytes=-5", "If-Range": '"x"'})
            beyond = await pub.http.get(url, headers={"Range": "bytes=3000000-"})
            failed = await pub.http.get(url, headers={"If-Match": '"x"'})

            assert data == answer.content
            assert (b"", "3000000", etag) == (head.content, head.headers["content-length"], head.headers["etag"])
            assert (206, data[1_000_000:-1]) == (part.status_code, part.content)
            assert "bytes 1000000-2999998/3000000" == part.headers["content-range"]
            assert (206, data[-5:]) == (last.status_code, last.content)
            assert (200, data) == (stale.status_code, stale.content)
            assert (416, "bytes */3000000") == (beyond.status_code, beyond.headers["content-range"])
            assert 412 == failed.status_code

    asyncio.run(scenario())


def test_one_chunk_is_downloaded_in_upstreams_form(tmp_path: Path) -> None:
    """?nchunk=n gives the compressed chunk of arrays, sparse frames and plain files."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        opened = blosc2.open(str(array(settings.root / "a.b2nd")))
        array(settings.root / "s.b2nd", contiguous=False)
        (settings.root / "t.txt").write_text("text")
        async with running(settings) as pub:
            found = [(await pub.http.get(f"/api/download/{p}?nchunk=3")).content for p in ("a.b2nd", "s.b2nd")]
            text = (await pub.http.get("/api/download/t.txt?nchunk=0")).content

            assert [opened.schunk.get_chunk(3)] * 2 == found
            assert b"text" == blosc2.decompress2(text)

    asyncio.run(scenario())


REQUESTS = [
    ("GET", "info/../secret", 400),
    ("GET", "info/%2e%2e/secret", 400),
    ("GET", "info/..%2fsecret", 400),
    ("GET", "info/a%2fb", 400),
    ("GET", "info//etc/passwd", 400),
    ("GET", "info/%00", 400),
    ("GET", "info/" + "x" * 300, 400),
    ("GET", "info/" + "x/" * 3000, 400),
    ("GET", "info/", 400),
    ("GET", "info/none", 404),
    ("GET", "info/link", 404),
    ("GET", "info/dir", 404),
    ("GET", "info/.hidden", 404),
    ("GET", "info/%ff", 404),
    ("GET", "download/link", 404),
    ("GET", "download/link?nchunk=0", 404),
    ("GET", "download/a.txt?nchunk=-1", 422),
    ("GET", "download/a.txt?nchunk=1", 422),
    ("GET", "download/a.txt?nchunk=" + "9" * 25, 422),
    ("GET", "download/a.txt?nchunk=" + "9" * 5000, 400),
    ("GET", "download/a.txt?nchunk=", 400),
    ("GET", "download/a.txt?nchunk=1.5", 400),
    ("GET", "changes", 400),
    ("GET", "changes?epoch=x&since=-1", 400),
    ("GET", "changes?epoch=x&since=%D9%A3", 400),
    ("GET", "changes?epoch=x&since=" + "9" * 100, 400),
    ("GET", "changes?epoch=x&since=1", 410),
    ("GET", "nothing", 404),
    ("GET", "chunks/a.txt", 405),
    ("POST", "info/a.txt", 405),
    ("GET", "skeleton/broken.b2nd", 422),
    ("GET", "info/broken.b2nd", 422),
    ("GET", "info/empty.b2nd", 422),
    ("GET", "info/text.b2frame", 422),
]


def test_a_request_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """Whatever is asked, the answer is a clear refusal in JSON, and the next request is answered."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        (tmp_path / "secret").write_text("the secret")
        (settings.root / "link").symlink_to("../secret")
        for name in ("a.txt", "dir/b", ".hidden"):
            (settings.root / name).parent.mkdir(exist_ok=True)
            (settings.root / name).write_text("x")
        file = array(settings.root / "broken.b2nd")
        os.truncate(file, file.stat().st_size - 100)
        (settings.root / "empty.b2nd").touch()
        (settings.root / "text.b2frame").write_text("no frame at all" * 100)
        async with running(settings) as pub:
            answers = [(await _raw(pub.url, method, f"/api/{path}")) for method, path, _ in REQUESTS]

            assert REQUESTS == [(m, p, answer[0]) for (m, p, _), answer in zip(REQUESTS, answers, strict=True)]
            assert [["detail"]] * len(REQUESTS) == [[*json.loads(body)] for _, body in answers]
            assert not [body for _, body in answers if b"the secret" in body]
            assert {"a.txt", "dir/b", "broken.b2nd", "empty.b2nd", "text.b2frame"} == set(await pub.catalog())

    asyncio.run(scenario())


async def _raw(url: str, method: str, target: str) -> tuple[int, bytes]:
    """A request with its target as it stands: clients would tidy it up."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


BODIES = [
    (b"", 400),
    (b"garbage", 400),
    (b"[]", 400),
    (b"{}", 400),
    (b'{"chunks": 1}', 400),
    (b'{"chunks": [{"n": "x"}]}', 400),
    (b'{"chunks": [{"n": 1.5}]}', 400),
    (b'{"chunks": [{"n": -1}]}', 422),
    (b'{"chunks": [{"n": 1}]}', 422),
    (b'{"chunks": [{"n": 0}, {"n": 99999999999999999999999}]}', 422),
    (b'{"chunks": [{"n": 0, "have": 7}]}', 400),
    (b"\xff\xfe", 400),
    (b"[" * 100_000, 400),
    (b" " * (9 << 20), 413),
]


def test_a_request_for_chunks_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """Bodies that are garbage, too long or name no chunks are refused before anything is read."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        (settings.root / "a.txt").write_text("x")
        async with running(settings) as pub:
            for body, status in BODIES:
                answer = await pub.http.post("/api/chunks/a.txt", content=body, headers={"If-Match": "*"})

                assert (body[:50], status, ["detail"]) == (body[:50], answer.status_code, list(answer.json()))

    asyncio.run(scenario())


def test_damaged_frames_harm_no_other(tmp_path: Path) -> None:
    """A frame with a broken chunk gives the others, and a broken frame is listed while sound ones are read."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        file = array(settings.root / "a.b2nd")
        good = array(settings.root / "good.b2nd")
        async with running(settings) as pub:
            _, parts = decode_skeleton((await pub.http.get("/api/skeleton/a.b2nd")).content)
            with file.open("r+b") as out:
                out.seek(int(parts.layout().offsets[3]) + 4)
                out.write(b"\xff" * 8)
            change = await pub.wait_told("a.b2nd", "modified")
            assert change.etag
            records = await pub.chunks("a.b2nd", change.etag, [2, 3, 4])

            assert [Status.DATA, Status.ERROR, Status.DATA, Status.END] == [r.status for r in records]
            assert b"damaged" in records[1].payload
            assert good.read_bytes() == await whole(pub, "good.b2nd")

    asyncio.run(scenario())


# -- files that are being written -------------------------------------------------------------------------


def test_a_file_that_is_written_without_pause_never_gives_a_mixed_answer(tmp_path: Path) -> None:
    """While versions of one repeated byte are written in place, every complete answer is of one version."""

    async def scenario() -> None:
        settings = settings_for(tmp_path, settle=0.02)
        file, stop = settings.root / "a.bin", threading.Event()
        file.write_bytes(bytes(3 << 20))
        good = refused = 0
        async with running(settings) as pub:
            writer = threading.Thread(target=_rewrite, args=(file, stop))
            writer.start()
            try:
                end = time.monotonic() + 4
                while time.monotonic() < end:
                    try:
                        answer = await pub.http.get("/api/download/a.bin")
                    except httpx.RemoteProtocolError:
                        refused += 1
                        continue
                    if answer.status_code == 200:
                        good += 1
                        assert 1 == len(set(answer.content))
                        assert 3 << 20 == len(answer.content)
                    else:
                        refused += 1
                        assert 503 == answer.status_code
                        assert "1" == answer.headers["retry-after"]
            finally:
                stop.set()
                await asyncio.to_thread(writer.join)

            assert good
            assert refused + good > 10

    asyncio.run(scenario())


def _rewrite(file: Path, stop: threading.Event) -> None:
    """Write version after version in place, in pieces, with pauses of all lengths."""
    n = 0
    with file.open("r+b", buffering=0) as out:
        while not stop.wait(0.001 * (n * 7 % 60)):
            n += 1
            out.seek(0)
            for _ in range(3):
                out.write(bytes([n % 256]) * (1 << 20))


def test_chunks_of_an_array_that_is_written_are_never_mixed(tmp_path: Path) -> None:
    """Chunks that came with a complete stream all belong to one version of the array."""

    async def scenario() -> None:
        settings = settings_for(tmp_path, settle=0.02)
        file, stop = settings.root / "a.b2nd", threading.Event()
        array(file, np.zeros((400, 300), np.int64) + 7)
        complete = 0
        async with running(settings) as pub:
            writer = threading.Thread(target=_update, args=(file, stop))
            writer.start()
            try:
                end = time.monotonic() + 4
                while time.monotonic() < end:
                    complete += await _one_version(pub)
            finally:
                stop.set()
                await asyncio.to_thread(writer.join)

            assert complete

    asyncio.run(scenario())


async def _one_version(pub: Running) -> bool:
    """Read all chunks, and check that they agree; False when the publisher refused."""
    answer = await pub.http.get("/api/skeleton/a.b2nd")
    if answer.status_code != 200:
        assert 503 == answer.status_code
        return False
    head, parts = decode_skeleton(answer.content)
    layout = parts.layout()
    try:
        records = await pub.chunks("a.b2nd", head.entry.etag, range(8))
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in {412, 503}:
            raise
        return False
    if records[-1].status is Status.CHANGED:
        return False
    values = {
        int(v) for r in records[:-1] for v in np.frombuffer(decompress_chunk(r.payload, layout.spec(r.n)), "i8")[:15000]
    }
    assert 1 == len(values), values
    return True


def _update(file: Path, stop: threading.Event) -> None:
    n = 7
    while not stop.wait(0.001 * (n * 11 % 120)):
        n += 1
        made = blosc2.open(str(file), mode="a")
        made[:] = np.zeros((400, 300), np.int64) + n


def test_a_dataset_changed_in_the_middle_of_a_stream_ends_it(tmp_path: Path) -> None:
    """When the file is replaced while its chunks are sent, the stream ends with a record that says so."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        file = settings.root / "a.bin"
        file.write_bytes(os.urandom(64 << 20))
        async with running(settings) as pub:
            etag = (await pub.catalog())["a.bin"].etag
            body = json.dumps({"chunks": [{"n": n} for n in range(64)]})
            headers = {"If-Match": f'"{etag}"'}
            async with pub.http.stream("POST", "/api/chunks/a.bin", content=body, headers=headers) as answer:
                pieces = answer.aiter_bytes()
                received = [await anext(pieces)]
                os.truncate(file, 1 << 20)
                received += [piece async for piece in pieces]
            data = b"".join(received)
            end = ChunkRecord(0, Status.CHANGED).header

            assert end == data[-len(end) :]
            assert len(data) < 64 << 20

    asyncio.run(scenario())


# -- the root as a whole ----------------------------------------------------------------------------------


def test_the_catalog_is_compressed_when_that_is_accepted(tmp_path: Path) -> None:
    """The catalog is plain or gzipped, with the head as its ETag and one dataset a line."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        for n in range(2500):
            (settings.root / f"{n:04}").touch()
        async with running(settings) as pub:
            head = pub.announcements[-1]
            plain = await pub.http.get("/api/catalog", headers={"Accept-Encoding": "identity"})
            async with pub.http.stream("GET", "/api/catalog") as answer:
                packed = b"".join([piece async for piece in answer.aiter_raw()])

            assert plain.content == gzip.decompress(packed)
            assert f'"{head.epoch}:{head.seq}"' == plain.headers["etag"]
            assert 2502 == len(plain.content.splitlines())
            assert [f"{n:04}" for n in range(2500)] == (await pub.http.get("/api/list")).json()

    asyncio.run(scenario())


def test_metrics_and_health_tell_what_goes_on(tmp_path: Path) -> None:
    """Health names the instance that is announced; metrics count answers, bytes and chunks."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        (settings.root / "a").write_text("x")
        async with running(settings) as pub:
            await pub.chunks("a", (await pub.catalog())["a"].etag, [0])
            health = (await pub.http.get("/health")).json()
            text = (await pub.http.get("/metrics")).text

            assert pub.announcements[-1].instance == health["instance"]
            assert ("publisher", "foo", "connected") == (health["kind"], health["root"], health["bus"])
            assert 'caterva2_chunks_total{status="data"} 1' in text.splitlines()
            assert "caterva2_journal_seq 0" in text.splitlines()

    asyncio.run(scenario())


def _open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_clients_that_leave_cost_nothing(tmp_path: Path) -> None:
    """A client that goes away in the middle of a stream leaves no open file behind."""

    async def scenario() -> None:
        settings = settings_for(tmp_path)
        (settings.root / "a.bin").write_bytes(os.urandom(32 << 20))
        async with running(settings) as pub:
            await pub.http.get("/health")
            before = _open_files()
            for _ in range(10):
                async with httpx.AsyncClient(base_url=pub.url) as client:
                    async with client.stream("GET", "/api/download/a.bin") as answer:
                        await anext(answer.aiter_raw())
                    async with client.stream("GET", "/api/catalog") as answer:
                        pass
            await wait_until_async(lambda: _open_files() <= before + 2, "all files closed")

    asyncio.run(scenario())
