"""A member of the bus, over the network.

Entering `BusClient` starts one task that keeps a connection: it asks for the broker's addresses,
tries them in order, subscribes, tells the consumer (`Connected`), waits until the connection is
lost, tells that too (`Disconnected`), and begins again after a pause, for ever. A broker need
not be there at first, nor stay. Leaving stops the task and takes leave of the broker, so that no
will is published.
"""

import asyncio
import logging
import random
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from bus.errors import BusError, BusUnavailableError, DecodeError
from bus.inbox import DEFAULT_LIMIT, Inbox
from bus.interface import Connected, Disconnected, Event, event_of
from bus.link import Link, LinkOptions, Will
from bus.messages import Message, encode, topic_of
from bus.reasons import Cause, Trouble
from bus.topics import Topics, check_filter
from bus.url import BusUrl

logger = logging.getLogger(__name__)

Urls: TypeAlias = Callable[[], Awaitable[Sequence[str]]]
Login: TypeAlias = Callable[[BusUrl], "Credentials"]

_STABLE: Final = 5.0
"""Seconds that a connection has to live, or else the next pause is longer than the last one."""


_REASONS: Final = 10
"""Different reasons of one outage that are worth a line each; with more of them, they are noise."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts, in seconds: doubling from `first` to `last`, spread by half."""

    first: float = 0.2
    last: float = 15.0

    def pause(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        longest = min(self.last, self.first * 2.0 ** min(failures, 30))
        return longest * random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a member shows to a broker, and whose word on the broker it believes.

    Attributes:
        username: None for an anonymous member.
        password: goes with `username`.
        tls: for mqtts and wss; None means the authorities that the system trusts, and no certificate of our own.
    """

    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None


class BusClient:
    """A member of an MQTT bus; see `bus.interface.Bus`.

    Args:
        urls: asked before every round of attempts; may raise BusUnavailableError or OSError.
        topics: the topics that messages are published on and parsed from.
        client_id: what the broker's log shows; made unique for every instance and connection.
        will: called with the number of a connection; what the broker publishes when it is lost.
        birth: number of the latest connection in earlier lives; the first one here is one higher.
        keepalive: seconds; a frozen broker is noticed within twice as many.
        login: called in a thread before each attempt, so that it can read files that change; may raise OSError or
            ValueError. None is an anonymous member.
        remedies: what to say behind the reason of a failure, by its cause.
        connect_timeout: seconds from the name look-up to the broker's welcome.
        ack_timeout: seconds for the broker to acknowledge what it was sent.
        backoff: pauses between attempts.
        queue_limit: how many changes may wait for the consumer, see `bus.inbox`.
    """

    def __init__(
        self,
        urls: Urls,
        *,
        topics: Topics,
        client_id: str,
        will: Callable[[int], Message] | None = None,
        birth: int = 0,
        keepalive: int = 15,
        login: Login | None = None,
        remedies: Mapping[Cause, str] | None = None,
        connect_timeout: float = 10.0,
        ack_timeout: float = 10.0,
        backoff: Backoff | None = None,
        queue_limit: int = DEFAULT_LIMIT,
    ) -> None:
        self._urls = urls
        self._topics = topics
        # Two instances of one id would cut each other off, in turn and for ever.
        self._client_id = f"{client_id}-{secrets.token_hex(4)}"
        self._will = will
        self._birth = birth
        self._login = login
        self._remedies = remedies or {}
        self._options = LinkOptions(keepalive, None, None, None, connect_timeout, ack_timeout)
        self._backoff = backoff or Backoff()
        self._inbox = Inbox(queue_limit)
        self._filters: dict[str, None] = {}
        self._link: Link | None = None
        self._early: list[Event] | None = None
        self._task: asyncio.Task[None] | None = None
        self._trouble = "not connected yet"
        self._told: set[str] = set()

    async def __aenter__(self) -> "BusClient":
        self._task = asyncio.create_task(self._run(), name=f"bus-client {self._client_id}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._inbox.close()

    @property
    def connected(self) -> bool:
        """Whether a broker is joined and all subscriptions are in place."""
        return self._link is not None

    @property
    def trouble(self) -> str:
        """Why it is not connected, in words; empty while it is."""
        return "" if self.connected else self._trouble

    @property
    def birth(self) -> int:
        """Number of the present, or else of the latest, connection."""
        return self._birth

    async def publish(self, message: Message) -> None:
        """Return once the broker has the message; BusUnavailableError if it may not have it."""
        topic, payload = topic_of(self._topics, message), encode(message)
        if self._link is None:
            raise BusUnavailableError("not connected")
        await self._link.publish(topic, payload, retain=message.retained)

    async def subscribe(self, *filters: str) -> None:
        """Ask for what is published on `filters`, in this connection and all that follow it.

        Raises BusUnavailableError if the broker refuses; not if it is away, it is asked later then.
        """
        for each in filters:
            self._filters[check_filter(each)] = None
        if (link := self._link) is not None and filters:
            await _unless_lost(link, link.subscribe(filters))

    async def unsubscribe(self, *filters: str) -> None:
        """Take back `subscribe`."""
        for each in filters:
            self._filters.pop(each, None)
        if (link := self._link) is not None and filters:
            await _unless_lost(link, link.unsubscribe(filters))

    def messages(self) -> AsyncIterator[Event]:
        """Everything that arrives, for one consumer; ends when the bus is left."""
        return self._inbox

    async def _run(self) -> None:
        failures = 0
        while True:
            lived = await self._round()
            failures = 0 if lived > _STABLE else failures + 1
            await asyncio.sleep(self._backoff.pause(failures - 1 if failures else 0))

    async def _round(self) -> float:
        """Try every address until one holds; how long that connection lived, in seconds."""
        try:
            reasons, refused = [], False
            for text in await self._urls():
                try:
                    return await self._session(BusUrl.parse(text))
                except BusError as error:
                    cause = getattr(error, "cause", None)
                    reasons.append(self._with_remedy(str(error), cause))
                    refused = refused or cause is Cause.REFUSED
            # What is away may come back by itself; who is refused has to be let in by somebody.
            level = logging.ERROR if refused else logging.WARNING
            self._complain("; ".join(reasons) or "no address of a broker is known", level)
        except (BusError, OSError) as error:
            self._complain(f"cannot find out the address of the broker: {error}")
        except Exception:
            # The bus must come back whatever happened; an error in the owner's callbacks too.
            logger.exception("bus connection failed unexpectedly; trying again")
        return 0.0

    async def _session(self, url: BusUrl) -> float:
        """One connection from beginning to end; BusUnavailableError if it never came to be."""
        self._birth += 1
        client_id = f"{self._client_id}-{self._birth}"
        link = Link(url, client_id, await self._link_options(url), self._make_will(), self._receive)
        self._early = []
        try:
            await link.open()
            await self._subscribe_all(link)
            self._go_live(link, url)
            started = asyncio.get_running_loop().time()
            trouble = await asyncio.shield(link.lost)  # cancelling us must not mark it lost
        finally:
            self._link = self._early = None
            await link.close()
        self._parted(url, trouble)
        return asyncio.get_running_loop().time() - started

    def _parted(self, url: BusUrl, trouble: Trouble) -> None:
        self._trouble = f"lost the bus at {url.text}: {trouble}"
        logger.warning("%s", self._trouble)
        self._inbox.put(Disconnected(trouble.reason))

    async def _link_options(self, url: BusUrl) -> LinkOptions:
        if self._login is None:
            return self._options
        try:
            shown = await asyncio.to_thread(self._login, url)
        except (OSError, ValueError) as error:
            raise BusUnavailableError(str(error), url.text) from error
        return replace(self._options, username=shown.username, password=shown.password, tls=shown.tls)

    def _make_will(self) -> Will | None:
        if self._will is None:
            return None
        message = self._will(self._birth)
        return Will(topic_of(self._topics, message), encode(message), message.retained)

    async def _subscribe_all(self, link: Link) -> None:
        done: set[str] = set()
        # Someone may subscribe while the broker is answering.
        while missing := [each for each in self._filters if each not in done]:
            await link.subscribe(missing)
            done.update(missing)

    def _go_live(self, link: Link, url: BusUrl) -> None:
        self._link = link
        self._told.clear()
        logger.info("joined the bus at %s", url.text)
        early, self._early = self._early or [], None
        for event in (Connected(url.text, self._birth), *early):
            self._inbox.put(event)

    def _receive(self, topic: str, payload: bytes) -> None:
        try:
            event = event_of(self._topics, topic, payload)
        except DecodeError as error:
            logger.warning("dropped: %s", error)
            return
        if self._early is not None:
            self._early.append(event)  # retained messages may overtake the acknowledgement
        else:
            self._inbox.put(event)

    def _with_remedy(self, reason: str, cause: Cause | None) -> str:
        remedy = self._remedies.get(cause) if cause is not None else None
        return f"{reason}; {remedy}" if remedy else reason

    def _complain(self, reason: str, level: int = logging.WARNING) -> None:
        """Say each reason once per outage; a bus that is away for a night is one line, not thousands."""
        known = reason in self._told or len(self._told) > _REASONS
        logger.log(logging.DEBUG if known else level, "no bus yet, trying again: %s", reason)
        self._told.add(reason)
        self._trouble = reason


async def _unless_lost(link: Link, answer: Awaitable[None]) -> None:
    """Wait for the broker's answer; a lost connection needs none, the next one starts afresh."""
    try:
        await answer
    except BusUnavailableError:
        if not link.lost.done():
            raise
