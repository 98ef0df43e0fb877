"""caterva2.subscriber.expressions: expressions over a real publisher's datasets."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest

from caterva2.errors import (
    BadRequestError,
    Caterva2Error,
    ExpressionError,
    NotFoundError,
    SliceError,
    TooLargeError,
    UnavailableError,
)
from caterva2.evaluation import Form
from caterva2.expressions import Expression
from caterva2.paths import DatasetPath
from caterva2.slices import Slice
from caterva2.subscriber.answers import Query
from caterva2.subscriber.callers import ANONYMOUS, Caller
from caterva2.subscriber.expressions import Computation, Evaluator, Limits
from caterva2.subscriber.reader import Read
from tests.support.arrays import write
from tests.support.waiting import wait_until_async
from tests.unit.subscriber.test_reader import FOO, World, published, world

GRID = np.arange(2400.0).reshape(40, 60)
TABLE = np.array(
    [(i % 7, i / 10, f"r{i}", [i, -i]) for i in range(1000)],
    [("n", "<i4"), ("x", "<f8"), ("s", "S5"), ("p", "<i2", (2,))],
)
ARRAYS = ("a", "grid", "table", "cube")
PATHS = {name: DatasetPath(FOO, f"{name}.b2nd") for name in ARRAYS} | {"readme": DatasetPath(FOO, "README.md")}


def publish_all(tmp_path: Path) -> None:
    """Write the arrays into the root."""
    published(tmp_path)
    write(tmp_path / "root/grid.b2nd", GRID, chunks=(10, 20), blocks=(5, 10))
    write(tmp_path / "root/table.b2nd", TABLE, chunks=(100,), blocks=(10,))
    write(tmp_path / "root/cube.b2nd", GRID[:3].reshape(3, 30, 2).astype("f4"), chunks=(1, 20, 2), blocks=(1, 5, 1))


def run(tmp_path: Path, scenario: Callable[[World, Evaluator], Awaitable[None]], limits: Limits | None = None) -> None:
    """Publish the arrays, and do something with them."""
    publish_all(tmp_path)

    async def done() -> None:
        async with world(tmp_path) as w:
            await scenario(w, Evaluator(w.reader, limits))

    asyncio.run(done())


async def evaluated(evaluator: Evaluator, text: str, slice_: str = "", caller: Caller = ANONYMOUS) -> Any:
    """Compute a slice of an expression over the arrays."""
    return await evaluator.run(Expression.parse(text), PATHS, lambda it: it.values(Slice.parse(slice_)), caller)


async def rows(evaluator: Evaluator, path: str = "table", **query: str) -> Any:
    """The rows that a query selects."""
    _, frame = await evaluator.rows(PATHS[path], Query(**query))
    return blosc2.ndarray_from_cframe(frame)[()]


def fetched(w: World, name: str) -> int:
    """How many chunks of an array are on disk."""
    mirror = w.mirrors.get(PATHS[name])
    assert mirror is not None
    return mirror.layout.nchunks - len(mirror.missing(range(mirror.layout.nchunks)))


def test_fetches_only_the_chunks_that_a_slice_needs(tmp_path: Path) -> None:
    """A slice of an expression brings the chunks that it touches, of each operand, and of none twice."""

    async def scenario(w: World, evaluator: Evaluator) -> None:
        values = await evaluated(evaluator, "grid * 2 + grid[::-1] + a[0:60]", "12:15, 21")

        assert GRID.dtype == values.dtype
        np.testing.assert_array_equal((GRID * 2 + GRID[::-1] + np.arange(60) * 3)[12:15, 21], values)
        assert 2 == fetched(w, "grid")
        assert 1 == fetched(w, "a")
        assert 2 == w.traffic.requests["chunks"]

        await evaluated(evaluator, "grid + 1", "10:20, 20:40")
        assert 2 == w.traffic.requests["chunks"]

    run(tmp_path, scenario)


def test_a_form_needs_no_chunk(tmp_path: Path) -> None:
    """Shape and dtype are told without reading any data."""

    async def scenario(w: World, evaluator: Evaluator) -> None:
        async def form(computation: Computation) -> Form:
            return computation.form

        expression = Expression.parse("sum(grid > a[0:60], axis=0) / 2")
        assert Form((60,), np.dtype("f8")) == await evaluator.run(expression, PATHS, form)
        assert 0 == w.traffic.requests["chunks"]

    run(tmp_path, scenario)


VALUES: list[tuple[str, str, Callable[[], Any]]] = [
    ("grid / (grid + 1)", "", lambda: GRID / (GRID + 1)),
    ("grid[1:, ::7] > 100", "::-3, 2", lambda: (GRID[1:, ::7] > 100)[::-3, 2]),
    ("grid - mean(grid, axis=0)", "5:30, 3:50", lambda: (GRID - GRID.mean(0))[5:30, 3:50]),
    ("std(grid, axis=1, keepdims=True) + grid", "...", lambda: GRID.std(1, keepdims=True) + GRID),
    ("sum(grid)", "", lambda: np.sum(GRID)),
    ("table['x'] * table['n']", "3:700:3", lambda: (TABLE["x"] * TABLE["n"])[3:700:3]),
    ("table['p'][:, 1] + a", "990:", lambda: (TABLE["p"][:, 1] + np.arange(1000) * 3)[990:]),
    ("where(contains(table['s'], '99'), a, 0)", "97:101", lambda: np.array([0, 0, 297, 0])),
    ("grid", "0:0", lambda: GRID[0:0]),
    ("cube[:, :, 0:1] + 1", "1, 2, 0", lambda: np.float32(65)),
]


@pytest.mark.parametrize("part", [1000, 32 << 20])
def test_values(tmp_path: Path, part: int) -> None:
    """Values are NumPy's, whether they are computed at once or in small parts."""

    async def scenario(_w: World, evaluator: Evaluator) -> None:
        for text, slice_, expected in VALUES:
            values = await evaluated(evaluator, text, slice_)

            assert np.asarray(expected()).dtype == values.dtype, text
            np.testing.assert_allclose(values, expected(), rtol=1e-12, err_msg=text)

    run(tmp_path, scenario, Limits(part=part))


