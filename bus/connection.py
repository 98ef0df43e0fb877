"""One client of the embedded broker, from its first byte to its last.

This replaces amqtt's handling of a connection as a whole, because its defects pile up there. The
rules, with the defect of amqtt 0.12.1 that each answers (numbered as in the notes on it):

- CONNECT must come within a time limit; then silence ends after 1.5 times the keep-alive   (B1)
- retained messages go only to whom they were asked for, once, and make nobody else wait    (B2)
- a client is authenticated before anything of another client is touched                    (B3)
- a second client of the same name ends the first, whose will comes before the second's say (B4)
- a packet is read as a whole and bounded in size, so that a bad one cannot shift the next (B13)
- what waits for a slow reader is bounded; beyond that it is cut off and may come again    (B11)
- a client that sends without pause lets others run, every 16 packets
- no publishing to topics that start with "$"; no empty, malformed or shared filters
- no version but 3.1.1, and clients of others are told so

Sessions do not outlive their connection: a client that asks for a persistent one is welcome, but
finds no session when it returns. QoS 2 is accepted and granted as QoS 1.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from bus.errors import ProtocolError, ProtocolVersionError, TopicError
from bus.messages import MAX_PAYLOAD
from bus.outbox import Outbox
from bus.packets import (
    ACCEPTED,
    BAD_IDENTIFIER,
    BAD_VERSION,
    CONNECT,
    NOT_AUTHORIZED,
    PINGRESP,
    SUBSCRIPTION_REFUSED,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PubAck,
    Publish,
    PubRel,
    Subscribe,
    Unsubscribe,
    connack,
    parse,
    puback,
    pubcomp,
    pubrec,
    suback,
    unsuback,
)
from bus.router import Router
from bus.topics import check_filter, check_topic

logger = logging.getLogger(__name__)

MAX_PACKET: Final = MAX_PAYLOAD + 4096
MAX_LEVELS: Final = 32
MAX_CLIENT_ID: Final = 256
MAX_SUBSCRIPTIONS: Final = 1000
_FAIRNESS: Final = 16
_PARTING: Final = 1.0


class Stream(Protocol):
    """A way for bytes to a client and back, whatever the transport."""

    @property
    def peer(self) -> str:
        """Where the client is, for the log."""

    @property
    def trusted(self) -> bool:
        """Whether the client is our own process, and needs no password."""

    async def read(self, n: int) -> bytes:
        """Exactly `n` bytes; EOFError or OSError when there will be no more."""

    async def write(self, data: bytes) -> None:
        """Send, and return when there is room for more; OSError if the client is gone."""

    async def close(self) -> None:
        """End the connection, in bounded time, whatever its state."""


class Hub(Protocol):
    """What a connection knows of its broker."""

    router: Router

    async def authenticate(self, connect: Connect, stream: Stream) -> bool:
        """Whether the client may come in."""

    async def permits(self, connection: "Connection", topic: str, action: Literal["publish", "subscribe"]) -> bool:
        """Whether it may publish to this topic, or subscribe to this filter."""

    def admit(self, connection: "Connection") -> None:
        """Count it in, and send away an earlier client of the same name."""

    def dismiss(self, connection: "Connection") -> None:
        """Count it out."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask of the broker."""

    connect_timeout: float = 10.0
    """Seconds until CONNECT; a connection that says nothing costs memory and a file descriptor."""
    outbox: int = 8 * 1024 * 1024
    """Bytes that wait for a client; a bulk of 10,000 changes is about 3 MB."""


