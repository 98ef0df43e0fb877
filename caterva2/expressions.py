"""The language of expressions: text that came from the network, checked before anything is computed.

It is a small part of Python's syntax, with NumPy's meaning: names of operands, numbers, strings, operators, slices
(`a[0:5, 1]`), fields (`t["a"]`), and calls of the functions listed here. Python's own parser makes a tree of the
text; each node of it must be on the list of what is allowed, and is turned into a node of ours. Nothing is ever
evaluated as Python: what is not on the list has no node that could be computed.
"""

from __future__ import annotations

import ast
import cmath
import operator
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from caterva2.errors import ExpressionError, SliceError
from caterva2.slices import Slice

MOST_TEXT = 2000
MOST_NODES = 400
MOST_DEPTH = 100
_MOST_INT = 1 << 64
_MOST_EXPONENT = 64

REDUCTIONS = frozenset(
    ["sum", "prod", "min", "max", "mean", "std", "var", "any", "all", "argmin", "argmax", "count_nonzero"]
)
JOINS = frozenset({"concat", "stack"})
# The names of NumPy's functions of one, two and three arrays, as Blosc2 calls them too.
_UNARY = (
    "abs sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh exp expm1 log log2 log10 log1p sqrt"
    " square reciprocal sign signbit negative positive conj real imag floor ceil trunc round isnan isinf isfinite"
    " logical_not bitwise_not lower upper"
)
_BINARY = (
    "add subtract multiply divide floor_divide remainder pow arctan2 hypot maximum minimum copysign nextafter"
    " logaddexp logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor bitwise_left_shift"
    " bitwise_right_shift equal not_equal less less_equal greater greater_equal contains startswith endswith"
)
ARITY: Mapping[str, int] = {
    **dict.fromkeys(_UNARY.split(), 1),
    **dict.fromkeys(_BINARY.split(), 2),
    "where": 3,
    "clip": 3,
}
_ALIASES: Mapping[str, str] = {
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "tan2")},
    "power": "pow",
    "mod": "remainder",
    "absolute": "abs",
    "bitwise_invert": "bitwise_not",
    "concatenate": "concat",
}
_OPERATORS: Mapping[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder",
    ast.Pow: "pow",
    ast.BitAnd: "bitwise_and",
    ast.BitOr: "bitwise_or",
    ast.BitXor: "bitwise_xor",
    ast.LShift: "bitwise_left_shift",
    ast.RShift: "bitwise_right_shift",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.USub: "negative",
    ast.UAdd: "positive",
    ast.Invert: "bitwise_not",
}
# What operators do with two numbers, as in Python: the result adapts to arrays as a number in the text does.
_FOLDED: Mapping[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "pow": operator.pow,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
    "bitwise_left_shift": operator.lshift,
    "bitwise_right_shift": operator.rshift,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "negative": operator.neg,
    "positive": operator.pos,
    "bitwise_not": operator.invert,
}
# A number right before a keyword: Python takes it, with a warning for whoever reads its log.
_STUCK = re.compile(r"\b[0-9][0-9a-zA-Z_.]*(?:and|else|for|if|in|is|not|or)\b")
_HINTS: Mapping[type[ast.AST], str] = {
    ast.BoolOp: "use & and | with parentheses, such as (a > 1) & (b < 2)",
    ast.Not: "use ~ with parentheses, such as ~(a > 1)",
    ast.Attribute: "use a field as t['a'], and functions by their plain names",
    ast.IfExp: "use where(condition, a, b)",
    ast.NamedExpr: "nothing can be assigned",
}

Number = bool | int | float | complex


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A number, or text that is compared with an array of texts or times."""

    value: Number | str | bytes


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """An array, by its name."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A field of an operand."""

    of: Operand
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A slice of something."""

    of: Node
    key: Slice
    source: str = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A function of one or more arrays, item by item."""

    function: str
    arguments: tuple[Node, ...]
    source: str = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """A reduction over some axes; None is all of them."""

    function: str
    of: Node
    axis: tuple[int, ...] | None
    keepdims: bool
    source: str = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """Arrays one after the other, along an axis that they have (`concat`), or a new one (`stack`)."""

    function: str
    parts: tuple[Node, ...]
    axis: int
    source: str = field(repr=False)


