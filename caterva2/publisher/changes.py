"""The journal of a root: what its datasets are, and what happened to them, numbered without gaps.

`diff` says what happened between two looks at a root; `Journal` numbers it and keeps it in an SQLite file, so
that a restarted publisher knows what changed while it was down, and a subscriber that missed messages can ask
for what came after the last number that it knows. A change is in the journal before anyone is told of it.

Numbers (`seq`) belong to an `epoch`, and each opening of the journal begins one. The journal knows where its
earlier epochs ended, so who stands in one of them can catch up. Who knows more of one than the journal does must
list afresh: the journal was restored from a backup, and the same numbers stand for other changes since.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from caterva2.errors import GoneError, StorageFullError
from caterva2.models import CatalogHead, ChangeEntry, ChangesAnswer, DatasetEntry, Kind
from caterva2.publisher.source import Version

logger = logging.getLogger(__name__)

ChangeType = Literal["created", "modified", "deleted"]

MAX_CHANGES: Final = 100_000
"""Changes kept; a subscriber that missed more lists the root afresh, which is then cheaper anyway."""
MAX_AGE: Final = 7 * 86400.0
"""Seconds that a change is kept."""
MAX_ANSWER: Final = 20_000
"""Changes in one answer (a few megabytes of JSON); who is further behind lists the root afresh."""
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
    CREATE TABLE meta (epoch TEXT NOT NULL, seq INTEGER NOT NULL, birth INTEGER NOT NULL, seeded INTEGER NOT NULL);
    CREATE TABLE datasets (
        path TEXT PRIMARY KEY, kind TEXT NOT NULL, etag TEXT NOT NULL, nbytes INTEGER NOT NULL, mtime REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE changes (
        seq INTEGER PRIMARY KEY, type TEXT NOT NULL, path TEXT NOT NULL, kind TEXT NOT NULL,
        etag TEXT, nbytes INTEGER NOT NULL, mtime REAL NOT NULL, time REAL NOT NULL
    );
"""
_ANCESTORS: Final = "CREATE TABLE IF NOT EXISTS ancestors (epoch TEXT PRIMARY KEY, last INTEGER NOT NULL)"
_MAX_ANCESTORS: Final = 1000
_INSERT_CHANGE: Final = "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_UPSERT: Final = "INSERT OR REPLACE INTO datasets VALUES (?, ?, ?, ?, ?)"
_SELECT: Final = "SELECT path, kind, etag, nbytes, mtime FROM datasets"


@dataclass(frozen=True, slots=True)
class Difference:
    """What happened to one dataset; not yet numbered.

    Attributes:
        type: created, modified or deleted.
        path: below the root.
        kind: of the dataset, also of a deleted one.
        version: the present one, None when it was deleted.
    """

    type: ChangeType
    path: str
    kind: Kind
    version: Version | None


def diff(before: Mapping[str, Version], after: Mapping[str, Version]) -> list[Difference]:
    """Say what happened between two looks at the same datasets, in the order of their paths.

    Deletions come first, so that a file that made way for a directory of its name is gone before what is in it
    comes. A rename is a deletion and a creation.
    """
    gone = [Difference("deleted", path, before[path].kind, None) for path in sorted(before.keys() - after.keys())]
    here = (
        Difference("modified" if path in before else "created", path, version.kind, version)
        for path, version in sorted(after.items(), key=lambda item: item[0])
        if path not in before or before[path].etag != version.etag
    )
    return [*gone, *here]


