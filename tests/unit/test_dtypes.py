"""caterva2.dtypes: dtypes survive their text and their JSON; hostile ones are refused."""

import json
import subprocess
import sys
from typing import Any

import blosc2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caterva2.dtypes import dtype_json, parse_dtype
from caterva2.errors import FrameError

SIMPLE = [
    "?", "i1", "u1", "<i2", ">i2", "<u4", "<i8", ">u8", "<f2", "<f4", ">f4", "<f8", "<c8", "<c16", "S1", "S300", "<U1",
    "<U80", ">U5", "<M8[ns]", "<M8[D]", ">M8[ms]", "<m8[us]", "<M8[25s]", "V7", "V1", "<f16",
]  # fmt: skip
STRUCTURED: list[Any] = [
    [("a", "<i4"), ("b", ">f8"), ("c", "S10"), ("d", "?")],
    [("x y", "<M8[ns]"), ("ü#%", "<U3")],
    [("a", [("b", "<i2"), ("c", [("d", "<f4")])]), ("e", "u1")],
    [("a", "<i4", (2, 3)), ("b", "u1")],
    [("a", "<i4", (2,)), ("b", "S3", (1, 1, 2))],
    [("p", [("q", "<i2")], (2,))],
    [("p", [("q", [("r", "<i2")], (3,))])],
    {"names": ["a", "b"], "formats": ["<i4", "<f8"], "offsets": [8, 0], "itemsize": 24},
    {"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [0, 2], "itemsize": 4},
    {"names": ["a"], "formats": [{"names": ["b"], "formats": ["u1"], "offsets": [3], "itemsize": 8}], "itemsize": 9},
]
ALL = [np.dtype(form) for form in [*SIMPLE, *STRUCTURED]] + [
    np.dtype([("a", "u1"), ("b", "<f8")], align=True),
    np.dtype([("a", [("b", "u1"), ("c", "<i8")])], align=True),
]


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_a_dtype_survives_its_json(dtype: np.dtype[Any]) -> None:
    """What is sent as JSON is read as the same dtype."""
    assert dtype == parse_dtype(json.loads(json.dumps(dtype_json(dtype))))


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_a_dtype_survives_the_text_of_blosc2(dtype: np.dtype[Any]) -> None:
    """What Blosc2 writes into a frame is read as the same dtype."""
    text = str(dtype) if dtype.names else dtype.str

    assert dtype == parse_dtype(text)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_a_simple_dtype_is_text_that_numpy_reads(dtype: np.dtype[Any]) -> None:
    """A client that calls numpy.dtype on the JSON gets the dtype, unless a structure is repeated in it."""
    form = dtype_json(dtype)
    if isinstance(form, str) and dtype.names:
        pytest.skip("only text that NumPy does not read can say this one")

    assert dtype == np.dtype(form)


# Own strategies, since those of Hypothesis give fields a second name ("title"), which no frame can have.
NAMES = st.text("abü #%.'\"", min_size=1, max_size=3)
DTYPES = st.recursive(
    hnp.scalar_dtypes(),
    lambda inner: st.lists(
        st.tuples(NAMES, inner) | st.tuples(NAMES, inner, hnp.array_shapes(max_dims=2, max_side=3)),
        min_size=1, max_size=3, unique_by=lambda field: field[0],
    ).map(np.dtype),
    max_leaves=6,
)  # fmt: skip


@given(DTYPES)
def test_any_dtype_survives_its_json(dtype: np.dtype[Any]) -> None:
    """Structures of any fields survive."""
    assert dtype == parse_dtype(json.loads(json.dumps(dtype_json(dtype))))


@pytest.mark.parametrize("dtype", [d for d in ALL if d != np.dtype("<f16")], ids=str)
def test_the_dtype_of_a_frame_is_the_arrays(dtype: np.dtype[Any]) -> None:
    """The text that the installed Blosc2 itself wrote is read as the array's dtype."""
    array = blosc2.zeros((3,), dtype=dtype)

    assert array.dtype == parse_dtype(str(array.dtype) if dtype.names else array.dtype.str)


@pytest.mark.parametrize(
    "form",
    ["O", "|O8", "|O", "object", "i4,O", "[('a', '|O8')]", "[('a', [('b', 'O')])]", "[('a', 'O', (3,))]",
     {"names": ["a"], "formats": ["O"]}, {"names": ["a"], "formats": [{"names": ["b"], "formats": ["|O8"]}]}],
)  # fmt: skip
def test_python_objects_are_refused(form: Any) -> None:
    """A dtype that would make NumPy follow pointers from the network is refused, wherever it hides."""
    with pytest.raises(FrameError, match="holds Python objects"):
        parse_dtype(form)


@pytest.mark.parametrize(
    "form",
    ["", "x", "i3", "f5", "<", "[", "[]x", "[('a',)]", "[('a', '<i4')", "{'names': ['a']}", "{'a': 1, **{}}",
     "[('a', '<i4'), ('a', '<i4')]", "numpy.int32", "(2,)i4 x", "M8[parsec]", "S-1", "S99999999999", "ü", "\ud800",
     "(" * 1000, "[" * 30000, "[" + "-" * 60000 + "1]", "{" * 60000, "[(" * 20000, "[" + "(1," * 150, "x" * 1_000_000,
     "[" + "('a', 'i4')," * 100_000 + "]", "1" * 5000, "(99999999999,)i4", "(2147483647,2147483647)i8", "[1]", "(('i4'",
     None, 1, 1.5, True, b"i4", int, object, ["i4"], [["a"]], [1, 2], {"names": ["a"]}, {"names": 3, "formats": ["i4"]},
     {"names": ["a"], "formats": ["i4"], "offsets": [-1]}, {"names": ["a"], "formats": ["i4"], "itemsize": -1},
     {"names": ["a"], "formats": ["i4"], "offsets": [2**70]}, {"names": ["a"], "formats": [None]}, {"a": {"b": 1.5}},
     {"names": ["a", "b"], "formats": ["i4"]}, {"names": [1], "formats": ["i4"]}],
    ids=lambda form: repr(form)[:30].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_what_is_no_dtype_is_refused_shortly(form: Any) -> None:
    """Whatever is no dtype is a FrameError of one short line."""
    with pytest.raises(FrameError) as caught:
        parse_dtype(form)

    assert len(str(caught.value)) < 200


def test_a_deeply_nested_form_is_refused() -> None:
    """Nesting beyond what anything can hold is an error, and no overflow."""
    form: Any = "i4"
    for _ in range(100_000):
        form = [form]
    with pytest.raises(FrameError):
        parse_dtype(form)
    while isinstance(form, list):
        form = form.pop()


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('touch {}')", "[__import__('os').system('touch {}')]", "{{open('{}', 'w')}}",
     "('a', open('{}', 'w'))", "[('a', open('{}', 'w'))]", "[x for x in [open('{}', 'w')]]",
     "(lambda: open('{}', 'w'))()"],
)  # fmt: skip
def test_nothing_is_evaluated(text: str, tmp_path: Any) -> None:
    """A text of Python code is refused, and not run."""
    trace = tmp_path / "trace"
    with pytest.raises(FrameError):
        parse_dtype(text.format(trace))

    assert not trace.exists()


