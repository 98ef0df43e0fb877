"""caterva2.slices: texts and keys, and what they select, compared with NumPy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caterva2.errors import SliceError
from caterva2.slices import Axis, Selection, Slice

HUGE = 2**62
BOUNDS = st.none() | st.integers(-12, 12) | st.sampled_from([-HUGE, HUGE])
STEPS = st.none() | st.integers(1, 12) | st.integers(-12, -1) | st.sampled_from([-HUGE, HUGE])
SLICES = st.builds(slice, BOUNDS, BOUNDS, STEPS)
SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple) | st.lists(st.integers(1, 2), min_size=5, max_size=8).map(
    tuple
)


@st.composite
def keys(draw: st.DrawFn, shape: Sequence[int]) -> tuple[Any, ...]:
    """A key of NumPy's basic indexing that fits the shape."""
    items: list[Any] = [
        draw(SLICES | st.integers(-n, n - 1)) if n else draw(SLICES) for n in shape[: draw(st.integers(0, len(shape)))]
    ]
    if draw(st.booleans()):
        tail = [draw(SLICES | st.integers(-n, n - 1)) if n else draw(SLICES) for n in shape[len(items) :]]
        tail = tail[draw(st.integers(0, len(tail))) :] if tail else []
        items += [Ellipsis, *tail]
    return tuple(items)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], tuple[int, ...], tuple[Any, ...]]:
    """An array, the shape of its chunks, and a key."""
    shape = draw(SHAPES)
    chunks = tuple(draw(st.integers(1, n)) if n else draw(st.integers(0, 2)) for n in shape)
    values = np.arange(math.prod(shape)).reshape(shape)
    return values, chunks, draw(keys(shape))


# -- texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", ()),
        ("  ", ()),
        ("1", (1,)),
        ("-1", (-1,)),
        ("+1", (1,)),
        ("1,", (1,)),
        ("0:10", (slice(0, 10),)),
        (":10", (slice(None, 10),)),
        (":", (slice(None),)),
        ("::", (slice(None),)),
        ("0:2, 1, :3", (slice(0, 2), 1, slice(None, 3))),
        ("::-2", (slice(None, None, -2),)),
        ("..., 0", (Ellipsis, 0)),
        (" 1 : 2 : 3 ", (slice(1, 2, 3),)),
        ("9223372036854775807", (2**63 - 1,)),
    ],
)
def test_text_is_read_as_numpy_means_it(text: str, items: tuple[Any, ...]) -> None:
    """Each axis is an int, start:stop:step or an ellipsis; spaces do not count."""
    assert Slice(items) == Slice.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        ",", "1,,2", ",1", "a", "1.5", "1e3", "True", "None", "1:2:3:4", "1 2", "- 1", "--1", "0x10", "1_000", "٣", "¹",
        "[1]", "(1)", "....", "..", "1;2", "__import__('os')", "1:a", "\0", "9" * 20, "1:" + "9" * 100,
    ],
)  # fmt: skip
def test_what_is_no_slice_is_refused_by_name(text: str) -> None:
    """A text that is no slice is a SliceError that shows the text."""
    with pytest.raises(SliceError) as caught:
        Slice.parse(text)

    assert repr(text[:100]) in str(caught.value)


@pytest.mark.parametrize("text", ["::0", "1:2:0", "0, ::-0"])
def test_a_step_of_zero_is_refused(text: str) -> None:
    """A step of zero selects nothing that could be told."""
    with pytest.raises(SliceError, match="step cannot be zero"):
        Slice.parse(text)


def test_two_ellipses_are_ambiguous() -> None:
    """At most one ellipsis can be resolved."""
    with pytest.raises(SliceError, match=r"\.\.\., 1, \.\.\."):
        Slice.parse("..., 1, ...")


def test_a_text_of_very_many_axes_is_refused_shortly() -> None:
    """A megabyte of commas costs one short error."""
    with pytest.raises(SliceError) as caught:
        Slice.parse("1," * 500_000)

    assert len(str(caught.value)) < 200


@given(SHAPES.flatmap(keys))
def test_a_key_survives_its_text(key: tuple[Any, ...]) -> None:
    """What is written as text is read as the same slice."""
    sliced = Slice.from_key(key)

    assert sliced == Slice.parse(str(sliced))


