"""The demo: the three daemons as real processes, on the example root, and a change that finds its way.

Run it with `make demo`, or `python -m caterva2.demo`; `--once` ends by itself.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import httpx
import numpy as np

from caterva2.client import Client
from caterva2.errors import Caterva2Error
from caterva2.example import write_array, write_example

T = TypeVar("T")
_DATASET = "dir1/ds-2d.b2nd"
_SLICE = "0:2, 4:8"
_LISTENING = re.compile(r": listening on (\S+)$", re.MULTILINE)
# Seconds: a deadline, not a measure; a machine under load may need some of it.
_PATIENCE = 30.0
_PAUSE = 0.02
# At once, also into a pipe.
_say = partial(print, flush=True)


class DemoError(Exception):
    """Something did not happen that should have."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m caterva2.demo", description="Run Caterva2 on an example root.")
    parser.add_argument("--once", action="store_true", help="end by itself, instead of waiting for Ctrl-C")
    once = parser.parse_args(argv).once
    # What ends a process politely becomes an exception here, so that the daemons end with it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        with tempfile.TemporaryDirectory(prefix="caterva2-demo-") as directory:
            _demo(Path(directory), once=once)
    except KeyboardInterrupt:
        _say("\nStopped.")
    except (DemoError, Caterva2Error, httpx.HTTPError, OSError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _demo(directory: Path, *, once: bool) -> None:
    root = directory / "foo"
    write_example(root)
    _say(f"Caterva2 demo: three daemons on this machine, all their files in {directory}\n")
    with ExitStack() as stack:
        broker = stack.enter_context(_daemon("broker", "--http", "localhost:0", "--mqtt", "localhost:0", cwd=directory))
        _say(f"  broker      {broker}   knows who publishes what, and carries the messages")
        common = ("--http", "localhost:0", "--broker", broker)
        publisher = stack.enter_context(_daemon("publisher", "foo", str(root), *common, cwd=directory))
        _say(f"  publisher   {publisher}   publishes the directory {root} as the root foo")
        subscriber = stack.enter_context(_daemon("subscriber", *common, cwd=directory))
        _say(f"  subscriber  {subscriber}   answers clients, and keeps what they read\n")
        client = stack.enter_context(Client(subscriber))
        _read(client)
        _change(client, root)
        _suggest(broker, subscriber, root)
        if once:
            _say("\nEverything worked; --once ends the demo here.")
        else:
            _say("\nThe daemons run until you press Ctrl-C.")
            threading.Event().wait()


def _read(client: Client) -> None:
    _wait_for(lambda: "foo" in client.get_roots(), "the subscriber to hear of the root foo")
    _say(f"Roots that the subscriber knows: {', '.join(client.get_roots())}")
    client.subscribe("foo")
    names = _wait_for(lambda: client.get_list("foo"), "the list of the root foo")
    _say("Subscribed to foo. It holds:")
    for name in names:
        _say(f"  {name}")
    info = client.get_info(f"foo/{_DATASET}")
    _say(f"\nfoo/{_DATASET} has shape {tuple(info['shape'])} and dtype {info['dtype']}.")
    _say(f"Its slice [{_SLICE}], as a client reads it:")
    _show(client.fetch(f"foo/{_DATASET}", _SLICE))


def _change(client: Client, root: Path) -> None:
    values = client.fetch(f"foo/{_DATASET}") + 1000
    _say(f"\nNow {root / _DATASET} is written anew, with 1000 added to every value ...")
    start = time.monotonic()
    write_array(root / _DATASET, values, (5, 5), (2, 3))
    expected = values[0:2, 4:8]
    _wait_for(lambda: np.array_equal(expected, client.fetch(f"foo/{_DATASET}", _SLICE)), "the new values to arrive")
    _say(f"... and {time.monotonic() - start:.2f} s later the same slice is:")
    _show(client.fetch(f"foo/{_DATASET}", _SLICE))


def _show(array: Any) -> None:
    for line in str(array).splitlines():
        _say(f"  {line}")


def _suggest(broker: str, subscriber: str, root: Path) -> None:
    port = _mqtt_port(broker)
    cli = f"{_command('cat2cli')} --subscriber {subscriber}"
    _say("\nTry it yourself, in another terminal:\n")
    _say(f"  {cli} roots")
    _say(f"  {cli} list foo")
    _say(f"  {cli} show 'foo/{_DATASET}[{_SLICE}]'")
    _say(f"  {cli} download foo/README.md")
    if port:
        _say(f"  mosquitto_sub -p {port} -v -t 'caterva2/#'        (the bus; Debian: apt install mosquitto-clients)")
    _say(f"  echo hello > {root}/hello.txt        (then list foo again)")
    _say(f"  curl {subscriber}/api/info/foo/ds-1d.b2nd")
    _say(f"\nor in a browser:\n\n  {subscriber}/view/foo/{_DATASET}\n\nor in Python:\n")
    _say("  >>> import caterva2")
    _say(f"  >>> caterva2.Root('foo', urlbase='{subscriber}')['ds-1d.b2nd'][10:20]")


def _mqtt_port(broker: str) -> int | None:
    urls = httpx.get(f"{broker}/api/bus").raise_for_status().json()["urls"]
    return next((httpx.URL(url).port for url in urls if url.startswith("mqtt://")), None)


def _command(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    if not beside.exists():
        return f"{sys.executable} -m caterva2.{name.replace('cat2', '')}"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


@contextmanager
def _daemon(module: str, *options: str, cwd: Path) -> Iterator[str]:
    """Run `python -m caterva2.MODULE`; give the URL that it listens on."""
    file = cwd / f"{module}.log"
    # What the user has set for other daemons is not meant for these.
    env = {name: value for name, value in os.environ.items() if not name.startswith("CATERVA2_")}
    with file.open("wb") as log:
        # A session of its own: Ctrl-C reaches the demo alone, which ends the daemons in order.
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", f"caterva2.{module}", *options],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield _wait_for(lambda: _url_of(process, file), f"the {module} to listen")
    except (DemoError, Caterva2Error, httpx.HTTPError):
        print(f"\n--- the last lines of {file.name}:", *_tail(file), sep="\n    ", file=sys.stderr)
        raise
    finally:
        _end(process)


def _url_of(process: subprocess.Popen[bytes], file: Path) -> str | None:
    if process.poll() is not None:
        raise DemoError(f"{file.stem} ended with status {process.returncode}")
    found = _LISTENING.search(file.read_text(errors="replace"))
    return found[1] if found else None


def _tail(file: Path) -> list[str]:
    return file.read_text(errors="replace").splitlines()[-15:]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        raise DemoError(f"process {process.pid} does not end when told to: killed it") from None
    finally:
        # Also when Ctrl-C is pressed twice.
        process.kill()
        process.wait()


def _wait_for(condition: Callable[[], T | None], what: str) -> T:
    """Return the first true value of `condition`; what the daemons cannot answer yet, they may answer soon."""
    end = time.monotonic() + _PATIENCE
    reason: object = ""
    while time.monotonic() < end:
        try:
            value = condition()
        except Caterva2Error as error:
            reason = f" ({error})"
        else:
            reason = ""
            if value:
                return value
        time.sleep(_PAUSE)
    raise DemoError(f"waited {_PATIENCE:.0f} s in vain for {what}{reason}")


if __name__ == "__main__":
    sys.exit(main())