class Journal:
    """The journal in one SQLite file; every method may be called from any thread.

    Args:
        file: where it is; made when it is not there. One that cannot be read is moved aside.
        max_changes: how many changes are kept.
        max_age: how long they are kept, in seconds.
        clock: seconds since 1970.

    Attributes:
        head: epoch and number of the last change.
    """

    def __init__(
        self,
        file: Path,
        *,
        max_changes: int = MAX_CHANGES,
        max_age: float = MAX_AGE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._max_changes = max_changes
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._writer = _open_or_replace(file)
        self._lookup_lock = threading.Lock()
        self._lookup = _connect(file)
        self.head = self._begin_epoch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was applied is on disk already."""
        with self._lock, self._lookup_lock:
            self._lookup.close()
            self._writer.close()

    def _begin_epoch(self) -> CatalogHead:
        with self._writing() as db:
            before, epoch = _head(db), secrets.token_hex(8)
            db.execute(_ANCESTORS)
            db.execute("INSERT INTO ancestors VALUES (?, ?)", (before.epoch, before.seq))
            kept = "SELECT rowid FROM ancestors ORDER BY rowid DESC LIMIT ?"
            db.execute(f"DELETE FROM ancestors WHERE rowid NOT IN ({kept})", (_MAX_ANCESTORS,))  # noqa: S608
            db.execute("UPDATE meta SET epoch = ?", (epoch,))
        return CatalogHead(epoch=epoch, seq=before.seq)

    @property
    def seeded(self) -> bool:
        """Whether the journal knows the root's datasets yet."""
        with self._lock:
            return bool(self._writer.execute("SELECT seeded FROM meta").fetchone()[0])

    def seed(self, versions: Mapping[str, Version]) -> None:
        """Take the datasets of a new epoch; no one knows the epoch yet, so these are no changes."""
        with self._writing() as db:
            db.executemany(_UPSERT, (_row(path, version) for path, version in versions.items()))
            db.execute("UPDATE meta SET seeded = 1")

    def begin_births(self) -> int:
        """Return a number below all births to come and not below any that was.

        The number of a connection to the bus orders a publisher's announcements and last wills, also across its
        restarts. Time keeps it ascending even when the journal was wiped: no one reconnects every millisecond.
        """
        with self._lock:
            kept = int(self._writer.execute("SELECT birth FROM meta").fetchone()[0])
        return max(kept, int(self._clock() * 1000))

    def keep_birth(self, birth: int) -> None:
        """Remember the number of the latest connection to the bus."""
        with self._writing() as db:
            db.execute("UPDATE meta SET birth = max(birth, ?)", (birth,))

    def apply(self, differences: Sequence[Difference]) -> list[ChangeEntry]:
        """Number the differences and keep them, all or none; on return they are on disk.

        Raises:
            StorageFullError: if they cannot be written; nothing has changed then.
        """
        if not differences:
            return []
        now, first = self._clock(), self.head.seq + 1
        entries = [_entry(seq, each) for seq, each in enumerate(differences, first)]
        last = entries[-1].seq
        with self._writing() as db:
            db.executemany(
                "DELETE FROM datasets WHERE path = ?", ((each.path,) for each in differences if not each.version)
            )
            db.executemany(_UPSERT, (_row(each.path, each.version) for each in differences if each.version))
            db.executemany(_INSERT_CHANGE, (_change_row(entry, now) for entry in entries))
            db.execute("DELETE FROM changes WHERE seq <= ?", (last - self._max_changes,))
            if db.execute("SELECT time FROM changes ORDER BY seq").fetchone()[0] < now - self._max_age:
                # By number, not by time: a clock that was set back must not cut a gap into the middle.
                expired = "SELECT max(seq) FROM changes WHERE time < ?"
                db.execute(f"DELETE FROM changes WHERE seq <= ({expired})", (now - self._max_age,))  # noqa: S608
            db.execute("UPDATE meta SET seq = ?", (last,))
        self.head = CatalogHead(epoch=self.head.epoch, seq=last)
        return entries

    def etag(self, path: str) -> str | None:
        """Return the version of one dataset; None if there is none."""
        with self._lookup_lock:
            row = self._lookup.execute("SELECT etag FROM datasets WHERE path = ?", (path,)).fetchone()
        return row[0] if row else None

    def versions(self, scopes: Iterable[str] | None = None) -> dict[str, Version]:
        """Return the datasets at or below the given paths, or all of them."""
        with closing(_connect(self._file)) as db:
            if scopes is None:
                return dict(map(_version, db.execute(_SELECT)))
            # '0' is the character after '/': the range holds just what is below the path.
            where = f"{_SELECT} WHERE path = ? OR (path > ? AND path < ?)"
            return dict(
                _version(row)
                for scope in scopes
                for row in db.execute(where if scope else _SELECT, (scope, f"{scope}/", f"{scope}0") if scope else ())
            )

    def since(self, epoch: str, seq: int) -> ChangesAnswer:
        """Return what happened after number `seq` of `epoch`, which may be an earlier epoch of this journal.

        Raises:
            GoneError: if the journal does not reach back to it, or the answer would be too long.
        """
        with closing(_connect(self._file)) as db, _reading(db):
            head = _head(db)
            oldest = db.execute("SELECT min(seq) FROM changes").fetchone()[0] or head.seq + 1
            if not oldest - 1 <= seq <= _last(db, epoch) or head.seq - seq > MAX_ANSWER:
                raise GoneError("the journal does not reach back to this change: list the root afresh")
            columns = "seq, type, path, kind, etag, nbytes, mtime"
            rows = db.execute(f"SELECT {columns} FROM changes WHERE seq > ? ORDER BY seq", (seq,))  # noqa: S608
            names = columns.split(", ")
            entries = tuple(ChangeEntry.model_construct(**dict(zip(names, row, strict=True))) for row in rows)
        return ChangesAnswer.model_construct(epoch=head.epoch, seq=head.seq, changes=entries)

    def catalog(self) -> Generator[CatalogHead | list[DatasetEntry], None, None]:
        """Yield the head, then its datasets in batches, sorted by path: one moment, however slowly it is read."""
        with closing(_connect(self._file)) as db, _reading(db):
            yield _head(db)
            rows = db.execute(f"{_SELECT} ORDER BY path")
            while batch := rows.fetchmany(1000):
                yield [_dataset(row) for row in batch]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                with self._writer:  # commits, or rolls back
                    yield self._writer
            except sqlite3.OperationalError as error:
                raise StorageFullError(f"the journal {self._file} cannot be written: {error}") from error


def _connect(file: Path) -> sqlite3.Connection:
    db = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=30)
    db.execute("PRAGMA synchronous = FULL")
    return db


