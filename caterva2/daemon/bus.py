"""The daemons' end of the message bus: made in one way for all of them, of the `[bus]` section.

Files are read when they are needed, which is before each attempt to connect: one that is missing, or wrong, is one
line in the log, and what was put right, or renewed, counts at the next attempt.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import partial

from bus.client import BusClient, Credentials, Urls
from bus.messages import Message, topic_of
from bus.reasons import Cause
from bus.topics import Topics
from bus.url import BusUrl
from caterva2.daemon.tls import client_context
from caterva2.errors import SettingsError
from caterva2.settings import BusSettings

# Bytes; what is longer is no password, but the wrong file.
_LONGEST_PASSWORD = 4096


def bus_client(
    settings: BusSettings, urls: Urls, *, client_id: str, will: Callable[[int], Message], birth: int = 0
) -> BusClient:
    """Make a daemon's end of the bus; not yet entered.

    Args:
        settings: the `[bus]` section.
        urls: tells where the bus is, see `caterva2.daemon.locator`.
        client_id: what the broker's log shows.
        will: called with the number of a connection; what the broker says when that is lost.
        birth: number of the latest connection in earlier lives.
    """
    topics = Topics(settings.prefix)
    return BusClient(
        urls,
        topics=topics,
        client_id=client_id,
        will=will,
        birth=birth,
        keepalive=settings.keepalive,
        login=partial(_login, settings),
        remedies=_remedies(settings, topic_of(topics, will(birth))),
    )


def client_tls(settings: BusSettings) -> ssl.SSLContext:
    """Make the context for whatever the daemons reach over TLS: the MQTT broker, cat2bro, publishers.

    Raises:
        SettingsError: if a file of the `[bus]` section cannot be used.
    """
    try:
        return client_context(settings.ca, settings.certificate, settings.key)
    except SettingsError as error:
        raise SettingsError(f"[bus] {error}") from error


def _login(settings: BusSettings, url: BusUrl) -> Credentials:
    if url.unix:
        # cat2bro's own socket, which nobody else can reach, asks for nothing.
        return Credentials()
    try:
        tls = client_tls(settings) if url.tls else None
    except SettingsError as error:
        raise ValueError(str(error)) from error
    return Credentials(settings.username or None, _password(settings), tls)


def _password(settings: BusSettings) -> str | None:
    file = settings.password_file
    if settings.password or file is None:
        return settings.password or None
    try:
        with file.open("rb") as opened:
            content = opened.read(_LONGEST_PASSWORD + 1)
        password = content.decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"[bus] password_file {file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"[bus] password_file {file}: is not text in UTF-8") from error
    if not password or len(content) > _LONGEST_PASSWORD:
        raise ValueError(f"[bus] password_file {file}: write the password into it, and nothing else")
    return password


def _remedies(settings: BusSettings, topic: str) -> Mapping[Cause, str]:
    certificate, user = settings.certificate, settings.username
    secret = f"password_file {settings.password_file}" if settings.password_file else "password"
    return {
        Cause.UNTRUSTED: f"is {settings.ca}, which [bus] ca names, its authority?"
        if settings.ca
        else "name the file of its authority in [bus] ca",
        Cause.EXPIRED: "renew it at the broker",
        Cause.OTHER_NAME: "use a name in the url that the certificate has",
        Cause.NO_TLS: "check the port, and whether the url starts with mqtt:// or mqtts://",
        Cause.OUR_CERTIFICATE: f"check {certificate}, which [bus] certificate names"
        if certificate
        else "name the files of one in [bus] certificate and key",
        Cause.REFUSED: f"check [bus] username {user!r}, its {secret}, and that this user may publish on {topic}"
        if user
        else "set [bus] username and password, or have the broker let anonymous members in",
    }
