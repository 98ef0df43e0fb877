from __future__ import annotations

import pytest

from caterva2.cli.target import Target
from caterva2.errors import PathError, SliceError


@pytest.mark.parametrize(
    ("text", "cut", "path", "slice_"),
    [
        ("foo/ds.b2nd", None, "foo/ds.b2nd", None),
        ("foo/ds.b2nd[0:10]", None, "foo/ds.b2nd", "0:10"),
        ("foo/ds.b2nd[10:20, ::2]", None, "foo/ds.b2nd", "10:20, ::2"),
        ("foo/ds.b2nd[-1]", None, "foo/ds.b2nd", "-1"),
        ("foo/ds.b2nd[]", None, "foo/ds.b2nd", None),
        ("foo/ds[1].b2nd", None, "foo/ds[1].b2nd", None),
        ("foo/ds[1][2]", None, "foo/ds[1]", "2"),
        ("foo/ds[1]", "2:", "foo/ds[1]", "2:"),
        ("foo/ds[1]", "", "foo/ds[1]", None),
    ],
)
def test_path_and_slice(text: str, cut: str | None, path: str, slice_: str | None) -> None:
    """The last brackets are the slice, unless --slice says that they belong to the name."""
    target = Target.parse(text, cut)

    assert path == str(target.path)
    assert slice_ == (None if target.cut is None else str(target.cut))


@pytest.mark.parametrize(
    ("text", "error"), [("foo/x[a]", SliceError), ("/x[0]", PathError), ("[0]", PathError), ("foo/../x", PathError)]
)
def test_what_is_neither(text: str, error: type[Exception]) -> None:
    """A slice or path that is none is refused before anything is asked."""
    with pytest.raises(error):
        Target.parse(text)
