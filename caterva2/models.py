"""What travels between the daemons and to their clients as JSON; unknown fields are ignored everywhere.

The forms of `RootInfo`, `ArrayInfo` and `FrameInfo` are upstream Caterva2's, which its client and
`blosc2.C2Array` read; `docs/reference/protocols.md` shows each with an example.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["array", "frame", "file"]
Freshness = Literal["live", "revalidated", "stale"]


class Model(BaseModel):
    """A frozen message; what an unknown newer daemon adds is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class DatasetEntry(Model):
    """One dataset of a root, as the publisher's catalog lists it.

    Attributes:
        path: the path below the root.
        kind: array (`.b2nd`), frame (`.b2frame`), or file for anything else.
        etag: the version, opaque, without quotes.
        nbytes: the size of the file on the publisher's disk, in bytes.
        mtime: when it last changed there, in seconds since 1970.
    """

    path: str
    kind: Kind
    etag: str
    nbytes: int
    mtime: float


class CatalogHead(Model):
    """What stands before the datasets in `GET /api/catalog`."""

    epoch: str
    seq: int


class ChangeEntry(Model):
    """One change of a root; `etag`, `nbytes` and `mtime` are those after it (None and 0 when deleted)."""

    seq: int
    type: Literal["created", "modified", "deleted"]
    path: str
    kind: Kind
    etag: str | None = None
    nbytes: int = 0
    mtime: float = 0.0


class ChangesAnswer(Model):
    """The answer to `GET /api/changes?epoch=&since=`: what happened after `since`, in order."""

    epoch: str
    seq: int
    changes: tuple[ChangeEntry, ...]


class ChunkWish(Model):
    """One chunk in a `POST /api/chunks`.

    Attributes:
        n: the chunk's number.
        have: the digest (xxh3-64, 16 hex digits) of a copy at hand; an equal chunk is not sent again.
        probe: whether to say only if they are equal; the chunk is not wanted now.
    """

    n: int
    have: str | None = None
    probe: bool | None = None


class ChunksRequest(Model):
    """The body of `POST /api/chunks/{path}`."""

    chunks: tuple[ChunkWish, ...]


class SchunkInfo(Model):
    """The compressed storage of a dataset, as upstream describes it; sizes in bytes."""

    cbytes: int
    chunkshape: int
    chunksize: int
    blocksize: int
    contiguous: bool
    cparams: dict[str, Any]
    cratio: float
    nbytes: int
    urlpath: None = None
    vlmeta: dict[str, Any]
    nchunks: int
    mtime: datetime | None


class FrameInfo(SchunkInfo):
    """`GET /api/info` of a `.b2frame` or of a plain file."""

    accept_ranges: Literal["bytes", "none"] = "bytes"


