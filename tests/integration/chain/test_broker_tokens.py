"""Tokens of the real broker: handed out when they are wanted, and again when its key is another one."""

from pathlib import Path

from caterva2.errors import BadGatewayError
from tests.integration.chain.daemons import Chain, running_chain
from tests.support.waiting import wait_until

KEYS = "broker-keys.json"


def read(chain: Chain, name: str) -> object:
    """Write a new file, of which no copy is anywhere, and read it through the subscriber."""
    (chain.root / name).write_text(f"this is {name}")
    return chain.client.fetch(f"foo/{name}")


def test_a_publisher_that_wants_a_token(tmp_path: Path) -> None:
    """A subscriber is handed a token, which the publisher knows by the broker's key; nobody else gets in."""
    with running_chain(tmp_path, access="token") as chain:
        assert b"this is a.txt" == read(chain, "a.txt")
        assert 401 == chain.http.get(f"{chain.publisher.url}/api/list").status_code

        # Whoever comes back is handed one again, and the publisher needs no broker for what it knows already.
        chain.broker.stop()
        chain.publisher.restart()
        assert b"this is b.txt" == read(chain, "b.txt")


def test_another_key_of_the_broker(tmp_path: Path) -> None:
    """A broker that lost its key has another one: the publisher takes it up, and reads go on."""
    with running_chain(tmp_path, access="token") as chain:
        assert b"this is a.txt" == read(chain, "a.txt")
        kept = (tmp_path / "pub" / KEYS).read_text()
        chain.broker.stop()
        (tmp_path / "bro" / "token.key").unlink()
        chain.broker.start()

        def read_again() -> bool:
            try:
                return read(chain, "b.txt") == b"this is b.txt" and (tmp_path / "pub" / KEYS).read_text() != kept
            except BadGatewayError:
                return False

        wait_until(read_again, "a read with the new key")
