"""The daemons' commands where only the client library is installed."""

import subprocess
import sys

import pytest

_WITHOUT = """
import sys
for name in ("uvicorn", "uvloop", "starlette", "amqtt", "paho", "aiohttp"):
    sys.modules[name] = None
from caterva2.{kind}.main import main
sys.exit(main([]))
"""


@pytest.mark.parametrize("kind", ["broker", "publisher", "subscriber"])
def test_a_plain_install_names_the_remedy(kind: str) -> None:
    """A daemon without its libraries says in one line what to install."""
    argv = [sys.executable, "-c", _WITHOUT.format(kind=kind)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert (2, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert 'pip install "caterva2[services]"' in done.stderr
