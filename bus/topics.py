"""Topics of the bus: their grammar, their names, and what a topic addresses.

::

    <prefix>/root/<root>            RootTopic       retained presence of a root
    <prefix>/change/<root>          ChangeTopic     changes of the root's datasets
    <prefix>/service/<kind>/<id>    ServiceTopic    retained status of a daemon
    <prefix>/token/<user>           TokenTopic      tokens for one user, seen by nobody else

A name is one topic level, one path segment and one file name at once; hence its narrow grammar.
"""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from bus.errors import TopicError

MAX_NAME: Final = 255
"""Characters (all ASCII, so bytes too); the usual limit of a file name."""

MAX_TOPIC: Final = 65_535
"""Bytes of a topic or filter: the two length bytes of MQTT."""

ANONYMOUS: Final = "anonymous"
"""Stands in topics for the name of members that have none."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def check_name(name: str) -> str:
    """Return `name` if it may name a root or a service, else raise TopicError."""
    if not 0 < len(name) <= MAX_NAME:
        raise TopicError(name, f"a name has 1 to {MAX_NAME} characters")
    if not _NAME.fullmatch(name):
        raise TopicError(name, "a name has letters, digits, '_', '-', '.', and no leading '.'")
    return name


@dataclass(frozen=True, slots=True)
class RootTopic:
    """Where a root is announced."""

    name: str


@dataclass(frozen=True, slots=True)
class ChangeTopic:
    """Where the changes of a root are told."""

    name: str


@dataclass(frozen=True, slots=True)
class ServiceTopic:
    """Where a daemon tells its status."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class TokenTopic:
    """Where a user is handed the tokens that publishers accept."""

    user: str


Address: TypeAlias = RootTopic | ChangeTopic | ServiceTopic | TokenTopic


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics below one prefix, e.g. of one of several Caterva2 networks on a shared broker."""

    prefix: str = "caterva2"

    def __post_init__(self) -> None:
        for level in self.prefix.split("/"):
            check_name(level)

    def root(self, name: str) -> str:
        """Where the root `name` is announced."""
        return f"{self.prefix}/root/{check_name(name)}"

    def change(self, name: str) -> str:
        """Where the changes of the root `name` are told."""
        return f"{self.prefix}/change/{check_name(name)}"

    def service(self, kind: str, id: str) -> str:
        """Where the daemon `id` tells its status."""
        return f"{self.prefix}/service/{check_name(kind)}/{check_name(id)}"

    def token(self, user: str) -> str:
        """Where `user` is handed tokens; the empty name is the one of anonymous members."""
        return f"{self.prefix}/token/{check_name(user or ANONYMOUS)}"

    @property
    def all_roots(self) -> str:
        """Filter for every root's announcement."""
        return f"{self.prefix}/root/+"

    @property
    def all_changes(self) -> str:
        """Filter for every root's changes."""
        return f"{self.prefix}/change/+"

    @property
    def all_services(self) -> str:
        """Filter for every daemon's status."""
        return f"{self.prefix}/service/+/+"

    @property
    def all_tokens(self) -> str:
        """Filter for every user's tokens; nobody but the broker may see them all."""
        return f"{self.prefix}/token/+"

    def parse(self, topic: str) -> Address:
        """What `topic` addresses; TopicError if it is none of ours."""
        if not topic.startswith(f"{self.prefix}/"):
            raise TopicError(topic, f"is not below {self.prefix!r}")
        match topic.removeprefix(f"{self.prefix}/").split("/"):
            case ["root", name]:
                return RootTopic(check_name(name))
            case ["change", name]:
                return ChangeTopic(check_name(name))
            case ["service", kind, id]:
                return ServiceTopic(check_name(kind), check_name(id))
            case ["token", user]:
                return TokenTopic(check_name(user))
        raise TopicError(topic, "is neither root/<root>, change/<root>, service/<kind>/<id> nor token/<user>")


def check_filter(filter: str) -> str:
    """Return `filter` if MQTT allows it (section 4.7) and we support it, else raise TopicError."""
    _check_text(filter)
    if filter.startswith("$share/"):
        raise TopicError(filter, "shared subscriptions are not supported")
    *parents, _last = levels = filter.split("/")
    if "#" in "".join(parents) or any(len(each) > 1 and set(each) & {"#", "+"} for each in levels):
        raise TopicError(filter, "'+' is a whole level, '#' the whole last level")
    return filter


def check_topic(topic: str) -> str:
    """Return `topic` if MQTT allows a client to publish to it, else raise TopicError."""
    _check_text(topic)
    if "#" in topic or "+" in topic:
        raise TopicError(topic, "a topic to publish to has no wildcards")
    if topic.startswith("$"):
        raise TopicError(topic, "topics that start with '$' belong to the broker")
    return topic


def _check_text(text: str) -> None:
    if not text or "\0" in text:
        raise TopicError(text, "must not be empty, nor contain NUL")
    try:
        nbytes = len(text.encode())
    except UnicodeEncodeError:
        raise TopicError(text, "is not valid Unicode") from None
    if nbytes > MAX_TOPIC:
        raise TopicError(text, f"is longer than {MAX_TOPIC} bytes")


def matches(filter: str, topic: str) -> bool:
    """Whether a subscription to `filter` gets what is published to `topic`."""
    if topic.startswith("$") and filter.startswith(("+", "#")):
        return False
    wanted, levels = filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        # "a/#" matches "a" itself and everything below it (MQTT 3.1.1, 4.7.1.2).
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(each in ("+", level) for each, level in zip(wanted, levels, strict=True))


def covers(allowed: str, filter: str) -> bool:
    """Whether `allowed` matches every topic that `filter` matches: "a/+" does not cover "a/#".

    Both must be valid, as `check_filter` says.
    """
    if filter.startswith("$") and allowed.startswith(("+", "#")):
        return False
    ours, theirs = allowed.split("/"), filter.split("/")
    if theirs == ["#"]:
        return ours in (["#"], ["+", "#"])  # the same: every topic has a first level
    for depth, level in enumerate(ours):
        if level == "#":
            return True
        if depth == len(theirs) or theirs[depth] == "#" or level not in ("+", theirs[depth]):
            return False
    return len(ours) == len(theirs)
