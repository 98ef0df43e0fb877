"""The command cat2sub."""

from collections.abc import Sequence

from caterva2.daemon.arguments import SUBSCRIBER
from caterva2.daemon.runner import main_for
from caterva2.settings import load_subscriber
from caterva2.subscriber.app import create_app


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subscriber; return the exit status."""
    return main_for(SUBSCRIBER, load_subscriber, create_app, argv)
