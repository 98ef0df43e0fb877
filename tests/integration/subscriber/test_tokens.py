"""Access tokens, and links for another password, on a running subscriber."""

import io
import re
import sqlite3
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from aiosmtpd.controller import Controller

import caterva2
from caterva2.cli.main import main
from caterva2.errors import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    SettingsError,
)
from caterva2.settings import load_subscriber
from caterva2.subscriber.mail import Mailer
from caterva2.subscriber.users import FILE, UserStore
from tests.integration.chain.daemons import PASSWORD, ROOT, Chain, add_users, open_chain
from tests.support.programs import free_port
from tests.support.waiting import wait_until

USER, ADMIN, LOST = "user@example.com", "admin@example.com", "lost@example.com"


class Box:
    """Takes in mail."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], str]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        """Keep a mail."""
        mail = message_from_bytes(envelope.content, policy=policy.default)
        self.mails.append((envelope.rcpt_tos, mail.get_content()))
        return "250 OK"


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """A mail server."""
    box = Box()
    box.port = free_port()  # type: ignore[attr-defined]
    controller = Controller(box, hostname="127.0.0.1", port=box.port)  # type: ignore[attr-defined]
    controller.start()
    yield box
    controller.stop()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, box: Box) -> Iterator[Chain]:
    """A chain with users, which sends mail."""
    directory = tmp_path_factory.mktemp("tokens")
    (directory / ROOT).mkdir()
    blosc2.asarray(np.arange(10), urlpath=str(directory / ROOT / "a.b2nd"))
    smtp = f"smtp://127.0.0.1:{box.port}"  # type: ignore[attr-defined]
    with open_chain(directory, secret="a secret of the tests", smtp=smtp, smtp_sender="cat2@example.com") as chain:
        chain.subscriber.settings = chain.subscriber.settings.model_copy(
            update={"urlbase": "https://sub.example.org/c"}
        )
        chain.start()
        add_users(chain, USER, LOST, superusers=[ADMIN])
        yield chain


def login(chain: Chain, mail: str, password: str = PASSWORD) -> caterva2.Client:
    """The client of a user."""
    return caterva2.Client(chain.subscriber.url, (mail, password))


@pytest.fixture
def user(chain: Chain) -> Iterator[caterva2.Client]:
    """A user without tokens."""
    with login(chain, USER) as client:
        for each in client.list_tokens():
            client.remove_token(each["id"])
        yield client


# -- access tokens ----------------------------------------------------------------------------------------


def test_a_token_reads_and_writes(chain: Chain, user: caterva2.Client) -> None:
    """Who shows a token is the user, in Python, to Blosc2, and as a bearer; it is in no list and in no file."""
    token = user.add_token("notebook", 30)
    with caterva2.Client(chain.subscriber.url, token) as scripted:
        scripted.upload(np.arange(5), "@personal/t.b2nd")
        shown = blosc2.C2Array("@personal/t.b2nd", chain.subscriber.url, scripted.cookie)[1:3]
    bearer = chain.http.get("/api/list/@personal", headers={"authorization": f"Bearer {token}"})
    (listed,) = user.list_tokens()
    stored = (chain.subscriber.settings.statedir / FILE).read_bytes()

    assert re.fullmatch(r"cat2_[\w-]{43}", token)
    assert [1, 2] == list(shown)
    assert ["t.b2nd"] == bearer.json()
    assert "notebook" == listed["name"]
    assert listed["used"] is not None
    assert token not in str(listed)
    assert token.encode() not in stored


def test_a_token_is_not_for_accounts(chain: Chain, user: caterva2.Client) -> None:
    """With a token nobody makes tokens, changes the password, logs out or manages users, not even a superuser."""
    with login(chain, ADMIN) as admin:
        tokens = [user.add_token("one"), admin.add_token("two")]
        for token in tokens:
            with caterva2.Client(chain.subscriber.url, token) as scripted:
                for refused in (
                    lambda: scripted.add_token("three"),
                    scripted.list_tokens,
                    lambda: scripted.remove_token("x"),
                    lambda: scripted.change_password(PASSWORD, "foobar12"),
                    lambda: scripted.adduser("x@example.com"),
                    lambda: scripted.deluser(LOST),
                    scripted.listusers,
                    lambda: scripted.make_reset_link(LOST),
                ):
                    with pytest.raises(ForbiddenError):
                        refused()
        for each in admin.list_tokens():
            admin.remove_token(each["id"])


def test_a_token_ends(chain: Chain, user: caterva2.Client) -> None:
    """A token ends at once when it is revoked, when its time is over, and with the password; others go on."""
    tokens = {name: user.add_token(name) for name in ("revoked", "over", "stays")}
    ids = {each["name"]: each["id"] for each in user.list_tokens()}
    user.remove_token(ids["revoked"])
    with sqlite3.connect(chain.subscriber.settings.statedir / FILE) as other:
        other.execute("UPDATE tokens SET expires = ? WHERE name = 'over'", (time.time() - 1,))

    def holds(name: str) -> bool:
        headers = {"authorization": f"Bearer {tokens[name]}"}
        return chain.http.get("/api/list/@personal", headers=headers).status_code == 200

    assert [False, False, True] == [holds(name) for name in tokens]
    user.change_password(PASSWORD, "foobar12")
    assert not holds("stays")
    user.change_password("foobar12", PASSWORD)


def test_tokens_are_the_users_own(chain: Chain, user: caterva2.Client) -> None:
    """Nobody sees or revokes the tokens of another user; those of a removed user end."""
    user.add_token("mine")
    (mine,) = user.list_tokens()
    with login(chain, ADMIN) as admin:
        admin.adduser("short@example.com", PASSWORD)
        with login(chain, "short@example.com") as other:
            assert [] == other.list_tokens()
            with pytest.raises(LookupError):
                other.remove_token(mine["id"])
            theirs = other.add_token("theirs")
            admin.deluser("short@example.com")
    assert 401 == chain.http.get("/api/roots", headers={"authorization": f"Bearer {theirs}"}).status_code


def test_refuses(chain: Chain, user: caterva2.Client) -> None:
    """Names come once, days are bounded, and what looks like a token is none."""
    user.add_token("twice")
    with pytest.raises(ConflictError, match="revoke it first"):
        user.add_token("twice")
    for name, days in (("", 1), ("x" * 101, 1), ("x", 0), ("x", 367)):
        assert user.cookie is not None
        answer = chain.http.post("/auth/tokens", json={"name": name, "days": days}, headers={"cookie": user.cookie})
        assert 422 == answer.status_code
    with pytest.raises(BadRequestError, match="begins with cat2_"):
        caterva2.Client(chain.subscriber.url, "ey.a.b")
    for wrong in ("cat2_", "cat2_x", f"cat2_{'x' * 5000}", "cat2_\u00e9"):
        answer = chain.http.get("/api/roots", headers={"authorization": f"Bearer {wrong}".encode()})
        assert 401 == answer.status_code


def test_commands(
    chain: Chain,
    user: caterva2.Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """`cat2cli token` makes, lists and revokes; CATERVA2_CLIENT_TOKEN and --password-file stand for a login."""
    monkeypatch.setenv("CATERVA2_CLIENT_SUBSCRIBER", chain.subscriber.url)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "pw").write_text(f"{PASSWORD}\nmore\n")
    (tmp_path / "empty").write_text("\n")
    me = ["--username", USER, "--password-file", str(tmp_path / "pw")]
    assert 0 == main([*me, "token", "add", "script", "--days", "3"])
    token = capsys.readouterr().out.strip()
    monkeypatch.setenv("CATERVA2_CLIENT_TOKEN", token)
    assert 0 == main(["list", "@personal"])
    assert 6 == main(["token", "list"])
    monkeypatch.delenv("CATERVA2_CLIENT_TOKEN")
    capsys.readouterr()
    assert 0 == main([*me, "token", "list"])
    assert "script" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\nfoobar12\n"))
    assert 0 == main([*me, "passwd"])
    monkeypatch.setattr("sys.stdin", io.StringIO(f"foobar12\n{PASSWORD}\n"))
    assert 0 == main(["--username", USER, "--password", "foobar12", "passwd"])
    assert 0 == main([*me, "token", "add", "script"])
    assert 0 == main([*me, "token", "remove", "script"])
    assert 3 == main([*me, "token", "remove", "script"])
    assert 2 == main(["--username", USER, "--password-file", str(tmp_path / "empty"), "token", "list"])
    assert "is empty" in capsys.readouterr().err


# -- another password ------------------------------------------------------------------------------------


def test_a_link_sets_another_password_once(chain: Chain) -> None:
    """A superuser's link sets a password, once, ends all logins, and is replaced by a later one."""
    with login(chain, ADMIN) as admin, login(chain, LOST) as lost, caterva2.Client(chain.subscriber.url) as nobody:
        early, link = admin.make_reset_link(LOST), admin.make_reset_link(LOST)
        assert link.startswith("https://sub.example.org/c/reset-password#")
        with pytest.raises(BadRequestError, match="RESET_PASSWORD_BAD_TOKEN"):
            nobody.reset_password(early, "foobar22")
        with pytest.raises(BadRequestError, match="RESET_PASSWORD_INVALID_PASSWORD"):
            nobody.reset_password(link, "short")
        nobody.reset_password(link, "foobar22")
        with pytest.raises(BadRequestError, match="RESET_PASSWORD_BAD_TOKEN"):
            nobody.reset_password(link, "foobar33")
        with pytest.raises((AuthenticationError, NotFoundError), match="needs authentication"):
            lost.get_list("@personal")
        with pytest.raises(BadRequestError, match="there is no user"):
            admin.make_reset_link("nobody@example.com")
    with login(chain, LOST, "foobar22") as lost:
        lost.change_password("foobar22", PASSWORD)


