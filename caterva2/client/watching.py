"""Following along: `Watch`, an iterator over the changes of a root, a directory or a file.

A thread of its own reads the subscriber's events, so a program that is busy with one change misses none of the next,
and one that waits can be told to stop. When the connection breaks it is made again, for ever, and the events that were
missed meanwhile come first; where the subscriber no longer knows them, there is one change of type `reset` instead.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import uniform
from types import TracebackType
from typing import Literal, Self

from pydantic import ValidationError

from caterva2.client.answers import ServerEvent
from caterva2.client.session import LiveAnswer, Session
from caterva2.errors import AuthenticationError, BadRequestError, Caterva2Error, ForbiddenError, NotFoundError
from caterva2.models import ChangeEvent, Kind
from caterva2.paths import DatasetPath

logger = logging.getLogger(__name__)

# Seconds of silence after which a connection is dead: the subscriber shows a sign of life every 15 seconds.
_SILENCE = 45.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0  # seconds between two attempts to connect
# Changes that are held for a program that does not ask for them; beyond it the subscriber has to wait, too.
_MOST_HELD = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """Something changed; a read from now on finds it so.

    Attributes:
        type: `created`, `modified` or `deleted`; or `reset`: what changed since the last change is not known, so
            whatever was derived from the root must be made afresh.
        root: the root's name.
        path: the file's path below the root; "" for a reset.
        kind: array, frame or file; None for a reset.
        etag: the version; None when deleted, and for a reset.
        nbytes: the size of the file where it is published.
        mtime: when it changed there, in seconds since 1970; 0 when deleted.
        time: when the subscriber knew it, in seconds since 1970.
    """

    type: Literal["created", "modified", "deleted", "reset"]
    root: str
    path: str = ""
    kind: Kind | None = None
    etag: str | None = None
    nbytes: int = 0
    mtime: float = 0.0
    time: float = 0.0


class Watch:
    """The changes of a root, directory or file, as they happen; an iterator, and a context manager.

    What happens after this object was made is told, however late it is asked for. Any thread may call `close`.

    Args:
        session: the subscriber.
        path: what to watch.
        timeout: seconds; when no change comes for so long, the iteration ends. None waits for ever.
        before: called with each change before it is returned.

    Raises:
        NotFoundError: if there is no such root.

    Examples:
        >>> for change in caterva2.Root("foo").watch():
        ...     print(change.type, change.path)
        modified ds-1d.b2nd
    """

    def __init__(
        self,
        session: Session,
        path: DatasetPath,
        *,
        timeout: float | None = None,
        before: Callable[[Change], None] | None = None,
    ) -> None:
        self._path = path
        self._timeout = timeout
        self._before = before
        self._feed = _Feed(session, path)
        weakref.finalize(self, self._feed.close)
        threading.Thread(target=self._feed.run, name=f"watching {path}", daemon=True).start()
        self._feed.wait_for_start()

    def wait(self, timeout: float | None = None) -> Change | None:
        """Return the next change; None when there was none in time, or after `close`.

        Args:
            timeout: seconds; None waits for ever, 0 does not wait.

        Raises:
            Caterva2Error: if the subscriber refuses to tell, such as for want of a login.
        """
        change = self._feed.get(timeout)
        if change is not None and self._before is not None:
            self._before(change)
        return change

    def close(self) -> None:
        """End the iteration, also one that waits in another thread."""
        self._feed.close()

    @property
    def closed(self) -> bool:
        """Whether it was ended."""
        return self._feed.closed

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        change = self.wait(self._timeout)
        if change is None:
            self.close()
            raise StopIteration
        return change

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Watch: {self._path}{' (closed)' if self.closed else ''}>"


class _Feed:
    """What the thread and the iterator share; it knows no `Watch`, so that a forgotten one can end."""

    def __init__(self, session: Session, path: DatasetPath) -> None:
        self._session = session
        self._path = path
        self._condition = threading.Condition()
        self._held: deque[Change] = deque()
        self._error: Caterva2Error | None = None
        self._started = False
        self._answer: LiveAnswer | None = None
        self._last_id: str | None = None
        self._missed = False
        self._pause = _FIRST_PAUSE
        self.closed = False

    # -- the iterator's side

    def wait_for_start(self) -> None:
        """Return when the first attempt to connect is over; raise what makes all others useless."""
        with self._condition:
            self._condition.wait_for(lambda: self._started or self.closed)
            if self._error is not None:
                raise self._error

    def get(self, timeout: float | None) -> Change | None:
        with self._condition:
            self._condition.wait_for(lambda: self._held or self.closed or self._error, timeout)
            if self._held and not self.closed:
                self._condition.notify_all()
                return self._held.popleft()
            if self._error is not None and not self.closed:
                raise self._error
            return None

    def close(self) -> None:
        with self._condition:
            self.closed = True
            answer, self._answer = self._answer, None
            self._condition.notify_all()
        if answer is not None:
            answer.abort()

    # -- the thread's side

    def run(self) -> None:
        """Read events until closed."""
        while not self.closed:
            try:
                self._listen()
            except Caterva2Error as error:
                if not self._worth_another(error):
                    self._fail(error)
                    return
                logger.debug("watching %s: %s", self._path, error)
            if self._session.closed:
                self.close()
            self._rest()

    def _worth_another(self, error: Caterva2Error) -> bool:
        if isinstance(error, NotFoundError):
            # A subscriber that has just been started may not know yet what is published.
            return self._started
        return not isinstance(error, BadRequestError | AuthenticationError | ForbiddenError)

    def _fail(self, error: Caterva2Error) -> None:
        with self._condition:
            self._error, self._started = error, True
            self._condition.notify_all()

    def _rest(self) -> None:
        with self._condition:
            # Without an id there is nothing to resume from.
            self._missed = self._missed or self._last_id is None
            self._started = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: self.closed, self._pause * uniform(0.5, 1.5))
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _listen(self) -> None:
        params = {"root": str(self._path.root)} | ({"path": self._path.name} if self._path.name else {})
        with self._session.listen("api/events", params, self._last_id, _SILENCE) as answer:
            with self._condition:
                if self.closed:
                    return
                self._answer = answer
                self._started = True
                self._condition.notify_all()
            try:
                if self._missed:
                    self._put(Change("reset", str(self._path.root), time=time.time()))
                    self._missed = False
                for event in answer.events():
                    self._take(event)
            finally:
                self._answer = None

    def _take(self, event: ServerEvent) -> None:
        self._pause = _FIRST_PAUSE
        if event.name == "reset":
            self._put(Change("reset", str(self._path.root), time=time.time()))
        elif event.name == "change":
            with suppress(ValidationError):  # of a newer subscriber, perhaps
                told = ChangeEvent.model_validate_json(event.data)
                self._put(
                    Change(told.type, told.root, told.path, told.kind, told.etag, told.nbytes, told.mtime, told.time)
                )
        self._last_id = event.id or self._last_id

    def _put(self, change: Change) -> None:
        with self._condition:
            self._condition.wait_for(lambda: len(self._held) < _MOST_HELD or self.closed)
            self._held.append(change)
            self._condition.notify_all()


def watched(session: Session, path: DatasetPath, timeout: float | None, again: Callable[[], None]) -> Watch:
    """Watch one file; before a change of it is returned, what is known of it is asked for again."""

    def before(change: Change) -> None:
        if change.type != "deleted":
            # Whatever it has become meanwhile, the next read says so.
            with suppress(Caterva2Error):
                again()

    return Watch(session, path, timeout=timeout, before=before)


__all__ = ["Change", "Watch", "watched"]
