"""Datasets of every kind that a view must show, small enough for a test and odd enough to be told apart."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from caterva2.example import write_array, write_frame

_Array = np.ndarray[Any, np.dtype[Any]]

# What would show itself if anything of it ran, or was fetched.
HOSTILE = (
    "<script>window.hacked = 1</script><img src='data:image/png;base64,AAAA' onerror='window.hacked = 2'>"
    "<svg onload='window.hacked = 3'></svg>"
    "<iframe srcdoc='<script>parent.hacked = 4</script>'></iframe><a href='javascript:window.hacked = 5'>press</a>"
    "<img src='https://example.org/seen.png' alt='seen'><style>* { display: none }</style>"
    "<form action='https://example.org/'><input name=password></form><b style='position: fixed'>bold</b>"
)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="120" height="80"><script>parent.hacked = 6</script>'
    '<rect width="120" height="80" fill="#268"/><circle cx="60" cy="40" r="30" fill="#fb0" onload="hacked = 7"/></svg>'
)
MARKDOWN = f"""# Beam time, *June*

Measured at **three** positions; see [the array](signal.b2nd) and [elsewhere](https://example.org/).

![a square](square.png) ![remote](https://example.org/x.png)

| position | counts |
|---|---|
| left | 12 |
| right | 30 |

```python
import caterva2
```

{HOSTILE}

- one
- two
"""


def write_samples(root: Path) -> None:
    """Write all of them into a root."""
    _write_numbers(root)
    _write_records(root)
    _write_files(root)


def _write_numbers(root: Path) -> None:
    grid = np.hypot(*np.meshgrid(np.linspace(-9, 9, 1600), np.linspace(-6, 6, 1200)))
    field = (np.sin(grid * 3) / (1 + grid)).astype("f4")
    field[100:200, 100:300] = np.nan
    field[1000, 1500] = np.inf
    write_array(root / "field.b2nd", field, (300, 400), (30, 400))
    z, y, x = np.mgrid[:24, :64, :80]
    ball = (np.sqrt((z - 12) ** 2 * 6 + (y - 32) ** 2 + (x - 40) ** 2) * 900).astype("u2")
    write_array(root / "tomo.b2nd", ball, (8, 64, 80), (1, 64, 80))
    t = np.arange(1_000_000)
    signal = np.sin(t / 40_000) + np.random.default_rng(1).normal(0, 0.05, t.size)
    signal[400_000] = 9
    signal[700_000:730_000] = np.nan
    write_array(root / "signal.b2nd", signal, (100_000,), (10_000,))
    write_array(root / "small.b2nd", np.array([3, 1, 4, 1, 5, 9, 2, 6]), (8,), (8,))
    write_array(root / "big-integers.b2nd", np.array([2**53 + 1, -(2**63), 2**63 - 1]), (3,), (3,))
    write_array(root / "complex.b2nd", np.exp(1j * ball[12] / 9000), (64, 80), (64, 80))
    write_array(root / "scalar.b2nd", np.array(2.5), (), ())
    write_array(root / "empty.b2nd", np.zeros((0, 3)), (1, 3), (1, 3))
    write_array(root / "nothing.b2nd", np.full((5, 6), np.nan), (5, 6), (5, 6))
    write_array(root / "times.b2nd", np.arange("2026-06-01", "2026-06-11", dtype="M8[D]"), (10,), (10,))
    write_array(root / "texts.b2nd", np.array(["h\u00e9llo", "<b>bold</b>"]), (2,), (2,))
    write_array(root / "image.b2nd", _images(), (1, 90, 120, 3), (1, 90, 120, 3))
    huge = {"chunks": (100_000, 3000), "blocks": (1000, 100), "urlpath": str(root / "huge.b2nd")}
    blosc2.zeros((2_000_000, 60_000), dtype="i1", contiguous=True, **huge)
    wide = np.arange(2_000_000, dtype="i4").reshape(20_000, 100)
    write_array(root / "wide.b2nd", wide, (1000, 100), (100, 100))


def _images() -> _Array:
    rows, columns = np.mgrid[:90, :120]
    frames = [np.stack([rows * 2, columns * 2, np.full_like(rows, 60 * n)], -1) for n in range(4)]
    return np.stack(frames).astype("u1")


def records(count: int = 5000) -> _Array:
    """Records with numbers, texts, times, truth, and an array and a record as fields."""
    form = [("id", "i8"), ("energy", "f8"), ("name", "S8"), ("when", "M8[s]"), ("good", "?"), ("pos", "f4", (3,)),
            ("at", [("x", "i2"), ("y", "i2")])]  # fmt: skip
    rows = np.zeros(count, form)
    rows["id"] = np.arange(count)
    rows["energy"] = (np.arange(count) * 7919 % count) / 10
    rows["name"] = [f"run{n % 17}" for n in range(count)]
    rows["when"] = np.datetime64("2026-06-01T08:00:00") + np.arange(count)
    rows["good"] = np.arange(count) % 3 == 0
    rows["pos"] = np.arange(count)[:, None] + [0, 0.5, 0.25]
    rows["at"]["x"] = np.arange(count) % 100
    return rows


def _write_records(root: Path) -> None:
    write_array(root / "records.b2nd", records(), (1000,), (100,))


def _write_files(root: Path) -> None:
    (root / "README.md").write_text(MARKDOWN, encoding="utf-8")
    (root / "notes.txt").write_text("First line\n<b>no markup</b>\n" + "line\n" * 200, encoding="utf-8")
    (root / "nothing.txt").write_bytes(b"")
    (root / "square.png").write_bytes(png(64, 48))
    (root / "drawing.svg").write_text(SVG, encoding="utf-8")
    (root / "paper.pdf").write_bytes(_PDF)
    (root / "blob.bin").write_bytes(bytes(range(256)) * 40)
    (root / "analysis.ipynb").write_text(json.dumps(_notebook()), encoding="utf-8")
    write_frame(root / "hello.b2frame", b"Hello frame! " * 300, chunksize=1000)


def png(width: int, height: int) -> bytes:
    """A picture file with a gradient."""
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in (x * 4, y * 5, 120)) for y in range(height))
    out = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    out.seek(0, io.SEEK_END)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        out.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return out.getvalue()


def _notebook() -> dict[str, Any]:
    picture = base64.b64encode(png(40, 30)).decode()
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["counted \u001b[31m12\u001b[0m\n", "done\n"]},
        {"output_type": "display_data", "data": {"image/png": picture, "text/plain": "<Figure>"}},
        {"output_type": "execute_result", "data": {"text/html": f"<table border=1><tr><th>a<td>1</table>{HOSTILE}"}},
        {
            "output_type": "error",
            "ename": "ValueError",
            "evalue": "no",
            "traceback": ["\u001b[31mValueError\u001b[0m: no"],
        },
    ]
    return {
        "nbformat": 4,
        "cells": [
            {"cell_type": "markdown", "source": ["# Analysis\n", "with *care* ", HOSTILE]},
            {
                "cell_type": "code",
                "execution_count": 3,
                "source": ["import numpy as np\n", "np.arange(3)"],
                "outputs": outputs,
            },
            {"cell_type": "raw", "source": "raw text"},
        ],
    }


_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 4 0 R"
    b"/Resources<</Font<</F 5 0 R>>>>>>endobj\n4 0 obj<</Length 40>>stream\nBT /F 18 Tf 20 40 Td (Hello PDF) Tj ET\n"
    b"endstream endobj\n5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)
