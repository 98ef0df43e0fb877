"""caterva2.publisher.guard: who may read."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from caterva2.address import Address
from caterva2.daemon.tokens import Signer, Verifier
from caterva2.errors import SettingsError, UnauthorizedError
from caterva2.publisher.guard import Guard, Policy
from caterva2.settings import PublisherSettings

FIXED = "0123456789abcdef"
SIGNER = Signer(Ed25519PrivateKey.generate())


class Keys:
    """The keys of a broker that answers at once, and counts how often it is asked."""

    def __init__(self, signer: Signer = SIGNER) -> None:
        self.verifier = Verifier(signer.keys)
        self.next: Signer | None = None
        self.asked = 0

    async def refresh(self) -> bool:
        self.asked += 1
        if self.next is not None:
            self.verifier = Verifier(self.next.keys)
        return True


def guard(keys: Keys | None = None, fixed: str = "", now: Any = time.time) -> Guard:
    """A guard of the root foo."""
    return Guard("foo", fixed, keys, now)  # type: ignore[arg-type]


def good(found: Guard, header: str | None) -> bool:
    """Whether a guard lets someone in."""
    try:
        asyncio.run(found.check(header.encode("latin-1") if header is not None else None))
    except UnauthorizedError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "settings", "is_open"),
    [
        ("localhost", {}, True),
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("localhost", {"urlbase": "http://localhost:9"}, True),
        ("localhost", {"urlbase": "https://pub.example.org/foo"}, False),
        ("", {}, False),
        ("0.0.0.0", {}, False),  # noqa: S104
        ("::", {}, False),
        ("192.168.1.7", {}, False),
        ("pub.example.org", {}, False),
        ("localhost.example.org", {}, False),
        ("", {"access": "open"}, True),
        ("localhost", {"access": "token"}, False),
    ],
)
def test_policy(tmp_path: Path, host: str, settings: dict[str, Any], is_open: bool) -> None:  # noqa: FBT001
    """By itself it is open for this machine only; a proxy, which brings others, counts as they do."""
    made = PublisherSettings(name="foo", root=tmp_path, **settings)

    assert is_open is Policy.of(made, Address(host, 1)).open


def test_a_unix_socket_belongs_to_its_proxy(tmp_path: Path) -> None:
    """Who announces a proxy before a unix socket is reached by all that the proxy brings."""
    made = PublisherSettings(name="foo", root=tmp_path, urlbase="https://pub.example.org")

    assert not Policy.of(made, Address(socket=tmp_path / "x")).open


def test_nobody_could_read(tmp_path: Path) -> None:
    """Without a broker and without a token of its own, a token that is wanted is a mistake."""
    made = PublisherSettings(name="foo", root=tmp_path, broker="", access="token")

    with pytest.raises(SettingsError, match=r"publisher\.access: nobody could read: .* set token, or access to open"):
        Policy.of(made, Address("localhost", 1))
    assert not Policy.of(made.model_copy(update={"token": FIXED}), Address("localhost", 1)).open


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", FIXED, f"Basic {FIXED}", f"Bearer {FIXED}x", f"Bearer {FIXED[:-1]}", "Bearer é",
     f"Bearer {FIXED} {FIXED}", f"Bearer\t{FIXED}", f"Token {FIXED}", "Bearer " + "x" * 100_000],
)  # fmt: skip
def test_other_than_the_fixed_token(header: str | None) -> None:
    """Anything but `Bearer` and the very token is refused, with a broker and without."""
    assert not good(guard(fixed=FIXED), header)
    assert not good(guard(Keys(), FIXED), header)


def test_the_fixed_token() -> None:
    """It lets in, beside those of the broker; the scheme may be written as one likes. Without one, none is empty."""
    assert good(guard(fixed=FIXED), f"Bearer {FIXED}")
    assert good(guard(Keys(), FIXED), f"bEARER {FIXED}")
    assert good(guard(Keys(), FIXED), f"Bearer {SIGNER.issue('a', 'foo', 60)}")
    assert not good(guard(Keys()), f"Bearer {FIXED}")


def test_a_good_token_is_remembered_until_it_expires() -> None:
    """The signature is checked once; after the end of the token, by the clock, it is not known any more."""
    clock = [time.time()]
    found = guard(Keys(), now=lambda: clock[0])
    header = f"Bearer {SIGNER.issue('a', 'foo', 600)}"
    assert not found.knows(header.encode())
    assert good(found, header)

    assert found.knows(header.encode())
    clock[0] += 661.1
    assert not found.knows(header.encode())


def test_bad_tokens_are_not_remembered() -> None:
    """Neither a token of another root, nor nothing at all."""
    found = guard(Keys(), FIXED)
    other = f"Bearer {SIGNER.issue('a', 'bar', 600)}"
    assert not good(found, other)

    assert [False, False, False] == [found.knows(each) for each in (other.encode(), None, b"")]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More good tokens than are remembered let in all the same; the expired ones make room."""
    monkeypatch.setattr("caterva2.publisher.guard._MOST_KNOWN", 2)
    clock = [time.time()]
    found = guard(Keys(), now=lambda: clock[0])
    headers = [f"Bearer {SIGNER.issue(user, 'foo', 600)}" for user in "abc"]
    assert [True] * 3 == [good(found, header) for header in headers]
    assert [True, True, False] == [found.knows(header.encode()) for header in headers]
    clock[0] += 661.1
    late = f"Bearer {SIGNER.issue('d', 'foo', 600)}"
    assert good(found, late)

    clock[0] -= 661.1
    assert [False, False, False, True] == [found.knows(header.encode()) for header in [*headers, late]]


def test_a_new_key_is_asked_for() -> None:
    """A token of a key that is not known makes it ask the broker, once; a bad one of a known key does not."""
    keys, other = Keys(), Signer(Ed25519PrivateKey.generate())
    found = guard(keys)
    assert not good(found, f"Bearer {SIGNER.issue('a', 'bar', 60)}")
    assert 0 == keys.asked
    keys.next = other

    assert good(found, f"Bearer {other.issue('a', 'foo', 60)}")
    assert 1 == keys.asked
    assert not good(found, f"Bearer {SIGNER.issue('a', 'foo', 60)}")


def test_what_was_good_is_checked_again_with_new_keys() -> None:
    """When the broker has other keys, nothing is taken for good that the old ones signed."""
    keys = Keys()
    found = guard(keys)
    header = f"Bearer {SIGNER.issue('a', 'foo', 60)}"
    assert good(found, header)
    found.forget()

    assert not found.knows(header.encode())
    keys.next = Signer(Ed25519PrivateKey.generate())
    keys.verifier = Verifier(keys.next.keys)
    assert not good(found, header)
