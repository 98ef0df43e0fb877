"""A daemon that can be counted out: `python -m tests.support.watched SOCKET MODULE OPTIONS` runs it.

Whoever connects to the Unix socket gets a `Census` of the process. It is taken between two steps of the event loop,
after the garbage is collected and unused memory is given back, so that what is left is really held.
"""

import asyncio
import ctypes
import faulthandler
import gc
import json
import re
import runpy
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from tests.support.processes import Daemon, run_daemon


@dataclass(frozen=True, slots=True)
class Census:
    """What a process holds.

    Attributes:
        tasks: of its event loop.
        files: open file descriptors.
        threads: of the system.
        objects: that Python's collector knows.
        memory: resident, in KB.
        names: of the tasks, without numbers, with where they are, and how many there are of each.
    """

    tasks: int
    files: int
    threads: int
    objects: int
    memory: int
    names: dict[str, int]


class Watched:
    """A daemon and the way to count it out; entered, the daemon listens.

    Args:
        name: of the daemon.
        options: for it.
        cwd: its directory.
        env: variables beside those of the tests.
        uncounted: tasks whose name begins so may be there or not.
    """

    def __init__(
        self, name: str, *options: str, cwd: Path, env: Mapping[str, str] | None = None, uncounted: str = "\0"
    ) -> None:
        self.daemon: Daemon = run_daemon(name, *options, cwd=cwd, env=env)
        self._uncounted = uncounted
        self._socket = cwd / f".census-{name}"
        if self.daemon.argv[0] == sys.executable:
            self.daemon.argv[1:2] = ["-m", "tests.support.watched", str(self._socket)]

    def __enter__(self) -> "Watched":
        self.daemon.__enter__()
        return self

    def __exit__(self, *_error: object) -> None:
        self.daemon.close()

    def settled(self, least: Census | None = None, timeout: float = 10.0, spare: int = 0) -> Census:
        """Count it out when it has come to rest: no more tasks and files than a moment before, and than at `least`.

        It may have `spare` files more than at `least`.
        """
        end, last = time.monotonic() + timeout, self.census()
        while True:
            time.sleep(0.2)
            census = self.census()
            quiet = census.tasks <= last.tasks and census.files <= last.files
            as_before = least is None or (census.tasks <= least.tasks and census.files <= least.files + spare)
            if (quiet and as_before) or time.monotonic() > end:
                return census
            last = census

    def census(self) -> Census:
        """Count it out."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(30)
            asked.connect(str(self._socket))
            census = Census(**json.loads(asked.makefile().read()))
        uncounted = sum(count for each, count in census.names.items() if each.startswith(self._uncounted))
        return replace(census, tasks=census.tasks - uncounted)


def _counted(loop: asyncio.AbstractEventLoop) -> Census:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    kept = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)", status, re.MULTILINE)}
    names = Counter(f"{re.sub('[0-9].*', '', task.get_name())}: {_where(task)}" for task in asyncio.all_tasks(loop))
    files = sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1
    return Census(sum(names.values()), files, kept["Threads"], len(gc.get_objects()), kept["VmRSS"], dict(names))


def _where(task: "asyncio.Task[Any]") -> str:
    """The functions that a task is in, from the outermost to the one that waits."""
    found: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(found) < 20:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
        if frame is not None:
            found.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
        if type(waiting).__name__.startswith("async_generator_"):  # a step of one, which does not say of which
            waiting = next((each for each in gc.get_referents(waiting) if hasattr(each, "ag_frame")), None)
            continue
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
    return " > ".join(found)


def _answer(server: socket.socket, loops: list[asyncio.AbstractEventLoop]) -> None:
    while True:
        asking, _ = server.accept()
        with asking:
            counted: list[Census] = []
            done = threading.Event()

            def count(into: list[Census] = counted, event: threading.Event = done) -> None:
                into.append(_counted(loops[-1]))
                event.set()

            loops[-1].call_soon_threadsafe(count)
            if done.wait(30):
                asking.sendall(json.dumps(asdict(counted[0])).encode())


def _main() -> None:
    faulthandler.enable()  # a crash in C shows where
    loops: list[asyncio.AbstractEventLoop] = []
    made = uvloop.new_event_loop

    def remembered() -> asyncio.AbstractEventLoop:
        loops.append(made())
        return loops[-1]

    uvloop.new_event_loop = remembered  # type: ignore[assignment]
    path, sys.argv = sys.argv[1], sys.argv[2:]
    Path(path).unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    threading.Thread(target=_answer, args=(server, loops), daemon=True).start()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
