"""Many clients at once, with little of their own to slow a broker down.

``python -m tests.unit.bus.crowd --clients 1000`` shows how long the embedded broker takes to end with them.
"""

import argparse
import asyncio
import socket
import time

from bus.broker import EmbeddedBroker
from bus.listeners import Listener
from tests.unit.bus.raw import connect, subscribe


class Crowd:
    """Sockets of clients that are in, each with a will and subscribed to all wills; nobody reads them."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets

    @classmethod
    async def join(cls, port: int, clients: int) -> "Crowd":
        """Come in, one after the other, and wait until all are in."""
        loop = asyncio.get_running_loop()
        sockets = []
        for number in range(clients):
            sockets.append(sock := socket.socket())
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            will = (f"will/{number}", b"gone")
            await loop.sock_sendall(sock, connect(str(number), will=will, will_retain=True) + subscribe("will/+"))
        for sock in sockets:
            assert b"\x20\2\0\0" == await loop.sock_recv(sock, 4)
        return cls(sockets)

    def close(self) -> None:
        """Leave, without a word."""
        for sock in self._sockets:
            sock.close()


async def _show(clients: int) -> None:
    broker = EmbeddedBroker(listeners=[Listener("127.0.0.1", 0)])
    async with broker:
        started = time.monotonic()
        crowd = await Crowd.join(broker.ports[0] or 0, clients)
        print(f"{broker.clients} clients came in within {time.monotonic() - started:.2f} s")  # noqa: T201
        started = time.monotonic()
    ended = time.monotonic() - started
    print(f"the broker ended within {ended:.2f} s; {len(broker.retained)} wills are retained")  # noqa: T201
    crowd.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    asyncio.run(_show(parser.parse_args().clients))
