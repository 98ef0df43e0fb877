"""caterva2.subscriber.store: what survives a restart."""

from pathlib import Path

import pytest

from caterva2.models import DatasetEntry
from caterva2.paths import RootName
from caterva2.subscriber.catalog import Root, SaveDatasets
from caterva2.subscriber.store import CatalogStore

FOO = RootName("foo")


def entry(path: str, etag: str = "1") -> DatasetEntry:
    """A dataset."""
    return DatasetEntry(path=path, kind="file", etag=etag, nbytes=3, mtime=0.5)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """Roots and datasets survive; the latest word counts, and deleted ones are gone."""
    root = Root(FOO, "http://x", instance="i", birth=3, heartbeat=5.0, head=("E", 2**40), subscribed=True)
    with CatalogStore(tmp_path / "c.sqlite") as store:
        store.save_root(Root(FOO, "http://old"))
        store.save_root(root)
        store.save_datasets(SaveDatasets(FOO, (entry("a"), entry("ü'\"%"), entry("gone")), ()))
        store.save_datasets(SaveDatasets(FOO, (entry("a", "2"),), ("gone", "nosuch")))
    with CatalogStore(tmp_path / "c.sqlite") as store:
        assert [(root, [entry("a", "2"), entry("ü'\"%")])] == list(store.load())


def test_a_damaged_file_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Everything in it can be asked for again, so damage costs a warning."""
    file = tmp_path / "c.sqlite"
    file.write_bytes(b"garbage" * 1000)
    with CatalogStore(file) as store:
        store.save_root(Root(FOO, "http://x"))

        assert [(Root(FOO, "http://x"), [])] == list(store.load())
    assert b"garbage" == (tmp_path / "c.damaged").read_bytes()[:7]
    assert "is damaged" in caplog.text
