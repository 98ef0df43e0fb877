"""The whole chain over TLS, with an authority of one's own: broker, bus, publisher, subscriber, clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import caterva2
from caterva2.cli.main import main as cat2cli
from caterva2.client import Client
from caterva2.errors import SettingsError, UnavailableError, UnreachableError
from caterva2.settings import BusSettings
from tests.integration.chain.daemons import Chain, running_chain
from tests.support.authority import Authority

FIXED = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Chain]:
    """All daemons with a certificate, no plain listener, and a publisher that wants a token."""
    pair = authority.issue()
    with running_chain(
        tmp_path_factory.mktemp("chain"),
        ca=authority.ca,
        mqtt="",
        certificate=pair.certificate,
        key=pair.key,
        bus=BusSettings(ca=authority.ca),
        access="token",
        token=FIXED,
        tokens={"foo": FIXED},
    ) as made:
        (made.root / "a.txt").write_bytes(b"hello")
        yield made


def test_everything_is_encrypted(chain: Chain) -> None:
    """All addresses are https, the bus is wss, and a file comes through."""
    assert {"https"} == {daemon.url.partition(":")[0] for daemon in (chain.broker, chain.publisher, chain.subscriber)}
    assert chain.publisher.url == chain.client.get_roots()["foo"]["http"]
    assert b"hello" == chain.client.fetch("foo/a.txt")


def test_changes_come_too(chain: Chain) -> None:
    """Events of the subscriber reach a client over its certificate."""
    with chain.client.watch("foo", timeout=20) as changes:
        (chain.root / "b.txt").write_bytes(b"new")

        assert "b.txt" in (str(change.path) for change in changes if change.path == "b.txt")


def test_cat2cli_believes_the_authority(
    chain: Chain, authority: Authority, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The setting ca of clients, or SSL_CERT_FILE, makes cat2cli believe; without them it says what is missing."""
    command = ["--subscriber", chain.subscriber.url, "roots"]
    assert 0 != cat2cli(command)
    error = capsys.readouterr().err
    assert "certificate that is not believed" in error
    assert "CATERVA2_CLIENT_CA" in error

    for variable in ("CATERVA2_CLIENT_CA", "SSL_CERT_FILE"):
        with monkeypatch.context() as environment:
            environment.setenv(variable, str(authority.ca))
            assert 0 == cat2cli(command)
        assert "foo" in capsys.readouterr().out


def test_functions_believe_the_convention(chain: Chain, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions for single requests believe the authority of SSL_CERT_FILE."""
    with pytest.raises(UnreachableError, match="not believed"):
        caterva2.get_roots(chain.subscriber.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))

    assert "foo" in caterva2.get_roots(chain.subscriber.url)


def test_bad_authorities(chain: Chain, tmp_path: Path) -> None:
    """A file of authorities that is none is named."""
    with pytest.raises(SettingsError, match=r"none\.pem: cannot be read: .* correct the path"):
        Client(chain.subscriber.url, ca=tmp_path / "none.pem")
    (tmp_path / "bad.pem").write_text("bad")
    with pytest.raises(SettingsError, match=r"bad\.pem: holds no certificates"):
        Client(chain.subscriber.url, ca=tmp_path / "bad.pem")


def test_a_publisher_of_another_authority(chain: Chain, tmp_path: Path) -> None:
    """A publisher whose certificate is not believed gives no answer, and the error says what to do."""
    foreign = Authority(tmp_path).issue()
    settings = chain.publisher.settings
    chain.publisher.stop()
    chain.publisher.settings = settings.model_copy(update={"certificate": foreign.certificate, "key": foreign.key})
    chain.publisher.start()
    (chain.root / "c.txt").write_bytes(b"new")
    try:
        with pytest.raises(UnavailableError, match=r"certificate is not believed .* give the file of its authority"):
            chain.client.fetch("foo/c.txt")
    finally:
        chain.publisher.stop()
        chain.publisher.settings = settings
        chain.publisher.start()
