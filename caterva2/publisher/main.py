"""The command `cat2pub [name] [root]`."""

from __future__ import annotations

from collections.abc import Sequence

from caterva2.daemon.arguments import PUBLISHER, without_services
from caterva2.settings import load_publisher


def main(argv: Sequence[str] | None = None) -> int:
    """Publish a directory until told to stop; return the exit status."""
    # Here, because these need what a plain install, which is the client library, does not bring.
    try:
        from caterva2.daemon.runner import main_for
        from caterva2.publisher.app import create_app
    except ModuleNotFoundError as error:
        return without_services(PUBLISHER, error)
    return main_for(PUBLISHER, load_publisher, create_app, argv)
