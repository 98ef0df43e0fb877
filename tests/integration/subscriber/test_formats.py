"""`format=`: arrays as NumPy's files and as text, whole or in slices, of one version, in bounded memory."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from caterva2.cli.main import main
from caterva2.errors import BadRequestError, SliceError
from caterva2.example import write_example
from caterva2.formats import Csv, Npy
from caterva2.slices import Slice
from tests.integration.chain.daemons import ROOT, Chain, running_chain
from tests.integration.subscriber.test_contract import ARRAYS, local
from tests.support.arrays import same, write
from tests.support.waiting import wait_until

MIB = 1 << 20
BIG = np.arange(8 * MIB, dtype="<i4").reshape(512, -1)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain on the example root, and a larger array."""
    directory = tmp_path_factory.mktemp("formats")
    write_example(directory / ROOT)
    write(directory / ROOT / "big.b2nd", BIG, chunks=(64, 4096))
    with running_chain(directory) as chain:
        yield chain


def loaded(answer: httpx.Response) -> np.ndarray[Any, Any]:
    """The array of an NPY answer, whose length was said."""
    assert (200, "application/octet-stream") == (answer.status_code, answer.headers["content-type"])
    assert str(len(answer.content)) == answer.headers["content-length"]
    array: np.ndarray[Any, Any] = np.load(io.BytesIO(answer.content))
    return array


