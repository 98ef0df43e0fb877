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
import logging
import secrets
import ssl
import time
from collections import deque
from typing import Final, Protocol

from bus.access import Access, Credentials, Member
from bus.chatter import Chatter
from bus.errors import ProtocolError, ProtocolVersionError, RefusedError, TopicError
from bus.limits import Limits
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
    puback,
    pubcomp,
    pubrec,
    suback,
    unsuback,
)
from bus.replay import Replay
from bus.router import Router
from bus.stream import Stream, read_packet
from bus.topics import check_filter, check_topic
from bus.traffic import ClientInfo, Traffic

logger = logging.getLogger(__name__)

MAX_CLIENT_ID: Final = 256
_FAIRNESS: Final = 16
_MAX_UNSAVED: Final = 5000
"""Acknowledgements that wait for the disk; then the client waits with them."""
_PARTING: Final = 0.5


class Hub(Protocol):
    """What a connection knows of its broker."""

    @property
    def router(self) -> Router:
        """Where messages go."""

    @property
    def access(self) -> Access:
        """Who may do what."""

    @property
    def saved(self) -> int:
        """The number of the latest save of a retained message that need not be waited for."""

    async def authenticate(self, credentials: Credentials) -> Member:
        """Who the client is; RefusedError if it may not come in."""

    def admit(self, connection: "Connection") -> None:
        """Count it in, and send away an earlier client of the same name."""

    def dismiss(self, connection: "Connection") -> None:
        """Count it out."""

    def await_saved(self, connection: "Connection") -> None:
        """Call its `acknowledge_saved` whenever more is saved."""

    @property
    def chatter(self) -> Chatter:
        """Logs what strangers can cause as often as they like."""


