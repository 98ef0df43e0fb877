"""Run the fuzzer: `python -m tests.fuzz --minutes 1`. A table on stdout; the exit status is 1 if something gave way."""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.fuzz.siege import Siege


def main() -> int:
    """Run it and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="of what is random [default: another one each time]")
    parser.add_argument("--refused", type=int, default=2000, help="connections that come to nothing, beside all else")
    parser.add_argument("--keep", type=Path, help="keep logs and files in this directory")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}: --seed {seed} does the same again", flush=True)
    # It warns of each write to a connection that the daemon has cut, which is what it should do.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with ExitStack() as stack:
        directory = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="caterva2-fuzz-")))
        directory.mkdir(exist_ok=True)
        start = time.monotonic()
        siege = stack.enter_context(Siege(directory, seed))
        asyncio.run(siege.run(options.minutes * 60, options.refused))
        print(siege.table(), f"{'seconds':42} {time.monotonic() - start:8.0f}", sep="\n")
        for complaint in siege.complaints:
            print(f"GAVE WAY: {complaint}")
    return 1 if siege.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
