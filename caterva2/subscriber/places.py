"""Where the subscriber's own datasets are in its statedir, and which of them a caller has.

`@public` and `@shared` are one directory each; `@personal` is one for each user. A plain file is kept as a frame with
the ending `.b2`, and shown without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from caterva2.errors import AuthenticationError, BadRequestError, NotFoundError, PathError
from caterva2.models import Kind
from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.callers import Caller

PUBLIC: Final = "@public"
PERSONAL: Final = "@personal"
SHARED: Final = "@shared"
PACKED: Final = ".b2"
_KINDS: dict[str, Kind] = {".b2nd": "array", ".b2frame": "frame"}
_OWN_ROOTS: Final = (PUBLIC, PERSONAL, SHARED)
# Folders in each other; a tree is walked by calls in each other.
_MOST_DEEP: Final = 32
_MOST_IN_NAME: Final = 255 - len(PACKED)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one path of an own root is.

    Attributes:
        path: the dataset, or the folder.
        owner: the id of the user who alone sees it; "" in the other roots.
        top: the directory of the root.
    """

    path: DatasetPath
    owner: str
    top: Path

    @property
    def kind(self) -> Kind:
        """What a dataset of this name is."""
        return kind_of(self.path)

    @property
    def file(self) -> Path:
        """The file that holds it if it is a dataset."""
        return self.top / (self.path.name + (PACKED if self.kind == "file" else ""))

    @property
    def folder(self) -> Path:
        """The directory that it is if it is a folder."""
        return self.top / self.path.name

    @property
    def is_dataset(self) -> bool:
        """Whether there is a dataset of this name."""
        try:
            return bool(self.path.name) and self.file.is_file()
        except OSError:  # the name is too long for a file
            return False

    @property
    def is_folder(self) -> bool:
        """Whether there is a folder of this name."""
        try:
            return self.folder.is_dir()
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Places:
    """The directories of the own roots.

    Args:
        directory: the statedir.
    """

    directory: Path

    def names(self, caller: Caller) -> list[str]:
        """The names of the roots that a caller has."""
        return list(_OWN_ROOTS) if caller.known else [PUBLIC]

    def find(self, caller: Caller, path: DatasetPath) -> Place:
        """Tell where a path is, whether there is anything or not.

        Raises:
            NotFoundError: if the caller has no such root.
        """
        if path.root not in self.names(caller):
            own = path.root in _OWN_ROOTS
            raise NotFoundError(f"{path.root} needs authentication" if own else f"{path.root} not known")
        if path.root != PERSONAL:
            return Place(path, "", self.directory / path.root.removeprefix("@"))
        # A name of a directory, so it is not believed.
        return Place(path, caller.id, self.directory / "personal" / str(UUID(caller.id)))

    def writable(self, caller: Caller, path: DatasetPath) -> Place:
        """Tell where a path is that the caller wants to write to.

        Raises:
            AuthenticationError: if nobody has logged in.
            BadRequestError: if it is not below a root that can be written to.
            PathError: if its name is not one that can be kept.
        """
        if not caller.known:
            raise AuthenticationError("Unauthorized")
        if path.root not in _OWN_ROOTS:
            raise BadRequestError("Only @personal or @shared or @public roots can be modified")
        if not path.name:
            raise PathError(f"{path} is a root: name a file or a folder below it")
        return self.find(caller, check_kept(path))

    def all(self) -> list[Place]:
        """The roots as they are on disk, with those of every user."""
        tops = [Place(DatasetPath(RootName(root), ""), "", self.directory / root[1:]) for root in (PUBLIC, SHARED)]
        personal = self.directory / "personal"
        owners = sorted(entry.name for entry in personal.iterdir()) if personal.is_dir() else []
        return tops + [Place(DatasetPath(RootName(PERSONAL), ""), owner, personal / owner) for owner in owners]


def kind_of(path: DatasetPath) -> Kind:
    """What a dataset of this name is."""
    return _KINDS.get(path.suffix, "file")


def shown(name: str) -> str:
    """The name of a dataset whose file has this name."""
    return name.removesuffix(PACKED)


def check_kept(path: DatasetPath) -> DatasetPath:
    """Return a path if its name can be kept on disk, and is listed then.

    Raises:
        PathError: if not.
    """
    segments = path.name.split("/")
    if any(segment.startswith(".") for segment in segments):
        raise PathError(f"{path} is hidden: names that begin with a dot are not kept here")
    if len(segments) > _MOST_DEEP:
        raise PathError(f"{path} is too deep: at most {_MOST_DEEP} names, one in the other, are kept here")
    if len(segments[-1].encode()) > _MOST_IN_NAME:
        raise PathError(f"{path} is too long: at most {_MOST_IN_NAME} bytes of a file's name are kept here")
    return path
