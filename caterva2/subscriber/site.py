"""The files of the web client, as they lie in `caterva2/web`: one page, and what it loads."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, Self

_PAGE: Final = "index.html"
# Some systems have no list of types, or another idea of scripts; browsers take modules of this type alone.
_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class File:
    """A file of the client.

    Attributes:
        content: its bytes.
        media_type: what it is.
    """

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Site:
    """The web client.

    Attributes:
        digest: of all its files: a part of their addresses, so that browsers keep them until they change.
        page: the one page, where `{base}` and `{digest}` have their places.
        files: what it loads, by the path below `caterva2/web`.
    """

    digest: str
    page: str
    files: Mapping[str, File]

    @classmethod
    def load(cls) -> Self:
        """Read the files."""
        found = dict(sorted(_found(files("caterva2").joinpath("web"), "")))
        digest = hashlib.sha256()
        for path, content in found.items():
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
        page = found.pop(_PAGE, b"").decode()
        return cls(digest.hexdigest()[:16], page, {path: File(found[path], _type_of(path)) for path in found})

    def page_at(self, base: str) -> bytes:
        """The page, for a place from which `base` leads to its top: "./", or "../../"."""
        return self.page.replace("{base}", escape(base)).replace("{digest}", self.digest).encode()


def _found(directory: Traversable, above: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in directory.iterdir():
        if entry.is_dir():
            found += _found(entry, f"{above}{entry.name}/")
        else:
            found.append((above + entry.name, entry.read_bytes()))
    return found


def _type_of(path: str) -> str:
    dot = path.rfind(".")
    return _TYPES.get(path[dot:]) or mimetypes.guess_type(path)[0] or "text/plain; charset=utf-8"
