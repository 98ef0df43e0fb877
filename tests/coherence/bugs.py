"""Bugs to be put in on purpose, by `COHERENCE_BUG=name`: what looks for faults must find these.

They are made by replacing parts of the product in the process of the test; the product itself knows nothing of them.
`docs/design/0011-proof-of-coherence.md` tells what found each of them.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bus.messages import Changes
from caterva2.publisher import routes
from caterva2.subscriber import mirror
from caterva2.subscriber.catalog import Catalog, Effect
from caterva2.subscriber.mirror import Mirror

VARIABLE = "COHERENCE_BUG"
Replace = Callable[[Any, str, Any], None]


def put_in(name: str, replace_attribute: Replace = setattr) -> None:
    """Put one of the bugs in; nothing for an empty name."""
    if name:
        BUGS[name](replace_attribute)


def put_in_chosen(replace_attribute: Replace = setattr) -> None:
    """Put in the bug that the environment names."""
    put_in(os.environ.get(VARIABLE, ""), replace_attribute)


def dropped_if_match(replace_attribute: Replace) -> None:
    """The publisher sends chunks of whatever version it has, whichever one was asked for."""
    replace_attribute(routes, "_check_version", lambda dataset, match: None)


def presence_before_payload(replace_attribute: Replace) -> None:
    """The presence map says that a chunk is there before it is written."""
    put = Mirror.put

    def hasty(self: Any, n: int, digest: int, chunk: bytes) -> None:
        self._states[n] = mirror.PRESENT
        self._disk.write(self.fd, self._mark, self.footer.states + n)
        put(self, n, digest, chunk)

    replace_attribute(Mirror, "put", hasty)


def gap_ignored(replace_attribute: Replace) -> None:
    """The subscriber applies a change whatever the number before it was."""
    apply_changes = Catalog._changes

    def careless(self: Any, message: Changes, now: float) -> list[Effect]:
        root = self._roots.get(message.root)
        first = message.changes[0]
        if root is not None and root.head is not None and first.epoch == root.head[0] and first.seq > root.head[1]:
            self._roots[root.name] = replace(root, head=(first.epoch, first.seq - 1))
        return apply_changes(self, message, now)

    replace_attribute(Catalog, "_changes", careless)


def outage_forgotten(replace_attribute: Replace) -> None:
    """Who asks the publisher for its changes while the bus is away believes the answer for ever."""
    at_head = Catalog._at_head

    def forgetful(self: Any, *args: Any) -> list[Effect]:
        self._bus_away = False
        return at_head(self, *args)

    replace_attribute(Catalog, "_at_head", forgetful)


BUGS = {
    "if-match": dropped_if_match,
    "presence": presence_before_payload,
    "gap": gap_ignored,
    "outage": outage_forgotten,
}
