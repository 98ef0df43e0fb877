from __future__ import annotations

from typing import Any

import blosc2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices
from starlette.responses import JSONResponse, Response

from caterva2.client.api import Client
from caterva2.client.files import Dataset, File
from caterva2.errors import (
    BadGatewayError,
    FrameError,
    NotFoundError,
    SliceError,
    UnavailableError,
    VersionChangedError,
)
from tests.unit.client.subscriber import FakeSubscriber, cframe, info_of

_FIELDS = np.array(
    [(i, i / 10, b"foobar%d" % i, [i, -i]) for i in range(20)],
    [("a", "<i4"), ("b", "<f8"), ("c", "S10"), ("d", "<i2", (2,))],
)


def dataset(subscriber: FakeSubscriber, value: Any, path: str = "foo/ds.b2nd", **vlmeta: Any) -> Dataset:
    """Publish an array and get it."""
    subscriber.put(path, value, **vlmeta)
    found = Client(subscriber.url).get(path)
    assert isinstance(found, Dataset)
    subscriber.requests.clear()
    return found


def file(subscriber: FakeSubscriber, content: bytes, path: str = "foo/a.txt") -> File:
    """Publish bytes and get them."""
    subscriber.put(path, content)
    found = Client(subscriber.url).get(path)
    assert isinstance(found, File)
    subscriber.requests.clear()
    return found


def same(expected: Any, actual: Any) -> bool:
    """Whether two values are of one type, dtype and shape, and equal."""
    return type(expected) is type(actual) and expected.dtype == actual.dtype and np.array_equal(expected, actual)


@pytest.mark.parametrize(
    "key",
    [
        5,
        -1,
        np.int64(3),
        slice(2, 9, 3),
        slice(None, None, -1),
        slice(8, 2, -2),
        slice(5, 5),
        slice(-3, None),
        slice(990, 10**30),
        slice(None, None, 10**30),
        ...,
        (),
        (5,),
        (5, ...),
        (..., 5),
        slice(None),
    ],
    ids=str,
)
def test_one_axis_as_in_numpy(subscriber: FakeSubscriber, key: Any) -> None:
    """Every basic index of a vector gives NumPy's value in NumPy's type: a scalar where it gives one."""
    array = np.arange(1000)

    actual = dataset(subscriber, array)[key]

    assert same(array[key], actual)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_many_axes_as_in_numpy(subscriber: FakeSubscriber, data: st.DataObject) -> None:
    """Random basic indices of arrays of 0 to 4 axes, also empty ones, give what NumPy gives."""
    shape = data.draw(st.lists(st.integers(0, 5), max_size=4).map(tuple))
    array = np.arange(np.prod(shape, dtype=int), dtype="f4").reshape(shape)
    key = data.draw(basic_indices(shape, allow_newaxis=False))

    actual = dataset(subscriber, array)[key]

    assert same(array[key], actual)


def test_a_read_is_one_request(subscriber: FakeSubscriber) -> None:
    """A slice costs one request, with the slice as it was written."""
    ds = dataset(subscriber, np.arange(60).reshape(3, 4, 5))

    ds[0:2, 1, ::-2]

    assert ["GET /api/fetch/foo/ds.b2nd?slice_=0%3A2%2C+1%2C+%3A%3A-2"] == subscriber.requests


@pytest.mark.parametrize("key", [..., slice(None), (slice(None), ...), ()], ids=str)
def test_everything_needs_no_slice(subscriber: FakeSubscriber, key: Any) -> None:
    """The whole array is asked for without a slice, so that the server can send its file as it is."""
    ds = dataset(subscriber, np.arange(6).reshape(2, 3))

    ds[key]

    assert ["GET /api/fetch/foo/ds.b2nd"] == subscriber.requests


@pytest.mark.parametrize("key", [1000, -1001, (0, 0), 1.5, True, None, [1, 2], "nosuch", slice(None, None, 0)], ids=str)
def test_what_is_no_index_of_it(subscriber: FakeSubscriber, key: Any) -> None:
    """An index that does not fit is an IndexError, raised without asking for data."""
    ds = dataset(subscriber, np.arange(1000))

    with pytest.raises(SliceError) as caught:
        ds[key]

    assert isinstance(caught.value, IndexError)
    assert not [request for request in subscriber.requests if "/api/fetch/" in request]


