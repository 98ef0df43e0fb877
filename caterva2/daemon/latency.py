"""Keeps the interpreter from holding up the event loop.

Two things in CPython 3.11 do, for tens of milliseconds: a full garbage collection, which looks at every object that
could be part of a cycle, however long it has been there; and a thread that computes in Python, which gives way to the
event loop only after the switch interval, several times for one request.
"""

from __future__ import annotations

import gc
import sys

# Seconds; the default of 5 ms is paid about five times by a request beside a thread that computes.
_SWITCH_INTERVAL = 0.001


def prefer_latency() -> None:
    """Set this process up to answer quickly, once all is imported."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()


def spare_collector() -> None:
    """Let full collections pass over what is in memory by now, since much of it was made to stay.

    It still goes when nobody refers to it; only a cycle that is garbage at this moment stays for good.
    """
    gc.collect(1)
    gc.freeze()
