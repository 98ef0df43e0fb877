"""What `cat2cli status` shows: the roots and their publishers, and figures of events and cache."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from caterva2.cli.output import Output
from caterva2.errors import BadGatewayError

_ROOTS = ("root", "publisher", "status", "freshness", "age", "datasets", "heard", "changes")


def show_status(output: Output, report: dict[str, Any]) -> None:
    """Write a status: a table and figures, or in a pipe lines that begin with `root` and the figures' names.

    Raises:
        BadGatewayError: if the answer makes no sense.
    """
    try:
        roots, figures = [_root(each) for each in report["roots"]], dict(_figures(report))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadGatewayError(f"the subscriber's status makes no sense: {error!r}") from error
    if not output.terminal:
        output.table((), [("root", *row) for row in roots])
        output.table((), list(figures.items()))
        return
    if roots:
        output.table(_ROOTS, roots)
    else:
        output.lines(["No roots."])
    output.lines([""])
    output.pairs(figures)


def _root(root: dict[str, Any]) -> tuple[str, ...]:
    names = ("name", "http", "status", "freshness", "age", "datasets", "heard", "changes")
    return tuple("-" if root[name] in {None, ""} else str(root[name]) for name in names)


def _figures(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    events, cache = report["events"], report["cache"]
    lag, ratio, limit = events["lag"], cache["hit_ratio"], cache["limit"]
    yield "version", str(report["version"])
    yield "started", datetime.fromtimestamp(report["started"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    yield "bus", report["bus"] + (f": {report['trouble']}" if report["trouble"] else "")
    yield "changes", f"{events['changes']} ({events['rate']:.2f} a second in the last minute)"
    for name in ("latest", "median", "longest"):
        yield f"{name} lag", "-" if lag is None else f"{lag[name]:.3f} s"
    yield "listeners", str(events["listeners"])
    yield "cache", f"{cache['nbytes']} bytes" + ("" if limit is None else f" of {limit}")
    yield "cache writable", "yes" if cache["writable"] else "no"
    yield "hit ratio", "-" if ratio is None else f"{ratio:.3f} ({cache['found']} of {cache['wanted']} chunks)"
    yield "evicted", f"{cache['evicted']} bytes ({cache['evictions']} times)"
