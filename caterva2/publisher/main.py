"""The command `cat2pub [name] [root]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caterva2.daemon.arguments import PUBLISHER
from caterva2.daemon.runner import main_for
from caterva2.publisher.app import create_app
from caterva2.settings import load_publisher


def main(argv: Sequence[str] | None = None) -> int:
    """Publish a directory until told to stop; return the exit status."""
    return main_for(PUBLISHER, load_publisher, create_app, argv)


if __name__ == "__main__":
    sys.exit(main())
