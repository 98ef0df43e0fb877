"""The REST contract: what upstream's clients and `blosc2.C2Array` rely on, and what was added to it."""

import hashlib
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import blosc2
import httpx
import numpy as np
import pytest

from caterva2.example import HELLO, README, write_example
from tests.integration.chain.daemons import ROOT, Chain, running_chain
from tests.support.upstream import run_upstream

FILES = [
    "README.md",
    "dir1/ds-2d.b2nd",
    "dir1/ds-3d.b2nd",
    "dir2/ds-4d.b2nd",
    "ds-1d-b.b2nd",
    "ds-1d-fields.b2nd",
    "ds-1d.b2nd",
    "ds-2d-fields.b2nd",
    "ds-hello.b2frame",
    "ds-sc-attr.b2nd",
]
ARRAYS = [name for name in FILES if name.endswith(".b2nd")]
FRAMES = [*ARRAYS, "ds-hello.b2frame"]
CPARAMS = {
    "codec": 5,
    "codec_meta": 0,
    "clevel": 1,
    "filters": [0, 0, 0, 0, 0, 1],
    "filters_meta": [0, 0, 0, 0, 0, 0],
    "nthreads": 1,
    "tuner": 0,
    "use_dict": False,
    "filters, meta": [[1, 0]],
}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain on the example root."""
    directory = tmp_path_factory.mktemp("contract")
    write_example(directory / ROOT)
    with running_chain(directory) as chain:
        yield chain


def stored(chain: Chain, name: str) -> bytes:
    """The file on the publisher's disk."""
    return (chain.root / name).read_bytes()


def local(chain: Chain, name: str) -> Any:
    """What the array in the publisher's file holds."""
    return blosc2.open(str(chain.root / name), mode="r")[...]


def decoded(answer: httpx.Response) -> Any:
    """The array in an answer."""
    return blosc2.ndarray_from_cframe(answer.content)[...]


def content(answer: httpx.Response) -> bytes:
    """The bytes in an answer that is no array."""
    data: bytes = blosc2.schunk_from_cframe(answer.content)[:]
    return data


# -- roots and lists --------------------------------------------------------------------------------------


def test_tells_the_roots(chain: Chain) -> None:
    """`GET /api/roots` gives name, address and subscription of each root, its own ones among them."""
    roots = chain.get("roots").json()

    assert {"foo", "@public"} == set(roots)
    assert ("foo", chain.publisher.url.removeprefix("http://")) == (roots["foo"]["name"], roots["foo"]["http"])
    assert ("@public", "", True) == tuple(roots["@public"][key] for key in ("name", "http", "subscribed"))


@pytest.mark.parametrize(
    ("root", "status", "body"),
    [
        ("foo", 200, "Ok"),
        ("@public", 200, "Ok"),
        ("@personal", 401, {"detail": "Subscribing to @personal requires authentication"}),
        ("nosuch", 404, {"detail": "nosuch not known by the broker"}),
    ],
)
def test_subscribes(chain: Chain, root: str, status: int, body: Any) -> None:
    """`POST /api/subscribe/{root}` says "Ok", or why not."""
    answer = chain.http.post(f"/api/subscribe/{root}")

    assert (status, body) == (answer.status_code, answer.json())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("foo", FILES),
        ("foo/", FILES),
        ("foo/dir1", ["ds-2d.b2nd", "ds-3d.b2nd"]),
        ("foo/dir1/", ["ds-2d.b2nd", "ds-3d.b2nd"]),
        ("foo/dir1/ds-2d.b2nd", ["ds-2d.b2nd"]),
        ("foo/README.md", ["README.md"]),
        ("@public", []),
    ],
)
def test_lists(chain: Chain, path: str, expected: list[str]) -> None:
    """`GET /api/list/{path}` gives the files of a root or below a directory, or the name of a file."""
    answer = chain.get(f"list/{path}")

    assert (200, expected) == (answer.status_code, answer.json())


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("nosuch", "nosuch not known by the broker"),
        ("foo/nosuchdir", "foo/nosuchdir does not exist: it is neither a dataset nor a directory"),
        ("@personal", "@personal needs authentication"),
        ("@shared", "@shared needs authentication"),
    ],
)
def test_lists_nothing_unknown(chain: Chain, path: str, detail: str) -> None:
    """A list of what is not there, or not for everyone, is a 404 that says so."""
    answer = chain.get(f"list/{path}")

    assert (404, {"detail": detail}) == (answer.status_code, answer.json())


