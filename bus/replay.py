"""Sends one client of the embedded broker the retained messages that it asked for.

In a task of its own, so that acknowledgements are read meanwhile (else QoS 1 would come to a stop);
one for each client, however often that subscribes; and never faster than the client reads.
"""

import asyncio
from typing import Final

from bus.outbox import Outbox
from bus.router import Router, Subscriber

_FAIRNESS: Final = 16


class Replay:
    """What is wanted, and the task that sends it.

    Args:
        router: has the retained messages.
        outbox: of the client; it is waited for.
        client: who gets them.
    """

    def __init__(self, router: Router, outbox: Outbox, client: Subscriber) -> None:
        self._router = router
        self._outbox = outbox
        self._client = client
        self._wanted: dict[str, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """To be cancelled when the client goes."""
        return (self._task,) if self._task is not None else ()

    def want(self, filters: dict[str, int]) -> None:
        """Send what is retained now and matches these filters, each with its QoS."""
        for filter, qos in filters.items():
            self._wanted[filter] = qos, self._router.number
        if self._wanted and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="mqtt-replay")

    async def _run(self) -> None:
        while self._wanted:
            await self._outbox.room()
            filters, self._wanted = self._wanted, {}
            for number, (topic, (qos, upto)) in enumerate(self._topics(filters).items(), 1):
                await self._outbox.room()
                # Looked up only now: it may be gone, or there is a newer one, which the client has got already.
                if (message := self._router.retained_on(topic, upto)) is not None:
                    self._client.deliver(message, qos=min(qos, message.qos), retain=True)
                if number % _FAIRNESS == 0:
                    await asyncio.sleep(0)

    def _topics(self, filters: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """The topics of retained messages that these filters match and the client may have, each once."""
        found: dict[str, tuple[int, int]] = {}
        for filter, (qos, upto) in filters.items():
            for message in self._router.retained(filter, upto):
                known_qos, known_upto = found.get(message.topic, (0, 0))
                found[message.topic] = max(qos, known_qos), max(upto, known_upto)
        return {topic: each for topic, each in found.items() if self._allowed(topic)}

    def _allowed(self, topic: str) -> bool:
        return not self._router.guarded(topic) or self._client.may_receive(topic)
