"""The catalog on disk, so that a restarted subscriber can serve its cache while publishers or broker are away.

It is a copy that may lag behind: what it says is revalidated before it is served as current. A file that is
damaged is moved aside, since everything in it can be asked for again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from caterva2.models import DatasetEntry
from caterva2.paths import RootName
from caterva2.subscriber.catalog import Root, SaveDatasets

logger = logging.getLogger(__name__)

_SCHEMA = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS roots (
        name TEXT PRIMARY KEY, http TEXT, instance TEXT, birth INTEGER, heartbeat REAL,
        epoch TEXT, seq INTEGER, subscribed INTEGER, current REAL
    );
    CREATE TABLE IF NOT EXISTS datasets (
        root TEXT, path TEXT, kind TEXT, etag TEXT, nbytes INTEGER, mtime REAL, PRIMARY KEY (root, path)
    ) WITHOUT ROWID;
"""


class CatalogStore:
    """An SQLite file with the roots and their datasets; its methods may be called from any thread.

    Args:
        file: where it is; made when it does not exist.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._incomplete: set[str] = set()
        try:
            self._connection = _connect(file)
        except sqlite3.DatabaseError as error:
            aside = file.with_suffix(".damaged")
            logger.warning("%s is damaged (%s): moved to %s, the roots are listed afresh", file, error, aside.name)
            file.replace(aside)
            self._connection = _connect(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._connection.close()

    def load(self) -> Iterator[tuple[Root, list[DatasetEntry]]]:
        """Everything that was saved."""
        for row in self._rows(
            "SELECT name, http, instance, birth, heartbeat, epoch, seq, subscribed, current FROM roots"
        ):
            name, http, instance, birth, heartbeat, epoch, seq, subscribed, current = row
            head = (epoch, seq) if epoch is not None else None
            root = Root(
                RootName(name), http, instance=instance, birth=birth, heartbeat=heartbeat, head=head,
                subscribed=bool(subscribed), current=_shifted(current, -_since_1970()),
            )  # fmt: skip
            yield root, list(self._datasets(name))

    def _datasets(self, name: str) -> Iterator[DatasetEntry]:
        query = "SELECT path, kind, etag, nbytes, mtime FROM datasets WHERE root = ?"
        for path, kind, etag, nbytes, mtime in self._rows(query, name):
            yield DatasetEntry.model_construct(path=path, kind=kind, etag=etag, nbytes=nbytes, mtime=mtime)

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._lock, closing(self._connection.execute(query, values)) as cursor:
            return cursor.fetchall()

    def save_root(self, root: Root) -> None:
        """Keep what is known of a root."""
        # With datasets missing here, a head would say that no one need ask for them again.
        epoch, seq = (None if root.name in self._incomplete else root.head) or (None, None)
        current = _shifted(root.current, _since_1970())
        row = (root.name, root.http, root.instance, root.birth, root.heartbeat, epoch, seq, root.subscribed, current)
        with self._writing(root.name) as connection:
            connection.execute("INSERT OR REPLACE INTO roots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def save_datasets(self, change: SaveDatasets) -> None:
        """Keep the present datasets and forget the deleted ones, all or nothing."""
        rows = ((change.root, e.path, e.kind, e.etag, e.nbytes, e.mtime) for e in change.present)
        gone: Iterable[tuple[str, str]] = ((change.root, path) for path in change.deleted)
        with self._writing(change.root) as connection:
            connection.executemany("INSERT OR REPLACE INTO datasets VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.executemany("DELETE FROM datasets WHERE root = ? AND path = ?", gone)

    @contextmanager
    def _writing(self, root: str) -> Iterator[sqlite3.Connection]:
        """Write all or nothing; when the disk is full nothing, and the root is listed afresh at the next start."""
        try:
            with self._lock, self._connection as connection:
                yield connection
        except sqlite3.OperationalError as error:
            if not self._incomplete:
                logger.warning("the catalog cannot be written (%s): it will be listed afresh at the next start", error)
            self._incomplete.add(root)


def _since_1970() -> float:
    """What a time of the monotonic clock, which means nothing after a restart, lacks to the seconds since 1970."""
    return time.time() - time.monotonic()


def _shifted(when: float | None, by: float) -> float | None:
    return None if when is None else when + by


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, check_same_thread=False)
    try:
        connection.executescript(_SCHEMA)
        with suppress(sqlite3.OperationalError):  # a file that was made with this column says so
            connection.execute("ALTER TABLE roots ADD COLUMN current REAL")
    except BaseException:
        connection.close()
        raise
    return connection
