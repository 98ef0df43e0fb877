"""Upstream's own client 2025.6.26, in an environment of its own, since its package has our name."""

import os
from pathlib import Path

import pytest

from tests.support.processes import run


def run_upstream(code: str, *arguments: str, cwd: Path) -> None:
    """Run a piece of Python with upstream's client, in the environment that CATERVA2_UPSTREAM_PYTHON names."""
    python = os.environ.get("CATERVA2_UPSTREAM_PYTHON") or _skip()
    done = run([python, "-c", f"{code}\nprint('to the end')", *arguments], cwd)
    assert (0, "to the end") == (done.returncode, done.stdout.strip()), done.stderr


def _skip() -> str:
    pytest.skip("CATERVA2_UPSTREAM_PYTHON names no interpreter with upstream's client")
