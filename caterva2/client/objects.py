"""What a program holds: a `Root`, and from it the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from caterva2.client import rest, uploads
from caterva2.client.auth import Auth
from caterva2.client.files import Dataset, File
from caterva2.client.session import Session, sub_urlbase_default
from caterva2.client.uploads import Content
from caterva2.client.versions import Version
from caterva2.client.watching import Watch
from caterva2.errors import FrameError, NotFoundError, PathError
from caterva2.models import ArrayInfo
from caterva2.paths import DatasetPath, RootName


class Root:
    """A root of a subscriber; making one subscribes to it.

    Args:
        name: the root's name.
        urlbase: the subscriber's address.
        user_auth: `dict(username=..., password=...)`, a pair, or `BasicAuth`, to log in with.
        session: a session to use instead of a new one; then urlbase and user_auth mean nothing.

    Examples:
        >>> root = caterva2.Root("foo")
        >>> root.file_list
        ['README.md', 'ds-1d.b2nd']
        >>> root["ds-1d.b2nd"][:3]
        array([0, 1, 2])
    """

    def __init__(
        self,
        name: str,
        urlbase: str = sub_urlbase_default,
        user_auth: Auth | None = None,
        *,
        session: Session | None = None,
    ) -> None:
        self._name = RootName.parse(name)
        self._session = session or Session(urlbase)
        if session is None and user_auth is not None:
            self._session.login(user_auth)
        self._session.post("api/subscribe", self._name)

    @property
    def name(self) -> str:
        """The root's name."""
        return str(self._name)

    @property
    def urlbase(self) -> str:
        """The subscriber's address."""
        return self._session.urlbase

    @property
    def file_list(self) -> list[str]:
        """The paths of all files, below the root; asked for anew each time."""
        return rest.get_list(self._session, DatasetPath(self._name, ""))

    @property
    def node_list(self) -> list[str]:
        """The same as `file_list`, by its older name."""
        return self.file_list

    @property
    def status(self) -> str:
        """Whether the publisher is there, as far as the subscriber knows: `online` or `offline`; asked for anew."""
        return str(self._described().get("status", "online"))

    @property
    def freshness(self) -> str | None:
        """How the subscriber knows that reads are current; asked for anew.

        `live`: it is told of changes as they happen. `revalidated`: it asks the publisher. `stale`: the publisher
        gives no answer, and what is cached is served. None when the server does not say.
        """
        found = self._described().get("freshness")
        return None if found is None else str(found)

    @property
    def age(self) -> int | None:
        """Seconds since the root's files were last known to be the current ones; None while live, or if unknown."""
        found = self._described().get("age")
        return found if isinstance(found, int) else None

    def _described(self) -> dict[str, Any]:
        root = rest.get_roots(self._session).get(self.name)
        if root is None:
            raise NotFoundError(f"{self.name} is not known any more")
        return root

    def watch(self, timeout: float | None = None) -> Watch:
        """Iterate over the changes of all files, for ever; a read after a change finds it.

        Args:
            timeout: seconds without a change after which the iteration ends; None is never.

        Examples:
            >>> with root.watch() as changes:
            ...     for change in changes:
            ...         print(change.type, change.path)
        """
        return Watch(self._session, DatasetPath(self._name, ""), timeout=timeout)

    def __getitem__(self, name: str | PurePath) -> File | Dataset:
        """Return a file of the root.

        Raises:
            NotFoundError: if there is none of this name; it is a LookupError.
        """
        return open_file(self._session, DatasetPath.parse(f"{self._name}/{name}"))

    def __setitem__(self, name: str | PurePath, content: Content) -> None:
        """Write a file of an own root: an array, a Blosc2 object, or bytes.

        Examples:
            >>> root["a.b2nd"] = np.arange(1000)
        """
        if isinstance(content, str | PurePath):
            raise TypeError("a path is no content: use upload() to send a file, or give bytes")
        uploads.upload(self._session, content, DatasetPath.parse(f"{self._name}/{name}"))

    def __delitem__(self, name: str | PurePath) -> None:
        """Remove a file of an own root."""
        open_file(self._session, DatasetPath.parse(f"{self._name}/{name}")).remove()

    def upload(self, localpath: Content, dataset: str | PurePath | None = None) -> File | Dataset:
        """Write a file of an own root, and return it.

        Args:
            localpath: the file to send; or bytes, a NumPy array, a Blosc2 array or super-chunk.
            dataset: its path below the root; by default the name of the file.
        """
        if dataset is None:
            if not isinstance(localpath, str | PurePath):
                raise TypeError("dataset: name the file that this becomes")
            dataset = PurePath(localpath).name
        path = DatasetPath.parse(f"{self._name}/{dataset}")
        uploads.upload(self._session, localpath, path)
        return open_file(self._session, path)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str | PurePath):
            return False
        try:
            open_file(self._session, DatasetPath.parse(f"{self._name}/{name}"))
        except (NotFoundError, PathError):
            return False
        except FrameError:  # it is there, if damaged
            return True
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.file_list)

    def __len__(self) -> int:
        return len(self.file_list)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Root: {self._name}>"

    def __str__(self) -> str:
        return str(self._name)


def open_file(session: Session, path: DatasetPath) -> File | Dataset:
    """Ask what a file is, and return the object for it; does not subscribe to its root.

    Raises:
        NotFoundError: if there is no such file.
    """
    if not path.name:
        raise PathError(f"{str(path)!r} is a root: name a file below it, such as {path}/name")
    answer = session.get("api/info", str(path))
    version = Version.of(answer, path)
    kind = Dataset if isinstance(version.info, ArrayInfo) else File
    return kind(session, path, version, answer.currency)