def test_slices_as_text(subscriber: FakeSubscriber) -> None:
    """`fetch` also takes the text of a URL's slice; None and "" are everything."""
    array = np.arange(60).reshape(3, 4, 5)
    ds = dataset(subscriber, array)

    assert same(array[0:2, 1, ::-2], ds.fetch("0:2, 1, ::-2"))
    assert same(array, ds.fetch())
    assert same(array, ds.fetch(""))


def test_fields(subscriber: FakeSubscriber) -> None:
    """A field is fetched alone, by index or by argument, together with a slice."""
    ds = dataset(subscriber, _FIELDS)

    assert same(_FIELDS["a"], ds["a"])
    assert same(_FIELDS["d"], ds["d"])
    assert same(_FIELDS["c"][3:9:2], ds.fetch(slice(3, 9, 2), field="c"))
    assert same(_FIELDS["b"][4], ds.fetch(4, field="b"))
    assert same(_FIELDS[3:5], ds[3:5])
    assert _FIELDS[3] == ds[3]


def test_an_unknown_field_names_the_known_ones(subscriber: FakeSubscriber) -> None:
    """A field that does not exist is an error that lists those that do."""
    with pytest.raises(SliceError, match="no field 'z': it has a, b, c, d"):
        dataset(subscriber, _FIELDS)["z"]


def test_attributes(subscriber: FakeSubscriber) -> None:
    """A dataset tells what an array tells, and what Blosc2 adds."""
    ds = dataset(subscriber, np.zeros((4, 6), ">f4"), a=1, b="foo")

    assert ((4, 6), np.dtype(">f4"), 2, 24, 96) == (ds.shape, ds.dtype, ds.ndim, ds.size, ds.nbytes)
    assert {"a": 1, "b": "foo"} == ds.vlmeta
    assert ("ds.b2nd", "foo", "foo/ds.b2nd") == (ds.name, ds.root, str(ds.path))
    assert (4, "<Dataset: foo/ds.b2nd>", "foo/ds.b2nd") == (len(ds), repr(ds), str(ds))
    assert [4, 6] == ds.meta["shape"]
    assert (ds.chunks, ds.blocks) == (ds.info.chunks, ds.info.blocks)
    assert [] == subscriber.requests


def test_urls(subscriber: FakeSubscriber) -> None:
    """A file tells its URLs, for other programs."""
    found = file(subscriber, b"x", "foo/a b")

    assert f"{subscriber.url}/api/download/foo/a%20b" == found.get_download_url()
    assert f"{subscriber.url}/api/fetch/foo/a%20b" == found.get_fetch_url()


def test_numpy_takes_it_for_an_array(subscriber: FakeSubscriber) -> None:
    """NumPy's functions accept a dataset, a copy cannot be avoided, and a dtype is honoured."""
    array = np.arange(12).reshape(3, 4)
    ds = dataset(subscriber, array)

    assert same(array, np.asarray(ds))
    assert same(array.astype("f4"), np.array(ds, dtype="f4"))
    assert array.sum() == np.sum(ds)
    with pytest.raises(ValueError, match="without a copy"):
        np.array(ds, copy=False)


def test_iteration_fetches_by_chunks(subscriber: FakeSubscriber) -> None:
    """The rows of a dataset are fetched a chunk at a time."""
    array = np.arange(12).reshape(6, 2)
    ds = dataset(subscriber, array)
    ds._version.meta["chunks"] = [4, 2]
    ds._version = type(ds._version)(ds.meta, ds.info.model_copy(update={"chunks": (4, 2)}), ds.etag)

    rows = list(iter(ds))

    assert np.array_equal(array, rows)
    assert 2 == len(subscriber.requests)


def test_a_scalar_dataset(subscriber: FakeSubscriber) -> None:
    """A dataset without axes has no length and no rows, but a value."""
    ds = dataset(subscriber, np.array("foobar"))

    assert same(np.array("foobar")[()], ds[()])
    assert same(np.array("foobar"), ds[...])
    assert bool(ds)
    with pytest.raises(TypeError, match="unsized"):
        len(ds)
    with pytest.raises(TypeError, match="0-d"):
        iter(ds).__next__()


