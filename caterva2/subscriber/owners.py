"""Who wrote a file of an own root: the id of the user, in an extended attribute of the file.

So it is there together with the file, is taken along when that is renamed, and needs no table that could tell something
else. Where a file system has no such attributes, what is in `@public` and `@shared` counts as nobody's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_ATTRIBUTE: Final = "user.caterva2.owner"


def note_owner(file: int | Path, user: str) -> None:
    """Say whose a file is."""
    with suppress(OSError):
        os.setxattr(file, _ATTRIBUTE, user.encode())


def owner_of(file: int | Path, default: str) -> str:
    """The id of the user whose a file is, as far as that is known.

    Args:
        file: the file, or its descriptor.
        default: what is said otherwise: the owner of its `@personal`, or "".
    """
    try:
        return os.getxattr(file, _ATTRIBUTE).decode("ascii", "replace") or default
    except OSError:
        return default