@given(st.text(max_size=20) | st.text("[](){}'\",<>iufcSUVM048 ab:", max_size=30))
def test_any_text_is_a_dtype_or_a_frame_error(text: str) -> None:
    """Parsing never fails in another way."""
    try:
        dtype = parse_dtype(text)
    except FrameError:
        return

    assert not dtype.hasobject


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["i4", "f8", "O", "S3", "a"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["names", "formats", "offsets", "itemsize", "titles", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_dtype_or_a_frame_error(form: Any) -> None:
    """Parsing JSON never fails in another way."""
    try:
        dtype = parse_dtype(form)
    except FrameError:
        return

    assert not dtype.hasobject


def test_hostile_texts_do_not_crash_a_thread() -> None:
    """Deep nesting is refused in a thread with a small stack too; a crash would show as a signal."""
    program = """
import threading
from caterva2.dtypes import parse_dtype
from caterva2.errors import FrameError
def work():
    for text in ("[" * 60000, "[" + "-" * 60000 + "1]", "[" + "(" * 199, "{1:" * 20000, "[" + "1+" * 30000 + "1]"):
        try:
            parse_dtype(text)
        except FrameError:
            pass
threading.stack_size(1 << 20)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert (0, "alive\n") == (done.returncode, done.stdout), done.stderr
