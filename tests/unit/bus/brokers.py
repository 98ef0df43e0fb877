"""Brokers to compare: ours, Debian's Mosquitto, and plain amqtt with the defects that ours answers."""

import asyncio
import gc
import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import amqtt.broker
import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from bus.access import Credentials, Member
from bus.broker import EmbeddedBroker, _quieten
from bus.limits import Limits
from bus.listeners import Listener
from bus.topics import covers, matches
from tests.unit.bus.raw import DEADLINE, RawClient

LOOPBACK = [Listener("127.0.0.1", 0)]


@dataclass(frozen=True)
class Rules:
    """Who may come in and do what, in a form that every one of the brokers can be told."""

    passwords: Mapping[str, str] = field(default_factory=dict)
    """By user; with none, everybody may come in."""
    topics: Mapping[str, list[str]] | None = None
    """Filters that a user may publish and subscribe to; `anonymous` is who has no name."""
    connections: int | None = None
    """How many there may be at once."""


OPEN = Rules()
OpenBroker = Callable[[Rules], AbstractAsyncContextManager[int]]


class RulesAccess:
    """`Rules` as our broker asks for them."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    async def admit(self, credentials: Credentials) -> Member | None:
        name, password = credentials.username or "", (credentials.password or b"").decode()
        if self._rules.passwords and self._rules.passwords.get(name) != password:
            return None
        return Member(name, "tester")

    def may_publish(self, member: Member, topic: str) -> str | None:
        return None if any(matches(each, topic) for each in self._allowed(member)) else "not among its topics"

    def may_subscribe(self, member: Member, filter: str) -> str | None:
        return None if any(covers(each, filter) for each in self._allowed(member)) else "wider than its topics"

    def guarded(self, topic: str) -> bool:
        return False

    def may_receive(self, member: Member, topic: str) -> bool:
        return True

    def _allowed(self, member: Member) -> list[str]:
        topics = self._rules.topics
        return ["#"] if topics is None else topics.get(member.name or "anonymous", [])


@asynccontextmanager
async def ours(rules: Rules = OPEN, limits: Limits | None = None) -> AsyncIterator[int]:
    """The embedded broker; its port."""
    if rules.connections is not None:
        limits = replace(limits or Limits(), connections=rules.connections)
    async with EmbeddedBroker(listeners=LOOPBACK, access=RulesAccess(rules), limits=limits) as broker:
        (port,) = broker.ports
        assert port is not None
        yield port


@asynccontextmanager
async def plain(rules: Rules = OPEN) -> AsyncIterator[int]:
    """Plain amqtt as it is; its port."""
    _quieten()
    with tempfile.TemporaryDirectory(prefix="cat2-amqtt-") as directory, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The 'acl' option is deprecated")  # and what it recommends does not load
        plugins = _amqtt_plugins(rules, Path(directory))
        listener = {"type": "tcp", "bind": "127.0.0.1:0", "max_connections": rules.connections or 0}
        config = {"listeners": {"default": listener}, "plugins": plugins}
        broker = amqtt.broker.Broker(config)
        await broker.start()
        try:
            yield broker._servers["default"].instance.sockets[0].getsockname()[1]
        finally:
            await broker.shutdown()


def _amqtt_plugins(rules: Rules, directory: Path) -> dict[str, dict[str, Any]]:
    plugins: dict[str, dict[str, Any]] = {}
    if rules.passwords:
        file = directory / "passwords"
        hasher = PasswordHash([Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)])
        file.write_text("".join(f"{name}:{hasher.hash(each)}\n" for name, each in rules.passwords.items()))
        plugins["amqtt.plugins.authentication.FileAuthPlugin"] = {"password_file": str(file)}
    else:
        plugins["amqtt.plugins.authentication.AnonymousAuthPlugin"] = {"allow_anonymous": True}
    if rules.topics is not None:
        lists = {"publish_acl": dict(rules.topics), "acl": dict(rules.topics)}
        plugins["amqtt.plugins.topic_checking.TopicAccessControlListPlugin"] = lists
    return plugins


@asynccontextmanager
async def mosquitto(rules: Rules = OPEN) -> AsyncIterator[int]:
    """Debian's Mosquitto; its port. One process for each test, which starts within hundredths of a second."""
    with tempfile.TemporaryDirectory(prefix="cat2-mosquitto-") as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        config = _mosquitto_config(rules, Path(directory), port)
        process = subprocess.Popen([_mosquitto("mosquitto"), "-c", config], stderr=subprocess.DEVNULL)  # noqa: ASYNC220
        try:
            async with asyncio.timeout(DEADLINE):
                while not await _answers(port):
                    assert process.poll() is None, "mosquitto does not start"
            yield port
        finally:
            process.kill()
            process.wait()


def _mosquitto_config(rules: Rules, directory: Path, port: int) -> Path:
    lines = [f"listener {port} 127.0.0.1", "log_dest none", "user root" if os.geteuid() == 0 else ""]
    # Mosquitto 2.0.11 lets one more in than it is told to.
    lines.append(f"max_connections {-1 if rules.connections is None else rules.connections - 1}")
    lines.append(f"allow_anonymous {'false' if rules.passwords else 'true'}")
    if rules.passwords:
        passwords = directory / "passwords"
        passwords.write_text("".join(f"{name}:{each}\n" for name, each in rules.passwords.items()))
        subprocess.run([_mosquitto("mosquitto_passwd"), "-U", passwords], check=True)
        lines.append(f"password_file {passwords}")
    if rules.topics is not None:
        acl = directory / "acl"
        acl.write_text("\n".join(line for name, each in rules.topics.items() for line in _mosquitto_acl(name, each)))
        lines.append(f"acl_file {acl}")
    config = directory / "mosquitto.conf"
    config.write_text("\n".join([*lines, ""]))
    return config


def _mosquitto_acl(name: str, filters: list[str]) -> list[str]:
    return [*([] if name == "anonymous" else [f"user {name}"]), *(f"topic readwrite {each}" for each in filters)]


def _mosquitto(name: str) -> str:
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        absent = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        absent(f"{name} is not installed")
    return program


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        await asyncio.sleep(0.002)  # another process' doing
        return False
    writer.close()
    return True


OURS = pytest.param(ours, id="ours")
MOSQUITTO = pytest.param(mosquitto, id="mosquitto")
AMQTT = pytest.param(plain, id="amqtt", marks=pytest.mark.xfail(strict=True, reason="a defect of amqtt 0.12.1"))

corrects_amqtt = pytest.mark.parametrize("open_broker", [OURS, MOSQUITTO, AMQTT])
"""For a test that ours and Mosquitto pass and amqtt must fail: when it does not, an override has had its day."""

corrects_amqtt_alone = pytest.mark.parametrize("open_broker", [OURS, AMQTT])
"""The same, where Mosquitto has another answer; the test says which."""

like_mosquitto = pytest.mark.parametrize("open_broker", [OURS, MOSQUITTO])
"""For a test of what amqtt does right, too, or would take too long over."""


def run(open_broker: OpenBroker, scenario: Callable[[int], Awaitable[None]], rules: Rules = OPEN) -> None:
    """Play a scenario with the port of a broker."""

    async def play() -> None:
        async with open_broker(rules) as port:
            try:
                await scenario(port)
            finally:
                await RawClient.cut_all()

    try:
        asyncio.run(play())
    finally:
        if open_broker is plain:
            _forget_what_amqtt_left_open()


def _forget_what_amqtt_left_open() -> None:
    """Its connections, whose warnings would else be taken for those of a later test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
