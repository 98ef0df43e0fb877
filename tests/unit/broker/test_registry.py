"""The registry: announcements in, effects out."""

from typing import Any

import pytest

from bus.messages import RootAnnouncement, ServiceStatus
from caterva2.broker.registry import (
    BrokerRoot,
    CameOnline,
    Conflict,
    Registry,
    Removed,
    Save,
    Saved,
    WentOffline,
)


def root(**changes: Any) -> RootAnnouncement:
    """An announcement of root foo."""
    values: dict[str, Any] = {
        "name": "foo",
        "http": "http://localhost:8001",
        "status": "online",
        "epoch": "e1",
        "seq": 5,
        "instance": "i1",
        "birth": 1,
        "heartbeat": 30.0,
        "kind": "directory",
        "time": 1000.0,
        "version": "1",
    }
    return RootAnnouncement(**{**values, **changes})


def service(**changes: Any) -> ServiceStatus:
    """A status of subscriber s."""
    values: dict[str, Any] = {
        "kind": "subscriber",
        "id": "s",
        "status": "online",
        "http": "http://localhost:8002",
        "instance": "j1",
        "birth": 1,
        "time": 1000.0,
        "version": "1",
    }
    return ServiceStatus(**{**values, **changes})


def status(registry: Registry, name: str = "foo") -> str:
    """The presence of a root."""
    return registry.roots()[name].status


def test_first_announcement() -> None:
    """A root that is announced is listed with the head of its journal."""
    registry = Registry()

    assert [Save(), CameOnline(root())] == registry.announce(root(), 0.0)

    shown = BrokerRoot(
        name="foo", http="http://localhost:8001", status="online", epoch="e1", seq=5, instance="i1", time=1000.0
    )
    assert {"foo": shown} == registry.roots()
    assert shown.subscribed is None


def test_head_moves_on() -> None:
    """A later announcement of the instance brings its new head."""
    registry = Registry()
    registry.announce(root(), 0.0)

    assert [Save()] == registry.announce(root(seq=6, time=1001.0), 1.0)
    assert registry.roots()["foo"].seq == 6


def test_last_will() -> None:
    """The last will of the present connection takes the root offline, though it was written at its start."""
    registry = Registry()
    registry.announce(root(), 0.0)

    effects = registry.announce(root(status="offline", time=1.0), 1.0)

    assert [Save(), WentOffline("foo", "its publisher is gone")] == effects
    assert status(registry) == "offline"


def test_late_last_will() -> None:
    """The last will of an earlier connection is ignored."""
    registry = Registry()
    registry.announce(root(birth=2), 0.0)

    assert [] == registry.announce(root(birth=1, status="offline"), 1.0)
    assert status(registry) == "online"


def test_repeated_message() -> None:
    """An old announcement that comes again does not turn the head back."""
    registry = Registry()
    registry.announce(root(seq=6, time=1001.0), 0.0)

    assert [] == registry.announce(root(seq=5, time=1000.0), 1.0)
    assert registry.roots()["foo"].seq == 6


def test_clock_set_back() -> None:
    """A publisher whose clock is set back is heard all the same."""
    registry = Registry()
    registry.announce(root(time=2000.0), 0.0)

    assert [Save()] == registry.announce(root(time=1000.0), 80.0)
    assert [] == registry.expire(100.0)


def test_new_journal() -> None:
    """A new journal begins to count anew."""
    registry = Registry()
    registry.announce(root(seq=6), 0.0)

    assert [Save()] == registry.announce(root(epoch="e2", seq=0), 1.0)
    assert ("e2", 0) == (registry.roots()["foo"].epoch, registry.roots()["foo"].seq)


def test_silence() -> None:
    """A root not heard of for three heartbeats is offline, and online again with the next word."""
    registry = Registry()
    registry.announce(root(heartbeat=10.0), 100.0)

    assert [] == registry.expire(130.0)
    assert [WentOffline("foo", "not heard of for 30 s")] == registry.expire(130.1)
    assert [] == registry.expire(131.0)
    assert status(registry) == "offline"

    again = root(heartbeat=10.0, time=1040.0)
    assert [Save(), CameOnline(again)] == registry.announce(again, 140.0)


def test_absurd_heartbeat() -> None:
    """An absurdly long heartbeat does not keep a silent root online for ever."""
    registry = Registry()
    registry.announce(root(heartbeat=1e300), 0.0)

    assert registry.expire(4 * 3600.0)


def test_second_publisher_of_a_name() -> None:
    """The first live publisher of a name stays; the conflict is told once."""
    registry = Registry()
    registry.announce(root(), 0.0)
    second = root(instance="i2", http="http://other:1", time=2000.0)

    assert [Conflict(kept=root(), refused=second)] == registry.announce(second, 1.0)
    assert [] == registry.announce(second, 2.0)
    assert registry.roots()["foo"].instance == "i1"


