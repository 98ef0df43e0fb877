"""caterva2.daemon.tokens: what the broker signed holds, and nothing else does."""

import base64
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from caterva2.daemon.tokens import MAX_TOKEN, Signer, UnknownKeyError, Verifier
from caterva2.errors import SettingsError, UnauthorizedError

KEY = Ed25519PrivateKey.generate()
SIGNER = Signer(KEY)
VERIFIER = Verifier(SIGNER.keys)
KID = SIGNER.keys[0]["kid"]


def part(value: object) -> str:
    """A part of a token, from JSON or bytes."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(**changed: object) -> dict[str, Any]:
    """Claims as the signer makes them, but for those that are changed; None leaves one out."""
    now = time.time()
    made = {"iss": "cat2bro", "sub": "alice", "aud": "root:foo", "iat": now, "exp": now + 600} | changed
    return {key: value for key, value in made.items() if value is not None}


def signed(payload: dict[str, Any], key: Any = KEY, alg: str = "EdDSA", kid: object = KID) -> str:
    """A token of any claims."""
    return jwt.encode(payload, key, alg, headers={"kid": kid} if kid is not None else {})


def with_hs256() -> str:
    """A token signed with the public key, as if that were a shared secret."""
    secret = base64.urlsafe_b64decode(SIGNER.keys[0]["x"] + "=")
    return jwt.encode(claims(), secret, "HS256", headers={"kid": KID})


def with_other_claims() -> str:
    """A good token whose claims are exchanged."""
    head, _, signature = SIGNER.issue("alice", "bar", 600).split(".")
    return f"{head}.{part(claims())}.{signature}"


def with_own_key() -> str:
    """A token that brings the key to check it with."""
    own = Ed25519PrivateKey.generate()
    return jwt.encode(claims(), own, "EdDSA", headers={"kid": KID, "jwk": Signer(own).keys[0]})


BAD: dict[str, Callable[[], str]] = {
    "of another root": lambda: SIGNER.issue("alice", "bar", 600),
    "expired": lambda: SIGNER.issue("alice", "foo", -61),
    "not yet valid": lambda: signed(claims(iat=time.time() + 120)),
    "not before": lambda: signed(claims(nbf=time.time() + 120)),
    "of another issuer": lambda: signed(claims(iss="mallory")),
    "without end": lambda: signed(claims(exp=None)),
    "that ends never": lambda: signed(claims(exp=float("inf"))),
    "without audience": lambda: signed(claims(aud=None)),
    "without user": lambda: signed(claims(sub=None)),
    "without time": lambda: signed(claims(iat=None)),
    "with a user that is none": lambda: signed(claims(sub="x") | {"exp": "soon"}),
    "of another key": lambda: signed(claims(), Ed25519PrivateKey.generate()),
    "with its own key": with_own_key,
    "of another kind of key": lambda: signed(claims(), ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "of the public key as secret": with_hs256,
    "with other claims": with_other_claims,
    "without algorithm": lambda: f"{part({'alg': 'none', 'kid': KID})}.{part(claims())}.",
    "with None for algorithm": lambda: f"{part({'alg': None, 'kid': KID})}.{part(claims())}.{part(b'x')}",
    "without signature": lambda: SIGNER.issue("alice", "foo", 600).rpartition(".")[0] + ".",
    "of two parts": lambda: SIGNER.issue("alice", "foo", 600).rpartition(".")[0],
    "with an unknown extension": lambda: jwt.encode(
        claims(), KEY, "EdDSA", headers={"kid": KID, "crit": ["x"], "x": 1}
    ),
    "with a number for kid": lambda: f"{part({'alg': 'EdDSA', 'kid': 1})}.{part(claims())}.{part(b'x' * 64)}",
    "with a list for kid": lambda: f"{part({'alg': 'EdDSA', 'kid': [KID]})}.{part(claims())}.{part(b'x' * 64)}",
    "that is a list": lambda: f"{part([1])}.{part([2])}.{part(b'x')}",
    "that is deep": lambda: f"{part(b'[' * 2500)}.{part([2])}.{part(b'x')}",
    "empty": lambda: "",
    "dots": lambda: "..",
    "garbage": lambda: "garbage",
    "not ASCII": lambda: "é.ü.\udc80",
    "bytes": lambda: f"{part(os.urandom(50))}.{part(os.urandom(50))}.{part(os.urandom(64))}",
    "longer than allowed": lambda: SIGNER.issue("a" * MAX_TOKEN, "foo", 600),
    "huge": lambda: "a" * 10_000_000,
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused(name: str) -> None:
    """Whatever is no token of the broker for this root, now, is refused, in one short line."""
    with pytest.raises(UnauthorizedError) as caught:
        VERIFIER.check(BAD[name](), "foo")

    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 300


def test_a_good_token_tells_its_user() -> None:
    """What the broker signed holds for its root; no name is the anonymous user."""
    assert ["alice", "anonymous"] == [VERIFIER.check(SIGNER.issue(user, "foo", 600), "foo") for user in ("alice", "")]


def test_clocks_may_differ_a_little() -> None:
    """A token that ended half a minute ago, or begins in half a minute, still holds."""
    assert "alice" == VERIFIER.check(SIGNER.issue("alice", "foo", -30), "foo")
    assert "alice" == VERIFIER.check(signed(claims(iat=time.time() + 30)), "foo")


def test_until_when_it_holds() -> None:
    """The end, leeway included, is told, so that nobody has to check again before."""
    vouched = VERIFIER.vouched(signed(claims(exp=2_000_000_000)), "foo")

    assert ("alice", 2_000_000_060.0) == (vouched.user, vouched.expires)


def test_an_unknown_key_is_told_apart() -> None:
    """A token of a key that is not known may be good; one of a known key that does not hold never is."""
    token = Signer(Ed25519PrivateKey.generate()).issue("alice", "foo", 600)

    for verifier in (VERIFIER, Verifier([])):
        with pytest.raises(UnknownKeyError):
            verifier.check(token, "foo")
    with pytest.raises(UnauthorizedError) as caught:
        VERIFIER.check(BAD["of another key"](), "foo")
    assert not isinstance(caught.value, UnknownKeyError)


def test_any_of_several_keys_counts() -> None:
    """While keys are being replaced, both count; keys of another kind, or of none, are passed over."""
    other = Signer(Ed25519PrivateKey.generate())
    foreign = [{"kty": "RSA"}, {}, {"kty": "OKP", "crv": "Ed25519"}, {"kty": "OKP", "crv": "Ed25519", "x": "é"}]
    verifier = Verifier([*foreign, *SIGNER.keys, *other.keys])

    assert ["a", "b"] == [
        verifier.check(SIGNER.issue("a", "foo", 60), "foo"), verifier.check(other.issue("b", "foo", 60), "foo")
    ]  # fmt: skip
    assert not Verifier(foreign)


def test_what_a_key_is_called_is_not_believed() -> None:
    """The kid that counts is the key's own thumbprint, so nobody can put a key under another's name."""
    mallory = Ed25519PrivateKey.generate()
    verifier = Verifier([*SIGNER.keys, Signer(mallory).keys[0] | {"kid": KID}])

    with pytest.raises(UnauthorizedError):
        verifier.check(signed(claims(), mallory), "foo")
    assert "alice" == verifier.check(signed(claims()), "foo")


def test_keys_are_those_of_the_rfc() -> None:
    """The JWK of RFC 8037's example key has the thumbprint that the RFC gives."""
    x = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    secret = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    (key,) = Signer(Ed25519PrivateKey.from_private_bytes(secret)).keys

    assert "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" == key["kid"]
    assert Ed25519PublicKey.from_public_bytes(x).public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    ) == base64.urlsafe_b64decode(key["x"] + "=")


