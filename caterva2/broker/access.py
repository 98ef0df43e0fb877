"""Who may come in, and do what: `bus.access.Access` for the product, on the rules, the users and the owners of roots.

What the broker asks of a message or a subscription is answered from memory. Only `admit` waits, for the check of a
password.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from bus.access import Credentials, Member
from bus.topics import ChangeTopic, RootTopic, Topics
from caterva2.broker import rules
from caterva2.broker.passwords import Passwords
from caterva2.broker.rules import ANONYMOUS, Rights
from caterva2.broker.users import Users

logger = logging.getLogger(__name__)
_NOBODY = Rights("", "observer")


class Owners(Protocol):
    """Whom roots belong to."""

    def owner(self, root: str) -> str | None:
        """The user that a root belongs to, if it belongs to one."""

    def claim(self, root: str, user: str) -> bool:
        """Let a root that belongs to nobody belong to a user; whether that was possible."""


class BrokerAccess:
    """The rules of cat2bro.

    Args:
        topics: the topics of the bus.
        owners: knows whom roots belong to, and remembers it.
        passwords: checks them.
        users: by name.
        anonymous: whether clients without a name may come in; None: those on this machine.

    Attributes:
        on_claim: called when a root has got an owner.
    """

    def __init__(
        self,
        topics: Topics,
        owners: Owners,
        passwords: Passwords,
        *,
        users: Users | None = None,
        anonymous: bool | None = None,
    ) -> None:
        self._topics = topics
        self._owners = owners
        self._passwords = passwords
        self._users: Mapping[str, Rights] = {}
        self._known: Users = {}
        self._anonymous = anonymous
        self.on_claim: Callable[[], None] = lambda: None
        self._open = tuple(f"{topics.prefix}/{kind}/" for kind in ("root", "change", "service"))
        self.replace(users or {})

    def replace(self, users: Users) -> None:
        """Go by these users from now on."""
        self._known = users
        self._users = {name: user.rights for name, user in users.items()}

    def outdated(self, users: Users) -> set[str]:
        """The names of those who are not the same among these users, or not there."""
        return {name for name, user in self._known.items() if users.get(name) != user}

    @property
    def has_users(self) -> bool:
        """Whether anybody can come in under a name."""
        return bool(self._known)

    def has_user(self, name: str) -> bool:
        """Whether there is a user of this name."""
        return name in self._known

    def lets_in_unnamed(self, *, local: bool) -> bool:
        """Whether a client without a name may come in.

        Args:
            local: whether it is on this machine.
        """
        return local if self._anonymous is None else self._anonymous

    async def authenticate(self, name: str, password: bytes) -> Rights | None:
        """Who has this name and password; None if nobody has."""
        user = await self._passwords.check(self._known, name, password)
        # The users may have changed while we waited.
        return user.rights if user is not None and self._known.get(name) == user else None

    # What the broker asks

    async def admit(self, credentials: Credentials) -> Member | None:
        """Who this is: by name and password, by certificate, or unnamed; None if it may not come in."""
        found = await self._identify(credentials)
        if isinstance(found, str):
            # The broker logs that it is refused; which of the two was wrong is for who looks for it alone.
            logger.debug("client %.80r at %s is refused: %s", credentials.client_id, credentials.peer, found)
            return None
        return Member(found.name, found.role)

    async def _identify(self, shown: Credentials) -> Rights | str:
        """Who this is, or why it may not come in."""
        if shown.certificate and shown.password is None and (shown.username or shown.certificate) == shown.certificate:
            named = self._users.get(shown.certificate)
            if named is not None:
                return named
        if shown.username:
            if shown.password is None:
                return f"user {shown.username!r} shows no password"
            user = await self.authenticate(shown.username, shown.password)
            known = shown.username in self._known
            return user or (f"wrong password of {shown.username}" if known else f"no user {shown.username[:64]!r}")
        if self.lets_in_unnamed(local=shown.local):
            return Rights("", ANONYMOUS)
        return "it has no user name, and only clients on this machine may do without ([broker] anonymous, users)"

    def may_publish(self, member: Member, topic: str) -> str | None:
        """None if it may, else why not. The first user that may announce a root owns it from then on."""
        target = rules.address_of(self._topics, topic)
        root = target.name if isinstance(target, RootTopic | ChangeTopic) else None
        owner = self._owners.owner(root) if root is not None else None
        reason = rules.may_publish(self._rights(member), target, owner)
        if reason is None and owner is None and isinstance(target, RootTopic) and member.name:
            return self._claim(target.name, member.name)
        return reason

    def _claim(self, root: str, user: str) -> str | None:
        if not self._owners.claim(root, user):
            return "too many roots have an owner already"
        logger.info("root %s belongs to %s from now on", root, user)
        self.on_claim()
        return None

    def may_subscribe(self, member: Member, filter: str) -> str | None:
        """None if it may, else why not."""
        return rules.may_subscribe(self._rights(member), self._topics, filter)

    def guarded(self, topic: str) -> bool:
        """Whether each delivery is asked about: whatever is not for all readers."""
        return not topic.startswith(self._open)

    def may_receive(self, member: Member, topic: str) -> bool:
        """Whether it gets what is published to a guarded topic."""
        return rules.may_receive(self._rights(member), self._topics, topic)

    def _rights(self, member: Member) -> Rights:
        if not member.name:
            return Rights("", ANONYMOUS)
        # Gone meanwhile, and about to be cut off.
        return self._users.get(member.name, _NOBODY)
