"""Lazy arrays and joins through REST, the Python client, cat2cli, Blosc2's C2Array and upstream's client."""

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


def post(client: Client, body: dict[str, Any], route: str = "lazyexpr", **headers: str) -> httpx.Response:
    """`POST /api/lazyexpr/`, or another route, as it is."""
    assert client.cookie is not None
    return httpx.post(f"{client.urlbase}/api/{route}/", json=body, headers={"cookie": client.cookie} | headers)


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


# -- joins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("function", ["concatenate", "stack"])
def test_joins(client: Client, function: str, axis: int) -> None:
    """Arrays of any root, also lazy ones, become one, along an axis that they have or a new one."""
    two = np.arange(200).reshape(10, 20)
    client.upload(two.astype("f4") / 7, "@shared/floats.b2nd")
    lazy(client, "minus", "-a", a=f"{ROOT}/dir1/ds-2d.b2nd")
    sources = [f"{ROOT}/dir1/ds-2d.b2nd", "@shared/floats.b2nd", "@personal/minus.b2nd", "@shared/floats.b2nd"]
    path = getattr(client, function)(sources, "@personal/joined.b2nd", axis)
    minus = -two.astype("u2")
    values = [two.astype("u2"), two.astype("f4") / 7, minus, two.astype("f4") / 7]
    expected = getattr(np, function)(values, axis=axis)

    found = client.get(path)
    assert isinstance(found, Dataset)
    assert ("@personal/joined.b2nd", expected.dtype) == (str(path), found.dtype)
    np.testing.assert_array_equal(expected, found[...])
    assert "expression" not in client.get_info(path)


def test_joins_what_is_larger_than_a_part(client: Client) -> None:
    """What is joined may be larger than what one request may have computed, and may replace one of its sources."""
    values = np.arange(150_000.0)
    client.upload(values, "@personal/long.b2nd")
    ds = client.get("@personal/long.b2nd")
    assert isinstance(ds, Dataset)
    path = ds.concatenate("@personal/long.b2nd", ds.path)

    np.testing.assert_array_equal(np.concatenate([values, values]), client.fetch(path))
    client.remove(path)


@pytest.mark.parametrize("names", [["ds-1d-fields.b2nd"] * 2, ["ds-1d-b.b2nd"] * 3])
def test_joins_what_is_not_computed_with(client: Client, names: list[str]) -> None:
    """Arrays with fields and texts are joined too; those with fields also when they are read."""
    paths = [f"{ROOT}/{name}" for name in names]
    one = client.fetch(paths[0])
    kept = client.concatenate(paths, "@personal/rows.b2nd")
    ds = lazy(client, "follows", "concat((a, a))", a=paths[0])

    np.testing.assert_array_equal(np.concatenate([one] * len(names)), client.fetch(kept))
    np.testing.assert_array_equal(np.concatenate([one, one])[995:1005], ds[995:1005])


def test_a_join_follows_its_operands(client: Client) -> None:
    """A join that is an expression has another shape when an operand has; the chunks are those of the whole."""
    client.upload(np.arange(3), "@personal/grows.b2nd")
    ds = lazy(client, "all", "concat((g, 10 * g, argmax(stack((g, -g)), axis=0)))", g="@personal/grows.b2nd")
    before = list(ds[:])
    client.append("@personal/grows.b2nd", np.arange(3, 5))
    ds.refresh()

    assert [0, 1, 2, 0, 10, 20, 0, 0, 0] == before
    assert [0, 1, 2, 3, 4, 0, 10, 20, 30, 40, 0, 0, 0, 0, 0] == list(ds[:])
    chunk = np.frombuffer(blosc2.decompress2(ds.get_chunk(0)), ds.dtype)
    assert list(ds[:]) == list(chunk[:15])


NOT_JOINED: list[tuple[dict[str, Any], int, str]] = [
    ({"srcs": [DS, f"{ROOT}/dir1/ds-2d.b2nd"]}, 400, "array 2 of 2 has the shape (10, 20)"),
    ({"srcs": [DS, f"{ROOT}/ds-1d-fields.b2nd"]}, 400, "do not go together"),
    ({"srcs": [DS, f"{ROOT}/nosuch.b2nd"]}, 400, f"a1 = {ROOT}/nosuch.b2nd"),
    ({"srcs": [DS, "@personal/../x.b2nd"]}, 400, "'../x.b2nd' is not a path"),
    ({"srcs": [f"{ROOT}/README.md"]}, 400, "is no array"),
    ({"srcs": [ROOT]}, 400, "is a root"),
    ({"srcs": []}, 422, "at least 1"),
    ({"srcs": [DS] * 257}, 422, "at most 256"),
    ({"srcs": DS}, 422, "valid array"),
    ({"axis": 1}, 400, "axis 1 is out of bounds"),
    ({"axis": 10**30}, 400, "too large"),
    ({"axis": None}, 422, "valid integer"),
    ({"dst": "@personal/bad"}, 400, "ends in .b2nd"),
    ({"dst": "@personal"}, 400, "ends in .b2nd"),
    ({"dst": f"{ROOT}/bad.b2nd"}, 400, "roots can be modified"),
]


@pytest.mark.parametrize(("change", "status", "words"), NOT_JOINED, ids=[str(each[0])[:60] for each in NOT_JOINED])
def test_refuses_to_join(client: Client, change: dict[str, Any], status: int, words: str) -> None:
    """What does not go together is named, and nothing is kept."""
    answer = post(client, {"srcs": [DS, DS], "dst": "@personal/bad.b2nd", "axis": 0} | change, "concat")

    assert status == answer.status_code, answer.text
    assert words in str(answer.json()["detail"])
    assert "bad.b2nd" not in client.get_list("@personal")


