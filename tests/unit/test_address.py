"""Addresses to listen on and to connect to."""

from pathlib import Path

import pytest

from caterva2.address import Address, base_url
from caterva2.errors import AddressError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8000", Address("localhost", 8000)),
        ("broker.example.org:3104", Address("broker.example.org", 3104)),
        ("*:3104", Address("", 3104)),
        (":3104", Address("", 3104)),
        ("[::1]:8000", Address("::1", 8000)),
        ("[fe80::1%eth0]:1", Address("fe80::1%eth0", 1)),
        ("localhost:0", Address("localhost", 0)),
        ("localhost:65535", Address("localhost", 65535)),
        ("./daemon.sock", Address(socket=Path("daemon.sock"))),
        ("/run/cat2/bro.sock", Address(socket=Path("/run/cat2/bro.sock"))),
    ],
)
def test_parse(text: str, address: Address) -> None:
    """Each of the documented forms is understood."""
    assert address == Address.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "8000", "localhost:", "localhost:http", "localhost:-1", "localhost:65536", "::1:8000", "[::1]",
     "a b:1", "user@host:1", "http://localhost:8000", "a/b\0c", "localhost:\uff18\uff10", "localhost:8000\n"],
)  # fmt: skip
def test_parse_refuses(text: str) -> None:
    """What is none of the forms is refused, with the text in the error."""
    with pytest.raises(AddressError) as caught:
        Address.parse(text)

    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["localhost:8000", "*:0", "[::1]:80", "./x.sock", "/x.sock", "run/x.sock"])
def test_text_is_parsed_to_the_same(text: str) -> None:
    """The text of an address means the same address."""
    address = Address.parse(text)

    assert address == Address.parse(str(address))


def test_url_of_an_address() -> None:
    """The URL leads from this machine to the listener; all interfaces become localhost."""
    assert Address("", 8000).url == "http://localhost:8000"
    assert Address("::1", 8000).url == "http://[::1]:8000"


def test_unix_socket_has_no_url() -> None:
    """The error names the remedy, since HTTP URLs cannot name a socket."""
    with pytest.raises(AddressError, match="set urlbase"):
        _ = Address(socket=Path("x.sock")).url


def test_with_port() -> None:
    """The port that the system gave takes the place of 0."""
    assert Address("h", 4711) == Address("h", 0).with_port(4711)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("*:8000", "http://localhost:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("https://sub.example.org/cat/2/", "https://sub.example.org/cat/2"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_base_url(text: str, url: str) -> None:
    """A host:port or a URL becomes the base of URLs, without a slash at the end."""
    assert url == base_url(text)


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "ftp://x", "http://", "http://x:99999", "http://x:y", "http://x/?a", "http://x/#a", "http://a b",
     "./x.sock", "http://[::1"],
)  # fmt: skip
def test_base_url_refuses(text: str) -> None:
    """What is no address of an HTTP service is refused."""
    with pytest.raises(AddressError):
        base_url(text)
