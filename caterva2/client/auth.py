"""Users, in the forms that upstream's functions and its `Client` take."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from caterva2.errors import BadRequestError


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """A user's name and password.

    Attributes:
        username: usually an e-mail address.
        password: never shown in the object's representation.
    """

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """The value of the header `Authorization` that shows them (RFC 7617)."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"

    @classmethod
    def of(cls, auth: Auth) -> Self:
        """Accept what upstream's functions accept: a pair, or a mapping with username and password."""
        if isinstance(auth, BasicAuth):
            return cls(auth.username, auth.password)
        if isinstance(auth, Mapping):
            if "username" not in auth or "password" not in auth:
                raise BadRequestError("authentication needs a username and a password")
            return cls(auth["username"], auth["password"])
        username, password = auth
        return cls(username, password)


TOKEN_PREFIX: Final = "cat2_"  # noqa: S105 - what anybody may know
"""What access tokens begin with."""


Auth = BasicAuth | tuple[str, str] | Mapping[str, str]
