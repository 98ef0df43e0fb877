"""The command cat2sub."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caterva2.daemon.arguments import SUBSCRIBER, parser, without_services
from caterva2.settings import load_subscriber


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subscriber, or change its users; return the exit status."""
    options = vars(parser(SUBSCRIBER).parse_args(argv))
    # Here, because these need what a plain install, which is the client library, does not bring.
    try:
        if "action" in options:
            from caterva2.subscriber.adduser import change_users

            return change_users(options, sys.stdin, sys.stdout, sys.stderr)
        from caterva2.daemon.runner import main_for
        from caterva2.subscriber.app import create_app
    except ModuleNotFoundError as error:
        return without_services(SUBSCRIBER, error)
    return main_for(SUBSCRIBER, load_subscriber, create_app, argv)