def test_sees_a_changed_operand_at_the_next_read(tmp_path: Path) -> None:
    """When an operand's file changes, the next read has its new values, and its new shape."""

    async def scenario(w: World, evaluator: Evaluator) -> None:
        assert 1 == (await evaluated(evaluator, "a + 1", "0"))[()]
        seen = w.mirrors.get(PATHS["a"])
        published(tmp_path, np.full(1500, 7))
        await wait_until_async(
            lambda: (
                (entry := w.catalog.lookup(PATHS["a"])) is not None and seen is not None and entry.etag != seen.etag
            ),
            "the change",
        )

        values = await evaluated(evaluator, "a + 1")
        assert ((1500,), {8}) == (values.shape, set(values.tolist()))

    run(tmp_path, scenario)


def test_starts_again_when_an_operand_changes_meanwhile(tmp_path: Path) -> None:
    """A result never mixes two versions: a change in the middle makes it start again, with the new one."""

    async def scenario(w: World, evaluator: Evaluator) -> None:
        def change(kind: str) -> None:
            if kind == "chunks" and w.traffic.requests["chunks"] == 4:
                published(tmp_path, np.full(1000, 7))

        w.traffic.before = change
        values = await evaluated(evaluator, "a + a[::-1]")

        assert {14} == set(values.tolist())

    run(tmp_path, scenario, Limits(part=3000))


def test_an_operand_that_vanished_is_missed_until_it_is_back(tmp_path: Path) -> None:
    """An operand that is not there is named; when it is back, so is the expression."""

    async def scenario(w: World, evaluator: Evaluator) -> None:
        await evaluated(evaluator, "grid + a[0:60]", "0")
        (tmp_path / "root/a.b2nd").unlink()
        await wait_until_async(lambda: w.catalog.lookup(PATHS["a"]) is None, "the removal")
        with pytest.raises(NotFoundError, match=r"foo/a.b2nd does not exist"):
            await evaluated(evaluator, "grid + a[0:60]", "0")

        published(tmp_path)
        await wait_until_async(lambda: w.catalog.lookup(PATHS["a"]) is not None, "the return")
        assert 60 == (await evaluated(evaluator, "grid + a[0:60]", "0")).size

    run(tmp_path, scenario)


REFUSED: list[tuple[str, str, type[Caterva2Error]]] = [
    ("nosuch + 1", "", ExpressionError),
    ("grid + a", "", ExpressionError),
    ("table + 1", "", ExpressionError),
    ("a", "5000", SliceError),
    ("a", "0, 0", SliceError),
    ("a ** (0 - a)", "0:9", ExpressionError),
    ("sum(grid) + a", "", TooLargeError),
    ("grid[:, 0:1] + a", "", TooLargeError),
    ("readme + 1", "", BadRequestError),
]


def test_refuses(tmp_path: Path) -> None:
    """What does not fit, and what is too large, is an error of the client."""

    async def scenario(_w: World, evaluator: Evaluator) -> None:
        for text, slice_, error in REFUSED:
            with pytest.raises(error) as caught:
                await evaluated(evaluator, text, slice_)
            assert 400 <= caught.value.status < 500, text

    (tmp_path / "root").mkdir()
    (tmp_path / "root/README.md").write_text("# Not an array")
    run(tmp_path, scenario, Limits(nbytes=5000))