# -- info -------------------------------------------------------------------------------------------------


def test_describes_an_array(chain: Chain) -> None:
    """`GET /api/info` of an array has upstream's fields; sizes and times are those of the published file."""
    info = chain.get("info/foo/dir1/ds-3d.b2nd").json()

    schunk = info["schunk"]
    assert ([3, 4, 5], [2, 3, 4], [2, 2, 2], "float32") == tuple(
        info[k] for k in ("shape", "chunks", "blocks", "dtype")
    )
    assert {
        "chunkshape": 32,
        "chunksize": 128,
        "contiguous": True,
        "nbytes": 1024,
        "urlpath": None,
        "vlmeta": {},
        "nchunks": 8,
    }.items() <= schunk.items()
    assert {**CPARAMS, "typesize": 4, "blocksize": 32}.items() <= schunk["cparams"].items()
    frame = blosc2.open(str(chain.root / "dir1/ds-3d.b2nd"), mode="r")
    assert frame.schunk.cbytes == schunk["cbytes"]
    assert schunk["mtime"] == info["mtime"]
    assert info["mtime"].endswith("Z")


def test_describes_structured_dtypes_as_c2array_reads_them(chain: Chain) -> None:
    """A structured dtype is told by the names and formats of its fields."""
    info = chain.get("info/foo/ds-1d-fields.b2nd").json()

    assert {"names": ["a", "b", "c", "d"], "formats": ["int32", "float64", "|S10", "bool"]} == info["dtype"]


def test_describes_scalars_with_attributes(chain: Chain) -> None:
    """A 0-d array has empty shape, chunks and blocks, and its vlmeta."""
    info = chain.get("info/foo/ds-sc-attr.b2nd").json()

    assert ([], [], [], "<U6") == tuple(info[k] for k in ("shape", "chunks", "blocks", "dtype"))
    assert {"a": 1, "b": "foo", "c": 123.456} == info["schunk"]["vlmeta"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ds-hello.b2frame", {"chunkshape": 100, "chunksize": 100, "nbytes": 1200, "nchunks": 12}),
        ("README.md", {"chunkshape": 16777216, "chunksize": 16777216, "nbytes": 87, "nchunks": 1}),
    ],
)
def test_describes_frames_and_files(chain: Chain, name: str, expected: dict[str, Any]) -> None:
    """`GET /api/info` of what is no array is that of its storage."""
    info = chain.get(f"info/foo/{name}").json()

    assert expected.items() <= info.items()
    assert "schunk" not in info


@pytest.mark.parametrize("call", ["info", "fetch", "chunk", "download"])
@pytest.mark.parametrize("path", ["foo/nosuch.b2nd", "foo/dir1", "foo/dir1/", "foo", "foo/ds-1d.b2nd/x", "nosuch/x"])
def test_answers_404_for_what_is_not_there(chain: Chain, call: str, path: str) -> None:
    """A directory, a root, an unknown path and an unknown root are no datasets."""
    answer = chain.get(f"{call}/{path}", **({"nchunk": 0} if call == "chunk" else {}))

    assert 404 == answer.status_code
    assert path.split("/")[0] in answer.json()["detail"]


