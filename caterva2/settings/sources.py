"""Where settings come from: the options, the environment, the file; each value keeps its place, for errors."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin

from dotenv import dotenv_values
from pydantic.fields import FieldInfo

from caterva2.errors import SettingsError
from caterva2.settings.kinds import ID
from caterva2.settings.models import SECTIONS

# How alike two names are, from 0 to 1, when one is taken for a mistyped other.
_TYPO = 0.85
CONF_FILE = "caterva2.toml"
_DOTENV = ".env"
WITH_ID = frozenset({"publisher", "subscriber"})
Options = Mapping[str, object]
_OLD_SPELLINGS = {("subscriber", "url"): "urlbase"}
_SHORT_VARIABLES = {"CATERVA2_SECRET": ("subscriber", "secret")}
_ARGUMENTS = {"name": "argument NAME", "root": "argument ROOT"}
# Kubernetes puts such variables into every container for a service named "caterva2" or "caterva2-broker".
_KUBERNETES = re.compile(r"CATERVA2_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")


@dataclass(frozen=True, slots=True)
class Given:
    """A value and the place where it was found, as a user knows it."""

    value: Any
    place: str


Section = dict[str, Given]


@dataclass(frozen=True, slots=True)
class Source:
    """One layer of the precedence: the options, the environment, or the file.

    Attributes:
        sections: what is common in each section.
        ids: what the sections with an ID hold, by section and ID.
    """

    sections: dict[str, Section] = field(default_factory=dict)
    ids: dict[str, dict[str, Section]] = field(default_factory=dict)

    def section(self, name: str, identifier: str = "") -> Section:
        """What is common in a section, overridden by what the ID's own section says."""
        return self.sections.get(name, {}) | self.ids.get(name, {}).get(identifier, {})


def read_sources(section: str, options: Options, environ: Mapping[str, str], cwd: Path) -> list[Source]:
    """Read all sources, those that win first.

    Args:
        section: the section that the options belong to.
        options: by name; None is an option not given.
        environ: the environment's variables.
        cwd: the directory that the file is looked up in.

    Raises:
        SettingsError: if one cannot be read, or names what there is not.
    """
    dotenv = _read_dotenv(cwd / _DOTENV)
    conf = options.get("conf") or environ.get("CATERVA2_CONF") or dotenv.get("CATERVA2_CONF")
    source = _read_file(cwd, str(conf) if conf else None)
    given = {
        key: Given(value, _ARGUMENTS.get(key, f"--{key}"))
        for key, value in options.items()
        if value is not None and key != "conf"
    }
    return [Source({section: given}), _read_environment(environ), _read_environment(dotenv, f"{_DOTENV}: "), source]


def _read_dotenv(file: Path) -> dict[str, str]:
    """The variables of a `.env` file, which stand for those that the environment lacks; other programs' too."""
    try:
        with file.open(encoding="utf-8") as opened:
            found = dotenv_values(stream=opened, interpolate=False)
    except (FileNotFoundError, IsADirectoryError):  # some name a virtual environment so
        return {}
    except OSError as error:
        raise SettingsError(f"{_DOTENV}: cannot be read: {error.strerror}; make it readable, or remove it") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{_DOTENV}: is not UTF-8 text: write NAME=value on each line") from None
    return {name: value for name, value in found.items() if value is not None}


def _read_environment(environ: Mapping[str, str], place: str = "") -> Source:
    names = {
        f"CATERVA2_{section}_{key}".upper(): (section, key)
        for section, model in SECTIONS.items()
        for key in model.model_fields
        if key != "bus" and (section, key) not in _SHORT_VARIABLES.values()
    } | _SHORT_VARIABLES
    source = Source()
    for variable, value in environ.items():
        if variable in names:
            section, key = names[variable]
            source.sections.setdefault(section, {})[key] = Given(value, f"{place}{variable}")
        elif _mistaken(variable, names):
            raise SettingsError(f"{place}{variable}: no such setting: {remedy(variable, names, 'unset it')}")
    return source


