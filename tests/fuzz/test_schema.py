"""Schemathesis asks a live subscriber what its OpenAPI document says can be asked, and what it says cannot.

Every answer must be none of a server's errors, and of a status, a type and a form that the document has. In CI there
are a few requests for each route and caller, the same each time; `make fuzz` sends more of them.
"""

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import blosc2
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from caterva2.subscriber.routes import routes
from caterva2.subscriber.routes.docs import openapi_of
from caterva2.subscriber.sessions import Sessions
from caterva2.subscriber.users import FILE, UserStore
from tests.integration.chain.daemons import ROOT, Chain, add_users, running_chain

SECRET = "c2sikrit-of-the-tests"
USER, ADMIN = "user@example.com", "admin@example.com"
EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "6"))
# Its answer has no end; tests/integration/chain/test_events.py asks for it.
ENDLESS = "/api/events"
PATHS = [ROOT, f"{ROOT}/a.b2nd", f"{ROOT}/rows.b2nd", "@public", "@public/a.b2nd", "@shared/b", "@personal/dir/a.b2nd"]
NAMES = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]


def _operations() -> list[str]:
    paths = openapi_of(routes(with_users=True))["paths"]
    return [f"{method.upper()} {path}" for path, each in paths.items() for method in each if path != ENDLESS]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain with something to read, and users."""
    directory = tmp_path_factory.mktemp("schema")
    (directory / ROOT).mkdir()
    blosc2.asarray(np.arange(100).reshape(10, 10), urlpath=str(directory / ROOT / "a.b2nd"), mode="w")
    rows = np.zeros(20, dtype=[("a", "i4"), ("b", "f8")])
    blosc2.asarray(rows, urlpath=str(directory / ROOT / "rows.b2nd"), mode="w")
    with running_chain(directory, secret=SECRET, register=True, maxusers=20) as chain:
        add_users(chain, USER, superusers=[ADMIN])
        yield chain


def _headers(chain: Chain, mail: str | None) -> dict[str, str]:
    if mail is None:
        return {}
    # A login might be refused: many of the requests here are failed ones.
    with UserStore(chain.subscriber.settings.statedir / FILE) as store:
        user = store.find(mail)
        assert user is not None
        return {"authorization": f"Bearer {Sessions(SECRET, store).begin(user)}"}


def _on_a_real_path(case: Case, path: str) -> Case:
    if "path" in case.path_parameters:
        case.path_parameters["path"] = quote(path, safe="")
    return case


def _cases(operation: Any) -> st.SearchStrategy[Case]:
    good = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    real = st.builds(_on_a_real_path, good, st.sampled_from(PATHS))
    return st.one_of(real, good, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))


@pytest.mark.parametrize("mail", [None, USER, ADMIN], ids=["nobody", "user", "superuser"])
@pytest.mark.parametrize("name", _operations())
def test_as_described(chain: Chain, name: str, mail: str | None) -> None:
    """Whatever is sent to a route, the answer is as described, and no error of the server."""
    load_all_checks()
    checks = CHECKS.get_by_names(NAMES)
    method, path = name.split(" ")
    schema = schemathesis.openapi.from_dict(openapi_of(routes(with_users=True)))
    schema.config.update(base_url=chain.subscriber.url)
    headers = _headers(chain, mail)

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=_cases(schema[path][method]))
    def ask(case: Case) -> None:
        answer = case.call(headers=headers, timeout=20)
        case.validate_response(answer, checks=checks)

    ask()


def test_all_are_well(chain: Chain) -> None:
    """After all that it answers as before."""
    chain.assert_well()