@contextmanager
def _reading(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction: everything read belongs to one moment."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


def _open_or_replace(file: Path) -> sqlite3.Connection:
    try:
        return _open(file)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise StorageFullError(f"the journal {file} cannot be opened: {error}") from error
        aside = _move_aside(file)
        logger.warning("journal %s is damaged (%s): moved to %s, a new epoch begins", file, error, aside.name)
        return _open(file)


def _open(file: Path) -> sqlite3.Connection:
    db = _connect(file)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            _create(db)
        elif version != _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema version {version} is not known here")
        elif (flaw := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(flaw)
        elif not db.execute("SELECT name FROM sqlite_master WHERE name = 'meta'").fetchone():
            raise sqlite3.DatabaseError("it has no epoch")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _create(db: sqlite3.Connection) -> None:
    with db:
        # One script, one transaction: a crash leaves either nothing or all of it.
        db.executescript(
            f"BEGIN; {_SCHEMA} INSERT INTO meta VALUES ('{secrets.token_hex(8)}', 0, 0, 0);"  # noqa: S608
            f" PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;"
        )


def _move_aside(file: Path) -> Path:
    aside = file.with_name(f"{file.name}.damaged-{time.time_ns()}")
    file.rename(aside)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            file.with_name(file.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _head(db: sqlite3.Connection) -> CatalogHead:
    epoch, seq = db.execute("SELECT epoch, seq FROM meta").fetchone()
    return CatalogHead(epoch=epoch, seq=seq)


def _last(db: sqlite3.Connection, epoch: str) -> int:
    """The number of the last change that an epoch shares with this journal; below all numbers for a foreign one."""
    head = _head(db)
    if epoch == head.epoch:
        return head.seq
    row = db.execute("SELECT last FROM ancestors WHERE epoch = ?", (epoch,)).fetchone()
    return int(row[0]) if row else -1


def _row(path: str, version: Version) -> tuple[str, str, str, int, float]:
    return path, version.kind, version.etag, version.nbytes, version.mtime


def _change_row(entry: ChangeEntry, now: float) -> tuple[object, ...]:
    return entry.seq, entry.type, entry.path, entry.kind, entry.etag, entry.nbytes, entry.mtime, now


def _version(row: tuple[str, Kind, str, int, float]) -> tuple[str, Version]:
    return row[0], Version(*row[1:])


def _dataset(row: tuple[str, Kind, str, int, float]) -> DatasetEntry:
    path, kind, etag, nbytes, mtime = row
    return DatasetEntry.model_construct(path=path, kind=kind, etag=etag, nbytes=nbytes, mtime=mtime)


def _entry(seq: int, each: Difference) -> ChangeEntry:
    if each.version is None:
        return ChangeEntry(seq=seq, type=each.type, path=each.path, kind=each.kind)
    version = each.version
    return ChangeEntry(
        seq=seq, type=each.type, path=each.path, kind=each.kind,
        etag=version.etag, nbytes=version.nbytes, mtime=version.mtime,
    )  # fmt: skip
