"""Archives that users send to be unpacked: zip files, and tar files, also compressed with gzip, bzip2 or xz.

Nothing that an archive says is believed: names are checked as those of uploads are, only plain files and folders come
out, and all that is decompressed is counted, whatever sizes were stated. One member that cannot be taken refuses all.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final, Protocol

from caterva2.errors import BadRequestError, TooLargeError

MOST_MEMBERS: Final = 100_000
"""Files and folders in an archive."""
# How much larger the contents may be than the archive; deflate reaches 1032.
_MOST_RATIO: Final = 1000
_ALWAYS: Final = 16 << 20  # bytes, whatever the ratio
_PIECE: Final = 1 << 20
# Bytes of a zip file's directory, which is read in one go; each entry takes eight times as much memory.
_MOST_DIRECTORY: Final = 8 << 20
# Bytes of memory for the dictionary that an xz file asks for; `xz -9` takes 65 MB.
_MOST_DICTIONARY: Final = 128 << 20
# Bytes of a tar header with its extensions, which are read in one go.
_MOST_HEADER: Final = 1 << 20
_COMPRESSED: Final[dict[bytes, Callable[[IO[bytes]], Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lambda file: io.BufferedReader(_Xz(file)),
}
_ERRORS: Final = (
    zipfile.BadZipFile, zipfile.LargeZipFile, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError,
    NotImplementedError, RuntimeError, ValueError, OverflowError, UnicodeError, KeyError,
)  # fmt: skip
# What Macs put beside everything, and means nothing elsewhere.
_LITTER: Final = ("__MACOSX", ".DS_Store")


class Take(Protocol):
    """Takes in what an archive holds."""

    def folder(self, name: str) -> None:
        """Take in a folder."""

    def file(self, name: str, pieces: Iterator[bytes]) -> None:
        """Take in a file."""


@dataclass(slots=True)
class _Budget:
    """How much may still come out."""

    left: int

    def spend(self, nbytes: int) -> None:
        """Count bytes that came out.

        Raises:
            TooLargeError: if they are too many.
        """
        self.left -= nbytes
        if self.left < 0:
            raise TooLargeError(
                f"the archive grows more than {_MOST_RATIO} times when it is unpacked: upload what is in it as it is"
            )


def unpack(file: IO[bytes], size: int, take: Take) -> None:
    """Unpack an archive.

    Args:
        file: the archive, open for reading, and seekable.
        size: its length in bytes.
        take: gets what is in it.

    Raises:
        BadRequestError: if it is no archive, is damaged, or holds what is not kept; names the member.
        TooLargeError: if there is too much in it.
    """
    budget = _Budget(max(_ALWAYS, size * _MOST_RATIO))
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    kind = next((make for magic, make in _COMPRESSED.items() if start.startswith(magic)), None)
    with _damage("the archive"):
        if start[:4] in {b"PK\x03\x04", b"PK\x05\x06"}:
            _unzip(file, budget, take)
        else:
            # What is no tar is found out there.
            _untar(file if kind is None else kind(file), budget, take)


def _unzip(file: IO[bytes], budget: _Budget, take: Take) -> None:
    bounded: Any = _Bounded(file)
    with zipfile.ZipFile(bounded) as archive:
        members = archive.infolist()
        _check_count(len(members))
        _check_overlap(members, archive.start_dir)
        for member in members:
            name = _name(member.filename)
            if name is None:
                continue
            mode = member.external_attr >> 16
            if member.flag_bits & 1:
                raise BadRequestError(f"{name!r} in the archive is encrypted: pack it without a password")
            if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or not stat.S_IFMT(mode)):
                raise _no_file(name)
            if member.is_dir():
                take.folder(name)
                continue
            if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                # What zipfile decompresses of the others at once has no bound.
                raise BadRequestError(
                    f"{name!r} in the archive is not packed with deflate: pack it so, or as a tar file"
                )
            with _damage(repr(name)), archive.open(member) as opened:
                take.file(name, _pieces(opened, budget))


class _Bounded:
    """A file for `zipfile`, which reads the directory in one go, whatever size that is said to have."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read some bytes."""
        if size > _MOST_DIRECTORY:
            raise TooLargeError(f"the archive has more than {MOST_MEMBERS} members: send several")
        return self._file.read(size)

    def seekable(self) -> bool:
        """Whether it can be read from anywhere."""
        return True


