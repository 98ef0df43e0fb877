"""Why a connection to a broker failed or ended, in plain words.

Libraries say "Unspecified error" or `[SSL: CERTIFICATE_VERIFY_FAILED] ... (_ssl.c:1016)`; an operator wants to know
which end did what. The kind of trouble (`Cause`) is told apart too, where its owner knows a remedy for it: which file
to look at is known only to whoever read the settings.
"""

import os
import ssl
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Cause(Enum):
    """Kinds of trouble that have a remedy."""

    UNTRUSTED = "untrusted"
    """The broker's certificate is of no authority that is believed here."""
    EXPIRED = "expired"
    """The broker's certificate is not valid any more, or not yet."""
    OTHER_NAME = "other name"
    """The broker's certificate is made out to another name than that of its address."""
    NO_TLS = "no tls"
    """What answers does not speak TLS, or does where it was not expected."""
    OUR_CERTIFICATE = "our certificate"
    """The broker wants a certificate of us, or does not believe the one that it got."""
    REFUSED = "refused"
    """The broker let us in over the network, but not as a member: name, password, or rights."""
    CLOSED = "closed"
    """The broker ended a connection that was in use, without a word: MQTT 3.1.1 has none for it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong with a connection."""

    reason: str
    cause: Cause | None = None

    def __str__(self) -> str:
        return self.reason


LEFT: Final = Trouble("we left")
CLOSED: Final = Trouble("the broker closed the connection", Cause.CLOSED)
BAD_ANSWER: Final = Trouble("what it answered is not MQTT 3.1.1 (a protocol error)", Cause.NO_TLS)

# OpenSSL's numbers, X509_V_ERR_*, of what can be wrong with a certificate.
_VERIFY: Final = {
    9: Trouble("its certificate is not valid yet (or the clock here is slow)", Cause.EXPIRED),
    10: Trouble("its certificate has expired (or the clock here is fast)", Cause.EXPIRED),
    62: Trouble("its certificate is made out to another host name", Cause.OTHER_NAME),
    64: Trouble("its certificate is made out to another IP address", Cause.OTHER_NAME),
}
# Parts of the names of OpenSSL's errors; an alert is what the other end says.
_TLS: Final = {
    "ALERT_CERTIFICATE_REQUIRED": Trouble("it wants a certificate of us", Cause.OUR_CERTIFICATE),
    "ALERT_CERTIFICATE_EXPIRED": Trouble("it says that our certificate has expired", Cause.OUR_CERTIFICATE),
    "ALERT_CERTIFICATE_REVOKED": Trouble("it says that our certificate is revoked", Cause.OUR_CERTIFICATE),
    "ALERT_UNKNOWN_CA": Trouble("it does not believe the authority of our certificate", Cause.OUR_CERTIFICATE),
    "ALERT_BAD_CERTIFICATE": Trouble("it does not take our certificate", Cause.OUR_CERTIFICATE),
    "ALERT_HANDSHAKE_FAILURE": Trouble("it does not take our certificate, or wants one", Cause.OUR_CERTIFICATE),
    "WRONG_VERSION_NUMBER": Trouble("it does not speak TLS on this port", Cause.NO_TLS),
    "HTTP_REQUEST": Trouble("it does not speak TLS on this port", Cause.NO_TLS),
}


def why(error: BaseException) -> Trouble:
    """Say why a connection could not be made, or broke."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY.get(error.verify_code) or Trouble(
            f"its certificate cannot be verified: {error.verify_message or 'no reason given'}", Cause.UNTRUSTED
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return CLOSED
    if isinstance(error, ssl.SSLError):
        name = error.reason or ""
        known = next((trouble for part, trouble in _TLS.items() if part in name), None)
        return known or Trouble(f"TLS failed: {name.replace('_', ' ').lower() or 'no reason given'}")
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return Trouble("the connection was reset: the broker was killed, or something between cut it", Cause.CLOSED)
    if isinstance(error, OSError) and error.errno:
        # Those of name look-ups are negative, and have their own words.
        return Trouble(os.strerror(error.errno) if error.errno > 0 else str(error.strerror))
    return Trouble(str(error) or type(error).__name__)


def silent(seconds: float) -> Trouble:
    """Say that a broker gives no sign of life."""
    return Trouble(f"the broker did not answer a ping for {seconds:g} s (keep-alive missed)")


def refused(words: str) -> Trouble:
    """Say that a broker did not let us in; `words` are the library's for its answer."""
    return Trouble(f"refused: {words}", Cause.REFUSED)
