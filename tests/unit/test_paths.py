"""Root names and dataset paths: whatever is accepted stays below its root."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caterva2.errors import PathError
from caterva2.paths import MAX_PATH, MAX_SEGMENT, DatasetPath, RootName, check_name


@pytest.mark.parametrize("name", ["foo", "Foo-1_2.x", "@public", "_", "-", "a" * 255])
def test_root_name(name: str) -> None:
    """Letters, digits, `_`, `-` and `.` make a name; a leading `@` marks a subscriber's own."""
    assert name == RootName.parse(name)
    assert name.startswith("@") == RootName.parse(name).own


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "@", "@.x", "a/b", "a b", "a@b", "é", "a#", "a+", "a\0", "a\n", "a" * 256]
)
def test_root_name_refuses(name: str) -> None:
    """A name is one topic level, one path segment and one file name, or it is refused."""
    with pytest.raises(PathError):
        RootName.parse(name)


@pytest.mark.parametrize(
    ("text", "root", "name"),
    [
        ("foo", "foo", ""),
        ("foo/", "foo", ""),
        ("foo/a.b2nd", "foo", "a.b2nd"),
        ("foo/dir/a.b2nd", "foo", "dir/a.b2nd"),
        ("foo/dir/", "foo", "dir"),
        ("@public/a b/ü%#?+.b2nd", "@public", "a b/ü%#?+.b2nd"),
        ("foo/...", "foo", "..."),
    ],
)
def test_dataset_path(text: str, root: str, name: str) -> None:
    """The first segment is the root, the rest a path below it; a slash at the end means nothing."""
    path = DatasetPath.parse(text)

    assert (root, name) == (path.root, path.name)
    assert text.removesuffix("/") == str(path)


@pytest.mark.parametrize(
    "text",
    ["", "/", "/foo", "foo//a", "foo/../a", "foo/..", "foo/./a", "foo/a//", "../foo", "foo/a/../../b", "foo/a\0b",
     "foo/" + "x" * 256, "foo/" + "ü" * 128, "foo/" + "a/" * 2050 + "a", "foo/\udc80"],
)  # fmt: skip
def test_dataset_path_refuses(text: str) -> None:
    """What leaves the root, or could be no file name, is refused in one line."""
    with pytest.raises(PathError) as caught:
        DatasetPath.parse(text)

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.text(max_size=40))
def test_accepted_names_stay_below_the_root(name: str) -> None:
    """Whatever is accepted, joined to a directory, lies below that directory."""
    try:
        check_name(name)
    except PathError:
        return

    assert posixpath.normpath(f"/root/{name}") == f"/root/{name}"


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20), min_size=1))
def test_file_names_are_accepted(segments: list[str]) -> None:
    """Every name that a Unix file can have, but `.` and `..`, is accepted."""
    segments = [segment for segment in segments if segment not in {".", ".."}] or ["x"]
    name = "/".join(segments)

    assert name == check_name(name)


def test_limits_are_those_of_the_file_system() -> None:
    """The longest possible segment and path are accepted."""
    longest = "/".join(["x" * 15] * (MAX_PATH // 16)) + "/" + "x" * 15

    assert len(check_name(longest)) == MAX_PATH
    assert len(check_name("x" * MAX_SEGMENT)) == MAX_SEGMENT


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.b2nd", ".b2nd"), ("d.x/a", ""), ("a.tar.gz", ".gz"), (".hidden", ""), ("a.", ".")]
)
def test_suffix(name: str, suffix: str) -> None:
    """The suffix is the ending of the last segment; a leading dot makes none."""
    assert suffix == DatasetPath(RootName("foo"), name).suffix


def test_paths_are_ordered() -> None:
    """Paths sort by root, then by name."""
    texts = ["b/a", "a/b", "a/a", "a"]

    assert ["a", "a/a", "a/b", "b/a"] == [str(path) for path in sorted(map(DatasetPath.parse, texts))]