Node = Constant | Operand | Field | Item | Call | Reduction | Join


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression.

    Attributes:
        text: as it was written.
        root: its tree.
        names: the operands in it, in the order of their first use.
    """

    text: str
    root: Node
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check a text.

        Raises:
            ExpressionError: if it is no expression of this language; names the part that is not.
        """
        text = text.strip()
        _check_text(text)
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise ExpressionError(f"{_shown(text)} is not an expression: {reason!a}") from None
        except (RecursionError, MemoryError):
            raise ExpressionError(f"{_shown(text)} is nested too deeply: at most {MOST_DEPTH} levels") from None
        checker = _Checker(text)
        root = checker.node(tree)
        if not checker.names:
            raise ExpressionError(f"{_shown(text)} names no operand")
        return cls(text, root, tuple(checker.names))

    def substituted(self, parts: Mapping[str, Expression]) -> Expression:
        """Put expressions in the place of operands.

        Args:
            parts: by the names that they replace; an operand `b` of the part `a` is named `a.b` from then on, which no
                text can say.

        Raises:
            ExpressionError: if that is too large, or takes a field of what has none.
        """
        names: dict[str, None] = {}
        budget = iter(range(MOST_NODES))

        def put(node: Node, prefix: str, depth: int) -> Node:
            if next(budget, None) is None or depth > MOST_DEPTH:
                raise ExpressionError(f"{_shown(self.text)} is too large with its operands, which are expressions too")
            match node:
                case Operand(name) if not prefix and name in parts:
                    return put(parts[name].root, f"{name}.", depth + 1)
                case Operand(name):
                    names[prefix + name] = None
                    return Operand(prefix + name)
                case Field(of, name):
                    inner = put(of, prefix, depth + 1)
                    if not isinstance(inner, Operand):
                        raise ExpressionError(f"{of.name} is an expression: it has no field {name[:80]!a}")
                    return Field(inner, name)
                case Item(of) | Reduction(of=of):
                    return replace(node, of=put(of, prefix, depth + 1))
                case Call(arguments=arguments):
                    return replace(node, arguments=tuple(put(part, prefix, depth + 1) for part in arguments))
                case Join(parts=joined):
                    return replace(node, parts=tuple(put(part, prefix, depth + 1) for part in joined))
            return node

        root = put(self.root, "", 1)
        return Expression(self.text, root, tuple(names))


def _check_text(text: str) -> None:
    """Refuse what need not even be parsed."""
    if not text:
        raise ExpressionError("the expression is empty")
    if len(text) > MOST_TEXT:
        raise ExpressionError(f"{_shown(text)} is too long: at most {MOST_TEXT} characters")
    for char in text:
        if unicodedata.category(char)[0] == "C" or char in "\\\u2028\u2029":
            raise ExpressionError(f"{_shown(text)} holds {char!a}, which no expression needs")
    # Python reads names in their normal form: what is shown would be another name than what is meant.
    if unicodedata.normalize("NFKC", text) != text:
        raise ExpressionError(f"{_shown(text)} holds characters that only look like others: use the plain ones")
    if (stuck := _STUCK.search(text)) is not None:
        raise ExpressionError(f"{_shown(stuck.group())} is not a number")


