"""Set-up of the tests of coherence: a disk that takes its time, and the bug that `COHERENCE_BUG` names."""

import time
from typing import Any

import pytest

from caterva2.subscriber.disk import Disk
from tests.coherence.bugs import put_in_chosen

_PAYLOAD = 100
"""Bytes from which a write is more than a mark."""
_SLOW = 0.01
"""Seconds."""


@pytest.fixture(autouse=True)
def _bug(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_chosen(monkeypatch.setattr)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Payload takes some milliseconds to the subscriber's disk, so that others come between."""
    write = Disk.write

    def slowly(self: Any, fd: int, data: bytes, offset: int) -> None:
        if len(data) >= _PAYLOAD:
            time.sleep(_SLOW)
        write(self, fd, data, offset)

    monkeypatch.setattr(Disk, "write", slowly)
