import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from bus.errors import DecodeError, MessageTooLargeError
from bus.messages import (
    MAX_PATH,
    MAX_PAYLOAD,
    Change,
    Changes,
    Message,
    RootAnnouncement,
    ServiceStatus,
    TokenGrant,
    decode,
    encode,
    pack_changes,
    topic_of,
)
from bus.topics import Topics

TOPICS = Topics()
OURS = ["caterva2/root/foo", "caterva2/change/foo", "caterva2/service/broker/foo", "caterva2/token/foo"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(0, 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,20}", fullmatch=True)
SHORT = TEXT.map(lambda text: text[:255])


def changes_of(root: st.SearchStrategy[str]) -> st.SearchStrategy[Change]:
    """Any change."""
    return st.builds(
        Change,
        root=root,
        epoch=SHORT,
        seq=NUMBERS,
        type=st.sampled_from(["created", "modified", "deleted"]),
        path=TEXT.filter(lambda text: 0 < len(text.encode()) <= MAX_PATH),
        etag=st.none() | SHORT,
        nbytes=NUMBERS,
        kind=st.sampled_from(["array", "frame", "file"]),
        mtime=FLOATS,
        time=FLOATS,
    )


ANNOUNCEMENTS = st.builds(
    RootAnnouncement,
    name=NAMES,
    http=TEXT,
    status=st.sampled_from(["online", "offline"]),
    epoch=SHORT,
    seq=NUMBERS,
    instance=SHORT,
    birth=NUMBERS,
    heartbeat=FLOATS.filter(lambda x: x > 0),
    kind=st.sampled_from(["directory", "hdf5"]),
    time=FLOATS,
    version=SHORT,
)
STATUS = st.builds(
    ServiceStatus,
    kind=st.sampled_from(["broker", "publisher", "subscriber"]),
    id=NAMES,
    status=st.sampled_from(["online", "offline"]),
    http=TEXT,
    instance=SHORT,
    birth=NUMBERS,
    time=FLOATS,
    version=SHORT,
    user=SHORT,
)
GRANTS = st.builds(
    TokenGrant,
    user=NAMES,
    tokens=st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]))),
    expires=FLOATS,
)
CHANGES = st.lists(changes_of(st.just("foo")), min_size=1, max_size=5).map(
    lambda changes: Changes(root="foo", changes=tuple(changes))
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(ANNOUNCEMENTS, STATUS, CHANGES, GRANTS)

CHANGE: dict[str, Any] = {
    "root": "foo",
    "epoch": "e",
    "seq": 1,
    "type": "created",
    "path": "a/b.b2nd",
    "etag": None,
    "nbytes": 10,
    "kind": "array",
    "mtime": 1.5,
    "time": 2,
}


def decode_change(**fields: object) -> Message:
    """Decode a change with some fields replaced."""
    return decode(TOPICS, "caterva2/change/foo", json.dumps(CHANGE | fields).encode())


@given(MESSAGES)
def test_a_message_survives_the_codec(message: Message) -> None:
    """Decoding what was encoded gives an equal message."""
    assert message == decode(TOPICS, topic_of(TOPICS, message), encode(message))


def test_only_presence_is_retained() -> None:
    """Presence is state, a change is an event, and tokens are not left lying about."""
    kinds = (RootAnnouncement, Changes, ServiceStatus, TokenGrant)

    assert [True, False, True, False] == [each.retained for each in kinds]


def test_an_older_daemon_says_nothing_of_its_user() -> None:
    """Its status is read all the same, as of one that joined without a name."""
    status = {"kind": "broker", "id": "b", "status": "online", "http": "", "instance": "", "birth": 1, "time": 1.0}
    message = decode(TOPICS, "caterva2/service/broker/b", json.dumps(status | {"version": "0.1"}).encode())

    assert isinstance(message, ServiceStatus)
    assert "" == message.user


def test_tokens_are_for_the_user_of_the_topic() -> None:
    """Nobody can be handed tokens on someone else's topic."""
    grant = TokenGrant(user="alice", tokens={"foo": "x"}, expires=1.0)

    with pytest.raises(DecodeError, match="belongs on 'caterva2/token/alice'"):
        decode(TOPICS, TOPICS.token("bob"), encode(grant))


def test_a_single_change_is_sent_in_the_plain_form() -> None:
    """A tool that looks at single changes need not know of bulks."""
    payload = encode(Changes(root="foo", changes=(Change(**CHANGE),)))

    assert CHANGE == json.loads(payload)


def test_several_changes_are_sent_as_a_list() -> None:
    """A bulk names its root once more around the list."""
    payload = encode(Changes(root="foo", changes=(Change(**CHANGE), Change(**CHANGE))))

    assert {"root": "foo", "changes": [CHANGE, CHANGE]} == json.loads(payload)


def test_a_list_of_one_change_is_accepted() -> None:
    """Both forms decode to the same."""
    payload = json.dumps({"root": "foo", "changes": [CHANGE]}).encode()

    assert decode_change() == decode(TOPICS, "caterva2/change/foo", payload)


def test_payloads_are_readable_utf8() -> None:
    """Whoever watches the topics with an MQTT tool sees letters, not escapes."""
    payload = encode(Changes(root="foo", changes=(Change(**CHANGE | {"path": "é/数据"}),)))

    assert "é/数据" in payload.decode()


def test_unknown_fields_are_ignored() -> None:
    """A newer daemon may say more than an older one understands."""
    assert decode_change() == decode_change(later={"a": [1, 2]}, other=10**400)


@pytest.mark.parametrize(
    "fields",
    [
        {"seq": -1},
        {"seq": 2**63},
        {"seq": 10**4000},
        {"seq": 1.5},
        {"seq": "1"},
        {"seq": True},
        {"seq": None},
        {"mtime": float("nan")},
        {"mtime": float("inf")},
        {"mtime": "0"},
        {"type": "other"},
        {"kind": None},
        {"path": ""},
        {"path": "x" * (MAX_PATH + 1)},
        {"path": 1},
        {"path": "\ud800"},
        {"root": "@foo"},
        {"root": "bar"},
        {"etag": 5},
        {"etag": "x" * 256},
        {"epoch": "x" * 256},
        {"changes": []},
        {"changes": {}},
        {"changes": [CHANGE, CHANGE | {"root": "bar"}]},
    ],
)
def test_fields_out_of_range_are_refused(fields: dict[str, object]) -> None:
    """Wrong types and values never become a message."""
    with pytest.raises(DecodeError):
        decode_change(**fields)


@pytest.mark.parametrize("field", CHANGE)
def test_missing_fields_are_refused(field: str) -> None:
    """Every field of a change is there."""
    payload = json.dumps({name: value for name, value in CHANGE.items() if name != field}).encode()

    with pytest.raises(DecodeError) as info:
        decode(TOPICS, "caterva2/change/foo", payload)
    assert f"{field}: Field required" == info.value.reason


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"\xef\xbb\xbf{}", b"null", b"{}", b"[]", b"1", b'"x"', b"[" * 60_000, b'{"a":' * 10_000,
     b"9" * 60_000, b'{"seq":' + b"9" * 60_000 + b"}", b'"\\ud800"', b"NaN", b'{"changes":' + b"[" * 50_000,
     b" " * (MAX_PAYLOAD + 1)],
    ids=lambda payload: repr(payload[:12]),
)  # fmt: skip
@pytest.mark.parametrize("topic", OURS)
def test_garbage_is_a_decode_error_of_one_line(topic: str, payload: bytes) -> None:
    """No garbage breaks more than itself, and it fills no log."""
    with pytest.raises(DecodeError) as info:
        decode(TOPICS, topic, payload)

    assert topic == info.value.topic
    assert 1 == len(str(info.value).splitlines())


