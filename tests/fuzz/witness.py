"""A well-behaved client beside the hostile ones: what it publishes comes back, once, in order, all the time."""

import asyncio
import json
import time
from dataclasses import dataclass, field

from bus.messages import Change, Changes, encode
from tests.unit.bus.raw import PUBACK, PUBLISH, SUBACK, RawClient, connect, packet, publish, subscribe

TOPIC = "caterva2/change/witness"
CLIENT_ID = "witness-of-the-fuzzer"
_PAUSE = 0.02
PATIENCE = 20.0
"""Seconds that its own messages may take, on a machine that is busy with the attacks too."""


@dataclass
class Witness:
    """One client who publishes and receives.

    Attributes:
        complaints: what a good client must not see.
        longest: seconds that a message took at most.
        count: of the messages that came back.
    """

    port: int
    complaints: list[str] = field(default_factory=list)
    longest: float = 0.0
    count: int = 0
    _sent: dict[int, float] = field(default_factory=dict)
    _leaving: bool = False

    async def run(self) -> None:
        """Publish and receive, until it is cancelled; a complaint ends it."""
        client = await RawClient.join(self.port, connect(CLIENT_ID, keepalive=0))
        try:
            await client.send(subscribe(TOPIC, qos=1))
            await client.read(SUBACK)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._publish(client))
                tasks.create_task(self._receive(client))
        except* (AssertionError, OSError, EOFError, TimeoutError) as error:
            self.complaints.append(f"the witness was disturbed after {self.count} messages: {error.exceptions!r}")
        finally:
            await client.cut()

    async def settle(self) -> None:
        """Wait until all that was published is back."""
        self._leaving = True
        end = time.monotonic() + PATIENCE
        while self._sent and not self.complaints and time.monotonic() < end:  # noqa: ASYNC110 - it is no one event
            await asyncio.sleep(_PAUSE)
        if self._sent and not self.complaints:
            self.complaints.append(f"the witness misses {len(self._sent)} of its messages")

    async def _publish(self, client: RawClient) -> None:
        number = 0
        while not self._leaving:
            number += 1
            self._sent[number] = time.monotonic()
            identifier = number % 65535 + 1
            await client.send(publish(TOPIC, _change(number), qos=1, packet_id=identifier))
            await asyncio.sleep(_PAUSE)
            if time.monotonic() - next(iter(self._sent.values()), time.monotonic()) > PATIENCE:
                raise TimeoutError(f"message {next(iter(self._sent))} did not come back")

    async def _receive(self, client: RawClient) -> None:
        while True:
            got = await client.read()
            if got.kind == PUBACK:
                continue
            assert got.kind == PUBLISH, got
            number = json.loads(got.payload)["seq"]
            assert number == next(iter(self._sent), 0), f"{number} came, {next(iter(self._sent), None)} is next"
            self.longest = max(self.longest, time.monotonic() - self._sent.pop(number))
            self.count += 1
            at = 2 + int.from_bytes(got.body[:2], "big")
            await client.send(packet(0x40, got.body[at : at + 2]))


def _change(number: int) -> bytes:
    """A message that the daemons understand, of a root that none of them follows."""
    change = Change(
        root="witness", epoch="e", seq=number, type="modified", path="a", etag="1", nbytes=1, kind="file", mtime=1.0,
        time=1.0,
    )  # fmt: skip
    return encode(Changes(root="witness", changes=(change,)))
