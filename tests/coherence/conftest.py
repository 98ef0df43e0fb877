"""Set-up of the tests of coherence: the bug that `COHERENCE_BUG` names is put in."""

import pytest

from tests.coherence.bugs import put_in_chosen


@pytest.fixture(autouse=True)
def _bug(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_chosen(monkeypatch.setattr)
