"""The directory of a daemon's state: owned by one process at a time, written whole or not at all."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pydantic import BaseModel, ValidationError

from caterva2.errors import SettingsError

logger = logging.getLogger(__name__)
_Model = TypeVar("_Model", bound=BaseModel)


class StateDir:
    """A context manager that makes the directory and holds its lock.

    The lock is the kernel's, so it goes with the process, however that ends.

    Args:
        path: the directory; made with its parents if needed.

    Raises:
        SettingsError: on entering, if the directory cannot be used or another daemon uses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise SettingsError(
                f"state directory {self.path} cannot be used: {error.strerror};"
                " make it writable, or name another one with --statedir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            self._unlock()
            raise SettingsError(
                f"state directory {self.path} is in use by process {holder or '(unknown)'}:"
                " stop that one, or name another directory with --statedir"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_json(self, name: str, model: BaseModel) -> None:
        """Replace a file by the model's JSON; after a crash there is the old one or the new one, whole.

        Call it from one thread at a time for each name.

        Raises:
            OSError: if it cannot be written; the old one is still there.
        """
        partial = self.path / f"{name}.partial"
        with partial.open("wb") as file:
            file.write(model.model_dump_json(indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path / name)
        self._sync()

    def read_json(self, name: str, model: type[_Model]) -> _Model | None:
        """Read what `write_json` wrote; None if there is none.

        A damaged file is set aside as `NAME.damaged` and counts as none: state can be learned again, while a
        daemon that does not start would stay away until someone comes.
        """
        file = self.path / name
        try:
            return model.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            logger.warning("%s is damaged, set aside as %s.damaged: %s", file, name, error.errors()[0]["msg"])
            file.replace(file.with_name(f"{name}.damaged"))
            return None

    def _sync(self) -> None:
        # Without this the new name may be lost with the power, though its contents are on the disk.
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
