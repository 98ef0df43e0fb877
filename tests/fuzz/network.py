"""Where the attackers come from."""

import asyncio
from typing import Final

ELSEWHERE: Final = "127.0.0.2"
"""This machine, too, but with ports of its own: thousands of connections from 127.0.0.1 take the ports there that tests
beside this one have found free."""


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to a daemon."""
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(ELSEWHERE, 0))
