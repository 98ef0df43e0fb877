"""Who asks: the value that every decision about a request starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a user who is logged in, or nobody in particular.

    Attributes:
        id: the UUID of the user; "" is anonymous.
        email: what the user logs in with.
        superuser: whether it may manage the others.
        scripted: whether it shows an access token, which is for data and not for accounts.
    """

    id: str = ""
    email: str = ""
    superuser: bool = False
    scripted: bool = False

    @property
    def known(self) -> bool:
        """Whether it is a user."""
        return bool(self.id)


ANONYMOUS: Final = Caller()
