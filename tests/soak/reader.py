"""Reads until its standard input ends, in several threads: `python -m tests.soak.reader URL ROOT LOG SEED THREADS`.

Each read is a line of the log: dataset, when it began and ended, what came of it, and the versions in the answer.
"""

import http.client
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import blosc2

from tests.soak.data import CHUNK, LENGTH, WAYS, versions_in


class Reader:
    """One reader.

    Args:
        url: of the subscriber.
        root: that it reads from.
        lines: of the log.
        seed: of what it reads.
    """

    def __init__(self, url: str, root: str, lines: TextIO, seed: int) -> None:
        self._url = url
        self._root = root
        self._lines = lines
        self._rng = random.Random(seed)
        self._connection: http.client.HTTPConnection | None = None

    def run(self, ended: threading.Event) -> None:
        """Read until told to end."""
        while not ended.wait(self._rng.uniform(0.0, 0.05)):
            self.read(self._rng.choice(list(WAYS)))

    def read(self, name: str) -> None:
        """Read once."""
        start, stop = 0, LENGTH
        if self._rng.random() < 0.9:
            start = self._rng.randrange(LENGTH - CHUNK)
            stop = min(LENGTH, start + self._rng.randrange(CHUNK, 3 * CHUNK))
        query = f"?slice_={start}:{stop}" if stop - start < LENGTH else ""
        begun = time.monotonic()
        try:
            found = self._get(f"/api/fetch/{self._root}/{name}{query}", start)
        except ConnectionRefusedError:
            found = {"what": "no connection"}
        except (OSError, http.client.HTTPException) as error:
            found = {"what": "cut off", "detail": repr(error)}
        if found["what"] in ("no connection", "cut off"):
            self._connection = None
            time.sleep(0.05)
        line = {"name": name, "begun": begun, "ended": time.monotonic(), "start": start, "stop": stop} | found
        self._lines.write(json.dumps(line) + "\n")

    def _get(self, path: str, start: int) -> dict[str, Any]:
        if self._connection is None:
            parts = urlsplit(self._url)
            self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            return {"what": str(response.status), "detail": body[:200].decode(errors="replace")}
        status = response.headers.get("Cache-Status", "")
        try:
            values = blosc2.ndarray_from_cframe(body)[:]
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is wrong
            return {"what": "damaged", "detail": repr(error)}
        versions = versions_in(values, start)
        return {"what": "stale" if "stale" in status else "current", "versions": versions, "length": len(values)}


def main(url: str, root: str, log: Path, seed: int, threads: int) -> None:
    """Read until told to end."""
    ended = threading.Event()
    with log.open("w", buffering=1) as lines:
        readers = [Reader(url, root, lines, seed + n) for n in range(threads)]
        running = [threading.Thread(target=reader.run, args=(ended,)) for reader in readers]
        for thread in running:
            thread.start()
        sys.stdin.read()
        ended.set()
        for thread in running:
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