# -- fetch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ds-1d.b2nd", "1"),
        ("ds-1d.b2nd", "0:10"),
        ("ds-1d.b2nd", ":10"),
        ("ds-1d.b2nd", "-10:"),
        ("ds-1d.b2nd", ":"),
        ("ds-1d.b2nd", "0:1000"),
        ("ds-1d.b2nd", ""),
        ("ds-1d.b2nd", "0:10:2"),
        ("ds-1d.b2nd", "::-1"),
        ("ds-1d.b2nd", "-3"),
        ("ds-1d.b2nd", "990:2000"),
        ("dir1/ds-3d.b2nd", "0:2, 1, :3"),
        ("dir1/ds-3d.b2nd", "1, 1, 1"),
        ("dir1/ds-3d.b2nd", "..., 1"),
        ("dir1/ds-3d.b2nd", "1,"),
        ("ds-sc-attr.b2nd", ""),
    ],
)
def test_fetches_slices(chain: Chain, name: str, text: str) -> None:
    """The text of a slice means what it means in NumPy; axes that an int selects go."""
    answer = chain.get(f"fetch/foo/{name}", slice_=text)

    expected = eval(f"values[{text or '...'}]", {"values": local(chain, name)})  # noqa: S307 - our own texts
    assert (200, "application/octet-stream") == (answer.status_code, answer.headers["content-type"])
    assert np.shape(expected) == decoded(answer).shape
    np.testing.assert_array_equal(decoded(answer), expected)


@pytest.mark.parametrize(
    ("text", "expected"), [("0:10", README[:10]), ("3", README[3]), ("", README), ("::-1", README[::-1])]
)
def test_fetches_bytes_of_plain_files(chain: Chain, text: str, expected: str) -> None:
    """A slice of a plain file is a frame that is no array, of those bytes."""
    answer = chain.get("fetch/foo/README.md", slice_=text)

    assert expected.encode() == content(answer)


@pytest.mark.parametrize(("text", "expected"), [("0:10", HELLO[:10]), ("1", HELLO[1:2]), ("", HELLO)])
def test_fetches_bytes_of_frames(chain: Chain, text: str, expected: bytes) -> None:
    """A slice of a frame is a frame of those bytes."""
    answer = chain.get("fetch/foo/ds-hello.b2frame", slice_=text)

    assert expected == content(answer)


def test_fetches_a_field(chain: Chain) -> None:
    """`field=` selects one field of a structured array, also in a slice."""
    answers = (
        chain.get("fetch/foo/ds-1d-fields.b2nd", field="a"),
        chain.get("fetch/foo/ds-1d-fields.b2nd", field="c", slice_="5:8"),
    )

    np.testing.assert_array_equal(decoded(answers[0]), np.arange(1000, dtype="i4"))
    np.testing.assert_array_equal(decoded(answers[1]), np.array([b"foobar5", b"foobar6", b"foobar7"], "S10"))


@pytest.mark.parametrize("form", ["query", "body"])
def test_fetches_rows_that_a_condition_selects(chain: Chain, form: str) -> None:
    """`filter=` is a condition over fields; slice and field are those of the rows where it holds."""
    table = local(chain, "ds-1d-fields.b2nd")

    def rows(**query: str) -> Any:
        url = "/api/fetch/foo/ds-1d-fields.b2nd"
        answer = chain.http.get(url, params=query) if form == "query" else chain.http.post(url, json=query)
        assert (200, "application/octet-stream") == (answer.status_code, answer.headers["content-type"])
        return decoded(answer)

    np.testing.assert_array_equal(table[:5], rows(filter="(a < 5)"))
    np.testing.assert_array_equal(table[table["d"]], rows(filter="d == True"))
    np.testing.assert_array_equal(table[table["b"] > 0.5][-3:], rows(filter=" b > 0.5 ", slice_="-3:"))
    np.testing.assert_array_equal(table["c"][995:], rows(filter="a >= 995", field="c"))
    np.testing.assert_array_equal(np.sort(table, order="c")[:9], rows(sortby="c", slice_=":9"))
    np.testing.assert_array_equal(table[:0], rows(filter="a < 0"))


