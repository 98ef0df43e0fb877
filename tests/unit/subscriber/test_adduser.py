"""`cat2sub adduser` and `passwd`."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from caterva2.subscriber.main import main
from caterva2.subscriber.users import FILE, UserStore

Cat2sub = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cat2sub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cat2sub:
    """Runs `cat2sub` in a directory of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str, stdin: str = "foobar11\n") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            status = main([*argv])
        except SystemExit as ended:
            status = int(ended.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_the_first_superuser(cat2sub: Cat2sub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It adds the user to the daemon's statedir, says so, and what is missing for a login."""
    assert (0, "superuser a@example.com is added\n") == cat2sub("adduser", "--superuser", "a@example.com")[:2]
    monkeypatch.setenv("CATERVA2_SECRET", "sikrit")
    assert (0, "user b@example.com is added\n", "") == cat2sub("adduser", "b@example.com")
    assert 0 == cat2sub("--statedir", "other", "adduser", "c@example.com")[0]

    with UserStore(tmp_path / "_caterva2/sub" / FILE) as store:
        assert [True, False] == [user.superuser for user in store.users()]
        assert all(user.password.startswith("$argon2id$") for user in store.users())
    assert (tmp_path / "other" / FILE).exists()


def test_another_password(cat2sub: Cat2sub, tmp_path: Path) -> None:
    """`passwd` replaces the password of a user, who must be there."""
    cat2sub("adduser", "a@example.com")
    with UserStore(tmp_path / "_caterva2/sub" / FILE) as store:
        before = store.users()[0]
        assert 0 == cat2sub("passwd", "A@example.com", stdin="another password")[0]

        assert before.password != store.users()[0].password
        assert before.id == store.users()[0].id
    assert "there is no user b@example.com" in cat2sub("passwd", "b@example.com")[2]


def test_without_a_secret(cat2sub: Cat2sub) -> None:
    """Where nobody could log in it says why."""
    assert "CATERVA2_SECRET" in cat2sub("adduser", "a@example.com")[2]


@pytest.mark.parametrize(
    ("args", "stdin", "told"),
    [
        (["a@example.com"], "foobar1\n", "at least 8 characters"),
        (["a@example.com"], "", "the password on stdin: is empty"),
        (["a"], "foobar11\n", "'a' is not a valid email address"),
        (["a@example.com", "--password-file", "no"], "", "--password-file no: cannot be read"),
        ([], "", "the following arguments are required: EMAIL"),
    ],
)
def test_errors(cat2sub: Cat2sub, args: list[str], stdin: str, told: str) -> None:
    """What cannot be done is one line, and status 2."""
    status, out, err = cat2sub("adduser", *args, stdin=stdin)

    assert (2, "", 1) == (status, out, err.count("\n"))
    assert told in err


def test_twice(cat2sub: Cat2sub) -> None:
    """A user who is there is not added again."""
    cat2sub("adduser", "a@example.com")

    assert "there is a user A@example.com already" in cat2sub("adduser", "A@example.com")[2]
