"""One daemon, as `python -m tests.soak.daemon MODULE OPTIONS`, with the bug that `COHERENCE_BUG` names put in."""

import runpy
import sys

from tests.coherence.bugs import put_in_chosen

if __name__ == "__main__":
    put_in_chosen()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