def test_will_of_the_second_publisher() -> None:
    """That the second publisher is gone does not take the first one offline."""
    registry = Registry()
    registry.announce(root(), 0.0)
    registry.announce(root(instance="i2", http="http://other:1"), 1.0)

    assert [] == registry.announce(root(instance="i2", http="http://other:1", status="offline"), 2.0)
    assert status(registry) == "online"


@pytest.mark.parametrize("gone", ["will", "silence"])
def test_second_publisher_takes_over(gone: str) -> None:
    """Once the first publisher is gone, the second one's next word counts."""
    registry = Registry()
    registry.announce(root(), 0.0)
    second = root(instance="i2", http="http://other:1")
    registry.announce(second, 80.0)
    if gone == "will":
        registry.announce(root(status="offline"), 81.0)
    registry.expire(100.0)

    assert [Save(), CameOnline(second)] == registry.announce(second, 110.0)
    assert registry.roots()["foo"].instance == "i2"


def test_new_instance_at_the_same_address() -> None:
    """A publisher started anew takes its place at once, for two cannot listen on one address."""
    registry = Registry()
    registry.announce(root(), 0.0)

    assert [Save()] == registry.announce(root(instance="i2"), 1.0)
    assert registry.roots()["foo"].instance == "i2"


def test_next_life_knows_all() -> None:
    """What was saved is known in the next life, as offline until it is heard of."""
    registry = Registry()
    registry.announce(root(), 0.0)
    registry.announce(root(name="bar"), 0.0)
    registry.tell(service())

    saved = Saved.model_validate_json(registry.saved().model_dump_json())
    later = Registry(saved)

    assert ["bar", "foo"] == list(later.roots())
    assert {"offline"} == {each.status for each in later.roots().values()}
    assert {"offline"} == {each.status for each in later.saved().roots}
    assert {"offline"} == {each.status for each in later.saved().services}
    assert [Save(), CameOnline(root())] == later.announce(root(), 1.0)


def test_cleared_root_is_forgotten() -> None:
    """A root that was taken back is no longer listed."""
    registry = Registry()
    registry.announce(root(), 0.0)

    assert [Removed("foo"), Save()] == registry.remove("foo")
    assert [] == registry.remove("foo")
    assert {} == registry.roots()


def test_cleared_service_is_forgotten() -> None:
    """A service whose status was cleared is forgotten too."""
    registry = Registry()
    registry.tell(service())

    assert [("subscriber", "s")] == registry.services()
    assert [Save()] == registry.remove_service("subscriber", "s")
    assert [] == registry.remove_service("subscriber", "s")
    assert [] == registry.services()


def test_services() -> None:
    """The latest status of a service is kept; a late last will and a repetition are not news."""
    registry = Registry()

    assert [Save()] == registry.tell(service(birth=2))
    assert [] == registry.tell(service(birth=2))
    assert [] == registry.tell(service(birth=1, status="offline"))
    assert [Save()] == registry.tell(service(birth=2, status="offline"))
    assert (service(birth=2, status="offline"),) == registry.saved().services


def test_flood_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit new names are ignored, and known ones still served."""
    monkeypatch.setattr("caterva2.broker.registry.MAX_ENTRIES", 100)
    registry = Registry()
    for number in range(110):
        registry.announce(root(name=f"r{number}"), 0.0)
        registry.tell(service(id=f"s{number}"))

    assert len(registry.names()) == len(registry.saved().services) == 100
    assert [Save()] == registry.announce(root(name="r0", seq=9, time=1001.0), 1.0)


def test_owners() -> None:
    """The first claim of a root holds until it is released; another life knows it."""
    registry = Registry()

    assert registry.claim("foo", "pia")
    assert not registry.claim("foo", "bob")
    again = Registry(Saved.model_validate_json(registry.saved().model_dump_json()))
    assert ("pia", None) == (again.owner("foo"), again.owner("bar"))
    assert [Save()] == again.release("foo")
    assert [] == again.release("foo")
    assert again.claim("foo", "bob")
    assert {"foo": "bob"} == again.owners()


def test_an_owner_outlives_the_root() -> None:
    """An announcement that is cleared takes the root away, not its owner."""
    registry = Registry()
    registry.claim("foo", "pia")
    registry.announce(root(), 0.0)
    registry.remove("foo")

    assert "pia" == registry.owner("foo")


def test_a_file_of_before_owners() -> None:
    """What an earlier release saved is read, and belongs to nobody."""
    registry = Registry(Saved.model_validate({"roots": [root().model_dump()], "services": []}))

    assert ({}, ["foo"]) == (registry.owners(), registry.names())


def test_who_is_there() -> None:
    """Tokens are for subscribers that are online, of roots that are."""
    registry = Registry()
    registry.announce(root(), 0.0)
    registry.announce(root(name="gone", status="offline"), 0.0)
    registry.tell(service(user="sue"))
    registry.tell(service(id="t", user=""))
    registry.tell(service(id="u", user="ute", status="offline"))
    registry.tell(service(kind="publisher", user="pia"))

    assert (["foo"], {"sue", ""}) == (registry.online(), registry.subscribers())
