"""What `cat2cli show` is asked for: a path, and a slice in brackets behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from caterva2.paths import DatasetPath
from caterva2.slices import Slice

_PATH_SLICE = re.compile(r"(?P<path>.*?)(?:\[(?P<cut>[^\[\]]*)\])?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Target:
    """A part of a file.

    Attributes:
        path: the file.
        cut: the slice; None is everything.
        field: a field of a structured array.
        filter: a condition over the fields of a structured array.
        sortby: the field by which its rows are sorted.
    """

    path: DatasetPath
    cut: Slice | None = None
    field: str | None = None
    filter: str | None = None
    sortby: str | None = None

    @classmethod
    def parse(
        cls,
        text: str,
        cut: str | None = None,
        field: str | None = None,
        filter: str | None = None,
        sortby: str | None = None,
    ) -> Self:
        """Read `root/dir/name[slice]`.

        Args:
            text: the path with its slice.
            cut: the slice; then brackets in the text belong to the name.
            field: a field of a structured array.
            filter: a condition over the fields of a structured array.
            sortby: the field by which its rows are sorted.

        Raises:
            PathError: if the path is none.
            SliceError: if the slice is none.
        """
        if cut is None:
            match = _PATH_SLICE.fullmatch(text)
            assert match is not None
            text, cut = match["path"], match["cut"]
        return cls(DatasetPath.parse(text), Slice.parse(cut) if cut and cut.strip() else None, field, filter, sortby)
