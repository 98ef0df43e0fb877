"""What a publisher asks of the place where its datasets are (a directory; others may come).

All methods are synchronous and may block: they are called in threads, several at a time. What is read of an
open dataset belongs to one version of it, and `OpenDataset.check` says so; whoever reads checks afterwards,
and drops what was read when the version is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, Protocol, Self

from caterva2.errors import FrameError
from caterva2.frames import FrameLayout, Offsets, Skeleton
from caterva2.models import Kind

PIECE: Final = 1 << 20
"""Bytes read at once and sent at once, about: larger sends are slower (blosc2-notes.md, section 4)."""

StoredChunk = bytes | memoryview | FrameError
"""A chunk as it is stored, maybe a part of a larger buffer, since copies are what reading costs; or its flaw."""


@dataclass(frozen=True, slots=True)
class Version:
    """What is known of a dataset without opening it.

    Attributes:
        kind: array, frame or file, told by the name's ending.
        etag: the version, opaque.
        nbytes: the size on disk, in bytes.
        mtime: when its content last changed, in seconds since 1970.
        touched: when anything of it last changed, by the same clock; 0 when that is not known.
    """

    kind: Kind
    etag: str
    nbytes: int
    mtime: float
    touched: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Anatomy:
    """What it takes to find the chunks of one version of a dataset.

    Attributes:
        skeleton: what is not payload, as subscribers get it.
        layout: the skeleton's, parsed.
        files: for a sparse frame the number of each chunk's file, negative for special chunks.
    """

    skeleton: Skeleton
    layout: FrameLayout
    files: Offsets | None = None

    @cached_property
    def cost(self) -> int:
        """The memory that this takes, in bytes, about."""
        # Offsets, and the `ends` and `order` that the layout makes of them.
        return 4096 + len(self.skeleton.head) + len(self.skeleton.tail) + 32 * self.layout.nchunks


class OpenDataset(Protocol):
    """A dataset open for reading; a context manager that closes it.

    Attributes:
        version: the one that is open.
        rewindable: whether `pread` reads the dataset as one file.
    """

    version: Version
    rewindable: bool

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def anatomy(self) -> Anatomy:
        """Read what is not payload; FrameError for a damaged frame."""

    def pieces(self, anatomy: Anatomy, numbers: Sequence[int]) -> list[Sequence[int]]:
        """Cut the chunks that are wanted into runs of about `PIECE` bytes, in the order given."""

    def chunks(self, anatomy: Anatomy, numbers: Sequence[int]) -> list[StoredChunk]:
        """Read one of the `pieces`: for each chunk what is stored, or why it cannot be given."""

    def pread(self, offset: int, length: int) -> bytes:
        """Read some bytes of the file."""

    def check(self) -> None:
        """Raise VersionChangedError unless the dataset is still at `version`."""


class Source(Protocol):
    """The datasets of one root."""

    kind: Literal["directory", "hdf5"]

    def look(self, scope: str = "") -> dict[str, Version]:
        """Find the datasets at or below a path, without opening any."""

    def open(self, path: str) -> OpenDataset:
        """Open a dataset; NotFoundError if there is none."""
