"""Names of roots and paths of datasets, checked once at the border."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from caterva2.errors import PathError

_ROOT_NAME = re.compile(r"@?[A-Za-z0-9_-][A-Za-z0-9_.-]*")
# The limits of Linux file systems (NAME_MAX, PATH_MAX), since every segment is a file name somewhere.
MAX_SEGMENT = 255
MAX_PATH = 4095


class RootName(str):
    """The name of a root: letters, digits, `_`, `-`, `.`; a leading `@` marks a subscriber's own root."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check a name.

        Raises:
            PathError: if it is not one topic level, one path segment and one file name.
        """
        if _ROOT_NAME.fullmatch(text) is None or len(text) > MAX_SEGMENT:
            raise PathError(f"{_shown(text)} is not a root name: use letters, digits, '_', '-' and '.'")
        return cls(text)

    @property
    def own(self) -> bool:
        """Whether the root belongs to the subscriber itself, and to no publisher."""
        return self.startswith("@")


@dataclass(frozen=True, slots=True, order=True)
class DatasetPath:
    """Where a dataset is: `root/dir/name`.

    Attributes:
        root: the root's name.
        name: the path below the root, with `/` between segments; "" for the root itself.
    """

    root: RootName
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `root/dir/name` (`root` or `root/` for the root itself); a slash at the end is ignored.

        Raises:
            PathError: for anything that is absolute, leaves the root, or could not be a file name.
        """
        root, _, name = text.partition("/")
        return cls(RootName.parse(root), check_name(name.removesuffix("/"), empty_allowed=True))

    def __str__(self) -> str:
        return f"{self.root}/{self.name}" if self.name else self.root

    @property
    def suffix(self) -> str:
        """The file name's ending with its dot, such as `.b2nd`, or ""."""
        stem, dot, ending = self.basename.rpartition(".")
        return dot + ending if stem else ""

    @property
    def basename(self) -> str:
        """The last segment."""
        return self.name.rpartition("/")[2]


def check_name(name: str, *, empty_allowed: bool = False) -> str:
    """Check a path below a root and return it.

    Raises:
        PathError: if a segment is empty, `.`, `..` or too long, or holds what no file name can.
    """
    if empty_allowed and not name:
        return name
    if name.startswith("/"):
        raise PathError(f"{_shown(name)} is absolute: give a path relative to the root")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise PathError(f"{_shown(name)} is not valid Unicode") from None
    if "\0" in name:
        raise PathError(f"{_shown(name)} holds a NUL character")
    if size > MAX_PATH:
        raise PathError(f"{_shown(name)} is too long: at most {MAX_PATH} bytes")
    for segment in name.split("/"):
        if segment in {"", ".", ".."}:
            raise PathError(f"{_shown(name)} is not a path below a root: a segment is {segment!r}")
        if len(segment.encode()) > MAX_SEGMENT:
            raise PathError(f"{_shown(name)} is too long: a segment has at most {MAX_SEGMENT} bytes")
    return name


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:80] + "..." + text[-17:])
