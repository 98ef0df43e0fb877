"""A short run of the fuzzer; `make fuzz` runs it for as long as one likes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_nothing_gives_way_to_hostile_input(tmp_path: Path) -> None:
    """Hostile clients and a hostile publisher crash nothing, leave nothing behind, and disturb no honest client."""
    minutes = os.environ.get("FUZZ_MINUTES") or ("1" if os.environ.get("CI") else "0.17")
    argv = [sys.executable, "-m", "tests.fuzz", "--minutes", minutes, "--keep", str(tmp_path / "fuzz")]

    fuzzer = subprocess.run(argv, cwd=_REPOSITORY, capture_output=True, text=True, timeout=220, check=False)

    assert 0 == fuzzer.returncode, fuzzer.stdout + fuzzer.stderr
