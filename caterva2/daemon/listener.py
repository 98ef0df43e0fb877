"""The socket that a daemon listens on, bound before its app is made: so the app knows its real port."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from caterva2.address import Address
from caterva2.errors import SettingsError

_BACKLOG = 2048
_REASONS = {
    errno.EADDRINUSE: "the address is in use: stop the other program",
    errno.EACCES: "that needs more rights: use a port above 1023 or a directory that is yours",
    errno.EADDRNOTAVAIL: "this machine does not have that address: use one of its own",
}


@contextmanager
def listening(address: Address, place: str = "--http") -> Iterator[tuple[socket.socket, Address]]:
    """Bind and listen, and give the socket and the address with its real port.

    The kernel accepts connections from now on, so what is announced before the app answers is not refused.
    A unix socket's file is removed at the end, and one left behind by a killed process is taken over.

    Args:
        address: where; port 0 is any free port.
        place: the setting that the address comes from, for errors.

    Raises:
        SettingsError: if nothing can listen there.
    """
    try:
        bound = _bind_unix(address.socket) if address.socket else _bind_tcp(address)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or f"{error.strerror or error}: correct it"
        raise SettingsError(f"cannot listen on {address}: {reason}, or choose another with {place}") from error
    with bound:
        bound.listen(_BACKLOG)
        bound.setblocking(False)
        try:
            yield bound, address if address.socket else address.with_port(bound.getsockname()[1])
        finally:
            if address.socket is not None:
                address.socket.unlink(missing_ok=True)


def _bind_tcp(address: Address) -> socket.socket:
    if not address.host and socket.has_dualstack_ipv6():
        return _bound(socket.AF_INET6, ("::", address.port), dual=True)
    found = socket.getaddrinfo(address.host or "0.0.0.0", address.port, type=socket.SOCK_STREAM)  # noqa: S104 - "*"
    # IPv4 first: where a name has both, every client tries it sooner or later.
    family, _, _, _, target = min(found, key=lambda info: info[0] != socket.AF_INET)
    return _bound(family, target, dual=False)


def _bound(family: socket.AddressFamily, target: tuple[object, ...], *, dual: bool) -> socket.socket:
    # Said explicitly, since asyncio turns off delays (TCP_NODELAY) only where it can see that this is TCP: otherwise
    # each answer of two parts, headers and body, takes 40 ms.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual))
        made.bind(target)
    except BaseException:
        made.close()
        raise
    return made


def _bind_unix(path: Path) -> socket.socket:
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        # The reverse proxy runs as another user; who may come near is the directory's matter.
        path.chmod(0o666)
    except BaseException:
        made.close()
        raise
    return made


def _remove_stale(path: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "a file that is no socket is in the way")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            if probe.connect_ex(os.fspath(path)) != errno.ECONNREFUSED:
                raise OSError(errno.EADDRINUSE, "in use")
        path.unlink()
