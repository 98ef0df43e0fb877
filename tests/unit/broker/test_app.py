"""What cat2bro says of its rules at the start."""

import logging
from typing import Any

import pytest

from bus.topics import Topics
from caterva2.broker.access import BrokerAccess
from caterva2.broker.app import _say_who_may_come
from caterva2.broker.passwords import Passwords
from caterva2.broker.registry import Registry
from caterva2.settings import BrokerSettings
from tests.support.users import quick_user

PLAIN = {"http": "*:8000", "mqtt": "192.0.2.1:1883"}
OF_THIS_MACHINE = "clients without a user name may join the bus from this machine only"
UNENCRYPTED = "passwords travel unencrypted to"


@pytest.mark.parametrize(
    ("settings", "with_users", "said"),
    [
        ({}, False, [OF_THIS_MACHINE]),
        ({}, True, [OF_THIS_MACHINE]),
        (PLAIN, False, [OF_THIS_MACHINE]),
        (PLAIN, True, [OF_THIS_MACHINE, f"{UNENCRYPTED} 192.0.2.1:1883 and *:8000"]),
        ({"http": "*:8000", "certificate": "c.pem"}, True, [OF_THIS_MACHINE]),
        ({**PLAIN, "certificate": "c.pem"}, True, [OF_THIS_MACHINE, f"{UNENCRYPTED} 192.0.2.1:1883:"]),
        ({"anonymous": True}, False, ["may join the bus from anywhere"]),
        ({"anonymous": False}, True, ["clients without a user name may not join the bus"]),
        ({"anonymous": False}, False, ["nobody may join the bus"]),
    ],
)
def test_who_may_come(
    caplog: pytest.LogCaptureFixture, settings: dict[str, Any], with_users: Any, said: list[str]
) -> None:
    """The rule for clients without a name is one line; another one warns of passwords that can be read along."""
    caplog.set_level(logging.INFO)
    users = {"ada": quick_user("ada", "admin", (), "x")} if with_users else {}
    with Passwords() as passwords:
        made = BrokerSettings(**settings)
        _say_who_may_come(made, BrokerAccess(Topics(), Registry(), passwords, users=users, anonymous=made.anonymous))

    assert len(said) == len(caplog.messages)
    assert all(text in line for text, line in zip(said, caplog.messages, strict=True))
