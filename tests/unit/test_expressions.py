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
    MOST_TEXT,
    REDUCTIONS,
    Call,
    Constant,
    Expression,
    Field,
    Item,
    Operand,
    Reduction,
)
from caterva2.slices import Slice

# Each is refused; the second text is in the error.
ATTACKS = [
    # Code.
    ("__import__('os').system('id')", "__import__('os').system"),
    ("__import__('os')", "no function '__import__'"),
    ("eval('1')", "no function 'eval'"),
    ("exec('a')", "no function 'exec'"),
    ("open('/etc/passwd')", "no function 'open'"),
    ("getattr(a, 'dtype')", "no function 'getattr'"),
    ("globals()", "no function 'globals'"),
    ("breakpoint()", "no function 'breakpoint'"),
    ("fromfile(a)", "no function 'fromfile'"),
    ("np.load(a)", "only functions can be called"),
    ("a.__class__", "'a.__class__' cannot be computed"),
    ("a.tofile('/tmp/x')", "only functions can be called"),
    ("().__class__.__bases__[0].__subclasses__()", "only functions can be called"),
    ("(1).real + a", "'(1).real' cannot be computed"),
    ("a['b'].base", "cannot be computed"),
    ("sin(a).ctypes", "cannot be computed"),
    ("__builtins__", "two underscores"),
    ("__a + 1", "two underscores"),
    ("sum(a)(b)", "only functions can be called"),
    ("(sin)(a)(a)", "only functions can be called"),
    ("[sin][0](a)", "only functions can be called"),
    ("lambda: a", "Lambda"),
    ("(lambda x: x)(a)", "only functions can be called"),
    ("[x for x in a]", "ListComp"),
    ("{x for x in a}", "SetComp"),
    ("{x: 1 for x in a}", "DictComp"),
    ("sum(x for x in a)", "GeneratorExp"),
    ("(a := 1) + a", "nothing can be assigned"),
    ("f'{a}'", "JoinedStr"),
    ("f'{a!r:>{b}}' == a", "JoinedStr"),
    ("sum(*a)", "Starred"),
    ("sum(**a)", "takes an array"),
    ("sin(x=a)", "takes 1 argument"),
    ("sin(a, out=b)", "takes 1 argument"),
    ("sum(a, out=b)", "takes an array"),
    ("sum(a, dtype='O')", "takes an array"),
    ("sum(a, axis=b)", "plain integer"),
    ("sum(a, axis=0, axis=1)", "takes an array"),
    ("sum(a, 0, axis=1)", "takes an array"),
    ("sum(a, keepdims=a)", "keepdims is True or False"),
    ("await a", "Await"),
    ("(yield a)", "Yield"),
    ("a if b else c", "use where"),
    ("a; b", "not an expression"),
    ("import os", "not an expression"),
    ("a = 1", "not an expression"),
    ("del a", "not an expression"),
    ("", "empty"),
    ("   ", "empty"),
    ("a +", "not an expression"),
    ("a)", "not an expression"),
    ("'a", "not an expression"),
    ("a, b", "Tuple"),
    ("[a]", "List"),
    ("{a}", "Set"),
    ("{1: a}", "Dict"),
    ("a and b", "use & and |"),
    ("not a", "use ~"),
    ("a < 1 < b", "chained"),
    ("a < 5 & b > 3", "chained"),
    ("a @ b", "'a @ b' cannot be computed"),
    ("a is b", "cannot be computed"),
    ("a in b", "cannot be computed"),
    ("a is None", "cannot be computed"),
    ("a + None", "neither a number nor text"),
    ("a + ...", "neither a number nor text"),
    ("1 + 2", "names no operand"),
    ("'text'", "names no operand"),
    # Indices.
    ("a[b]", "plain integer"),
    ("a[[0, 1]]", "plain integer"),
    ("a[None]", "plain integer"),
    ("a[True]", "plain integer"),
    ("a[1.5]", "plain integer"),
    ("a[0:b]", "plain integer"),
    ("a[::0]", "zero"),
    ("a[..., ...]", "ellipsis"),
    ("a['x', 0]", "plain integer"),
    ("a[0]['x']", "only operands have fields"),
    ("5[0] + a", "no items"),
    ("'abc'[0] == a", "no items"),
    ("sum(5) + a", "not reduced"),
    # Bombs.
    ("9**9**9", "too large"),
    ("9**9**9**9 + a", "too large"),
    ("a + 2**1000", "too large"),
    ("a + (2**60)**60", "too large"),
    ("a + 10**18 * 10**18", "too large"),
    ("1 << 10**9", "too large"),
    ("1 << -1", "negative shift"),
    ("a + 99999999999999999999", "too large"),
    ("a + 1e999", "not finite"),
    ("a + 2.0**9999", "cannot be computed"),
    ("a + 1e300 * 1e300", "not finite"),
    ("a + 1/0", "division by zero"),
    ("a + 1 % 0", "cannot be computed"),
    ("a + 0**-1", "cannot be computed"),
    ("~True + a", "True"),
    ("a" * (MOST_TEXT + 1), "too long"),
    ("a + " + "9" * 1500, "cannot be computed"),
    ("(" * 300 + "a" + ")" * 300, "too many nested"),
    ("-" * (MOST_TEXT - 1) + "a", "nested too deeply"),
    ("~" * 500 + "a", "nested too deeply"),
    ("not " * 400 + "a", "use ~"),
    ("a" + "**a" * 600, "nested too deeply"),
    ("a" + "[0]" * 600, "nested too deeply"),
    ("a" + ".a" * 900, "cannot be computed"),
    ("sin(" * 190 + "a" + ")" * 190, "nested too deeply"),
    ("lambda:" * 200 + "a", "Lambda"),
    ("a if a else " * 100 + "a", "use where"),
    ("'a' * 10**9 == a", None),
    # Unicode.
    ("\uff41 + 1", "only look like others"),
    ("\U0001d41a\U0001d41b\U0001d42c(a)", "only look like others"),
    ("\u017fin(a)", "only look like others"),
    ("a\u202e + 1", "'\\u202e'"),
    ("a\u200b + 1", "'\\u200b'"),
    ("a\ufeff", "'\\ufeff'"),
    ("a\u2028+ 1", "'\\u2028'"),
    ("a\0", "'\\x00'"),
    ("a\n+ 1", "'\\n'"),
    ("a\t+ 1", "'\\t'"),
    ("a == '\\x41'", "'\\\\'"),
    ("a \ud800", "'\\ud800'"),
    ("\u0430bs(a)", "no function '\\u0430bs'"),
    ("a\N{MULTIPLICATION SIGN}2", "not an expression"),
    ("1if a else 2", "'1if' is not a number"),
    ("0xfor b", "not a number"),
]


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


@pytest.mark.parametrize("name", [*ARITY, *REDUCTIONS])
def test_functions(name: str) -> None:
    """Every function is taken with as many arguments as it has, and with no more."""
    arguments = ["a"] * ARITY.get(name, 1)

    root = Expression.parse(f"{name}({', '.join(arguments)})").root

    assert isinstance(root, Reduction if name in REDUCTIONS else Call)
    assert name == root.function
    with pytest.raises(ExpressionError, match=r"takes|integer"):
        Expression.parse(f"{name}({', '.join([*arguments, 'a'])})")


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