class _Xz(io.RawIOBase):
    """An xz file, decompressed with bounded memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._begin()

    def _begin(self) -> None:
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MOST_DICTIONARY)

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        view = memoryview(buffer)
        while True:
            packed = b""
            if self._decoder.eof:
                # Streams may follow each other, with zeros between them.
                packed = self._decoder.unused_data.lstrip(b"\0") or self._file.read(_PIECE // 16).lstrip(b"\0")
                if not packed:
                    return 0
                self._begin()
            elif self._decoder.needs_input and not (packed := self._file.read(_PIECE // 16)):
                raise EOFError("the xz file is cut off")
            if data := self._decoder.decompress(packed, len(view)):
                view[: len(data)] = data
                return len(data)


def _check_overlap(members: list[zipfile.ZipInfo], end: int) -> None:
    """Refuse members that share bytes: a small file could hold any number of large ones so."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    following = [member.header_offset for member in ordered[1:]] + [end]
    for member, limit in zip(ordered, following, strict=True):
        # A local header has 30 bytes and the name.
        if member.header_offset + 30 + member.compress_size > limit:
            raise BadRequestError(f"{member.filename[:80]!r} in the archive overlaps with another member")


def _untar(file: IO[bytes], budget: _Budget, take: Take) -> None:
    forward: Any = _Forward(file, budget)
    with closing(file), tarfile.open(fileobj=forward, mode="r:") as archive:
        for count, member in enumerate(archive, 1):
            _check_count(count)
            # Else each header is kept until the end.
            archive.members = []  # type: ignore[attr-defined]
            name = _name(member.name)
            if name is None:
                continue
            if member.isdir():
                take.folder(name)
            elif member.isreg() and not member.issparse():
                opened = archive.extractfile(member)
                assert opened is not None
                with _damage(repr(name)), opened:
                    take.file(name, _pieces(opened, None))
            else:
                raise _no_file(name)


class _Forward:
    """A file for `tarfile` that is read once from start to end, and counted.

    Args:
        file: the tar file, decompressed.
        budget: pays for what is read.
    """

    def __init__(self, file: IO[bytes], budget: _Budget) -> None:
        self._file = file
        self._budget = budget
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """Read some bytes; headers have their size from the archive."""
        if not 0 <= size <= _MOST_HEADER:
            raise BadRequestError(f"a header in the archive claims to have {size} bytes")
        data = self._file.read(size)
        self._budget.spend(len(data))
        self._position += len(data)
        return data

    def seek(self, position: int, _whence: int = 0) -> int:
        """Go on to a later place."""
        if position < self._position:
            raise BadRequestError("the archive's members are not in their order")
        while (left := position - self._position) and self.read(min(left, _MOST_HEADER)):
            pass
        return self._position

    def tell(self) -> int:
        """Where it is."""
        return self._position


def _pieces(file: IO[bytes], budget: _Budget | None) -> Iterator[bytes]:
    while data := file.read(_PIECE):
        if budget is not None:
            budget.spend(len(data))
        yield data


def _name(name: str) -> str | None:
    """The path of a member below the folder that it goes into; None for what is passed over."""
    parts = name.split("/")
    if parts[0] == "." and len(parts) > 1:  # as `tar c .` writes them
        parts = parts[1:]
    if any(part in _LITTER for part in parts):
        return None
    name = "/".join(parts).removesuffix("/")
    return name or None


def _check_count(count: int) -> None:
    if count > MOST_MEMBERS:
        raise TooLargeError(f"the archive has more than {MOST_MEMBERS} members: send several")


def _no_file(name: str) -> BadRequestError:
    return BadRequestError(f"{name[:200]!r} in the archive is a link, a device or a sparse file: pack plain files")


@contextmanager
def _damage(what: str) -> Any:
    """Say what is damaged, whatever the libraries raise."""
    try:
        yield
    except _ERRORS as error:
        if isinstance(error, BadRequestError):
            raise
        raise BadRequestError(
            f"{what[:200]} cannot be unpacked: it is no zip or tar file, or damaged ({error})"
        ) from None
