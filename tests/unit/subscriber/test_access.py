"""caterva2.subscriber.access: who reads which paths."""

import pytest

from caterva2.errors import SettingsError
from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.access import AccessRules
from caterva2.subscriber.callers import ANONYMOUS, Caller

ANN, BOB = Caller("1", "Ann@example.org"), Caller("2", "bob@example.org")
ADMIN = Caller("3", "admin@example.org", superuser=True)
RULES = AccessRules.parse(
    {
        "foo": "users",
        "foo/open": "anonymous",
        "foo/open/not.b2nd": ["@lab"],
        "foo/**/draft-*.b2nd": ["ann@example.org"],
        "foo/*/raw/**": ["@lab", "carl@example.org"],
        "shut": [],
    },
    {"lab": ["BOB@example.org"]},
)
READERS = [
    ("foo/a.b2nd", "ann bob admin"),
    ("foo", "ann bob admin"),
    ("foo/open", "nobody ann bob admin"),
    ("foo/open/a/b.b2nd", "nobody ann bob admin"),
    ("foo/opened.b2nd", "ann bob admin"),
    ("foo/open/not.b2nd", "bob admin"),
    ("foo/open/draft-1.b2nd", "nobody ann bob admin"),  # the folder is named before any wildcard
    ("foo/draft-1.b2nd", "ann admin"),
    ("foo/x/y/draft-.b2nd", "ann admin"),
    ("foo/x/raw/y/z.b2nd", "bob admin"),
    ("foo/x/draft-1.b2nd/in/a/folder", "ann admin"),  # of a name with wildcards too
    ("foo/raw/z.b2nd", "ann bob admin"),
    ("shut/a.b2nd", "admin"),
    ("bar/a.b2nd", "nobody ann bob admin"),
    ("@public/a.b2nd", "nobody ann bob admin"),
]


@pytest.mark.parametrize(("path", "readers"), READERS)
def test_who_reads_what(path: str, readers: str) -> None:
    """The most specific rule counts alone; what no rule covers is for everybody."""
    callers = {"nobody": ANONYMOUS, "ann": ANN, "bob": BOB, "admin": ADMIN}

    found = [name for name, caller in callers.items() if RULES.lets(caller, DatasetPath.parse(path))]
    assert readers.split() == found


def test_roots() -> None:
    """A root is known to who may read a part of it; a look at each path is spared where all of it may be read."""
    foo, shut, bar = map(RootName, ("foo", "shut", "bar"))

    assert [True, False, True] == [RULES.shows(ANONYMOUS, root) for root in (foo, shut, bar)]
    assert [False, False, True] == [RULES.whole(BOB, root) for root in (foo, shut, bar)]
    assert [True, True, True] == [RULES.whole(ADMIN, root) for root in (foo, shut, bar)]


def test_needs_users() -> None:
    """Rules for everybody make sense without users, others do not."""
    assert RULES.needs_users
    assert not AccessRules.parse({"foo": "anonymous"}, {}).needs_users


@pytest.mark.parametrize(
    ("pattern", "readers", "words"),
    [
        ("foo", "everybody", "write a list"),
        ("foo", ["@nosuch"], "no group 'nosuch'"),
        ("*", "users", "begins with the name of a root"),
        ("foo//x", "users", "one slash"),
        ("foo/a**", "users", "stands alone"),
        ("@shared/x", "users", "for users anyway"),
        ("f oo", "users", "not a root name"),
    ],
)
def test_refuses(pattern: str, readers: str | list[str], words: str) -> None:
    """What cannot be meant is named."""
    with pytest.raises(SettingsError, match=words) as caught:
        AccessRules.parse({pattern: readers}, {})

    assert repr(pattern) in caught.value.detail
