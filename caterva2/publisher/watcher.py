"""From "something happened at these paths" to numbered changes in the journal.

The kernel's events, a reader that met another version, and a walk every now and then only say where to look.
What is found there is compared with the journal, so an event too many costs a look, and one that was missed is
made up for by the next walk. A file is told of once it was left alone for a moment (a save often is several
writes), but at the latest after `PATIENCE`, so that nobody keeps serving an old version of a busy file.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from anyio import to_thread

from caterva2.errors import StorageFullError, UnavailableError
from caterva2.models import ChangeEntry
from caterva2.publisher.changes import Journal, diff
from caterva2.publisher.directory import Directory
from caterva2.publisher.inotify import Inotify
from caterva2.publisher.source import Version

logger = logging.getLogger(__name__)

COALESCE: Final = 0.05
"""Seconds from the first event to the look, so that several at one path are one change."""
PATIENCE: Final = 2.0
"""Seconds after which a file that does not settle is told of anyway."""
_MAX_PENDING: Final = 20_000
"""Paths; when more are waiting, one walk is cheaper."""
_POLL: Final = 2.0
"""Seconds between walks where the system does not notify; longer when a walk takes long."""
_RETRY: Final = 5.0
"""Seconds until the next try after the root or the journal failed."""
_REMEDY: Final = "raise fs.inotify.max_user_watches (sysctl), or fs.inotify.max_user_instances"

Tell = Callable[[list[ChangeEntry]], None]


@dataclass(frozen=True, slots=True)
class _Outcome:
    changes: list[ChangeEntry]
    unsettled: Mapping[str, float]


class Watcher:
    """Keeps the journal up with a directory.

    Args:
        directory: the root.
        journal: what is known of it.
        tell: called in the event loop with what is new in the journal.
        settle: seconds that a file must be left alone before its change is told.
        rescan: seconds between two walks.
        inotify: the system's notifications; None where there are none.
    """

    def __init__(
        self,
        directory: Directory,
        journal: Journal,
        tell: Tell,
        *,
        settle: float,
        rescan: float,
        inotify: Inotify | None,
    ) -> None:
        self._directory = directory
        self._journal = journal
        self._tell = tell
        self._settle = settle
        self._rescan = rescan
        self._inotify = inotify
        self._polling = inotify is None
        self._pending: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._walked = 0.0
        self._walk_time = 0.0
        self._complaint = ""

    def notice(self, path: str) -> None:
        """Look at a path soon: it may not be as the journal has it."""
        if len(self._pending) >= _MAX_PENDING:
            path = ""
        self._pending.setdefault(path, time.monotonic())
        self._wake.set()

    async def catch_up(self) -> None:
        """Walk the root, and put into the journal what changed while no one watched."""
        changes = await to_thread.run_sync(self._first_walk)
        if changes:
            self._tell(changes)

    async def run(self) -> None:
        """Watch for ever."""
        loop = asyncio.get_running_loop()
        fd = self._inotify.fileno() if self._inotify else -1
        if fd >= 0:
            loop.add_reader(fd, self._on_events)
        try:
            while True:
                await self._wait()
                await self._round()
        finally:
            if fd >= 0:
                loop.remove_reader(fd)

    def _first_walk(self) -> list[ChangeEntry]:
        found = self._walk()
        if not self._journal.seeded:
            self._journal.seed(found)
            return []
        return self._journal.apply(diff(self._journal.versions(), found))

    def _on_events(self) -> None:
        assert self._inotify is not None
        happened = self._inotify.read()
        if happened.lost:
            self.notice("")
        for file in happened.files:
            if (path := self._directory.path_of(file)) is not None:
                self.notice(path)

    async def _wait(self) -> None:
        pause = max(_POLL, 10 * self._walk_time) if self._polling else self._rescan
        due = self._walked + min(pause, self._rescan) - time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(due, 0)):
                await self._wake.wait()
                await asyncio.sleep(COALESCE)
                return
        self.notice("")

    async def _round(self) -> None:
        self._wake.clear()
        pending, self._pending = self._pending, {}
        try:
            outcome = await to_thread.run_sync(self._look, pending)
        except (UnavailableError, StorageFullError) as error:  # the root is away, or the journal's disk is full
            self._complain(error.detail)
            await asyncio.sleep(_RETRY)
            self.notice("")
            return
        self._complaint = ""
        for path, since in outcome.unsettled.items():
            # Not the time of an event that came meanwhile: patience began with the first one.
            self._pending[path] = since
            self._wake.set()
        if outcome.changes:
            self._tell(outcome.changes)

    def _look(self, pending: Mapping[str, float]) -> _Outcome:
        """Compare what is at these paths with the journal; runs in a thread."""
        scopes = self._scopes(pending)
        found = {}
        for scope in scopes:
            found.update(self._directory.look(scope, self._visit) if scope else self._walk())
        known = self._journal.versions(scopes)
        now, clock = time.time(), time.monotonic()
        unsettled = {
            path: since
            for path, version in found.items()
            if version.touched > now - self._settle
            and (path not in known or known[path].etag != version.etag)
            and (since := pending.get(path, scopes.get(path, clock))) > clock - PATIENCE
        }
        for path in unsettled:
            del found[path]
            known.pop(path, None)
        return _Outcome(self._journal.apply(diff(known, found)), unsettled)

    def _scopes(self, pending: Mapping[str, float]) -> dict[str, float]:
        """What to look at, and since when it is waiting; what lies in another one is left out."""
        now = time.monotonic()
        scopes: dict[str, float] = {}
        for path, since in [*pending.items(), *((alias, now) for alias in self._directory.aliases)]:
            if (scope := self._directory.scope(path)) is not None:
                scopes[scope] = min(since, scopes.get(scope, since))
        return {scope: since for scope, since in scopes.items() if not _is_within(scope, scopes)}

    def _walk(self) -> dict[str, Version]:
        started = time.monotonic()
        found = self._directory.look(visit=self._visit)
        self._walked = time.monotonic()
        self._walk_time = self._walked - started
        return found

    def _visit(self, directory: str) -> None:
        """Have the system notify of what happens in a directory; called from threads."""
        if self._inotify is None:
            return
        try:
            self._inotify.add(directory)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.ENOMEM} and not self._polling:
                self._polling = True
                logger.warning("not every directory can be watched, walking the root instead: %s", _REMEDY)

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            logger.warning("%s", complaint)
        self._complaint = complaint


def _is_within(scope: str, scopes: Mapping[str, float]) -> bool:
    if not scope:
        return False
    parents = [scope[:at] for at, character in enumerate(scope) if character == "/"]
    return "" in scopes or any(parent in scopes for parent in parents)


def open_inotify() -> Inotify | None:
    """Open the system's notifications; None, and a line in the log, where there are none."""
    try:
        return Inotify()
    except OSError as error:
        remedy = f": {_REMEDY}" if error.errno in {errno.EMFILE, errno.ENOSPC} else ""
        logger.warning("changes are not notified (%s), walking the root instead%s", error.strerror, remedy)
        return None
