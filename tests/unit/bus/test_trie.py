import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.topics import matches
from bus.trie import TopicTrie

LEVEL = st.sampled_from(["", "a", "b", "$x"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
FILTER = st.tuples(st.lists(LEVEL | st.just("+"), max_size=4), st.sampled_from(["#", "a", "+"])).map(
    lambda parts: "/".join([*parts[0], parts[1]])
)


@given(st.sets(FILTER), TOPIC)
def test_filters_are_found_by_topic_as_by_comparing_all(filters: set[str], topic: str) -> None:
    """The tree finds exactly the filters that match, each once."""
    trie: TopicTrie[str] = TopicTrie()
    for each in filters:
        trie.set(each, each)

    assert sorted(each for each in filters if matches(each, topic)) == sorted(trie.matching(topic))


@given(st.sets(TOPIC), FILTER)
def test_topics_are_found_by_filter_as_by_comparing_all(topics: set[str], filter: str) -> None:
    """And exactly the topics that a filter matches, each once."""
    trie: TopicTrie[str] = TopicTrie()
    for each in topics:
        trie.set(each, each)

    assert sorted(each for each in topics if matches(filter, each)) == sorted(trie.below(filter))


@given(st.lists(st.tuples(st.booleans(), TOPIC)))
def test_it_is_a_mapping(steps: list[tuple[bool, str]]) -> None:
    """Setting, getting and removing are those of a dict, and an empty tree has no branches left."""
    trie: TopicTrie[int] = TopicTrie()
    model: dict[str, int] = {}
    for number, (store, key) in enumerate(steps):
        if store:
            model[key] = number
            trie.set(key, number)
        else:
            model.pop(key, None)
            trie.remove(key)
        assert model.get(key) == trie.get(key)
    for key in model:
        trie.remove(key)

    assert {} == trie._root.children


@pytest.mark.parametrize("levels", [1, 30_000])
def test_depth_does_not_matter(levels: int) -> None:
    """A topic of thousands of levels overflows no stack."""
    trie: TopicTrie[int] = TopicTrie()
    topic = "/".join("a" * levels)
    trie.set(topic, 1)

    assert [1] == trie.matching(topic) == trie.below("#")
