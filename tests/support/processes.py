"""Real processes: started with their output in a file, and ended with the test in every case."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.programs import command
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.mosquitto import Mosquitto

_LISTENING = re.compile(r"^.*: listening on (\S+)$", re.MULTILINE)
_REPOSITORY = Path(__file__).parents[2]


class Process:
    """A process, as a context manager.

    Args:
        argv: the command.
        cwd: its directory.
        env: variables beside those of the tests.
        log: the file of its output; `cwd` and the command's name, where it is left out.
    """

    def __init__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        self.argv = [*argv]
        self._cwd = cwd
        self._env = _environment(env or {})
        self._log = log or cwd / f".log-{Path(argv[0]).name}-{id(self)}"
        self._seen = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it, also again after an end; `output` then begins anew."""
        assert self._process is None or self._process.poll() is not None
        self._seen = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv,
                cwd=self._cwd,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it wrote since its latest start, on stdout and stderr."""
        return self._log.read_bytes()[self._seen :].decode(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it has not yet ended."""
        return self._process is not None and self._process.poll() is None

    def wait_for(self, pattern: str, timeout: float = 30.0) -> re.Match[str]:
        """Return the first match of a pattern (lines: `^`, `$`) in `output`; fail when it ends before."""
        compiled = re.compile(pattern, re.MULTILINE)

        def found() -> re.Match[str] | bool:
            running = self.running
            return compiled.search(self.output) or not running

        match = wait_until(found, f"{pattern!r} in the output of {self}", timeout)
        assert isinstance(match, re.Match), f"{self} ended without {pattern!r}:\n{self.output}"
        return match

    def stop(self, timeout: float = 15.0) -> int:
        """Ask it to end (SIGTERM) and return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout)

    def interrupt(self, timeout: float = 15.0) -> int:
        """Do what Ctrl-C does (SIGINT), and return the exit status."""
        self.signal(signal.SIGINT)
        return self.wait(timeout)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end and return its exit status."""
        assert self._process is not None
        return self._process.wait(timeout)

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        """End it, if it still runs."""
        if self.running:
            self.kill()

    def __str__(self) -> str:
        return " ".join(self.argv)


class Daemon(Process):
    """One of `cat2bro`, `cat2pub`, `cat2sub` as a real process; entered, it listens.

    On the bus that `tests.support.bus` chooses, unless `env` says where it is.
    """

    def __init__(
        self, name: str, *options: str, cwd: Path, env: Mapping[str, str] | None = None, root: str = "foo"
    ) -> None:
        from tests.support.bus import variables_of  # which stands on this module

        identity = "".join(c if c.isalnum() else "_" for c in "".join(options))[:60]
        self._mosquitto = _mosquitto_for(name, cwd, env or {}, root)
        bus = variables_of(name, root, self._mosquitto.url if self._mosquitto else "")
        super().__init__(
            [*command(name), *options], cwd, {**bus, **(env or {})}, cwd / f".log-{name}-{identity}-{id(self)}"
        )
        self.url = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        if self._mosquitto is not None and not self._mosquitto.running:
            self._mosquitto.start()
        super().start()
        self.url = self.wait_for(_LISTENING.pattern)[1]

    def kill(self) -> None:
        """End it at once, and with cat2bro the bus, whichever that is."""
        if self._mosquitto is not None:
            self._mosquitto.kill()
        super().kill()

    def stop(self, timeout: float = 15.0) -> int:
        """Ask it to end, and with cat2bro the bus, and return its exit status."""
        status = super().stop(timeout)
        if self._mosquitto is not None:
            self._mosquitto.stop(timeout)
        return status

    def close(self) -> None:
        """End it, if it still runs."""
        super().close()
        if self._mosquitto is not None:
            self._mosquitto.close()


def _mosquitto_for(name: str, cwd: Path, env: Mapping[str, str], root: str) -> "Mosquitto | None":
    from tests.support.bus import on_mosquitto
    from tests.support.mosquitto import DeployedMosquitto

    if name != "cat2bro" or not on_mosquitto() or "CATERVA2_BUS_URL" in env:
        return None
    return DeployedMosquitto(cwd / ".mosquitto", root=root)


def run_daemon(name: str, *options: str, cwd: Path, env: Mapping[str, str] | None = None, root: str = "foo") -> Daemon:
    """Return a daemon, to be entered; `root` is the name of the root that is published.

    Examples:
        >>> with run_daemon("cat2bro", "--http", "localhost:0", cwd=tmp_path) as broker:
        ...     print(broker.url)
    """
    return Daemon(name, *options, cwd=cwd, env=env, root=root)


def run(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        argv,
        cwd=cwd,
        env=_environment(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    base = {key: value for key, value in os.environ.items() if not key.startswith("CATERVA2_")}
    if not os.environ.get("CATERVA2_TEST_BIN"):
        # The directory of the test is the current one, so the packages must be found elsewhere.
        base["PYTHONPATH"] = str(_REPOSITORY)
    return base | {"PYTHONUNBUFFERED": "1", "COLUMNS": "120"} | dict(more)
