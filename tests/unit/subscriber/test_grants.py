"""caterva2.subscriber.grants: which token is shown, and how long one is waited for."""

import asyncio
import time

import pytest

from bus.messages import TokenGrant
from caterva2.subscriber.grants import Grants

LATER, BEFORE = time.time() + 3600, time.time() - 1


def grant(expires: float = LATER, **tokens: str) -> TokenGrant:
    """Tokens for us."""
    return TokenGrant(user="anonymous", tokens=tokens, expires=expires)


def test_a_granted_token_wins_over_a_fixed_one() -> None:
    """The broker's token comes first, then that of the settings; another root's never."""
    grants = Grants({"foo": "fixed", "bar": "bars"})
    assert ["fixed", "bars", None] == [grants.token(root) for root in ("foo", "bar", "baz")]
    grants.take(grant(foo="granted"))

    assert ["granted", "bars", None] == [grants.token(root) for root in ("foo", "bar", "baz")]
    assert "fixed" == grants.token("foo", ["granted"])
    assert grants.token("foo", ["granted", "fixed"]) is None


def test_the_latest_grant_counts() -> None:
    """A new token takes the place of the one before; other roots keep theirs."""
    grants = Grants()
    grants.take(grant(foo="one", bar="two"))
    grants.take(grant(foo="three"))

    assert ["three", "two"] == [grants.token(root) for root in ("foo", "bar")]


def test_an_expired_token_comes_last() -> None:
    """Once the broker's token has expired, by our clock, the fixed one is tried before it."""
    grants = Grants({"foo": "fixed"})
    grants.take(grant(BEFORE, foo="granted", bar="only"))

    assert ["fixed", "only"] == [grants.token(root) for root in ("foo", "bar")]
    assert "granted" == grants.token("foo", ["fixed"])


def test_a_token_on_its_way_is_waited_for() -> None:
    """Who was refused gets the token that is granted meanwhile; grants for others do not end the wait."""

    async def main() -> str | None:
        grants = Grants()
        waiting = asyncio.create_task(grants.another("foo", [None]))
        for root in ("bar", "foo"):
            await asyncio.sleep(0)
            grants.take(grant(**{root: f"token of {root}"}))
        return await waiting

    assert "token of foo" == asyncio.run(main())


def test_waiting_in_vain_happens_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no token comes, requests fail at once from the second on, until one is granted."""
    monkeypatch.setattr("caterva2.subscriber.grants._FIRST_GRANT", 0.01)

    async def at_once(grants: Grants, *tried: str | None) -> bool:
        waiting = asyncio.create_task(grants.another("foo", tried))
        await asyncio.sleep(0)
        done = waiting.done()
        assert await waiting is None
        return done

    async def main() -> list[bool]:
        grants = Grants()
        found = [await at_once(grants, None), await at_once(grants, None)]
        grants.take(grant(foo="x"))
        return [*found, await at_once(grants, None, "x")]

    assert [False, True, False] == asyncio.run(main())
