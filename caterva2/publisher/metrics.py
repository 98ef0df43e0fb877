"""Counters, and their text form for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Metrics:
    """What happened since the process started.

    Attributes:
        requests: answers by status code.
        sent: bytes of answers, without headers.
        chunks: records of chunks sent, by status.
        changes: datasets that changed.
    """

    requests: Counter[int] = field(default_factory=Counter)
    sent: int = 0
    chunks: Counter[str] = field(default_factory=Counter)
    changes: int = 0

    def text(self, gauges: Mapping[str, float]) -> str:
        """Write the counters, and the gauges given, in Prometheus' text format."""
        lines = ["# TYPE caterva2_http_requests_total counter"]
        lines += [f'caterva2_http_requests_total{{status="{k}"}} {n}' for k, n in sorted(self.requests.items())]
        lines += ["# TYPE caterva2_http_sent_bytes_total counter", f"caterva2_http_sent_bytes_total {self.sent}"]
        lines += ["# TYPE caterva2_chunks_total counter"]
        lines += [f'caterva2_chunks_total{{status="{k}"}} {n}' for k, n in sorted(self.chunks.items())]
        lines += ["# TYPE caterva2_changes_total counter", f"caterva2_changes_total {self.changes}"]
        for name, value in gauges.items():
            lines += [f"# TYPE caterva2_{name} gauge", f"caterva2_{name} {value}"]
        return "\n".join(lines) + "\n"


class Metered:
    """ASGI middleware that counts answers and their bytes."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app inside does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests[message["status"]] += 1
            elif message["type"] == "http.response.body":
                self._metrics.sent += len(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, counted)
