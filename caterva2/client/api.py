"""The ways in: `Client`, and functions for single requests.

A `Client` keeps its connections and its login. Each function opens a session for its one request, so that no
state hides in the module; a program with many requests holds a `Client` or a `Root`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from caterva2.client import rest, uploads, users
from caterva2.client.auth import Auth
from caterva2.client.decoding import array_from_cframe, bytes_from_schunk, is_array, schunk_from_cframe
from caterva2.client.downloads import Progress, download_file
from caterva2.client.files import Dataset, File
from caterva2.client.objects import Root
from caterva2.client.rest import Key, as_numpy, slice_of
from caterva2.client.session import Session, sub_urlbase_default
from caterva2.client.uploads import Content, Path_
from caterva2.client.watching import Watch
from caterva2.errors import BadGatewayError
from caterva2.paths import DatasetPath, RootName


class Client:
    """A subscriber.

    Args:
        urlbase: its address, `http://host:port` or `https://host/prefix`.
        auth: `(username, password)`, `BasicAuth`, or a mapping with both, to log in with; or an access token, as
            `add_token` returns it.
        timeout: seconds to wait for the next bytes of an answer.
        auth_cookie: a login cookie at hand, instead of `auth`.
        ca: the file of more authorities whose certificates are believed, such as an organisation's own.

    Examples:
        >>> client = caterva2.Client("http://localhost:8002")
        >>> client.get("foo/ds-1d.b2nd")[:3]
        array([0, 1, 2])
    """

    def __init__(
        self,
        urlbase: str = sub_urlbase_default,
        auth: Auth | str | None = None,
        timeout: float = 60.0,
        *,
        auth_cookie: str | None = None,
        ca: Path_ | None = None,
    ) -> None:
        self.session = Session(urlbase, auth_cookie=auth_cookie, timeout=timeout, ca=ca)
        if isinstance(auth, str):
            self.session.show(auth)
        elif auth is not None:
            self.session.login(auth)

    @property
    def urlbase(self) -> str:
        """The subscriber's address."""
        return self.session.urlbase

    @property
    def cookie(self) -> str | None:
        """The login cookie, which `blosc2.C2Array` takes as `auth_token`; None without a login."""
        return self.session.auth_cookie

    def close(self) -> None:
        """Close the connections; what was got from this client cannot read any more."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client: {self.urlbase}>"

    def get(self, path: Path_) -> Root | File | Dataset:
        """Return the object for a root (`"foo"`) or a file (`"foo/dir/name"`), after subscribing to its root."""
        where = DatasetPath.parse(str(path))
        root = Root(where.root, session=self.session)
        return root[where.name] if where.name else root

    def get_roots(self) -> dict[str, dict[str, Any]]:
        """Return the roots that the subscriber knows: name, http, subscribed, status, freshness, age."""
        return rest.get_roots(self.session)

    def status(self) -> dict[str, Any]:
        """Return how the subscriber is: roots, events, cache; for superusers, or on its own machine without users."""
        found = self.session.get("api/status").json()
        if not isinstance(found, dict):
            raise BadGatewayError(f"{self.session.urlbase} answers with something that is no status")
        return found

    def watch(self, path: Path_, timeout: float | None = None) -> Watch:
        """Iterate over the changes of a root, of what is below a directory, or of one file; as `Root.watch`."""
        return Watch(self.session, DatasetPath.parse(str(path)), timeout=timeout)

    def subscribe(self, root: str) -> str:
        """Make the subscriber follow a root; returns its answer, "Ok"."""
        return str(self.session.post("api/subscribe", RootName.parse(str(root))).json())

    def verify(self, path: Path_) -> dict[str, int]:
        """Make the subscriber check its copies of a dataset, directory or root, and fetch again what is damaged.

        Returns:
            How many chunks were `checked`, `wrong` and `refetched`.
        """
        found = self.session.post("api/verify", str(DatasetPath.parse(str(path)))).json()
        if not isinstance(found, dict) or not all(isinstance(n, int) for n in found.values()):
            raise BadGatewayError(f"{self.urlbase} answers with something that are no counts")
        return found

    def logout(self) -> None:
        """Log out: the login cookie ends, here and wherever else it was used."""
        self.session.logout()

    def change_password(self, password: str, new: str) -> None:
        """Get another password; whoever else is logged in as this user is logged out.

        Raises:
            BadRequestError: if the old password is wrong, or the new one has less than 8 characters.
        """
        self.session.change_password(password, new)

    def add_token(self, name: str, days: int = 90) -> str:
        """Make an access token for scripts, and return it; it is told this once.

        Args:
            name: what it is for.
            days: for how long it holds, at most 366.

        Raises:
            ConflictError: if there is one of this name.

        Examples:
            >>> token = client.add_token("notebook")
            >>> caterva2.Client("http://localhost:8002", token).get_list("@personal")
        """
        made = self.session.post("auth/tokens", body={"name": name, "days": days}).json()
        return str(made["token"])

    def list_tokens(self) -> list[dict[str, Any]]:
        """Return the access tokens of the user: id, name, created, expires, used."""
        found = self.session.get("auth/tokens").json()
        if not isinstance(found, list):
            raise BadGatewayError(f"{self.urlbase} answers with something that is no list of tokens")
        return found

    def remove_token(self, id: str) -> None:
        """Revoke an access token, at once."""
        self.session.delete("auth/tokens", id)

    def make_reset_link(self, email: str) -> str:
        """Make a link with which a user can set another password, once, within a day; for superusers."""
        return str(self.session.post("auth/reset-link", body={"email": email}).json()["link"])

    def reset_password(self, link: str, password: str) -> None:
        """Set another password with a link that a superuser made, or that came by mail."""
        self.session.post("auth/reset-password", body={"token": link.rpartition("#")[2], "password": password})

    def adduser(self, newuser: str, password: str | None = None, superuser: bool = False) -> str:  # noqa: FBT001, FBT002 - upstream's
        """Add a user, as a superuser.

        Args:
            newuser: the e-mail address.
            password: None to have one made.
            superuser: whether the user may manage the others.

        Returns:
            A sentence, with the password if one was made.
        """
        return users.adduser(self.session, newuser, password, superuser=superuser)

    def deluser(self, user: str) -> str:
        """Remove a user, and end its sessions, as a superuser; returns a sentence."""
        return users.deluser(self.session, user)

    def listusers(self, username: str | None = None) -> list[dict[str, Any]]:
        """Return all users, or the one of an e-mail address, as a superuser: id, email, is_active, is_superuser ..."""
        return users.listusers(self.session, username)

    def get_list(self, path: Path_) -> list[str]:
        """Return the paths of all files below a root or directory, relative to it."""
        return rest.get_list(self.session, DatasetPath.parse(str(path)))

    def get_info(self, path: Path_) -> dict[str, Any]:
        """Return what the subscriber says of a file: for an array its shape, chunks, blocks, dtype and schunk."""
        info = self.session.get("api/info", str(DatasetPath.parse(str(path)))).json()
        if not isinstance(info, dict):
            raise BadGatewayError(f"the description of {path} makes no sense")
        return info

    def fetch(self, path: Path_, slice_: Key | str | None = None, *, field: str | None = None) -> Any:
        """Return a slice of a dataset as a NumPy array, or of another file as bytes.

        Args:
            path: the dataset.
            slice_: what stands between brackets, or its text such as `"0:10, ::2"`; None is everything.
            field: a field of a structured dtype.
        """
        return self.get_slice(path, slice_, as_blosc2=False, field=field)

    def get_slice(
        self,
        path: Path_,
        key: Key | str | None = None,
        as_blosc2: bool = True,  # noqa: FBT001, FBT002 - upstream's
        field: str | None = None,
    ) -> Any:
        """Return a slice as a Blosc2 object (`NDArray` or `SChunk`), or else as `fetch` does."""
        cut = slice_of(key)
        content = rest.fetch(self.session, DatasetPath.parse(str(path)), cut, field).content
        if is_array(content):
            array = array_from_cframe(content)
            return array if as_blosc2 else as_numpy(array, cut)
        schunk = schunk_from_cframe(content)
        return schunk if as_blosc2 else bytes_from_schunk(schunk)

    def get_download_url(self, path: Path_) -> str:
        """Return the URL of a file itself, for a browser or `curl`; asks nobody whether there is such a file."""
        return self.session.url("api/download", str(DatasetPath.parse(str(path))))

    def get_chunk(self, path: Path_, nchunk: int) -> bytes:
        """Return a compressed chunk as it is stored."""
        return rest.get_chunk(self.session, DatasetPath.parse(str(path)), nchunk)

    def download(
        self,
        dataset: Path_,
        localpath: Path_ | None = None,
        *,
        format: str | None = None,
        slice_: Key | str | None = None,
        field: str | None = None,
        filter: str | None = None,
        sortby: str | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Download a file, or an array as another kind of file; see `Dataset.download`."""
        path = DatasetPath.parse(str(dataset))
        part = rest.selection(slice_of(slice_), field, filter, sortby)
        return download_file(self.session, path, localpath, progress, format, part)

    def upload(
        self,
        localpath: Content,
        dataset: Path_,
        *,
        if_match: str | None = None,
        create: bool = False,
        unpack: bool = False,
    ) -> PurePosixPath:
        """Write a dataset into `@public`, `@shared` or `@personal`; it is there, whole, when this returns.

        Args:
            localpath: the file to send; or bytes, a NumPy array, a Blosc2 array or super-chunk.
            dataset: its path; `.b2nd` and `.b2frame` hold Blosc2 data, anything else is a plain file.
            if_match: the version (`etag`) that it replaces; another one is not replaced.
            create: whether it must be new.
            unpack: whether this is a zip or tar file, and `dataset` the new folder for what is in it; all of that is
                there when this returns, or nothing.

        Returns:
            The path that it has.

        Raises:
            VersionChangedError: if another version is there.
            ConflictError: if an archive's folder is there already.

        Examples:
            >>> client.upload(np.arange(1000), "@personal/a.b2nd")
            PurePosixPath('@personal/a.b2nd')
        """
        return uploads.upload(
            self.session,
            localpath,
            DatasetPath.parse(str(dataset)),
            if_match=if_match,
            create=create,
            unpack=unpack,
        )

    def get_quota(self) -> dict[str, int | None]:
        """Return the bytes that the user has written, `used`, and may write, `limit`; of all users `total_...`.

        None is no limit, and where there is none nothing is counted.
        """
        found = self.session.get("api/quota").json()
        if not isinstance(found, dict):
            raise BadGatewayError(f"{self.urlbase} answers with something that is no quota")
        return found

    def make_folder(self, path: Path_) -> PurePosixPath:
        """Make an empty folder in `@public`, `@shared` or `@personal`; returns its path."""
        return uploads.make_folder(self.session, DatasetPath.parse(str(path)))

    def append(self, dataset: Path_, data: Content) -> tuple[int, ...]:
        """Append the rows of an array to one that is there; returns the new shape."""
        return uploads.append(self.session, data, DatasetPath.parse(str(dataset)))

    def move(self, src: Path_, dst: Path_) -> PurePosixPath:
        """Give a dataset or a folder another name; returns it.

        Args:
            src: what to move.
            dst: the new name, or a folder that it goes into.
        """
        return uploads.transfer(self.session, "api/move", str(src), str(dst))

    def copy(self, src: Path_, dst: Path_) -> PurePosixPath:
        """Copy a dataset or a folder, of any root, into `@public`, `@shared` or `@personal`; returns its name there."""
        return uploads.transfer(self.session, "api/copy", str(src), str(dst))

    def remove(self, path: Path_) -> PurePosixPath:
        """Remove a dataset, or a folder with all that is in it; returns its path."""
        return uploads.remove(self.session, DatasetPath.parse(str(path)))

    def lazyexpr(
        self,
        name: str,
        expression: str,
        operands: Mapping[str, Path_] | None = None,
        compute: bool = False,  # noqa: FBT001, FBT002 - upstream's
    ) -> PurePosixPath:
        """Make a dataset that is computed from others whenever it is read; it replaces one of the same name.

        Args:
            name: of the dataset, without its ending; in `@personal`, or elsewhere as in `"@shared/mean"`.
            expression: what is computed, such as `"(a - mean(a, axis=0)) / b"`; see docs/reference/expressions.md.
            operands: the dataset that each name in it stands for.
            compute: whether its values are computed now, and kept.

        Returns:
            The path that it has.

        Raises:
            BadRequestError: if the expression is none, or an operand is not there.
            TooLargeError: if computing it takes too long.

        Examples:
            >>> client.lazyexpr("twice", "2 * a", {"a": "foo/ds-1d.b2nd"})
            PurePosixPath('@personal/twice.b2nd')
        """
        return uploads.lazyexpr(self.session, name, expression, operands or {}, compute=compute)

    def concatenate(self, srcs: Iterable[Path_], dst: Path_, axis: int = 0) -> PurePosixPath:
        """Make an array of others, one after the other along an axis; it replaces one of the same name.

        Args:
            srcs: the arrays, of any root, in their order; at most 256.
            dst: the new array, in one of the subscriber's own roots, such as `"@personal/all.b2nd"`.
            axis: an axis that they have; all others are of the same length.

        Returns:
            The path that it has.

        Raises:
            BadRequestError: if they do not go together, or one is not there.
            TooLargeError: if it takes too long, or more room than there is.

        Examples:
            >>> client.concatenate(["@personal/2024.b2nd", "@personal/2025.b2nd"], "@personal/all.b2nd")
            PurePosixPath('@personal/all.b2nd')
        """
        return uploads.join(self.session, "api/concat", srcs, dst, axis)

    def stack(self, srcs: Iterable[Path_], dst: Path_, axis: int = 0) -> PurePosixPath:
        """Make an array of others of the same shape, side by side along a new axis; see `concatenate`.

        Args:
            srcs: the arrays, of any root, in their order; at most 256.
            dst: the new array, in one of the subscriber's own roots.
            axis: where the new axis is among those of the result.

        Returns:
            The path that it has.
        """
        return uploads.join(self.session, "api/stack", srcs, dst, axis)


