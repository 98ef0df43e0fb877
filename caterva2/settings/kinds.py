"""The kinds of values that settings have; each is checked, and parsed, in one place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from caterva2.address import Address, base_url
from caterva2.paths import RootName

ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_SIZE = re.compile(r"(?P<number>\d{1,15}(\.\d{1,3})?) ?(?P<unit>[KMGTkmgt]?)(i?[bB])?")
# Characters; 16 random hexadecimal digits are 64 bits, which nobody tries out over a network.
_LEAST_TOKEN = 16
# Bytes; what a download reads ahead must fit.
_LEAST_CACHE = 16 << 20
_BUS_PREFIX = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


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
    if value and ID.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not an identifier: use letters, digits, '_', '-' and '.', at most 64")
    return value


def _root_name(value: str) -> RootName:
    name = RootName.parse(value)
    if name.own:
        raise ValueError(f"{value!r} is not a publisher's root name: '@' marks a subscriber's own roots")
    return name


def _directory(value: object) -> object:
    # Path("") is the current directory: an empty variable must not publish that.
    if isinstance(value, str) and (not value or "\0" in value):
        raise ValueError(f"{value!r} is not the path of a directory: name one, '.' is the current one")
    return value


def _optional_file(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{value!r} is not the path of a file: name one")
    return value or None


def _optional_switch(value: object) -> object:
    """A bool from a file, or from the texts true and false; "" is neither."""
    if isinstance(value, str):
        known = {"": None, "true": True, "false": False}
        if value.lower() not in known:
            raise ValueError(f"{value!r} is not possible: use true or false, or leave it out")
        return known[value.lower()]
    return value


def _switch(value: object) -> object:
    """A bool from a file, or from the texts true and false."""
    found = _optional_switch(value)
    if found is None:
        raise ValueError("is empty: use true or false, or leave it out")
    return found


def _token(value: str) -> str:
    """A secret that goes into a header, and that nobody guesses."""
    if value and not (value.isascii() and value.isprintable() and " " not in value):
        raise ValueError("a token is of printable ASCII, without spaces: make one with `openssl rand -hex 24`")
    if 0 < len(value) < _LEAST_TOKEN:
        raise ValueError(f"is too easy to guess: make one of {_LEAST_TOKEN} and more with `openssl rand -hex 24`")
    return value


def _tokens(value: object) -> object:
    """Tokens by root, from a table, or from the text `foo=TOKEN,bar=TOKEN`."""
    if not isinstance(value, str):
        return value
    pairs = [pair.strip().partition("=") for pair in value.split(",") if pair.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("is not of the form ROOT=TOKEN,ROOT=TOKEN")
    return {root.strip(): token.strip() for root, _, token in pairs}


def _cache_size(value: object) -> int | None:
    """As `_size`, but enough for what a download reads ahead."""
    size = _size(value)
    if size is not None and size < _LEAST_CACHE:
        raise ValueError(f'{value!r} is too little: at least "16M" is needed')
    return size


def _size(value: object) -> int | None:
    """Bytes from a number, or from a text such as 50G; "" is no limit."""
    if value is None or value == "":
        return None
    match = _SIZE.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    if match is None or isinstance(value, bool):
        raise ValueError(f'{value!r} is not a size: write "500M", "50G" or "2T"')
    return int(float(match["number"]) * 1024 ** " KMGT".index(match["unit"].upper() or " "))


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _readers(value: object) -> object:
    if isinstance(value, (str, list)):
        return value
    raise ValueError('does not say who: write "anonymous", "users", or a list of e-mail addresses and groups')


def _table(value: object) -> object:
    """A table from a file, or from a text of JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value or "{}")
    except ValueError:
        raise ValueError('is no JSON: write a table, such as {"foo": "users"}') from None


_Readers = Annotated[str | list[str], BeforeValidator(_readers)]
AccessTable = Annotated[dict[str, _Readers], BeforeValidator(_table)]
GroupsTable = Annotated[dict[str, list[str]], BeforeValidator(_table)]
ListenAddress = Annotated[Address, PlainValidator(_address)]
MqttListener = Annotated[Address | None, PlainValidator(_mqtt_listener)]
OptionalUrl = Annotated[str | None, AfterValidator(_optional_base_url)]
BrokerUrl = Annotated[str, AfterValidator(_broker_url)]
Directory = Annotated[Path, BeforeValidator(_directory)]
OptionalFile = Annotated[Path | None, BeforeValidator(_optional_file)]
OptionalSwitch = Annotated[bool | None, BeforeValidator(_optional_switch)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Token = Annotated[str, AfterValidator(_token)]
ServiceId = Annotated[str, AfterValidator(_service_id)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
CacheSize = Annotated[int | None, BeforeValidator(_cache_size)]
Quota = Annotated[int | None, BeforeValidator(_size)]
SubscriberUrl = Annotated[str, AfterValidator(base_url)]
BusUrl = Annotated[str, AfterValidator(_bus_url)]
BusPrefix = Annotated[str, AfterValidator(_bus_prefix)]
PublishedName = Annotated[str, AfterValidator(_root_name)]
TokensByRoot = Annotated[dict[PublishedName, Token], BeforeValidator(_tokens)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