def test_blosc2_slices(subscriber: FakeSubscriber) -> None:
    """`slice` keeps the answer compressed, or gives what indexing gives."""
    array = np.arange(100)
    ds = dataset(subscriber, array)

    kept = ds.slice(slice(10, 20))

    assert isinstance(kept, blosc2.NDArray)
    assert np.array_equal(array[10:20], kept[:])
    assert same(array[10:20], ds.slice(slice(10, 20), as_blosc2=False))


def test_a_new_version_brings_its_shape(subscriber: FakeSubscriber) -> None:
    """After a change the values, shape and dtype of the new version come together."""
    ds = dataset(subscriber, np.arange(10))
    subscriber.put("foo/ds.b2nd", np.arange(20, dtype="f8") + 0.5, fresh=True)

    values = ds[:]

    assert same(np.arange(20) + 0.5, values)
    assert ((20,), np.dtype("f8"), {"fresh": True}) == (ds.shape, ds.dtype, ds.vlmeta)


def test_a_grown_dataset_has_its_new_rows(subscriber: FakeSubscriber) -> None:
    """An index beyond the shape that was read first is looked up again before it is refused."""
    ds = dataset(subscriber, np.arange(10))
    subscriber.put("foo/ds.b2nd", np.arange(20))

    assert 15 == ds[15]
    assert (20,) == ds.shape


def test_a_shrunken_dataset_refuses_what_is_gone(subscriber: FakeSubscriber) -> None:
    """An index that no longer exists is an IndexError, and the shape is the new one."""
    ds = dataset(subscriber, np.arange(20))
    subscriber.put("foo/ds.b2nd", np.arange(10))

    with pytest.raises(IndexError, match="15"):
        ds[15]

    assert (10,) == ds.shape


def test_refresh_is_a_question_for_the_version(subscriber: FakeSubscriber) -> None:
    """`refresh` reads the description again only when there is another version."""
    ds = dataset(subscriber, np.arange(10))
    before = ds.info
    ds.refresh()
    assert before is ds.info

    subscriber.put("foo/ds.b2nd", np.arange(30))
    ds.refresh()

    assert (30,) == ds.shape


def test_another_kind_of_file(subscriber: FakeSubscriber) -> None:
    """An array that was replaced by a plain file says so."""
    ds = dataset(subscriber, np.arange(10))
    subscriber.put("foo/ds.b2nd", b"no array")

    with pytest.raises((VersionChangedError, FrameError), match=r"another kind|no Blosc2 array"):
        ds[:]


def test_a_deleted_dataset(subscriber: FakeSubscriber) -> None:
    """A dataset that is gone is a NotFoundError when it is read."""
    ds = dataset(subscriber, np.arange(10))
    subscriber.datasets.clear()

    with pytest.raises(NotFoundError):
        ds[:]


@pytest.mark.parametrize("wrong", [np.arange(5), np.arange(10, dtype="i2"), np.zeros((10, 1), int)], ids=str)
def test_an_answer_of_another_shape_is_not_decoded(subscriber: FakeSubscriber, wrong: Any) -> None:
    """An answer whose shape or item size does not fit is asked for again, and never handed out."""
    ds = dataset(subscriber, np.arange(10))
    answers = [Response(cframe(wrong), headers={"etag": subscriber.etag("foo/ds.b2nd")}) for _ in range(9)]
    subscriber.raw["GET /api/fetch/foo/ds.b2nd"] = answers[:1]
    assert same(np.arange(10), ds[:])

    subscriber.raw["GET /api/fetch/foo/ds.b2nd"] = answers[1:]
    with pytest.raises(VersionChangedError, match="keeps changing"):
        ds[:]


def test_a_bomb_is_not_decoded(subscriber: FakeSubscriber) -> None:
    """A few hundred bytes that declare terabytes are refused before memory is asked for."""
    ds = dataset(subscriber, np.arange(10))
    bomb = bytes(blosc2.zeros((10**6, 10**6), dtype="f8", contiguous=True).to_cframe())
    subscriber.raw["GET /api/fetch/foo/ds.b2nd"] = [Response(bomb) for _ in range(9)]

    with pytest.raises(VersionChangedError):
        ds[:]


