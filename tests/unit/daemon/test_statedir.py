"""The state directory: one owner, whole files."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caterva2.daemon.statedir import StateDir
from caterva2.errors import SettingsError
from caterva2.models import CatalogHead

HEAD = CatalogHead(epoch="e", seq=5)


def test_is_made_with_its_parents(tmp_path: Path) -> None:
    """A state directory need not exist."""
    with StateDir(tmp_path / "a/b") as state:
        assert state.path.is_dir()


def test_second_owner_is_refused(tmp_path: Path) -> None:
    """A directory in use is refused with its path, its owner's process and the remedy."""
    with StateDir(tmp_path), pytest.raises(SettingsError) as caught, StateDir(tmp_path):
        pass

    expected = (
        f"state directory {tmp_path} is in use by process {os.getpid()}:"
        " stop that one, or name another directory with --statedir"
    )
    assert expected == str(caught.value)


def test_can_be_entered_again(tmp_path: Path) -> None:
    """Once left, the directory is free."""
    with StateDir(tmp_path):
        pass
    with StateDir(tmp_path) as state:
        assert state.path == tmp_path


def test_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    """A process that was killed leaves no lock behind."""
    code = (
        "import os, sys; from pathlib import Path; from caterva2.daemon.statedir import StateDir\n"
        "StateDir(Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[3], check=False)

    assert (tmp_path / "lock").exists()
    with StateDir(tmp_path):
        pass


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_file_in_the_way(tmp_path: Path, name: str) -> None:
    """A path that cannot be a directory is refused in one line."""
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match=r"cannot be used: .*--statedir$"), StateDir(tmp_path / name):
        pass


def test_read_what_was_written(tmp_path: Path) -> None:
    """A model comes back as it was written; None if there is none."""
    with StateDir(tmp_path) as state:
        assert state.read_json("head.json", CatalogHead) is None
        state.write_json("head.json", HEAD)

        assert HEAD == state.read_json("head.json", CatalogHead)


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    """Where writing fails, the old contents are still there."""
    with StateDir(tmp_path) as state:
        state.write_json("head.json", HEAD)
        (tmp_path / "head.json.partial").mkdir()
        with pytest.raises(OSError, match="Is a directory"):
            state.write_json("head.json", CatalogHead(epoch="f", seq=6))

        assert HEAD == state.read_json("head.json", CatalogHead)


@pytest.mark.parametrize("damage", [b"", b"\0\0\0", b'{"epoch": "e"', b'{"epoch": 1, "seq": 1}', b"\xff"])
def test_damaged_file_is_set_aside(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged file counts as none, is kept for inspection, and is told in the log."""
    (tmp_path / "head.json").write_bytes(damage)

    with StateDir(tmp_path) as state, caplog.at_level(logging.WARNING):
        assert state.read_json("head.json", CatalogHead) is None

    assert damage == (tmp_path / "head.json.damaged").read_bytes()
    assert "head.json is damaged" in caplog.text
