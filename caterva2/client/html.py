"""Tables for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_MAX_VALUE = 200


def table(title: str, rows: Mapping[str, object]) -> str:
    """Return a small HTML table of names and values, which may come from strangers."""
    lines = [
        f"<tr><th style='text-align:left'>{escape(key)}</th><td style='text-align:left'>{_value(value)}</td></tr>"
        for key, value in rows.items()
    ]
    return f"<table><caption>{escape(title)}</caption>{''.join(lines)}</table>"


def _value(value: object) -> str:
    text = str(value)
    return escape(text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + "...")
