"""Where a subscriber does not go, whoever announces it.

The address of a publisher comes over the bus. If it names an address that only this machine can reach, those who may
announce roots would read there with this machine's rights: clouds give out credentials on such addresses. What is
judged is the number that a connection is made to, not the name that led there; so a name that means something else
the next moment does not help.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

_LINK_LOCAL: Final = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"))
# Those of clouds that are not link-local: of AWS, Alibaba, Azure, Oracle.
_METADATA: Final = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")))
_NAT64: Final = ip_network("64:ff9b::/96")

AddrInfo = tuple[int, int, int, str, tuple[Any, ...]]


class ForbiddenAddressError(OSError):
    """A connection to where a subscriber does not go."""

    def __init__(self) -> None:
        # Always the same text: several such addresses of one name then count as one error for aiohttp.
        super().__init__(errno.EACCES, "it is a link-local or metadata address, from which nothing is fetched")


def forbidden(host: str) -> bool:
    """Whether a number is a link-local or metadata address, in whatever notation; a name never is."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    found = _inner(address) or address
    return found in _METADATA or any(found in network for network in _LINK_LOCAL if network.version == found.version)


def open_socket(info: AddrInfo) -> socket.socket:
    """Make the socket for a connection to an address that was looked up.

    Raises:
        ForbiddenAddressError: if it is not one to go to.
    """
    family, kind, protocol, _, address = info
    if forbidden(str(address[0])):
        raise ForbiddenAddressError
    return socket.socket(family, kind, protocol)


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64 or int(address) >> 32 == 0:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
