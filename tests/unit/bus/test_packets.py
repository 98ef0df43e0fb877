import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import packets
from bus.errors import ProtocolError, ProtocolVersionError
from bus.packets import Connect, Disconnect, Packet, PingReq, PubAck, Publish, PubRel, Subscribe, Unsubscribe
from tests.unit.bus import raw
from tests.unit.bus.raw import text


def parse(packet: bytes) -> Packet:
    """Parse a packet with its length, which must be below 128."""
    assert packet[1] == len(packet) - 2 < 128
    return packets.parse(packet[0], packet[2:])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (raw.connect("id", keepalive=5), Connect("id", True, 5, None, None, None)),
        (
            raw.connect("", clean=False, will=("w", b"x"), will_retain=True, username="u", password="p"),
            Connect("", False, 0, Publish("w", b"x", 0, True), "u", b"p"),
        ),
        (raw.publish("a/b", b"x"), Publish("a/b", b"x", 0, False)),
        (raw.publish("a", b"", qos=2, retain=True, packet_id=7), Publish("a", b"", 2, True, 7)),
        (raw.subscribe("a", "b/#", qos=1, packet_id=3), Subscribe(3, (("a", 1), ("b/#", 1)))),
        (raw.unsubscribe("a", "b", packet_id=3), Unsubscribe(3, ("a", "b"))),
        (b"\x40\x02\x01\x02", PubAck(258)),
        (b"\x62\x02\x01\x02", PubRel(258)),
        (b"\xc0\x00", PingReq()),
        (b"\xe0\x00", Disconnect()),
    ],
)
def test_packets_of_clients_are_parsed(data: bytes, expected: Packet) -> None:
    """Each kind of packet that a client may send, with all its fields."""
    assert expected == parse(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00",  # reserved type
        b"\xf0\x00",
        b"\x20\x02\0\0",  # only a server sends CONNACK
        b"\xc1\x00",  # flags
        b"\xc0\x01\0",  # content
        b"\x40\x01\0",  # too short
        b"\x40\x03\0\1\0",  # too long
        b"\x40\x02\0\0",  # packet identifier 0
        b"\x80\x02\0\1",  # flags of SUBSCRIBE
        b"\x82\x02\0\1",  # no filters
        b"\xa2\x02\0\1",
        raw.packet(0x82, b"\0\1" + text("a") + b"\3"),  # QoS 3
        raw.packet(0x82, b"\0\1" + text("a")),
        raw.packet(0x36, text("a") + b"\0\1"),
        raw.packet(0x30, text(b"\xff")),
        raw.packet(0x30, text("a\0")),
        raw.packet(0x30, b"\0\5a"),
    ],
    ids=bytes.hex,
)
def test_malformed_packets_are_refused(data: bytes) -> None:
    """What breaks the standard is no packet."""
    with pytest.raises(ProtocolError):
        parse(data)


@pytest.mark.parametrize("flags", [0x01, 0x1C, 0x08, 0x20, 0x40])
def test_contradicting_connect_flags_are_refused(flags: int) -> None:
    """Reserved bit, QoS 3 will, will details without a will, password without a user name."""
    body = text("MQTT") + bytes((4, flags, 0, 0)) + text("id") + text("w") + text("x") + text("u") + text("p")

    with pytest.raises(ProtocolError):
        packets.parse(0x10, body)


@pytest.mark.parametrize(("name", "level"), [("MQTT", 5), ("MQIsdp", 3), ("HTTP", 4)])
def test_other_versions_are_told_apart(name: str, level: int) -> None:
    """Their CONNECT has another form; only the version is read, so that it can be answered."""
    with pytest.raises(ProtocolVersionError) as info:
        parse(raw.connect(name=name, level=level))

    assert (name, level) == (info.value.name, info.value.level)


@given(st.integers(0, 255), st.binary())
def test_any_bytes_are_a_packet_or_a_protocol_error(first: int, body: bytes) -> None:
    """A hostile client can cause nothing else."""
    with contextlib.suppress(ProtocolError):
        packets.parse(first, body)


@given(st.sampled_from([1, 3, 8, 10]), st.data())
def test_nearly_right_packets_are_a_packet_or_a_protocol_error(kind: int, data: st.DataObject) -> None:
    """Neither can cut and changed ones."""
    good = {1: raw.connect("i", will=("a", b"b")), 3: raw.publish("a", b"b"), 8: raw.subscribe("a", "b"),
            10: raw.unsubscribe("a")}[kind]  # fmt: skip
    body = bytearray(good[2:])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(body)))
    with contextlib.suppress(ProtocolError):
        packets.parse(good[0], bytes(body[:end]))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (packets.connack(5), "20020005"),
        (packets.puback(258), "40020102"),
        (packets.pubrec(258), "50020102"),
        (packets.pubcomp(258), "70020102"),
        (packets.suback(1, [0, 1, 0x80]), "90050001000180"),
        (packets.unsuback(1), "b0020001"),
        (packets.PINGRESP, "d000"),
        (packets.publish_head(b"a", 1, packet_id=0, retain=False), "3004000161"),
        (packets.publish_head(b"a", 300, packet_id=258, retain=True), "33b1020001610102"),
    ],
)
def test_packets_of_the_server_are_those_of_the_standard(data: bytes, expected: str) -> None:
    """Byte for byte."""
    assert expected == data.hex()