def test_a_link_ends(chain: Chain) -> None:
    """A link whose time is over sets nothing."""
    with login(chain, ADMIN) as admin, caterva2.Client(chain.subscriber.url) as nobody:
        link = admin.make_reset_link(LOST)
        with sqlite3.connect(chain.subscriber.settings.statedir / FILE) as other:
            other.execute("UPDATE resets SET expires = ?", (time.time() - 1,))
        with pytest.raises(BadRequestError, match="RESET_PASSWORD_BAD_TOKEN"):
            nobody.reset_password(link, "foobar22")


def test_mail(chain: Chain, box: Box) -> None:
    """Who asks gets a mail with a link if there is such a user; the answer is the same if not."""
    answers = [chain.http.post("/auth/forgot-password", json={"email": mail}) for mail in (LOST, "nobody@example.com")]
    wait_until(lambda: box.mails, "the mail")
    ((to, text),) = box.mails
    found = re.search(r"https://sub\.example\.org/c/reset-password#\S+", text)
    assert found is not None
    with caterva2.Client(chain.subscriber.url) as nobody:
        nobody.reset_password(found.group(), PASSWORD)

    assert [(202, b"null")] * 2 == [(each.status_code, each.content) for each in answers]
    assert [LOST] == to


def test_too_many_questions(chain: Chain) -> None:
    """Nobody's box is filled: further questions are refused."""
    codes = [chain.http.post("/auth/forgot-password", json={"email": "many@example.com"}).status_code for _ in range(5)]

    assert [202, 202, 202, 429, 429] == codes


