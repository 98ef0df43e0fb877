"""A short soak; `make soak` runs a long one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_no_answer_is_wrong_while_daemons_are_killed(tmp_path: Path) -> None:
    """Sixteen readers get whole versions, none of them too old, from daemons that are killed again and again."""
    minutes = "1" if os.environ.get("CI") else "0.3"
    argv = [sys.executable, "-m", "tests.soak", "--minutes", minutes, "--keep", str(tmp_path / "soak")]

    soak = subprocess.run(argv, cwd=_REPOSITORY, capture_output=True, text=True, timeout=220, check=False)

    assert 0 == soak.returncode, soak.stdout + soak.stderr
