"""Managing the users of a subscriber; for superusers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from caterva2.client.session import Session
from caterva2.errors import BadGatewayError


def adduser(session: Session, newuser: str, password: str | None, *, superuser: bool) -> str:
    """Add a user; see `Client.adduser`."""
    body = {"username": newuser, "password": password, "superuser": superuser}
    return str(session.post("api/adduser/", body=body).json())


def deluser(session: Session, user: str) -> str:
    """Remove a user; see `Client.deluser`."""
    return str(session.get(f"api/deluser/{quote(user, safe='@')}").json())


def listusers(session: Session, username: str | None) -> list[dict[str, Any]]:
    """List users; see `Client.listusers`."""
    users = session.get("api/listusers/", params={"username": username} if username else {}).json()
    if not isinstance(users, list) or not all(isinstance(user, dict) for user in users):
        raise BadGatewayError(f"{session.urlbase} answers with something that are no users")
    return users
