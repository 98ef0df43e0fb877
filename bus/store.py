"""Retained messages on the disk, so that a broker that comes back knows them.

Written behind by one thread, in batches: while it commits one, the next one gathers. What is
committed survives the end of this process, however it ends, and so the broker acknowledges a
retained message of QoS 1 only then; a power cut may take the last moments, but not the file.

The bus is more important than its memory. A file that is damaged is set aside, one that cannot be
written is said once and tried again, and meanwhile the broker goes on without.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from bus.packets import Publish

logger = logging.getLogger(__name__)

_RETRY: Final = 5.0
"""Seconds until a file that could not be written is tried again."""

_SCHEMA: Final = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS retained (
        number INTEGER PRIMARY KEY, topic TEXT NOT NULL UNIQUE, qos INTEGER NOT NULL, payload BLOB NOT NULL
    );
"""


class RetainedStore:
    """An SQLite file with the retained messages of one broker, in the order of their publication.

    Args:
        file: where it is; made when it does not exist, in a directory that does.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._db: sqlite3.Connection | None = None
        self._loaded = False
        self._failing = False
        self._pending: dict[str, Publish] = {}
        self._last = 0
        self._closing = False
        self._work = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def failing(self) -> bool:
        """Whether nothing can be saved at present."""
        return self._failing

    def open(self, saved: Callable[[int], None]) -> list[Publish]:
        """Read what was saved, and begin to save; takes its time, so call it in a thread.

        Args:
            saved: called in another thread with the number of the latest save that is on the disk, or
                that has failed, for then nobody should wait for it.
        """
        messages = self._load()
        self._closing = False
        self._thread = threading.Thread(target=self._run, args=(saved,), name=f"save {self._file.name}", daemon=True)
        self._thread.start()
        return messages

    def put(self, message: Publish) -> int:
        """Save a message, or forget the one of its topic if its payload is empty; the number of this save."""
        with self._work:
            self._pending.pop(message.topic, None)  # so that the order is that of the latest ones
            self._pending[message.topic] = message
            self._last += 1
            self._work.notify()
            return self._last

    def close(self) -> None:
        """Save what is not saved yet, and let go of the file; takes its time, so call it in a thread."""
        with self._work:
            self._closing = True
            self._work.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._db is not None:
            self._db.close()
            self._db = None

    # The thread

    def _run(self, saved: Callable[[int], None]) -> None:
        while True:
            with self._work:
                self._work.wait_for(lambda: self._pending or self._closing)
                if not self._pending:
                    return
                batch, self._pending, number, last = self._pending, {}, self._last, self._closing
            written = self._write(batch)
            saved(number)
            if not written:
                if last:
                    return
                self._put_back(batch)

    def _put_back(self, batch: dict[str, Publish]) -> None:
        """Keep what could not be written for another attempt, and wait until it is time for that."""
        with self._work:
            newer = self._pending
            self._pending = {topic: each for topic, each in batch.items() if topic not in newer} | newer
            self._work.wait_for(lambda: self._closing, timeout=_RETRY)

    def _write(self, batch: dict[str, Publish]) -> bool:
        try:
            db = self._db = self._db or _open(self._file)
            with db:
                db.execute("BEGIN")
                if not self._loaded:  # what is there is older than all that we know
                    db.execute("DELETE FROM retained")
                gone = [(each.topic,) for each in batch.values() if not each.payload]
                kept = [(each.topic, each.qos, each.payload) for each in batch.values() if each.payload]
                db.executemany("DELETE FROM retained WHERE topic = ?", gone)
                db.executemany("INSERT OR REPLACE INTO retained (topic, qos, payload) VALUES (?, ?, ?)", kept)
        except sqlite3.Error as error:
            self._fail(error)
            return False
        self._loaded = True
        if self._failing:
            self._failing = False
            logger.info("retained messages are saved again in %s", self._file)
        return True

    def _fail(self, error: sqlite3.Error) -> None:
        if not self._failing:
            self._failing = True
            logger.error(
                "retained messages cannot be saved in %s: %s; the bus goes on, but would forget them when it ends;"
                " make it writable, it is tried again every %g seconds",
                *(self._file, error, _RETRY),
            )

    # Opening

    def _load(self) -> list[Publish]:
        try:
            return self._read()
        except sqlite3.OperationalError as error:
            self._fail(error)
            return []
        except (sqlite3.DatabaseError, ValueError) as error:
            aside = self._file.with_name(f"{self._file.name}.damaged")
            logger.error("%s is damaged, set aside as %s: %s", self._file, aside.name, error)
            return self._begin_anew(aside)

    def _begin_anew(self, aside: Path) -> list[Publish]:
        try:
            for suffix in ("-wal", "-shm"):
                self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
            self._file.replace(aside)
            return self._read()
        except (OSError, sqlite3.Error) as error:
            self._fail(sqlite3.OperationalError(str(error)))
            return []

    def _read(self) -> list[Publish]:
        db = _open(self._file)
        try:
            with closing(db.execute("SELECT topic, payload, qos FROM retained ORDER BY number")) as rows:
                messages = [_message(*row) for row in rows]
        except BaseException:
            db.close()
            raise
        self._db, self._loaded = db, True
        return messages


def _open(file: Path) -> sqlite3.Connection:
    # One thread at a time uses it: who opens, then ours, then who closes.
    db = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=5.0)
    try:
        if (flaw := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(flaw)
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _message(topic: object, payload: object, qos: object) -> Publish:
    if not isinstance(topic, str) or not isinstance(payload, bytes) or qos not in (0, 1, 2):
        raise ValueError("a row is no message")
    return Publish(topic, payload, int(str(qos)), retain=True)
