"""The models of the settings: one per service, with all names, defaults and their reasons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from caterva2.address import Address
from caterva2.settings.kinds import (
    AccessTable,
    BrokerUrl,
    BusPrefix,
    BusUrl,
    CacheSize,
    Directory,
    GroupsTable,
    ListenAddress,
    LogLevel,
    MqttListener,
    OptionalFile,
    OptionalSwitch,
    OptionalUrl,
    PublishedName,
    Quota,
    Seconds,
    ServiceId,
    SubscriberUrl,
    Switch,
    Token,
    TokensByRoot,
)


class BusSettings(BaseModel):
    """The message bus; the same `[bus]` section serves every daemon."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    url: BusUrl = ""
    """An external MQTT broker, as mqtt://, mqtts://, ws:// or wss://; "" is cat2bro's own."""
    prefix: BusPrefix = "caterva2"
    """The first level of all topics; another one lets two installations share a broker."""
    username: str = ""
    """The name to join the MQTT broker with; "" joins anonymously."""
    password: str = Field(default="", repr=False)
    """The password of that name. Better put into CATERVA2_BUS_PASSWORD, or into a file of its own."""
    password_file: OptionalFile = None
    """The file that holds the password and nothing else; read at each connection. A `password` wins over it."""
    ca: OptionalFile = None
    """A PEM file of authorities to trust beside the system's, for mqtts, wss, and https between daemons."""
    certificate: OptionalFile = None
    """A PEM file with the certificate to show to brokers and publishers that ask for one."""
    key: OptionalFile = None
    """The PEM file of that certificate's private key, when it is not in the same file."""
    keepalive: int = Field(default=15, ge=1, le=3600)
    """Seconds between two signs of life; 15 notices a dead connection within 30, for 2 bytes each."""


class ServiceSettings(BaseSettings):
    """What is common to the models: frozen, strict about names, fed by explicit layers only."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the layers of a `load_*` function, or else the arguments; never this process's environment."""
        layers = init_settings.init_kwargs.get("_layers") if isinstance(init_settings, InitSettingsSource) else None
        if layers is None:
            return (init_settings,)
        return tuple(InitSettingsSource(settings_cls, layer) for layer in layers)


class BrokerSettings(ServiceSettings):
    """The settings of cat2bro, section `[broker]`."""

    http: ListenAddress = Address("localhost", 8000)
    """Where it listens for HTTP and MQTT over WebSocket; only this machine, until told otherwise."""
    certificate: OptionalFile = None
    """The file of a certificate, with which `http` speaks https, and `mqtts` TLS; SIGHUP has it read again."""
    key: OptionalFile = None
    """The file of its private key, when it is not in the same one."""
    client_ca: OptionalFile = None
    """The file of the authorities whose clients alone may come to `mqtts`; a common name stands for a user."""
    mqtt: MqttListener = Field(default_factory=lambda data: _mqtt_address(data))
    """Where it listens for MQTT tools; port 1883 on the host of `http`, or nowhere with a certificate."""
    mqtts: MqttListener = Field(default_factory=lambda data: _mqtts_address(data))
    """Where it listens for MQTT with TLS; port 8883 on the host of `http` with a certificate, else nowhere."""
    statedir: Directory = Path("_caterva2/bro")
    """The directory of its state: the roots that it knows, retained messages, the key that tokens are signed with."""
    urlbase: OptionalUrl = None
    """The address that others reach it at, when it is not that of `http` (a reverse proxy, `*:port`)."""
    users: OptionalFile = None
    """The file of the users who may join the bus by name and password; `cat2bro user` makes it."""
    anonymous: OptionalSwitch = None
    """Whether clients may join the bus without a name; left out, those on this machine itself may."""
    token_lifetime: Annotated[float, Field(ge=10, le=86400, allow_inf_nan=False)] = 3600.0
    """Seconds that a token for publishers holds; subscribers get new ones at half of it."""
    max_clients: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Clients of the bus at once; each takes a file descriptor, and some 40 KB."""
    max_logins: Annotated[int, Field(ge=1, le=1_000_000)] = 30
    """Failed logins in a minute from one address; further ones are refused without a look."""
    max_packet: Annotated[int, Field(ge=69_632, le=268_435_455)] = 69_632
    """Bytes of a message with its topic; the daemons' own have at most the default."""
    max_subscriptions: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Subscriptions of a client."""
    max_retained: Annotated[int, Field(ge=1, le=10_000_000)] = 250_000
    """Retained messages; there is one for every root and one for every daemon."""
    max_queue: Annotated[int, Field(ge=1 << 20, le=1 << 40)] = 8 << 20
    """Bytes that wait for a client that does not read; beyond, it is cut off, and may come again."""
    sys_interval: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 0.0
    """Seconds between two publications of figures below `$SYS`; 0 is never."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Connections to `http` at once, each of which takes a file descriptor; further ones are told to come again."""
    patience: Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)] = 30.0
    """Seconds after which a client is cut off that does not go on with sending a request or reading an answer."""
    loglevel: LogLevel = "info"
    """The least severe messages to log: debug, info, warning or error; info tells who comes and goes."""
    bus: BusSettings = BusSettings()
    """The `[bus]` section."""