def test_time_is_limited(tmp_path: Path) -> None:
    """A computation that takes too long ends with an error that says what to do, and lets its chunks go."""

    async def scenario(w: World, evaluator: Evaluator) -> None:
        with pytest.raises(TooLargeError, match="ask for a smaller part"):
            await evaluated(evaluator, "sum(grid + a[0:60])")
        with pytest.raises(TooLargeError, match="ask for a smaller part"):
            await rows(evaluator, filter="n > 1")
        assert [] == [path for path in PATHS.values() if (m := w.mirrors.get(path)) is not None and m._pins]

    run(tmp_path, scenario, Limits(seconds=0.0))


def test_waits_for_its_turn(tmp_path: Path) -> None:
    """While too much is being computed, others are told to come again; afterwards everything goes on."""

    async def scenario(w: World, evaluator: Evaluator) -> None:
        gate, waiting = asyncio.Event(), 0
        ensure = w.reader.ensure

        async def held(read: Read, numbers: Sequence[int]) -> None:
            nonlocal waiting
            waiting += 1
            await gate.wait()
            await ensure(read, numbers)

        w.reader.ensure = held  # type: ignore[method-assign]
        tasks = [asyncio.create_task(evaluated(evaluator, "a + 1", f"{i}")) for i in range(2)]
        await wait_until_async(lambda: waiting == 2, "all turns are taken")
        with pytest.raises(UnavailableError, match="at present"):
            await evaluated(evaluator, "a + 1", "0")
        # The last turn is for somebody else.
        tasks.append(asyncio.create_task(evaluated(evaluator, "a + 1", "2", Caller("ann"))))
        await wait_until_async(lambda: waiting == 3, "another caller has a turn")
        gate.set()

        assert [1, 4, 7] == [int(value) for value in await asyncio.gather(*tasks)]
        assert 1 == (await evaluated(evaluator, "a + 1", "0"))[()]

    run(tmp_path, scenario, Limits(patience=0.05))


def where(condition: Any) -> Any:
    """The rows of the table."""
    return TABLE[condition]


FILTERS: list[tuple[dict[str, str], Callable[[], Any]]] = [
    ({"filter": "(n < 2)"}, lambda: where(TABLE["n"] < 2)),
    ({"filter": "(n == 3) & (x > 50)"}, lambda: where((TABLE["n"] == 3) & (TABLE["x"] > 50))),
    ({"filter": "s == 'r17'"}, lambda: where(TABLE["s"] == b"r17")),
    ({"filter": "x > mean(x)"}, lambda: where(TABLE["x"] > TABLE["x"].mean())),
    ({"filter": "p[:, 1] < -990"}, lambda: where(TABLE["p"][:, 1] < -990)),
    ({"filter": "n > 100"}, lambda: where(TABLE["n"] > 100)),
    ({"filter": "n < 2", "slice_": "1:3"}, lambda: where(TABLE["n"] < 2)[1:3]),
    ({"filter": "n < 2", "slice_": "280:"}, lambda: where(TABLE["n"] < 2)[280:]),
    ({"filter": "n < 2", "slice_": "150:281:4"}, lambda: where(TABLE["n"] < 2)[150:281:4]),
    ({"filter": "n < 2", "slice_": "150:10"}, lambda: where(TABLE["n"] < 2)[150:10]),
    ({"filter": "n < 2", "slice_": "5000:"}, lambda: where(TABLE["n"] < 2)[5000:]),
    ({"filter": "n < 2", "slice_": ":0"}, lambda: where(TABLE["n"] < 2)[:0]),
    ({"filter": "n < 2", "slice_": "150"}, lambda: where(TABLE["n"] < 2)[150]),
    ({"filter": "n < 2", "slice_": "-3:280"}, lambda: where(TABLE["n"] < 2)[-3:280]),
    ({"filter": "n < 2", "slice_": "-1"}, lambda: where(TABLE["n"] < 2)[-1]),
    ({"filter": "n < 2", "slice_": "::-2"}, lambda: where(TABLE["n"] < 2)[::-2]),
    ({"filter": "n < 2", "field": "x"}, lambda: where(TABLE["n"] < 2)["x"]),
    ({"filter": "n < 2", "field": "p", "slice_": "5, 1"}, lambda: where(TABLE["n"] < 2)["p"][5, 1]),
    ({"sortby": "n"}, lambda: TABLE[np.argsort(TABLE["n"], kind="stable")]),
    ({"filter": "x > 90", "sortby": "s", "slice_": ":5"}, lambda: np.sort(where(TABLE["x"] > 90), order="s")[:5]),
    ({"sortby": "n", "field": "p", "slice_": "5, 1"}, lambda: TABLE["p"][np.argsort(TABLE["n"], kind="stable")][5, 1]),
    ({"sortby": "n", "field": "x"}, lambda: TABLE["x"][np.argsort(TABLE["n"], kind="stable")]),
]


