"""caterva2.subscriber.destinations: where nothing is fetched from, however it is written."""

import socket

import pytest

from caterva2.subscriber.destinations import ForbiddenAddressError, forbidden, open_socket


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "febf::1", "fd00:ec2::254", "100.100.100.200",
     "168.63.129.16", "192.0.0.192", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe",
     "2002:a9fe:a9fe::1", "::169.254.169.254", "::ffff:100.100.100.200"],
)  # fmt: skip
def test_forbidden(host: str) -> None:
    """Link-local addresses and those of clouds' metadata are refused, inside of IPv6 too."""
    assert forbidden(host)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "169.253.255.255", "169.255.0.0", "100.100.100.201",
     "fec0::1", "fd00:ec2::255", "2001:db8::1", "::ffff:10.0.0.1", "64:ff9b::808:808", "localhost", "", "x%y"],
)  # fmt: skip
def test_allowed(host: str) -> None:
    """Everything else, and any name, may be gone to: a name is judged by the number that it stands for."""
    assert not forbidden(host)


def test_a_socket_is_made_only_for_where_one_may_go() -> None:
    """The check is made with the number that the connection goes to."""
    stream = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    with open_socket((*stream, ("127.0.0.1", 80))) as made:
        assert socket.AF_INET == made.family
    with pytest.raises(ForbiddenAddressError, match="link-local or metadata"):
        open_socket((*stream, ("169.254.169.254", 80)))
    with pytest.raises(ForbiddenAddressError):
        open_socket((socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("fe80::1%lo", 80, 0, 1)))
