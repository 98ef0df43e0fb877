"""TLS of one connection of the embedded broker, between its transport and who reads and writes.

Python's own does the same, but takes 256 KB for each connection; and uvloop's cannot begin after a
connection was counted without losing its first bytes.
"""

import contextlib
import ssl
from typing import Any, Final

_RECORD: Final = 16 * 1024
"""Bytes of the largest record of TLS: read in one go, so that nothing is copied twice."""


class Tls:
    """The server's side; its methods return what goes to the transport, and raise `ssl.SSLError`.

    Args:
        context: of the server.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._established = False

    @property
    def pending(self) -> int:
        """Bytes received that were not looked at yet."""
        return self._incoming.pending

    @property
    def common_name(self) -> str | None:
        """That of the client's certificate, if it showed one and that was verified."""
        certificate: dict[str, Any] = self._object.getpeercert() or {}
        names = (value for group in certificate.get("subject", ()) for key, value in group if key == "commonName")
        return next(names, None)

    def receive(self, data: bytes) -> None:
        """Take what the transport brings."""
        self._incoming.write(data)

    def read(self, into: bytearray) -> bytes:
        """Decrypt what is there, after the handshake; nothing more comes out when more must come in first."""
        try:
            if not self._established:
                self._object.do_handshake()
                self._established = True
            while data := self._object.read(_RECORD):
                into += data
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return self._outgoing.read()

    def write(self, data: bytes) -> bytes:
        """Encrypt."""
        self._object.write(data)
        return self._outgoing.read()

    def failure(self) -> bytes:
        """What tells the client why it failed."""
        return self._outgoing.read()

    def close(self) -> bytes:
        """Say that nothing more follows."""
        with contextlib.suppress(ssl.SSLError, ValueError):  # the client has not said so yet, and is not waited for
            self._object.unwrap()
        return self._outgoing.read()
