"""What a route takes and answers, said beside its function, for `/openapi.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel
from starlette.routing import BaseRoute, Route

OCTETS: Final = "application/octet-stream"
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
_MARK: Final = "__operations__"
_Function = TypeVar("_Function", bound=Callable[..., Any])
Who = Literal["anyone", "user", "superuser"]


class Detail(BaseModel):
    """Every error: one line that names the input and the remedy, or a list or an object as upstream has them."""

    detail: str | list[dict[str, Any]] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query.

    Attributes:
        about: what it says.
        type: its type.
        required: whether the route answers 4xx without it.
    """

    about: str
    type: Any = str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        about: what it is.
        type: the type that JSON is made of; None if there is none.
        media: the types of its content; "" is no content.
    """

    about: str
    type: Any = None
    media: tuple[str, ...] = (JSON,)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route takes and answers with one method.

    Attributes:
        answers: the good answers by status; and others that have a form of their own.
        errors: the statuses of the errors that it can answer with, beside those of every route.
        query: the parameters of the query.
        body: the type that the body is read with.
        media: the type of the body's content.
        who: who may ask.
        summary: what it does; the first line of the function's docstring, if left out.
    """

    answers: Mapping[int, Answer]
    errors: tuple[int, ...] = ()
    query: Mapping[str, Parameter] = field(default_factory=dict)
    body: Any = None
    media: str = JSON
    who: Who = "anyone"
    summary: str = ""


NO_CONTENT: Final = Answer("done", media=())


def described(operation: Operation, *methods: str) -> Callable[[_Function], _Function]:
    """Describe what the function of a route takes and answers.

    Args:
        operation: the description.
        methods: those that it is of; all that the route has, if left out.
    """

    def mark(function: _Function) -> _Function:
        known = dict(getattr(function, _MARK, {}))
        setattr(function, _MARK, known | dict.fromkeys(methods or ("*",), operation))
        return function

    return mark


def operation_of(route: BaseRoute, method: str) -> Operation | None:
    """The description of a route with a method; None if it has none."""
    known = getattr(route.endpoint, _MARK, {}) if isinstance(route, Route) else {}
    found: Operation | None = known.get(method, known.get("*"))
    return found


def parameters_of(model: type[BaseModel], about: Mapping[str, str]) -> dict[str, Parameter]:
    """The parameters of a query that may hold what the model of a body does, each as text."""
    return {name: Parameter(about[name], str) for name in model.model_fields}