class PublisherSettings(ServiceSettings):
    """The settings of a cat2pub, sections `[publisher]` and `[publisher.ID]`."""

    id: ServiceId = ""
    """Which `[publisher.ID]` section to read beside `[publisher]`, when several share a file."""
    name: PublishedName
    """The name of the root; unique among the publishers of a broker."""
    root: Directory
    """The directory to publish; it must exist."""
    http: ListenAddress = Address("localhost", 8001)
    """Where it listens for subscribers; only this machine, until told otherwise."""
    statedir: Directory = Field(default_factory=lambda data: _statedir("pub", data["id"]))
    """The directory of its state: the journal of the root's changes."""
    urlbase: OptionalUrl = None
    """The address that it announces, when it is not that of `http` (a reverse proxy, `*:port`)."""
    broker: BrokerUrl = "http://localhost:8000"
    """The broker's address; "" is none. Left out, it is that of the `[broker]` section."""
    certificate: OptionalFile = None
    """The file of a certificate, with which `http` speaks https; SIGHUP has it read again."""
    key: OptionalFile = None
    """The file of its private key, when it is not in the same one."""
    access: Literal["auto", "open", "token"] = "auto"
    """Whom it answers: all (open), or who shows a token; auto is open when it listens on loopback only."""
    token: Token = Field(default="", repr=False)
    """A token that it accepts beside those of the broker. Better put into the environment than into a file."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Connections to `http` at once, each of which takes a file descriptor; further ones are told to come again."""
    patience: Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)] = 30.0
    """Seconds after which a client is cut off that does not go on with sending a request or reading an answer."""
    loglevel: LogLevel = "info"
    """The least severe messages to log: debug, info, warning or error; info tells who comes and goes."""
    heartbeat: Seconds = 30.0
    """Seconds between two announcements; after three missing ones others take the root for offline."""
    settle: Seconds = 0.1
    """Seconds that a file must be left alone before its change is told; a save often is several writes."""
    rescan: Seconds = 300.0
    """Seconds between two walks through the root; they find what the system's notifications missed."""
    bus: BusSettings = BusSettings()
    """The `[bus]` section."""


class _Registering:
    # Upstream's name; every Pydantic model has a method of this name, and warns unless it comes from elsewhere.
    register: Switch = False
    """Whether everyone may make an account; else a superuser does, with `cat2cli adduser` or `cat2sub adduser`."""