def test_without_mail(tmp_path: Path) -> None:
    """Where no mail is sent that is said; settings that are not complete are refused."""
    with pytest.raises(SettingsError, match="urlbase: is missing"):
        Mailer.of(load_subscriber({}, {"CATERVA2_SUBSCRIBER_SMTP": "smtp://x"}, tmp_path))
    with pytest.raises(SettingsError, match="is not the URL of a server"):
        Mailer.of(load_subscriber({}, {"CATERVA2_SUBSCRIBER_SMTP": "http://x"}, tmp_path))
    assert Mailer.of(load_subscriber({}, {}, tmp_path)) is None


def test_the_store_grows_with_the_version(tmp_path: Path) -> None:
    """A store of the first version gets the tables that it lacks, and keeps its users."""
    with UserStore(tmp_path / FILE) as store:
        store.add(USER, "hash")
    with sqlite3.connect(tmp_path / FILE) as old:
        old.executescript("DROP TABLE tokens; DROP TABLE resets; PRAGMA user_version = 1")
    old.close()
    with UserStore(tmp_path / FILE) as store:
        user = store.find(USER)
        assert user is not None
        store.add_token(user.id, b"digest", "name", time.time() + 10, most=1)

        assert ["name"] == [each.name for each in store.tokens(user.id)]