def test_a_damaged_answer(subscriber: FakeSubscriber) -> None:
    """An answer that is no frame is a FrameError."""
    ds = dataset(subscriber, np.arange(10))
    subscriber.raw["GET /api/fetch/foo/ds.b2nd"] = [Response(b"garbage")]

    with pytest.raises(FrameError):
        ds[:]


def test_an_unavailable_publisher(subscriber: FakeSubscriber) -> None:
    """What the server says of a publisher that is away reaches the caller."""
    ds = dataset(subscriber, np.arange(10))
    subscriber.raw["GET /api/fetch/foo/ds.b2nd"] = [JSONResponse({"detail": "foo is offline"}, 503)]

    with pytest.raises(UnavailableError, match="foo is offline"):
        ds[:]


@pytest.mark.parametrize("change", [{"dtype": "os.system('x')"}, {"dtype": "O"}], ids=str)
def test_a_dtype_is_never_evaluated(subscriber: FakeSubscriber, change: dict[str, Any]) -> None:
    """A description whose dtype is code, or Python objects, is refused."""
    subscriber.put("foo/ds.b2nd", np.arange(10))
    subscriber.raw["GET /api/info/foo/ds.b2nd"] = [JSONResponse(info_of(np.arange(10), {}) | change)]

    with pytest.raises(FrameError):
        _ = Client(subscriber.url).get("foo/ds.b2nd").dtype  # type: ignore[union-attr]


@pytest.mark.parametrize("meta", [[], {}, {"shape": "x"}, {"shape": [1]}, None], ids=str)
def test_a_senseless_description(subscriber: FakeSubscriber, meta: Any) -> None:
    """A description that is none is the server's fault, and says which field."""
    subscriber.put("foo/ds.b2nd", np.arange(10))
    subscriber.raw["GET /api/info/foo/ds.b2nd"] = [JSONResponse(meta)]

    with pytest.raises(BadGatewayError, match="makes no sense"):
        Client(subscriber.url).get("foo/ds.b2nd")


def test_a_table_for_notebooks(subscriber: FakeSubscriber) -> None:
    """The notebook's table shows shape and attributes; foreign text stays text."""
    html = dataset(subscriber, np.zeros((3, 4)), "foo/<b>.b2nd", note="<script>alert(1)</script>")._repr_html_()

    assert "(3, 4)" in html
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "<b>" not in html


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (0, b"\0"),
        (-1, b"\xff"),
        (slice(0, 5), bytes(range(5))),
        (slice(None, None, -1), bytes(range(255, -1, -1))),
        (slice(2, 2), b""),
        (..., bytes(range(256))),
        (slice(250, 10**30), bytes(range(250, 256))),
    ],
    ids=str,
)
def test_bytes_of_a_file(subscriber: FakeSubscriber, key: Any, expected: bytes) -> None:
    """The index of a file selects bytes; an int gives the one byte."""
    content = bytes(range(256))

    assert expected == file(subscriber, content)[key]


def test_files(subscriber: FakeSubscriber) -> None:
    """A file has a size, its content, and a super-chunk for those who want it compressed."""
    found = file(subscriber, b"Hello world!")

    assert (12, b"Hello world!", b"Hello") == (found.nbytes, found.fetch(), found.fetch("0:5"))
    assert isinstance(found.slice(slice(0, 5)), blosc2.SChunk)
    assert b"Hello" == found.slice(slice(0, 5), as_blosc2=False)
    assert "<File: foo/a.txt>" == repr(found)
    with pytest.raises(IndexError):
        found[12]


def test_an_empty_file(subscriber: FakeSubscriber) -> None:
    """A file without content has none."""
    assert b"" == file(subscriber, b"").fetch()


def test_a_growing_file(subscriber: FakeSubscriber) -> None:
    """A log that grew is read to its present end."""
    log = file(subscriber, b"one\n")
    subscriber.put("foo/a.txt", b"one\ntwo\n")

    assert b"one\ntwo\n" == log[:]
    assert 8 == log.nbytes


def test_a_compressed_chunk(subscriber: FakeSubscriber) -> None:
    """`get_chunk` gives the stored bytes of a chunk."""
    array = np.arange(10)

    chunk = dataset(subscriber, array).get_chunk(0)

    assert array.tobytes() == blosc2.decompress2(chunk)
