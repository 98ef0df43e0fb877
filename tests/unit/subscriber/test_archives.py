"""caterva2.subscriber.archives: what comes out of archives, and what does not."""

import bz2
import contextlib
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caterva2.errors import BadRequestError, TooLargeError
from caterva2.subscriber import archives
from caterva2.subscriber.archives import unpack

FILES = {"a.txt": b"hello", "dir/b.bin": bytes(range(256)) * 9000, "dir/sub/c.txt": b""}


class Taken:
    """What came out."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folders: list[str] = []

    def folder(self, name: str) -> None:
        """Take in a folder."""
        self.folders.append(name)

    def file(self, name: str, pieces: Iterator[bytes]) -> None:
        """Take in a file."""
        self.files[name] = b"".join(pieces)


def unpacked(data: bytes) -> Taken:
    """Unpack an archive."""
    taken = Taken()
    unpack(io.BytesIO(data), len(data), taken)
    return taken


def tar(*members: tarfile.TarInfo, **options: Any) -> bytes:
    """A tar file of members; what they hold is zeros."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return out.getvalue()


def member(name: str, size: int = 0, **values: Any) -> tarfile.TarInfo:
    """A member of a tar file."""
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in values.items():
        setattr(info, key, value)
    return info


def zipped(
    files: dict[str, bytes],
    change: Callable[[zipfile.ZipInfo], None] = lambda info: None,
    method: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """A zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            change(info)
            archive.writestr(info, content)
    return out.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    """A tar file with contents, as `tar c .` writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(member("./dir/", type=tarfile.DIRTYPE))
        for name, content in files.items():
            archive.addfile(member(f"./{name}", len(content)), io.BytesIO(content))
    return out.getvalue()


def in_streams(data: bytes) -> bytes:
    """An xz file of two streams, with padding between and behind them."""
    return lzma.compress(data[:3000]) + bytes(8) + lzma.compress(data[3000:]) + bytes(4)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, in_streams])
def test_tar(compress: Callable[[bytes], bytes]) -> None:
    """Files and folders come out of a tar file, compressed or not."""
    taken = unpacked(compress(tarred(FILES)))

    assert (FILES, ["dir"]) == (taken.files, taken.folders)


def test_zip() -> None:
    """Files and folders come out of a zip file, but for what Macs add."""
    taken = unpacked(zipped(FILES | {"empty/": b"", "__MACOSX/._a.txt": b"x", "dir/.DS_Store": b"x"}))

    assert (FILES, ["empty"]) == (taken.files, taken.folders)


def _encrypted() -> bytes:
    data = bytearray(zipped({"secret.txt": b"hello"}))
    at = data.index(b"PK\x01\x02")
    for offset in (6, at + 8):
        struct.pack_into("<H", data, offset, 1)
    return bytes(data)


def _overlapping() -> bytes:
    """Two members in the directory, one in the file."""
    data = zipped({"a.txt": b"hello" * 1000})
    at = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    directory = data[at:end]
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2, 2, 2 * len(directory), at, 0)
    return data[:at] + directory + directory.replace(b"a.txt", b"b.txt") + tail


def _bad_sum() -> bytes:
    data = bytearray(zipped({"a.txt": b"hello" * 1000}))
    data[14] ^= 0xFF
    data[data.index(b"PK\x01\x02") + 16] ^= 0xFF
    return bytes(data)


def _symlink(info: zipfile.ZipInfo) -> None:
    info.external_attr = 0o120777 << 16


