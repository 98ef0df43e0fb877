"""Settings: `caterva2.toml`, the environment and the options become one frozen model per service.

Precedence is option > environment > file > default. In the environment a setting is named after its section
and key (`CATERVA2_BROKER_HTTP`, `CATERVA2_BUS_URL`); the one short name is the tutorial's `CATERVA2_SECRET`,
the subscriber's secret. A service reads other sections only to find its partner: a publisher and a subscriber
the broker's address, a client the subscriber's.

Nothing here looks at the process: options, environment and current directory are arguments of the `load_*`
functions. What cannot be used is a `SettingsError` of one line, which names the place and the remedy.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from caterva2.address import Address, base_url
from caterva2.errors import Caterva2Error, SettingsError
from caterva2.paths import RootName

CONF_FILE = "caterva2.toml"
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_BUS_PREFIX = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
# Kubernetes puts such variables into every container for a service named "caterva2" or "caterva2-broker".
_KUBERNETES = re.compile(r"CATERVA2_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        return Address.parse(value)
    raise ValueError('should be an address in quotes, such as "localhost:8000"')


def _mqtt_listener(value: object) -> Address | None:
    address = None if value is None or value == "" else _address(value)
    if address is not None and address.socket is not None:
        raise ValueError(f"{address} is a unix socket, which MQTT tools cannot reach: use host:port")
    return address


def _optional_base_url(value: str | None) -> str | None:
    return base_url(value) if value else None


def _broker_url(value: str) -> str:
    url = base_url(value) if value else ""
    if url and urlsplit(url).port == 0:
        raise ValueError("port 0 stands for any free port: give the port that the broker listens on")
    return url


def _bus_url(value: str) -> str:
    if not value:
        return value
    try:
        parts = urlsplit(value)
        good = parts.scheme in {"mqtt", "mqtts", "ws", "wss"} and parts.hostname and (parts.port or 1)
    except ValueError:
        good = False
    if not good or any(c.isspace() for c in value):
        raise ValueError(f"{value!r} is not the URL of an MQTT broker: use mqtt://, mqtts://, ws:// or wss://host:port")
    if "@" in parts.netloc:
        raise ValueError("the URL is handed on to others: put user name and password into username and password")
    return value


def _bus_prefix(value: str) -> str:
    if _BUS_PREFIX.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not a topic prefix: use letters, digits, '_', '-', '.' and '/' between levels")
    return value


def _service_id(value: str) -> str:
    if value and _ID.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not an identifier: use letters, digits, '_', '-' and '.', at most 64")
    return value


def _root_name(value: str) -> RootName:
    name = RootName.parse(value)
    if name.own:
        raise ValueError(f"{value!r} is not a publisher's root name: '@' marks a subscriber's own roots")
    return name


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


ListenAddress = Annotated[Address, PlainValidator(_address)]
MqttListener = Annotated[Address | None, PlainValidator(_mqtt_listener)]
OptionalUrl = Annotated[str | None, AfterValidator(_optional_base_url)]
BrokerUrl = Annotated[str, AfterValidator(_broker_url)]
ServiceId = Annotated[str, AfterValidator(_service_id)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


class BusSettings(BaseModel):
    """The message bus; the same `[bus]` section serves every daemon."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    url: Annotated[str, AfterValidator(_bus_url)] = ""
    """An external MQTT broker, as mqtt://, mqtts://, ws:// or wss://; "" is cat2bro's own."""
    prefix: Annotated[str, AfterValidator(_bus_prefix)] = "caterva2"
    """The first level of all topics; another one lets two installations share a broker."""
    username: str = ""
    """The name to join the MQTT broker with; "" joins anonymously, as cat2bro's own allows."""
    password: str = Field(default="", repr=False)
    """The password of that name."""
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
    mqtt: MqttListener = Field(default_factory=lambda data: _mqtt_address(data["http"]))
    """Where it listens for MQTT tools; port 1883, which they assume, on the host of `http`; "" is nowhere."""
    statedir: Path = Path("_caterva2/bro")
    """The directory of its state: the roots that it knows."""
    urlbase: OptionalUrl = None
    """The address that others reach it at, when it is not that of `http` (a reverse proxy, `*:port`)."""
    loglevel: LogLevel = "info"
    """The least severe messages to log: debug, info, warning or error; info tells who comes and goes."""
    bus: BusSettings = BusSettings()
    """The `[bus]` section."""