class SubscriberSettings(_Registering, ServiceSettings):
    """The settings of a cat2sub, sections `[subscriber]` and `[subscriber.ID]`."""

    id: ServiceId = ""
    """Which `[subscriber.ID]` section to read beside `[subscriber]`, when several share a file."""
    http: ListenAddress = Address("localhost", 8002)
    """Where it listens for clients; only this machine, until told otherwise."""
    statedir: Directory = Field(default_factory=lambda data: _statedir("sub", data["id"]))
    """The directory of its state: the copies of what was read, and its own roots."""
    urlbase: OptionalUrl = None
    """The address that clients reach it at, when it is not that of `http` (a reverse proxy, `*:port`)."""
    broker: BrokerUrl = "http://localhost:8000"
    """The broker's address; "" is none. Left out, it is that of the `[broker]` section."""
    certificate: OptionalFile = None
    """The file of a certificate, with which `http` speaks https; SIGHUP has it read again."""
    key: OptionalFile = None
    """The file of its private key, when it is not in the same one."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Connections to `http` at once, each of which takes a file descriptor; further ones are told to come again."""
    patience: Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)] = 30.0
    """Seconds after which a client is cut off that does not go on with sending a request or reading an answer."""
    loglevel: LogLevel = "info"
    """The least severe messages to log: debug, info, warning or error; info tells who comes and goes."""
    max_staleness: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 1.0
    """Seconds that a copy is served unchecked while the bus is away; 1 spares most reads a question."""
    cache_size: CacheSize = None
    """The disk that copies of remote datasets may take, such as "50G"; "" is as much as there is."""
    quota: Quota = None
    """The disk that its own roots may take together, such as "100G"; "" is as much as there is."""
    user_quota: Quota = None
    """The disk that what each user has written may take, such as "5G"; "" is no limit of its own."""
    expression_seconds: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """Seconds that computing an expression, a filter or an order of rows may take, with the time to fetch chunks."""
    expression_size: Quota = 64 << 20
    """The size of what one request may have computed, such as "64M"; "" is any. Values that are kept may be larger."""
    tokens: TokensByRoot = Field(default={}, repr=False)
    """Tokens to show to publishers whose root the broker gives none for, by root."""
    secret: str = Field(default="", repr=False)
    """What logins are signed with; "" is no users. Better put into CATERVA2_SECRET, or .env, than into a file."""
    login: Switch = True
    """Whether users may log in, where there is a secret; without it nothing is written."""
    access: AccessTable = {}
    """Who reads which published roots and paths: "anonymous", "users", or a list of e-mail addresses and groups."""
    groups: GroupsTable = {}
    """The e-mail addresses in each group that `access` names."""
    smtp: str = ""
    """The mail server for links to another password, as smtp://host:587 or smtps://host:465; "" sends no mail."""
    smtp_username: str = ""
    """The name to log in to the mail server with; "" does not log in."""
    smtp_password: str = Field(default="", repr=False)
    """The password of that name. Better put into CATERVA2_SUBSCRIBER_SMTP_PASSWORD than into a file."""
    smtp_sender: str = ""
    """The e-mail address that mail comes from."""
    maxusers: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """How many users there may be; 0 is any number."""
    bus: BusSettings = BusSettings()
    """The `[bus]` section."""

    @property
    def with_users(self) -> bool:
        """Whether there are users."""
        return bool(self.secret) and self.login


class ClientSettings(ServiceSettings):
    """The settings of cat2cli, section `[client]`."""

    subscriber: SubscriberUrl = "http://localhost:8002"
    """The subscriber's address. Left out, it is `urlbase`, or else `http`, of the `[subscriber]` section."""
    broker: SubscriberUrl = "http://localhost:8000"
    """The broker's address, for `cat2cli bus`. Left out, it is that of the `[broker]` section."""
    username: str = ""
    """The name to log in with; "" reads what is open to all."""
    password: str = Field(default="", repr=False)
    """The password of that name."""
    password_file: OptionalFile = None
    """The file whose first line is the password. A `password` wins over it."""
    token: str = Field(default="", repr=False)
    """An access token, instead of a name and a password; `cat2cli token add` makes one."""
    ca: OptionalFile = None
    """The file of more authorities whose certificates are believed."""

    @property
    def urlbase(self) -> str:
        """The base of the subscriber's URLs, without a slash at the end."""
        return self.subscriber


def _mqtt_address(data: Mapping[str, Any]) -> Address | None:
    return None if data.get("certificate") else Address(_host_for_mqtt(data["http"]), 1883)


def _mqtts_address(data: Mapping[str, Any]) -> Address | None:
    return Address(_host_for_mqtt(data["http"]), 8883) if data.get("certificate") else None


def _host_for_mqtt(http: Address) -> str:
    return "localhost" if http.socket else http.host


def _statedir(kind: str, identifier: str) -> Path:
    return Path(f"_caterva2/{kind}.{identifier}" if identifier else f"_caterva2/{kind}")


SECTIONS: Mapping[str, type[BaseModel]] = {
    "broker": BrokerSettings,
    "publisher": PublisherSettings,
    "subscriber": SubscriberSettings,
    "client": ClientSettings,
    "bus": BusSettings,
}
