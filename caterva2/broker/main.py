"""The command cat2bro."""

from __future__ import annotations

from collections.abc import Sequence

from caterva2.daemon.arguments import BROKER, without_services
from caterva2.settings import load_broker


def main(argv: Sequence[str] | None = None) -> int:
    """Run the broker; return the exit status."""
    # Here, because these need what a plain install, which is the client library, does not bring.
    try:
        from caterva2.broker.app import create_app
        from caterva2.daemon.runner import main_for
    except ModuleNotFoundError as error:
        return without_services(BROKER, error)
    return main_for(BROKER, load_broker, create_app, argv)
