"""Mail to users: what they need to give themselves another password."""

from __future__ import annotations

import logging
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from ipaddress import ip_address
from urllib.parse import urlsplit

from caterva2.errors import SettingsError
from caterva2.settings import SubscriberSettings

logger = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds
_PORTS = {"smtp": 587, "smtps": 465}
_RESET = """\
Somebody, who should be you, has asked for another password for {email} at {urlbase}.
Within a day, and once, this page takes it:

{link}

If it was not you, do nothing: your password is as it was.
"""


@dataclass(frozen=True, slots=True)
class Mailer:
    """Sends mail through an SMTP server (RFC 5321); what it does may block.

    Args:
        server: its URL, `smtp://host:port` (which must offer STARTTLS, unless it is on this machine and has no
            password) or `smtps://host:port`.
        sender: the address that mail comes from.
        urlbase: where links lead.
        username: the name to log in with; "" does not log in.
        password: of that name.
    """

    server: str
    sender: str
    urlbase: str
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, settings: SubscriberSettings) -> Mailer | None:
        """The one that the settings name, if they do.

        Raises:
            SettingsError: if something is missing.
        """
        if not settings.smtp:
            return None
        parts = urlsplit(settings.smtp)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise SettingsError(f"subscriber.smtp: {settings.smtp!r} is not the URL of a server: use smtp://host:587")
        if not settings.urlbase or not settings.smtp_sender:
            missing = "urlbase" if not settings.urlbase else "smtp_sender"
            raise SettingsError(f"subscriber.{missing}: is missing: mail needs it, as smtp is set")
        return cls(
            settings.smtp, settings.smtp_sender, settings.urlbase, settings.smtp_username, settings.smtp_password
        )

    def send_reset(self, email: str, link: str) -> None:
        """Send a user the link for another password; what goes wrong is logged."""
        message = EmailMessage()
        message["Subject"] = f"Another password for {urlsplit(self.urlbase).hostname}"
        message["From"], message["To"] = self.sender, email
        message.set_content(_RESET.format(email=email, urlbase=self.urlbase, link=link))
        try:
            self._send(message)
        except (OSError, smtplib.SMTPException) as error:
            logger.warning("no mail could be sent through %s: %s", self.server, error)

    def _send(self, message: EmailMessage) -> None:
        parts = urlsplit(self.server)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        context = ssl.create_default_context()
        if parts.scheme == "smtps":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=_PATIENCE, context=context)
        else:
            connection = smtplib.SMTP(host, port, timeout=_PATIENCE)
        with connection:
            # A link for another password is not sent in the clear, whoever on the way says that there is no TLS.
            if parts.scheme == "smtp" and (self.username or not _is_loopback(host) or connection.has_extn("starttls")):
                connection.starttls(context=context)
            if self.username:
                connection.login(self.username, self.password)
            connection.send_message(message)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
