"""Whether what a publisher announces arrives on the bus.

MQTT 3.1.1 has no word for "you may not": some brokers acknowledge what they then throw away, others end the connection,
and Mosquitto 2.0.11 does both. So the publisher listens to its own topic: an announcement that does not come back soon
after it was acknowledged, or that ended the connection twice in a row, was refused. What is refused is tried again, for
rights can be given while everybody runs.

No clock in here: times are seconds of any clock that only goes forward.
"""

from __future__ import annotations

from typing import Final

from bus.messages import RootAnnouncement

PATIENCE: Final = 5.0
"""Seconds from the broker's acknowledgement in which an announcement must come back."""
_CUTS: Final = 2
"""Connections in a row that ended with an announcement; a single one may be a broker that was stopped."""
_LAST_RETRY: Final = 30.0
"""Seconds between two attempts at what is refused; the first ones come sooner."""


class Confirmation:
    """Compares what is said with what is heard.

    Args:
        user: the name that the publisher joined the bus with; "" is anonymous.

    Attributes:
        topic: that is announced on.
        deadline: when to ask `overdue`.
        refusal: why the announcement is not on the bus, with a remedy; empty while it is, as far as is known.
        birth: number of the latest connection in which an announcement came back; None if there was none.
    """

    def __init__(self, user: str) -> None:
        self.topic = ""
        self.deadline = float("inf")
        self.refusal = ""
        self.birth: int | None = None
        self._user = f"user {user!r}" if user else "an anonymous member"
        self._pending: RootAnnouncement | None = None
        self._cuts: set[int] = set()
        self._attempts = 0

    def sending(self, said: RootAnnouncement) -> None:
        """Expect to hear this, or what is said later; it may come back before it is acknowledged."""
        self._pending = self._pending or said

    def acknowledged(self, now: float) -> None:
        """Wait from now on."""
        if self._pending is not None:
            self.deadline = min(self.deadline, now + PATIENCE)

    def heard(self, said: RootAnnouncement) -> bool:
        """Take what came back of our own; whether it is the first of its connection, or after a refusal."""
        pending = self._pending
        if pending is None or said.birth != pending.birth or said.time < pending.time:
            return False
        news = bool(self.refusal) or self.birth != said.birth
        self._forget()
        self._cuts.clear()
        self.refusal, self.birth, self._attempts = "", said.birth, 0
        return news

    def overdue(self) -> bool:
        """Take the deadline's passing as the answer; whether that is to be told, which it is once."""
        self._forget()
        return self._refused(
            f"the broker acknowledges what {self._user} publishes on {self.topic}, but does not pass it on: let that"
            " user write and read that topic (in Mosquitto's acl_file), or set another [bus] username"
        )

    def cut(self, birth: int) -> bool:
        """Take the end of a connection as the answer to an announcement; whether that is to be told."""
        if birth in self._cuts:
            return False
        self._cuts.add(birth)
        return len(self._cuts) >= _CUTS and self._refused(
            f"the broker ends the connection when {self._user} publishes on {self.topic}: let that user publish there"
            " (in Mosquitto's acl_file; cat2bro's log says why it may not), or set another [bus] username"
        )

    def disconnected(self) -> bool:
        """Expect nothing more of this connection; whether its end is a refusal that is to be told."""
        pending, acknowledged = self._pending, self.deadline < float("inf")
        self._forget()
        return pending is not None and acknowledged and self.cut(pending.birth)

    def pause(self, otherwise: float) -> float:
        """How long to wait until the next announcement, in seconds: growing pauses while it is refused."""
        return min(_LAST_RETRY, 2.0 ** min(self._attempts, 10)) if self.refusal else otherwise

    def _forget(self) -> None:
        self._pending, self.deadline = None, float("inf")

    def _refused(self, reason: str) -> bool:
        self._attempts += 1
        news = not self.refusal
        self.refusal = reason
        return news
