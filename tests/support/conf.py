"""Writing `caterva2.toml`."""

import json
from collections.abc import Mapping
from pathlib import Path


def write_conf(directory: Path, sections: Mapping[str, Mapping[str, str | float]], name: str = "caterva2.toml") -> Path:
    """Write a configuration of sections such as `{"publisher.foo": {"http": "localhost:0"}}`."""
    lines: list[str] = []
    for section, settings in sections.items():
        lines.append(f"[{section}]")
        # A JSON string without escapes beyond \uXXXX is a TOML string.
        lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    file = directory / name
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