def test_rows_have_the_version_that_they_were_read_from(chain: Chain) -> None:
    """An answer to `filter=` has the dataset's ETag, and is not sent again to whoever has it."""
    answer = chain.get("fetch/foo/ds-2d-fields.b2nd", filter="a + b > 2.9")
    again = chain.http.get(
        "/api/fetch/foo/ds-2d-fields.b2nd",
        params={"filter": "a + b > 2.9"},
        headers={"If-None-Match": answer.headers["etag"]},
    )

    table = local(chain, "ds-2d-fields.b2nd")
    np.testing.assert_array_equal(table[table["a"] + table["b"] > 2.9], decoded(answer))
    assert chain.get("info/foo/ds-2d-fields.b2nd").headers["etag"] == answer.headers["etag"]
    assert 304 == again.status_code


@pytest.mark.parametrize("form", ["query", "body"])
def test_fetches_fancy_indices(chain: Chain, form: str) -> None:
    """`indices=` takes for each axis a list, an int, a slice or null; a long one comes in a body."""
    indices = '[[0, 9, 3], "2:20:3"]'
    if form == "query":
        answer = chain.get("fetch/foo/dir1/ds-2d.b2nd", indices=indices)
    else:
        answer = chain.http.post("/api/fetch/foo/dir1/ds-2d.b2nd", json={"indices": [[0, 9, 3], "2:20:3"]})

    assert 200 == answer.status_code
    np.testing.assert_array_equal(decoded(answer), local(chain, "dir1/ds-2d.b2nd")[[0, 9, 3], 2:20:3])


def test_takes_the_parameters_of_fetch_in_a_body(chain: Chain) -> None:
    """`POST /api/fetch` reads the slice, and the field, from a JSON body."""
    body = {"slice_": "5:8", "field": "a"}
    answer = chain.http.post("/api/fetch/foo/ds-1d-fields.b2nd", json=body)

    np.testing.assert_array_equal(decoded(answer), np.array([5, 6, 7], "i4"))


@pytest.mark.parametrize("name", FRAMES)
def test_a_whole_frame_is_the_publishers_file(chain: Chain, name: str) -> None:
    """Without a slice, and as a download, a frame is the publisher's file byte for byte."""
    fetched, downloaded = chain.get(f"fetch/foo/{name}"), chain.get(f"download/foo/{name}")

    basename = name.rpartition("/")[2]
    assert stored(chain, name) == fetched.content
    assert stored(chain, name) == downloaded.content
    for answer in (fetched, downloaded):
        assert f'attachment; filename="{basename}"' == answer.headers["content-disposition"]
        assert "bytes" == answer.headers["accept-ranges"]
        assert str(len(answer.content)) == answer.headers["content-length"]


def test_downloads_a_plain_file_as_it_is(chain: Chain) -> None:
    """A download of a plain file is the file, with the type of its name."""
    answer = chain.get("download/foo/README.md")

    assert README == answer.text
    assert answer.headers["content-type"].startswith("text/markdown")
    assert 'attachment; filename="README.md"' == answer.headers["content-disposition"]


@pytest.mark.parametrize("name", FRAMES)
def test_gives_compressed_chunks(chain: Chain, name: str) -> None:
    """`GET /api/chunk` gives each chunk as it is stored."""
    frame = blosc2.open(str(chain.root / name), mode="r")
    schunk = getattr(frame, "schunk", frame)

    for n in range(schunk.nchunks):
        assert schunk.get_chunk(n) == chain.get(f"chunk/foo/{name}", nchunk=n).content


# -- HTTP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fetch", "download"])
@pytest.mark.parametrize("name", ["ds-1d.b2nd", "ds-hello.b2frame"])
@pytest.mark.parametrize("span", ["0-0", "0-99", "100-", "-10", "5-99999999", "300-299", "0-"])
def test_gives_ranges_of_the_stored_frame(chain: Chain, call: str, name: str, span: str) -> None:
    """One range is a 206 with those bytes of the publisher's file; one that makes no sense is ignored."""
    data = stored(chain, name)
    answer = chain.http.get(f"/api/{call}/foo/{name}", headers={"Range": f"bytes={span}"})

    first, last = span.split("-")
    start = int(first) if first else len(data) - int(last)
    stop = min(int(last) + 1, len(data)) if first and last else len(data)
    if stop <= start:
        assert answer.status_code in {200, 416}
        return
    assert (206, data[start:stop]) == (answer.status_code, answer.content)
    assert f"bytes {start}-{stop - 1}/{len(data)}" == answer.headers["content-range"]


