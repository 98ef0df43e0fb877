"""The example root: small files of every kind, for the demo, the tutorial and tests.

Names and contents are those of upstream Caterva2's example root, so that answers can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

README = "# Header example\nThis is a simple example,\n\nwith several lines,\n\nfor showing purposes.\n"
HELLO = b"Hello world!" * 100
_Array = np.ndarray[Any, np.dtype[Any]]


def write_example(root: Path) -> None:
    """Write the example root's files into a directory, replacing files of the same names.

    Args:
        root: the directory; made if it is not there.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "README.md").write_text(README, encoding="utf-8")
    write_frame(root / "ds-hello.b2frame", HELLO, chunksize=100)
    write_array(root / "ds-1d.b2nd", np.arange(1000, dtype="i8"), (100,), (10,))
    write_array(root / "ds-1d-b.b2nd", np.full(1000, b"foobar"), (100,), (10,))
    write_array(root / "ds-1d-fields.b2nd", _fields_1d(), (100,), (10,))
    write_array(root / "ds-2d-fields.b2nd", _fields_2d(), (100, 200), (25, 200))
    write_array(root / "ds-sc-attr.b2nd", np.array("foobar"), (), (), {"a": 1, "b": "foo", "c": 123.456})
    write_array(root / "dir1/ds-2d.b2nd", np.arange(200, dtype="u2").reshape(10, 20), (5, 5), (2, 3))
    write_array(root / "dir1/ds-3d.b2nd", np.arange(60, dtype="f4").reshape(3, 4, 5), (2, 3, 4), (2, 2, 2))
    numbers = np.arange(120) * (1 + 1j)
    write_array(root / "dir2/ds-4d.b2nd", numbers.reshape(2, 3, 4, 5), (1, 2, 3, 4), (1, 2, 2, 2))


def write_array(
    file: Path,
    values: _Array,
    chunks: tuple[int, ...],
    blocks: tuple[int, ...],
    vlmeta: Mapping[str, object] | None = None,
) -> None:
    """Write an array as a contiguous frame, beside the file of that name and then over it.

    A reader, and so a publisher, sees the old array or the new one, and never a half of it.
    """
    part = _part_of(file)
    array = blosc2.asarray(
        values, chunks=chunks, blocks=blocks, cparams=_cparams(values.itemsize), urlpath=str(part), contiguous=True
    )
    for key, value in (vlmeta or {}).items():
        array.schunk.vlmeta[key] = value
    part.replace(file)


def write_frame(file: Path, content: bytes, chunksize: int) -> None:
    """Write bytes as a contiguous frame (`.b2frame`), beside the file of that name and then over it."""
    part = _part_of(file)
    blosc2.SChunk(chunksize=chunksize, data=content, cparams=_cparams(1), urlpath=str(part), contiguous=True)
    part.replace(file)


def _part_of(file: Path) -> Path:
    # Hidden files are not published.
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}")
    part.unlink(missing_ok=True)
    return part


def _cparams(typesize: int) -> blosc2.CParams:
    # With one thread equal values always make equal bytes; two would finish their blocks in any order.
    return blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, typesize=typesize, nthreads=1)


def _fields_1d() -> _Array:
    rows = np.empty(1000, dtype=[("a", "i4"), ("b", "f8"), ("c", "S10"), ("d", "?")])
    rows["a"] = np.arange(1000)
    rows["b"] = np.linspace(0, 1, 1000)
    rows["c"] = [f"foobar{row}" for row in range(1000)]
    rows["d"] = np.random.default_rng(1).integers(2, size=1000)
    return rows


def _fields_2d() -> _Array:
    rows = np.empty(100 * 200, dtype=[("a", "f4"), ("b", "f8")])
    rows["a"] = np.linspace(0, 1, rows.size)
    rows["b"] = np.linspace(1, 2, rows.size)
    return rows.reshape(100, 200)
