"""Addresses of brokers.

``mqtt://host:1883``, ``mqtts://host``, ``ws://host/mqtt``, ``wss://host/mqtt``, ``unix:///path``.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from bus.errors import BusUrlError

_DEFAULT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}

_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class BusUrl:
    """A checked address of a broker."""

    text: str
    scheme: str
    host: str
    """Name or number, an IPv6 number without brackets; empty for ``unix``."""
    port: int
    path: str
    """The path of the WebSocket with its query, or the file of the Unix socket, else empty."""

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("mqtts", "wss")

    @property
    def websocket(self) -> bool:
        """Whether MQTT goes through a WebSocket."""
        return self.scheme in ("ws", "wss")

    @property
    def unix(self) -> bool:
        """Whether it is a socket in the file system."""
        return self.scheme == "unix"

    @property
    def netloc(self) -> str:
        """Host and port as in an HTTP Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "BusUrl":
        """The address `text`; BusUrlError, which names the remedy, if it is none."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise BusUrlError(text, f"{error}") from error
        if parts.scheme == "unix":
            return cls._parse_unix(text, parts)
        if parts.scheme not in _DEFAULT_PORTS:
            known = ", ".join(f"{each}://" for each in (*_DEFAULT_PORTS, "unix"))
            raise BusUrlError(text, f"start it with one of {known}, as in mqtt://localhost:1883")
        _check_host(text, parts, port)
        path = _websocket_path(parts) if parts.scheme in ("ws", "wss") else ""
        port = port or _DEFAULT_PORTS[parts.scheme]
        return cls(text, parts.scheme, parts.hostname or "", port, path)

    @classmethod
    def _parse_unix(cls, text: str, parts: SplitResult) -> "BusUrl":
        if parts.netloc or not parts.path.startswith("/"):
            raise BusUrlError(text, "give an absolute path, as in unix:///run/mqtt.sock")
        return cls(text, "unix", "", 0, unquote(parts.path))


def _check_host(text: str, parts: SplitResult, port: int | None) -> None:
    if not parts.hostname:
        raise BusUrlError(text, f"name a host, as in {parts.scheme}://localhost")
    if any(char.isspace() or ord(char) < ord(" ") for char in text):
        raise BusUrlError(text, "remove the white space")
    if port == 0:
        raise BusUrlError(text, f"use a port from 1 to {_MAX_PORT}, or leave it out")
    if parts.username is not None:
        userinfo = parts.netloc.rpartition("@")[0]
        # The error goes to logs, where no password should be.
        raise BusUrlError(text.replace(userinfo, "..."), "give user name and password as settings of their own")
    if parts.scheme in ("mqtt", "mqtts") and (parts.path not in ("", "/") or parts.query):
        raise BusUrlError(text, "remove the path; only ws:// and wss:// have one")


def _websocket_path(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path
