"""Rules for who may read what is published, as `[subscriber.access]` states them.

A rule has a pattern, a root's name or a path with `*` (any text in one name) and `**` (any number of names), and
readers: everybody (`anonymous`), all who are logged in (`users`), or a list of e-mail addresses and groups (`@lab`). A
pattern covers what is below it too: a rule for folders keeps what is in them. Of the rules that cover a path the most
specific one counts alone: the one with more names before its first wildcard, then the one with more names, then the
longer one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from caterva2.errors import SettingsError
from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.callers import Caller

Readers = str | Sequence[str]
"""`anonymous`, `users`, or e-mail addresses and groups."""

ANYBODY: Final = "anonymous"
USERS: Final = "users"
_PUBLIC: Final = "@public"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may read the paths that a pattern covers.

    Attributes:
        pattern: as it was written.
        names: the expression for what is below the root.
        anybody: whether everybody may.
        users: the addresses of those who may; None is every user.
    """

    pattern: str
    names: re.Pattern[str]
    anybody: bool
    users: frozenset[str] | None

    @classmethod
    def parse(cls, pattern: str, readers: Readers, groups: Mapping[str, Sequence[str]]) -> Self:
        """Read a rule.

        Raises:
            SettingsError: if it cannot be used.
        """
        root, _, rest = pattern.partition("/")
        _check_root(pattern, root)
        names = re.compile(_expression(pattern, rest), re.DOTALL)
        if isinstance(readers, str):
            if readers not in {ANYBODY, USERS}:
                raise _refused(pattern, f'{readers!r} is neither "anonymous" nor "users": write a list for some users')
            return cls(pattern, names, readers == ANYBODY, None)
        return cls(pattern, names, anybody=False, users=_members(pattern, readers, groups))

    @property
    def root(self) -> str:
        """The root that it is about."""
        return self.pattern.partition("/")[0]

    @property
    def rank(self) -> tuple[int, int, int]:
        """How specific it is."""
        names = self.pattern.split("/")
        plain = next((i for i, name in enumerate(names) if "*" in name), len(names))
        return plain, len(names), len(self.pattern)

    def covers(self, name: str) -> bool:
        """Whether it is about this path below the root."""
        return self.names.fullmatch(name) is not None

    def lets(self, caller: Caller) -> bool:
        """Whether a caller may read what it covers."""
        if self.anybody or caller.superuser:
            return True
        return caller.known and (self.users is None or caller.email.casefold() in self.users)


@dataclass(frozen=True, slots=True)
class AccessRules:
    """All rules; a root without one is read by everybody.

    Attributes:
        by_root: the rules of each root, the most specific one first.
    """

    by_root: Mapping[str, Sequence[Rule]] = field(default_factory=dict)

    @classmethod
    def parse(cls, access: Mapping[str, Readers], groups: Mapping[str, Sequence[str]]) -> Self:
        """Read the settings.

        Raises:
            SettingsError: if a rule cannot be used.
        """
        by_root: dict[str, list[Rule]] = {}
        for pattern, readers in access.items():
            rule = Rule.parse(pattern, readers, groups)
            by_root.setdefault(rule.root, []).append(rule)
        return cls({root: sorted(rules, key=lambda rule: rule.rank, reverse=True) for root, rules in by_root.items()})

    @property
    def needs_users(self) -> bool:
        """Whether something is for users only."""
        return not all(rule.anybody for rules in self.by_root.values() for rule in rules)

    def lets(self, caller: Caller, path: DatasetPath) -> bool:
        """Whether a caller may read a dataset, or what is directly in a folder."""
        rules = self.by_root.get(path.root)
        if rules is None:
            return True
        found = next((rule for rule in rules if rule.covers(path.name)), None)
        return found is None or found.lets(caller)

    def shows(self, caller: Caller, root: RootName) -> bool:
        """Whether a caller may read anything of a root."""
        rules = self.by_root.get(root)
        return rules is None or self.lets(caller, DatasetPath(root, "")) or any(rule.lets(caller) for rule in rules)

    def whole(self, caller: Caller, root: RootName) -> bool:
        """Whether a caller may read all of a root, so that no path needs a look."""
        rules = self.by_root.get(root, ())
        return all(rule.lets(caller) for rule in rules)


def _check_root(pattern: str, root: str) -> None:
    if root.startswith("@") and root != _PUBLIC:
        raise _refused(pattern, f"{root} is for users anyway: rules are for published roots and {_PUBLIC}")
    if "*" in root:
        raise _refused(pattern, "a pattern begins with the name of a root")
    try:
        RootName.parse(root)
    except ValueError as error:
        raise _refused(pattern, str(error)) from None


def _expression(pattern: str, rest: str) -> str:
    """The regular expression for the names below the root that a pattern covers."""
    if not rest:
        return ".*"
    parts = []
    for segment in rest.split("/"):
        if not segment or ("**" in segment and segment != "**"):
            raise _refused(pattern, "names are separated by one slash, and ** stands alone between two")
        literal = ("[^/]*".join(map(re.escape, segment.split("*")))) if segment != "**" else None
        parts.append("(?:[^/]+/)*" if literal is None else f"{literal}/")
    expression = "".join(parts)
    if parts[-1] == "(?:[^/]+/)*":
        return expression.removesuffix("(?:[^/]+/)*") + ".*"
    # What is named may be a folder: a rule that did not keep what is in it would keep nothing.
    return expression.removesuffix("/") + "(?:/.*)?"


def _members(pattern: str, readers: Sequence[str], groups: Mapping[str, Sequence[str]]) -> frozenset[str]:
    members: set[str] = set()
    for reader in readers:
        if not reader.startswith("@"):
            members.add(reader.casefold())
        elif reader[1:] in groups:
            members.update(mail.casefold() for mail in groups[reader[1:]])
        else:
            raise _refused(pattern, f"there is no group {reader[1:]!r}: add it to [subscriber.groups]")
    return frozenset(members)


def _refused(pattern: str, why: str) -> SettingsError:
    return SettingsError(f"subscriber.access.{pattern!r}: {why}")
