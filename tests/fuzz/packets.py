"""What a hostile MQTT client sends: packets by the grammar, and then with something wrong about them."""

import random

from tests.unit.bus.raw import DISCONNECT, PINGREQ, connect, packet, publish, subscribe, text, unsubscribe

BAD_TEXT = (
    b"\xff\xfe",
    b"\xc0\xaf",  # overlong
    b"\xed\xa0\x80",  # half of a surrogate pair
    b"\xf4\x90\x80\x80",  # beyond Unicode
    b"a\0b",
    b"\xe2\x82",  # cut off
    b"",
)
ALLOWED = "caterva2/change/fuzz-"
"""A topic begins with this that everybody may publish to: else each conversation would end at its first message."""
TOPICS = (*(f"{ALLOWED}{name}" for name in "abcdefgh"), "fuzz/ä/☃", "fuzz//", "/fuzz", "caterva2/token/anonymous")
FILTERS = (f"{ALLOWED}a", "caterva2/change/+", "caterva2/#", "caterva2/+/fuzz-b", "fuzz/#", "+/a", "#")
REFUSED_TOPICS = ("", "#", "+", "fuzz/#", "fuzz/+/a", "$SYS/broker", "$share/g/fuzz/#", "$")
BAD_TOPICS = (*REFUSED_TOPICS, "fuzz/\uffff", "fuzz/\x01", "fuzz/\U0001fffe")
BAD_FILTERS = ("", "#a", "fuzz/a#", "fuzz/#/a", "++", "fuzz/+a", "$share/g/fuzz/#", "$share//", "$share")
_MOST = 70_000
"""Bytes; ours takes packets of up to 69,632."""


