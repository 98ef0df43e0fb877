"""MQTT clients on bare sockets in one thread: they cost so little that the broker is what is measured.

Messages of one measure are of one size, so they are counted by their bytes, and acknowledged by slices of these.
"""

import base64
import select
import socket
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from tests.unit.bus.raw import connect, publish, subscribe

DEADLINE = 120.0
"""Seconds that anything may take: it only ends a hopeless wait."""
_PIECE = 1 << 18
_UPGRADE = (
    "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
    "Sec-WebSocket-Protocol: mqtt\r\n\r\n"
).encode()


def _frame(packets: bytes) -> bytes:
    """Packets as one WebSocket frame, with a mask of zeros."""
    assert 126 <= len(packets) < 1 << 16
    return b"\x82\xfe" + len(packets).to_bytes(2, "big") + bytes(4) + packets


class Swarm:
    """Connected clients, each subscribed to the same filters.

    Args:
        port: of the broker, on this machine.
        count: of the clients, who come all at once.
        filters: to subscribe to.
        qos: of the subscriptions.
        name: of the clients, before their numbers.
        websocket: whether MQTT goes through a WebSocket; such clients can only be there.
    """

    def __init__(
        self, port: int, count: int, *filters: str, qos: int = 0, name: str = "swarm", websocket: bool = False
    ) -> None:
        self.sockets: list[socket.socket] = []
        self._by_number: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._buffer = memoryview(bytearray(_PIECE))
        self._rest: dict[int, bytes] = {}
        begun = time.perf_counter()
        # With nothing to subscribe to, the answer to a filter that matches nothing says that the client is in.
        asked = subscribe(*(filters or ("nothing",)), qos=qos)
        self._granted = b"\x90" + bytes((2 + max(1, len(filters)), 0, 1))
        hellos = (connect(f"{name}-{number:06d}".ljust(100, "x"), keepalive=0) + asked for number in range(count))
        self._join(port, [(_UPGRADE, _frame(hello)) if websocket else (hello,) for hello in hellos])
        self.seconds = time.perf_counter() - begun
        """How long it took until all of them were let in and subscribed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._poll.close()
        for each in self.sockets:
            each.close()

    def _join(self, port: int, hellos: Sequence[tuple[bytes, ...]]) -> None:
        waiting: dict[int, tuple[socket.socket, list[bytes], bytearray]] = {}
        for hello in hellos:
            each = socket.socket()
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.connect_ex(("127.0.0.1", port))
            self.sockets.append(each)
            self._by_number[each.fileno()] = each
            waiting[each.fileno()] = (each, [*hello], bytearray())
            self._poll.register(each, select.EPOLLOUT)
        end = time.monotonic() + DEADLINE
        while waiting:
            for fd, _ in self._poll.poll(_left(end)):
                if fd not in waiting:  # what is retained comes behind the answer
                    self._rest[fd] += self._by_number[fd].recv(_PIECE)
                    continue
                each, unsaid, got = waiting[fd]
                if not got:
                    got += b"!"
                    each.sendall(unsaid.pop(0))
                    self._poll.modify(fd, select.EPOLLIN)
                    continue
                piece = each.recv(_PIECE)
                if not piece:
                    raise ConnectionError(f"the broker let in {len(hellos) - len(waiting)} of {len(hellos)}: {got!r}")
                got += piece
                if unsaid and got.endswith(b"\r\n\r\n"):  # let in to speak MQTT
                    each.sendall(unsaid.pop(0))
                if (at := got.find(self._granted)) >= 0:
                    del waiting[fd]
                    # What is retained may come in the same piece.
                    self._rest[fd] = bytes(got[at + 2 + got[at + 1] :])

    def take(self, one: socket.socket, size: int, *, qos: int = 0) -> int:
        """Read what has come for one client: how many messages of `size` bytes, each acknowledged if `qos` is 1."""
        rest = self._rest.pop(one.fileno(), b"")
        self._buffer[: len(rest)] = rest
        try:
            n = one.recv_into(self._buffer[len(rest) :])
        except BlockingIOError:
            n = 0
        else:
            if not n:
                raise ConnectionError("the broker has cut off a client")
        count, over = divmod(len(rest) + n, size)
        if over:
            self._rest[one.fileno()] = bytes(self._buffer[count * size : count * size + over])
        if qos and count:
            one.sendall(_acknowledgements(self._buffer[: count * size], size))
        return count

    def wait(self, timeout: float = DEADLINE) -> list[socket.socket]:
        """Those for whom something has come."""
        return [self._by_number[fd] for fd, _ in self._poll.poll(timeout)]

    def collect(self, expected: int, size: int, *, qos: int = 0) -> list[float]:
        """Read until every client has `expected` messages; when each of all the messages came."""
        left = dict.fromkeys(self.sockets, expected)
        came: list[float] = []
        end = time.monotonic() + DEADLINE
        while left:
            for each in self.wait(_left(end)):
                count = self.take(each, size, qos=qos)
                came += [time.perf_counter()] * count
                if each in left:
                    left[each] -= count
                    if left[each] <= 0:
                        del left[each]
        return came

    def bytes_until_quiet(self, pause: float = 0.5) -> int:
        """Read, of whatever size, until nothing has come for `pause` seconds; how many bytes came."""
        total = sum(map(len, self._rest.values()))
        self._rest.clear()
        while ready := self.wait(pause):
            total += sum(each.recv_into(self._buffer) for each in ready)
        return total


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the broker does not deliver")
    return left


def _acknowledgements(messages: memoryview, size: int) -> bytes:
    """A PUBACK for each of the messages of QoS 1, which are of one size and topic."""
    start = 1 + (1 if size < 130 else 2 if size < 16_387 else 3)
    at = start + 2 + int.from_bytes(messages[start : start + 2], "big")
    made = bytearray(b"\x40\x02\0\0" * (len(messages) // size))
    made[2::4] = messages[at::size]
    made[3::4] = messages[at + 1 :: size]
    return bytes(made)


class Sender:
    """One client who publishes messages of one size.

    Args:
        port: of the broker.
        topic: to publish to.
        payload: of each message.
        qos: of each message.
        batch: messages written at once.
    """

    def __init__(
        self, port: int, topic: str, payload: bytes, *, qos: int = 0, batch: int = 1, retain: bool = False
    ) -> None:
        self.qos = qos
        self._swarm = Swarm(port, 1, name=f"sender-{topic.replace('/', '-')}")
        self._socket = self._swarm.sockets[0]
        self.packet = publish(topic, payload, qos=qos, retain=retain)
        self._batch = b"".join(publish(topic, payload, qos=qos, retain=retain, packet_id=n + 1) for n in range(batch))
        self._count = batch
        self.sent = 0
        self.acknowledged = 0

    def send(self) -> None:
        """Send a batch; the broker takes it, or this waits."""
        self._write(self._batch)
        self.sent += self._count

    def publish(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Send other messages than one's own, retained, and wait until they are acknowledged."""
        packets = [publish(*each, qos=1, retain=True, packet_id=n) for n, each in enumerate(messages, 1)]
        self._write(b"".join(packets))
        self.sent += len(packets)
        self.settle()

    def _write(self, data: bytes) -> None:
        self._socket.setblocking(True)
        self._socket.sendall(data)
        self._socket.setblocking(False)

    def acknowledge(self) -> int:
        """Read the broker's acknowledgements; how many messages are without one."""
        if self.qos:
            self.acknowledged += self._swarm.take(self._socket, 4)
        return self.sent - self.acknowledged if self.qos else 0

    def settle(self) -> None:
        """Wait until all is acknowledged."""
        end = time.monotonic() + DEADLINE
        while self.acknowledge():
            self._swarm.wait(_left(end))

    def close(self) -> None:
        """Hang up."""
        self._swarm.close()
