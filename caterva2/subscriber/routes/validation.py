"""Bodies of the routes for users, and what is wrong with them, said as upstream says it: 422 with a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from caterva2.daemon.http import json_response, read_body

_Body = TypeVar("_Body", bound=BaseModel)
_MOST_BODY = 16 * 1024


class LoginForm(BaseModel):
    """The form of `POST /auth/jwt/login`; what else upstream takes there means nothing."""

    username: str
    password: str


class UserAnswer(BaseModel):
    """A user as others see it."""

    model_config = ConfigDict(frozen=True)

    id: str
    email: str
    is_active: bool
    is_superuser: bool
    is_verified: bool


class RegisterBody(BaseModel):
    """The body of `POST /auth/register`; what else upstream takes there, such as is_superuser, means nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    email: str
    password: str


class PasswordBody(BaseModel):
    """The body of `POST /auth/password`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    password: str
    new_password: str


class AddUserBody(BaseModel):
    """The body of `POST /api/adduser/`.

    Attributes:
        username: the e-mail address.
        password: None to have one made.
        superuser: whether the user may manage the others.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    username: str
    password: str | None = None
    superuser: bool = False


async def read_valid(request: Request, model: type[_Body]) -> _Body | Response:
    """Read a body of JSON; a response says what is wrong with it."""
    body = await read_body(request, _MOST_BODY)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        # Without what was given, which may be a password.
        found = error.errors(include_url=False, include_context=False, include_input=False)
    return json_response({"detail": [{**each, "loc": ["body", *each["loc"]], "input": None} for each in found]}, 422)


def missing(names: Sequence[str]) -> Response:
    """Say that fields of a form are missing."""
    details = [{"type": "missing", "loc": ["body", name], "msg": "Field required", "input": None} for name in names]
    return json_response({"detail": details}, 422)


def invalid(name: str, message: str) -> Response:
    """Say that a field cannot be used."""
    return json_response({"detail": [{"type": "value_error", "loc": ["body", name], "msg": message}]}, 422)
