"""A page of an OpenAPI document, for readers: HTML without a script, and nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

_QUOTED: Final = re.compile(r"`([^`]*)`")
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""What the page is sent with: a browser takes nothing for it but its style."""


def page_of(document: Mapping[str, Any], style: str, source: str) -> str:
    """Make the page.

    Args:
        document: of OpenAPI 3.1.
        style: the URL of the style sheet.
        source: the URL of the document.
    """
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    body = "".join(_operations(document["paths"])) + "".join(_schemas(document["components"]["schemas"]))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="{escape(style)}"></head>'
        f"<body><h1>{title}</h1><p>{_text(info['description'])}</p>"
        f'<p>For programs: <a href="{escape(source)}">the OpenAPI document</a>.</p>{body}</body></html>'
    )


def _operations(paths: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "<h2>Routes</h2>"
    for path, operations in sorted(paths.items()):
        for method, operation in operations.items():
            yield _operation(method.upper(), path, operation)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [
        f"<details><summary><b>{escape(method)}</b> <code>{escape(path)}</code>"
        f"<span>{_text(operation['summary'])}</span></summary>",
        f"<p>{escape(_who(operation))}</p>",
        _table("Parameters", ((each["name"], _parameter(each)) for each in operation["parameters"])),
    ]
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body: <code>{escape(media)}</code></p>{_form(content['schema'])}")
    parts.append(_table("Answers", ((status, _answer(each)) for status, each in operation["responses"].items())))
    return "".join([*parts, "</details>"])


def _who(operation: Mapping[str, Any]) -> str:
    if "description" in operation:
        return str(operation["description"])
    return "For anyone." if {} in operation["security"] else "For users who are logged in."


def _parameter(parameter: Mapping[str, Any]) -> str:
    needed = ", required" if parameter["required"] else ""
    return f"in the {parameter['in']}{needed}: {parameter['description']}"


def _answer(answer: Mapping[str, Any]) -> str:
    media = ", ".join(answer.get("content", {}))
    return f"{answer['description']} ({media})" if media else str(answer["description"])


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Forms of JSON</h2>"
    for name, schema in sorted(schemas.items()):
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>'


def _table(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"<tr><td><code>{escape(name)}</code></td><td>{_text(text)}</td></tr>" for name, text in rows]
    return f"<table><caption>{escape(caption)}</caption>{''.join(lines)}</table>" if lines else ""


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2))}</pre>"


def _form(schema: Mapping[str, Any]) -> str:
    name = escape(str(schema.get("$ref", "")).rpartition("/")[2])
    return f'<p>in the form <a href="#{name}"><code>{name}</code></a></p>' if name else _json(schema)


def _text(text: str) -> str:
    return _QUOTED.sub(r"<code>\1</code>", escape(text))
