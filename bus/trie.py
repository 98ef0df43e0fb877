"""A tree of topic levels: filters looked up by topic, or topics by filter.

Without it, every message is compared with every filter, and every subscription with every retained
message; with thousands of each that stalled the whole event loop for seconds.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class _Node(Generic[V]):
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[V]] = {}
        self.value: V | None = None


class TopicTrie(Generic[V]):
    """A mapping whose keys are topics or filters."""

    def __init__(self) -> None:
        self._root: _Node[V] = _Node()

    def get(self, key: str) -> V | None:
        """The value of exactly this key."""
        node = self._root
        for level in key.split("/"):
            if (child := node.children.get(level)) is None:
                return None
            node = child
        return node.value

    def set(self, key: str, value: V) -> None:
        """Store `value`."""
        node = self._root
        for level in key.split("/"):
            node = node.children.setdefault(level, _Node())
        node.value = value

    def remove(self, key: str) -> None:
        """Forget `key`, and the branches that led only there."""
        path = [(self._root, "")]
        for level in key.split("/"):
            if (node := path[-1][0].children.get(level)) is None:
                return
            path.append((node, level))
        path[-1][0].value = None
        while len(path) > 1 and path[-1][0].value is None and not path[-1][0].children:
            _, level = path.pop()
            del path[-1][0].children[level]

    def matching(self, topic: str) -> list[V]:
        """The values of all filters that match `topic`."""
        # Plain loops: this is done for every message.
        found: list[V] = []
        nodes = [self._root]
        # A topic of the broker's own ("$SYS/...") is never meant by a leading wildcard.
        wild = not topic.startswith("$")
        for level in topic.split("/"):
            reached: list[_Node[V]] = []
            for node in nodes:
                if not (children := node.children):
                    continue
                if (child := children.get(level)) is not None:
                    reached.append(child)
                if wild:
                    if (child := children.get("+")) is not None:
                        reached.append(child)
                    if (child := children.get("#")) is not None and child.value is not None:
                        found.append(child.value)
            if not reached:
                return found
            nodes, wild = reached, True
        for node in nodes:
            if node.value is not None:
                found.append(node.value)
            if (child := node.children.get("#")) is not None and child.value is not None:
                found.append(child.value)
        return found

    def below(self, filter: str) -> list[V]:
        """The values of all topics that `filter` matches."""
        wanted = filter.split("/")
        nodes = [self._root]
        for depth, level in enumerate(wanted):
            if level == "#":
                return _values(each for node in nodes for each in _subtree(node, hide_dollar=depth == 0))
            nodes = [child for node in nodes for child in _step(node, level, hide_dollar=depth == 0)]
        return _values(iter(nodes))


def _step(node: _Node[V], level: str, *, hide_dollar: bool) -> list[_Node[V]]:
    if level != "+":
        return [node.children[level]] if level in node.children else []
    return [child for key, child in node.children.items() if not (hide_dollar and key.startswith("$"))]


def _subtree(top: _Node[V], *, hide_dollar: bool) -> Iterator[_Node[V]]:
    yield top
    stack = _step(top, "+", hide_dollar=hide_dollar)
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children.values())


def _values(nodes: Iterator[_Node[V]]) -> list[V]:
    return [node.value for node in nodes if node.value is not None]
