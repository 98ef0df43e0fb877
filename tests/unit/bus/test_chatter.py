import logging

import pytest

from bus.chatter import Chatter


def test_a_flood_of_lines_is_cut_short(caplog: pytest.LogCaptureFixture) -> None:
    """So many in a while, then how many were left out, then again so many."""
    caplog.set_level(logging.INFO)
    now = 0.0
    chatter = Chatter(logging.getLogger("test"), lines=2, seconds=1.0, clock=lambda: now)
    for number in range(5):
        chatter.log(logging.INFO, "line %d", number)
        chatter.log(logging.DEBUG, "not wanted, not counted")
    now = 2.0
    chatter.log(logging.INFO, "later")
    chatter.flush()

    assert ["line 0", "line 1", "3 more lines like these were left out", "later"] == [
        each.getMessage() for each in caplog.records
    ]
