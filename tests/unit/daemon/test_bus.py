"""What a daemon shows to brokers, and what it says when that does not suffice."""

from pathlib import Path

import pytest

from bus.client import Credentials
from bus.reasons import Cause
from bus.url import BusUrl
from caterva2.daemon.bus import _login, _remedies
from caterva2.settings import BusSettings

PLAIN, TLS = BusUrl.parse("mqtt://localhost"), BusUrl.parse("mqtts://localhost")


def test_the_password_file_is_read_at_each_connection(tmp_path: Path) -> None:
    """A password that was changed counts without a restart; the newline of an editor does not."""
    file = tmp_path / "secret"
    settings = BusSettings(username="foo", password_file=file)
    for password in ("first", "sécond word "):
        file.write_text(f"{password}\n")

        assert Credentials("foo", password) == _login(settings, PLAIN)


def test_a_password_wins_over_its_file(tmp_path: Path) -> None:
    """So that the environment can override what a file names."""
    settings = BusSettings(username="foo", password="p", password_file=tmp_path / "nowhere")

    assert "p" == _login(settings, PLAIN).password


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        (b"\n", "write the password into it"),
        (b"x" * 5000, "and nothing else"),
        (b"\xff", "UTF-8"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """The line says which setting, which file, and what to do."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ValueError, match=reason) as caught:
        _login(BusSettings(username="foo", password_file=file), PLAIN)

    assert f"[bus] password_file {file}: " in str(caught.value)


def test_a_ca_that_is_missing_matters_only_where_it_is_used(tmp_path: Path) -> None:
    """Without TLS no certificate is looked at."""
    settings = BusSettings(ca=tmp_path / "ca.pem")

    assert Credentials() == _login(settings, PLAIN)
    with pytest.raises(ValueError, match=r"^\[bus\] .*/ca.pem: cannot be read"):
        _login(settings, TLS)


def test_cat2bros_own_socket_is_shown_nothing() -> None:
    """A password is for the broker that it was made for."""
    settings = BusSettings(username="foo", password="p")

    assert Credentials() == _login(settings, BusUrl.parse("unix:///run/bus"))


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.CLOSED])
def test_remedies_name_what_is_set(cause: Cause, tmp_path: Path) -> None:
    """Whatever is wrong, there is something to look at, and what is set already is named."""
    settings = BusSettings(username="foo", ca=tmp_path, certificate=tmp_path)
    bare, full = _remedies(BusSettings(), "topic"), _remedies(settings, "topic")

    assert bare[cause]
    assert (bare[cause] != full[cause]) == (cause in {Cause.UNTRUSTED, Cause.OUR_CERTIFICATE, Cause.REFUSED})
