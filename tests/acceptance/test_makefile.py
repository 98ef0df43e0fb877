"""The Makefile, as far as it says something without installing anything."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.processes import run
from tests.support.programs import require_program

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with what the Makefile needs to decide what to do."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


def test_help(checkout: Path) -> None:
    """Without a target it tells which there are."""
    done = run([require_program("make")], cwd=checkout)

    assert 0 == done.returncode
    for target in ("demo", "test", "check", "bench", "soak", "clean"):
        assert f"make {target} " in done.stdout


@pytest.mark.parametrize(("python", "said"), [("nosuch-python", "is not there"), ("old-python", "is Python 3.9.2")])
def test_unfit_python(checkout: Path, python: str, said: str) -> None:
    """A Python that is missing or too old is told, with the remedy, and nothing is left behind."""
    old = checkout / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 || exit 1\n')
    old.chmod(0o755)

    done = run([require_program("make"), "demo", f"PYTHON={python}"], cwd=checkout, env={"PATH": f"{checkout}:/bin"})

    assert 2 == done.returncode
    assert f"This needs Python 3.11 or newer; '{python}' {said}." in done.stderr
    assert "make PYTHON=python3.12 demo" in done.stderr
    assert not (checkout / ".venv").exists()


def test_quick_again(checkout: Path) -> None:
    """What is installed is installed again only when pyproject.toml is newer."""
    make = require_program("make")
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").touch()
    (checkout / ".venv/.installed-tests").touch()

    fresh = run([make, "-n", "test"], cwd=checkout).stdout
    stale = run([make, "-n", "-W", "pyproject.toml", "test"], cwd=checkout).stdout

    assert "pip install" not in fresh
    assert "pip install" in stale


@pytest.mark.parametrize("module", ["tests.benchmarks", "tests.fuzz", "tests.soak"])
def test_what_the_makefile_runs_can_be_run(module: str) -> None:
    """`make bench`, `make fuzz` and `make soak` find all that they import; CI runs the first of them nowhere else."""
    done = run([sys.executable, "-m", module, "--help"], cwd=REPOSITORY)

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("usage: ")
