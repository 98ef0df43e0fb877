from __future__ import annotations

import subprocess
import sys

import pytest

SERVER_LIBRARIES = (
    "aiohttp",
    "amqtt",
    "bus",
    "paho",
    "starlette",
    "uvicorn",
    "uvloop",
    "xxhash",
)


def _loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import caterva2",
        "from caterva2 import *",
        "import caterva2.client",
        "import caterva2.cli.main, caterva2.cli.values",
    ],
)
def test_the_client_loads_no_server_library(statement: str) -> None:
    """Whoever only reads data needs none of the daemons' packages, and does not wait for them."""
    assert set() == _loaded_by(statement) & set(SERVER_LIBRARIES)


def test_the_package_itself_loads_nothing() -> None:
    """A daemon that imports a module of the package does not load the client with it."""
    assert set() == _loaded_by("import caterva2.errors") & {"numpy", "blosc2", "httpx", "pydantic"}


def test_the_command_line_starts_light() -> None:
    """`cat2cli --help` and a usage error come without waiting for NumPy and Blosc2."""
    assert set() == _loaded_by("import caterva2.cli.main") & {"numpy", "blosc2", "httpx", "rich"}
