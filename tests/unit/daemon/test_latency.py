"""What keeps the interpreter from holding up the event loop."""

import gc
import subprocess
import sys
import weakref

from caterva2.daemon.latency import spare_collector


class Kept:
    """Something that the collector looks at."""


def test_what_is_spared_is_not_looked_at_again_and_still_goes_when_nobody_has_it() -> None:
    """A full collection passes over it, and reference counts free it."""
    kept = [Kept() for _ in range(1000)]
    gone = weakref.ref(kept[0])
    try:
        spare_collector()
        tracked = {id(each) for each in gc.get_objects()}
        assert not tracked & {id(each) for each in kept}
        kept.clear()
        assert gone() is None
    finally:
        gc.unfreeze()


def test_a_daemon_starts_with_all_that_it_imported_out_of_the_collectors_way() -> None:
    """What imports made is never looked at again, and threads give way soon."""
    code = (
        "import gc, sys, caterva2.daemon.latency as latency; latency.prefer_latency();"
        "print(gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 1000, sys.getswitchinterval() < 0.002)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import caterva2.subscriber.app; {code}"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("True True True\n", "")
