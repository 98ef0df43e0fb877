"""The users file: what it takes, what it refuses, and how it is written."""

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from caterva2.broker.users import User, changing_users, fingerprint, fits, make_user, read_users
from caterva2.errors import SettingsError

HASH = make_user("x", "admin", (), "right").password


def entry(**changes: Any) -> dict[str, Any]:
    """A user as it stands in the file."""
    return {"name": "pia", "role": "publisher", "roots": ["lab-*"], "password": HASH, **changes}


def write(file: Path, content: object, mode: int = 0o600) -> Path:
    """Write a users file by hand."""
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    file.chmod(mode)
    return file


def test_round_trip(tmp_path: Path) -> None:
    """What is added is read again, with a password that only fits itself; nobody else may read the file."""
    file = tmp_path / "users.json"
    with changing_users(file) as users:
        users["pia"] = make_user("pia", "publisher", ("foo", "lab-*"), "pässword")

    user = read_users(file)["pia"]

    assert ("pia", "publisher", ("foo", "lab-*")) == (user.name, user.role, user.roots)
    assert fits(user, "pässword".encode())
    assert not fits(user, b"password")
    assert "word" not in file.read_text().replace('"password"', "")
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert [file] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "EOF while parsing"),
        ("[]", "users.json: is damaged: .*"),
        ({}, "users: Field required"),
        ({"users": [entry(name="a/b")]}, "users.0.name: 'a/b' is not a user's name"),
        ({"users": [entry(name="anonymous")]}, "users.0.name: 'anonymous' stands for"),
        ({"users": [entry(role="root")]}, "users.0.role: Input should be"),
        ({"users": [entry(roots=["a/b"])]}, "users.0.roots.0: 'a/b' names no roots"),
        ({"users": [entry(password="secret")]}, "users.0.password: is not an argon2 hash"),
        ({"users": [entry(), entry()]}, "pia is there twice"),
    ],
)
def test_damaged_file(tmp_path: Path, content: object, told: str) -> None:
    """A damaged file is one line with the place and the remedy."""
    file = write(tmp_path / "users.json", content)

    with pytest.raises(SettingsError, match=told) as caught:
        read_users(file)

    assert f"users file {file}: is damaged: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_open_to_others(tmp_path: Path, mode: int) -> None:
    """A file that others may read or write is refused, with the remedy."""
    file = write(tmp_path / "users.json", {"users": []}, mode)

    with pytest.raises(SettingsError, match=rf"others may .* \(mode {mode:04o}\): chmod 600 {file}"):
        read_users(file)


def test_no_file(tmp_path: Path) -> None:
    """A missing file is one line with the remedy."""
    with pytest.raises(SettingsError, match="no such file: make it with: cat2bro user add"):
        read_users(tmp_path / "users.json")


def test_no_directory(tmp_path: Path) -> None:
    """A file whose directory is missing cannot be written, and says so."""
    with (
        pytest.raises(SettingsError, match="cannot be written: No such file or directory; make its directory"),
        changing_users(tmp_path / "none/users.json"),
    ):
        pass


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    """A change of a damaged file fails and leaves it as it is."""
    file = write(tmp_path / "users.json", "{")

    with pytest.raises(SettingsError, match="is damaged"), changing_users(file) as users:
        users.clear()

    assert "{" == file.read_text()


def test_an_error_changes_nothing(tmp_path: Path) -> None:
    """A change that fails half-way leaves the old file."""
    file = write(tmp_path / "users.json", {"users": [entry()]})

    with pytest.raises(KeyError), changing_users(file) as users:
        del users["pia"], users["nobody"]

    assert ["pia"] == list(read_users(file))


def test_changes_at_once(tmp_path: Path) -> None:
    """Of changes at the same time none is lost."""
    file = tmp_path / "users.json"

    def add(n: int) -> None:
        with changing_users(file) as users:
            users[f"u{n}"] = User(name=f"u{n}", role="observer", password=HASH)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {f"u{n}" for n in range(20)} == set(read_users(file))


def test_fingerprint(tmp_path: Path) -> None:
    """Every write shows, also one of the same size; so does a removal."""
    file = write(tmp_path / "users.json", {"users": []})
    seen = [fingerprint(file)]
    for name in ("a", "b"):
        with changing_users(file) as users:
            users.clear()
            users[name] = User(name=name, role="observer", password=HASH)
        seen.append(fingerprint(file))
    file.unlink()

    assert 4 == len({*seen, fingerprint(file)})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_leaves_the_file_to_the_daemon(tmp_path: Path) -> None:
    """What root changes, or makes, still belongs to whom the file, or its directory, belonged to."""
    os.chown(tmp_path, 65534, 65534)
    for _ in range(2):
        with changing_users(tmp_path / "users.json") as users:
            users[f"u{len(users)}"] = User(name=f"u{len(users)}", role="observer", password=HASH)

        assert (65534, 65534) == ((found := (tmp_path / "users.json").stat()).st_uid, found.st_gid)
        os.chown(tmp_path, 0, 0)


def test_the_password_is_not_shown() -> None:
    """Not even the hash appears where a user is printed."""
    assert "argon2" not in repr(make_user("a", "observer", (), "x"))
