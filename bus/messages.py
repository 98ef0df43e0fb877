"""Messages of the bus and their JSON form.

A message says where it goes (`topic_of`) and whether the broker retains it (`retained`). Unknown
fields are ignored, so that old and new daemons work together; everything else is checked here,
once, and nothing behind this module checks again. What comes from the network either becomes a
message or raises DecodeError, never anything else.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from bus.errors import DecodeError, MessageTooLargeError
from bus.topics import Address, ChangeTopic, RootTopic, TokenTopic, Topics, check_name

MAX_PAYLOAD: Final = 64 * 1024
"""Bytes. Every broker takes this much by default, and no message needs more: bulks are split."""

MAX_PATH: Final = 4096
"""Bytes of UTF-8, as of a path in a file system. Even fully escaped such a path fits a message."""


def _check_path(path: str) -> str:
    if not 0 < len(path.encode()) <= MAX_PATH:
        msg = f"a path has 1 to {MAX_PATH} bytes"
        raise ValueError(msg)
    return path


# The upper bounds exist so that a message of garbage costs no memory, and fits other languages.
Name = Annotated[str, AfterValidator(check_name)]
Path = Annotated[str, AfterValidator(_check_path)]
Text = Annotated[str, Field(max_length=255)]
Url = Annotated[str, Field(max_length=2048)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Presence: TypeAlias = Literal["online", "offline"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class RootAnnouncement(_Model):
    """A root is here, or gone; also the head of its journal (`epoch`, `seq`)."""

    retained: ClassVar[bool] = True

    name: Name
    http: Url
    status: Presence
    epoch: Text
    seq: Count
    instance: Text
    birth: Count
    heartbeat: Annotated[float, Field(gt=0)]
    """Seconds between two announcements."""
    kind: Literal["directory", "hdf5"]
    time: float
    """Seconds since 1970, UTC."""
    version: Text


class Change(_Model):
    """One dataset was created, modified or deleted."""

    root: Name
    epoch: Text
    seq: Count
    type: Literal["created", "modified", "deleted"]
    path: Path
    etag: Text | None
    nbytes: Count
    kind: Literal["array", "frame", "file"]
    mtime: float
    time: float


class Changes(_Model):
    """Changes of one root, in the order of the journal; at least one."""

    retained: ClassVar[bool] = False

    root: Name
    changes: Annotated[tuple[Change, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_root(self) -> "Changes":
        if any(change.root != self.root for change in self.changes):
            msg = "changes of another root"
            raise ValueError(msg)
        return self


class ServiceStatus(_Model):
    """A daemon is here, or gone."""

    retained: ClassVar[bool] = True

    kind: Literal["broker", "publisher", "subscriber"]
    id: Name
    status: Presence
    http: Url
    instance: Text
    birth: Count
    time: float
    version: Text
    user: Text = ""
    """The name that the daemon joined the bus with; empty for an anonymous one."""


class TokenGrant(_Model):
    """Tokens for one subscriber: what it may show to publishers."""

    retained: ClassVar[bool] = False

    user: Name
    """`anonymous` for members without a name."""
    tokens: dict[Name, Annotated[str, Field(max_length=4096)]]
    """By root; several messages if they exceed the payload limit."""
    expires: float
    """Seconds since 1970, UTC."""


Message: TypeAlias = RootAnnouncement | Changes | ServiceStatus | TokenGrant


def topic_of(topics: Topics, message: Message) -> str:
    """The topic that `message` is published on."""
    if isinstance(message, RootAnnouncement):
        return topics.root(message.name)
    if isinstance(message, Changes):
        return topics.change(message.root)
    if isinstance(message, TokenGrant):
        return topics.token(message.user)
    return topics.service(message.kind, message.id)


def encode(message: Message) -> bytes:
    """`message` as UTF-8 JSON; a single change in the plain form, without the list around it."""
    plain: BaseModel = message
    if isinstance(message, Changes) and len(message.changes) == 1:
        plain = message.changes[0]
    payload = plain.model_dump_json().encode()
    if len(payload) > MAX_PAYLOAD:
        raise MessageTooLargeError(len(payload), MAX_PAYLOAD)
    return payload


def decode(topics: Topics, topic: str, payload: bytes) -> Message:
    """The message that `payload` on `topic` is; DecodeError for whatever else it is."""
    if len(payload) > MAX_PAYLOAD:
        raise DecodeError(topic, f"{len(payload)} bytes, more than {MAX_PAYLOAD}")
    try:
        message = _parse(topics.parse(topic), payload)
    except ValidationError as error:
        raise DecodeError(topic, _first_line(error)) from error
    except ValueError as error:
        raise DecodeError(topic, str(error)) from error
    if topic_of(topics, message) != topic:
        raise DecodeError(topic, f"belongs on {topic_of(topics, message)!r}")
    return message


def _parse(address: Address, payload: bytes) -> Message:
    if isinstance(address, RootTopic):
        return RootAnnouncement.model_validate_json(payload, strict=True)
    if isinstance(address, ChangeTopic):
        return _parse_changes(payload)
    if isinstance(address, TokenTopic):
        return TokenGrant.model_validate_json(payload, strict=True)
    return ServiceStatus.model_validate_json(payload, strict=True)


def _parse_changes(payload: bytes) -> Changes:
    document = from_json(payload)
    if isinstance(document, dict) and "changes" in document:
        return Changes.model_validate_json(payload, strict=True)
    change = Change.model_validate_json(payload, strict=True)
    return Changes(root=change.root, changes=(change,))


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(each)[:80] for each in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def pack_changes(changes: Iterable[Change]) -> list[Changes]:
    """The fewest messages within the payload limit that tell `changes` in the order given."""
    return [
        Changes(root=root, changes=tuple(batch))
        for root, group in groupby(changes, key=lambda change: change.root)
        for batch in _batches(group, room=MAX_PAYLOAD - len(f'{{"root":"{root}","changes":[]}}'))
    ]


def _batches(changes: Iterable[Change], room: int) -> list[list[Change]]:
    batches: list[list[Change]] = []
    left = 0
    for change in changes:
        nbytes = len(change.model_dump_json().encode()) + 1  # the comma
        if nbytes > left or not batches:
            batches.append([])
            left = room + 1  # the last one has no comma
        batches[-1].append(change)
        left -= nbytes
    return batches
