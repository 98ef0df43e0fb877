"""Lazy arrays through REST, the Python client, cat2cli, Blosc2's C2Array and upstream's client."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blosc2
import httpx
import numpy as np
import pytest

from caterva2.cli.main import main
from caterva2.client import Client, get_auth_cookie
from caterva2.client.files import Dataset
from caterva2.errors import AuthenticationError, BadRequestError, ConflictError, FrameError, TooLargeError
from caterva2.example import write_example
from tests.integration.chain.daemons import PASSWORD, ROOT, Chain, add_users, running_chain
from tests.support.arrays import write
from tests.support.upstream import run_upstream
from tests.support.waiting import wait_until

ANN, BOB = "ann@example.com", "bob@example.com"
DS = f"{ROOT}/ds-1d.b2nd"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain on the example root, with users."""
    directory = tmp_path_factory.mktemp("lazy")
    write_example(directory / ROOT)
    write(directory / ROOT / "grid.b2nd", np.arange(12_000.0).reshape(100, 120), chunks=(10, 40), blocks=(5, 10))
    limits = {"secret": "a secret that nobody guesses", "expression_size": 1 << 20, "user_quota": 4 << 20}
    with running_chain(directory, **limits) as chain:
        add_users(chain, ANN, BOB)
        yield chain


@pytest.fixture(scope="module")
def client(chain: Chain) -> Iterator[Client]:
    """The Python client of a user."""
    cookie = get_auth_cookie(chain.subscriber.url, (ANN, PASSWORD))
    with Client(chain.subscriber.url, auth_cookie=cookie) as client:
        yield client


def post(client: Client, body: dict[str, Any], **headers: str) -> httpx.Response:
    """`POST /api/lazyexpr/` as it is."""
    assert client.cookie is not None
    return httpx.post(f"{client.urlbase}/api/lazyexpr/", json=body, headers={"cookie": client.cookie} | headers)


def lazy(client: Client, name: str, expression: str, **operands: str) -> Dataset:
    """Make a lazy array, and open it."""
    found = client.get(client.lazyexpr(name, expression, operands))
    assert isinstance(found, Dataset)
    return found


# -- the contract -----------------------------------------------------------------------------------------


def test_answers_are_upstreams(client: Client) -> None:
    """Statuses and bodies as they were captured; `compute` may be left out."""
    body = {"name": "e", "expression": "ds + 1", "operands": {"ds": DS}}
    made = post(client, body)
    info = client.get_info("@personal/e.b2nd")
    computed = post(client, body | {"name": "c", "compute": True})
    unknown = post(client, body | {"name": "bad", "expression": "ds + zz"})
    missing = post(client, {"name": "bad"})

    assert (200, "@personal/e.b2nd") == (made.status_code, made.json())
    assert {"shape": [1000], "dtype": "int64", "expression": "ds + 1", "operands": {"ds": DS}}.items() <= info.items()
    assert (200, "@personal/c.b2nd") == (computed.status_code, computed.json())
    assert "Expression error: zz is not in the list of available datasets" == unknown.json()["detail"]
    assert 400 == unknown.status_code
    assert (422, [["body", "expression"], ["body", "operands"]]) == (
        missing.status_code,
        [each["loc"] for each in missing.json()["detail"]],
    )


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"expression": "ds +"}, 400, "is not an expression"),
    ({"expression": "ds.__class__"}, 400, "cannot be computed"),
    ({"operands": {"ds": f"{ROOT}/nosuch.b2nd"}}, 400, "nosuch.b2nd does not exist"),
    ({"operands": {"ds": "nosuch/x.b2nd"}}, 400, "nosuch"),
    ({"operands": {"ds": f"{ROOT}/README.md"}}, 400, "is no array"),
    ({"operands": {"ds": f"{ROOT}/../../etc/passwd"}}, 400, "passwd"),
    ({"operands": {"ds": ROOT}}, 400, "is a root"),
    ({"expression": "ds['a'] + 1"}, 400, "no fields"),
    ({"name": "../x"}, 400, "../x"),
    ({"name": f"{ROOT}/x", "operands": {"ds": 5}}, 422, ""),
    ({"name": "@shared/x", "operands": {"ds": "@personal/mine.b2nd"}}, 400, "copy that to @shared first"),
]


