"""A progress bar on stderr, for downloads that last."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from caterva2.cli.output import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE = 0.5


class ProgressBar:
    """Called with what has arrived; draws nothing for half a second, nor where nobody would see it.

    Args:
        title: what is downloaded.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._since = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None
        self._wanted = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar[0].stop()

    def __call__(self, done: int, total: int | None) -> None:
        """Show how much has arrived.

        Args:
            done: bytes so far.
            total: bytes at the end, None when nobody knows.
        """
        if self._wanted and self._bar is None and time.monotonic() - self._since > _PATIENCE:
            self._bar = self._start(total)
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=done, total=total)

    def _start(self, total: int | None) -> tuple[Progress, TaskID] | None:
        try:
            from rich.console import Console
            from rich.markup import escape
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
        except ImportError:
            self._wanted = False  # the download itself needs no bar
            return None
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        progress = Progress(
            "{task.description}", *columns, console=Console(stderr=True, highlight=False), transient=True
        )
        task = progress.add_task(escape(visible(self._title)), total=total)
        progress.start()
        return progress, task
