"""What an expression comes to: its shape and dtype without any data, and its values part by part.

NumPy decides: the dtype of a result is the one that its function gives for arrays of one item, and the values are
those of the same functions on the parts of the operands that a part of the result needs. Everything here is pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from caterva2.errors import ExpressionError, SliceError
from caterva2.expressions import Call, Constant, Expression, Field, Item, Join, Node, Operand, Reduction
from caterva2.reductions import EXTREMES, PLACES, reduced_dtype
from caterva2.slices import Axis, Selection

Region = tuple[Axis, ...]
Leaf = Operand | Field | Reduction
ReadLeaf = Callable[[Leaf, Region], Any]

_NUMBERS = "biufc"
# Bytes of one item; NumPy can join texts to longer ones.
_MOST_ITEM = 1 << 20
# Axes of an array; of 16, which Blosc2 can have, its frames do not say how many they are.
_MOST_AXES = 15


def _contains(text: Any, part: Any) -> Any:
    return np.strings.find(text, part) >= 0


# Where NumPy's name is another one, or what NumPy has is a method.
_OTHERS: Mapping[str, Callable[..., Any]] = {
    "bitwise_not": np.invert,
    "bitwise_left_shift": np.left_shift,
    "bitwise_right_shift": np.right_shift,
    "contains": _contains,
    "startswith": np.strings.startswith,
    "endswith": np.strings.endswith,
    "lower": np.strings.lower,
    "upper": np.strings.upper,
}


@dataclass(frozen=True, slots=True)
class Form:
    """The shape and the dtype of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Bound:
    """An expression with the forms of its operands.

    Args:
        expression: that is checked.
        operands: their forms, by name.

    Raises:
        ExpressionError: if an operand is not there, or they do not go together.
    """

    def __init__(self, expression: Expression, operands: Mapping[str, Form]) -> None:
        self._operands = operands
        self._forms: dict[Node, Form | None] = {}
        self._samples: dict[Node, Any] = {}
        self.root = expression.root
        # Bytes that computing one item of the result takes, at the most.
        self.width = self._infer(self.root)
        self.form = self.form_of(self.root)
        if self.form.dtype.kind == "V" and not isinstance(self.root, Join):
            raise ExpressionError(f"{expression.text[:80]!a} has fields: take one of them, such as t['a']")

    def form_of(self, node: Node) -> Form:
        """The shape and dtype of a part of the expression that is no constant."""
        form = self._forms[node]
        assert form is not None
        return form

    def needs(self, node: Node, region: Region) -> Iterator[tuple[Leaf, Region]]:
        """What must be known to compute a region of a node: regions of operands, fields and reductions."""
        if isinstance(node, Operand | Field | Reduction):
            yield node, region
        else:
            for part, inner in self._parts(node, region):
                yield from self.needs(part, inner)

    def compute(self, node: Node, region: Region, read: ReadLeaf) -> Any:
        """Compute a region of a node.

        Args:
            node: of the expression.
            region: one axis for each axis of the node.
            read: gives what `needs` named, as arrays of the regions' counts.

        Returns:
            An array that has, or broadcasts to, the region's counts; or a number.
        """
        if isinstance(node, Constant):
            return node.value
        if isinstance(node, Operand | Field | Reduction):
            return read(node, region)
        if isinstance(node, Join):
            return self._joined(node, region, read)
        values = [self.compute(part, inner, read) for part, inner in self._parts(node, region)]
        if isinstance(node, Item):
            return np.broadcast_to(values[0], [axis.count for axis in self._item_region(node, region)]).reshape(
                [axis.count for axis in region]
            )
        assert isinstance(node, Call)
        return _apply(node, values)

    def source_of(self, node: Reduction, region: Region) -> Region:
        """The region of what is reduced for a region of the result."""
        shape, reduced = self.form_of(node.of).shape, self.reduced(node)
        left = iter(region)
        axes = []
        for i, extent in enumerate(shape):
            kept = next(left) if node.keepdims or i not in reduced else None
            axes.append(Axis(0, 1, extent, kept=True) if i in reduced or kept is None else kept)
        return tuple(axes)

    def reduced(self, node: Reduction) -> frozenset[int]:
        """The axes that are reduced, counted from the first."""
        shape = self.form_of(node.of).shape
        if node.axis is None:
            return frozenset(range(len(shape)))
        if any(not -len(shape) <= axis < len(shape) for axis in node.axis):
            raise ExpressionError(f"{node.source[:80]!a}: axis is out of bounds for shape {shape}")
        axes = frozenset(axis % len(shape) for axis in node.axis)
        if len(axes) < len(node.axis):
            raise ExpressionError(f"{node.source[:80]!a}: an axis is named twice")
        return axes

    def _joined(self, node: Join, region: Region, read: ReadLeaf) -> Any:
        out = np.empty([axis.count for axis in region], self.form_of(node).dtype)
        for part, inner, where in self._pieces(node, region):
            out[where] = self.compute(part, inner, read)
        return out

    def _parts(self, node: Node, region: Region) -> Iterator[tuple[Node, Region]]:
        if isinstance(node, Item):
            yield node.of, self._item_region(node, region)
        elif isinstance(node, Join):
            for part, inner, _ in self._pieces(node, region):
                yield part, inner
        elif isinstance(node, Call):
            for part in node.arguments:
                yield part, self._spread(node, part, region)

    def _spread(self, node: Node, part: Node, region: Region) -> Region:
        """The region of an argument, which broadcasting may repeat."""
        form = self._forms[part]
        shape, whole = form.shape if form is not None else (), self.form_of(node).shape
        first = len(whole) - len(shape)
        pairs = zip(region[first:], shape, whole[first:], strict=True)
        return tuple(Axis(0, 1, 1, kept=True) if have == 1 != all_ else axis for axis, have, all_ in pairs)

    def _pieces(self, node: Join, region: Region) -> Iterator[tuple[Node, Region, tuple[Any, ...]]]:
        """What a region of a join needs of each part that it touches, and where in the region that lies."""
        at, low = node.axis % len(region), 0
        before, axis, after = region[:at], region[at], region[at + 1 :]
        for part in node.parts:
            high = low + (1 if node.function == "stack" else self.form_of(part).shape[at])
            found = axis.within(low, high)
            if found.start < found.stop:
                inner = Axis(axis.start + found.start * axis.step - low, axis.step, found.stop - found.start, kept=True)
                here, where = ((), found.start) if node.function == "stack" else ((inner,), found)
                yield part, (*before, *here, *after), (*[slice(None)] * at, where)
            low = high

    def _item_region(self, node: Item, region: Region) -> Region:
        """The region of what is sliced for a region of the slice."""
        left = iter(region)
        axes = []
        for axis in _resolved(node, self.form_of(node.of).shape).axes:
            if not axis.kept:
                axes.append(replace(axis, kept=True))
                continue
            wanted = next(left)
            axes.append(Axis(axis.start + wanted.start * axis.step, axis.step * wanted.step, wanted.count, kept=True))
        return tuple(axes)

    def _infer(self, node: Node) -> int:
        """Find the form of a node, and something that stands for it; those of constants are None and themselves.

        Returns:
            Bytes that computing one of its items takes, at the most.
        """
        width = 0
        match node:
            case Constant():
                self._forms[node], self._samples[node] = None, node.value
                return 0
            case Operand():
                form = self._operand(node)
            case Field():
                width = self._infer(node.of)
                form = self._field(node)
            case Item():
                width = self._infer(node.of)
                of = self.form_of(node.of)
                form = Form(_resolved(node, of.shape).shape, of.dtype)
            case Reduction():
                width = self._infer(node.of)
                form = self._reduction(node)
            case Join():
                # Each item is that of one part.
                width = max([self._infer(part) for part in node.parts])
                form = _joined_form(node, [self.form_of(part) for part in node.parts])
            case Call():
                width = sum([self._infer(part) for part in node.arguments])
                form = self._call(node)
        if form.dtype.itemsize > _MOST_ITEM:
            raise ExpressionError(f"items of {form.dtype.itemsize} bytes are too large to be computed with")
        if len(form.shape) > _MOST_AXES:
            raise ExpressionError(f"{len(form.shape)} axes are too many: at most {_MOST_AXES} are computed with")
        self._forms[node] = form
        self._samples[node] = np.ones(1, form.dtype) if form.dtype.kind != "V" else None
        return width + form.dtype.itemsize

    def _operand(self, node: Operand) -> Form:
        try:
            return self._operands[node.name]
        except KeyError:
            # Upstream's words.
            raise ExpressionError(
                f"Expression error: {ascii(node.name)[1:-1]} is not in the list of available datasets"
            ) from None

    def _field(self, node: Field) -> Form:
        of = self.form_of(node.of)
        names = of.dtype.names or ()
        if node.name not in names:
            known = f"its fields are {', '.join(names)}" if names else "it has no fields"
            raise ExpressionError(f"there is no field {node.name[:80]!a} in {node.of.name}: {known}")
        dtype = of.dtype[node.name]
        return Form(of.shape + dtype.shape, dtype.base)

    def _reduction(self, node: Reduction) -> Form:
        of, reduced = self.form_of(node.of), self.reduced(node)
        kinds = _NUMBERS + "mM" if node.function in EXTREMES else _NUMBERS
        if of.dtype.kind not in kinds:
            raise ExpressionError(f"{node.source[:80]!a}: there is no {node.function} of {of.dtype}")
        if node.function in PLACES and node.axis is not None and len(node.axis) != 1:
            raise ExpressionError(f"{node.source[:80]!a}: {node.function} is along one axis, or of all items")
        shape = [1 if i in reduced else n for i, n in enumerate(of.shape) if node.keepdims or i not in reduced]
        nothing = not math.prod(of.shape[i] for i in reduced)
        if nothing and node.function in EXTREMES:
            raise ExpressionError(f"{node.source[:80]!a}: there is no {node.function} of nothing")
        return Form(tuple(shape), reduced_dtype(node.function, of.dtype))

    def _call(self, node: Call) -> Form:
        forms = [self._forms[part] for part in node.arguments]
        if any(form is not None and form.dtype.kind == "V" for form in forms):
            raise ExpressionError(f"{node.source[:80]!a} has fields: take one of them, such as t['a']")
        made = np.asarray(_apply(node, [self._samples[part] for part in node.arguments]))
        try:
            shape = np.broadcast_shapes(*(form.shape for form in forms if form is not None))
        except ValueError:
            shapes = " and ".join(str(form.shape) for form in forms if form is not None)
            raise ExpressionError(f"{node.source[:80]!a}: shapes {shapes} do not go together") from None
        return Form(tuple(int(n) for n in shape), made.dtype)


