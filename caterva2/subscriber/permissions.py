"""The one place that decides who may read and write what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from caterva2.errors import AuthenticationError, BadRequestError, Caterva2Error, ForbiddenError
from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.callers import Caller

Action = Literal["read", "write"]
PUBLIC: Final = "@public"
OWN: Final = frozenset({PUBLIC, "@shared", "@personal"})
"""The subscriber's own roots."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """Who may do what.

    Published roots are read by everyone and written by nobody; `@public` is read by everyone and written by users;
    `@shared` and `@personal`, of which each user has an own one, are the users'.

    Args:
        users: whether there are users at all; without them everything is as open as it is, and nothing is written.
    """

    users: bool

    def check(self, caller: Caller, action: Action, path: DatasetPath) -> None:
        """Let the caller do it, or raise.

        Raises:
            AuthenticationError: if a user could.
            ForbiddenError: if nobody can, since there are no users.
            BadRequestError: if nobody can, as nobody writes into a published root.
        """
        if action == "read":
            self._check_read(caller, path.root)
        else:
            self._check_write(caller, path.root)

    def allows(self, caller: Caller, action: Action, path: DatasetPath) -> bool:
        """Whether the caller may do it."""
        try:
            self.check(caller, action, path)
        except Caterva2Error:
            return False
        return True

    def check_superuser(self, caller: Caller, what: str = "manage users") -> None:
        """Let the caller do what only superusers do, or raise.

        Raises:
            AuthenticationError: if it is not logged in.
            ForbiddenError: if it is no superuser.
        """
        if not caller.known:
            raise AuthenticationError("Unauthorized")
        if not caller.superuser:
            raise ForbiddenError(f"{caller.email} is no superuser: only those {what}")

    def check_operator(self, caller: Caller, *, local: bool) -> None:
        """Let the caller see how the subscriber is, or raise; without users whoever is on its machine may.

        Args:
            caller: who asks.
            local: whether the request comes from the subscriber's own machine, and through no proxy.

        Raises:
            AuthenticationError: if it is not logged in.
            ForbiddenError: if it is no superuser, or is elsewhere.
        """
        if self.users:
            self.check_superuser(caller, "see the status")
        elif not local:
            raise ForbiddenError("this subscriber has no users: its status is shown on its own machine only")

    def _check_read(self, caller: Caller, root: RootName) -> None:
        # Without users there is nobody whom the others could belong to: they are not there.
        if self.users and root.own and root != PUBLIC and not caller.known:
            raise AuthenticationError(f"{root} needs authentication")

    def _check_write(self, caller: Caller, root: RootName) -> None:
        if not self.users:
            raise ForbiddenError(
                "this subscriber has no users, so nothing is written: start it with CATERVA2_SECRET set"
            )
        if not caller.known:
            raise AuthenticationError("Unauthorized")
        if root not in OWN:
            raise BadRequestError("Only @personal or @shared or @public roots can be modified")