@given(st.text(alphabet="0123456789:,-+. x", max_size=30))
def test_any_text_is_a_slice_or_a_slice_error(text: str) -> None:
    """Reading never fails in another way, and what was read can be written and read again."""
    try:
        sliced = Slice.parse(text)
    except SliceError:
        return

    assert sliced == Slice.parse(str(sliced))


# -- keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", [True, False, np.True_, 1.0, np.float64(1), "1", None, [0, 1], np.array([0, 1]), slice(1.0), slice(0, "a"),
            slice(None, None, True), (0, None), ((0,),), 1j, b"1", object],
)  # fmt: skip
def test_only_ints_slices_and_ellipses_are_keys(key: Any) -> None:
    """Bools, floats, lists, arrays and anything else are refused."""
    with pytest.raises(SliceError, match="is not an index: use integers"):
        Slice.from_key(key)


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.intp])
def test_numpy_integers_are_integers(kind: Any) -> None:
    """NumPy's integers, also as the bounds of a slice, mean what Python's mean."""
    expected = Slice((1, slice(2, 3, 4)))

    assert expected == Slice.from_key((kind(1), slice(kind(2), kind(3), kind(4))))


def test_a_key_of_zero_step_is_refused() -> None:
    """A step of zero is refused in keys as well."""
    with pytest.raises(SliceError, match="step cannot be zero"):
        Slice.from_key(slice(None, None, 0))


@pytest.mark.parametrize("digits", [19, 30, 5000])
def test_bounds_beyond_all_axes_are_clipped(digits: int) -> None:
    """The bounds of a slice are clipped, whatever their size, and what is sent says so too."""
    huge = 10**digits
    for key, count in [(slice(huge, None), 0), (slice(-huge, huge), 3), (slice(None, None, -huge), 1)]:
        sliced = Slice.from_key(key)

        assert [(count,)] * 2 == [sliced.resolve((3,)).shape, Slice.parse(str(sliced)).resolve((3,)).shape]


@pytest.mark.parametrize("index", [10**19, -(10**30)])
def test_an_index_beyond_all_axes_is_out_of_bounds(index: int) -> None:
    """An int that no axis holds is a SliceError, also where its text would be too long to print."""
    for number in (index, index**300):
        with pytest.raises(SliceError, match="out of bounds"):
            Slice.from_key(number).resolve((3,))


# -- resolving --------------------------------------------------------------------------------------------


@given(arrays())
def test_the_shape_is_numpys(case: tuple[Any, Any, Any]) -> None:
    """A resolved slice has the shape and the size of NumPy's result."""
    values, _, key = case
    selection = Slice.from_key(key).resolve(values.shape)

    assert (values[key].shape, values[key].size) == (selection.shape, selection.size)


@given(arrays())
def test_each_axis_lists_the_indices_that_numpy_takes(case: tuple[Any, Any, Any]) -> None:
    """The axes' start, step and count give the items of NumPy's result, in its order."""
    values, _, key = case
    selection = Slice.from_key(key).resolve(values.shape)
    grid = np.ix_(*([a.start + i * a.step for i in range(a.count)] for a in selection.axes)) if values.ndim else ()

    assert values[key].ravel().tolist() == values[grid].ravel().tolist()


@given(arrays())
def test_the_pieces_make_up_the_result(case: tuple[Any, Any, Any]) -> None:
    """Copied from source to target, the pieces give NumPy's result, and each lies in the one chunk that it names."""
    values, chunks, key = case
    selection = Slice.from_key(key).resolve(values.shape)
    out = np.full(selection.counts, -1)
    for pieces in selection.pieces(chunks):
        for piece, size in zip(pieces, chunks, strict=True):
            assert piece.chunk == piece.source.start // size == (piece.source.stop - 1) // size
        out[tuple(p.target for p in pieces)] = values[tuple(p.source for p in pieces)]

    assert values[key].tolist() == out.reshape(selection.shape).tolist()


