"""The demo as a process."""

import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.support.processes import Process, run
from tests.support.programs import python

DEMO = "caterva2.demo"


def test_once(tmp_path: Path) -> None:
    """With --once it shows a slice before and after a change, and ends with status 0, leaving nothing behind."""
    done = run([python(), "-m", DEMO, "--once"], cwd=tmp_path, env={"TMPDIR": str(tmp_path)})

    assert (0, "") == (done.returncode, done.stderr)
    assert "[[ 4  5  6  7]" in done.stdout
    assert "[[1004 1005 1006 1007]" in done.stdout
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(tmp_path: Path, number: int) -> None:
    """However it is told to end, it ends with status 0, and its daemons with it."""
    with Process([python(), "-m", DEMO], cwd=tmp_path, env={"TMPDIR": str(tmp_path)}) as demo:
        demo.wait_for("until you press Ctrl-C")
        urls = re.findall(r"^  (?:broker|publisher|subscriber) +(\S+)", demo.output, re.MULTILINE)
        answers = [httpx.get(f"{url}/health").status_code for url in urls]
        demo.signal(number)
        status = demo.wait()

    assert ([200] * 3, 0) == (answers, status)
    assert "Traceback" not in demo.output
    for url in urls:
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
    assert [] == list(tmp_path.glob("caterva2-demo-*"))


def test_suggestions(tmp_path: Path) -> None:
    """The commands that it prints work."""
    with Process([python(), "-m", DEMO], cwd=tmp_path, env={"TMPDIR": str(tmp_path)}) as demo:
        demo.wait_for("until you press Ctrl-C")
        lines = [line.strip() for line in demo.output.splitlines() if "--subscriber" in line]
        results = [run(["/bin/sh", "-c", line], cwd=tmp_path) for line in lines]
        # Killed, as it is at the end of the context, it could not end its daemons.
        demo.interrupt()

    assert 4 == len(lines)
    assert [0] * 4 == [done.returncode for done in results], [done.stderr for done in results]
    assert "README.md" in results[1].stdout
    assert "1004" in results[2].stdout


def test_failure(tmp_path: Path) -> None:
    """When a daemon does not come up, it says so and ends with status 1."""
    code = f"import sys; from {DEMO} import main; sys.executable = '/bin/false'; sys.exit(main(['--once']))"

    done = run([python(), "-c", code], cwd=tmp_path)

    assert 1 == done.returncode
    assert "The demo failed: broker ended with status 1" in done.stderr
    assert "Traceback" not in done.stderr