@pytest.mark.parametrize("call", ["fetch", "download"])
def test_gives_several_ranges_as_multipart(chain: Chain, call: str) -> None:
    """Up to 64 ranges come as `multipart/byteranges`, each with its place."""
    data = stored(chain, "ds-1d.b2nd")
    spans = [(n * 50, n * 50 + 9) for n in range(64)]
    header = "bytes=" + ", ".join(f"{a}-{b}" for a, b in spans)
    answer = chain.http.get(f"/api/{call}/foo/ds-1d.b2nd", headers={"Range": header})

    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + answer.content).get_payload()
    assert 206 == answer.status_code
    assert [f"bytes {a}-{b}/{len(data)}" for a, b in spans] == [part["content-range"] for part in parts]
    bodies = answer.content.split(b"\r\n\r\n")[1:]
    assert [data[a : b + 1] for a, b in spans] == [body[:10] for body in bodies]
    assert str(len(answer.content)) == answer.headers["content-length"]


@pytest.mark.parametrize("call", ["fetch", "download"])
def test_refuses_ranges_outside_of_the_file(chain: Chain, call: str) -> None:
    """A range behind the end is a 416 that tells the length."""
    answer = chain.http.get(f"/api/{call}/foo/ds-1d.b2nd", headers={"Range": "bytes=999999-"})

    length = len(stored(chain, "ds-1d.b2nd"))
    assert (416, f"bytes */{length}") == (answer.status_code, answer.headers["content-range"])


def test_gives_ranges_of_plain_files(chain: Chain) -> None:
    """A range of a download of a plain file is of the file itself."""
    answer = chain.http.get("/api/download/foo/README.md", headers={"Range": "bytes=2-7"})

    assert (206, README[2:8]) == (answer.status_code, answer.text)


@pytest.mark.parametrize("path", ["fetch/foo/ds-1d.b2nd", "download/foo/ds-1d.b2nd", "download/foo/README.md",
                                  "info/foo/ds-1d.b2nd", "fetch/foo/ds-1d.b2nd?slice_=0:3"])  # fmt: skip
def test_answers_head_as_get_without_the_body(chain: Chain, path: str) -> None:
    """HEAD has the status and headers of GET, and no body."""
    head, get = chain.http.head(f"/api/{path}"), chain.http.get(f"/api/{path}")

    names = ("content-length", "content-type", "etag", "accept-ranges", "content-disposition")
    assert (200, b"") == (head.status_code, head.content)
    assert [get.headers.get(name) for name in names] == [head.headers.get(name) for name in names]


@pytest.mark.parametrize("path", ["info/foo/ds-1d.b2nd", "fetch/foo/ds-1d.b2nd", "fetch/foo/ds-1d.b2nd?slice_=0:10",
                                  "chunk/foo/ds-1d.b2nd?nchunk=0", "download/foo/README.md"])  # fmt: skip
def test_answers_304_to_who_has_this_version(chain: Chain, path: str) -> None:
    """Each answer has the version's ETag, and `If-None-Match` with it is a 304 without a body."""
    etag = chain.http.get(f"/api/{path}").headers["etag"]
    same = chain.http.get(f"/api/{path}", headers={"If-None-Match": f'"other", {etag}'})
    other = chain.http.get(f"/api/{path}", headers={"If-None-Match": '"other"'})

    assert (304, b"", etag) == (same.status_code, same.content, same.headers["etag"])
    assert 200 == other.status_code


