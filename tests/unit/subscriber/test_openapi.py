"""The OpenAPI document says what the code does: all routes, with the parameters and bodies that are read."""

import inspect
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from types import ModuleType
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.apipage import page_of
from caterva2.daemon.described import Operation, operation_of
from caterva2.daemon.openapi import described_routes
from caterva2.subscriber.routes import (
    datasets,
    docs,
    events,
    joins,
    lazyarrays,
    login,
    pages,
    roots,
    routes,
    status,
    tokens,
    users,
    verify,
    writing,
)
from caterva2.subscriber.routes.docs import openapi_of
from caterva2.subscriber.routes.identity import COOKIE

MODULES = [datasets, docs, events, joins, lazyarrays, login, pages, roots, status, tokens, users, verify, writing]
READ_QUERY = re.compile(r'(?:query_params(?:\.get\(|\[)|flag_of\(request, )"(\w+)"')
READ_BODY = re.compile(r"read_(?:json|valid)\(request, (\w+)")


def operations(module: ModuleType) -> Iterator[Operation]:
    """The descriptions of a module's routes."""
    return (operation for _, _, operation in described_routes(module.ROUTES))


def test_every_route_is_there() -> None:
    """Every route is in the document with each of its methods, and has words of its own."""
    found = openapi_of(routes(with_users=True))["paths"]

    expected = {
        (re.sub(r":\w+\}", "}", route.path), method.lower())
        for route in routes(with_users=True)
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert expected == {(path, method) for path, each in found.items() for method in each}
    assert [] == [path for path, each in found.items() for one in each.values() if not one["summary"].strip("`")]
    assert len(expected) == len({one["operationId"] for each in found.values() for one in each.values()})


def test_no_module_is_missing() -> None:
    """The modules that are looked at here have all routes."""
    assert {id(route) for route in routes(with_users=True)} == {
        id(route) for module in MODULES for route in module.ROUTES
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_what_is_read_is_described(module: ModuleType) -> None:
    """The parameters and bodies that a module's functions read are those that its descriptions name."""
    source = inspect.getsource(module)
    read = {*READ_QUERY.findall(source)} | ({*datasets.FetchBody.model_fields} if module is datasets else set())
    bodies = {*READ_BODY.findall(source)}

    told = list(operations(module))
    assert read == {name for operation in told for name in operation.query}
    # Forms are read by their own functions.
    assert bodies == {one.body.__name__ for one in told if one.body and one.media == "application/json"}


def test_what_to_write() -> None:
    """A route without a description is refused with a line that says what to write, and where."""

    async def bare(_request: Request) -> Response:
        raise NotImplementedError

    with pytest.raises(
        LookupError, match=r"^POST /x is not described: write @described\(Operation\(.*\)\) above .*bare$"
    ):
        list(described_routes([Route("/x", bare, methods=["POST"])]))
    assert None is operation_of(Route("/x", bare), "GET")


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _references(each)


def test_references() -> None:
    """Each schema that is referred to is there, and each that is there is referred to."""
    made = openapi_of(routes(with_users=True))

    names = {f"#/components/schemas/{name}" for name in made["components"]["schemas"]}
    assert names == {*_references(made)}
    assert {"ArrayInfo", "FetchBody", "Detail", "UserAnswer"} <= made["components"]["schemas"].keys()


def test_users() -> None:
    """Without users their routes are not in the document; with them it says who may ask."""
    assert "/api/listusers/" not in openapi_of(routes(with_users=False))["paths"]
    made = openapi_of(routes(with_users=True))
    paths = made["paths"]
    assert [{"cookie": []}, {"bearer": []}] == paths["/api/upload/{path}"]["post"]["security"]
    assert {} in paths["/api/info/{path}"]["get"]["security"]
    assert COOKIE == made["components"]["securitySchemes"]["cookie"]["name"]


class _Tags(HTMLParser):
    """The tags of a page, and where they lead."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.targets: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets |= {value or "" for name, value in attrs if name in {"href", "src"}}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page() -> None:
    """The page has every route, in HTML that runs nothing, and takes nothing from elsewhere."""
    made = openapi_of(routes(with_users=True))
    made["info"]["description"] = "<script>alert(1)</script>"
    page = _Tags()
    page.feed(page_of(made, "docs/style.css", "openapi.json"))

    assert [] == [path for path in made["paths"] if path not in page.text]
    places = {f"#{name}" for name in made["components"]["schemas"]}
    assert {"docs/style.css", "openapi.json", "#FetchBody"} <= page.targets
    assert page.targets - places == {"docs/style.css", "openapi.json"}
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text


def test_an_empty_app() -> None:
    """An app without routes has a document too."""
    about = docs.openapi_of([])

    assert {} == about["paths"]
    assert "3.1.0" == about["openapi"]
