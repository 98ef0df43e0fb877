"""Programs and ports of the machine that runs the tests."""

import contextlib
import os
import random
import shutil
import socket
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test for something that this machine lacks; under CI=true, where it must be there, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}: missing, and CI is set")
    pytest.skip(f"{what}: missing")


def require_program(name: str) -> str:
    """Return the path of a program, or skip (fail under CI)."""
    # Debian puts servers where only root's PATH looks.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    return found or missing(f"the program {name}")


def command(name: str) -> list[str]:
    """The start of a command line for `cat2bro`, `cat2pub`, `cat2sub` or `cat2cli`.

    It is the module in this interpreter, or the installed script in the directory CATERVA2_TEST_BIN.
    """
    where = os.environ.get("CATERVA2_TEST_BIN")
    if where:
        return [str(Path(where) / name)]
    return [sys.executable, "-m", _MODULES[name]]


def python() -> str:
    """The interpreter that has caterva2: this one, or the one in the directory CATERVA2_TEST_BIN."""
    where = os.environ.get("CATERVA2_TEST_BIN")
    return str(Path(where) / "python") if where else sys.executable


def free_port() -> int:
    """Return a TCP port that nothing uses, never twice the same; for what must know its port before it starts.

    It lies below those that the system gives to outgoing connections and for port 0: another test would take one of
    those before it is used.
    """
    while True:
        port = random.randrange(10_000, _first_ephemeral_port())
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32_768  # Linux's default, and below the range of IANA


_given: set[int] = set()


_MODULES = {
    "cat2bro": "caterva2.broker",
    "cat2pub": "caterva2.publisher",
    "cat2sub": "caterva2.subscriber",
    "cat2cli": "caterva2.cli",
}
