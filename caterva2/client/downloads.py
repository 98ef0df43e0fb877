"""Downloads: an answer of any length to a file that appears only when it is complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

from caterva2.client.session import Session
from caterva2.paths import DatasetPath

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and the length, None when that is not known."""


def download_file(
    session: Session,
    path: DatasetPath,
    localpath: str | PurePath | None = None,
    progress: Progress | None = None,
) -> Path:
    """Stream a file to disk, in bounded memory; directories that are missing are made.

    Args:
        session: the subscriber.
        path: what to download.
        localpath: the file or the existing directory to write to; by default `root/dir/name` below the current one.
        progress: called as bytes arrive.

    Returns:
        The file that was written.
    """
    target = _target(path, localpath)
    target.parent.mkdir(parents=True, exist_ok=True)
    with session.stream("api/download", str(path)) as (length, pieces), _partial(target) as file:
        done = 0
        for piece in pieces:
            file.write(piece)
            done += len(piece)
            if progress is not None:
                progress(done, length)
    return target


def _target(path: DatasetPath, localpath: str | PurePath | None) -> Path:
    if localpath is None:
        return Path(str(path))
    local = Path(localpath)
    # "dir/" says directory, also when it does not exist yet; Path forgets the slash.
    names_directory = str(localpath).endswith(os.sep) or local.is_dir()
    return local / path.basename if names_directory else local


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