class Connection:
    """A client; `run` is its whole life."""

    def __init__(self, stream: Stream, hub: Hub, limits: Limits) -> None:
        self.client_id = ""
        self.member = Member("", "")
        self.since = 0.0
        self.traffic = Traffic()
        self.stream = stream
        self._hub = hub
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._flush = True
        self._present = False
        self._will: Publish | None = None
        self._silence = limits.connect_timeout
        self._last_seen = self._loop.time()
        self._watchdog: asyncio.TimerHandle | None = None
        self._outbox = Outbox(stream, limits.outbox)
        self._unsaved: deque[tuple[int, bytes]] = deque()
        self._caught_up = asyncio.Event()
        self._replay = Replay(hub.router, self._outbox, self)
        self._received: set[int] = set()

    def __str__(self) -> str:
        name, role = self.member.name, self.member.role
        who = (f" of {name!r}" if name else "") + (f" ({role})" if role else "")
        which = f"client {self.client_id!r}" if self.client_id else "someone"
        return f"{which}{who} at {self.stream.peer}"

    @property
    def info(self) -> ClientInfo:
        """What it is and does."""
        traffic = self.traffic
        return ClientInfo(
            client_id=self.client_id,
            name=self.member.name,
            role=self.member.role,
            peer=self.stream.peer,
            since=self.since,
            subscriptions=self._hub.router.count(self),
            queued=self._outbox.waiting,
            received=traffic.received,
            sent=traffic.sent,
            received_rate=traffic.received_rate,
            sent_rate=traffic.sent_rate,
        )

    async def run(self) -> None:
        """Serve the client until either side ends it; returns with nothing left behind."""
        reader = asyncio.create_task(self._read(), name=f"mqtt-read {self.stream.peer}")
        writer = asyncio.create_task(self._write(), name=f"mqtt-write {self.stream.peer}")
        self._watch()
        try:
            await self._ended
            reader.cancel()
            self.leave()
            if self._flush and self._outbox.waiting:
                await self._send_rest(writer)
        finally:
            self.leave()
            if self._watchdog is not None:
                self._watchdog.cancel()
            tasks = {reader, writer, *self._replay.tasks}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.stream.close()

    def end(self, reason: str, *, level: int = logging.INFO, flush: bool = True) -> None:
        """Make `run` return; with `flush`, what waits for the client may still go out."""
        if not self._ended.done():
            self._flush = flush
            self._ended.set_result(None)
            self._log_end(level, reason)

    def cut(self, reason: str) -> None:
        """End it by our will, at once."""
        self.end(f"cut off: {reason}", level=logging.WARNING, flush=False)

    def leave(self) -> None:
        """Take part no more: no subscriptions, and the will is published unless it is void."""
        if not self._present:
            return
        self._present = False
        self._hub.router.forget(self)
        self._hub.dismiss(self)
        self.publish_will()

    def publish_will(self) -> None:
        """Publish the will, unless it is void, was published already, or may no more be published."""
        will, self._will = self._will, None
        if will is None:
            return
        if (reason := self._may_publish(will.topic)) is None:
            self._hub.router.publish(will)
        else:
            logger.warning("%s may not leave its will on %.300r any more: %s", self, will.topic, reason)

    def may_receive(self, topic: str) -> bool:
        """Whether it gets what is published to a guarded topic."""
        return self.stream.trusted or self._hub.access.may_receive(self.member, topic)

    def deliver(self, message: Publish, *, qos: int, retain: bool) -> None:
        """Queue a message for the client, who is cut off if too much waits for it already."""
        if self._ended.done():
            return
        self.traffic.sent += 1
        self._outbox.publish(message, qos=qos, retain=retain)
        if self._outbox.overfull:
            self._cut_slow()

    def acknowledge_saved(self) -> bool:
        """Send the acknowledgements of what is saved by now; whether others wait still."""
        while self._unsaved and self._unsaved[0][0] <= self._hub.saved:
            self._outbox.send(self._unsaved.popleft()[1])
        if len(self._unsaved) < _MAX_UNSAVED:
            self._caught_up.set()
        return bool(self._unsaved)

    def _cut_slow(self) -> None:
        waiting = self._outbox.waiting
        what = f"{waiting:,} bytes wait for it" if waiting > self._limits.outbox else "it acknowledges nothing"
        self.cut(f"too slow, {what}")

    def _log_end(self, level: int, reason: str) -> None:
        if self.since:
            usual = self.stream.trusted and level <= logging.INFO
            logger.log(logging.DEBUG if usual else level, "%s %s", self, reason)
        else:
            self._hub.chatter.log(level, "%s %s", self, reason)

    # Alive

    def _watch(self) -> None:
        if not self._silence:
            return  # keep-alive 0: the client wants none
        left = self._last_seen + self._silence - self._loop.time()
        if left > 0:
            self._watchdog = self._loop.call_later(left, self._watch)
        elif self.since:
            self.end(f"is gone: silent for {self._silence:g} s", flush=False)
        else:
            self.end(f"no CONNECT within {self._silence:g} s", level=logging.DEBUG, flush=False)

    # Outgoing

    async def _send_rest(self, writer: asyncio.Task[None]) -> None:
        """Give the client a moment to take what waits for it, unless it is gone."""
        empty = asyncio.create_task(self._outbox.empty(), name=f"mqtt-rest {self.stream.peer}")
        try:
            await asyncio.wait({empty, writer}, timeout=_PARTING, return_when=asyncio.FIRST_COMPLETED)
        finally:
            empty.cancel()

    async def _write(self) -> None:
        try:
            await self._outbox.run()
        except OSError as error:
            self.end(f"is gone: {error}", flush=False)

    # Incoming

    async def _read(self) -> None:
        try:
            await self._converse()
        except RefusedError as error:
            self._outbox.send(connack(error.code))
            self.end(f"refused: {error.reason}", level=logging.WARNING)
        except ProtocolVersionError as error:
            self._outbox.send(connack(BAD_VERSION))
            self.end(f"refused: {error}")
        except (ProtocolError, TopicError) as error:
            self.end(f"cut off: {error}", level=logging.WARNING if self.since else logging.INFO)
        except (EOFError, OSError) as error:
            level = logging.INFO if self.since or isinstance(error, ssl.SSLError) else logging.DEBUG
            self.end(f"is gone: {str(error) or type(error).__name__}", level=level, flush=False)
        except Exception as error:  # one client must not hang because of our mistake with it
            logger.exception("%s", self)
            self.cut(f"{type(error).__name__}: {error}")

    async def _converse(self) -> None:
        first = (await self.stream.read(1))[0]
        if first != CONNECT:  # a port scan, or HTTP: not worth waiting for the rest of it
            raise ProtocolError("the first packet is not CONNECT")
        connect = await read_packet(self.stream, self._limits.packet, first)
        assert isinstance(connect, Connect)
        await self._enter(connect)
        number = 0
        while not isinstance(packet := await read_packet(self.stream, self._limits.packet), Disconnect):
            if not self._present:
                return  # sent away meanwhile; what it asks for must not come to life again
            self._last_seen = self._loop.time()
            self._handle(packet)
            if self._outbox.overfull:  # answers pile up, too, when nobody reads them
                self._cut_slow()
            number += 1
            if number % _FAIRNESS == 0:
                await asyncio.sleep(0)
                await self._caught_up.wait()
        self._will = None
        self.end("left")

    async def _enter(self, connect: Connect) -> None:
        if len(connect.client_id) > MAX_CLIENT_ID:
            raise RefusedError(BAD_IDENTIFIER, f"its name has more than {MAX_CLIENT_ID} characters")
        if not (connect.client_id or connect.clean):
            raise RefusedError(BAD_IDENTIFIER, "it has no name, but wants to be known again")
        self.client_id = connect.client_id or f"anonymous-{secrets.token_hex(8)}"
        self._silence = 0  # how long it waits now is not its fault
        if not self.stream.trusted:
            self.member = await self._hub.authenticate(self._credentials(connect))
        if (will := connect.will) is not None:
            self._check(check_topic(will.topic))
            if (reason := self._may_publish(will.topic)) is not None:
                raise RefusedError(NOT_AUTHORIZED, f"may not leave a will on {will.topic[:300]!r}: {reason}")
        if self._ended.done():
            raise EOFError("gone while it was let in")
        self._will = will
        self._silence = connect.keepalive * 1.5
        self._last_seen = self._loop.time()
        self.since = time.time()
        self._hub.admit(self)
        self._present = True
        self._caught_up.set()
        self._outbox.send(connack(ACCEPTED))
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watch()

    def _credentials(self, connect: Connect) -> Credentials:
        stream = self.stream
        return Credentials(
            client_id=self.client_id,
            username=connect.username,
            password=connect.password,
            peer=stream.peer,
            host=stream.host,
            local=stream.local,
            certificate=stream.certificate,
        )

    def _handle(self, packet: Packet) -> None:
        match packet:
            case Publish():
                self._handle_publish(packet)
            case PubAck():
                self._outbox.acknowledge(packet.packet_id)
            case PubRel():
                self._received.discard(packet.packet_id)
                self._outbox.send(pubcomp(packet.packet_id))
            case PingReq():
                self._outbox.send(PINGRESP)
            case Subscribe():
                self._handle_subscribe(packet)
            case Unsubscribe():
                for filter in packet.filters:
                    self._hub.router.unsubscribe(self, filter)
                self._outbox.send(unsuback(packet.packet_id))
            case _:
                raise ProtocolError("CONNECT a second time")

    def _handle_publish(self, packet: Publish) -> None:
        self._check(check_topic(packet.topic))
        if (reason := self._may_publish(packet.topic)) is not None:
            # Acknowledging would tell the client that it had been published (B7).
            raise ProtocolError(f"may not publish to {packet.topic[:300]!r}: {reason}")
        self.traffic.received += 1
        saved = 0
        if packet.qos < 2 or packet.packet_id not in self._received:
            saved = self._hub.router.publish(packet)
        if packet.qos == 1:
            self._acknowledge(saved, puback(packet.packet_id))
        elif packet.qos == 2:
            self._received.add(packet.packet_id)
            self._acknowledge(saved, pubrec(packet.packet_id))

    def _acknowledge(self, saved: int, packet: bytes) -> None:
        """Acknowledge what needs save number `saved`, in the order of the messages (MQTT 3.1.1, 4.6)."""
        if saved <= self._hub.saved and not self._unsaved:
            self._outbox.send(packet)
            return
        self._unsaved.append((saved, packet))
        if len(self._unsaved) >= _MAX_UNSAVED:
            self._caught_up.clear()
        self._hub.await_saved(self)

    def _may_publish(self, topic: str) -> str | None:
        return None if self.stream.trusted else self._hub.access.may_publish(self.member, topic)

    def _handle_subscribe(self, packet: Subscribe) -> None:
        codes = [self._subscribe(filter, min(qos, 1)) for filter, qos in packet.filters]
        self._outbox.send(suback(packet.packet_id, codes))
        granted = {
            each: code for (each, _), code in zip(packet.filters, codes, strict=True) if code != SUBSCRIPTION_REFUSED
        }
        self._replay.want(granted)

    def _subscribe(self, filter: str, qos: int) -> int:
        try:
            self._check(check_filter(filter))
            self._check_subscription(filter)
        except TopicError as error:
            self._hub.chatter.log(logging.WARNING, "%s may not subscribe: %s", self, error)
            return SUBSCRIPTION_REFUSED
        self._hub.router.subscribe(self, filter, qos)
        return qos

    def _check_subscription(self, filter: str) -> None:
        router, access = self._hub.router, self._hub.access
        if not self.stream.trusted and (reason := access.may_subscribe(self.member, filter)) is not None:
            raise TopicError(filter, reason)
        if router.count(self) >= self._limits.subscriptions and not router.subscribed(self, filter):
            raise TopicError(filter, f"it has {self._limits.subscriptions} subscriptions already")

    def _check(self, topic: str) -> None:
        limits = self._limits
        if topic.count("/") >= limits.levels:
            raise TopicError(topic, f"has more than {limits.levels} levels")
        if len(topic) > limits.topic or len(topic.encode()) > limits.topic:
            raise TopicError(topic, f"has more than {limits.topic} bytes")