def test_gives_the_whole_to_who_has_ranges_of_another_version(chain: Chain) -> None:
    """`If-Range` with another version makes the answer a whole one."""
    data = stored(chain, "ds-1d.b2nd")
    etag = chain.get("fetch/foo/ds-1d.b2nd").headers["etag"]
    headers = [{"Range": "bytes=0-9", "If-Range": tag} for tag in (etag, '"other"')]
    same, other = (chain.http.get("/api/fetch/foo/ds-1d.b2nd", headers=header) for header in headers)

    assert (206, data[:10]) == (same.status_code, same.content)
    assert (200, data) == (other.status_code, other.content)


def test_says_whether_the_publisher_was_asked(chain: Chain) -> None:
    """`Cache-Status` is a miss where chunks had to be fetched, and then a hit."""
    (chain.root / "new.b2nd").write_bytes(stored(chain, "ds-1d.b2nd"))
    answers = [chain.get("fetch/foo/new.b2nd", slice_="0:3").headers["cache-status"] for _ in range(2)]

    assert ["caterva2; fwd=miss; stored", "caterva2; hit"] == answers
    (chain.root / "new.b2nd").unlink()


@pytest.mark.parametrize("path", ["fetch/foo/ds-1d.b2nd", "info/foo/ds-1d.b2nd"])
def test_ignores_a_junk_cookie_for_public_data(chain: Chain, path: str) -> None:
    """A login cookie that means nothing does not keep anyone from public data."""
    answer = chain.http.get(f"/api/{path}", headers={"Cookie": "c2subauth=junk"})

    assert 200 == answer.status_code


def test_a_complete_mirror_is_the_source(chain: Chain, tmp_path: Path) -> None:
    """After all its chunks were read in pieces, a download has the sha256 of the publisher's file."""
    data = np.random.default_rng(3).integers(0, 99, (400, 500), "i4")
    blosc2.asarray(data, chunks=(64, 64), blocks=(16, 16), urlpath=str(chain.root / ".part"))
    (chain.root / ".part").replace(chain.root / "pieces.b2nd")
    dataset = chain.client.get("foo/pieces.b2nd")
    for row in range(0, 400, 37):
        np.testing.assert_array_equal(dataset[row : row + 37, ::3], data[row : row + 37, ::3])
    for column in range(0, 500, 64):
        _ = dataset[:, column]
    asked = len(chain.publisher.asked("POST /api/chunks/pieces"))

    copy = dataset.download(tmp_path / "copy.b2nd")

    assert _sha256(chain.root / "pieces.b2nd") == _sha256(copy)
    assert asked == len(chain.publisher.asked("POST /api/chunks/pieces"))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# -- C2Array ----------------------------------------------------------------------------------------------


@pytest.fixture
def remote(chain: Chain) -> Any:
    """Make a `blosc2.C2Array` of a file."""
    return lambda name: blosc2.C2Array(f"foo/{name}", urlbase=chain.subscriber.url)


@pytest.mark.parametrize("name", ARRAYS)
def test_c2array_reads_arrays(chain: Chain, remote: Any, name: str) -> None:
    """`C2Array` has the array's shape, dtype and chunks, and reads it whole, sliced and by chunks."""
    array, source = remote(name), blosc2.open(str(chain.root / name), mode="r")

    assert (source.shape, source.dtype) == (array.shape, array.dtype)
    assert (source.chunks, source.blocks) == (array.chunks, array.blocks)
    assert dict(source.schunk.vlmeta.getall()) == array.vlmeta
    assert "shape" in str(array.info)
    np.testing.assert_array_equal(array[...], source[...])
    assert source.schunk.get_chunk(0) == array.get_chunk(0)


def test_c2array_reads_slices(chain: Chain, remote: Any) -> None:
    """The indices that `C2Array` takes give what they give in NumPy."""
    array, values = remote("dir1/ds-3d.b2nd"), local(chain, "dir1/ds-3d.b2nd")

    for key in np.s_[0:2, 1:3, :], np.s_[1], np.s_[1, 1, 1], np.s_[..., 2], np.s_[-2:, :, -1]:
        np.testing.assert_array_equal(array[key], values[key])


