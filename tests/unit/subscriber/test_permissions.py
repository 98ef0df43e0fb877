"""Who may do what, decided in one place."""

import pytest

from caterva2.errors import AuthenticationError, BadRequestError, Caterva2Error, ForbiddenError
from caterva2.paths import DatasetPath
from caterva2.subscriber.callers import ANONYMOUS, Caller
from caterva2.subscriber.permissions import Action, Permissions

USER = Caller("1", "user@example.com")
ADMIN = Caller("2", "admin@example.com", superuser=True)


@pytest.mark.parametrize(
    ("caller", "action", "root", "refusal"),
    [
        (ANONYMOUS, "read", "foo", None),
        (ANONYMOUS, "read", "@public", None),
        (ANONYMOUS, "read", "@shared", AuthenticationError),
        (ANONYMOUS, "read", "@personal", AuthenticationError),
        (ANONYMOUS, "read", "@other", AuthenticationError),
        (ANONYMOUS, "write", "@public", AuthenticationError),
        (ANONYMOUS, "write", "foo", AuthenticationError),
        *((caller, "read", root, None) for caller in (USER, ADMIN) for root in ("foo", "@public", "@shared")),
        *((caller, "write", root, None) for caller in (USER, ADMIN) for root in ("@public", "@shared", "@personal")),
        (USER, "write", "foo", BadRequestError),
        (ADMIN, "write", "foo", BadRequestError),
        (ADMIN, "write", "@other", BadRequestError),
    ],
)
def test_with_users(caller: Caller, action: Action, root: str, refusal: type[Caterva2Error] | None) -> None:
    """Everyone reads what is published and public, users their own roots too, and write those alone."""
    permissions, path = Permissions(users=True), DatasetPath.parse(f"{root}/x")

    assert (refusal is None) == permissions.allows(caller, action, path)
    if refusal is not None:
        with pytest.raises(refusal):
            permissions.check(caller, action, path)


def test_without_users() -> None:
    """Without users everything is read as it is there, and a write says what would be needed."""
    permissions = Permissions(users=False)
    for root in ("foo", "@public", "@personal"):
        permissions.check(ANONYMOUS, "read", DatasetPath.parse(root))

        with pytest.raises(ForbiddenError, match="CATERVA2_SECRET"):
            permissions.check(ANONYMOUS, "write", DatasetPath.parse(f"{root}/x"))


def test_superusers() -> None:
    """Only superusers manage users."""
    permissions = Permissions(users=True)
    permissions.check_superuser(ADMIN)

    with pytest.raises(AuthenticationError, match="Unauthorized"):
        permissions.check_superuser(ANONYMOUS)
    with pytest.raises(ForbiddenError, match="no superuser"):
        permissions.check_superuser(USER)
