"""caterva2.expressions: what is an expression, and all the rest that must not be one."""

import ast
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caterva2.errors import ExpressionError
from caterva2.expressions import (
    ARITY,
    MOST_DEPTH,
    MOST_NODES,
    REDUCTIONS,
    Call,
    Constant,
    Expression,
    Field,
    Item,
    Join,
    Operand,
    Reduction,
)
from caterva2.slices import Slice
from tests.support.expressions import ATTACKS


@pytest.mark.parametrize(("text", "named"), ATTACKS, ids=range(len(ATTACKS)))
def test_refuses(text: str, named: str | None) -> None:
    """Whatever is not on the list is refused in one short line of ASCII, which names the part."""
    if named is None:
        # Nothing is computed with text but comparisons: it is refused when its operands are known.
        assert isinstance(Expression.parse(text).root, Call)
        return
    with pytest.raises(ExpressionError) as caught:
        Expression.parse(text)

    assert named in caught.value.detail
    assert caught.value.detail.isascii()
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 300
    assert 400 == caught.value.status


ACCEPTED = [
    ("a", ["a"]),
    (" a + b * a ", ["a", "b"]),
    ("sum(a, axis=(0, -1), keepdims=True) + min(b, 1)", ["a", "b"]),
    ("where((a > 1) & ~(b <= 2.5), a, -b)", ["a", "b"]),
    ("t['x'][0:5, ..., -1] == 'text'", ["t"]),
    ("sum", ["sum"]),
    ("max(max)", ["max"]),
    ("_a + größe", ["_a", "größe"]),
    ("(a << 2) ** 3 % 7 // 2 ^ b | 1", ["a", "b"]),
    ("contains(c, b'r9') != True", ["c"]),
    ("a + 1j", ["a"]),
    ("+".join(f"a{i}" for i in range(MOST_DEPTH)), [f"a{i}" for i in range(MOST_DEPTH)]),
    ("(" * 150 + "a" + ")" * 150, ["a"]),
]


@pytest.mark.parametrize(("text", "names"), ACCEPTED, ids=range(len(ACCEPTED)))
def test_accepts(text: str, names: list[str]) -> None:
    """Operators, functions, slices, fields and constants are taken, and the operands found in their order."""
    assert tuple(names) == Expression.parse(text).names


@pytest.mark.parametrize("name", [*ARITY, *sorted(REDUCTIONS)])
def test_functions(name: str) -> None:
    """Every function is taken with as many arguments as it has, and with no more."""
    arguments = ["a"] * ARITY.get(name, 1)

    root = Expression.parse(f"{name}({', '.join(arguments)})").root

    assert isinstance(root, Reduction if name in REDUCTIONS else Call)
    assert name == root.function
    with pytest.raises(ExpressionError, match=r"takes|integer"):
        Expression.parse(f"{name}({', '.join([*arguments, 'a'])})")


def test_joins() -> None:
    """Arrays in parentheses or brackets are joined, along the first axis if none is named."""
    first = Expression.parse("concat((a, b + 1, a))")
    second = Expression.parse("stack([a], axis=-2)")

    assert isinstance(first.root, Join)
    assert isinstance(second.root, Join)
    assert ("concat", 3, 0) == (first.root.function, len(first.root.parts), first.root.axis)
    assert ("stack", 1, -2) == (second.root.function, len(second.root.parts), second.root.axis)
    assert ("a", "b") == first.names


@pytest.mark.parametrize(
    "text",
    [
        "concat(a, b)", "concat(a)", "concat()", "concat(())", "concat((a, 1))", "concat((a, b), axis=None)",
        "stack((a, b), axis=(0, 1))", "stack((a, b), 0, 1)", "stack((a, b), 0, axis=0)",
        "concat((a, b), keepdims=True)", "concat((a, *b))", "concat(x for x in a)", "concat((a, b), **c)",
    ],
)  # fmt: skip
def test_joins_of_nothing(text: str) -> None:
    """What is no join of arrays is refused."""
    with pytest.raises(ExpressionError, match="cannot be computed"):
        Expression.parse(text)


@pytest.mark.parametrize(
    ("alias", "name"), [("power", "pow"), ("asin", "arcsin"), ("atan2", "arctan2"), ("mod", "remainder")]
)
def test_other_names(alias: str, name: str) -> None:
    """The other names that NumPy and Blosc2 have for a function are those of the same one."""
    root = Expression.parse(f"{alias}({', '.join(['a'] * ARITY[name])})").root

    assert isinstance(root, Call)
    assert name == root.function


def test_tree() -> None:
    """The tree holds what was written: fields, slices, axes."""
    root = Expression.parse("sum(t['x'][1:5, -1] * 2, axis=-1)").root

    assert isinstance(root, Reduction)
    assert ((-1,), False) == (root.axis, root.keepdims)
    assert isinstance(root.of, Call)
    item, two = root.of.arguments
    assert isinstance(item, Item)
    assert isinstance(two, Constant)
    assert 2 == two.value
    assert Slice((slice(1, 5), -1)) == item.key
    assert isinstance(item.of, Field)
    assert ("x", "t") == (item.of.name, item.of.of.name)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2**10", 1024), ("-3 // 2", -2), ("1/4", 0.25), ("1 < 2", True), ("~5", -6), ("(-1)**0.5 * 2", None)],
)
def test_constants(text: str, value: object) -> None:
    """What is computed of numbers alone is a number, as in Python."""
    root = Expression.parse(f"a + ({text})").root

    assert isinstance(root, Call)
    assert isinstance(root.arguments[0], Operand)
    assert isinstance(root.arguments[1], Constant)
    if value is not None:
        assert value == root.arguments[1].value
        assert type(value) is type(root.arguments[1].value)


def test_number_of_nodes() -> None:
    """A wide tree is bounded too, not only a deep one."""
    text = "0"
    for i in range(9):
        text = f"a+({text})*(a+a)" if i % 2 else f"({text})&(a|a)"
    wide = "(" + ")&(".join("a|a|a|a|a|a|a|a|a" for _ in range(MOST_NODES // 18 + 2)) + ")"

    assert Expression.parse(text)
    with pytest.raises(ExpressionError, match="too large"):
        Expression.parse(wide)


WORDS = [
    "a",
    "b",
    "sin",
    "sum",
    "where",
    "axis",
    "True",
    "None",
    "lambda",
    "for",
    "in",
    "if",
    "else",
    "not",
    "and",
    "f''",
    "''",
]
PIECES = st.sampled_from(
    [*WORDS, *string.punctuation, *"0123456789", " ", "**", "<<", ":=", "9e9", "1j", "é", "\u202e"]
)


@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=40))
def test_any_text(text: str) -> None:
    """Any text is an expression, which Python parses too, or refused; nothing else happens."""
    try:
        found = Expression.parse(text)
    except ExpressionError:
        return
    names = {node.id for node in ast.walk(ast.parse(text.strip(), mode="eval")) if isinstance(node, ast.Name)}

    assert set(found.names) <= names
