"""Managing users, for superusers; upstream's routes."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.described import Answer, Operation, Parameter, described
from caterva2.daemon.http import json_response
from caterva2.errors import BadRequestError
from caterva2.subscriber.routes.login import user_answer
from caterva2.subscriber.routes.outcomes import USERS
from caterva2.subscriber.routes.state import State, state_of
from caterva2.subscriber.routes.validation import AddUserBody, UserAnswer, read_valid
from caterva2.subscriber.routes.writing import in_thread
from caterva2.subscriber.users import NoSuchUserError, TooManyUsersError, UserExistsError

_NO_STORE = {"Cache-Control": "no-store"}


@described(Operation({200: Answer("what was done", str)}, USERS, body=AddUserBody, who="superuser"))
async def add(request: Request) -> Response:
    """`POST /api/adduser/`: add a user; the password that is made where none was given is in the answer."""
    state = await _for_superuser(request)
    body = await read_valid(request, AddUserBody)
    if isinstance(body, Response):
        return body
    made = secrets.token_urlsafe(12) if body.password is None else ""
    try:
        user = await state.users.add(body.username, made or body.password or "", superuser=body.superuser)
    except (BadRequestError, UserExistsError, TooManyUsersError) as error:
        kind = "UserAlreadyExists: " if isinstance(error, UserExistsError) else ""
        raise BadRequestError(f"Error in adding {body.username[:80]}: {kind}{error}") from None
    password = f" password={made!r}" if made else ""
    return json_response(f"User added: username={user.email!r}{password} superuser={user.superuser}", headers=_NO_STORE)


@described(Operation({200: Answer("what was done", str)}, USERS, who="superuser"))
async def remove(request: Request) -> Response:
    """`GET /api/deluser/{username}`: remove a user with its sessions and its `@personal`; POST does the same."""
    state = await _for_superuser(request)
    # It is a GET because upstream's is, so that a mere link could do it.
    state.callers.check_origin(request)
    username = request.path_params["username"]
    try:
        user = await state.users.remove(username)
    except NoSuchUserError:
        raise BadRequestError(f"Error in deleting {username[:80]}: UserNotExists") from None
    await in_thread(state, state.writes.forget, user.id)
    return json_response(f"User deleted: {username}", headers=_NO_STORE)


@described(
    Operation(
        {200: Answer("the users", list[UserAnswer])},
        USERS,
        {"username": Parameter("the e-mail address of the only one to list")},
        who="superuser",
    )
)
async def get_list(request: Request) -> Response:
    """`GET /api/listusers/?username=`: all users, or the one of this address."""
    state = await _for_superuser(request)
    found = await state.users.users(request.query_params.get("username") or None)
    return json_response([user_answer(user) for user in found], headers=_NO_STORE)


async def _for_superuser(request: Request) -> State:
    state = state_of(request)
    state.permissions.check_superuser(await state.callers.caller(request))
    return state


ROUTES = (
    Route("/api/adduser/", add, methods=["POST"]),
    Route("/api/deluser/{username}", remove, methods=["GET", "POST"]),
    Route("/api/listusers/", get_list),
)