class PublisherSettings(ServiceSettings):
    """The settings of a cat2pub, sections `[publisher]` and `[publisher.ID]`."""

    id: ServiceId = ""
    """Which `[publisher.ID]` section to read beside `[publisher]`, when several share a file."""
    name: Annotated[str, AfterValidator(_root_name)]
    """The name of the root; unique among the publishers of a broker."""
    root: Path
    """The directory to publish; it must exist."""
    http: ListenAddress = Address("localhost", 8001)
    """Where it listens for subscribers; only this machine, until told otherwise."""
    statedir: Path = Field(default_factory=lambda data: _statedir("pub", data["id"]))
    """The directory of its state: the journal of the root's changes."""
    urlbase: OptionalUrl = None
    """The address that it announces, when it is not that of `http` (a reverse proxy, `*:port`)."""
    broker: BrokerUrl = "http://localhost:8000"
    """The broker's address; "" is none. Left out, it is that of the `[broker]` section."""
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


class SubscriberSettings(ServiceSettings):
    """The settings of a cat2sub, sections `[subscriber]` and `[subscriber.ID]`."""

    id: ServiceId = ""
    """Which `[subscriber.ID]` section to read beside `[subscriber]`, when several share a file."""
    http: ListenAddress = Address("localhost", 8002)
    """Where it listens for clients; only this machine, until told otherwise."""
    statedir: Path = Field(default_factory=lambda data: _statedir("sub", data["id"]))
    """The directory of its state: the copies of what was read, and its own roots."""
    urlbase: OptionalUrl = None
    """The address that clients reach it at, when it is not that of `http` (a reverse proxy, `*:port`)."""
    broker: BrokerUrl = "http://localhost:8000"
    """The broker's address; "" is none. Left out, it is that of the `[broker]` section."""
    loglevel: LogLevel = "info"
    """The least severe messages to log: debug, info, warning or error; info tells who comes and goes."""
    max_staleness: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 1.0
    """Seconds that a copy is served unchecked while the bus is away; 1 spares most reads a question."""
    secret: str = Field(default="", repr=False)
    """What logins are signed with; "" is no logins. Better put into CATERVA2_SECRET than into a file."""
    bus: BusSettings = BusSettings()
    """The `[bus]` section."""


class ClientSettings(ServiceSettings):
    """The settings of cat2cli, section `[client]`."""

    subscriber: Annotated[str, AfterValidator(base_url)] = "http://localhost:8002"
    """The subscriber's address. Left out, it is `urlbase`, or else `http`, of the `[subscriber]` section."""
    username: str = ""
    """The name to log in with; "" reads what is open to all."""
    password: str = Field(default="", repr=False)
    """The password of that name."""

    @property
    def urlbase(self) -> str:
        """The base of the subscriber's URLs, without a slash at the end."""
        return self.subscriber


def _mqtt_address(http: Address) -> Address:
    return Address("localhost" if http.socket else http.host, 1883)


def _statedir(kind: str, identifier: str) -> Path:
    return Path(f"_caterva2/{kind}.{identifier}" if identifier else f"_caterva2/{kind}")


SECTIONS: Mapping[str, type[BaseModel]] = {
    "broker": BrokerSettings,
    "publisher": PublisherSettings,
    "subscriber": SubscriberSettings,
    "client": ClientSettings,
    "bus": BusSettings,
}
_WITH_ID = frozenset({"publisher", "subscriber"})
_OLD_SPELLINGS = {("subscriber", "url"): "urlbase"}
_SHORT_VARIABLES = {"CATERVA2_SECRET": ("subscriber", "secret")}
_ARGUMENTS = {"name": "argument NAME", "root": "argument ROOT"}


@dataclass(frozen=True, slots=True)
class _Given:
    """A value and the place where it was found, as a user knows it."""

    value: Any
    place: str


_Section = dict[str, _Given]


@dataclass(frozen=True, slots=True)
class _Source:
    """One layer of the precedence: the options, the environment, or the file.

    Attributes:
        sections: what is common in each section.
        ids: what the sections with an ID hold, by section and ID.
    """

    sections: dict[str, _Section] = field(default_factory=dict)
    ids: dict[str, dict[str, _Section]] = field(default_factory=dict)

    def section(self, name: str, identifier: str = "") -> _Section:
        """What is common in a section, overridden by what the ID's own section says."""
        return self.sections.get(name, {}) | self.ids.get(name, {}).get(identifier, {})


_Settings = TypeVar("_Settings", bound=ServiceSettings)
Options = Mapping[str, object]