@given(arrays())
def test_the_chunk_numbers_are_those_of_the_selected_items(case: tuple[Any, Any, Any]) -> None:
    """Exactly the chunks that hold selected items are named, ascending, and in the order of the pieces."""
    values, chunks, key = case
    grid = tuple(-(-n // c) if c else 0 for n, c in zip(values.shape, chunks, strict=True))
    where = [np.arange(n) // max(c, 1) for n, c in zip(values.shape, chunks, strict=True)]
    numbers = np.zeros(values.shape, int)
    for axis, (along, index) in enumerate(zip(grid, where, strict=True)):
        numbers = numbers * along + index.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    selection = Slice.from_key(key).resolve(values.shape)

    assert np.unique(numbers[key]).tolist() == selection.chunk_numbers(values.shape, chunks)
    assert len(list(selection.pieces(chunks))) == len(selection.chunk_numbers(values.shape, chunks))


@given(arrays())
def test_the_box_is_the_selection_without_steps(case: tuple[Any, Any, Any]) -> None:
    """A selection that has a box is that box of the array; one with steps has none."""
    values, _, key = case
    selection = Slice.from_key(key).resolve(values.shape)
    if selection.box is not None:
        assert values[key].ravel().tolist() == values[selection.box].ravel().tolist()
    assert (selection.box is None) == any(axis.step != 1 for axis in selection.axes)


@given(arrays())
def test_whole_means_the_array_itself(case: tuple[Any, Any, Any]) -> None:
    """A selection is whole only if NumPy's result is the array."""
    values, _, key = case
    selection = Slice.from_key(key).resolve(values.shape)
    if selection.whole(values.shape):
        assert (values.shape, values.tolist()) == (values[key].shape, values[key].tolist())
    assert Slice().resolve(values.shape).whole(values.shape)


@given(SHAPES.filter(bool), st.data())
def test_an_int_outside_of_its_axis_is_refused_with_slice_and_shape(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    """An int that NumPy refuses is a SliceError that shows the slice and the shape."""
    axis = data.draw(st.integers(0, len(shape) - 1))
    n = shape[axis]
    index = data.draw(st.integers(n, n + 3) | st.integers(-n - 3, -n - 1) | st.sampled_from([HUGE, -HUGE]))
    sliced = Slice.from_key((slice(None),) * axis + (index,))
    with pytest.raises(SliceError) as caught:
        sliced.resolve(shape)

    assert all(part in str(caught.value) for part in (repr(str(sliced)), str(shape)))


def test_more_items_than_axes_are_refused_with_slice_and_shape() -> None:
    """A slice of too many axes is a SliceError that shows the slice and the shape."""
    with pytest.raises(SliceError, match=r"'0, \.\.\., 0' has too many axes for shape \(3,\)"):
        Slice.parse("0, ..., 0").resolve((3,))


def test_a_huge_axis_costs_nothing() -> None:
    """Resolving, and naming few chunks of very many, does not depend on the size of the axis."""
    selection = Slice.parse("::-4611686018427387903, -1").resolve((2**62, 2**40))

    assert ((2,), [3 * 2**30 + 2**30 - 1]) == (
        selection.shape,
        Slice.parse("3, -1").resolve((4, 2**40)).chunk_numbers((4, 2**40), (1, 2**10)),
    )
    assert Axis(2**62 - 1, -(2**62 - 1), 2, kept=True) == selection.axes[0]


def test_a_scalar_has_one_chunk_and_one_piece() -> None:
    """The selection of a 0-d array is its one item, in chunk 0."""
    selection = Slice.parse("...").resolve(())

    assert ((), 1, [0], [()]) == (
        selection.shape,
        selection.size,
        selection.chunk_numbers((), ()),
        list(selection.pieces(())),
    )
    assert Selection(()) == selection


@given(SLICES, st.integers(0, 20), st.integers(-3, 22), st.integers(0, 9))
def test_what_lies_within_bounds(key: slice, extent: int, low: int, count: int) -> None:
    """The places of the selected indices between two bounds are those that counting finds."""
    (axis,) = Slice((key,)).resolve((extent,)).axes
    chosen = range(extent)[key]

    found = axis.within(low, low + count)

    assert [i for i in chosen if low <= i < low + count] == list(chosen[found])