class _Checker:
    """Turns Python's tree into ours.

    Args:
        text: of the expression.
    """

    def __init__(self, text: str) -> None:
        self._bytes = text.encode()
        self._count = 0
        self.names: dict[str, None] = {}

    def node(self, tree: ast.expr, depth: int = 1) -> Node:
        """Check a node and all below it."""
        self._enter(tree, depth)
        below = depth + 1
        match tree:
            case ast.Constant():
                return Constant(self._constant(tree))
            case ast.Name():
                return self._operand(tree)
            case ast.UnaryOp(op=op) if type(op) in _OPERATORS:
                return self._call(_OPERATORS[type(op)], [self.node(tree.operand, below)], tree)
            case ast.BinOp(op=op) if type(op) in _OPERATORS:
                return self._call(_OPERATORS[type(op)], [self.node(x, below) for x in (tree.left, tree.right)], tree)
            case ast.Compare(ops=[op], comparators=[right]) if type(op) in _OPERATORS:
                return self._call(_OPERATORS[type(op)], [self.node(x, below) for x in (tree.left, right)], tree)
            case ast.Compare(ops=[_, _, *_]):
                raise self._refused(tree, "comparisons cannot be chained: use (a < b) & (b < c)")
            case ast.Subscript():
                return self._subscript(tree, below)
            case ast.Call():
                return self._called(tree, below)
        kind = type(tree.op) if isinstance(tree, ast.UnaryOp) else type(tree)
        raise self._refused(tree, _HINTS.get(kind, f"there is no {kind.__name__} in expressions"))

    def _enter(self, tree: ast.AST, depth: int) -> None:
        self._count += 1
        if depth > MOST_DEPTH:
            raise self._refused(tree, f"it is nested too deeply: at most {MOST_DEPTH} levels")
        if self._count > MOST_NODES:
            raise self._refused(tree, f"the expression is too large: at most {MOST_NODES} names, numbers and operators")

    def _refused(self, tree: ast.AST, why: str) -> ExpressionError:
        return ExpressionError(f"{_shown(self._source(tree))} cannot be computed: {why}")

    def _source(self, tree: ast.AST) -> str:
        start, end = getattr(tree, "col_offset", 0), getattr(tree, "end_col_offset", None)
        return self._bytes[start:end].decode(errors="replace")

    def _operand(self, tree: ast.Name) -> Operand:
        if tree.id.startswith("__"):
            raise self._refused(tree, "names that begin with two underscores are not for operands")
        self.names[tree.id] = None
        return Operand(tree.id)

    def _constant(self, tree: ast.Constant) -> Number | str | bytes:
        value = tree.value
        if isinstance(value, str | bytes):
            return value
        if isinstance(value, int | float | complex):
            return self._bounded(value, tree)
        raise self._refused(tree, "it is neither a number nor text")

    def _bounded(self, value: Number, tree: ast.AST) -> Number:
        if isinstance(value, int) and abs(value) >= _MOST_INT:
            raise self._refused(tree, "the number is too large")
        if not cmath.isfinite(value):
            raise self._refused(tree, "the number is not finite")
        return value

    def _call(self, function: str, arguments: Sequence[Node], tree: ast.expr) -> Node:
        values = [a.value for a in arguments if isinstance(a, Constant) and not isinstance(a.value, str | bytes)]
        if len(values) < len(arguments):
            return Call(function, tuple(arguments), self._source(tree))
        return Constant(self._folded(function, values, tree))

    def _folded(self, function: str, values: list[Number], tree: ast.AST) -> Number:
        large = function in {"pow", "bitwise_left_shift"} and abs(values[1]) > _MOST_EXPONENT
        if large and isinstance(values[0], int) and isinstance(values[1], int):
            raise self._refused(tree, "the number is too large")
        if function == "bitwise_not" and isinstance(values[0], bool):
            raise self._refused(tree, "write True or False")
        try:
            return self._bounded(_FOLDED[function](*values), tree)
        except (ArithmeticError, TypeError, ValueError) as error:
            if isinstance(error, ExpressionError):
                raise
            raise self._refused(tree, str(error)) from None

    def _called(self, tree: ast.Call, depth: int) -> Node:
        if not isinstance(tree.func, ast.Name):
            raise self._refused(tree, "only functions can be called, by their plain names")
        name = _ALIASES.get(tree.func.id, tree.func.id)
        if name in REDUCTIONS:
            return self._reduction(name, tree, depth)
        if name in JOINS:
            return self._join(name, tree, depth)
        if name not in ARITY:
            raise self._refused(tree, f"there is no function {_shown(tree.func.id)}")
        if tree.keywords or len(tree.args) != ARITY[name]:
            raise self._refused(tree, f"{name} takes {ARITY[name]} argument{'s' * (ARITY[name] > 1)}")
        return Call(name, tuple(self.node(argument, depth) for argument in tree.args), self._source(tree))

    def _reduction(self, name: str, tree: ast.Call, depth: int) -> Reduction:
        given = self._given(tree, {"axis", "keepdims"}, f"{name} takes an array, axis= and keepdims=")
        axis, keepdims = given.get("axis"), given.get("keepdims")
        if keepdims is not None and not (isinstance(keepdims, ast.Constant) and isinstance(keepdims.value, bool)):
            raise self._refused(keepdims, "keepdims is True or False")
        kept, of = isinstance(keepdims, ast.Constant) and bool(keepdims.value), self.node(tree.args[0], depth)
        if isinstance(of, Constant):
            raise self._refused(tree, "a constant is not reduced")
        return Reduction(name, of, self._axis(axis), kept, self._source(tree))

    def _join(self, name: str, tree: ast.Call, depth: int) -> Join:
        takes = f"{name} takes several arrays in parentheses, and axis="
        axis = self._given(tree, {"axis"}, takes).get("axis")
        of = tree.args[0]
        if not isinstance(of, ast.Tuple | ast.List) or not of.elts:
            raise self._refused(tree, takes)
        parts = tuple(self.node(part, depth) for part in of.elts)
        if any(isinstance(part, Constant) for part in parts):
            raise self._refused(tree, "constants are not joined")
        return Join(name, parts, self._integer(axis) if axis is not None else 0, self._source(tree))

    def _given(self, tree: ast.Call, names: Collection[str], takes: str) -> dict[str | None, ast.expr]:
        """The options of a function of one argument, of which the first may be the second argument."""
        given = {keyword.arg: keyword.value for keyword in tree.keywords}
        repeated = len(tree.keywords) > len(given)
        if len(tree.args) == 2 and "axis" not in given:
            given["axis"] = tree.args[1]
        elif len(tree.args) != 1:
            raise self._refused(tree, takes)
        if repeated or not given.keys() <= set(names):
            raise self._refused(tree, takes)
        return given

    def _axis(self, tree: ast.expr | None) -> tuple[int, ...] | None:
        if tree is None or (isinstance(tree, ast.Constant) and tree.value is None):
            return None
        return tuple(self._integer(x) for x in (tree.elts if isinstance(tree, ast.Tuple) else [tree]))

    def _subscript(self, tree: ast.Subscript, depth: int) -> Node:
        of, index = self.node(tree.value, depth), tree.slice
        if isinstance(index, ast.Constant) and isinstance(index.value, str):
            if not isinstance(of, Operand):
                raise self._refused(tree, "only operands have fields")
            return Field(of, index.value)
        if isinstance(of, Constant):
            raise self._refused(tree, "a constant has no items")
        parts = index.elts if isinstance(index, ast.Tuple) else [index]
        try:
            return Item(of, Slice.from_key(tuple(self._index(part, depth) for part in parts)), self._source(tree))
        except SliceError as error:
            raise self._refused(tree, error.detail) from None

    def _index(self, tree: ast.expr, depth: int) -> Any:
        self._enter(tree, depth)
        if isinstance(tree, ast.Slice):
            return slice(*(None if x is None else self._integer(x) for x in (tree.lower, tree.upper, tree.step)))
        if isinstance(tree, ast.Constant) and tree.value is Ellipsis:
            return Ellipsis
        return self._integer(tree)

    def _integer(self, tree: ast.expr) -> int:
        self._enter(tree, 1)
        sign, inner = 1, tree
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            sign, inner = -1, tree.operand
        if isinstance(inner, ast.Constant) and type(inner.value) is int:
            return sign * int(self._bounded(inner.value, inner).real)
        raise self._refused(tree, "it is not a plain integer")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:60] + "...")
