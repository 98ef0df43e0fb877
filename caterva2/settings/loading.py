"""Make the settings of a service of all sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from caterva2.address import Address, base_url
from caterva2.errors import Caterva2Error, SettingsError
from caterva2.settings.models import (
    SECTIONS,
    BrokerSettings,
    ClientSettings,
    PublisherSettings,
    ServiceSettings,
    SubscriberSettings,
)
from caterva2.settings.sources import CONF_FILE, WITH_ID, Given, Options, Section, Source, one_line, read_sources

_Settings = TypeVar("_Settings", bound=ServiceSettings)
_Model = TypeVar("_Model", bound=BaseModel)
_Layer: TypeAlias = Mapping[str, Given | Section]


def load_broker(options: Options, environ: Mapping[str, str], cwd: Path) -> BrokerSettings:
    """Make cat2bro's settings.

    Args:
        options: by name, such as `{"http": "*:8000", "conf": None}`; None is an option not given.
        environ: the environment's variables.
        cwd: the directory that `caterva2.toml` and relative paths are looked up in.

    Raises:
        SettingsError: if a setting cannot be used.
    """
    return _load(BrokerSettings, "broker", read_sources("broker", options, environ, cwd), cwd)


def load_publisher(options: Options, environ: Mapping[str, str], cwd: Path) -> PublisherSettings:
    """Make the settings of a cat2pub; as `load_broker`."""
    sources = read_sources("publisher", options, environ, cwd)
    settings = _load(PublisherSettings, "publisher", [*sources, _broker_of(sources, "publisher")], cwd)
    if not settings.root.is_dir():
        place = _place(_layers("publisher", sources, settings.id), ("root",))
        raise SettingsError(f"{place}: {settings.root} is not a directory: create it, or name another one")
    return settings


def load_subscriber(options: Options, environ: Mapping[str, str], cwd: Path) -> SubscriberSettings:
    """Make the settings of a cat2sub; as `load_broker`."""
    sources = read_sources("subscriber", options, environ, cwd)
    return _load(SubscriberSettings, "subscriber", [*sources, _broker_of(sources, "subscriber")], cwd)


def load_client(options: Options, environ: Mapping[str, str], cwd: Path) -> ClientSettings:
    """Make the settings of a client; as `load_broker`."""
    sources = read_sources("client", options, environ, cwd)
    found = {name: _partner(sources, name) for name in ("subscriber", "broker")}
    if not _has_url(found["broker"]):
        del found["broker"]  # few clients ever ask it, so it must not keep the others away
    derived = Source({"client": {name: given for name, given in found.items() if given is not None}})
    return _load(ClientSettings, "client", [*sources, derived], cwd)


def _has_url(given: Given | None) -> bool:
    try:
        return given is not None and bool(base_url(given.value))
    except Caterva2Error:
        return False


def _broker_of(sources: list[Source], section: str) -> Source:
    given = _partner(sources, "broker")
    return Source({section: {"broker": given}} if given else {})


def _partner(sources: list[Source], section: str) -> Given | None:
    for source in sources:
        for key in ("urlbase", "http"):
            given = source.sections.get(section, {}).get(key)
            if given is not None and given.value != "":
                return _with_scheme(given) if key == "http" and _speaks_tls(sources, section) else given
    return None


def _speaks_tls(sources: list[Source], section: str) -> bool:
    given = (source.sections.get(section, {}).get("certificate") for source in sources)
    return next((each.value != "" for each in given if each is not None), False)


def _with_scheme(given: Given) -> Given:
    try:
        return Given(replace(Address.parse(given.value), tls=True).url, given.place)
    except Caterva2Error:
        # The partner's own check says what is wrong with it.
        return given


def _load(model: type[_Settings], section: str, sources: list[Source], cwd: Path) -> _Settings:
    identifier = _identifier(section, sources) if section in WITH_ID else ""
    layers = _layers(section, sources, identifier)
    layered: dict[str, Any] = {"_layers": [_values(layer) for layer in layers]}
    try:
        settings = model(**layered)
    except ValidationError as error:
        raise SettingsError(_explain(error.errors()[0], section, sources, layers)) from None
    return _below(settings, cwd)


def _below(model: _Model, cwd: Path) -> _Model:
    """Let relative paths start at the current directory."""
    paths = {key: cwd / value for key, value in model if isinstance(value, Path)}
    models = {key: _below(value, cwd) for key, value in model if isinstance(value, BaseModel)}
    return model.model_copy(update=paths | models)


def _layers(section: str, sources: list[Source], identifier: str) -> list[_Layer]:
    has_bus = "bus" in SECTIONS[section].model_fields
    return [
        {**source.section(section, identifier), **({"bus": source.section("bus")} if has_bus else {})}
        for source in sources
    ]


def _values(layer: Mapping[str, Given | Section]) -> dict[str, Any]:
    return {key: given.value if isinstance(given, Given) else _values(given) for key, given in layer.items()}


def _identifier(section: str, sources: list[Source]) -> str:
    """Find the ID that was given, and check that the file has a section for it, if it has any."""
    ids = sorted({identifier for source in sources for identifier in source.ids.get(section, {})})
    given = next((s.sections[section]["id"] for s in sources if "id" in s.sections.get(section, {})), None)
    if given is not None and given.value:
        identifier = str(given.value)
        if identifier in SECTIONS[section].model_fields:
            raise SettingsError(
                f"{given.place}: {identifier!r} is a setting, so [{section}.{identifier}] is no section of an ID:"
                " use another one"
            )
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


def _explain(error: ErrorDetails, section: str, sources: list[Source], layers: list[_Layer]) -> str:
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
    return one_line(f"{_place(layers, error['loc'])}: {reason}")


def _place(layers: list[_Layer], loc: tuple[int | str, ...]) -> str:
    for layer in layers:
        found: object = layer
        for key in loc:
            found = found.get(str(key)) if isinstance(found, Mapping) else found
        if isinstance(found, Given):
            return found.place
    return ".".join(map(str, loc))
