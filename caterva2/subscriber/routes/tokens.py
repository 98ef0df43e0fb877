"""Access tokens for scripts, and links for another password."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from anyio import to_thread
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.described import NO_CONTENT, Answer, Operation, described
from caterva2.daemon.http import detail_response, json_response
from caterva2.errors import AuthenticationError, BadRequestError, ForbiddenError, NotFoundError
from caterva2.subscriber.accounts import RESET_LIFETIME
from caterva2.subscriber.callers import Caller
from caterva2.subscriber.mail import Mailer
from caterva2.subscriber.passwords import check_new_password
from caterva2.subscriber.routes.identity import address_of
from caterva2.subscriber.routes.outcomes import USERS
from caterva2.subscriber.routes.state import State, state_of
from caterva2.subscriber.routes.validation import read_valid
from caterva2.subscriber.users import AccessToken, NoSuchUserError

_NO_STORE = {"Cache-Control": "no-store"}
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class TokenBody(BaseModel):
    """The body of `POST /auth/tokens`.

    Attributes:
        name: what the token is for.
        days: for how long it holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Name
    days: Annotated[int, Field(ge=1, le=366)] = 90


class EmailBody(BaseModel):
    """The body of `POST /auth/reset-link` and `POST /auth/forgot-password`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    email: str


class ResetBody(BaseModel):
    """The body of `POST /auth/reset-password`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    token: str
    password: str


class TokenAnswer(BaseModel):
    """An access token, without itself; times are ISO 8601, and `used` is when it last was."""

    id: str
    name: str
    created: str
    expires: str
    used: str | None


class MadeToken(TokenAnswer):
    """An access token that was just made."""

    token: str


class LinkAnswer(BaseModel):
    """A link with which a user sets another password, once, within some hours."""

    email: str
    link: str
    hours: float


@described(Operation({201: Answer("the token", MadeToken)}, USERS, body=TokenBody, who="user"))
async def add_token(request: Request) -> Response:
    """`POST /auth/tokens`: make an access token; the answer, 201, is the only time that it is told."""
    state, caller = await _owner(request)
    body = await read_valid(request, TokenBody)
    if isinstance(body, Response):
        return body
    kept, token = await state.users.add_token(caller, body.name, body.days)
    return json_response(MadeToken(**_described(kept).model_dump(), token=token), 201, _NO_STORE)


@described(Operation({200: Answer("the tokens", list[TokenAnswer])}, USERS, who="user"))
async def list_tokens(request: Request) -> Response:
    """`GET /auth/tokens`: the access tokens of the user, without the tokens themselves."""
    state, caller = await _owner(request)
    return json_response([_described(each) for each in await state.users.tokens(caller)], headers=_NO_STORE)


@described(Operation({204: NO_CONTENT}, USERS, who="user"))
async def remove_token(request: Request) -> Response:
    """`DELETE /auth/tokens/{id}`: revoke an access token, at once."""
    state, caller = await _owner(request)
    identifier = request.path_params["id"]
    if not await state.users.remove_token(caller, identifier):
        raise NotFoundError(f"there is no token {identifier[:80]!r}: list them with GET /auth/tokens")
    return Response(status_code=204, headers=_NO_STORE)


@described(Operation({200: Answer("the link", LinkAnswer)}, USERS, body=EmailBody, who="superuser"))
async def make_link(request: Request) -> Response:
    """`POST /auth/reset-link`: for a superuser, a link with which a user can set another password, once."""
    state = state_of(request)
    state.permissions.check_superuser(await state.callers.caller(request))
    body = await read_valid(request, EmailBody)
    if isinstance(body, Response):
        return body
    try:
        user, secret = await state.users.open_reset(body.email)
    except NoSuchUserError as error:
        raise BadRequestError(str(error)) from None
    base = state.settings.urlbase or str(request.base_url).rstrip("/")
    hours = RESET_LIFETIME / 3600
    return json_response(LinkAnswer(email=user.email, link=_link(base, secret), hours=hours), headers=_NO_STORE)


@described(Operation({202: Answer("it was asked for", None)}, USERS, body=EmailBody))
async def forgot_password(request: Request) -> Response:
    """`POST /auth/forgot-password`: mail such a link to the user, if there is one; 202 in any case."""
    state = state_of(request)
    if (mailer := state.mailer) is None:
        raise NotFoundError("this subscriber sends no mail: ask one of its superusers for a link")
    state.callers.check_origin(request)
    body = await read_valid(request, EmailBody)
    if isinstance(body, Response):
        return body
    state.users.count_reset(body.email, address_of(request))
    # Afterwards, so that the time that it takes tells nobody whether there is such a user.
    later = BackgroundTask(_mail, state, mailer, body.email)
    return Response(b"null", 202, _NO_STORE, "application/json", later)


@described(Operation({200: Answer("it is set", None)}, USERS, body=ResetBody))
async def reset_password(request: Request) -> Response:
    """`POST /auth/reset-password`: set another password with the secret of a link; all sessions of the user end."""
    state = state_of(request)
    state.callers.check_origin(request)
    body = await read_valid(request, ResetBody)
    if isinstance(body, Response):
        return body
    try:
        check_new_password(body.password)
    except BadRequestError as error:
        return json_response({"detail": {"code": "RESET_PASSWORD_INVALID_PASSWORD", "reason": str(error)}}, 400)
    if await state.users.reset(body.token, body.password, address_of(request)) is None:
        return detail_response("RESET_PASSWORD_BAD_TOKEN", 400, _NO_STORE)
    return json_response(None, headers=_NO_STORE)


async def _mail(state: State, mailer: Mailer, email: str) -> None:
    try:
        user, secret = await state.users.open_reset(email)
    except NoSuchUserError:
        return
    link = _link(mailer.urlbase, secret)
    # In a thread of its own: a server that does not answer would keep those that reads wait for.
    await to_thread.run_sync(mailer.send_reset, user.email, link, limiter=state.mailing)


def _link(urlbase: str, secret: str) -> str:
    # Behind the hash, so that no proxy and no log has it.
    return f"{urlbase}/reset-password#{secret}"


async def _owner(request: Request) -> tuple[State, Caller]:
    """Who has logged in; a token makes no tokens, or one that was stolen could not be got rid of."""
    state = state_of(request)
    caller = await state.callers.caller(request)
    if not caller.known:
        raise AuthenticationError("Unauthorized")
    if caller.scripted:
        raise ForbiddenError("an access token is for data, not for accounts: log in with your password")
    return state, caller


def _described(token: AccessToken) -> TokenAnswer:
    return TokenAnswer(
        id=token.id,
        name=token.name,
        created=_time(token.created),
        expires=_time(token.expires),
        used=_time(token.used) if token.used is not None else None,
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


ROUTES = (
    Route("/auth/tokens", add_token, methods=["POST"]),
    Route("/auth/tokens", list_tokens),
    Route("/auth/tokens/{id}", remove_token, methods=["DELETE"]),
    Route("/auth/reset-link", make_link, methods=["POST"]),
    Route("/auth/forgot-password", forgot_password, methods=["POST"]),
    Route("/auth/reset-password", reset_password, methods=["POST"]),
)