class Packets:
    """A source of packets.

    Args:
        rng: what is chosen by.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def conversation(self) -> list[bytes]:
        """What one client sends, from its first byte to its last."""
        rng = self._rng
        first = [self.connect()] if rng.random() < 0.85 else []
        said = first + [self.any() for _ in range(rng.choice((0, 1, 1, 3, 10, 40)))]
        if rng.random() < 0.3:
            rng.shuffle(said)
        if rng.random() < 0.5:
            at = rng.randrange(len(said) + 1)
            said[at:at] = [self.wrong()]
        return said

    def connect(self) -> bytes:
        """A CONNECT that a broker takes, mostly."""
        rng = self._rng
        will = (self._topic(), self._payload()) if rng.random() < 0.3 else None
        return connect(
            f"fuzz-{rng.randrange(1000)}",
            clean=rng.random() < 0.8,
            keepalive=rng.choice((0, 1, 60, 65535)),
            will=will,
            will_retain=False,
            username=rng.choice((None, "user", "")),
            password=None,
        )

    def any(self) -> bytes:
        """A packet of any kind, by the grammar."""
        rng, number = self._rng, self._rng.randrange(1, 65536)
        kind = rng.randrange(8)
        if kind <= 2:
            return publish(self._topic(), self._payload(), qos=rng.randrange(3), packet_id=number)
        if kind == 3:
            return subscribe(*rng.choices(FILTERS, k=rng.randrange(1, 5)), qos=rng.randrange(3), packet_id=number)
        if kind == 4:
            return unsubscribe(*rng.choices(FILTERS, k=rng.randrange(1, 5)), packet_id=number)
        if kind == 5:
            return packet(rng.choice((0x40, 0x50, 0x62, 0x70)), number.to_bytes(2, "big"))
        return PINGREQ if kind == 6 else rng.choice((DISCONNECT, PINGREQ, PINGREQ))

    def wrong(self) -> bytes:
        """A packet that breaks the rules."""
        ways = (
            self._bad_length, self._bad_flags, self._bad_topic, self._bad_text, self._bad_connect, self._bad_version,
            self._bad_kind, self._bad_bytes, self._noise, self._bomb,
        )  # fmt: skip
        return self._rng.choice(ways)()

    def _topic(self) -> str:
        return self._rng.choice(TOPICS)

    def _payload(self) -> bytes:
        return self._rng.randbytes(self._rng.choice((0, 1, 20, 200, 4000)))

    def _bad_length(self) -> bytes:
        """A length that is not that of the packet, or none at all."""
        rng, whole = self._rng, self.any()
        lengths = (b"\xff\xff\xff\xff\x7f", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80", b"\x80\x00", b"\x00", b"\x05")
        return whole[:1] + rng.choice(lengths) + whole[2:]

    def _bad_flags(self) -> bytes:
        whole = self.any() if self._rng.random() < 0.7 else self.connect()
        return bytes((whole[0] ^ self._rng.randrange(1, 16),)) + whole[1:]

    def _bad_topic(self) -> bytes:
        rng, number = self._rng, self._rng.choice((0, 1, 65535))
        if rng.random() < 0.5:
            return publish(rng.choice(BAD_TOPICS), b"x", qos=rng.randrange(4), packet_id=number)
        filters = rng.choices(BAD_FILTERS, k=rng.randrange(4))
        return subscribe(*filters, qos=rng.randrange(256), packet_id=number)

    def _bad_text(self) -> bytes:
        bad = self._rng.choice(BAD_TEXT)
        bodies = (
            publish(b"fuzz/" + bad, b"x"),
            packet(0x82, b"\0\1" + text(b"fuzz/" + bad) + b"\0"),
            packet(0xA2, b"\0\1" + text(bad)),
            packet(0x10, text("MQTT") + b"\x04\x02\0\0" + text(bad)),
            packet(0x10, text("MQTT") + b"\x04\x06\0\0" + text("fuzz-w") + text(bad) + text(b"x")),
            packet(0x10, text("MQTT") + b"\x04\xc2\0\0" + text("fuzz-u") + text(bad) + text(bad)),
        )
        return self._rng.choice(bodies)

    def _bad_connect(self) -> bytes:
        rng = self._rng
        flags = bytes((rng.randrange(256),))
        fields = [text(rng.choice(("", "fuzz-c", "x" * 70, "y" * 5000))) for _ in range(rng.randrange(6))]
        return packet(0x10, text("MQTT") + b"\x04" + flags + rng.randbytes(2) + b"".join(fields))

    def _bad_version(self) -> bytes:
        rng = self._rng
        name = rng.choice(("MQTT", "MQIsdp", "mqtt", "", "HTTP", "M" * 300))
        return connect("fuzz-v", level=rng.choice((0, 3, 4, 5, 255)), name=name)

    def _bad_kind(self) -> bytes:
        rng = self._rng
        return packet(rng.choice((0, 2, 9, 11, 13, 15)) << 4 | rng.randrange(16), rng.randbytes(rng.randrange(6)))

    def _bad_bytes(self) -> bytes:
        """A good packet with some bytes turned, lost or doubled."""
        rng, whole = self._rng, bytearray(self.any() if self._rng.random() < 0.6 else self.connect())
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(whole))
            change = rng.randrange(3)
            if change == 0:
                whole[at] = rng.randrange(256)
            elif change == 1 and len(whole) > 1:
                del whole[at]
            else:
                whole[at:at] = whole[at : at + 4]
        return bytes(whole)

    def _noise(self) -> bytes:
        rng = self._rng
        others = (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 100, b"\x10")
        return rng.choice((*others, rng.randbytes(rng.randrange(1, 300))))

    def _bomb(self) -> bytes:
        """Topics that are deep, long or many; payloads that are large."""
        rng, size = self._rng, self._rng.choice((100, 5_000, 30_000))
        deep = "/".join(["a"] * size)
        bombs = (
            publish("fuzz/" + deep, b"x"),
            publish("fuzz/" + "l" * (2 * size), b"x"),
            subscribe("fuzz/" + deep),
            subscribe("/".join(["+"] * size)),
            subscribe("+/" * size + "#"),
            subscribe(*(f"fuzz/many/{rng.randrange(10**9)}" for _ in range(size // 20))),
            publish(f"{ALLOWED}a", bytes(rng.choice((65_536, _MOST, 300_000)))),
            packet(0x30, text("fuzz/a"))[:1] + b"\xff\xff\xff\x7f" + bytes(2000),
        )
        return rng.choice(bombs)
