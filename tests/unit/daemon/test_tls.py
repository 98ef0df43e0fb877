"""caterva2.daemon.tls: contexts, their errors, and certificates that are read again."""

import logging
import ssl
from pathlib import Path

import pytest

from caterva2.daemon.tls import Reloadable, client_context, server_context
from caterva2.errors import SettingsError
from tests.support.authority import Authority, Pair, locked_key


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> tuple[str, str]:
    """Let both speak in memory; return the version of TLS and the serial number of the server's certificate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
                end.read()
            except ssl.SSLWantReadError:
                pass
    certificate = ends[0].getpeercert() or {}
    return ends[0].version() or "", str(certificate["serialNumber"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """A server's certificate."""
    return authority.issue()


def test_a_private_authority(authority: Authority, pair: Pair) -> None:
    """A client that was given the authority believes its servers; another one does not, nor another name."""
    server = server_context(pair.certificate, pair.key)

    assert "TLSv1.3" == handshake(server, client_context(authority.ca))[0]
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client_context(authority.ca), "example.org")


def test_nothing_older_than_tls_1_2(authority: Authority, pair: Pair) -> None:
    """TLS 1.2 is spoken still; 1.1 is not, on either side."""
    server, client = server_context(pair.certificate, pair.key), client_context(authority.ca)
    assert {ssl.TLSVersion.TLSv1_2} == {server.minimum_version, client.minimum_version}
    client.maximum_version = ssl.TLSVersion.TLSv1_2

    assert "TLSv1.2" == handshake(server, client)[0]


def test_clients_with_a_certificate_only(authority: Authority, pair: Pair) -> None:
    """With authorities for clients, a client without a certificate of theirs is refused."""
    server = server_context(pair.certificate, pair.key, authority.ca)
    mine = authority.issue("alice", client=True)

    assert "TLSv1.3" == handshake(server, client_context(authority.ca, mine.certificate, mine.key))[0]
    with pytest.raises(ssl.SSLError):
        handshake(server, client_context(authority.ca))
    foreign = Authority(authority.ca.parent / "other").issue("alice", client=True)
    with pytest.raises(ssl.SSLError):
        handshake(server, client_context(authority.ca, foreign.certificate, foreign.key))


def test_key_and_certificate_in_one_file(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """The key may stand in the certificate's file."""
    both = tmp_path / "both.pem"
    both.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())

    assert "TLSv1.3" == handshake(server_context(both), client_context(authority.ca))[0]


def test_a_new_certificate_in_the_same_context(authority: Authority, tmp_path: Path) -> None:
    """After a reload the next connection gets the new certificate; the context is the same one."""
    renewing = Authority(tmp_path)
    pair = renewing.issue()
    server, client = Reloadable(pair.certificate, pair.key), client_context(renewing.ca)
    before = handshake(server.context, client)
    renewing.issue()

    assert before == handshake(server.context, client)
    assert server.reload()
    assert before[1] != handshake(server.context, client)[1]


@pytest.mark.parametrize("spoilt", ["certificate", "key", "mismatch", "missing"])
def test_bad_new_files_change_nothing(spoilt: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A reload that fails is logged, and the old certificate serves on; the next good one is taken."""
    authority = Authority(tmp_path)
    pair = authority.issue()
    server, client = Reloadable(pair.certificate, pair.key), client_context(authority.ca)
    before = handshake(server.context, client)
    match spoilt:
        case "certificate" | "key":
            getattr(pair, spoilt).write_bytes(b"garbage")
        case "mismatch":
            pair.certificate.write_bytes(authority.issue(file="other").certificate.read_bytes())
        case "missing":
            pair.key.unlink()

    with caplog.at_level(logging.ERROR):
        assert not server.reload()

    assert "the certificate in use stays: " in caplog.text
    assert str(tmp_path) in caplog.text
    assert before == handshake(server.context, client)
    authority.issue()
    assert server.reload()
    assert before != handshake(server.context, client)


def test_errors_name_the_file_and_the_remedy(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """Each way to give wrong files is one line that says which file, and what to do."""
    garbage, none = tmp_path / "garbage.pem", tmp_path / "none.pem"
    garbage.write_bytes(b"garbage")
    other = authority.issue(file="other")
    locked = locked_key(tmp_path / "locked.key", b"secret")
    cases = [
        ((none, pair.key), none, "correct the path"),
        ((pair.certificate, none), none, "correct the path"),
        ((tmp_path, pair.key), tmp_path, "correct the path"),
        ((garbage, pair.key), garbage, "BEGIN CERTIFICATE"),
        ((pair.key, pair.key), pair.key, "BEGIN CERTIFICATE"),
        ((pair.certificate, garbage), garbage, "holds no private key"),
        ((pair.certificate, None), pair.certificate, "give its file as key"),
        ((pair.certificate, other.key), other.key, "belongs together"),
        ((pair.certificate, locked), locked, "passphrase"),
        ((pair.certificate, pair.key, none), none, "correct the path"),
        ((pair.certificate, pair.key, garbage), garbage, "no certificates of authorities"),
    ]
    for files, named, remedy in cases:
        with pytest.raises(SettingsError, match=remedy) as caught:
            server_context(*files)
        assert caught.value.detail.startswith(f"{named}: "), caught.value.detail
        assert "\n" not in caught.value.detail
    with pytest.raises(SettingsError, match="set certificate too"):
        client_context(key=pair.key)
