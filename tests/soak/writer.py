"""Writes versions of one dataset until its standard input ends: `python -m tests.soak.writer FILE LOG SEED`.

Each version is a line of the log: its number, when it was begun and done, and the longest pause in the middle.
"""

import random
import select
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from tests.soak.data import WAYS, Span, replace

_PAUSES = (0.01, 0.05, 0.2, 0.5, 1.0, 2.0)


def main(file: Path, log: Path, seed: int) -> None:
    """Write until told to end."""
    rng, write, version = random.Random(seed), WAYS[file.name], 0
    with log.open("w", buffering=1) as lines:
        while True:
            version += 1
            _write(lines, version, (write if file.exists() else replace)(file, version))
            # Sometimes many in a row, without a rest.
            pause = 0.005 if rng.random() < 0.3 else rng.choice(_PAUSES)
            if select.select([sys.stdin], [], [], pause)[0]:
                return


def _write(lines: TextIO, version: int, steps: Iterable[Span]) -> None:
    begun, done, longest = 0.0, 0.0, 0.0
    for start, end in steps:
        longest = max(longest, end - (done or start))
        begun, done = begun or start, end
    print(version, begun, done, longest, file=lines)


if __name__ == "__main__":
    # The clock is that of the system, so lines of several processes can be compared.
    assert time.get_clock_info("monotonic").monotonic
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
