"""caterva2.publisher.confirmation: what came back, what did not, and when to try again."""

from bus.messages import RootAnnouncement
from caterva2.publisher.confirmation import PATIENCE, Confirmation


def said(time: float = 1.0, birth: int = 1) -> RootAnnouncement:
    """An announcement of ours."""
    return RootAnnouncement(
        name="foo", http="http://me:1", status="online", epoch="E", seq=0, instance="me", birth=birth, heartbeat=60,
        kind="directory", time=time, version="1",
    )  # fmt: skip


def confirmation(user: str = "pub") -> Confirmation:
    """One of a publisher that is about to announce."""
    made = Confirmation(user)
    made.topic = "caterva2/root/foo"
    made.sending(said())
    return made


def test_what_comes_back_is_confirmed_once_for_each_connection() -> None:
    """Before or after it is acknowledged; heartbeats after that are no news."""
    made = confirmation()

    assert made.heard(said())
    made.acknowledged(10.0)
    assert float("inf") == made.deadline
    made.sending(said(2.0))
    made.acknowledged(11.0)
    assert not made.heard(said(2.0))
    made.sending(said(3.0, birth=2))
    assert made.heard(said(3.0, birth=2))
    assert 2 == made.birth


def test_what_is_left_of_earlier_confirms_nothing() -> None:
    """A retained announcement of an earlier connection, or from before, says nothing of this one."""
    made = confirmation()
    made.acknowledged(10.0)

    assert not made.heard(said(birth=0))
    assert not made.heard(said(time=0.5))
    assert 10.0 + PATIENCE == made.deadline
    assert made.birth is None


def test_a_later_announcement_confirms_an_earlier_one() -> None:
    """Under a flood of changes the first of several may be thinned out."""
    made = confirmation()
    made.acknowledged(10.0)
    made.sending(said(2.0))
    made.acknowledged(12.0)

    assert 10.0 + PATIENCE == made.deadline
    assert made.heard(said(2.0))


def test_silence_is_a_refusal_that_is_told_once() -> None:
    """Until one comes back; then it would be told again."""
    made = confirmation()
    made.acknowledged(10.0)

    assert made.overdue()
    assert "user 'pub' publishes on caterva2/root/foo" in made.refusal
    assert not made.overdue()
    made.sending(said(3.0))
    assert made.heard(said(3.0))
    assert "" == made.refusal
    assert made.overdue()


def test_a_connection_that_ends_twice_in_a_row_is_a_refusal() -> None:
    """Once may be a broker that was stopped."""
    made = confirmation("")

    assert not made.cut(1)
    made.disconnected()
    made.sending(said(birth=2))
    made.heard(said(birth=2))
    assert not made.cut(3)
    assert not made.cut(3)  # told by the message that was lost, and by the bus
    assert made.cut(4)
    assert "an anonymous member" in made.refusal
    assert not made.cut(5)


def test_an_end_after_the_acknowledgement_counts_too() -> None:
    """Mosquitto acknowledges what it refuses, and then ends the connection."""
    made = confirmation()
    for birth, told in ((1, False), (2, True)):
        made.sending(said(birth=birth))
        made.acknowledged(10.0)

        assert told == made.disconnected()


def test_an_end_at_another_time_is_none() -> None:
    """Of what was confirmed, or is not sent yet."""
    made = confirmation()
    for birth in range(1, 4):
        assert not made.disconnected()
        made.sending(said(birth=birth))
        assert made.heard(said(birth=birth))
        made.acknowledged(10.0)
        assert not made.disconnected()


def test_what_is_refused_is_tried_again_with_growing_pauses() -> None:
    """And as before once it is not."""
    made = confirmation()
    assert 60.0 == made.pause(60.0)
    pauses = []
    for _ in range(7):
        made.overdue()
        pauses.append(made.pause(60.0))
    made.sending(said(9.0))
    made.heard(said(9.0))

    assert [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] == pauses
    assert 60.0 == made.pause(60.0)
