"""The command cat2bro."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caterva2.daemon.arguments import BROKER, parser, without_services
from caterva2.settings import load_broker


def main(argv: Sequence[str] | None = None) -> int:
    """Run the broker, or change its users; return the exit status."""
    options = vars(parser(BROKER).parse_args(argv))
    # Here, because these need what a plain install, which is the client library, does not bring.
    try:
        if "action" in options:
            from caterva2.broker.accounts import change_users

            return change_users(options, sys.stdin, sys.stdout, sys.stderr)
        from caterva2.broker.app import create_app
        from caterva2.daemon.runner import main_for
    except ModuleNotFoundError as error:
        return without_services(BROKER, error)
    return main_for(BROKER, load_broker, create_app, argv)