@pytest.mark.parametrize(("change", "status", "words"), REFUSED, ids=[str(each[0]) for each in REFUSED])
def test_refuses(client: Client, change: dict[str, Any], status: int, words: str) -> None:
    """What makes no sense is named, and nothing is stored."""
    client.upload(np.arange(5), "@personal/mine.b2nd")
    answer = post(client, {"name": "bad", "expression": "ds + 1", "operands": {"ds": DS}} | change)

    assert status == answer.status_code, answer.text
    assert words in str(answer.json()["detail"])
    assert not [name for name in client.get_list("@personal") if "bad" in name or "x.b2nd" in name]


def test_needs_a_login(chain: Chain) -> None:
    """Nobody in particular stores no expression."""
    assert 401 == chain.http.post("/api/lazyexpr/", json={}).status_code


# -- reading ----------------------------------------------------------------------------------------------


def test_reads_as_any_array(client: Client) -> None:
    """Shape, slices, chunks and the download are those of the values; the store sends what a slice needs."""
    ds = lazy(client, "grid", "(g - mean(g, axis=0)) * 2", g=f"{ROOT}/grid.b2nd")
    grid = np.arange(12_000.0).reshape(100, 120)
    expected = (grid - grid.mean(0)) * 2

    assert ((100, 120), np.dtype("f8")) == (ds.shape, ds.dtype)
    np.testing.assert_array_equal(expected[3:5, ::7], ds[3:5, ::7])
    np.testing.assert_array_equal(expected, ds[:])
    file = client.download(ds.path)
    try:
        np.testing.assert_array_equal(expected, blosc2.open(str(file))[:])
    finally:
        file.unlink()


