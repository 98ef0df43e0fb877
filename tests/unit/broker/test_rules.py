"""Who may do what on the bus, for every role and every kind of topic."""

import pytest

from bus.topics import Topics
from caterva2.broker.rules import ANONYMOUS, Rights, address_of, may_publish, may_receive, may_subscribe

TOPICS = Topics("lab/caterva2")
WHO = {
    "publisher": Rights("pia", "publisher", ("foo", "lab-*")),
    "subscriber": Rights("sue", "subscriber"),
    "observer": Rights("otto", "observer"),
    "admin": Rights("ada", "admin"),
    ANONYMOUS: Rights("", ANONYMOUS),
}
ROLES = list(WHO)
# For each topic, the owner of its root, and the roles that may publish to it.
PUBLISH = [
    ("root/foo", None, "publisher admin anonymous"),
    ("root/lab-7", None, "publisher admin anonymous"),
    ("root/foo", "pia", "publisher admin"),
    ("root/foo", "bob", "admin"),
    ("root/bar", None, "admin anonymous"),
    ("root/bar", "pia", "admin"),
    ("root/lab", None, "admin anonymous"),
    ("root/xfoo", None, "admin anonymous"),
    ("change/foo", None, "publisher admin anonymous"),
    ("change/foo", "pia", "publisher admin"),
    ("change/foo", "bob", "admin"),
    ("change/bar", None, "admin anonymous"),
    ("service/publisher/foo", None, "publisher admin anonymous"),
    ("service/subscriber/s", None, "subscriber admin anonymous"),
    ("service/broker/b", None, "admin"),
    ("service/other/b", None, "admin"),
    ("token/sue", None, ""),
    ("token/pia", None, ""),
    ("token/anonymous", None, ""),
    ("root", None, "admin"),
    ("root/foo/more", None, "admin"),
    ("root/.hidden", None, "admin"),
    ("root/", None, "admin"),
    ("change/foo/bar", None, "admin"),
    ("service/publisher", None, "admin"),
    ("token/sue/more", None, "admin"),
    ("other/foo", None, "admin"),
    ("/elsewhere", None, "admin"),
]
# For each filter, the roles that may subscribe to it.
SUBSCRIBE = [
    ("lab/caterva2/#", "subscriber observer admin anonymous"),
    ("#", "subscriber observer admin anonymous"),
    ("+/#", "subscriber observer admin anonymous"),
    ("lab/#", "subscriber observer admin anonymous"),
    ("lab/caterva2/+/+", "subscriber observer admin anonymous"),
    ("lab/caterva2/+/foo", "subscriber observer admin anonymous"),
    ("lab/caterva2/root/+", "subscriber observer admin anonymous"),
    ("lab/caterva2/root/#", "subscriber observer admin anonymous"),
    ("lab/caterva2/root/foo", "publisher subscriber observer admin anonymous"),
    ("lab/caterva2/root/lab-1", "publisher subscriber observer admin anonymous"),
    ("lab/caterva2/root/bar", "subscriber observer admin anonymous"),
    ("lab/caterva2/change/+", "subscriber observer admin anonymous"),
    ("lab/caterva2/change/foo", "subscriber observer admin anonymous"),
    ("lab/caterva2/service/+/+", "subscriber observer admin anonymous"),
    ("lab/caterva2/service/publisher/foo", "subscriber observer admin anonymous"),
    ("lab/caterva2/token/sue", "subscriber"),
    ("lab/caterva2/token/ada", "admin"),
    ("lab/caterva2/token/anonymous", "anonymous"),
    ("lab/caterva2/token/otto", ""),
    ("lab/caterva2/token/pia", ""),
    ("lab/caterva2/token/+", "subscriber admin anonymous"),
    ("lab/caterva2/token/#", "subscriber admin anonymous"),
    ("lab/caterva2/token/sue/more", ""),
    ("lab/caterva2/token", ""),
    ("lab/caterva2/root/foo/more", "admin"),
    ("lab/caterva2/root", "admin"),
    ("lab/caterva2", "admin"),
    ("lab/other/#", "admin"),
    ("caterva2/#", "admin"),
    ("x", "admin"),
    ("$SYS/#", "observer admin anonymous"),
    ("$SYS/broker/clients", "observer admin anonymous"),
    ("$other/#", ""),
    ("$SYSx", ""),
]
# For each topic, the roles that get what is published to it.
RECEIVE = [
    ("lab/caterva2/root/foo", "publisher subscriber observer admin anonymous"),
    ("lab/caterva2/root/bar", "subscriber observer admin anonymous"),
    ("lab/caterva2/change/foo", "subscriber observer admin anonymous"),
    ("lab/caterva2/service/publisher/foo", "subscriber observer admin anonymous"),
    ("lab/caterva2/token/sue", "subscriber"),
    ("lab/caterva2/token/ada", "admin"),
    ("lab/caterva2/token/pia", ""),
    ("lab/caterva2/token/otto", ""),
    ("lab/caterva2/token/anonymous", "anonymous"),
    ("lab/caterva2/token/sue/more", "admin"),
    ("lab/caterva2/root/foo/more", "admin"),
    ("lab/other", "admin"),
    ("x", "admin"),
    ("$SYS/broker/clients", "observer admin anonymous"),
    ("$other/x", ""),
]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("topic", "owner", "roles"), PUBLISH)
def test_publish(topic: str, owner: str | None, roles: str, role: str) -> None:
    """A role may publish exactly where the table says, and else is told why not, in a line."""
    reason = may_publish(WHO[role], address_of(TOPICS, f"lab/caterva2/{topic}"), owner)

    assert (role in roles.split()) == (reason is None), reason
    assert reason is None or "\n" not in reason


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("filter", "roles"), SUBSCRIBE)
def test_subscribe(filter: str, roles: str, role: str) -> None:
    """A role may subscribe exactly to what the table says."""
    reason = may_subscribe(WHO[role], TOPICS, filter)

    assert (role in roles.split()) == (reason is None), reason


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("topic", "roles"), RECEIVE)
def test_receive(topic: str, roles: str, role: str) -> None:
    """A role gets exactly what the table says."""
    assert (role in roles.split()) == may_receive(WHO[role], TOPICS, topic)


def test_a_publisher_receives_what_it_may_subscribe_to() -> None:
    """What a publisher may not subscribe to alone reaches it through no filter."""
    publisher = WHO["publisher"]

    assert [] == [
        filter
        for filter, _ in SUBSCRIBE
        if ("#" in filter or "+" in filter) and may_subscribe(publisher, TOPICS, filter) is None
    ]


def test_a_named_user_is_not_the_anonymous_one() -> None:
    """The tokens of clients without a name are not for a user, whatever its role."""
    assert not may_receive(Rights("bob", "subscriber"), TOPICS, "lab/caterva2/token/anonymous")


def test_the_reason_names_the_owner_and_the_remedy() -> None:
    """Who is refused a root that belongs to another is told whose it is, and who can change that."""
    reason = may_publish(WHO["publisher"], address_of(TOPICS, TOPICS.root("foo")), "bob")

    assert reason == "root foo belongs to bob; an admin can release it with: cat2cli bus --release foo"
