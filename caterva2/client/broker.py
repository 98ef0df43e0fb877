"""A broker, for its operators: who is on the bus, and whom the roots belong to."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from caterva2.client.auth import Auth, BasicAuth
from caterva2.client.session import Session
from caterva2.errors import BadGatewayError, NotFoundError


class Broker:
    """A broker.

    Args:
        urlbase: its address, `http://host:port` or `https://host/prefix`.
        auth: user and password of an admin; None, on the broker's own machine, needs none.
        timeout: seconds to wait for an answer.
        ca: the file of more authorities whose certificates are believed, such as an organisation's own.
    """

    def __init__(
        self, urlbase: str, auth: Auth | None = None, timeout: float = 10.0, *, ca: str | PurePath | None = None
    ) -> None:
        basic = BasicAuth.of(auth) if auth is not None else None
        self.session = Session(urlbase, timeout=timeout, basic=basic, service="a broker (cat2bro)", ca=ca)

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def report(self) -> dict[str, Any]:
        """Who is on the bus, and which roots there are: the answer of `GET /api/clients`.

        Raises:
            AuthenticationError: if it wants an admin's name and password, or these are not right.
            ForbiddenError: if the user is no admin.
            BadGatewayError: if what answers is no broker.
        """
        try:
            answer: Any = self.session.get("api/clients").json()
        except NotFoundError:
            answer = None
        if not (isinstance(answer, dict) and answer.keys() >= {"broker", "clients", "roots"}):
            raise BadGatewayError(
                f"{self.session.urlbase} is no broker (cat2bro), or an older one: is the address right?"
            )
        return answer

    def release(self, root: str) -> None:
        """Let a root belong to nobody, so that the next user who announces it gets it.

        Raises:
            NotFoundError: if it belongs to nobody.
            ConflictError: if its publisher is there.
        """
        self.session.delete("api/roots", root)
