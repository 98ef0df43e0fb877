"""The one place that decides who may read and write what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from caterva2.errors import AuthenticationError, BadRequestError, Caterva2Error, ForbiddenError
from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.access import AccessRules
from caterva2.subscriber.callers import Caller

Action = Literal["read", "write"]
PUBLIC: Final = "@public"
OWN: Final = frozenset({PUBLIC, "@shared", "@personal"})
"""The subscriber's own roots."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """Who may do what.

    Published roots are read by everyone and written by nobody; `@public` is read by everyone and written by users;
    `@shared` and `@personal`, of which each user has an own one, are the users'. Rules may say who reads parts of what
    is published and of `@public`; superusers read all of that.

    Args:
        users: whether there are users at all; without them everything is as open as it is, and nothing is written.
        rules: who reads what.
    """

    users: bool
    rules: AccessRules = field(default_factory=AccessRules)

    def check(self, caller: Caller, action: Action, path: DatasetPath) -> None:
        """Let the caller do it, or raise.

        Raises:
            AuthenticationError: if a user could.
            ForbiddenError: if this user may not, or nobody can, since there are no users.
            BadRequestError: if nobody can, as nobody writes into a published root.
        """
        if action == "read":
            self._check_read(caller, path)
        else:
            self._check_write(caller, path)

    def allows(self, caller: Caller, action: Action, path: DatasetPath) -> bool:
        """Whether the caller may do it."""
        try:
            self.check(caller, action, path)
        except Caterva2Error:
            return False
        return True

    def check_root(self, caller: Caller, root: RootName) -> None:
        """Let the caller know of a root, of which it may read at least a part, or raise.

        Raises:
            AuthenticationError: if a user could.
            ForbiddenError: if this user may not.
        """
        self._check_own(caller, root)
        if not self.rules.shows(caller, root):
            raise self._refusal(caller, root)

    def shows(self, caller: Caller, root: RootName) -> bool:
        """Whether the caller may know of a root."""
        try:
            self.check_root(caller, root)
        except Caterva2Error:
            return False
        return True

    def check_all(self, caller: Caller, path: DatasetPath, names: Iterable[str]) -> None:
        """Let the caller do something with all that is in a folder, or raise.

        Raises:
            ForbiddenError: if it may not read some of it.
        """
        for name in () if self.rules.whole(caller, path.root) else names:
            self._check_read(caller, DatasetPath(path.root, f"{path.name}/{name}"))

    def readable(self, caller: Caller, root: RootName, names: Iterable[str], folder: str = "") -> list[str]:
        """Those of some paths, below a folder of a root, that the caller may read."""
        if self.rules.whole(caller, root):
            return list(names)
        above = f"{folder}/" if folder else ""
        return [name for name in names if self.rules.lets(caller, DatasetPath(root, above + name))]

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

    def _check_read(self, caller: Caller, path: DatasetPath) -> None:
        self._check_own(caller, path.root)
        if not self.rules.lets(caller, path):
            raise self._refusal(caller, path)

    def _refusal(self, caller: Caller, what: object) -> Caterva2Error:
        if caller.known:
            return ForbiddenError(f"{caller.email} may not read {what}")
        return AuthenticationError(f"{what} needs authentication")

    def _check_own(self, caller: Caller, root: RootName) -> None:
        # Without users there is nobody whom the others could belong to: they are not there.
        if self.users and root.own and root != PUBLIC and not caller.known:
            raise AuthenticationError(f"{root} needs authentication")

    def _check_write(self, caller: Caller, path: DatasetPath) -> None:
        if not self.users:
            raise ForbiddenError(
                "this subscriber has no users, so nothing is written: start it with CATERVA2_SECRET set"
            )
        if not caller.known:
            raise AuthenticationError("Unauthorized")
        if path.root not in OWN:
            raise BadRequestError("Only @personal or @shared or @public roots can be modified")
        if not self.rules.lets(caller, path):
            raise self._refusal(caller, path)
