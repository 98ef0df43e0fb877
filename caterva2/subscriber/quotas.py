"""What the own roots may take on disk: all of them together, and what each user has written there.

The files are counted once, at the start; after that each write tells what it takes, before it takes it, and what it
gives back. Sizes are those of the files, in bytes.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from caterva2.errors import StorageFullError, TooLargeError, UnavailableError
from caterva2.models import QuotaFigures


@dataclass(frozen=True, slots=True)
class Replaced:
    """A version that a write replaces.

    Attributes:
        owner: the id of the user who wrote it; "" is nobody known.
        nbytes: its size.
    """

    owner: str
    nbytes: int


NOTHING: Final = Replaced("", 0)


class Quotas:
    """Counts bytes. Everything can be called from several threads.

    Args:
        total: of all own roots; None is no limit.
        per_user: of what each user has written; None is no limit.
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

    def figures(self, owner: str) -> QuotaFigures:
        """What a user, and all together, have taken, and may take."""
        with self._lock:
            known = self._counted and not (self._total is None and self._per_user is None)
            used, total = (self._used[owner], self._used.total()) if known else (None, None)
        return QuotaFigures(used=used, limit=self._per_user, total_used=total, total_limit=self._total)

    def take(self, owner: str, nbytes: int, replaced: Replaced = NOTHING) -> None:
        """Take some bytes.

        Args:
            owner: whose they are.
            nbytes: how many.
            replaced: what will be given back when this write succeeds.

        Raises:
            TooLargeError: if they are more than the user may have.
            StorageFullError: if they are more than all may have.
        """
        with self._lock:
            self._check_user(owner, nbytes - (replaced.nbytes if replaced.owner == owner else 0))
            self._check_total(nbytes - replaced.nbytes)
            self._used[owner] += nbytes

    def give(self, owner: str, nbytes: int) -> None:
        """Give some bytes back."""
        with self._lock:
            self._used[owner] -= nbytes

    def pass_on(self, shares: Mapping[str, int], owner: str) -> None:
        """Let bytes of some users be another's from now on.

        Raises:
            TooLargeError: if they are more than the other may have.
        """
        with self._lock:
            self._check_user(owner, sum(shares.values()) - shares.get(owner, 0))
            for before, nbytes in shares.items():
                self._used[before] -= nbytes
                self._used[owner] += nbytes

    def pass_back(self, owner: str, shares: Mapping[str, int]) -> None:
        """Undo what `pass_on` did."""
        with self._lock:
            for before, nbytes in shares.items():
                self._used[before] += nbytes
                self._used[owner] -= nbytes

    def _check_total(self, more: int) -> None:
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
                f"this does not fit: a user may keep {self._per_user} bytes, {used} are taken,"
                f" and this needs {more} more"
            )


class Reservation:
    """What one write has taken so far; what it does not keep is given back.

    Args:
        quotas: where it is counted.
        owner: whose it is.
        replaced: the version that it will replace.
    """

    def __init__(self, quotas: Quotas, owner: str, replaced: Replaced = NOTHING) -> None:
        quotas.check_counted()
        self._quotas = quotas
        self._owner = owner
        self._replaced = replaced
        self._taken = 0

    def grow(self, nbytes: int) -> None:
        """Take more; `take` tells the errors."""
        self._quotas.take(self._owner, nbytes, self._replaced)
        self._taken += nbytes

    def keep(self, nbytes: int, replaced: Replaced = NOTHING) -> None:
        """The write is done: so many bytes are there, and another version has gone."""
        taken, self._taken = self._taken, 0
        self._quotas.give(self._owner, taken - nbytes)
        self._quotas.give(replaced.owner, replaced.nbytes)

    def check(self, replaced: Replaced) -> None:
        """Look whether what was taken still fits, now that this version is the one that will go.

        Raises:
            Caterva2Error: as `take` does.
        """
        self._quotas.take(self._owner, 0, replaced)
        self._replaced = replaced

    def release(self) -> None:
        """Give back what was taken and not kept."""
        taken, self._taken = self._taken, 0
        self._quotas.give(self._owner, taken)