def get_roots(urlbase: str = sub_urlbase_default, auth_cookie: str | None = None) -> dict[str, dict[str, Any]]:
    """Return the roots that a subscriber knows, by name.

    Args:
        urlbase: the subscriber's address.
        auth_cookie: what `get_auth_cookie` returned.
    """
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.get_roots()


def subscribe(root: str, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None) -> str:
    """Make the subscriber follow a root; as `Client.subscribe`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.subscribe(root)


def get_list(path: Path_, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None) -> list[str]:
    """Return the paths of all files below a root or directory, relative to it."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.get_list(path)


def get_info(path: Path_, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None) -> dict[str, Any]:
    """Return what the subscriber says of a file; as `Client.get_info`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.get_info(path)


def fetch(
    path: Path_,
    urlbase: str = sub_urlbase_default,
    slice_: Key | str | None = None,
    auth_cookie: str | None = None,
) -> Any:
    """Return a slice of a dataset as a NumPy array, or of another file as bytes; as `Client.fetch`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.fetch(path, slice_)


def get_chunk(path: Path_, nchunk: int, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None) -> bytes:
    """Return a compressed chunk as it is stored."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.get_chunk(path, nchunk)


def download(
    dataset: Path_,
    localpath: Path_ | None = None,
    urlbase: str = sub_urlbase_default,
    auth_cookie: str | None = None,
) -> Path:
    """Download a file; as `Client.download`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.download(dataset, localpath)


