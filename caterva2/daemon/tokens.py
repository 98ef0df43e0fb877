"""Tokens that cat2bro signs, subscribers show, and publishers check.

A token (a JWT, RFC 7519) says that a user of the bus may read one root until a time::

    header  {"alg": "EdDSA", "kid": "..."}
    claims  {"iss": "cat2bro", "sub": "<user>", "aud": "root:<root>", "iat": ..., "exp": ...}

The broker alone has the private key; the public ones travel as JWKs (RFC 7517, RFC 8037) in `GET /api/bus`. What a
token says of its algorithm is not believed: it is Ed25519, or it is refused.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.utils import base64url_decode, base64url_encode

from caterva2.errors import SettingsError, UnauthorizedError

MAX_TOKEN: Final = 4096
"""Characters of a token, as of one in a `TokenGrant`; a longer one is refused unread."""
MAX_KEYS: Final = 16
"""Public keys that a verifier takes: the present one, and some that are being replaced."""
ANONYMOUS: Final = "anonymous"
"""The user of tokens for those who joined the bus without a name."""
_ALGORITHM: Final = "EdDSA"
_ISSUER: Final = "cat2bro"
_LEEWAY: Final = 60.0  # seconds that the clocks of two machines may differ
_CLAIMS: Final = ["iss", "sub", "aud", "iat", "exp"]


class UnknownKeyError(UnauthorizedError):
    """A token that names a key which is not known here: it is forged, or the keys are out of date."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What a good token says.

    Attributes:
        user: who it was issued to.
        expires: until when it holds, in seconds since 1970, the leeway included.
    """

    user: str
    expires: float


class Signer:
    """Issues tokens.

    Args:
        key: the private key.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = _jwk(key.public_key())

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the private key from a file, which only its owner may read; make one when there is none.

        Raises:
            SettingsError: if it cannot be read or made, is no such key, or is open to others.
        """
        try:
            return cls(_read_key(file))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise SettingsError(f"{file}: cannot be read: {error.strerror}; make it readable") from error
        try:
            _write_key(file)
            return cls(_read_key(file))
        except OSError as error:
            raise SettingsError(f"{file}: cannot be made: {error.strerror}; make its directory writable") from error

    @property
    def keys(self) -> list[dict[str, str]]:
        """The public keys as JWKs, for `Verifier`."""
        return [dict(self._public)]

    def issue(self, user: str, root: str, lifetime: float) -> str:
        """Make a token.

        Args:
            user: of the bus; "" is anonymous.
            root: the one that may be read with it.
            lifetime: seconds.
        """
        now = time.time()
        claims = {"iss": _ISSUER, "sub": user or ANONYMOUS, "aud": f"root:{root}", "iat": now, "exp": now + lifetime}
        return jwt.encode(claims, self._key, _ALGORITHM, headers={"kid": self._public["kid"]})


class Verifier:
    """Checks tokens against public keys; keys of another kind are passed over.

    Args:
        keys: the JWKs, as `Signer.keys` gives them.
    """

    def __init__(self, keys: Sequence[dict[str, Any]]) -> None:
        found = (_public_key(key) for key in keys[:MAX_KEYS])
        self._keys = {_jwk(key)["kid"]: key for key in found if key is not None}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, token: str, root: str) -> str:
        """Return the user that a token was issued to, for this root.

        Raises:
            UnauthorizedError: if it does not hold; UnknownKeyError, if other keys might tell otherwise.
        """
        return self.vouched(token, root).user

    def vouched(self, token: str, root: str) -> Vouched:
        """Return what a token says; as `check`."""
        if len(token) > MAX_TOKEN:
            raise UnauthorizedError(f"the token is longer than {MAX_TOKEN} characters")
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                audience=f"root:{root}",
                leeway=_LEEWAY,
                options={"require": _CLAIMS},
            )
        except jwt.ExpiredSignatureError:
            raise UnauthorizedError("the token has expired: is the subscriber's clock, or ours, wrong?") from None
        except jwt.InvalidAudienceError:
            raise UnauthorizedError(f"the token is not one for root {root}") from None
        # Whatever a token makes the library raise, it is a bad token: ValueError comes with text that is not ASCII.
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise UnauthorizedError(f"the token does not hold: {_in_a_line(error)}") from None
        return Vouched(claims["sub"], float(claims["exp"]) + _LEEWAY)

    def _key(self, kid: object) -> Ed25519PublicKey:
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise UnknownKeyError("the token is signed with a key that is not one of the broker's")
        return key


def _read_key(file: Path) -> Ed25519PrivateKey:
    with file.open("rb") as opened:
        if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
            raise SettingsError(f"{file}: others may read this private key: chmod 600 {file}")
        text = opened.read(MAX_TOKEN)
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{file}: is no private key of Ed25519 in PEM: remove it, and another one is made")
    return key


def _write_key(file: Path) -> None:
    """Make a key; whoever reads at the same time sees none, or the whole of it."""
    text = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:  # noqa: PTH123
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    partial.replace(file)


def _jwk(key: Ed25519PublicKey) -> dict[str, str]:
    """The public key as a JWK; its `kid` is the thumbprint (RFC 7638), so that a key has one name everywhere."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    x = base64url_encode(raw).decode()
    thumbprint = sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest()
    kid = base64url_encode(thumbprint).decode()
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": _ALGORITHM}


def _public_key(jwk: dict[str, Any]) -> Ed25519PublicKey | None:
    if (jwk.get("kty"), jwk.get("crv")) != ("OKP", "Ed25519"):
        return None
    try:
        return Ed25519PublicKey.from_public_bytes(base64url_decode(str(jwk.get("x"))))
    except ValueError:
        return None


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