def test_the_key_is_made_once(tmp_path: Path) -> None:
    """The first load makes the file, for its owner's eyes only; later ones read it."""
    file = tmp_path / "key.pem"
    first, again = Signer.load(file), Signer.load(file)

    assert first.keys == again.keys
    assert 0o600 == file.stat().st_mode & 0o777
    assert ["key.pem"] == [each.name for each in tmp_path.iterdir()]
    assert "alice" == Verifier(again.keys).check(first.issue("alice", "foo", 60), "foo")


def test_what_a_crash_left_is_no_obstacle(tmp_path: Path) -> None:
    """Half a key of an earlier run is written anew."""
    (tmp_path / "key.pem.partial").write_bytes(b"-----BEGIN")

    assert Signer.load(tmp_path / "key.pem").keys == Signer.load(tmp_path / "key.pem").keys


@pytest.mark.parametrize(
    ("content", "mode", "remedy"),
    [
        (b"garbage", 0o600, "remove it"),
        (b"", 0o600, "remove it"),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            0o600,
            "no private key of Ed25519",
        ),
        (
            KEY.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            0o640,
            "chmod 600",
        ),
    ],
)
def test_a_key_that_cannot_be_used(tmp_path: Path, content: bytes, mode: int, remedy: str) -> None:
    """A file that is no key, or that others may read, is named, with the remedy."""
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    file.chmod(mode)

    with pytest.raises(SettingsError, match=remedy) as caught:
        Signer.load(file)
    assert str(file) in caught.value.detail


def test_a_key_that_cannot_be_made(tmp_path: Path) -> None:
    """A directory that is not there is named, with the remedy."""
    with pytest.raises(SettingsError, match=r"none/key.pem: cannot be made: .* make its directory writable"):
        Signer.load(tmp_path / "none" / "key.pem")