REFUSED: list[tuple[str, Callable[[], bytes], str]] = [
    ("a symbolic link", lambda: tar(member("l", type=tarfile.SYMTYPE, linkname="/etc/passwd")), "'l' in the archive"),
    ("a hard link", lambda: tar(member("l", type=tarfile.LNKTYPE, linkname="a")), "'l' in the archive"),
    ("a device", lambda: tar(member("d", type=tarfile.CHRTYPE)), "'d' in the archive"),
    ("a pipe", lambda: tar(member("p", type=tarfile.FIFOTYPE)), "'p' in the archive"),
    ("a link in a zip", lambda: zipped({"l": b"/etc/passwd"}, _symlink), "'l' in the archive"),
    ("an encrypted member", _encrypted, "'secret.txt' in the archive is encrypted"),
    ("overlapping members", _overlapping, "overlaps"),
    ("a wrong checksum", _bad_sum, "'a.txt' cannot be unpacked"),
    ("no archive", lambda: b"hello", "no zip or tar file"),
    ("nothing", lambda: b"", "no zip or tar file"),
    ("a cut off tar", lambda: tarred(FILES)[:5000], "cannot be unpacked"),
    ("a cut off gzip", lambda: gzip.compress(tarred(FILES))[:-300], "cannot be unpacked"),
    ("bzip2 in a zip", lambda: zipped({"b.txt": b"hello"}, method=zipfile.ZIP_BZIP2), "not packed with deflate"),
    ("LZMA in a zip", lambda: zipped({"l.txt": b"hello"}, method=zipfile.ZIP_LZMA), "not packed with deflate"),
    ("a cut off xz", lambda: lzma.compress(tarred(FILES))[:-300], "cannot be unpacked"),
    (
        "an xz with a huge dictionary",
        lambda: lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]),
        "cannot be unpacked",
    ),
    ("a cut off zip", lambda: zipped(FILES)[:-30], "cannot be unpacked"),
    (
        "a huge header",
        lambda: gzip.compress(tar(member("a", pax_headers={"comment": "x" * (2 << 20)}), format=tarfile.PAX_FORMAT)),
        "a header in the archive claims",
    ),
]


@pytest.mark.parametrize(("what", "data", "words"), REFUSED, ids=[each[0] for each in REFUSED])
def test_refuses(what: str, data: Callable[[], bytes], words: str) -> None:
    """What is no plain file, hides, or is damaged, refuses the archive and is named."""
    with pytest.raises(BadRequestError, match=words):
        unpacked(data())


BOMBS: list[tuple[str, Callable[[], bytes]]] = [
    ("zip", lambda: zipped({"zeros": bytes(20 << 20)})),
    ("tar.gz", lambda: gzip.compress(tar(member("zeros", 20 << 20)))),
    ("tar.bz2", lambda: bz2.compress(tar(member("zeros", 20 << 20)))),
    ("tar.xz", lambda: lzma.compress(tar(member("zeros", 20 << 20)))),
]


@pytest.mark.parametrize(("kind", "data"), BOMBS, ids=[each[0] for each in BOMBS])
def test_bombs(kind: str, data: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """What grows too much is refused while it grows, whatever it claims."""
    monkeypatch.setattr(archives, "_MOST_RATIO", 100)
    with pytest.raises(TooLargeError, match="grows more than 100 times"):
        unpacked(data())


def test_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no more members than a listing takes."""
    monkeypatch.setattr(archives, "MOST_MEMBERS", 5)
    for data in (tar(*(member(f"f{i}") for i in range(6))), zipped({f"f{i}": b"" for i in range(6)})):
        with pytest.raises(TooLargeError, match="more than 5 members"):
            unpacked(data)


def test_a_large_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory of a zip file is not read when it is larger than that of as many members as there may be."""
    monkeypatch.setattr(archives, "_MOST_DIRECTORY", 1000)
    with pytest.raises(TooLargeError, match="members"):
        unpacked(zipped({f"f{i}": b"" for i in range(60)}))


def test_garbage_raises_nothing_else() -> None:
    """Whatever the bytes are, the answer is that of a bad request."""
    sources = [zipped(FILES), tarred(FILES), gzip.compress(tarred(FILES))]
    for seed in range(300):
        data = bytearray(sources[seed % 3])
        for i in range(1 + seed % 7):
            data[(seed * 7919 + i * 104_729) % min(len(data), 3000 if seed % 2 else len(data))] ^= 1 + seed % 255
        with contextlib.suppress(BadRequestError, TooLargeError):
            unpacked(bytes(data))
