"""Downloads: an answer of any length to a file that appears only when it is complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

from caterva2.client.session import Session
from caterva2.formats import Format
from caterva2.paths import DatasetPath

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and the length, None when that is not known."""


def download_file(
    session: Session,
    path: DatasetPath,
    localpath: str | PurePath | None = None,
    progress: Progress | None = None,
    format: str | None = None,
    part: Mapping[str, str] | None = None,
) -> Path:
    """Stream a file to disk, in bounded memory; directories that are missing are made.

    Args:
        session: the subscriber.
        path: what to download.
        localpath: the file or the existing directory to write to; by default `root/dir/name` below the current one.
        progress: called as bytes arrive.
        format: `"npy"` or `"csv"` for an array in that form; by default the file as it is.
        part: the parameters that say what of an array is wanted; by default all of it.

    Returns:
        The file that was written.

    Raises:
        BadRequestError: if there is no such format, or it does not hold what is wanted.
    """
    wanted = Format.parse(format or Format.B2ND)
    params = {**(part or {}), **({} if wanted is Format.B2ND else {"format": str(wanted)})}
    target = _target(path, localpath, wanted)
    target.parent.mkdir(parents=True, exist_ok=True)
    with session.stream("api/download", str(path), params) as (length, pieces), _partial(target) as file:
        done = 0
        for piece in pieces:
            file.write(piece)
            done += len(piece)
            if progress is not None:
                progress(done, length)
    return target


def _target(path: DatasetPath, localpath: str | PurePath | None, format_: Format) -> Path:
    name = format_.named(path.basename)
    if localpath is None:
        return Path(str(path)).with_name(name)
    local = Path(localpath)
    # "dir/" says directory, also when it does not exist yet; Path forgets the slash.
    names_directory = str(localpath).endswith(os.sep) or local.is_dir()
    return local / name if names_directory else local


@contextmanager
def _partial(target: Path) -> Iterator[BinaryIO]:
    """Open a file beside the target that takes its name at the end, and goes away when anything fails."""
    partial = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
