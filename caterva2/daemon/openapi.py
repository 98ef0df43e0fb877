"""The OpenAPI document of an app, made from its routes, their descriptions and the models of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from starlette.routing import BaseRoute, Route

from caterva2.daemon.described import JSON, Answer, Detail, Operation, operation_of

# Any request can meet these: too many connections or logins, a daemon that is about to stop.
_EVERYWHERE: Final = (503,)
_ABOUT: Final = {
    304: "the client has this version already (`If-None-Match`)",
    400: "the request makes no sense",
    401: "a login is needed, or the token does not hold",
    403: "the user may not do this, or a page of another site sent it",
    404: "there is no such thing",
    409: "it contradicts what is there",
    412: "the dataset is no longer at the version that was asked for",
    413: "more than is taken or made here",
    416: "outside of the file",
    422: "the content is not of the right form",
    429: "too many attempts; `Retry-After` says when to try again",
    502: "a publisher answered with something that makes no sense",
    503: "not now; `Retry-After` says when to try again",
    507: "no room is left",
}
_CONVERTER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_BEFORE: Final = re.compile(r"^`[^`]*`[^:]*: ")
_SCHEMAS: Final = "#/components/schemas/{model}"
_Key = tuple[str, JsonSchemaMode]


@dataclass(frozen=True, slots=True)
class About:
    """What the document says of the app as a whole.

    Attributes:
        title: its name.
        version: its version.
        text: what a reader must know first.
        path: what each parameter in a path is, by its name.
        cookie: the name of the cookie of a login.
    """

    title: str
    version: str
    text: str
    path: Mapping[str, str]
    cookie: str


def described_routes(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str, Operation]]:
    """The method, the path and the description of each route, without HEAD, which every GET has.

    Raises:
        LookupError: if a route has none.
    """
    for route in routes:
        assert isinstance(route, Route)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            operation = operation_of(route, method)
            if operation is None:
                name = getattr(route.endpoint, "__qualname__", route.endpoint)
                raise LookupError(
                    f"{method} {route.path} is not described: write @described(Operation(...)) above {name}"
                )
            yield method, route.path, operation


def document(routes: Sequence[BaseRoute], about: About) -> dict[str, Any]:
    """Make the document of all routes."""
    found = list(described_routes(routes))
    schemas = _Schemas([operation for _, _, operation in found])
    summaries = {
        (method, route.path): _summary(route)
        for route in routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    paths: dict[str, dict[str, Any]] = {}
    for method, path, operation in found:
        text = operation.summary or summaries[method, path]
        made = _operation(path, method, operation, text, about, schemas)
        paths.setdefault(_CONVERTER.sub(r"{\1}", path), {})[method.lower()] = made
    return {
        "openapi": "3.1.0",
        "info": {"title": about.title, "version": about.version, "description": about.text},
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "securitySchemes": {
                "cookie": {"type": "apiKey", "in": "cookie", "name": about.cookie},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


class _Schemas:
    """The JSON schemas of all types that operations name."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        wanted: dict[_Key, tuple[_Key, JsonSchemaMode, TypeAdapter[Any]]] = {}
        for type_, mode in _types(operations):
            key: _Key = (repr(type_), mode)
            wanted[key] = (key, mode, TypeAdapter(type_))
        self._found, definitions = TypeAdapter.json_schemas(list(wanted.values()), ref_template=_SCHEMAS)
        self.definitions: dict[str, Any] = definitions.get("$defs", {})

    def of(self, type_: Any, mode: JsonSchemaMode) -> dict[str, Any]:
        """The schema of a type."""
        return dict(self._found[(repr(type_), mode), mode])


def _types(operations: Sequence[Operation]) -> Iterator[tuple[Any, JsonSchemaMode]]:
    yield Detail, "serialization"
    for operation in operations:
        if operation.body is not None:
            yield operation.body, "validation"
        for answer in operation.answers.values():
            if answer.type is not None:
                yield answer.type, "serialization"
        for parameter in operation.query.values():
            yield parameter.type, "validation"


def _operation(
    path: str, method: str, operation: Operation, summary: str, about: About, schemas: _Schemas
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": "_".join([method.lower(), *re.findall(r"\w+", _CONVERTER.sub(r"by_\1", path))]),
        "summary": summary,
        "security": [*([{}] if operation.who == "anyone" else []), {"cookie": []}, {"bearer": []}],
        "parameters": [*_in_path(path, about), *_in_query(operation, schemas)],
        "responses": _answers(operation, schemas),
    }
    if operation.who == "superuser":
        made["description"] = "Only for superusers."
    if operation.body is not None:
        content = {operation.media: {"schema": schemas.of(operation.body, "validation")}}
        made["requestBody"] = {"required": True, "content": content}
    return made


def _in_path(path: str, about: About) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "description": about.path[name], "schema": {"type": "string"}}
        for name in _CONVERTER.findall(path)
    ]


def _in_query(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": parameter.required,
            "description": parameter.about,
            "schema": schemas.of(parameter.type, "validation"),
        }
        for name, parameter in operation.query.items()
    ]


def _answers(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    error = {JSON: {"schema": schemas.of(Detail, "serialization")}}
    errors = {*operation.errors, *_EVERYWHERE} - operation.answers.keys()
    made = {status: _answer(answer, schemas) for status, answer in operation.answers.items()}
    made |= {
        status: {"description": _ABOUT[status]} | ({"content": error} if status >= 400 else {}) for status in errors
    }
    return {str(status): made[status] for status in sorted(made)}


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    if not answer.media:
        return {"description": answer.about}
    schema = {} if answer.type is None else {"schema": schemas.of(answer.type, "serialization")}
    return {"description": answer.about, "content": dict.fromkeys(answer.media, schema)}


def _summary(route: Route) -> str:
    """What the docstring says after the method and path, which come first there, in backquotes."""
    line = (route.endpoint.__doc__ or "").partition("\n")[0]
    text = _BEFORE.sub("", line)
    return text[:1].upper() + text[1:]
