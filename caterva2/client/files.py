"""The files of a root: `File` (bytes) and `Dataset` (an array).

They know what the subscriber said of a dataset, and the version (ETag) that it said it of. An answer of another
version makes them ask again, so shape and dtype are never older than the values beside them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import blosc2
import numpy as np

from caterva2.client import rest, uploads
from caterva2.client.answers import Currency
from caterva2.client.decoding import (
    array_from_cframe,
    bytes_from_schunk,
    schunk_from_cframe,
)
from caterva2.client.downloads import Progress, download_file
from caterva2.client.html import table
from caterva2.client.rest import Key, as_numpy, slice_of
from caterva2.client.session import Session
from caterva2.client.versions import Version
from caterva2.client.watching import Watch, watched
from caterva2.errors import (
    SliceError,
    VersionChangedError,
)
from caterva2.models import ArrayInfo, FrameInfo, Freshness, SchunkInfo
from caterva2.paths import DatasetPath
from caterva2.slices import Selection, Slice

_TRIES = 4


class RemoteFile(ABC):
    """What `File` and `Dataset` share; get one from a `Root` or from `Client.get`.

    Args:
        session: the subscriber.
        path: where the file is.
        version: what the subscriber said of it.
        currency: how current that was.
    """

    def __init__(self, session: Session, path: DatasetPath, version: Version, currency: Currency | None = None) -> None:
        self._session = session
        self._path = path
        self._version = version
        self._currency = currency or Currency()

    @property
    def name(self) -> str:
        """The path below the root."""
        return self._path.name

    @property
    def root(self) -> str:
        """The root's name."""
        return str(self._path.root)

    @property
    def path(self) -> PurePosixPath:
        """The path with the root."""
        return PurePosixPath(str(self._path))

    @property
    def urlbase(self) -> str:
        """The subscriber's address."""
        return self._session.urlbase

    @property
    def meta(self) -> dict[str, Any]:
        """What the subscriber says of the file, as it says it."""
        return self._version.meta

    @property
    def etag(self) -> str | None:
        """The version that `meta` belongs to; None when the server names none."""
        return self._version.etag

    @property
    def freshness(self) -> Freshness | None:
        """How current the last answer was; `refresh()` asks again.

        `live`: the subscriber is told of changes as they happen. `revalidated`: it asked the publisher. `stale`: the
        publisher gave no answer, and this is what the subscriber had; see `age`. None when the server does not say.
        """
        return self._currency.freshness

    @property
    def age(self) -> int | None:
        """Seconds since a stale answer was last known to be current; None if it is not stale, or nobody knows."""
        return self._currency.age

    @property
    def schunk(self) -> SchunkInfo:
        """The compressed storage: sizes, number of chunks, compression parameters."""
        return self._version.schunk

    @property
    def vlmeta(self) -> dict[str, Any]:
        """The user's attributes (variable-length metalayers)."""
        return self._version.schunk.vlmeta

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._path}>"

    def __str__(self) -> str:
        return str(self._path)

    def refresh(self) -> None:
        """Ask the subscriber whether `meta`, shape and dtype are still right; costs one small request."""
        self._reread()

    def watch(self, timeout: float | None = None) -> Watch:
        """Iterate over the changes of this file, for ever; after each one, reads and `shape` are the new ones.

        Args:
            timeout: seconds without a change after which the iteration ends; None is never.

        Examples:
            >>> for change in ds.watch():
            ...     print(change.type, ds.shape, ds[-1])
        """
        return watched(self._session, self._path, timeout, self.refresh)

    def get_download_url(self) -> str:
        """Return the URL of the file itself, for a browser or `curl`."""
        return self._session.url("api/download", str(self._path))

    def get_fetch_url(self) -> str:
        """Return the URL that answers slices (`?slice_=`) as Blosc2 frames."""
        return self._session.url("api/fetch", str(self._path))

    def get_chunk(self, nchunk: int) -> bytes:
        """Return a compressed chunk as it is stored."""
        return rest.get_chunk(self._session, self._path, nchunk)

    def download(
        self,
        localpath: str | PurePath | None = None,
        *,
        format: str | None = None,
        slice_: Key | str | None = None,
        field: str | None = None,
        filter: str | None = None,
        sortby: str | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Download the file itself, or an array as another kind of file; it appears when it is complete.

        Args:
            localpath: a file or an existing directory; by default `root/dir/name` below the current directory.
            format: `"npy"`, or `"csv"` for at most two axes; by default the file as it is.
            slice_: what of an array is wanted, as `fetch` takes it.
            field: a field of a structured array, without the others.
            filter: a condition over the fields; the slice is one of the rows where it holds.
            sortby: the field by which rows are sorted.
            progress: called with the bytes that arrived, and with the length or None.

        Returns:
            The file that was written.

        Raises:
            BadRequestError: if there is no such format, or it does not hold what is wanted.

        Examples:
            >>> ds.download("first.csv", format="csv", slice_=slice(0, 100))
            PosixPath('first.csv')
        """
        part = rest.selection(slice_of(slice_), field, filter, sortby)
        return download_file(self._session, self._path, localpath, progress, format, part)

    def move(self, dst: str | PurePath) -> PurePosixPath:
        """Give the file another name, `root/dir/name`, or move it into a folder; this object has the new name then."""
        path = uploads.transfer(self._session, "api/move", str(self._path), str(dst))
        self._path = DatasetPath.parse(str(path))
        return path

    def copy(self, dst: str | PurePath) -> PurePosixPath:
        """Copy the file to another name, `root/dir/name`, or into a folder; returns the name of the copy."""
        return uploads.transfer(self._session, "api/copy", str(self._path), str(dst))

    def remove(self) -> PurePosixPath:
        """Remove the file; returns the name that it had."""
        return uploads.remove(self._session, self._path)

    @abstractmethod
    def _open(self, content: bytes) -> Any:
        """Open an answer of this kind of file."""

    @abstractmethod
    def _fits(self, opened: Any, selection: Selection, field: str | None) -> bool:
        """Whether an opened answer is what the present version has at a selection."""

    def _read(self, cut: Slice, field: str | None = None) -> Any:
        """Fetch a slice and open it; its shape and type are checked before anything is decoded."""
        for _ in range(_TRIES):
            self._selection(cut)
            try:
                answer = rest.fetch(self._session, self._path, cut, field)
            except SliceError:  # it no longer fits what the file has become
                self._reread()
                raise
            if answer.etag != self.etag:
                self._reread()
            self._currency = answer.currency
            opened = self._open(answer.content)
            if self._fits(opened, self._selection(cut), field):
                return opened
            self._reread()
        raise VersionChangedError(f"{self._path} keeps changing while it is read: try again", self.etag)

    def _selection(self, cut: Slice) -> Selection:
        try:
            return cut.resolve(self._version.shape)
        except SliceError:
            # It may have grown since its shape was read.
            if not self._reread():
                raise
            return cut.resolve(self._version.shape)

    def _reread(self) -> bool:
        """Read `meta` again unless the subscriber says that it is unchanged; return whether it was not."""
        answer = self._session.get("api/info", str(self._path), etag=self.etag)
        self._currency = answer.currency
        if not answer.modified:
            return False
        old, new = self._version, Version.of(answer, self._path)
        if type(new.info) is not type(old.info):
            raise VersionChangedError(f"{self._path} has become another kind of file: get it again from its root")
        self._version = new
        return new != old


class File(RemoteFile):
    """A sequence of bytes: a frame (`.b2frame`) or any file that is no array."""

    @property
    def info(self) -> FrameInfo:
        """What the subscriber says of the file."""
        info = self._version.info
        assert isinstance(info, FrameInfo)
        return info

    @property
    def nbytes(self) -> int:
        """The number of bytes, decompressed."""
        return self.info.nbytes

    def __getitem__(self, key: Key) -> bytes:
        """Return bytes; an int gives the one item at that place."""
        return bytes_from_schunk(self._read(Slice.from_key(key)))

    def fetch(self, slice_: Key | str | None = None) -> bytes:
        """Return the bytes of a slice, or all of them.

        Args:
            slice_: an int, a slice, or its text such as `"0:10"`. A frame of items of several bytes counts items.

        Raises:
            SliceError: if an int lies outside of the file.
        """
        return bytes_from_schunk(self._read(slice_of(slice_)))

    def slice(
        self,
        key: Key | str | None = None,
        as_blosc2: bool = True,  # noqa: FBT001, FBT002 - upstream's
    ) -> blosc2.SChunk | bytes:
        """Return a slice as a Blosc2 super-chunk, or as bytes."""
        opened = self._read(slice_of(key))
        return opened if as_blosc2 else bytes_from_schunk(opened)

    def _open(self, content: bytes) -> Any:
        return schunk_from_cframe(content)

    def _fits(self, opened: Any, selection: Selection, field: str | None) -> bool:
        # A frame may end within an item, which only the whole of it shows.
        whole = selection.whole(self._version.shape)
        return bool(opened.nbytes == (self.nbytes if whole else selection.size * self._version.dtype.itemsize))


class Dataset(RemoteFile):
    """An array. Indexing means what it means in NumPy, and transfers what it selects.

    Examples:
        >>> ds = caterva2.Root("foo")["ds-1d.b2nd"]
        >>> ds[10:20:2]
        array([10, 12, 14, 16, 18])
        >>> ds.shape, ds.dtype
        ((1000,), dtype('int64'))
    """

    @property
    def info(self) -> ArrayInfo:
        """What the subscriber says of the array."""
        info = self._version.info
        assert isinstance(info, ArrayInfo)
        return info

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.info.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of an item."""
        return self._version.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """The shape of a chunk."""
        return self.info.chunks

    @property
    def blocks(self) -> tuple[int, ...]:
        """The shape of a block, the part of a chunk that is compressed by itself."""
        return self.info.blocks

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.info.shape)

    @property
    def size(self) -> int:
        """The number of items."""
        return math.prod(self.info.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes of all items, decompressed."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows, fetching those of a chunk at once."""
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        rows = max(1, self.chunks[0])
        for start in range(0, self.shape[0], rows):
            yield from self[start : start + rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:  # noqa: FBT001
        if copy is False:
            raise ValueError("a remote dataset cannot become an array without a copy")
        array: np.ndarray[Any, Any] = self.fetch()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __getitem__(self, key: Key | str) -> Any:
        """Return what NumPy gives for the same index; a text names a field of a structured dtype."""
        if isinstance(key, str):
            return self.fetch(field=key)
        cut = Slice.from_key(key)
        return as_numpy(self._read(cut), cut)

    def fetch(self, slice_: Key | str | None = None, *, field: str | None = None) -> Any:
        """Return a slice as a NumPy array, or a scalar where NumPy gives one.

        Args:
            slice_: what stands between brackets, or its text such as `"0:10, ::2"`; None is everything.
            field: a field of a structured dtype; the others are not transferred.

        Raises:
            SliceError: if the slice does not fit the shape, or there is no such field.
        """
        cut = slice_of(slice_)
        return as_numpy(self._read(cut, self._checked_field(field)), cut)

    def rows(
        self,
        filter: str | None = None,
        *,
        sortby: str | None = None,
        slice_: Key | str | None = None,
        field: str | None = None,
    ) -> Any:
        """Return rows of a structured array, found and sorted where the data is.

        Args:
            filter: a condition over the fields, such as `"(a < 5) & (b > 0.1)"`; None is all rows.
            sortby: the field by which they are sorted; None leaves them in their order.
            slice_: which of the rows that were found; None is all of them.
            field: the only field wanted.

        Returns:
            A NumPy array of one axis, or a scalar if `slice_` is an int.

        Raises:
            SliceError: if the condition is none, or there is no such field.

        Examples:
            >>> root["table.b2nd"].rows("a < 5", sortby="b", slice_=":10", field="c")
        """
        cut = slice_of(slice_)
        answer = rest.fetch(self._session, self._path, cut, field, filter, sortby)
        if answer.etag != self.etag:
            self._reread()
        self._currency = answer.currency
        return as_numpy(self._open(answer.content), cut)

    def slice(
        self,
        key: Key | str | None = None,
        as_blosc2: bool = True,  # noqa: FBT001, FBT002 - upstream's
        *,
        field: str | None = None,
    ) -> Any:
        """Return a slice as a Blosc2 array, still compressed, or as `fetch` does."""
        if not as_blosc2:
            return self.fetch(key, field=field)
        return self._read(slice_of(key), self._checked_field(field))

    def append(self, data: uploads.Content) -> tuple[int, ...]:
        """Append the rows of an array; returns the new shape, which `shape` is from then on."""
        shape = uploads.append(self._session, data, self._path)
        self._reread()
        return shape

    def concatenate(
        self, srcs: uploads.Path_ | Iterable[uploads.Path_], dst: uploads.Path_, axis: int = 0
    ) -> PurePosixPath:
        """Make an array of this one and others, one after the other along an axis; see `Client.concatenate`."""
        return self._join("api/concat", srcs, dst, axis)

    def stack(self, srcs: uploads.Path_ | Iterable[uploads.Path_], dst: uploads.Path_, axis: int = 0) -> PurePosixPath:
        """Make an array of this one and others, side by side along a new axis; see `Client.stack`."""
        return self._join("api/stack", srcs, dst, axis)

    def _join(
        self, route: str, srcs: uploads.Path_ | Iterable[uploads.Path_], dst: uploads.Path_, axis: int
    ) -> PurePosixPath:
        others = [srcs] if isinstance(srcs, str | PurePath) else srcs
        return uploads.join(self._session, route, [str(self._path), *others], dst, axis)

    def _checked_field(self, field: str | None) -> str | None:
        if field is None or field in (self.dtype.names or ()):
            return field
        self._reread()
        names = self.dtype.names or ()
        if field in names:
            return field
        known = f"it has {', '.join(names)}" if names else f"dtype {self.dtype} has none"
        raise SliceError(f"{self._path} has no field {field!r}: {known}")

    def _open(self, content: bytes) -> Any:
        return array_from_cframe(content)

    def _fits(self, opened: Any, selection: Selection, field: str | None) -> bool:
        # After a change there may be no such field any more; then nothing fits, and reading it says so.
        item = self.dtype if field is None or self._checked_field(field) is None else self.dtype[field]
        return bool(opened.shape == selection.shape + item.shape and opened.dtype.itemsize == item.base.itemsize)

    def _repr_html_(self) -> str:
        schunk = self.schunk
        rows = {
            "shape": self.shape,
            "dtype": self.dtype,
            "chunks": self.chunks,
            "blocks": self.blocks,
            "size": f"{self.nbytes:,} bytes",
            "compressed": f"{schunk.cbytes:,} bytes ({schunk.cratio:.1f} : 1)",
            **{f"vlmeta[{key!r}]": value for key, value in self.vlmeta.items()},
        }
        return table(str(self._path), rows)
