"""Who imports whom, as `[tool.importlinter]` in pyproject.toml says it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def lint_imports(directory: Path) -> tuple[int, str]:
    """Run import-linter on the source in a directory; return its status and what it says."""
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=directory, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the source."""
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    for package in ("bus", "caterva2"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_contracts() -> None:
    """The source keeps every contract."""
    status, said = lint_imports(REPOSITORY)

    assert 0 == status, said


def test_stray_module(copy: Path) -> None:
    """A module without a layer fails."""
    (copy / "caterva2/utils.py").touch()

    status, said = lint_imports(copy)

    assert 1 == status
    assert "caterva2.utils" in said or "\n- utils" in said, said


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("bus/client.py", "caterva2.errors"),
        ("caterva2/client/session.py", "starlette"),
        ("caterva2/cli/context.py", "caterva2.daemon.runner"),
        ("caterva2/paths.py", "asyncio"),
        ("caterva2/subscriber/catalog.py", "httpx"),
        ("caterva2/publisher/routes.py", "caterva2.subscriber.catalog"),
        ("caterva2/subscriber/app.py", "bus.broker"),
        ("caterva2/subscriber/reader.py", "aiohttp"),
    ],
)
def test_forbidden_import(copy: Path, module: str, imported: str) -> None:
    """An import that goes the wrong way fails, with both ends named."""
    with (copy / module).open("a") as file:
        file.write(f"\nimport {imported}\n")

    status, said = lint_imports(copy)

    assert 1 == status
    assert f"{module.removesuffix('.py').replace('/', '.')} -> {imported}" in said