def _resolved(node: Item, shape: tuple[int, ...]) -> Selection:
    try:
        return node.key.resolve(shape)
    except SliceError as error:
        raise ExpressionError(f"{node.source[:80]!a}: {error.detail}") from None


def _joined_form(node: Join, forms: Sequence[Form]) -> Form:
    """The form of arrays one after the other; all but the axis along which they are joined is the same."""
    first, stacked = forms[0].shape, node.function == "stack"
    ndim = len(first) + stacked
    if not ndim:
        raise ExpressionError(f"{node.source[:80]!a}: arrays without axes are not joined, but stacked")
    if not -ndim <= node.axis < ndim:
        raise ExpressionError(f"{node.source[:80]!a}: axis {node.axis} is out of bounds for {ndim} axes")
    at = node.axis % ndim
    dtype, count = forms[0].dtype, 0
    for n, form in enumerate(forms):
        shape = form.shape
        fits = shape == first if stacked else (*shape[:at], *shape[at + 1 :]) == (*first[:at], *first[at + 1 :])
        if not fits or len(shape) != len(first):
            raise ExpressionError(
                f"{node.source[:80]!a}: array {n + 1} of {len(forms)} has the shape {shape}, which does not go with"
                f" {first} along axis {node.axis}"
            )
        dtype = _joined_dtype(node, dtype, form.dtype)
        count += 1 if stacked else shape[at]
    return Form((*first[:at], count, *first[at if stacked else at + 1 :]), dtype)