def test_what_no_array_can_hold(client: Client) -> None:
    """What is too large for an array is refused, be it kept or computed when it is read."""
    huge, column, row = ((1 << 40,), (1 << 22,)), ((1 << 24, 1), None), ((1, 1 << 24), None)
    for name, (shape, chunks) in {"huge": huge, "column": column, "row": row}.items():
        client.upload(blosc2.uninit(shape, "f8", chunks=chunks, contiguous=True), f"@personal/{name}.b2nd")
    outer = {"expression": "a * b", "operands": {"a": "@personal/column.b2nd", "b": "@personal/row.b2nd"}}
    refused = [
        post(client, {"srcs": ["@personal/huge.b2nd"] * 256, "dst": "@personal/bad.b2nd", "axis": 0}, "concat"),
        *(post(client, outer | {"name": "bad", "compute": compute}) for compute in (False, True)),
    ]

    assert [400] * 3 == [each.status_code for each in refused], [each.text for each in refused]
    assert all("larger than can be kept" in each.json()["detail"] for each in refused)
    assert "bad.b2nd" not in client.get_list("@personal")


def test_a_join_of_large_chunks_has_their_grid(client: Client) -> None:
    """Each chunk of a join of arrays with large chunks is made of one of theirs."""
    values = np.arange(600_000).reshape(300, 2000)
    client.upload(blosc2.asarray(values, chunks=(100, 2000), blocks=(10, 2000)), "@personal/parts.b2nd")
    lazy(client, "stacked", "stack((a, -a), axis=1)", a="@personal/parts.b2nd")
    lazy(client, "joined", "concat((-a, a), axis=1)", a="@personal/parts.b2nd")
    stacked, joined = (client.get_info(f"@personal/{name}.b2nd") for name in ("stacked", "joined"))

    assert ([100, 1, 2000], [10, 1, 2000]) == (stacked["chunks"], stacked["blocks"])
    assert ([100, 2000], [10, 2000]) == (joined["chunks"], joined["blocks"])
    np.testing.assert_array_equal(-values[250], client.fetch("@personal/stacked.b2nd", "250, 1"))
    client.remove("@personal/parts.b2nd")


def test_joins_256_arrays(client: Client) -> None:
    """As many arrays as a request may name go into one expression; `If-None-Match` is honoured."""
    for n in range(16):
        client.upload(np.array([n], "u1"), f"@personal/many/0/{n}.b2nd")
    for n in range(1, 16):
        client.copy("@personal/many/0", f"@personal/many/{n}")
    paths = [f"@personal/{name}" for name in sorted(client.get_list("@personal")) if name.startswith("many/")]
    body = {"srcs": paths, "dst": "@personal/many.b2nd", "axis": 1}
    made = [post(client, body, "stack", **{"if-none-match": "*"}).status_code for _ in range(2)]

    assert [200, 412] == made
    assert [int(path.rpartition("/")[2].removesuffix(".b2nd")) for path in paths] == list(
        client.fetch("@personal/many.b2nd")[0]
    )
    client.remove("@personal/many")


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
joined = client.get("foo/ds-1d.b2nd").concatenate(["@personal/up.b2nd"], "@personal/up3.b2nd", axis=0)
assert (client.get(joined)[999:1002] == [999, 0, 2]).all()
joined = client.stack([path, "foo/ds-1d.b2nd"], "@personal/up3.b2nd", axis=1)
assert client.get(joined).shape == (1000, 2) and (client.get(joined)[4] == [8, 4]).all()
kept = client.lazyexpr("up2", "a * 3", {"a": "foo/ds-1d.b2nd"}, compute=True)
assert (client.get(kept)[997:] == [2991, 2994, 2997]).all()
"""


def test_upstreams_client_makes_one(chain: Chain, client: Client, tmp_path: Path) -> None:
    """Upstream's own client makes an expression, and reads it back."""
    run_upstream(UPSTREAM, chain.subscriber.url, ANN, PASSWORD, cwd=tmp_path)


def test_command_line(
    chain: Chain, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cat2cli lazyexpr`, `concatenate` and `stack` make arrays, and `cat2cli show` filters and sorts."""
    monkeypatch.setenv("CATERVA2_CLIENT_USERNAME", ANN)
    monkeypatch.setenv("CATERVA2_CLIENT_PASSWORD", PASSWORD)
    monkeypatch.setenv("CATERVA2_SUBSCRIBER_URLBASE", chain.subscriber.url)
    fields = f"{ROOT}/ds-1d-fields.b2nd"
    codes = [
        main(["lazyexpr", "cli", "ds * 2", f"ds={DS}"]),
        main(["show", "@personal/cli.b2nd[2:5]"]),
        main(["show", fields, "--json", "--filter", "a > 996", "--field", "a", "--sortby", "a"]),
        main(["lazyexpr", "cli", "ds * 2", "ds"]),
        main(["concatenate", DS, DS, "@personal/cli2.b2nd"]),
        main(["show", "@personal/cli2.b2nd[999:1002]"]),
        main(["stack", DS, "@personal/cli.b2nd", "@personal/cli2.b2nd", "--axis", "-1"]),
        main(["show", "@personal/cli2.b2nd[5]"]),
    ]
    out, err = capsys.readouterr()

    assert [0, 0, 0, 2, 0, 0, 0, 0] == codes, err
    lines = out.splitlines()
    assert ["@personal/cli.b2nd", "[4 6 8]"] == lines[:2]
    assert ["@personal/cli2.b2nd", "[999   0   1]", "@personal/cli2.b2nd", "[ 5 10]"] == lines[-4:]
    assert [997, 998, 999] == json.loads("".join(lines[2:-4]))["data"]
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
