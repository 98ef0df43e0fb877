"""What a name in an own root stands for at present, and what may take it.

Nothing here holds a lock: who changes names does, from the look to the change.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from caterva2.errors import BadRequestError, ConflictError, NotFoundError, PathError, VersionChangedError
from caterva2.models import DatasetEntry
from caterva2.paths import DatasetPath, check_name
from caterva2.subscriber.places import Place, check_kept, shown
from caterva2.subscriber.userroots import entry_of, files_below

Condition = Callable[[str | None], bool]
"""Whether a write may go on, given the version (ETag) that it would replace; None is no dataset."""

MISSING: Final = "The specified path does not exist"


def anything(etag: str | None) -> bool:
    """The condition of a write that does not care what it replaces."""
    return True


def free(place: Place) -> Condition:
    """The condition of a write that replaces nothing, and says so as a conflict."""

    def condition(present: str | None) -> bool:
        check_free(place)
        return True

    return condition


def check_free(place: Place) -> None:
    """Refuse a name that something has.

    Raises:
        ConflictError: if there is a dataset or a folder.
    """
    if place.is_dataset or place.is_folder:
        raise ConflictError(f"{place.path} exists: remove it first, or give another name")


def check_condition(condition: Condition, place: Place, present: DatasetEntry | None) -> None:
    """Refuse a write whose condition does not hold.

    Raises:
        VersionChangedError: with the version that is there.
    """
    etag = present.etag if present is not None else None
    if not condition(etag):
        there = "it has another one" if etag is not None else "there is no such dataset"
        raise VersionChangedError(f"{place.path} is not at the version that was asked for: {there}", etag)


def check_pair(before: Place, after: Place) -> None:
    """Refuse a move or a copy that makes no sense, or would replace something.

    Raises:
        ConflictError: if something has the new name.
        BadRequestError: if a folder would go into itself, or a dataset become one of another kind.
    """
    if before.path == after.path:
        raise ConflictError(f"{after.path} has this name already")
    if before.is_folder and f"{after.path}/".startswith(f"{before.path}/"):
        raise BadRequestError(f"{after.path} is in {before.path} itself")
    check_free(after)
    if not before.is_folder:
        check_kind(before.path, after)


def check_kind(source: DatasetPath, after: Place) -> None:
    """Refuse a new name of another ending: it tells what a dataset is.

    Raises:
        BadRequestError: if it is another one.
    """
    ending = source.suffix if source.suffix in {".b2nd", ".b2frame"} else ""
    if ending != (after.path.suffix if after.kind != "file" else ""):
        wanted = (
            f"its ending must stay {ending}" if ending else f"{after.path.suffix} is not an ending for a plain file"
        )
        raise BadRequestError(f"{source} cannot be named {after.path}: {wanted}")


def present_entry(place: Place) -> DatasetEntry | None:
    """The version that is there."""
    return entry_of(place.path, place.file.stat()) if place.is_dataset else None


def found_entries(place: Place) -> list[DatasetEntry]:
    """The dataset of this name, or those in the folder."""
    if (entry := present_entry(place)) is not None:
        return [entry]
    if not place.path.name or not place.is_folder:
        raise NotFoundError(MISSING)
    return entries_below(place, place.folder)


def entries_below(place: Place, directory: Path) -> list[DatasetEntry]:
    """The datasets in a folder, which may be elsewhere by now."""
    entries = []
    for file in files_below(directory):
        name = "/".join(filter(None, (place.path.name, shown(str(file.relative_to(directory))))))
        with suppress(FileNotFoundError):  # removed meanwhile
            entries.append(entry_of(DatasetPath(place.path.root, name), file.stat()))
    return sorted(entries, key=lambda entry: entry.path)


def renamed_entries(before: Place, after: Place, found: Sequence[DatasetEntry]) -> list[DatasetEntry]:
    """What is found there after a move.

    Raises:
        PathError: if one would have a name that is not kept.
    """
    names = [after.path.name + entry.path[len(before.path.name) :] for entry in found]
    for name in names:
        check_kept(DatasetPath(after.path.root, check_name(name)))
    return [entry.model_copy(update={"path": name}) for entry, name in zip(found, names, strict=True)]


def make_way(place: Place) -> None:
    """Make the folders above a dataset.

    Raises:
        ConflictError: if there is a file where a folder is needed, or a folder where the dataset is to be.
    """
    segments = place.path.name.split("/")
    for i in range(1, len(segments)):
        above = Place(DatasetPath(place.path.root, "/".join(segments[:i])), place.owner, place.top)
        if above.is_dataset:
            raise ConflictError(f"{above.path} is a file: it cannot hold {place.path}")
    if place.is_folder or place.file.is_dir():
        raise ConflictError(f"{place.path} is a folder: remove it first, or give another name")
    try:
        place.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError):
        raise ConflictError(f"a file stands where a folder is needed for {place.path}") from None


@contextmanager
def open_dataset(place: Place) -> Iterator[int]:
    """Open the file of a dataset for reading.

    Raises:
        NotFoundError: if there is none.
    """
    try:
        fd = os.open(place.file, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise NotFoundError(MISSING) from None
    except OSError as error:
        raise PathError(f"{place.path} cannot be opened: {error.strerror}") from error
    try:
        yield fd
    finally:
        os.close(fd)


def sync_names(directory: Path, top: Path) -> None:
    """Wait until the names in a directory, and those of the directories above it, would survive a power loss."""
    while True:
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # removed meanwhile, with what was in it
            fd = -1
        if fd >= 0:
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        if directory == top:
            return
        directory = directory.parent