def load_broker(options: Options, environ: Mapping[str, str], cwd: Path) -> BrokerSettings:
    """Make cat2bro's settings.

    Args:
        options: by name, such as `{"http": "*:8000", "conf": None}`; None is an option not given.
        environ: the environment's variables.
        cwd: the directory that `caterva2.toml` and relative paths are looked up in.

    Raises:
        SettingsError: if a setting cannot be used.
    """
    return _load(BrokerSettings, "broker", _sources("broker", options, environ, cwd), cwd)


def load_publisher(options: Options, environ: Mapping[str, str], cwd: Path) -> PublisherSettings:
    """Make the settings of a cat2pub; as `load_broker`."""
    sources = _sources("publisher", options, environ, cwd)
    settings = _load(PublisherSettings, "publisher", [*sources, _broker_of(sources, "publisher")], cwd)
    if not settings.root.is_dir():
        place = _place(_layers("publisher", sources, settings.id), ("root",))
        raise SettingsError(f"{place}: {settings.root} is not a directory: create it, or name another one")
    return settings


def load_subscriber(options: Options, environ: Mapping[str, str], cwd: Path) -> SubscriberSettings:
    """Make the settings of a cat2sub; as `load_broker`."""
    sources = _sources("subscriber", options, environ, cwd)
    return _load(SubscriberSettings, "subscriber", [*sources, _broker_of(sources, "subscriber")], cwd)


def load_client(options: Options, environ: Mapping[str, str], cwd: Path) -> ClientSettings:
    """Make the settings of a client; as `load_broker`."""
    sources = _sources("client", options, environ, cwd)
    given = _partner(sources, "subscriber")
    derived = _Source({"client": {"subscriber": given}} if given else {})
    return _load(ClientSettings, "client", [*sources, derived], cwd)


def _sources(section: str, options: Options, environ: Mapping[str, str], cwd: Path) -> list[_Source]:
    conf = options.get("conf") or environ.get("CATERVA2_CONF")
    source = _read_file(cwd, str(conf) if conf else None)
    given = {
        key: _Given(value, _ARGUMENTS.get(key, f"--{key}"))
        for key, value in options.items()
        if value is not None and key != "conf"
    }
    return [_Source({section: given}), _read_environment(environ), source]


def _read_environment(environ: Mapping[str, str]) -> _Source:
    names = {
        f"CATERVA2_{section}_{key}".upper(): (section, key)
        for section, model in SECTIONS.items()
        for key in model.model_fields
        if key != "bus" and (section, key) not in _SHORT_VARIABLES.values()
    } | _SHORT_VARIABLES
    source = _Source()
    for variable, value in environ.items():
        if not variable.startswith("CATERVA2_") or variable == "CATERVA2_CONF" or _KUBERNETES.fullmatch(variable):
            continue
        if variable not in names:
            raise SettingsError(
                f"{variable}: no such setting: {_remedy(variable, [*names, 'CATERVA2_CONF'], 'unset it')}"
            )
        section, key = names[variable]
        source.sections.setdefault(section, {})[key] = _Given(value, variable)
    return source


def _read_file(cwd: Path, conf: str | None) -> _Source:
    file = cwd / (conf or CONF_FILE)
    shown = conf or CONF_FILE
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if conf is None:
            return _Source()
        raise SettingsError(f"{shown}: no such file: create it, or name another one with --conf") from None
    except OSError as error:
        raise SettingsError(f"{shown}: cannot be read: {error.strerror}; name another file with --conf") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{shown}: is not TOML: {_one_line(error)}") from None
    return _read_document(document, shown)


def _read_document(document: dict[str, Any], file: str) -> _Source:
    source = _Source()
    for name, table in document.items():
        if name not in SECTIONS:
            raise SettingsError(f"{file}: [{name}]: no such section: {_remedy(name, SECTIONS, 'remove it')}")
        if not isinstance(table, dict):
            raise SettingsError(f"{file}: {name}: is a section: write [{name}] on a line of its own")
        if name in _WITH_ID:
            ids = {k: v for k, v in table.items() if isinstance(v, dict) and k not in SECTIONS[name].model_fields}
            source.ids[name] = {k: _read_table(name, f"{file}: {name}.{k}", v) for k, v in ids.items()}
            table = {key: value for key, value in table.items() if key not in ids}
        source.sections[name] = _read_table(name, f"{file}: {name}", table)
    return source


