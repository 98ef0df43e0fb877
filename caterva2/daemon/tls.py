"""TLS of the daemons: contexts of servers and of clients, and certificates that are read again.

Python's defaults are modern ones; what is set here is that nothing older than TLS 1.2 is spoken, and that errors
name the file and the remedy, where OpenSSL would say `[SSL] PEM lib (_ssl.c:3900)`.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

from caterva2.errors import SettingsError

logger = logging.getLogger(__name__)

_OLDEST: Final = ssl.TLSVersion.TLSv1_2


def server_context(certificate: Path, key: Path | None = None, client_ca: Path | None = None) -> ssl.SSLContext:
    """Make the context of a server.

    Args:
        certificate: the PEM file of its certificate, with those that lead up to its authority.
        key: the PEM file of the private key; None if it is in the same file.
        client_ca: the PEM file of the authorities whose clients alone may come; None lets in clients without one.

    Raises:
        SettingsError: if a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _OLDEST
    # A client could make a server work for ever on one connection.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    _load(context, certificate, key, client_ca)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Make the context of a client, which believes the system's authorities (or those of SSL_CERT_FILE).

    Args:
        ca: the PEM file of more authorities to believe, such as an organisation's own.
        certificate: the PEM file of the client's own certificate, for servers that ask for one.
        key: the PEM file of its private key; None if it is in the same file.

    Raises:
        SettingsError: if a file cannot be used.
    """
    context = ssl.create_default_context()
    context.minimum_version = _OLDEST
    _load(context, certificate, key, ca)
    return context


class Reloadable:
    """A server's context whose files can be read again while it serves.

    Args:
        certificate: as of `server_context`, and so are the others.
        key: the private key.
        client_ca: the authorities of clients. One that is removed from the file counts until the next start.

    Raises:
        SettingsError: if a file cannot be used.
    """

    def __init__(self, certificate: Path, key: Path | None = None, client_ca: Path | None = None) -> None:
        self._files = certificate, key, client_ca
        self.context = server_context(*self._files)

    def reload(self) -> bool:
        """Read the files again; new connections get the new certificate, those that there are go on.

        Returns:
            Whether that went well; otherwise the error is logged, and all stays as it was.
        """
        certificate, key, client_ca = self._files
        try:
            # First elsewhere: a certificate that does not fit its key would leave the context without either.
            server_context(certificate, key, client_ca)
            _load(self.context, certificate, key, client_ca)
        except SettingsError as error:
            logger.error("the certificate in use stays: %s", error)
            return False
        logger.info("certificate %s is read again", certificate)
        return True


def _load(context: ssl.SSLContext, certificate: Path | None, key: Path | None, ca: Path | None) -> None:
    if certificate is None and key is not None:
        raise SettingsError(f"{key}: is a key without a certificate: set certificate too")
    if certificate is not None:
        _load_certificate(context, certificate, key)
    if ca is not None:
        _check_readable(ca)
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError as error:
            raise SettingsError(f"{ca}: holds no certificates of authorities in PEM{_reason(error)}") from error


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    for file in filter(None, (certificate, key)):
        _check_readable(file)
    try:
        context.load_cert_chain(certificate, key, password=_Passphrase(key or certificate))
    except ssl.SSLError as error:
        raise SettingsError(_explained(error, certificate, key)) from error


def _explained(error: ssl.SSLError, certificate: Path, key: Path | None) -> str:
    if "KEY_VALUES_MISMATCH" in str(error):
        return f"{key or certificate}: is not the key of {certificate}: give the pair that belongs together"
    if not _has(certificate, b"CERTIFICATE-----"):
        return f"{certificate}: holds no certificate in PEM: it starts with -----BEGIN CERTIFICATE-----"
    if not _has(key or certificate, b"PRIVATE KEY-----"):
        return f"{key or certificate}: holds no private key in PEM: give its file as key"
    return f"{certificate}{f' and {key}' if key else ''}: cannot be used{_reason(error)}"


def _has(file: Path, text: bytes) -> bool:
    return text in file.read_bytes()


def _reason(error: ssl.SSLError) -> str:
    return f" ({error.reason.replace('_', ' ').lower()})" if error.reason else ""


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}; correct the path, or its rights") from error


class _Passphrase:
    """Refuses to give one: OpenSSL would ask on the terminal, where nobody sits."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self) -> str:
        raise SettingsError(f"{self._file}: is locked with a passphrase: give a key without one")
