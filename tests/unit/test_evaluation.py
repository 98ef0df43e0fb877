"""caterva2.evaluation: shapes, dtypes and values are NumPy's, whichever part of a result is computed."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caterva2.errors import ExpressionError
from caterva2.evaluation import Bound, Form, Leaf, Region, cut, part_of, region_of
from caterva2.expressions import REDUCTIONS, Expression, Field, Operand, Reduction
from caterva2.reductions import Accumulator, Array
from caterva2.slices import Axis, Slice

ARRAYS: dict[str, Array] = {
    "i1": np.arange(-6, 6, dtype="i1").reshape(3, 4),
    "u1": np.arange(250, 254, dtype="u1"),
    "i4": np.arange(12, dtype="i4").reshape(3, 4) - 5,
    "i8": np.arange(3, dtype="i8").reshape(3, 1),
    "f4": np.linspace(-1, 1, 12, dtype="f4").reshape(3, 4),
    "f8": np.linspace(0.5, 2, 24).reshape(2, 3, 4),
    "b": np.arange(12).reshape(3, 4) % 3 == 0,
    "c": np.arange(4) * (1 - 2j),
    "z": np.array(3, "i2"),
    "e": np.zeros((3, 0), "f4"),
}
TABLE = np.array(
    [(i, i / 4, f"r{i}", [i, -i], np.datetime64("2024-01-01") + i) for i in range(5)],
    [("n", "i4"), ("x", "f8"), ("s", "S4"), ("p", "i2", (2,)), ("t", "M8[D]")],
)
FORMS = {name: Form(array.shape, array.dtype) for name, array in ARRAYS.items()} | {"t": Form(TABLE.shape, TABLE.dtype)}


def chosen(region: Region) -> tuple[Any, ...]:
    """A region as an index of NumPy."""
    return np.ix_(*([axis.start + i * axis.step for i in range(axis.count)] for axis in region))


def bind(text: str) -> Bound:
    """Put an expression and the arrays together."""
    return Bound(Expression.parse(text), FORMS)


def compute(bound: Bound, node: Any, region: Region, most: int = 5) -> Array:
    """Compute a region as the subscriber does, a few items at a time."""
    out = np.empty([axis.count for axis in region], bound.form_of(node).dtype)

    def read(leaf: Leaf, inner: Region) -> Array:
        if isinstance(leaf, Reduction):
            source = bound.source_of(leaf, inner)
            shape = [axis.count for axis in source]
            total = Accumulator(leaf.function, shape, bound.reduced(leaf), bound.form_of(leaf.of).dtype)
            # Parts come in no order.
            for where in reversed(list(cut(source, most))):
                total.add(where, compute(bound, leaf.of, part_of(source, where)))
            return total.result().reshape([axis.count for axis in inner])
        whole = TABLE[leaf.name] if isinstance(leaf, Field) else (ARRAYS | {"t": TABLE})[leaf.name]
        return whole[chosen(inner)] if whole.ndim else whole

    for where in cut(region, most):
        values = bound.compute(node, part_of(region, where), read)
        out[where] = values
    return out


def value(text: str, key: Slice | None = None) -> Array:
    """Compute a slice of an expression."""
    bound = bind(text)
    selection = (key or Slice()).resolve(bound.form.shape)
    return compute(bound, bound.root, region_of(selection)).reshape(selection.shape)


def agrees(expected: Any, text: str) -> None:
    """Check the form and the values."""
    expected = np.asarray(expected)
    form = bind(text).form

    assert Form(expected.shape, expected.dtype) == form
    np.testing.assert_allclose(value(text), expected, rtol=1e-5, atol=1e-6) if expected.dtype.kind in "fc" else (
        np.testing.assert_array_equal(value(text), expected)
    )


A = ARRAYS
CASES = [
    ("i4 + 1", lambda: A["i4"] + 1),
    ("i4 / 2", lambda: A["i4"] / 2),
    ("i1 / i1", lambda: A["i1"] / A["i1"]),
    ("u1 + 1", lambda: A["u1"] + 1),
    ("u1 + i1", lambda: A["u1"] + A["i1"]),
    ("u1 + (1 + 1)", lambda: A["u1"] + 2),
    ("f4 * 2.5", lambda: A["f4"] * 2.5),
    ("f4 + f8", lambda: A["f4"] + A["f8"]),
    ("i8 * u1", lambda: A["i8"] * A["u1"]),
    ("f4 + 1j", lambda: A["f4"] + 1j),
    ("i4 < f8", lambda: A["i4"] < A["f8"]),
    ("(i4 > 1) & ~b", lambda: (A["i4"] > 1) & ~A["b"]),
    ("b + b", lambda: A["b"] + A["b"]),
    ("z + i1", lambda: A["z"] + A["i1"]),
    ("z * 2", lambda: A["z"] * np.int16(2)),
    ("e + i8", lambda: A["e"] + A["i8"]),
    ("i4 // 0", lambda: A["i4"] // 1 * 0),
    ("i4 ** 2 % 7", lambda: A["i4"] ** 2 % 7),
    ("i4 << 2 | 1", lambda: A["i4"] << 2 | 1),
    ("sqrt(2) * f4", lambda: np.sqrt(2) * A["f4"]),
    ("where(b, f4, 0)", lambda: np.where(A["b"], A["f4"], 0)),
    ("clip(i4, -2, 2)", lambda: np.clip(A["i4"], -2, 2)),
    ("arctan2(f4, f8)", lambda: np.arctan2(A["f4"], A["f8"])),
    ("real(c) + imag(c)", lambda: A["c"].real + A["c"].imag),
    ("abs(c)", lambda: abs(A["c"])),
    ("f8[1, ::-2, 1:] + i8[::2]", lambda: A["f8"][1, ::-2, 1:] + A["i8"][::2]),
    ("(f8 + 1)[..., 0][1][::-1]", lambda: (A["f8"] + 1)[..., 0][1][::-1]),
    ("f4 - mean(f4)", lambda: A["f4"] - A["f4"].mean()),
    ("f4 - mean(f4, axis=1, keepdims=True)", lambda: A["f4"] - A["f4"].mean(1, keepdims=True)),
    ("sum(f8 * f8, axis=(0, -1))", lambda: (A["f8"] ** 2).sum((0, -1))),
    ("sum(sum(f8, 0) + 1, 0)", lambda: (A["f8"].sum(0) + 1).sum(0)),
    ("sum(f8, axis=0)[1:, 0]", lambda: A["f8"].sum(0)[1:, 0]),
    ("sum(e, axis=1)", lambda: A["e"].sum(1)),
    ("min(e, axis=0)", lambda: A["e"].min(0)),
    ("prod(e)", lambda: A["e"].prod()),
    ("any(i4 > 5) | b", lambda: (A["i4"] > 5).any() | A["b"]),
    ("sum(z)", lambda: A["z"].sum()),
    ("sum(i4, axis=())", lambda: A["i4"].sum(axis=())),
    ("t['n'] * 2", lambda: TABLE["n"] * 2),
    ("t['p'][:, 1]", lambda: TABLE["p"][:, 1]),
    ("t['s'] == 'r3'", lambda: TABLE["s"] == b"r3"),
    ("contains(t['s'], '2')", lambda: TABLE["s"] == b"r2"),
    ("t['t'] >= '2024-01-03'", lambda: TABLE["t"] >= np.datetime64("2024-01-03")),
    ("t['t'] - t['t'][0]", lambda: TABLE["t"] - TABLE["t"][0]),
    ("max(t['t'])", lambda: TABLE["t"].max()),
    ("argmax(t['t'])", lambda: TABLE["t"].argmax()),
    ("argmin(f8, axis=1, keepdims=True)", lambda: A["f8"].argmin(1, keepdims=True)),
    ("argmax(i4 % 4)", lambda: (A["i4"] % 4).argmax()),
    ("argmax(z)", lambda: A["z"].argmax()),
    ("argmin(concat((f4, 0 / (i4 * 0), f4)))", lambda: np.argmin([*A["f4"], *[[np.nan] * 4] * 3, *A["f4"]])),
    ("concat((i4, i1))", lambda: np.concatenate([A["i4"], A["i1"]])),
    ("concat([i4, f4, b], axis=-1)", lambda: np.concatenate([A["i4"], A["f4"], A["b"]], -1)),
    ("concatenate((e, f4, e, i8), 1)", lambda: np.concatenate([A["e"], A["f4"], A["e"], A["i8"]], 1)),
    ("concat((e, e), axis=0)", lambda: np.concatenate([A["e"], A["e"]])),
    ("stack((i4, b))", lambda: np.stack([A["i4"], A["b"]])),
    ("stack((f8 + 1, f8), axis=-1)[:, 0]", lambda: np.stack([A["f8"] + 1, A["f8"]], -1)[:, 0]),
    ("stack((z, z), axis=-1)", lambda: np.stack([A["z"], A["z"]])),
    ("sum(concat((i4, i1[::-1])) * i4[1], axis=0)", lambda: (np.vstack([A["i4"], A["i1"][::-1]]) * A["i4"][1]).sum(0)),
    ("concat((t['s'], t['s'][::-2]))", lambda: np.concatenate([TABLE["s"], TABLE["s"][::-2]])),
    ("concat((t, t[:2]))", lambda: np.concatenate([TABLE, TABLE[:2]])),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text for text, _ in CASES])
def test_as_numpy(text: str, expected: Any) -> None:
    """Type promotion, division, broadcasting, slices, fields and reductions are as in NumPy."""
    with np.errstate(all="ignore"):
        agrees(expected(), text)


@pytest.mark.parametrize("function", sorted(REDUCTIONS))
@pytest.mark.parametrize("name", ["i1", "u1", "f4", "f8", "b", "c"])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_reductions(function: str, name: str, axis: int | None) -> None:
    """Each reduction of each kind of number agrees with NumPy, part by part, along any axis."""
    agrees(getattr(np, function)(ARRAYS[name], axis=axis), f"{function}({name}, axis={axis})")


def test_a_mean_of_large_numbers() -> None:
    """A variance is not lost between large numbers: parts are joined by their means."""
    values = np.array([1e9 + i % 3 for i in range(1000)])
    total = Accumulator("var", [1000], frozenset({0}), values.dtype)
    for at in range(0, 1000, 7):
        total.add((slice(at, at + 7),), values[at : at + 7])

    np.testing.assert_allclose(total.result(), [values.var()], rtol=1e-6)


def test_nan_and_the_extremes() -> None:
    """A NaN in any part is the least and the greatest, the first one if there are several, as in NumPy."""
    values = np.array([1.0, 2.0, np.nan, np.nan, 0.0])
    for function in ("min", "max", "argmin", "argmax"):
        for order in (1, -1):
            total = Accumulator(function, [5], frozenset({0}), values.dtype)
            for at in list(range(5))[::order]:
                total.add((slice(at, at + 1),), values[at : at + 1])

            np.testing.assert_array_equal(total.result(), [getattr(np, function)(values)])


UNFIT = [
    ("nosuch + 1", "Expression error: nosuch is not in the list of available datasets"),
    ("i4 + u1[:3]", "shapes (3, 4) and (3,) do not go together"),
    ("i4[5]", "out of bounds"),
    ("i4[0, 0, 0]", "too many axes"),
    ("u1 + 300", "out of bounds for uint8"),
    ("i4 ** -1", "negative integer powers"),
    ("f4 & 1", "'f4 & 1' cannot be computed"),
    ("-b", "'-b' cannot be computed"),
    ("sum(i4, axis=2)", "axis is out of bounds"),
    ("sum(i4, axis=(0, -2))", "named twice"),
    ("min(e)", "there is no min of nothing"),
    ("argmax(e)", "there is no argmax of nothing"),
    ("argmin(f8, axis=(0, 1))", "along one axis"),
    ("concat((i4, f8))", "array 2 of 2 has the shape (2, 3, 4), which does not go with (3, 4) along axis 0"),
    ("concat((i4, u1), axis=1)", "array 2 of 2 has the shape (4,)"),
    ("concat((u1, u1), axis=1)", "axis 1 is out of bounds for 1 axes"),
    ("concat((z, z))", "not joined, but stacked"),
    ("stack((i4, i8))", "array 2 of 2 has the shape (3, 1), which does not go with (3, 4)"),
    ("stack((i4, i4), axis=3)", "out of bounds for 3 axes"),
    ("concat((t['s'], t['n']))", "items of |S4 and int32 do not go together"),
    ("concat((t, t)) + 1", "has fields"),
    ("stack((" * 14 + "i4" + ",))" * 14, "16 axes are too many"),
    ("concat((t, t['n']))", "do not go together"),
    ("sum(t['s'])", "there is no sum of |S4"),
    ("sum(t)", "there is no sum of"),
    ("t", "has fields"),
    ("t[0:2]", "has fields"),
    ("t + 1", "has fields"),
    ("t['nosuch']", "there is no field 'nosuch' in t: its fields are n, x, s, p, t"),
    ("i4['n']", "it has no fields"),
    ("'a' * 10**9 == i4", "cannot be computed"),
    ("t['s'] * 1000", "cannot be computed"),
    ("t['t'] > 'yesterday'", "cannot be computed"),
    ("i4 + 'text'", "cannot be computed"),
]


@pytest.mark.parametrize(("text", "reason"), UNFIT, ids=[text for text, _ in UNFIT])
def test_what_does_not_go_together(text: str, reason: str) -> None:
    """What does not go together is refused before any data is read; the part is named."""
    with pytest.raises(ExpressionError) as caught:
        bind(text)

    assert reason in caught.value.detail
    assert "\n" not in caught.value.detail


def test_reads_only_what_is_needed() -> None:
    """A part of a result needs the same part of its operands, and of a reduction the line that is reduced."""
    bound = bind("i4 + sum(f8, axis=0)")
    region = region_of(Slice.parse("1:2, ::-2").resolve((3, 4)))
    needs = {type(leaf): (leaf, inner) for leaf, inner in bound.needs(bound.root, region)}
    operand, reduction = needs[Operand], needs[Reduction]

    assert region == operand[1] == reduction[1]
    assert isinstance(reduction[0], Reduction)
    assert (Axis(0, 1, 2, kept=True), *region) == bound.source_of(reduction[0], reduction[1])


@given(st.lists(st.integers(0, 7), max_size=4), st.integers(1, 60), st.data())
def test_cut(counts: Sequence[int], most: int, data: st.DataObject) -> None:
    """The parts of a region are all of it, none twice, and none is too large; without a grain they are in order."""
    region = tuple(Axis(0, 1, n, kept=True) for n in counts)
    grain = data.draw(st.none() | st.lists(st.integers(1, 9), min_size=len(counts), max_size=len(counts)))
    numbers = np.arange(math.prod(counts)).reshape(counts)
    parts = [numbers[where] for where in cut(region, most, grain)]

    assert all(0 < part.size <= most for part in parts)
    found = [int(n) for part in parts for n in part.ravel()]
    assert list(range(numbers.size)) == (found if grain is None else sorted(found))


# -- any expression: text, and what NumPy makes of it -----------------------------------------------------------

UNARY = ["sin", "exp", "abs", "floor", "isfinite", "square", "conj", "sign"]
OPERATORS = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "<": np.less, ">=": np.greater_equal,
    "==": np.equal, "&": np.bitwise_and, "|": np.bitwise_or,
}  # fmt: skip
Pair = tuple[str, Any]


def _unary(name: str, inner: Pair) -> Pair:
    return f"{name}({inner[0]})", getattr(np, name)(inner[1])


def _binary(sign: str, left: Pair, right: Pair) -> Pair:
    return f"({left[0]} {sign} {right[0]})", OPERATORS[sign](left[1], right[1])


def _reduced(name: str, inner: Pair) -> Pair:
    return f"{name}({inner[0]})", getattr(np, name)(inner[1])


def _joined(name: str, one: Pair, other: Pair) -> Pair:
    return f"{name}(({one[0]}, {other[0]}), axis=-1)", getattr(np, name)([one[1], other[1]], axis=-1)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """An expression as text, and as NumPy computes it."""
    made: list[Pair] = []
    for _ in range(draw(st.integers(1, 8))):
        one = draw(st.sampled_from([(name, ARRAYS[name]) for name in ARRAYS if name != "e"] + made[-3:]))
        other = draw(st.sampled_from([*made[-3:], ("2", 2), ("0.5", 0.5), ("i4", ARRAYS["i4"]), ("f8", ARRAYS["f8"])]))
        kind = draw(st.integers(0, 4))
        try:
            if kind == 0:
                made.append(_unary(draw(st.sampled_from(UNARY)), one))
            elif kind == 1:
                # Sums of fractions depend on their order, and what follows may depend on their last digits.
                exact = np.asarray(one[1]).dtype.kind not in "fc"
                made.append(_reduced(draw(st.sampled_from(["max", "any", *["sum"] * exact])), one))
            elif kind == 2 and "2" != other[0] != "0.5":
                made.append(_joined(draw(st.sampled_from(["concat", "stack"])), one, other))
            else:
                made.append(_binary(draw(st.sampled_from(list(OPERATORS))), one, other))
        except (TypeError, ValueError, OverflowError):
            continue
    return made[-1] if made else ("i4", ARRAYS["i4"])


@settings(max_examples=200)
@given(pairs(), st.data())
def test_any_expression(pair: Pair, data: st.DataObject) -> None:
    """Any slice of any expression has the dtype and the values that NumPy gives it."""
    text, expected = pair
    expected = np.asarray(expected)
    steps = st.sampled_from([1, 1, 2, -1, -2])
    bounds = st.none() | st.integers(-4, 4)
    key = Slice.from_key(tuple(slice(data.draw(bounds), data.draw(bounds), data.draw(steps)) for _ in expected.shape))
    found = value(text, key)

    assert (expected.dtype, expected.shape) == (bind(text).form.dtype, bind(text).form.shape)
    expected = expected[tuple(item for item in key.items if isinstance(item, slice))]
    assert expected.shape == found.shape
    if expected.dtype.kind in "fc":
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """NumPy warns of overflow in what is compared with; the evaluation is quiet by itself."""
    with np.errstate(all="ignore"):
        yield
