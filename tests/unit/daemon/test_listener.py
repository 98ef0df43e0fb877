"""Sockets to listen on."""

import socket
from pathlib import Path

import pytest

from caterva2.address import Address
from caterva2.daemon.listener import listening
from caterva2.errors import SettingsError


def reachable(family: socket.AddressFamily, target: tuple[str, int] | str) -> bool:
    """Whether something listens there."""
    with socket.socket(family) as client:
        return client.connect_ex(target) == 0


def test_port_0_becomes_a_real_port() -> None:
    """The address tells the port that the system gave, and connections are taken at once."""
    with listening(Address("localhost", 0)) as (_, address):
        assert address.host == "localhost"
        assert address.port > 0
        assert reachable(socket.AF_INET, ("127.0.0.1", address.port))


def test_all_interfaces() -> None:
    """`*` listens on IPv4, and on IPv6 where there is one."""
    with listening(Address("", 0)) as (_, address):
        assert Address("", address.port) == address
        assert reachable(socket.AF_INET, ("127.0.0.1", address.port))
        assert not socket.has_dualstack_ipv6() or reachable(socket.AF_INET6, ("::1", address.port))


def test_ipv6() -> None:
    """`[::1]:port` listens on IPv6 only."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")

    with listening(Address.parse("[::1]:0")) as (_, address):
        assert reachable(socket.AF_INET6, ("::1", address.port))
        assert not reachable(socket.AF_INET, ("127.0.0.1", address.port))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nosuchhost.invalid:0", "cannot listen on nosuchhost.invalid:0: "),
        ("192.0.2.1:0", "cannot listen on 192.0.2.1:0: this machine does not have that address"),
        ("./no/such/dir/x.sock", "No such file or directory"),
        (f"./{'x' * 200}", "AF_UNIX path too long"),
    ],
)
def test_impossible_addresses(address: str, message: str) -> None:
    """What nothing can listen on is refused with the reason and the setting."""
    with pytest.raises(SettingsError) as caught, listening(Address.parse(address), "--http"):
        pass

    assert message in str(caught.value)
    assert str(caught.value).endswith("or choose another with --http")


def test_port_in_use() -> None:
    """A port in use is refused, and says so."""
    with listening(Address("localhost", 0)) as (_, address), pytest.raises(SettingsError) as caught, listening(address):
        pass

    assert str(caught.value).startswith(f"cannot listen on {address}: the address is in use")


def test_unix_socket(tmp_path: Path) -> None:
    """A unix socket can be connected to, and its file goes in the end."""
    file = tmp_path / "x.sock"

    with listening(Address(socket=file)) as (_, address):
        assert Address(socket=file) == address
        assert reachable(socket.AF_UNIX, str(file))

    assert not file.exists()


def test_stale_unix_socket(tmp_path: Path) -> None:
    """A socket file that a killed process left behind is taken over."""
    file = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(file))

    with listening(Address(socket=file)):
        assert reachable(socket.AF_UNIX, str(file))


def test_unix_socket_in_use(tmp_path: Path) -> None:
    """A socket that someone serves is left alone."""
    file = tmp_path / "x.sock"

    with listening(Address(socket=file)):
        with pytest.raises(SettingsError, match="in use"), listening(Address(socket=file)):
            pass

        assert reachable(socket.AF_UNIX, str(file))


def test_file_that_is_no_socket(tmp_path: Path) -> None:
    """A file in the way is not removed."""
    file = tmp_path / "precious"
    file.write_text("data")

    with pytest.raises(SettingsError, match="no socket is in the way"), listening(Address(socket=file)):
        pass

    assert file.read_text() == "data"