def adduser(
    newuser: str,
    password: str | None = None,
    superuser: bool = False,  # noqa: FBT001, FBT002 - upstream's
    urlbase: str = sub_urlbase_default,
    auth_cookie: str | None = None,
) -> str:
    """Add a user, as a superuser; as `Client.adduser`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.adduser(newuser, password, superuser)


def deluser(user: str, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None) -> str:
    """Remove a user, as a superuser; as `Client.deluser`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.deluser(user)


def listusers(
    username: str | None = None, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None
) -> list[dict[str, Any]]:
    """Return all users, or one, as a superuser; as `Client.listusers`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.listusers(username)


def upload(
    localpath: Content, dataset: Path_, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None
) -> PurePosixPath:
    """Write a dataset into one of the subscriber's own roots; as `Client.upload`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.upload(localpath, dataset)


def append(
    dataset: Path_, data: Content, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None
) -> tuple[int, ...]:
    """Append the rows of an array; as `Client.append`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.append(dataset, data)


def move(src: Path_, dst: Path_, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None) -> PurePosixPath:
    """Give a dataset or a folder another name; as `Client.move`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.move(src, dst)


def copy(src: Path_, dst: Path_, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None) -> PurePosixPath:
    """Copy a dataset or a folder into one of the subscriber's own roots; as `Client.copy`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.copy(src, dst)


def remove(path: Path_, urlbase: str = sub_urlbase_default, auth_cookie: str | None = None) -> PurePosixPath:
    """Remove a dataset or a folder; as `Client.remove`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.remove(path)


def lazyexpr(
    name: str,
    expression: str,
    operands: Mapping[str, Path_] | None = None,
    compute: bool = False,  # noqa: FBT001, FBT002 - upstream's
    urlbase: str = sub_urlbase_default,
    auth_cookie: str | None = None,
) -> PurePosixPath:
    """Make a dataset that is computed from others; as `Client.lazyexpr`."""
    with Client(urlbase, auth_cookie=auth_cookie) as client:
        return client.lazyexpr(name, expression, operands, compute)


def get_auth_cookie(urlbase: str, user_auth: Auth) -> str:
    """Log in, and return the cookie that the other functions take as `auth_cookie`.

    Args:
        urlbase: the subscriber's address.
        user_auth: `dict(username=..., password=...)`, a pair, or `BasicAuth`.
    """
    with Session(urlbase) as session:
        return session.login(user_auth)
