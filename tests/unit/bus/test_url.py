import pytest

from bus.errors import BusUrlError
from bus.url import BusUrl


@pytest.mark.parametrize(
    ("text", "host", "port", "path", "netloc"),
    [
        ("mqtt://example.org", "example.org", 1883, "", "example.org"),
        ("mqtt://example.org:1884/", "example.org", 1884, "", "example.org:1884"),
        ("MQTTS://Example.org", "example.org", 8883, "", "example.org"),
        ("ws://example.org", "example.org", 80, "/", "example.org"),
        ("ws://example.org/mqtt?x=1", "example.org", 80, "/mqtt?x=1", "example.org"),
        ("wss://example.org:8443/mqtt", "example.org", 8443, "/mqtt", "example.org:8443"),
        ("mqtt://[::1]", "::1", 1883, "", "[::1]"),
        ("ws://[fe80::1]:3104/mqtt", "fe80::1", 3104, "/mqtt", "[fe80::1]:3104"),
    ],
)
def test_network_addresses_are_parsed(text: str, host: str, port: int, path: str, netloc: str) -> None:
    """Default ports are filled in, brackets of IPv6 are taken off and put on again."""
    url = BusUrl.parse(text)

    assert (text, host, port, path, netloc) == (url.text, url.host, url.port, url.path, url.netloc)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt://h", (False, False, False)),
        ("mqtts://h", (True, False, False)),
        ("ws://h", (False, True, False)),
        ("wss://h", (True, True, False)),
        ("unix:///s", (False, False, True)),
    ],
)
def test_schemes_say_how_to_connect(text: str, expected: tuple[bool, bool, bool]) -> None:
    """Encryption, WebSocket and local sockets follow from the scheme."""
    url = BusUrl.parse(text)

    assert expected == (url.tls, url.websocket, url.unix)


def test_a_local_socket_is_a_path() -> None:
    """Escapes in the path are resolved."""
    assert "/run/my mqtt" == BusUrl.parse("unix:///run/my%20mqtt").path


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "start it with one of"),
        ("localhost:1883", "start it with one of"),
        ("http://localhost", "start it with one of"),
        ("mqtt:", "name a host"),
        ("mqtt://", "name a host"),
        ("mqtt://:1883", "name a host"),
        ("mqtt://host:port", "port"),
        ("mqtt://host:70000", "ort"),
        ("mqtt://host:0", "use a port from 1 to 65535"),
        ("mqtt://ho st", "white space"),
        ("mqtt://host/path", "remove the path"),
        ("mqtt://[::1", "IPv6"),
        ("unix://relative", "absolute path"),
        ("unix:", "absolute path"),
    ],
)
def test_a_bad_address_is_named_with_its_remedy(text: str, remedy: str) -> None:
    """Who mistypes an address is told which one and what to do."""
    with pytest.raises(BusUrlError) as info:
        BusUrl.parse(text)

    assert text == info.value.url
    assert remedy in info.value.remedy


def test_a_password_in_an_address_is_not_repeated() -> None:
    """Errors end up in logs; passwords must not."""
    with pytest.raises(BusUrlError, match="settings of their own") as info:
        BusUrl.parse("mqtt://user:secret@host")

    assert "secret" not in str(info.value)
