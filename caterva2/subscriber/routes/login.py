"""Logging in and out, and registering; upstream's routes, which its client and `blosc2.C2Array` use."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.described import FORM, NO_CONTENT, Answer, Operation, described
from caterva2.daemon.http import detail_response, json_response, read_body
from caterva2.errors import AuthenticationError, BadRequestError, ForbiddenError, NotFoundError
from caterva2.subscriber.passwords import check_new_password
from caterva2.subscriber.routes.identity import COOKIE, address_of, token_of
from caterva2.subscriber.routes.outcomes import USERS
from caterva2.subscriber.routes.state import State, state_of
from caterva2.subscriber.routes.validation import (
    LoginForm,
    PasswordBody,
    RegisterBody,
    UserAnswer,
    invalid,
    missing,
    read_valid,
)
from caterva2.subscriber.users import User, UserExistsError, check_email

_MOST_FORM = 16 * 1024
_FIELDS = tuple(LoginForm.model_fields)
_NO_STORE = {"Cache-Control": "no-store"}


@described(Operation({204: NO_CONTENT}, USERS, body=LoginForm, media=FORM))
async def login(request: Request) -> Response:
    """`POST /auth/jwt/login`, a form with username and password: 204 with the cookie."""
    state = state_of(request)
    state.callers.check_origin(request)
    form = await _form(request)
    if absent := [name for name in _FIELDS if not form.get(name)]:
        return missing(absent)
    token = await state.users.login(form["username"], form["password"], address_of(request))
    if token is None:
        return detail_response("LOGIN_BAD_CREDENTIALS", 400, _NO_STORE)
    return _with_cookie(request, token)


@described(Operation({204: NO_CONTENT}, USERS, who="user"))
async def logout(request: Request) -> Response:
    """`POST /auth/jwt/logout`: ends the token, and takes the cookie back."""
    state, token = state_of(request), token_of(request)
    caller = await state.callers.caller(request)
    if not caller.known or token is None:
        raise AuthenticationError("Unauthorized")
    await state.users.logout(token)
    return _with_cookie(request, "", max_age=0)


@described(Operation({204: NO_CONTENT}, USERS, body=PasswordBody, who="user"))
async def change_password(request: Request) -> Response:
    """`POST /auth/password`: another password for who is logged in; ends all tokens, and sets a new cookie."""
    state = state_of(request)
    caller = await state.callers.caller(request)
    if not caller.known:
        raise AuthenticationError("Unauthorized")
    if caller.scripted:
        raise ForbiddenError("an access token changes no password: log in with your password")
    body = await read_valid(request, PasswordBody)
    if isinstance(body, Response):
        return body
    token = await state.users.change_password(caller, body.password, body.new_password, address_of(request))
    if token is None:
        return detail_response("LOGIN_BAD_CREDENTIALS", 400, _NO_STORE)
    return _with_cookie(request, token)


@described(Operation({201: Answer("the new user", UserAnswer)}, USERS, body=RegisterBody))
async def register(request: Request) -> Response:
    """`POST /auth/register`: adds whoever asks for it as a user, where `register` allows it."""
    state = state_of(request)
    if not state.settings.register:
        raise NotFoundError("Not Found")
    state.callers.check_origin(request)
    body = await read_valid(request, RegisterBody)
    if isinstance(body, Response):
        return body
    try:
        check_email(body.email)
    except BadRequestError as error:
        return invalid("email", f"value is not a valid email address: {error}")
    try:
        check_new_password(body.password)
    except BadRequestError as error:
        return json_response({"detail": {"code": "REGISTER_INVALID_PASSWORD", "reason": str(error)}}, 400)
    try:
        user = await state.users.register(body.email, body.password, address_of(request))
    except UserExistsError:
        return detail_response("REGISTER_USER_ALREADY_EXISTS", 400)
    return json_response(user_answer(user), 201, _NO_STORE)


def user_answer(user: User) -> UserAnswer:
    """A user as others see it."""
    return UserAnswer(
        id=user.id,
        email=user.email,
        is_active=user.active,
        is_superuser=user.superuser,
        is_verified=user.verified,
    )


async def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return {}
    body = await read_body(request, _MOST_FORM)
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))
    except ValueError:
        return {}


def _with_cookie(request: Request, token: str, max_age: int | None = None) -> Response:
    response = Response(status_code=204, headers=_NO_STORE)
    path, secure = _scope(request, state_of(request))
    response.set_cookie(COOKIE, token, max_age, path=path, secure=secure, httponly=True, samesite="lax")
    return response


def _scope(request: Request, state: State) -> tuple[str, bool]:
    """The path that the cookie is for, and whether it must only travel over TLS."""
    urlbase = urlsplit(state.settings.urlbase or "")
    return urlbase.path or "/", "https" in {urlbase.scheme, request.url.scheme}


ROUTES = (
    Route("/auth/jwt/login", login, methods=["POST"]),
    Route("/auth/jwt/logout", logout, methods=["POST"]),
    Route("/auth/password", change_password, methods=["POST"]),
    Route("/auth/register", register, methods=["POST"]),
)
