import contextlib
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import TopicError
from bus.topics import (
    MAX_NAME,
    MAX_TOPIC,
    Address,
    ChangeTopic,
    RootTopic,
    ServiceTopic,
    TokenTopic,
    Topics,
    check_filter,
    check_name,
    check_topic,
    covers,
    matches,
)

NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@pytest.mark.parametrize("name", ["foo", "a.b-c_d", "-", "_", "9", "x" * MAX_NAME])
def test_names_of_the_grammar_are_accepted(name: str) -> None:
    """Letters, digits and three signs, up to 255 of them."""
    assert name == check_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "@public", "a/b", "a b", "a\n", "é", "a+", "#", "$a", "a\0", "x" * (MAX_NAME + 1)]
)
def test_other_names_are_refused(name: str) -> None:
    """Nothing that is more than one level of a topic, or one plain name of a file."""
    with pytest.raises(TopicError) as info:
        check_name(name)

    assert name == info.value.text


@given(NAMES, NAMES, NAMES)
def test_topics_are_parsed_to_what_they_were_made_of(prefix: str, name: str, id: str) -> None:
    """Making a topic and parsing it are inverse, under any prefix."""
    topics = Topics(f"site/{prefix}")
    expected: list[Address] = [RootTopic(name), ChangeTopic(name), ServiceTopic(name, id), TokenTopic(name)]
    made = (topics.root(name), topics.change(name), topics.service(name, id), topics.token(name))

    assert expected == [topics.parse(each) for each in made]


def test_topics_are_those_of_the_protocol() -> None:
    """The topics that MQTT tools see are fixed."""
    topics = Topics()

    assert "caterva2/root/foo" == topics.root("foo")
    assert "caterva2/change/foo" == topics.change("foo")
    assert "caterva2/service/publisher/foo" == topics.service("publisher", "foo")
    assert "caterva2/token/alice" == topics.token("alice")
    assert "caterva2/token/anonymous" == topics.token("")


@pytest.mark.parametrize(
    "topic", ["", "caterva2", "caterva2/", "caterva2/root", "caterva2/root/", "caterva2/root/a/b", "x/root/a",
              "caterva2x/root/a", "caterva2/service/a", "caterva2/other/a", "caterva2/root/@a"]
)  # fmt: skip
def test_other_topics_are_refused(topic: str) -> None:
    """What is none of our topics has no address."""
    with pytest.raises(TopicError):
        Topics().parse(topic)


@given(st.text())
def test_parsing_any_text_raises_nothing_else(text: str) -> None:
    """A topic from the network is an address or a TopicError."""
    with contextlib.suppress(TopicError):
        Topics().parse(f"caterva2/{text}")


@pytest.mark.parametrize("prefix", ["", "/", "a//b", "+", "a/#", "$SYS"])
def test_a_prefix_is_made_of_names(prefix: str) -> None:
    """A prefix with wildcards or empty levels would reach into other networks."""
    with pytest.raises(TopicError):
        Topics(prefix)


@pytest.mark.parametrize(
    ("filter", "topic", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a/b", "a", False),
        ("a", "a/b", False),
        ("+", "a", True),
        ("+", "", True),
        ("+/+", "/a", True),
        ("/+", "/a", True),
        ("+", "/a", False),
        ("a/+", "a", False),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/d", False),
        ("#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("a/+/#", "a", False),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
    ],
)
def test_filters_match_as_in_the_standard(filter: str, topic: str, *, expected: bool) -> None:
    """The examples of MQTT 3.1.1, section 4.7."""
    assert expected == matches(filter, topic)


def test_filters_match_what_they_are_for() -> None:
    """Each filter of Topics matches its own topics and no others."""
    topics = Topics()
    made = [topics.root("a"), topics.change("a"), topics.service("broker", "a")]
    filters = [topics.all_roots, topics.all_changes, topics.all_services]

    assert [[i == j for j in range(3)] for i in range(3)] == [[matches(f, t) for t in made] for f in filters]


@pytest.mark.parametrize("filter", ["a", "+", "#", "a/+/b", "a/#", "/", "$SYS/#", "+/+/#"])
def test_valid_filters_are_accepted(filter: str) -> None:
    """Wildcards that are whole levels are fine."""
    assert filter == check_filter(filter)


@pytest.mark.parametrize(
    "filter", ["", "a\0", "a/#/b", "a#", "a/b#", "a+", "+a/b", "##", "$share/g/a", "x" * (MAX_TOPIC + 1), "\ud800"]
)
def test_invalid_filters_are_refused(filter: str) -> None:
    """Malformed, shared and empty filters are not subscriptions."""
    with pytest.raises(TopicError):
        check_filter(filter)


@pytest.mark.parametrize("topic", ["", "a/#", "a/+", "$SYS/a", "a\0b", "\udfff"])
def test_topics_that_nobody_may_publish_to(topic: str) -> None:
    """Wildcards and the broker's own topics are not for clients."""
    with pytest.raises(TopicError):
        check_topic(topic)


def test_any_other_topic_may_be_published_to() -> None:
    """The broker serves other users of MQTT, too."""
    assert "home/kitchen/é" == check_topic("home/kitchen/é")


@pytest.mark.parametrize(
    ("allowed", "filter"),
    [("#", "#"), ("+/#", "#"), ("#", "+/#"), ("a/#", "a"), ("a/#", "a/b/+"), ("a/#", "a/#"), ("a/+", "a/b"),
     ("a/+", "a/+"), ("+/b", "a/b"), ("$SYS/#", "$SYS/+"), ("a", "a")],
)  # fmt: skip
def test_a_filter_covers_what_it_matches(allowed: str, filter: str) -> None:
    """The same, or wider."""
    assert covers(allowed, filter)


@pytest.mark.parametrize(
    ("allowed", "filter"),
    [("a/+", "a/#"), ("a/+", "+/a"), ("a/b", "a/+"), ("+", "#"), ("a/#", "#"), ("a/+", "a"), ("a", "a/b"),
     ("#", "$SYS/#"), ("+/a", "$SYS/a"), ("a/#", "ab"), ("a/#", "+/#")],
)  # fmt: skip
def test_a_filter_does_not_cover_more(allowed: str, filter: str) -> None:
    """Plain amqtt lets "a/#" through where only "a/+" is allowed (B7)."""
    assert not covers(allowed, filter)


LEVELS = ["a", "b", "c", "", "$x"]  # one more than the filters below name, so that "+" is more than those
SOME_TOPICS = ["/".join(levels) for depth in range(1, 5) for levels in product(LEVELS, repeat=depth)]
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]) or "#",
    st.lists(st.sampled_from(["a", "b", "+", "", "$x"]), max_size=3),
    st.sampled_from([[], ["#"]]),
)


@given(FILTERS, FILTERS)
def test_covering_is_matching_whatever_the_other_matches(allowed: str, filter: str) -> None:
    """By the definition, tried on all topics of four levels: no filter here can tell more apart."""
    assert covers(allowed, filter) == all(matches(allowed, topic) for topic in SOME_TOPICS if matches(filter, topic))