def _mistaken(variable: str, names: Iterable[str]) -> bool:
    """Whether an unknown variable was meant for us; CATERVA2_TEST_DATA may well belong to another program."""
    if not variable.startswith("CATERVA2_") or variable == "CATERVA2_CONF" or _KUBERNETES.fullmatch(variable):
        return False
    ours = any(variable.startswith(f"CATERVA2_{section.upper()}_") for section in SECTIONS)
    return ours or bool(get_close_matches(variable, names, n=1, cutoff=_TYPO))


def _read_file(cwd: Path, conf: str | None) -> Source:
    file = cwd / (conf or CONF_FILE)
    shown = conf or CONF_FILE
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if conf is None:
            return Source()
        raise SettingsError(f"{shown}: no such file: create it, or name another one with --conf") from None
    except OSError as error:
        raise SettingsError(f"{shown}: cannot be read: {error.strerror}; name another file with --conf") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{shown}: is not TOML: {one_line(error)}") from None
    return _read_document(document, shown)


def _read_document(document: dict[str, Any], file: str) -> Source:
    source = Source()
    for name, table in document.items():
        if name not in SECTIONS:
            raise SettingsError(f"{file}: [{name}]: no such section: {remedy(name, SECTIONS, 'remove it')}")
        if not isinstance(table, dict):
            raise SettingsError(f"{file}: {name}: is a section: write [{name}] on a line of its own")
        if name in WITH_ID:
            ids = {k: v for k, v in table.items() if isinstance(v, dict) and k not in SECTIONS[name].model_fields}
            _check_ids(ids, f"{file}: {name}")
            source.ids[name] = {k: _read_table(name, f"{file}: {name}.{k}", v) for k, v in ids.items()}
            table = {key: value for key, value in table.items() if key not in ids}
        source.sections[name] = _read_table(name, f"{file}: {name}", table)
    return source


def _check_ids(ids: Iterable[str], place: str) -> None:
    for identifier in ids:
        if ID.fullmatch(identifier) is None:
            raise SettingsError(f"{place}.{identifier!r}: is not an ID: use letters, digits, '_', '-' and '.'")


def _read_table(section: str, place: str, table: dict[str, Any]) -> Section:
    fields = {k: v for k, v in SECTIONS[section].model_fields.items() if k not in {"id", "bus"}}
    old = {key: new for (name, key), new in _OLD_SPELLINGS.items() if name == section}
    for key, value in table.items():
        if key not in fields and key not in old:
            raise SettingsError(f"{place}.{key}: no such setting: {remedy(key, fields, 'remove it')}")
        _check_type(fields[old.get(key, key)], value, f"{place}.{key}")
    renamed = {old[key]: Given(value, f"{place}.{key}") for key, value in table.items() if key in old}
    return renamed | {key: Given(value, f"{place}.{key}") for key, value in table.items() if key not in old}


def _check_type(info: FieldInfo, value: object, place: str) -> None:
    # TOML has types, so "30" is as wrong for a number as 8000 is for an address; Pydantic would bend both.
    if info.annotation in {int, float}:
        good, kind = (
            isinstance(value, (int, float)) and not isinstance(value, bool),
            "a number, without quotes",
        )
    elif info.annotation in (bool, bool | None):
        good, kind = (
            isinstance(value, bool) or (value == "" and info.annotation is not bool),
            "true or false, without quotes",
        )
    elif get_origin(info.annotation) is dict:
        good, kind = isinstance(value, dict), 'a table, such as { name = "text" }'
    else:
        good, kind = isinstance(value, str), "a text in quotes"
    if not good:
        raise SettingsError(f"{place}: {value!r} has the wrong type: write {kind}")


def remedy(name: str, known: Iterable[str], otherwise: str) -> str:
    """Say what was meant, as far as it can be guessed."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"{otherwise}, or use one of {', '.join(known)}"


def one_line(message: object) -> str:
    """Join the lines of a message."""
    return " ".join(str(message).split())
