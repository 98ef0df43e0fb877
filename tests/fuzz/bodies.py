"""JSON that is wrong somewhere: of messages on the bus, and of what daemons ask and answer over HTTP."""

import json
import random
from typing import Any

_DEEP = 3000
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 2**64, 10**400, 1.5, float("nan"), float("inf"), "", "a", "x" * 5000, "\0", "..",
    "../../etc/passwd", "/", "a//b", "\ud800", "☃", [], [[]], {}, {"a": {}},
)  # fmt: skip
"""Values that are seldom expected."""


class Bodies:
    """A source of JSON.

    Args:
        rng: what is chosen by.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def message(self) -> tuple[str, bytes]:
        """A topic of the daemons, and what is no message for it."""
        rng = self._rng
        name = f"fuzz-{rng.randrange(5)}"
        kind = rng.choice(("publisher", "subscriber", "broker", "nobody"))
        about = rng.choice((self._root, self._change, self._service))(name)
        topic = rng.choice((f"caterva2/root/{name}", f"caterva2/change/{name}", f"caterva2/service/{kind}/{name}"))
        return topic, self.spoiled(about)

    def spoiled(self, value: Any) -> bytes:
        """A value as JSON, with something wrong about it, mostly."""
        rng = self._rng
        way = rng.randrange(10)
        if way < 6:
            return self.written(self.changed(value) if way else value)
        body = bytearray(self.written(value))
        if way == 6:
            return bytes(body[: rng.randrange(len(body))])
        if way == 7:
            for _ in range(rng.randrange(1, 5)):
                body[rng.randrange(len(body))] = rng.randrange(256)
            return bytes(body)
        deep = (
            b"[" * _DEEP,
            b'{"a":' * _DEEP,
            b"[" * _DEEP + b"]" * _DEEP,
            b"",
            b"\xef\xbb\xbf{}",
            b"null",
            b'"\\ud800"',
        )
        return rng.choice(deep) if way == 8 else rng.randbytes(rng.randrange(200))

    def changed(self, value: Any) -> Any:
        """The value with one part of it, somewhere, replaced, missing or doubled."""
        rng = self._rng
        if isinstance(value, dict) and value and rng.random() < 0.9:
            key = rng.choice(list(value))
            if rng.random() < 0.15:
                return {other: each for other, each in value.items() if other != key}
            return value | {key: self.changed(value[key])}
        if isinstance(value, list) and value and rng.random() < 0.8:
            at = rng.randrange(len(value))
            if rng.random() < 0.3:
                return value[:at] + value[at : at + 1] * rng.choice((0, 2, 50)) + value[at + 1 :]
            return [*value[:at], self.changed(value[at]), *value[at + 1 :]]
        if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
            return value + rng.choice((-1, 1, 1000, -(2**40), 2**40))
        return rng.choice(ODD)

    def written(self, value: Any) -> bytes:
        """A value as JSON, which may hold what JSON has no word for."""
        return json.dumps(value).encode()

    def wishes(self, chunks: int) -> bytes:
        """A request for chunks that a dataset of so many has, or has not."""
        rng = self._rng
        numbers = [rng.choice((rng.randrange(chunks), rng.randrange(chunks), -1, chunks, 2**70)) for _ in range(4)]
        wishes: list[dict[str, Any]] = [{"n": number} for number in numbers[: rng.randrange(5)]]
        for wish in wishes:
            if rng.random() < 0.3:
                wish["have"] = rng.choice(("0" * 16, "f" * 16, "", "x", "☃", "0" * 10_000))
        return self.spoiled({"chunks": wishes})

    def _root(self, name: str) -> dict[str, Any]:
        # Port 9 is nobody's; that a subscriber cannot reach it is no fault.
        return {
            "name": name, "http": "http://127.0.0.1:9", "status": "online", "epoch": "e", "seq": 1, "instance": "i",
            "birth": 1, "heartbeat": 1.0, "kind": "directory", "time": 1.0, "version": "1",
        }  # fmt: skip

    def _change(self, name: str) -> dict[str, Any]:
        change = {
            "root": name, "epoch": "e", "seq": 2, "type": "created", "path": "a", "etag": "1", "nbytes": 1,
            "kind": "file", "mtime": 1.0, "time": 1.0,
        }  # fmt: skip
        return change if self._rng.random() < 0.5 else {"root": name, "changes": [change, change | {"seq": 3}]}

    def _service(self, name: str) -> dict[str, Any]:
        return {
            "kind": "publisher", "id": name, "status": "online", "http": "http://127.0.0.1:9", "instance": "i",
            "birth": 1, "time": 1.0, "version": "1",
        }  # fmt: skip


def retained_topics() -> list[str]:
    """Where `Bodies.message` may have left something."""
    kinds = ("publisher", "subscriber", "broker", "nobody")
    names = [f"fuzz-{number}" for number in range(5)]
    return [f"caterva2/root/{name}" for name in names] + [
        f"caterva2/service/{k}/{name}" for k in kinds for name in names
    ]