def test_c2array_reads_fancy_indices(chain: Chain, remote: Any) -> None:
    """Lists, masks and more of them than fit in a URL give what they give in NumPy."""
    array, values = remote("ds-1d.b2nd"), local(chain, "ds-1d.b2nd")
    many = list(np.random.default_rng(1).integers(0, 1000, 3000).tolist())

    for key in [[5, 1, 999]], [values % 7 == 0], [many]:
        np.testing.assert_array_equal(array[key[0]], values[key[0]])


def test_proxy_of_c2array_fetches_what_is_read(chain: Chain, remote: Any, tmp_path: Path) -> None:
    """`blosc2.Proxy` over a `C2Array` caches the chunks, or blocks, that are read."""
    array, values = remote("dir1/ds-2d.b2nd"), local(chain, "dir1/ds-2d.b2nd")
    proxy = blosc2.Proxy(array, urlpath=str(tmp_path / "proxy.b2nd"))

    np.testing.assert_array_equal(proxy[2:7, 3:9], values[2:7, 3:9])
    np.testing.assert_array_equal(proxy.fetch()[...], values)


def test_lazy_expressions_take_c2arrays(chain: Chain, remote: Any) -> None:
    """An expression over a `C2Array` is computed from what the chain serves."""
    array, values = remote("dir1/ds-2d.b2nd"), local(chain, "dir1/ds-2d.b2nd")

    np.testing.assert_array_equal((array + 1)[...], values + 1)


# -- upstream's client ------------------------------------------------------------------------------------


UPSTREAM = """
import sys, pathlib, numpy as np, caterva2
base, directory = sys.argv[1:]
client = caterva2.Client(base) if hasattr(caterva2, "Client") else None
get = (lambda name: getattr(client, name)) if client else (lambda name: lambda *a, **k: getattr(caterva2, name)(
    *a, urlbase=base, **k))
assert "foo" in get("get_roots")()
assert get("subscribe")("foo") == "Ok"
assert "ds-1d.b2nd" in get("get_list")("foo")
info = get("get_info")("foo/ds-1d.b2nd")
assert info["shape"] == [1000], info
assert (get("fetch")("foo/ds-1d.b2nd", slice_=slice(3, 9)) == np.arange(3, 9)).all()
assert len(get("get_chunk")("foo/ds-1d.b2nd", 0)) > 32
root = client.get("foo") if client else caterva2.Root("foo", urlbase=base)
assert "README.md" in list(root)
ds = root["ds-1d.b2nd"]
assert (ds[10:20] == np.arange(10, 20)).all() and ds[5] == 5
assert ds.shape == (1000,) and ds.dtype == np.dtype("i8")
assert root["README.md"][:8] == b"# Header", root["README.md"][:8]
assert (root["dir1/ds-3d.b2nd"][0:2, 1, :3] == np.arange(60, dtype="f4").reshape(3, 4, 5)[0:2, 1, :3]).all()
fields = root["ds-1d-fields.b2nd"]
assert (fields[5:8]["a"] == [5, 6, 7]).all()
if client:
    assert (client.fetch("foo/ds-1d-fields.b2nd", slice_=slice(0, 3))["a"] == [0, 1, 2]).all()
    assert (client.get_slice("foo/ds-1d.b2nd", slice(2, 5))[:] == [2, 3, 4]).all()
for name in ("ds-1d.b2nd", "README.md"):
    path = get("download")(f"foo/{name}", pathlib.Path(directory) / name)
    assert pathlib.Path(path).stat().st_size > 50, path
"""


def test_upstreams_client_reads(chain: Chain, tmp_path: Path) -> None:
    """Upstream's own client, in the environment that CATERVA2_UPSTREAM_PYTHON names, reads everything."""
    (tmp_path / "files").mkdir()
    run_upstream(UPSTREAM, chain.subscriber.url, str(tmp_path / "files"), cwd=tmp_path)

    assert stored(chain, "ds-1d.b2nd") == (tmp_path / "files/ds-1d.b2nd").read_bytes()
