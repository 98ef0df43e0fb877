"""The command cat2bro."""

from collections.abc import Sequence

from caterva2.broker.app import create_app
from caterva2.daemon.arguments import BROKER
from caterva2.daemon.runner import main_for
from caterva2.settings import load_broker


def main(argv: Sequence[str] | None = None) -> int:
    """Run the broker; return the exit status."""
    return main_for(BROKER, load_broker, create_app, argv)
