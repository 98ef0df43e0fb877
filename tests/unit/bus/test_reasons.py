"""bus.reasons: what libraries say, in words for people."""

import socket
import ssl

import pytest

from bus.reasons import Cause, refused, silent, why


def tls(reason: str) -> ssl.SSLError:
    """An error of OpenSSL's."""
    error = ssl.SSLError(1, f"[SSL: {reason}] {reason.lower()} (_ssl.c:2580)")
    error.reason = reason
    return error


def certificate(code: int, message: str) -> ssl.SSLCertVerificationError:
    """An error in the broker's certificate."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed (_ssl.c:1006)")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "words", "cause"),
    [
        (certificate(10, "x"), "its certificate has expired", Cause.EXPIRED),
        (certificate(9, "x"), "not valid yet", Cause.EXPIRED),
        (certificate(62, "x"), "another host name", Cause.OTHER_NAME),
        (certificate(64, "x"), "another IP address", Cause.OTHER_NAME),
        (certificate(19, "self-signed certificate"), "cannot be verified: self-signed certificate", Cause.UNTRUSTED),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "it wants a certificate of us", Cause.OUR_CERTIFICATE),
        (tls("TLSV1_ALERT_UNKNOWN_CA"), "does not believe the authority of our certificate", Cause.OUR_CERTIFICATE),
        (tls("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "our certificate has expired", Cause.OUR_CERTIFICATE),
        (tls("WRONG_VERSION_NUMBER"), "does not speak TLS on this port", Cause.NO_TLS),
        (tls("NO_CIPHERS_AVAILABLE"), "TLS failed: no ciphers available", None),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:2427)"), "closed", Cause.CLOSED),
        (ConnectionResetError(104, "x"), "the connection was reset", Cause.CLOSED),
        (BrokenPipeError(32, "x"), "the connection was reset", Cause.CLOSED),
        (ConnectionRefusedError(111, "[Errno 111] Connect call failed"), "Connection refused", None),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known", None),
        (ValueError("what it says"), "what it says", None),
        (ValueError(), "ValueError", None),
    ],
)
def test_reasons_are_words_with_a_cause(error: Exception, words: str, cause: Cause | None) -> None:
    """Without numbers of lines in other people's source, and with a cause where there is a remedy."""
    trouble = why(error)

    assert words in str(trouble)
    assert "_ssl.c" not in str(trouble)
    assert cause is trouble.cause


def test_a_missed_ping_and_a_refusal_say_so() -> None:
    """Those are no errors of the socket."""
    assert "the broker did not answer a ping for 15 s (keep-alive missed)" == str(silent(15))
    assert ("refused: Not authorized", Cause.REFUSED) == (str(refused("Not authorized")), refused("x").cause)
