"""Addresses to listen on and to connect to: `host:port`, `*:port`, `[::1]:port`, or a unix socket's path."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from caterva2.errors import AddressError

_HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/\[\]@?#]*)):(?P<port>[0-9]{1,5})")
_REMEDY = "use host:port, *:port, [::1]:port or the path of a unix socket such as ./daemon.sock"


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen on or to connect to.

    Attributes:
        host: a name or number; "" means all interfaces (written `*`).
        port: a TCP port; 0 asks the system for a free one.
        socket: the path of a unix socket; then host and port mean nothing.
        tls: whether what listens there speaks TLS; the text does not say it.
    """

    host: str = ""
    port: int = 0
    socket: Path | None = None
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port`, `*:port`, `[::1]:port`, or a path that holds a slash.

        Raises:
            AddressError: if the text is none of these.
        """
        if "/" in text and "://" not in text and "\0" not in text:
            return cls(socket=Path(text))
        match = _HOST_PORT.fullmatch(text)
        if match is None:
            raise AddressError(f"{text!r} is not an address: {_REMEDY}")
        port = int(match["port"])
        if port > 65535:
            raise AddressError(f"{text!r} is not an address: a port is at most 65535")
        host = match["ipv6"] or match["host"]
        return cls("" if host == "*" else host, port)

    def with_port(self, port: int) -> Self:
        """Return the same address with another port (the one that the system gave for port 0)."""
        return replace(self, port=port)

    @property
    def connectable(self) -> Self:
        """The address that a program on this machine connects to: `*` becomes localhost."""
        return self if self.host or self.socket else replace(self, host="localhost")

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can connect to it, as far as the text tells."""
        if self.socket is not None or self.host.rstrip(".").lower() == "localhost":
            return True
        try:
            return ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """The address as the base of HTTP URLs, without a slash at the end.

        Raises:
            AddressError: for a unix socket, which has no URL.
        """
        if self.socket is not None:
            raise AddressError(
                f"{self.socket} is a unix socket, which has no URL: set urlbase to the address of the proxy before it"
            )
        return f"{'https' if self.tls else 'http'}://{self.connectable}"

    def __str__(self) -> str:
        if self.socket is not None:
            text = str(self.socket)
            return text if "/" in text else f"./{text}"
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{host}:{self.port}"


def base_url(text: str) -> str:
    """Read the address of an HTTP service, `host:port` or a URL with or without a path prefix.

    Returns:
        A URL without a slash at the end, such as `http://localhost:8000`.

    Raises:
        AddressError: if the text is neither.
    """
    if "://" not in text:
        return Address.parse(text).url
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1)
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or any(c.isspace() for c in text):
        raise AddressError(f"{text!r} is not the URL of a service: use http://host:port or https://host/prefix")
    return text.rstrip("/")
