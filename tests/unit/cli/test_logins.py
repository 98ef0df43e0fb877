"""The file in which `cat2cli login` keeps logins."""

from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError

from caterva2.cli.logins import Logins
from caterva2.errors import SettingsError

URL = "http://localhost:8002"


def test_where_it_is() -> None:
    """It is below XDG_CONFIG_HOME, or else ~/.config."""
    assert Path("/x/caterva2/logins.json") == Logins.of({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}).file
    assert Path("/h/.config/caterva2/logins.json") == Logins.of({"HOME": "/h"}).file


def test_kept_for_a_subscriber_and_a_user(tmp_path: Path) -> None:
    """A login is found for its subscriber alone, and not for another user."""
    logins = Logins(tmp_path / "a" / "logins.json")
    assert logins.find(URL) is None
    logins.keep(URL, "me", "c=1")
    logins.keep("http://other", "me", "c=2")

    assert ["c=1", "c=1", None] == [logins.find(URL), logins.find(URL, "me"), logins.find(URL, "you")]
    assert logins.find(URL + "/x") is None
    logins.forget(URL)
    assert [None, "c=2"] == [logins.find(URL), logins.find("http://other")]


@pytest.mark.parametrize("content", ["", "[]", "[1]", '{"x": 1}', '{"x": {}}', "{"])
def test_damaged(tmp_path: Path, content: str) -> None:
    """A damaged file is a line with the remedy, but for one that holds nothing."""
    file = tmp_path / "logins.json"
    file.write_text(content)
    file.chmod(0o600)

    with pytest.raises(SettingsError, match="log in again"):
        Logins(file).find(URL)


def test_open_to_others(tmp_path: Path) -> None:
    """A file that others may read is not used."""
    file = tmp_path / "logins.json"
    file.write_text("{}")
    file.chmod(0o644)

    with pytest.raises(SettingsError, match="chmod 600"):
        Logins(file).find(URL)


def test_cannot_be_written(tmp_path: Path) -> None:
    """Where it cannot be written, a line says so."""
    (tmp_path / "caterva2").write_text("a file")

    with pytest.raises(SettingsError, match="cannot be written"):
        Logins(tmp_path / "caterva2" / "logins.json").keep(URL, "me", "c=1")


class Ring(KeyringBackend):
    """A keyring in memory."""

    priority = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        """What was kept."""
        if self.locked:
            raise KeyringError("it is locked")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep something."""
        if self.locked:
            raise KeyringError("it is locked")
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        """Keep it no longer."""
        del self.kept[service, username]


@pytest.fixture
def ring() -> Iterator[Ring]:
    """The keyring of this desktop."""
    before, ring = keyring.get_keyring(), Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


def test_kept_in_the_keyring(tmp_path: Path, ring: Ring) -> None:
    """Where there is a keyring the cookie is in it, and not in the file."""
    logins = Logins(tmp_path / "logins.json")
    logins.keep(URL, "me", "c=1")

    assert {("caterva2", URL): "c=1"} == ring.kept
    assert "c=1" not in logins.file.read_text()
    assert ["c=1", None] == [logins.find(URL, "me"), logins.find(URL, "you")]
    logins.forget(URL)
    assert ({}, None) == (ring.kept, logins.find(URL))


def test_a_locked_keyring(tmp_path: Path, ring: Ring) -> None:
    """A keyring that cannot be opened is done without when a login is kept; one that holds it is asked for in vain."""
    logins = Logins(tmp_path / "logins.json")
    logins.keep(URL, "me", "c=1")
    ring.locked = True
    logins.keep("http://other", "me", "c=2")

    assert "c=2" == logins.find("http://other")
    with pytest.raises(SettingsError, match="log in again"):
        logins.find(URL)