class Connection:
    """A client; `run` is its whole life."""

    def __init__(self, stream: Stream, hub: Hub, limits: Limits) -> None:
        self.client_id = ""
        self.connect: Connect | None = None
        self.stream = stream
        self._hub = hub
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._flush = True
        self._present = False
        self._will: Publish | None = None
        self._silence = limits.connect_timeout
        self._last_seen = self._loop.time()
        self._watchdog: asyncio.TimerHandle | None = None
        self._outbox = Outbox(stream, limits.outbox)
        self._replays: set[asyncio.Task[None]] = set()
        self._received: set[int] = set()

    async def run(self) -> None:
        """Serve the client until either side ends it; returns with nothing left behind."""
        reader = asyncio.create_task(self._read(), name=f"mqtt-read {self.stream.peer}")
        writer = asyncio.create_task(self._write(), name=f"mqtt-write {self.stream.peer}")
        self._watch()
        try:
            await self._ended
            logger.debug("client %r at %s: %s", self.client_id, self.stream.peer, self._ended.result())
            reader.cancel()
            self.leave()
            if self._flush:
                await _within(_PARTING, self._outbox.empty())
        finally:
            self.leave()
            if self._watchdog is not None:
                self._watchdog.cancel()
            tasks = {reader, writer, *self._replays}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.stream.close()

    def end(self, reason: str, *, flush: bool = True) -> None:
        """Make `run` return; with `flush`, what waits for the client may still go out."""
        if not self._ended.done():
            self._flush = flush
            self._ended.set_result(reason)

    def leave(self) -> None:
        """Take part no more: no subscriptions, and the will is published unless it is void."""
        if not self._present:
            return
        self._present = False
        self._hub.router.forget(self)
        self._hub.dismiss(self)
        self.publish_will()

    def publish_will(self) -> None:
        """Publish the will, unless it is void or was published already."""
        will, self._will = self._will, None
        if will is not None:
            self._hub.router.publish(will)

    def deliver(self, message: Publish, *, qos: int, retain: bool) -> None:
        """Queue a message for the client, who is cut off if too much waits for it already."""
        if self._ended.done():
            return
        self._outbox.publish(message, qos=qos, retain=retain)
        self._check_outbox()

    def _check_outbox(self) -> None:
        if self._outbox.overfull and not self._ended.done():
            logger.warning("client %r at %s is too slow, cut off", self.client_id, self.stream.peer)
            self.end("too slow", flush=False)

    # Alive

    def _watch(self) -> None:
        if not self._silence:
            return  # keep-alive 0: the client wants none
        left = self._last_seen + self._silence - self._loop.time()
        if left > 0:
            self._watchdog = self._loop.call_later(left, self._watch)
        else:
            self.end("silent for too long", flush=False)

    # Outgoing

    async def _write(self) -> None:
        try:
            await self._outbox.run()
        except OSError as error:
            self.end(f"cannot write: {error}", flush=False)

    async def _replay(self, wanted: dict[str, int]) -> None:
        """Send retained messages, in a task of its own, so that acknowledgements are read meanwhile."""
        for number, (topic, qos) in enumerate(wanted.items(), 1):
            await self._outbox.room()
            # Looked up only now, so that an old word never comes after a newer one.
            if (message := self._hub.router.retained_on(topic)) is not None:
                self.deliver(message, qos=min(qos, message.qos), retain=True)
            if number % _FAIRNESS == 0:
                await asyncio.sleep(0)

    # Incoming

    async def _read(self) -> None:
        try:
            await self._converse()
        except ProtocolVersionError as error:
            self._outbox.send(connack(BAD_VERSION))
            self.end(str(error))
        except (ProtocolError, TopicError) as error:
            logger.info("client %r at %s: %s", self.client_id, self.stream.peer, error)
            self.end(str(error))
        except (EOFError, OSError) as error:
            self.end(f"connection lost: {error}", flush=False)
        except Exception as error:  # one client must not hang because of our mistake with it
            logger.exception("client %r at %s", self.client_id, self.stream.peer)
            self.end(f"{type(error).__name__}: {error}", flush=False)

    async def _converse(self) -> None:
        first = (await self.stream.read(1))[0]
        if first != CONNECT:  # a port scan, or HTTP: not worth waiting for the rest of it
            raise ProtocolError("the first packet is not CONNECT")
        connect = await _read_packet(self.stream, first)
        assert isinstance(connect, Connect)
        code = await self._enter(connect)
        if code != ACCEPTED:
            self._outbox.send(connack(code))
            self.end(f"refused with code {code}")
            return
        number = 0
        while not isinstance(packet := await _read_packet(self.stream), Disconnect):
            self._last_seen = self._loop.time()
            await self._handle(packet)
            self._check_outbox()  # answers pile up, too, when nobody reads them
            number += 1
            if number % _FAIRNESS == 0:
                await asyncio.sleep(0)
        self._will = None
        self.end("left")

    async def _enter(self, connect: Connect) -> int:
        if len(connect.client_id) > MAX_CLIENT_ID or not (connect.client_id or connect.clean):
            return BAD_IDENTIFIER
        if not await self._hub.authenticate(connect, self.stream):
            return NOT_AUTHORIZED
        self.client_id = connect.client_id or f"anonymous-{secrets.token_hex(8)}"
        self.connect = connect
        if (will := connect.will) is not None:
            _check_levels(check_topic(will.topic))
            if not await self._hub.permits(self, will.topic, "publish"):
                return NOT_AUTHORIZED
        if self._ended.done():
            raise EOFError("gone while it was let in")
        self._will = will
        self._silence = connect.keepalive * 1.5
        self._last_seen = self._loop.time()
        self._hub.admit(self)
        self._present = True
        self._outbox.send(connack(ACCEPTED))
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watch()
        return ACCEPTED

    async def _handle(self, packet: Packet) -> None:
        match packet:
            case Publish():
                await self._handle_publish(packet)
            case PubAck():
                self._outbox.acknowledge(packet.packet_id)
            case PubRel():
                self._received.discard(packet.packet_id)
                self._outbox.send(pubcomp(packet.packet_id))
            case PingReq():
                self._outbox.send(PINGRESP)
            case Subscribe():
                await self._handle_subscribe(packet)
            case Unsubscribe():
                for filter in packet.filters:
                    self._hub.router.unsubscribe(self, filter)
                self._outbox.send(unsuback(packet.packet_id))
            case _:
                raise ProtocolError("CONNECT a second time")

    async def _handle_publish(self, packet: Publish) -> None:
        _check_levels(check_topic(packet.topic))
        if not await self._permits(packet.topic, "publish"):
            # Acknowledging would tell the client that it had been published (B7).
            raise ProtocolError(f"may not publish to {packet.topic[:300]!r}")
        if packet.qos < 2 or packet.packet_id not in self._received:
            self._hub.router.publish(packet)
        if packet.qos == 1:
            self._outbox.send(puback(packet.packet_id))
        elif packet.qos == 2:
            self._received.add(packet.packet_id)
            self._outbox.send(pubrec(packet.packet_id))

    async def _handle_subscribe(self, packet: Subscribe) -> None:
        codes = [await self._subscribe(filter, min(qos, 1)) for filter, qos in packet.filters]
        self._outbox.send(suback(packet.packet_id, codes))
        wanted: dict[str, int] = {}
        for (filter, _), code in zip(packet.filters, codes, strict=True):
            if code != SUBSCRIPTION_REFUSED:
                for message in self._hub.router.retained(filter):
                    wanted[message.topic] = max(code, wanted.get(message.topic, 0))
        if wanted:
            task = asyncio.create_task(self._replay(wanted), name=f"mqtt-replay {self.client_id}")
            self._replays.add(task)
            task.add_done_callback(self._replays.discard)

    async def _permits(self, topic: str, action: Literal["publish", "subscribe"]) -> bool:
        permitted = await self._hub.permits(self, topic, action)
        if not self._present:
            # Taken over meanwhile; what it asks for must not come to life again.
            raise EOFError("gone while it was asking")
        return permitted

    async def _subscribe(self, filter: str, qos: int) -> int:
        try:
            _check_levels(check_filter(filter))
        except TopicError as error:
            logger.info("client %r at %s: %s", self.client_id, self.stream.peer, error)
            return SUBSCRIPTION_REFUSED
        permitted = await self._permits(filter, "subscribe")
        if not permitted or self._hub.router.count(self) >= MAX_SUBSCRIPTIONS:
            return SUBSCRIPTION_REFUSED
        self._hub.router.subscribe(self, filter, qos)
        return qos


async def _within(seconds: float, done: Awaitable[object]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done


def _check_levels(topic: str) -> None:
    if topic.count("/") >= MAX_LEVELS:
        raise TopicError(topic, f"has more than {MAX_LEVELS} levels")


async def _read_packet(stream: Stream, first: int | None = None) -> Packet:
    if first is None:
        first = (await stream.read(1))[0]
    length = shift = 0
    while True:
        byte = (await stream.read(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > 21:
            raise ProtocolError("length has more than 4 bytes")
    if length > MAX_PACKET:
        raise ProtocolError(f"packet of {length} bytes, more than {MAX_PACKET}")
    return parse(first, await stream.read(length) if length else b"")