def _joined_dtype(node: Join, one: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    if one == other:
        return one
    if (one.kind != other.kind and not {one.kind, other.kind} <= set(_NUMBERS)) or one.kind == "V":
        raise ExpressionError(f"{node.source[:80]!a}: items of {one} and {other} do not go together")
    return np.result_type(one, other)


def _apply(node: Call, values: Sequence[Any]) -> Any:
    function = _OTHERS.get(node.function) or getattr(np, node.function)
    try:
        with np.errstate(all="ignore"):
            return function(*_adapted(values))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ExpressionError(f"{node.source[:80]!a} cannot be computed: {str(error)[:200]}") from None


def _adapted(values: Sequence[Any]) -> list[Any]:
    """Let text in an expression be what it is compared with: bytes, or a time."""
    kinds = {value.dtype.kind for value in values if isinstance(value, np.ndarray | np.generic)}
    if "S" in kinds:
        return [value.encode() if isinstance(value, str) else value for value in values]
    if "M" in kinds:
        return [np.datetime64(value) if isinstance(value, str) else value for value in values]
    return list(values)


def cut(region: Region, most: int, grain: Sequence[int] | None = None) -> Iterator[tuple[slice, ...]]:
    """Cut a region into parts of at most `most` items, or one; without a grain, in the order of its items.

    Args:
        region: one axis for each axis.
        most: items in a part.
        grain: sides of parts that should not be cut, where `most` allows it, for each axis.
    """
    counts = [axis.count for axis in region]
    sizes = [max(1, min(g, n)) for g, n in zip(grain or [1] * len(counts), counts, strict=True)]
    for i in range(len(sizes)):
        if (too_much := math.prod(sizes) / max(most, 1)) > 1:
            sizes[i] = max(1, int(sizes[i] / too_much))
    for i in reversed(range(len(sizes))):
        if (room := most // math.prod(sizes)) > 1:
            sizes[i] = max(1, min(counts[i], sizes[i] * room))
    if 0 not in counts:
        yield from _grid(counts, sizes)


def _grid(counts: Sequence[int], sizes: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    if not counts:
        yield ()
        return
    for start in range(0, counts[0], sizes[0]):
        for rest in _grid(counts[1:], sizes[1:]):
            yield (slice(start, min(counts[0], start + sizes[0])), *rest)


def part_of(region: Region, part: Sequence[slice]) -> Region:
    """A part of a region, given by places in it."""
    return tuple(
        replace(axis, start=axis.start + side.start * axis.step, count=side.stop - side.start, kept=True)
        for axis, side in zip(region, part, strict=True)
    )


def region_of(selection: Selection) -> Region:
    """What is selected, with all axes kept."""
    return tuple(replace(axis, kept=True) for axis in selection.axes)