class ArrayInfo(Model):
    """`GET /api/info` of an array.

    Attributes:
        dtype: NumPy's text for the dtype; for a structured one `{"names": [...], "formats": [...]}`.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    blocks: tuple[int, ...]
    dtype: str | dict[str, Any]
    schunk: SchunkInfo
    mtime: datetime | None
    accept_ranges: Literal["bytes", "none"] = "bytes"


class QuotaFigures(Model):
    """`GET /api/quota`: bytes on the subscriber's disk.

    Attributes:
        used: by what the user has written; None where nothing is counted, since there is no limit, or not yet.
        limit: of a user; None is none.
        total_used: by all users.
        total_limit: of all users together.
    """

    used: int | None
    limit: int | None
    total_used: int | None
    total_limit: int | None


class LazyArrayInfo(ArrayInfo):
    """`GET /api/info` of an array that is computed when it is read.

    Attributes:
        expression: what is computed.
        operands: the path of the dataset that each name in it stands for.
    """

    expression: str
    operands: dict[str, str]


DatasetInfo = ArrayInfo | FrameInfo


class RootInfo(Model):
    """A root in `GET /api/roots`.

    Attributes:
        http: the publisher's address; "" for the subscriber's own roots.
        subscribed: true once the subscriber follows it; the broker's answer leaves it null.
        status: whether the publisher is there, as far as is known.
    """

    name: str
    http: str
    subscribed: bool | None = None
    status: Literal["online", "offline"] = "online"


class FollowedRoot(RootInfo):
    """A root in the subscriber's `GET /api/roots`.

    Attributes:
        freshness: how it is known that reads are current: `live`, changes are told as they happen; `revalidated`, the
            publisher is asked; `stale`, it gives no answer, and what is here is served. None for one not followed.
        age: seconds since the datasets were last known to be the current ones; None while live, or if unknown.
    """

    freshness: Freshness | None = None
    age: int | None = None


class ListedDataset(Model):
    """A dataset in `GET /api/list/{path}?details=true`.

    Attributes:
        path: below the path that was listed.
        kind: array, frame or file.
        nbytes: its size on disk, in bytes.
        mtime: when it last changed, in seconds since 1970.
    """

    path: str
    kind: Kind
    nbytes: int
    mtime: float


class SessionUser(Model):
    """Who is logged in."""

    email: str
    superuser: bool


class SessionInfo(Model):
    """The answer of `GET /auth/me`.

    Attributes:
        user: who is logged in; None is nobody.
        users: whether there are users at all.
        registration: whether anybody may become one.
        mail: whether links for another password are sent.
    """

    user: SessionUser | None
    users: bool
    registration: bool
    mail: bool


class ChangeEvent(Model):
    """`event: change` of `GET /api/events`: a dataset has another version; reads find it from now on.

    Attributes:
        etag: the version; None when deleted.
        nbytes: the size of the file on the publisher's disk; 0 when deleted.
        mtime: when it changed there, in seconds since 1970; 0 when deleted.
        time: when the subscriber knew it, in seconds since 1970.
    """

    root: str
    type: Literal["created", "modified", "deleted"]
    path: str
    kind: Kind
    etag: str | None = None
    nbytes: int = 0
    mtime: float = 0.0
    time: float


class RootEvent(Model):
    """`event: root` of `GET /api/events`: a publisher came or went."""

    name: str
    status: Literal["online", "offline"]
    time: float


class ResetEvent(Model):
    """`event: reset` of `GET /api/events`: what happened since the client's last event is not known; look afresh.

    Attributes:
        root: the root that was asked for; None for all.
    """

    root: str | None
    time: float


class VerifyAnswer(Model):
    """The answer to `POST /api/verify/{path}`: how many chunks of the cache were checked, wrong, and fetched again."""

    checked: int
    wrong: int
    refetched: int


class BusInfo(Model):
    """`GET /api/bus` of the broker: where the message bus is, best first, and what its tokens are checked with.

    Attributes:
        keys: public keys, as JWKs.
    """

    urls: tuple[str, ...]
    prefix: str = "caterva2"
    keys: tuple[dict[str, Any], ...] = ()


class ClientEntry(Model):
    """A client of the bus in `GET /api/clients`.

    Attributes:
        id: what it calls itself.
        user: the name that it joined with; "" is anonymous.
        role: what it may do: publisher, subscriber, observer, admin or anonymous.
        peer: where it is.
        since: when it came, in seconds since 1970.
        subscriptions: how many it has.
        queued: bytes that wait to go out to it.
        received: messages that it has published.
        sent: messages that it was sent.
        received_rate: messages a second that it published, of the last few seconds.
        sent_rate: messages a second that it was sent.
    """

    id: str
    user: str
    role: str
    peer: str
    since: float
    subscriptions: int
    queued: int
    received: int
    sent: int
    received_rate: float
    sent_rate: float


class OwnedRoot(Model):
    """A root in `GET /api/clients`; one that only has an owner was never announced, or taken back.

    Attributes:
        owner: the user that it belongs to; None if it belongs to nobody.
    """

    name: str
    owner: str | None
    status: Literal["online", "offline"]
    http: str


class BusReport(Model):
    """`GET /api/clients` of the broker, for operators.

    Attributes:
        broker: the address of an external broker, which alone knows its clients; "" is the one inside.
    """

    broker: str
    clients: tuple[ClientEntry, ...]
    roots: tuple[OwnedRoot, ...]


class RootStatus(FollowedRoot):
    """A published root in the subscriber's `GET /api/status`.

    Attributes:
        datasets: how many are known.
        heard: seconds since its publisher was last heard of on the bus; None if never.
        changes: of its datasets that the bus told since the subscriber was started.
    """

    datasets: int
    heard: float | None
    changes: int


class LagStatus(Model):
    """Seconds from when the publisher noticed a change until the subscriber knew it, of the last thousand changes.

    Two clocks are compared, so it is as right as they are.
    """

    latest: float
    median: float
    longest: float


class EventStatus(Model):
    """What the bus tells of changes, in the subscriber's `GET /api/status`.

    Attributes:
        changes: since the subscriber was started.
        rate: changes a second, over the last minute.
        lag: None before the first change.
        listeners: clients that follow `/api/events` now.
    """

    changes: int
    rate: float
    lag: LagStatus | None
    listeners: int


class CacheStatus(Model):
    """What is kept of published datasets, in the subscriber's `GET /api/status`.

    Attributes:
        limit: `cache_size` in bytes; None for as much as there is.
        nbytes: what it takes on disk.
        writable: whether it could be written to at the last attempt.
        wanted: chunks that reads needed since the subscriber was started.
        found: those that were there.
        hit_ratio: the share of those; None before the first.
        evictions: how often room was made since the start.
        evicted: bytes that went for it.
    """

    limit: int | None
    nbytes: int
    writable: bool
    wanted: int
    found: int
    hit_ratio: float | None
    evictions: int
    evicted: int


class StatusReport(Model):
    """The subscriber's `GET /api/status`.

    Attributes:
        started: when, in seconds since 1970.
        trouble: why changes are not heard of as they happen; None while they are.
    """

    id: str
    version: str
    started: float
    bus: Literal["connected", "disconnected", "none"]
    trouble: str | None
    roots: tuple[RootStatus, ...]
    events: EventStatus
    cache: CacheStatus


class Health(Model):
    """`GET /health` of every daemon, and what its `GET /ready` answers by.

    Attributes:
        ready: whether it can do its part for others now; a daemon that is not is alive all the same.
        detail: why it is not ready, with a remedy.
    """

    status: Literal["ok"] = "ok"
    kind: Literal["broker", "publisher", "subscriber"]
    id: str
    version: str
    instance: str = ""
    root: str | None = None
    bus: Literal["connected", "disconnected", "none"] = "none"
    ready: bool = True
    detail: str | None = None


def timestamp(seconds: float) -> datetime:
    """Turn seconds since 1970 into the aware datetime that JSON shows as `...Z`."""
    return datetime.fromtimestamp(seconds, UTC)
