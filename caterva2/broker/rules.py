"""Who may do what on the bus: the rules, without anything that waits.

A **publisher** tells of its own roots, a **subscriber** reads and tells its own status, an **observer** only reads,
an **admin** may do everything that members may do at all. Who has no name, and was let in, may do what the first
three may. Two things are beyond all of them: tokens are published by the broker alone and seen by their user alone,
and nobody publishes to topics that start with "$".

A filter that is wider than what its member may read ("caterva2/#") is accepted if there is anything in it to read;
what there is not is withheld when it is delivered (`may_receive`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

from bus.errors import TopicError
from bus.topics import Address, ChangeTopic, RootTopic, ServiceTopic, TokenTopic, Topics, covers, matches

Role: TypeAlias = Literal["publisher", "subscriber", "observer", "admin"]
ANONYMOUS: Final = "anonymous"
"""The role of who has no name."""
PATTERN: Final = re.compile(r"[A-Za-z0-9_*?-][A-Za-z0-9_.*?-]{0,254}")
"""What names the roots of a user: a name, in which "*" stands for any text and "?" for one letter."""

_SERVICES: Final[dict[str, tuple[str, ...]]] = {
    "publisher": ("publisher",),
    "subscriber": ("subscriber",),
    "observer": (),
    ANONYMOUS: ("publisher", "subscriber"),
}
_READERS: Final = frozenset({"subscriber", "observer", "admin", ANONYMOUS})
_TOKEN_HOLDERS: Final = frozenset({"subscriber", "admin", ANONYMOUS})
_SYS_READERS: Final = frozenset({"observer", "admin", ANONYMOUS})


@dataclass(frozen=True, slots=True)
class Rights:
    """What the rules need to know of a member.

    Attributes:
        name: of the user; "" is anonymous.
        role: one of `Role`, or `ANONYMOUS`.
        roots: patterns of the roots that a publisher may announce.
    """

    name: str
    role: str
    roots: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name or "an anonymous client"


def address_of(topics: Topics, topic: str) -> Address | None:
    """What a topic addresses; None if it is none of Caterva2's."""
    try:
        return topics.parse(topic)
    except TopicError:
        return None


def is_own(who: Rights, root: str) -> bool:
    """Whether a publisher's patterns name this root."""
    return any(fnmatchcase(root, pattern) for pattern in who.roots)


def may_publish(who: Rights, target: Address | None, owner: str | None) -> str | None:
    """None if it may, else in words why not.

    Args:
        who: the member.
        target: what the topic addresses; None if it is none of Caterva2's.
        owner: the user that the root of the topic belongs to, if it belongs to one.
    """
    match target:
        case TokenTopic():
            return "tokens are handed out by the broker alone"
        case _ if who.role == "admin":
            return None
        case RootTopic(name) | ChangeTopic(name):
            return _may_announce(who, name, owner)
        case ServiceTopic(kind) if kind in _SERVICES[who.role]:
            return None
        case ServiceTopic(kind):
            return f"{_article(who.role)} tells no status of a {kind}"
    return "it is none of Caterva2's topics"


def _may_announce(who: Rights, root: str, owner: str | None) -> str | None:
    if who.role not in {"publisher", ANONYMOUS}:
        return f"{_article(who.role)} announces no roots"
    if who.role == "publisher" and not is_own(who, root):
        return f"root {root} is none of its own ({', '.join(who.roots)})"
    if owner is not None and owner != who.name:
        return f"root {root} belongs to {owner}; an admin can release it with: cat2cli bus --release {root}"
    return None


def may_subscribe(who: Rights, topics: Topics, filter: str) -> str | None:
    """None if it may, else in words why not."""
    if filter.startswith("$"):
        allowed = who.role in _SYS_READERS and covers("$SYS/#", filter)
        return None if allowed else f"{_article(who.role)} does not read {filter.partition('/')[0]}"
    if covers(f"{topics.prefix}/token/#", filter):
        own = who.role in _TOKEN_HOLDERS and matches(filter, topics.token(who.name))
        return None if own else "tokens are seen by their user alone"
    if who.role == "publisher":
        target = address_of(topics, filter)
        own = isinstance(target, RootTopic) and is_own(who, target.name)
        return None if own else "a publisher reads the announcements of its own roots alone"
    readable = (topics.all_roots, topics.all_changes, topics.all_services)
    if who.role == "admin" or any(_overlap(filter, each) for each in readable):
        return None
    return "there is nothing in it to read"


def may_receive(who: Rights, topics: Topics, topic: str) -> bool:
    """Whether it gets what is published to `topic`, which its subscription matches."""
    if topic.startswith("$"):
        return who.role in _SYS_READERS and topic.startswith("$SYS/")
    match address_of(topics, topic):
        case TokenTopic(user):
            return who.role in _TOKEN_HOLDERS and user == (who.name or ANONYMOUS)
        case RootTopic(name) if who.role == "publisher":
            return is_own(who, name)
        case None:
            return who.role == "admin"
    return who.role in _READERS


def _overlap(one: str, other: str) -> bool:
    """Whether there is a topic that both filters match."""
    ours, theirs = one.split("/"), other.split("/")
    for level, its in zip(ours, theirs, strict=False):
        if "#" in (level, its):
            return True
        if level != its and "+" not in (level, its):
            return False
    rest = ours[len(theirs) :] or theirs[len(ours) :]
    return rest in ([], ["#"])


def _article(role: str) -> str:
    return f"{'an' if role[0] in 'ao' else 'a'} {role if role != ANONYMOUS else 'anonymous client'}"