def test_rows(tmp_path: Path) -> None:
    """Rows are those that NumPy finds, in their order or sorted, and the slice is one of them."""

    async def scenario(_w: World, evaluator: Evaluator) -> None:
        for query, expected in FILTERS:
            found = np.asarray(await rows(evaluator, **query))

            assert np.asarray(expected()).dtype == found.dtype, query
            np.testing.assert_array_equal(found, expected(), err_msg=str(query))

    run(tmp_path, scenario, Limits(part=4000))


def test_rows_of_two_axes(tmp_path: Path) -> None:
    """The items of an array of several axes come in the order of the array, one after the other."""

    async def scenario(w: World, evaluator: Evaluator) -> None:
        table = TABLE.reshape(20, 50)
        write(tmp_path / "root/table2.b2nd", table, chunks=(7, 9), blocks=(2, 3))
        path = DatasetPath(FOO, "table2.b2nd")
        await wait_until_async(lambda: w.catalog.lookup(path) is not None, "the new array")
        _, frame = await evaluator.rows(path, Query(filter="n < 2"))

        np.testing.assert_array_equal(where(TABLE["n"] < 2), blosc2.ndarray_from_cframe(frame)[:])
        with pytest.raises(BadRequestError, match="only an array of one axis is sorted"):
            await evaluator.rows(path, Query(sortby="n"))

    run(tmp_path, scenario, Limits(part=4000))


def test_rows_that_are_found_early_need_no_more_chunks(tmp_path: Path) -> None:
    """The first rows are looked for until there are enough of them."""

    async def scenario(w: World, evaluator: Evaluator) -> None:
        assert 3 == len(await rows(evaluator, filter="n == 1", slice_="0:3"))
        assert 1 == fetched(w, "table")
        assert 20 == len(await rows(evaluator, filter="n == 1", slice_="0:20"))
        assert 3 == fetched(w, "table")

    run(tmp_path, scenario)


def test_an_answer_is_kept_for_its_version(tmp_path: Path) -> None:
    """The same rows of the same version are not looked for again; those of a new version are."""

    async def scenario(w: World, evaluator: Evaluator) -> None:
        first = await rows(evaluator, filter="n == 1")
        again = await rows(evaluator, filter="n == 1")
        np.testing.assert_array_equal(first, again)
        before = w.catalog.lookup(PATHS["table"])
        write(tmp_path / "root/.new", TABLE[:8], chunks=(100,), blocks=(10,))
        (tmp_path / "root/.new").replace(tmp_path / "root/table.b2nd")
        await wait_until_async(lambda: w.catalog.lookup(PATHS["table"]) != before, "the change")

        assert 1 == len(await rows(evaluator, filter="n == 1"))

    run(tmp_path, scenario)


REFUSED_ROWS: list[tuple[str, dict[str, str], str]] = [
    ("table", {"filter": "nosuch > 1"}, "there is no field 'nosuch' in foo/table.b2nd: its fields are n, x, s, p"),
    ("table", {"filter": "n + 1"}, "no condition"),
    ("table", {"filter": "any(n > 1)"}, "no condition"),
    ("table", {"filter": "p > 1"}, "no condition"),
    ("table", {"filter": "n"}, "no condition"),
    ("table", {"filter": "__import__('os')"}, "no function"),
    ("table", {"filter": "n <"}, "not an expression"),
    ("table", {"filter": "n < 'a'"}, "cannot be computed"),
    ("table", {"filter": "n < 2", "field": "y"}, "there is no field 'y'"),
    ("table", {"filter": "n < 2", "sortby": "y"}, "there is no field 'y'"),
    ("table", {"sortby": "p"}, "several values"),
    ("table", {"filter": "n < 2", "indices": "[[0]]"}, "does not go with"),
    ("table", {"filter": "n < 2", "slice_": "5000"}, "out of bounds"),
    ("a", {"filter": "a < 2"}, "has no fields"),
]


def test_refuses_rows(tmp_path: Path) -> None:
    """What is no condition over the fields is a 400 that says why."""

    async def scenario(_w: World, evaluator: Evaluator) -> None:
        for path, query, reason in REFUSED_ROWS:
            with pytest.raises(BadRequestError, match=reason):
                await rows(evaluator, path, **query)

    run(tmp_path, scenario)


def test_too_many_rows(tmp_path: Path) -> None:
    """Rows that are more than the limit are a 413 that says what is possible."""

    async def scenario(_w: World, evaluator: Evaluator) -> None:
        with pytest.raises(TooLargeError, match="ask for at most 5000"):
            await rows(evaluator, filter="n >= 0")
        assert 2 == len(await rows(evaluator, filter="n >= 0", slice_="0:2"))
        np.testing.assert_array_equal(TABLE[900:910], await rows(evaluator, filter="n >= 0", slice_="900:910"))

    run(tmp_path, scenario, Limits(nbytes=5000, part=2000))