def test_chunks(client: Client) -> None:
    """Each chunk is what an array of these values and this grid has, those at the border with zeros behind."""
    values = np.arange(1050.0) * 3
    client.upload(blosc2.asarray(values, chunks=(100,), blocks=(20,)), "@personal/long.b2nd")
    ds = lazy(client, "chunky", "a + a", a="@personal/long.b2nd")
    count = -(-ds.shape[0] // ds.chunks[0])
    whole = np.concatenate([np.frombuffer(blosc2.decompress2(ds.get_chunk(n)), "f8") for n in range(count)])

    assert (11, 1100, (100,), (20,)) == (count, len(whole), ds.chunks, ds.blocks)
    np.testing.assert_array_equal(values * 2, whole[:1050])
    assert not whole[1050:].any()
    with pytest.raises(LookupError, match="no chunk 1000"):
        ds.get_chunk(1000)


def test_only_the_chunks_that_a_slice_needs_are_fetched(chain: Chain, client: Client) -> None:
    """A slice of an expression costs the chunks of its operands that it touches."""
    ds = lazy(client, "one", "d * 2", d=f"{ROOT}/dir1/ds-2d.b2nd")
    before = len(chain.publisher.asked("POST /api/chunks"))
    assert 2 * 7 == ds[0, 7]

    assert 1 == len(chain.publisher.asked("POST /api/chunks")) - before


def test_a_version_is_that_of_all_that_it_is_made_of(chain: Chain, client: Client) -> None:
    """The version changes with an operand, an operand of an operand, and a definition; else it is the same."""
    client.upload(np.arange(4), "@personal/leaf.b2nd")
    lazy(client, "inner", "a * 10", a="@personal/leaf.b2nd")
    ds = lazy(client, "outer", "i + a", i="@personal/inner.b2nd", a="@personal/leaf.b2nd")
    seen = [(ds.etag, list(ds[:]))]
    for change in (
        lambda: client.upload(np.arange(4) + 1, "@personal/leaf.b2nd"),
        lambda: client.lazyexpr("inner", "a * 100", {"a": "@personal/leaf.b2nd"}),
        lambda: client.lazyexpr("outer", "i - a", {"i": "@personal/inner.b2nd", "a": "@personal/leaf.b2nd"}),
    ):
        change()
        ds.refresh()
        seen.append((ds.etag, list(ds[:])))

    assert [[0, 11, 22, 33], [11, 22, 33, 44], [101, 202, 303, 404], [99, 198, 297, 396]] == [each[1] for each in seen]
    assert 4 == len({each[0] for each in seen})
    assert client.cookie is not None
    headers = {"cookie": client.cookie, "if-none-match": f'"{ds.etag}"'}
    assert 304 == chain.http.get("/api/fetch/@personal/outer.b2nd", headers=headers).status_code


def test_an_operand_that_vanishes_is_a_conflict_until_it_is_back(chain: Chain, client: Client) -> None:
    """409 names what is missing, or what no longer fits; then everything is as before, with the new values."""
    file = chain.directory / ROOT / "coming.b2nd"
    write(file, np.arange(5), chunks=(5,), blocks=(5,))
    other = client.upload(np.arange(5), "@personal/five.b2nd")
    wait_until(lambda: "coming.b2nd" in client.get_list(ROOT), "the operand is there")
    ds = lazy(client, "comes", "a + b", a=f"{ROOT}/coming.b2nd", b=str(other))
    assert [0, 2, 4, 6, 8] == list(ds[:])
    file.unlink()
    wait_until(lambda: "coming.b2nd" not in client.get_list(ROOT), "the operand has gone")
    with pytest.raises(ConflictError, match=rf"a = {ROOT}/coming.b2nd"):
        client.fetch(ds.path)
    _replace(file, np.arange(7))
    wait_until(lambda: client.get_info(f"{ROOT}/coming.b2nd")["shape"] == [7], "another one is there")
    with pytest.raises(ConflictError, match="do not go together"):
        client.fetch(ds.path)
    _replace(file, np.arange(5) * 10)

    wait_until(lambda: client.get_info(f"{ROOT}/coming.b2nd")["shape"] == [5], "the operand is back")
    assert [0, 11, 22, 33, 44] == list(client.fetch(ds.path))


def _replace(file: Path, values: Any) -> None:
    made = write(file.with_suffix(".new"), values, chunks=values.shape, blocks=values.shape)
    Path(made.urlpath).rename(file)


def test_is_not_made_of_itself(client: Client) -> None:
    """A circle is refused where it would be closed, and where it came about by a move."""
    lazy(client, "first", "a + 1", a=DS)
    lazy(client, "second", "a + 1", a="@personal/first.b2nd")
    with pytest.raises(ConflictError, match="computed from itself"):
        client.lazyexpr("first", "a + 1", {"a": "@personal/second.b2nd"})
    client.remove("@personal/first.b2nd")
    client.move("@personal/second.b2nd", "@personal/first.b2nd")
    with pytest.raises(ConflictError, match="computed from itself"):
        client.fetch("@personal/first.b2nd")


def test_who_may_not_read_an_operand_does_not_read_the_result(chain: Chain, client: Client) -> None:
    """What is in @public is computed for those alone who may read all that it is made of."""
    client.upload(np.arange(3), "@shared/three.b2nd")
    path = client.lazyexpr("@public/open", "a * 2", {"a": "@shared/three.b2nd"})
    with Client(chain.subscriber.url) as nobody, pytest.raises(AuthenticationError, match="@shared"):
        nobody.fetch(path)
    with Client(chain.subscriber.url, (BOB, PASSWORD)) as bob:
        assert [0, 2, 4] == list(bob.fetch(path))


def test_limits(client: Client) -> None:
    """What is too large to be computed at once is a 413 that says so; parts of it are not."""
    client.upload(np.zeros((1000, 1000), "f8"), "@personal/zeros.b2nd")
    ds = lazy(client, "large", "z + 1", z="@personal/zeros.b2nd")
    with pytest.raises(TooLargeError, match="ask for at most 1048576"):
        client.fetch(ds.path)

    assert 5 == ds[0, :5].sum()


# -- values that are kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (0,), (7,), (130, 70, 30), (3, 0, 2)])
def test_computes_now(client: Client, shape: tuple[int, ...]) -> None:
    """With `compute` the values are kept as an ordinary array, also larger ones than are computed at once."""
    values = np.arange(int(np.prod(shape)), dtype="f8").reshape(shape)
    client.upload(values, "@personal/values.b2nd")
    path = client.lazyexpr("kept", "v * 2", {"v": "@personal/values.b2nd"}, compute=True)
    client.remove("@personal/values.b2nd")

    found = client.get(path)
    assert isinstance(found, Dataset)
    np.testing.assert_array_equal(values * 2, found[...])
    assert "expression" not in client.get_info(path)


def test_computing_now_keeps_within_the_quota(client: Client) -> None:
    """Values that do not fit are a 413 with the figures, and nothing of them is left."""
    noise = np.random.default_rng(5).random(400_000)
    client.upload(noise, "@personal/noise.b2nd")
    before = client.get_list("@personal")
    with pytest.raises(TooLargeError, match="a user may keep 4194304 bytes"):
        client.lazyexpr("much", "a + 1", {"a": "@personal/noise.b2nd"}, compute=True)

    assert before == client.get_list("@personal")
    client.remove("@personal/noise.b2nd")


# -- moving about -----------------------------------------------------------------------------------------


def test_is_moved_and_copied_as_it_is(client: Client) -> None:
    """A copy is an expression too, alone or in a folder; into a root for all only if others can read its operands."""
    client.upload(np.arange(3), "@personal/own.b2nd")
    lazy(client, "dir/free", "a[:3] * 2", a=DS)
    lazy(client, "dir/bound", "a * 2", a="@personal/own.b2nd")
    assert "@shared/free.b2nd" == str(client.copy("@personal/dir/free.b2nd", "@shared/free.b2nd"))
    client.copy("@personal/dir", "@personal/copied")
    for target in ("@shared/bound.b2nd", "@public/bound.b2nd"):
        with pytest.raises(BadRequestError, match="only you can read"):
            client.copy("@personal/dir/bound.b2nd", target)
        with pytest.raises(BadRequestError, match="only you can read"):
            client.move("@personal/dir/bound.b2nd", target)
    with pytest.raises(BadRequestError, match="only you can read"):
        client.move("@personal/dir", "@shared/moved")

    assert [0, 2, 4] == list(client.fetch("@shared/free.b2nd"))
    assert [0, 2, 4] == list(client.fetch("@personal/copied/bound.b2nd"))
    assert "a[:3] * 2" == client.get_info("@shared/free.b2nd")["expression"]


def test_is_neither_appended_to_nor_uploaded(client: Client, tmp_path: Path) -> None:
    """It has no rows of its own, and one that was made elsewhere says what nobody checked."""
    lazy(client, "plain", "a + 1", a=DS)
    with pytest.raises(BadRequestError, match="is an expression"):
        client.append("@personal/plain.b2nd", np.arange(3))
    array = blosc2.asarray(np.arange(3), urlpath=str(tmp_path / "a.b2nd"))
    blosc2.lazyexpr("a + 1", {"a": array}).save(urlpath=str(tmp_path / "e.b2nd"))
    with pytest.raises(FrameError, match="not kept"):
        client.upload(str(tmp_path / "e.b2nd"), "@personal/e2.b2nd")


def test_replaces_at_a_version(client: Client) -> None:
    """`If-None-Match: *` makes nothing but a new one, `If-Match` replaces no other version."""
    body = {"name": "versioned", "expression": "a + 1", "operands": {"a": DS}}
    first = post(client, body, **{"if-none-match": "*"})
    again = post(client, body, **{"if-none-match": "*"})
    wrong = post(client, body, **{"if-match": '"other"'})
    right = post(client, body, **{"if-match": first.headers["etag"]})

    assert [200, 412, 412, 200] == [each.status_code for each in (first, again, wrong, right)]


# -- the clients ------------------------------------------------------------------------------------------


def test_blosc2_reads_it(chain: Chain, client: Client) -> None:
    """Blosc2's C2Array slices it, and computes with it."""
    lazy(client, "c2", "a + 1", a=DS)
    with blosc2.c2context(urlbase=chain.subscriber.url, username=ANN, password=PASSWORD):
        array = blosc2.C2Array("@personal/c2.b2nd")

        assert ((1000,), np.dtype("i8")) == (array.shape, array.dtype)
        assert [6, 7, 8] == list(array[5:8])
        assert [12, 14] == list(blosc2.lazyexpr("a * 2", {"a": array})[5:7])


UPSTREAM = """
import sys, numpy as np, caterva2
base, mail, password = sys.argv[1:]
client = caterva2.Client(base, (mail, password))
path = client.lazyexpr("up", "a + b", {"a": "foo/ds-1d.b2nd", "b": "foo/ds-1d.b2nd"})
assert str(path) == "@personal/up.b2nd", path
ds = client.get(path)
assert ds.shape == (1000,) and (ds[3:6] == [6, 8, 10]).all()
assert (client.fetch(path, slice_=slice(0, 3)) == [0, 2, 4]).all()
kept = client.lazyexpr("up2", "a * 3", {"a": "foo/ds-1d.b2nd"}, compute=True)
assert (client.get(kept)[997:] == [2991, 2994, 2997]).all()
"""


def test_upstreams_client_makes_one(chain: Chain, client: Client, tmp_path: Path) -> None:
    """Upstream's own client makes an expression, and reads it back."""
    run_upstream(UPSTREAM, chain.subscriber.url, ANN, PASSWORD, cwd=tmp_path)


def test_command_line(
    chain: Chain, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cat2cli lazyexpr` makes one, and `cat2cli show` filters and sorts."""
    monkeypatch.setenv("CATERVA2_CLIENT_USERNAME", ANN)
    monkeypatch.setenv("CATERVA2_CLIENT_PASSWORD", PASSWORD)
    monkeypatch.setenv("CATERVA2_SUBSCRIBER_URLBASE", chain.subscriber.url)
    fields = f"{ROOT}/ds-1d-fields.b2nd"
    codes = [
        main(["lazyexpr", "cli", "ds * 2", f"ds={DS}"]),
        main(["show", "@personal/cli.b2nd[2:5]"]),
        main(["show", fields, "--json", "--filter", "a > 996", "--field", "a", "--sortby", "a"]),
        main(["lazyexpr", "cli", "ds * 2", "ds"]),
    ]
    out, err = capsys.readouterr()

    assert [0, 0, 0, 2] == codes, err
    lines = out.splitlines()
    assert ["@personal/cli.b2nd", "[4 6 8]"] == lines[:2]
    assert [997, 998, 999] == json.loads("".join(lines[2:]))["data"]
    assert "write NAME=PATH" in err


def test_rows(client: Client) -> None:
    """`Dataset.rows` finds and sorts rows where the data is."""
    ds = client.get(f"{ROOT}/ds-1d-fields.b2nd")
    assert isinstance(ds, Dataset)

    assert [3, 4] == list(ds.rows("(a < 5) & (a > 2)")["a"])
    assert [b"foobar0", b"foobar1"] == list(ds.rows(sortby="a", slice_=":2", field="c"))


def test_takes_other_formats(client: Client, tmp_path: Path) -> None:
    """What was computed is taken away as a NumPy file or as text, in slices."""
    made = lazy(client, "formats", "a * 2", a=DS)

    whole = made.download(tmp_path / "whole.npy", format="npy")
    text = made.download(tmp_path / "text.csv", format="csv", slice_="1:4")

    assert np.array_equal(made[:], np.load(whole))
    assert "".join(f"{value}\r\n" for value in made[1:4]).encode() == text.read_bytes()


def test_evaluates_without_storing(chain: Chain) -> None:
    """An expression is tried out: its form, its values in a slice; errors are as of a stored one, and nothing stays."""
    body = {"expression": "a * 2", "operands": {"a": DS}}

    def evaluate(**changes: Any) -> httpx.Response:
        return chain.http.post("/api/evaluate/", json=body | changes)

    assert {"shape": [1000], "dtype": "int64"} == evaluate().json()
    assert "4\r\n6\r\n" == evaluate(slice_="2:4", format="csv").text
    assert [4, 6] == blosc2.ndarray_from_cframe(evaluate(slice_="2:4").content)[:].tolist()
    refused = [
        evaluate(expression="a *"),
        evaluate(operands={"a": f"{ROOT}/nosuch.b2nd"}),
        evaluate(slice_="5000"),
        evaluate(slice_="0", format="xls"),
    ]
    assert [400] * 4 == [answer.status_code for answer in refused]
    assert "nosuch.b2nd" in refused[1].json()["detail"]
    assert 401 == evaluate(operands={"a": "@personal/a.b2nd"}).status_code
    assert 422 == evaluate(operands=7).status_code
    assert not list(chain.directory.rglob("*evaluate*"))
