"""The file in which `cat2cli login` keeps logins."""

from pathlib import Path

import pytest

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