def _read_table(section: str, place: str, table: dict[str, Any]) -> _Section:
    fields = {k: v for k, v in SECTIONS[section].model_fields.items() if k not in {"id", "bus"}}
    old = {key: new for (name, key), new in _OLD_SPELLINGS.items() if name == section}
    for key, value in table.items():
        if key not in fields and key not in old:
            raise SettingsError(f"{place}.{key}: no such setting: {_remedy(key, fields, 'remove it')}")
        _check_type(fields[old.get(key, key)], value, f"{place}.{key}")
    renamed = {old[key]: _Given(value, f"{place}.{key}") for key, value in table.items() if key in old}
    return renamed | {key: _Given(value, f"{place}.{key}") for key, value in table.items() if key not in old}


def _check_type(info: FieldInfo, value: object, place: str) -> None:
    # TOML has types, so "30" is as wrong for a number as 8000 is for an address; Pydantic would bend both.
    if info.annotation in {int, float}:
        good, kind = (
            isinstance(value, (int, float)) and not isinstance(value, bool),
            "a number, without quotes",
        )
    else:
        good, kind = isinstance(value, str), "a text in quotes"
    if not good:
        raise SettingsError(f"{place}: {value!r} has the wrong type: write {kind}")


def _broker_of(sources: list[_Source], section: str) -> _Source:
    given = _partner(sources, "broker")
    return _Source({section: {"broker": given}} if given else {})


def _partner(sources: list[_Source], section: str) -> _Given | None:
    for key in ("urlbase", "http"):
        for source in sources:
            given = source.sections.get(section, {}).get(key)
            if given is not None and given.value != "":
                return given
    return None


def _load(model: type[_Settings], section: str, sources: list[_Source], cwd: Path) -> _Settings:
    identifier = _identifier(section, sources) if section in _WITH_ID else ""
    layers = _layers(section, sources, identifier)
    layered: dict[str, Any] = {"_layers": [_values(layer) for layer in layers]}
    try:
        settings = model(**layered)
    except ValidationError as error:
        raise SettingsError(_explain(error.errors()[0], section, sources, layers)) from None
    paths = {key: cwd / value for key, value in settings if isinstance(value, Path)}
    return settings.model_copy(update=paths)


def _layers(section: str, sources: list[_Source], identifier: str) -> list[dict[str, _Given | _Section]]:
    has_bus = "bus" in SECTIONS[section].model_fields
    return [
        {**source.section(section, identifier), **({"bus": source.section("bus")} if has_bus else {})}
        for source in sources
    ]


def _values(layer: Mapping[str, _Given | _Section]) -> dict[str, Any]:
    return {key: given.value if isinstance(given, _Given) else _values(given) for key, given in layer.items()}


def _identifier(section: str, sources: list[_Source]) -> str:
    """Find the ID that was given, and check that the file has a section for it, if it has any."""
    ids = sorted({identifier for source in sources for identifier in source.ids.get(section, {})})
    given = next((s.sections[section]["id"] for s in sources if "id" in s.sections.get(section, {})), None)
    if given is not None and given.value:
        identifier = str(given.value)
        if ids and identifier not in ids:
            raise SettingsError(
                f"{given.place}: there is no section [{section}.{identifier}]: use one of {', '.join(ids)}"
            )
        return identifier
    needed = {"name", "root"} & SECTIONS[section].model_fields.keys()
    enough = needed and all(any(key in s.sections.get(section, {}) for s in sources) for key in needed)
    if len(ids) > 1 and not enough:
        raise SettingsError(f"--id: which {section} is meant? Say --id with one of {', '.join(ids)}")
    return ""


def _explain(
    error: ErrorDetails, section: str, sources: list[_Source], layers: list[dict[str, _Given | _Section]]
) -> str:
    if error["type"] == "missing":
        key = str(error["loc"][0])
        ids = sorted({identifier for source in sources for identifier in source.ids.get(section, {})})
        choice = f", or say --id {' or --id '.join(ids)}" if ids else ""
        return (
            f"{section}.{key}: is missing: give it on the command line (cat2pub NAME ROOT),"
            f" as CATERVA2_{section.upper()}_{key.upper()} or in {CONF_FILE}{choice}"
        )
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, Caterva2Error | ValueError):
        reason = str(cause)
    else:
        reason = f"{error['input']!r} is not possible: {error['msg'][:1].lower()}{error['msg'][1:]}"
    return _one_line(f"{_place(layers, error['loc'])}: {reason}")


def _place(layers: list[dict[str, _Given | _Section]], loc: tuple[int | str, ...]) -> str:
    for layer in layers:
        found: object = layer
        for key in loc:
            found = found.get(str(key)) if isinstance(found, dict) else found
        if isinstance(found, _Given):
            return found.place
    return ".".join(map(str, loc))


def _remedy(name: str, known: Any, otherwise: str) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"{otherwise}, or use one of {', '.join(known)}"


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
