"""What `cat2cli bus` shows: the clients of the bus, and whom the roots belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from caterva2.cli.output import Output
from caterva2.errors import BadGatewayError

_CLIENTS = ("client", "user", "role", "address", "since", "subscriptions", "in/s", "out/s", "in", "out", "queue")
_ROOTS = ("root", "owner", "status", "address")


def show_report(output: Output, report: dict[str, Any]) -> None:
    """Write a report of the broker: two tables, or in a pipe lines that begin with `client` and `root`.

    Raises:
        BadGatewayError: if the broker's answer makes no sense.
    """
    try:
        clients = [_client(each) for each in report["clients"]]
        roots = [_root(each) for each in report["roots"]]
    except (KeyError, TypeError, ValueError) as error:
        raise BadGatewayError(f"the broker's answer makes no sense: {error!r}") from error
    if not output.terminal:
        output.table((), [("client", *row) for row in clients])
        output.table((), [("root", *row) for row in roots])
        return
    if report["broker"]:
        output.lines([f"The bus is {report['broker']}, which alone knows its clients."])
    else:
        _table(output, _CLIENTS, clients, "No clients.")
    output.lines([""])
    _table(output, _ROOTS, roots, "No roots.")


def _table(output: Output, columns: Sequence[str], rows: Sequence[Sequence[str]], none: str) -> None:
    if rows:
        output.table(columns, rows)
    else:
        output.lines([none])


def _client(entry: dict[str, Any]) -> tuple[str, ...]:
    since = datetime.fromtimestamp(entry["since"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    rates = (f"{entry[rate]:.1f}" for rate in ("received_rate", "sent_rate"))
    counts = (str(entry[count]) for count in ("received", "sent", "queued"))
    who = _texts(entry, ("id", "user", "role", "peer"))
    return (*who, since, str(entry["subscriptions"]), *rates, *counts)


def _root(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_texts(entry, ("name", "owner", "status", "http")))


def _texts(entry: dict[str, Any], keys: Iterable[str]) -> list[str]:
    return [str(entry[key] or "-") for key in keys]
