"""caterva2.subscriber.follower: what the catalog wants done is done in its order."""

import asyncio
import threading
from dataclasses import replace
from typing import Any, cast

from bus.topics import Topics
from caterva2.paths import RootName
from caterva2.subscriber.catalog import Catalog, Root, SaveDatasets, SaveRoot
from caterva2.subscriber.follower import Follower

FOO = RootName("foo")


class SlowStore:
    """A store whose disk is slow."""

    def __init__(self) -> None:
        self.saved: list[Any] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def save_datasets(self, change: SaveDatasets) -> None:
        """Keep nothing, slowly."""
        self.begun.set()
        self.go_on.wait(10)
        self.saved.append(change)

    def save_root(self, root: Root) -> None:
        """Note the head."""
        self.saved.append(root.head)


def test_a_head_is_not_saved_before_its_datasets() -> None:
    """What changes while something is being saved is saved later: after a crash it would not be asked for again."""

    async def scenario() -> None:
        catalog, store = Catalog(), SlowStore()
        root = Root(FOO, "http://pub", head=("E", 1), subscribed=True)
        catalog.restore(root, ())
        nothing = cast(Any, None)
        follower = Follower(catalog, cast(Any, store), nothing, nothing, nothing, Topics("caterva2"))
        first = SaveDatasets(FOO, (), ("a",))

        saving = asyncio.create_task(follower.carry_out([first, SaveRoot(FOO)]))
        await asyncio.to_thread(store.begun.wait, 10)
        catalog.restore(replace(root, head=("E", 2)), ())
        store.go_on.set()
        await saving

        assert [first, ("E", 1)] == store.saved

    asyncio.run(scenario())
