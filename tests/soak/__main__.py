"""Run a soak: `python -m tests.soak --minutes 10`. A table on stdout; the exit status is 1 if an answer was wrong."""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import blosc2
import httpx

from tests.soak.data import LENGTH, WAYS, versions_in
from tests.soak.verdict import Bounds, Outages, Verdict, judge, read_history
from tests.support.processes import Daemon, run_daemon
from tests.support.programs import free_port

_REPOSITORY = Path(__file__).parents[2]
_ROOT = "soak"
_PROCESSES, _THREADS = 4, 4
_BETWEEN_KILLS = (1.0, 6.0)
_SETTLED = 30.0
_SHOWN = 10


class Soak:
    """The processes.

    Args:
        directory: for all files.
        seed: of what is random.
        heartbeat: of the publisher, in seconds.
    """

    def __init__(self, directory: Path, seed: int, heartbeat: float = 2.0) -> None:
        self.root = directory / "root"
        self.root.mkdir()
        self.outages: Outages = {"cat2bro": [], "cat2pub": [], "cat2sub": []}
        self.slowest_restart = 0.0
        self._directory = directory
        self._seed = seed
        self._rng = random.Random(seed)
        ports = {name: free_port() for name in self.outages}
        broker = f"http://localhost:{ports['cat2bro']}"
        env = {"CATERVA2_PUBLISHER_HEARTBEAT": str(heartbeat)}
        options = {
            "cat2bro": ["--mqtt", ""],
            "cat2pub": [_ROOT, str(self.root), "--broker", broker],
            "cat2sub": ["--broker", broker],
        }
        self.daemons = {
            name: _daemon(name, *more, "--http", f"localhost:{ports[name]}", cwd=directory, env=env)
            for name, more in options.items()
        }
        self.subscriber = f"http://localhost:{ports['cat2sub']}"

    def run(self, seconds: float) -> Verdict:
        """Run it all and judge it."""
        with ExitStack() as stack:
            for daemon in self.daemons.values():
                stack.enter_context(daemon)
            writers = [
                self._program(stack, "writer", str(self.root / name), self._log(name), str(self._seed + n))
                for n, name in enumerate(WAYS)
            ]
            self._wait_for_datasets()
            readers = [
                self._program(
                    stack, "reader", self.subscriber, _ROOT, self._log(f"reader{n}"), f"{self._seed}{n}", str(_THREADS)
                )
                for n in range(_PROCESSES)
            ]
            self._kill_at_random(seconds)
            for each in writers:
                _end(each)
            unsettled = self._settle()
            for each in readers:
                _end(each)
        histories = {name: read_history(Path(self._log(name)), Bounds().settle) for name in WAYS}
        logs = [Path(self._log(f"reader{n}")) for n in range(_PROCESSES)]
        verdict = judge(histories, logs, self.outages, Bounds())
        verdict.violations += unsettled
        verdict.counts["versions written"] = sum(len(history.versions) - 1 for history, _ in histories.values())
        return verdict

    def _log(self, name: str) -> str:
        return str(self._directory / f"{name}.log")

    def _program(self, stack: ExitStack, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        argv = [sys.executable, "-m", f"tests.soak.{name}", *arguments]
        process = subprocess.Popen(argv, cwd=_REPOSITORY, stdin=subprocess.PIPE)
        stack.callback(process.kill)
        return process

    def _wait_for_datasets(self) -> None:
        end = time.monotonic() + 30
        while not all(self._read(name) for name in WAYS):
            if time.monotonic() > end:
                raise TimeoutError("the datasets do not arrive at the subscriber")
            time.sleep(0.1)

    def _kill_at_random(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            pause = self._rng.uniform(*_BETWEEN_KILLS)
            if time.monotonic() + pause > end:
                break
            time.sleep(pause)
            victims = self._rng.sample(list(self.daemons), k=1 if self._rng.random() < 0.8 else 2)
            down = time.monotonic()
            for name in victims:
                self.daemons[name].kill()
            time.sleep(self._rng.choice([0.0, 0.3, 1.5]))
            for name in victims:
                start = time.monotonic()
                self.daemons[name].start()
                self.slowest_restart = max(self.slowest_restart, time.monotonic() - start)
                self.outages[name].append((down, time.monotonic()))
        time.sleep(max(0.0, end - time.monotonic()))

    def _settle(self) -> list[str]:
        """Wait until all datasets are read at their last version."""
        last = {name: int(Path(self._log(name)).read_text().split("\n")[-2].split()[0]) for name in WAYS}
        waiting, end = dict(last), time.monotonic() + _SETTLED
        while waiting and time.monotonic() < end:
            waiting = {name: version for name, version in waiting.items() if self._read(name) != [version]}
            time.sleep(0.1)
        return [f"NOT SETTLED: {name} is not at version {version}" for name, version in waiting.items()]

    def _read(self, name: str) -> list[int] | None:
        try:
            answer = httpx.get(f"{self.subscriber}/api/fetch/{_ROOT}/{name}?slice_=0:{LENGTH}", timeout=30)
        except httpx.HTTPError:
            return None
        if answer.status_code != 200 or "stale" in answer.headers.get("cache-status", ""):
            return None
        return versions_in(blosc2.ndarray_from_cframe(answer.content)[:], 0)


def _daemon(name: str, *options: str, cwd: Path, env: dict[str, str]) -> Daemon:
    daemon = run_daemon(name, *options, "--loglevel", "info", cwd=cwd, env=env, root=_ROOT)
    if daemon.argv[0] == sys.executable:
        daemon.argv = [sys.executable, "-m", "tests.soak.daemon", *daemon.argv[2:]]
    return daemon


def _end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    if process.wait(60):
        raise RuntimeError(f"{process.args} ended with status {process.returncode}")


def _table(soak: Soak, verdict: Verdict) -> str:
    counts: Counter[str] = Counter(verdict.counts)
    for name, spans in soak.outages.items():
        counts[f"{name} killed"] = len(spans)
    ages = sorted(verdict.ages)
    rows = [*sorted(counts.items()), ("violations", len(verdict.violations))]
    lines = [f"{what:20} {number:8}" for what, number in rows]
    lines.append(f"{'slowest restart':20} {soak.slowest_restart:8.2f} s, from its start to listening")
    if ages:
        p99 = ages[len(ages) * 99 // 100]
        lines.append(f"{'oldest answer':20} {ages[-1]:8.2f} s after its version was over; p99 {p99:.2f} s")
    return "\n".join(lines)


def main() -> int:
    """Run it and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="of what is random")
    parser.add_argument("--keep", type=Path, help="keep logs and files in this directory")
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="caterva2-soak-")))
        directory.mkdir(exist_ok=True)
        soak = Soak(directory, options.seed)
        verdict = soak.run(options.minutes * 60)
        print(_table(soak, verdict))
        for violation in verdict.violations[:_SHOWN]:
            print(violation)
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
