"""What the own roots may take on disk: all of them together, and the `@personal` of each user.

The files are counted once, at the start; after that each write tells what it takes, before it takes it, and what it
gives back. Sizes are those of the files, in bytes.
"""

from __future__ import annotations

import threading
from collections import Counter

from caterva2.errors import StorageFullError, TooLargeError, UnavailableError


class Quotas:
    """Counts bytes. Everything can be called from several threads.

    Args:
        total: of all own roots; None is no limit.
        per_user: of the `@personal` of each user; None is no limit.
    """

    def __init__(self, total: int | None = None, per_user: int | None = None) -> None:
        self._total = total
        self._per_user = per_user
        self._used: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._counted = total is None and per_user is None

    @property
    def counted(self) -> bool:
        """Whether it is known what is there; without a limit, nobody needs to know."""
        return self._counted

    def start(self, used: Counter[str]) -> None:
        """Say what is there, by the id of its user; "" is what belongs to all."""
        with self._lock:
            self._used = Counter(used)
            self._counted = True

    def check_counted(self) -> None:
        """Refuse a write as long as it is not known what is there.

        Raises:
            UnavailableError: if it is not.
        """
        if not self._counted:
            raise UnavailableError("the datasets that are here already are being counted: try again in a moment")

    def used(self, owner: str | None = None) -> int:
        """The bytes that are taken, by a user or by all."""
        with self._lock:
            return self._used.total() if owner is None else self._used[owner]

    def take(self, owner: str, nbytes: int, credit: int = 0) -> None:
        """Take some bytes.

        Args:
            owner: whose they are.
            nbytes: how many.
            credit: how many of those in use are given back when this write succeeds.

        Raises:
            TooLargeError: if they are more than the user may have.
            StorageFullError: if they are more than all may have.
        """
        with self._lock:
            self._check(owner, nbytes - credit)
            self._used[owner] += nbytes

    def give(self, owner: str, nbytes: int) -> None:
        """Give some bytes back."""
        with self._lock:
            self._used[owner] -= nbytes

    def pass_on(self, before: str, after: str, nbytes: int) -> None:
        """Let bytes of one user be another's from now on.

        Raises:
            TooLargeError: if they are more than the other may have.
        """
        if before == after:
            return
        with self._lock:
            self._check_user(after, nbytes)
            self._used[before] -= nbytes
            self._used[after] += nbytes

    def _check(self, owner: str, more: int) -> None:
        self._check_user(owner, more)
        used = self._used.total()
        if self._total is not None and used + more > self._total:
            raise StorageFullError(
                f"no room is left: this subscriber keeps {self._total} bytes for its users, {used} are taken,"
                f" and this needs {more} more"
            )

    def _check_user(self, owner: str, more: int) -> None:
        used = self._used[owner]
        if self._per_user is not None and owner and used + more > self._per_user:
            raise TooLargeError(
                f"this does not fit: a user may keep {self._per_user} bytes in @personal, {used} are taken,"
                f" and this needs {more} more"
            )


class Reservation:
    """What one write has taken so far; what it does not keep is given back.

    Args:
        quotas: where it is counted.
        owner: whose it is.
        credit: the size of the version that it will replace.
    """

    def __init__(self, quotas: Quotas, owner: str, credit: int = 0) -> None:
        quotas.check_counted()
        self._quotas = quotas
        self._owner = owner
        self._credit = credit
        self._taken = 0

    def grow(self, nbytes: int) -> None:
        """Take more; `take` tells the errors."""
        self._quotas.take(self._owner, nbytes, self._credit)
        self._taken += nbytes

    def keep(self, nbytes: int, replaced: int) -> None:
        """The write is done: so many bytes are there, and a version of so many has gone."""
        taken, self._taken = self._taken, 0
        self._quotas.give(self._owner, taken - nbytes + replaced)

    def check(self, replaced: int) -> None:
        """Look whether what was taken still fits, now that the version of this size is the one that will go.

        Raises:
            Caterva2Error: as `take` does.
        """
        self._quotas.take(self._owner, 0, replaced)
        self._credit = replaced

    def release(self) -> None:
        """Give back what was taken and not kept."""
        taken, self._taken = self._taken, 0
        self._quotas.give(self._owner, taken)
