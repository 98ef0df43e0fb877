"""caterva2.subscriber.figures: what is counted."""

import time

import pytest

from caterva2.subscriber.figures import Figures


def test_changes_and_their_lag() -> None:
    """Changes are counted by root; a clock that is ahead of ours makes no lag less than none."""
    figures = Figures()
    assert figures.lag is None
    assert 0 == figures.rate

    now = time.time()
    figures.told("a", [now - 4, now - 2])
    figures.told("b", [now + 100])

    latest, median, longest = figures.lag
    assert (0, pytest.approx(2, abs=1), pytest.approx(4, abs=1)) == (latest, median, longest)
    assert {"a": 2, "b": 1} == dict(figures.changes)
    assert 3 >= figures.rate > 0


def test_a_rate_is_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer ago counts in the sum alone."""
    figures = Figures(started=0.0)
    figures.told("a", [time.time()] * 120)
    assert 2 == figures.rate

    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)

    assert (0, 120) == (figures.rate, figures.changes.total())


def test_chunks() -> None:
    """What was not missing was found."""
    figures = Figures()
    figures.needed(10, 3)
    figures.needed(2, 0)

    assert (12, 9) == (figures.wanted, figures.found)
