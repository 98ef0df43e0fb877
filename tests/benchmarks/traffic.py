"""Steady traffic on a bus, as `python -m tests.benchmarks.traffic PORT RATE SUBSCRIBERS`, until stdin ends."""

import select
import sys
import time

from tests.benchmarks.swarm import Sender, Swarm

_TOPIC = "caterva2/change/foo"
_TICK = 0.01
"""Seconds between two batches."""


def main() -> None:
    """Publish at the rate, and take what comes."""
    port, rate, subscribers = map(int, sys.argv[1:])
    sender = Sender(port, _TOPIC, b"x" * 250, qos=1, batch=round(rate * _TICK))
    size = len(sender.packet)
    with Swarm(port, subscribers, _TOPIC, qos=1, name="taker") as swarm:
        print("ready", flush=True)
        start, ticks = time.monotonic(), 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            sender.send()
            ticks += 1
            while (left := start + ticks * _TICK - time.monotonic()) > 0:
                for each in swarm.wait(left):
                    swarm.take(each, size, qos=1)
            sender.acknowledge()
        sender.settle()
        print(f"{sender.sent / (time.monotonic() - start):.0f}", flush=True)
    sender.close()


if __name__ == "__main__":
    main()