@given(st.binary(), st.text())
@example(b"{}", "\ud800")
def test_decoding_bytes_raises_nothing_else(payload: bytes, topic: str) -> None:
    """Bytes from the network are a message or a DecodeError, on any topic."""
    for each in (
        topic,
        *map(str.format, ["caterva2/{}/foo"] * 3, ["root", "change", "token"]),
        "caterva2/service/broker/foo",
    ):
        with pytest.raises(DecodeError):
            decode(TOPICS, each, payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*CHANGE, "changes", "name"]) | st.text(), inner),
)


@given(st.dictionaries(st.sampled_from([*CHANGE, "changes"]), JSON))
def test_decoding_json_raises_nothing_else(fields: dict[str, Any]) -> None:
    """Nearly right JSON is a message or a DecodeError, too."""
    try:
        message = decode_change(**fields)
    except DecodeError:
        return
    assert isinstance(message, Changes)


def test_a_message_on_another_ones_topic_is_refused() -> None:
    """The name inside must be the one of the topic, or else anyone could speak for any root."""
    with pytest.raises(DecodeError, match="belongs on 'caterva2/change/foo'"):
        decode(TOPICS, "caterva2/change/bar", json.dumps(CHANGE).encode())


def test_messages_cannot_be_made_of_wrong_values() -> None:
    """Construction checks as decoding does."""
    with pytest.raises(ValidationError):
        Change(**CHANGE | {"path": ""})


def test_messages_do_not_change() -> None:
    """A message can be shared among tasks."""
    with pytest.raises(ValidationError):
        Change(**CHANGE).seq = 2  # type: ignore[misc]


def test_a_message_beyond_the_limit_is_not_encoded() -> None:
    """Who publishes must split a bulk."""
    changes = tuple(Change(**CHANGE | {"path": "x" * MAX_PATH}) for _ in range(20))

    with pytest.raises(MessageTooLargeError) as info:
        encode(Changes(root="foo", changes=changes))
    assert MAX_PAYLOAD == info.value.limit < info.value.nbytes


@pytest.mark.parametrize("char", ["x", "\x01", "é", "🌍", '"'])
def test_a_change_of_the_longest_path_fits(char: str) -> None:
    """Whatever the path needs in escapes, a change is never too large for a message."""
    longest = char * (MAX_PATH // len(char.encode()))
    widest = CHANGE | {"path": longest, "etag": "\x01" * 255, "epoch": "\x01" * 255, "root": "r" * 255}

    assert 1 == len(pack_changes([Change(**widest)]))
    assert MAX_PAYLOAD >= len(encode(Changes(root="r" * 255, changes=(Change(**widest),))))


def test_packing_nothing_gives_no_message() -> None:
    """There is no empty message."""
    assert [] == pack_changes([])


@given(st.lists(changes_of(st.sampled_from(["foo", "bar"])), max_size=20), st.integers(1, 60))
def test_packing_keeps_all_changes_in_order_within_the_limit(changes: list[Change], times: int) -> None:
    """Packed changes, unpacked again, are the same; each message fits and is of one root."""
    many = changes * times
    packed = pack_changes(many)

    assert many == [change for message in packed for change in message.changes]
    assert all(len(encode(message)) <= MAX_PAYLOAD for message in packed)


def test_packing_fills_messages_to_the_brim() -> None:
    """A bulk is sent in the fewest messages: one more change would not fit."""
    packed = pack_changes([Change(**CHANGE | {"seq": seq}) for seq in range(2000)])

    for message, following in pairwise(packed):
        one_more = Changes(root="foo", changes=(*message.changes, following.changes[0]))
        with pytest.raises(MessageTooLargeError):
            encode(one_more)