def rows(answer: httpx.Response) -> list[list[str]]:
    """The records of a CSV answer."""
    assert (200, "text/csv; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    return list(csv.reader(io.StringIO(answer.text, newline="")))


@pytest.mark.parametrize("call", ["fetch", "download"])
@pytest.mark.parametrize("name", [*ARRAYS, "big.b2nd"])
def test_whole_arrays_as_npy(chain: Chain, name: str, call: str) -> None:
    """An NPY file has the array as it is, of its published version, under a name of its own."""
    answer = chain.get(f"{call}/foo/{name}", format="npy")

    assert same(np.asarray(local(chain, name)), loaded(answer))
    assert chain.get(f"info/foo/{name}").headers["etag"] == answer.headers["etag"]
    stem = name.rpartition("/")[2].removesuffix(".b2nd")
    assert f'attachment; filename="{stem}.npy"' == answer.headers["content-disposition"]


@pytest.mark.parametrize(
    ("slice_", "key"),
    [
        ("3", np.s_[3]),
        ("5:400:7, ::-1", np.s_[5:400:7, ::-1]),
        (":, 5", np.s_[:, 5]),
        ("::-1", np.s_[::-1]),
        ("2, 3", np.s_[2, 3]),
        ("9:9", np.s_[9:9]),
    ],
)
def test_slices(chain: Chain, slice_: str, key: Any) -> None:
    """Slices with steps, and items, are what NumPy gives, also where they are made in several parts."""
    assert same(np.asarray(BIG[key]), loaded(chain.get("fetch/foo/big.b2nd", slice_=slice_, format="npy")))


@pytest.mark.parametrize("part", [1, 40, 100, 300])
def test_parts_of_any_size_join(chain: Chain, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """However a file is cut, its parts follow each other: along chunks, across them, and in any direction."""
    values = np.arange(7 * 9 * 5, dtype="<i4").reshape(7, 9, 5)
    if not (chain.root / "parts.b2nd").exists():
        write(chain.root / "parts.b2nd", values, chunks=(3, 4, 2), blocks=(2, 2, 2))
    for encoding in (Npy, Csv):
        monkeypatch.setattr(encoding, "part", part)
    rng = np.random.default_rng(part)
    for _ in range(30):
        texts = [_some_slice(rng, extent) for extent in values.shape]
        key = Slice.parse(", ".join(texts)).items
        expected = np.asarray(values[key])

        answer = chain.get("fetch/foo/parts.b2nd", slice_=", ".join(texts), format="npy")
        assert same(np.ascontiguousarray(expected).reshape(expected.shape), loaded(answer)), texts
        if 1 <= expected.ndim <= 2 and expected.size:
            table = rows(chain.get("fetch/foo/parts.b2nd", slice_=", ".join(texts), format="csv"))
            assert (np.array(table, "i4").reshape(expected.shape) == expected).all(), texts


def _some_slice(rng: np.random.Generator, extent: int) -> str:
    """An index or a slice of an axis, with steps in both directions."""
    if rng.random() < 0.4:
        return str(rng.integers(extent))
    start, stop, step = rng.integers(0, extent + 1), rng.integers(0, extent + 2), rng.choice([1, 1, 1, 2, -1, -2])
    return f"{start}:{stop}:{step}" if rng.random() < 0.7 else "::" + str(step)


def test_text(chain: Chain) -> None:
    """Records are rows, from 0 to 2 axes; the rest is refused with a remedy."""
    texts = {
        name: rows(chain.get(f"fetch/foo/{name}", format="csv"))
        for name in ("ds-sc-attr.b2nd", "ds-1d.b2nd", "dir1/ds-2d.b2nd")
    }
    several = rows(chain.get("download/foo/big.b2nd", slice_="::64, ::2", format="csv"))
    refused = chain.get("fetch/foo/dir1/ds-3d.b2nd", format="csv")
    one = rows(chain.get("fetch/foo/dir1/ds-3d.b2nd", slice_="1", format="csv"))

    assert [["foobar"]] == texts["ds-sc-attr.b2nd"]
    assert [[str(n)] for n in range(1000)] == texts["ds-1d.b2nd"]
    assert (np.array(texts["dir1/ds-2d.b2nd"], "u2") == local(chain, "dir1/ds-2d.b2nd")).all()
    assert (np.array(several, "i4") == BIG[::64, ::2]).all()
    assert (np.array(one, "f4") == local(chain, "dir1/ds-3d.b2nd")[1]).all()
    assert 400 == refused.status_code
    assert "has shape (3, 4, 5): take a slice with fewer, or format=npy" in refused.json()["detail"]


def test_fields_and_rows(chain: Chain) -> None:
    """A structured array is a table with a header; one field of it, and rows that a condition finds, go too."""
    path, table = "fetch/foo/ds-1d-fields.b2nd", local(chain, "ds-1d-fields.b2nd")

    all_of_it = rows(chain.get(path, format="csv"))
    field = loaded(chain.get(path, field="b", slice_="::-1", format="npy"))
    found = rows(chain.get(path, filter="a < 3", format="csv"))
    order = loaded(chain.get(path, sortby="b", slice_="-2:", field="a", format="npy"))

    assert ["a", "b", "c", "d"] == all_of_it[0] == found[0]
    assert [str(table["c"][999], "ascii"), str(table["d"][999])] == all_of_it[1000][2:]
    assert same(np.ascontiguousarray(table["b"][::-1]), field)
    assert ["0", "1", "2"] == [row[0] for row in found[1:]]
    assert same(np.array([998, 999], "i4"), order)


def test_points_by_post(chain: Chain) -> None:
    """Fancy indices and a body of JSON take a format as well."""
    body = {"indices": [[500, 3, 3], None], "format": "npy"}

    assert same(BIG[[500, 3, 3]], loaded(chain.http.post("/api/fetch/foo/big.b2nd", json=body)))
    assert 400 == chain.http.post("/api/fetch/foo/big.b2nd", json={"format": 7}).status_code


def test_slices_as_files(chain: Chain) -> None:
    """A download takes what a fetch takes, and is a file to be kept; the format may be named though it needs not be."""
    answer = chain.get("download/foo/ds-1d.b2nd", slice_="3:5")

    assert chain.get("fetch/foo/ds-1d.b2nd", slice_="3:5").content == answer.content
    assert 'attachment; filename="ds-1d.b2nd"' == answer.headers["content-disposition"]
    for call in ("fetch", "download"):
        assert chain.get(f"{call}/foo/ds-1d.b2nd", format="b2nd").content == (chain.root / "ds-1d.b2nd").read_bytes()


def test_versions(chain: Chain) -> None:
    """`If-None-Match` spares the work, and HEAD tells the length."""
    url = "/api/fetch/foo/big.b2nd?format=npy"
    head = chain.http.head(url)

    again = chain.http.get(url, headers={"if-none-match": head.headers["etag"]})

    assert (200, str(BIG.nbytes + 128), b"") == (head.status_code, head.headers["content-length"], head.content)
    assert (304, b"") == (again.status_code, again.content)


@pytest.mark.parametrize(
    ("path", "params", "detail"),
    [
        ("fetch/foo/ds-1d.b2nd", {"format": "xls"}, "'xls' is no format: use b2nd, npy, csv"),
        ("download/foo/ds-1d.b2nd", {"fromat": "csv"}, "'fromat' is no parameter here"),
        ("download/foo/README.md", {"format": "csv"}, "foo/README.md is no array: format=csv is for arrays"),
        ("fetch/foo/ds-hello.b2frame", {"format": "npy"}, "is no array"),
        ("fetch/foo/ds-1d.b2nd", {"format": "npy", "slice_": "5000"}, "out of bounds"),
        ("fetch/foo/ds-1d.b2nd", {"format": "npy", "field": "x"}, "there is no field 'x'"),
        ("fetch/foo/ds-2d-fields.b2nd", {"format": "csv"}, "take a slice with fewer, or one field"),
        ("fetch/foo/ds-1d-fields.b2nd", {"format": "csv", "filter": "a <"}, "a <"),
    ],
)
def test_refusals(chain: Chain, path: str, params: dict[str, str], detail: str) -> None:
    """What cannot be is a 400 that says why."""
    answer = chain.get(path, **params)

    assert 400 == answer.status_code
    assert detail in answer.json()["detail"]


def test_a_change_never_mixes(chain: Chain) -> None:
    """A file that changes while it is sent is cut off, or is whole; the next one is the new version."""
    shape = (64, 256 << 10)
    write(chain.root / "changing.b2nd", np.full(shape, 1, "i1"), chunks=(1, shape[1]))
    url = f"{chain.subscriber.url}/api/fetch/foo/changing.b2nd?format=npy"
    with httpx.stream("GET", url, trust_env=False) as answer:
        pieces, etag = answer.iter_raw(64 << 10), answer.headers["etag"]
        found = next(pieces)
        write(chain.root / ".changing", np.full(shape, 2, "i1"), chunks=(1, shape[1]))
        (chain.root / ".changing").replace(chain.root / "changing.b2nd")
        wait_until(lambda: chain.get("info/foo/changing.b2nd").headers["etag"] != etag, "the new version")
        with suppress(httpx.RemoteProtocolError):
            for piece in pieces:
                found += piece

    assert {1} == set(found[128:])
    assert (loaded(httpx.get(url, trust_env=False)) == 2).all()


@pytest.mark.parametrize(("params", "most"), [("format=npy", 20 * MIB), ("format=csv&slice_=::24", 8 * MIB)])
def test_memory(chain: Chain, params: str, most: int) -> None:
    """A large array goes through in small parts."""
    tracemalloc.start()
    try:
        with chain.http.stream("GET", f"/api/fetch/foo/big.b2nd?{params}") as answer:
            length = sum(map(len, answer.iter_raw(64 << 10)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < most < (length if params == "format=npy" else 4 * length)


def test_python(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`download(format=...)` writes such a file, named after it; what does not fit is an error of the client's."""
    monkeypatch.chdir(tmp_path)
    foo = chain.client.get("foo")
    dataset = foo["dir1/ds-2d.b2nd"]

    whole = dataset.download(format="npy")
    part = dataset.download("part/", format="csv", slice_=(slice(0, 2), 3))
    table = chain.client.download("foo/ds-1d-fields.b2nd", "a.npy", format="npy", slice_="-2:", field="a")

    assert Path("foo/dir1/ds-2d.npy") == whole
    assert same(dataset[:], np.load(whole))
    assert (Path("part/ds-2d.csv"), b"3\r\n23\r\n") == (part, part.read_bytes())
    assert same(np.array([998, 999], "i4"), np.load(table))
    with pytest.raises(BadRequestError, match="'xls' is no format"):
        dataset.download(format="xls")
    with pytest.raises(SliceError):
        dataset.download(format="npy", slice_="x")
    assert not list(tmp_path.rglob("*.part"))


def test_cat2cli(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cat2cli download --format` writes slices too."""
    monkeypatch.chdir(tmp_path)
    common = ["--subscriber", chain.subscriber.url, "download"]

    assert 0 == main([*common, "foo/dir1/ds-2d.b2nd[:1, :3]", "--format", "csv"])
    assert 0 == main([*common, "foo/ds-1d-fields.b2nd", "x.npy", "--format=npy", "--slice=-1", "--field=a"])
    assert 2 == main([*common, "foo/dir1/ds-3d.b2nd", "--format", "csv"])

    printed = capsys.readouterr()
    assert ("foo/dir1/ds-2d.csv\nx.npy\n", b"0,1,2\r\n") == (printed.out, Path("foo/dir1/ds-2d.csv").read_bytes())
    assert 999 == np.load("x.npy")
    assert "take a slice with fewer" in printed.err
