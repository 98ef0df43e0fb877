"""Arrays that are made of others, one after the other: computed as an expression, and kept."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caterva2.daemon.described import Answer, Operation, described
from caterva2.errors import BadRequestError
from caterva2.paths import DatasetPath
from caterva2.subscriber.definitions import Definition
from caterva2.subscriber.routes.lazyarrays import keep_values
from caterva2.subscriber.routes.outcomes import WRITING
from caterva2.subscriber.routes.validation import read_valid
from caterva2.subscriber.routes.writing import any_writer


class JoinBody(BaseModel):
    """The body of `POST /api/concat/` and `POST /api/stack/`.

    Attributes:
        srcs: the paths of the arrays, in their order.
        dst: the path of the new array.
        axis: the axis along which they are joined; that of `stack` is a new one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    srcs: list[str] = Field(min_length=1, max_length=256)
    dst: str
    axis: int


@described(Operation({200: Answer("the path of the new array", str)}, WRITING, body=JoinBody, who="user"))
async def concat(request: Request) -> Response:
    """`POST /api/concat/`: join arrays along an axis that they have; the answer is the path of the new one."""
    return await _join(request, "concat")


@described(Operation({200: Answer("the path of the new array", str)}, WRITING, body=JoinBody, who="user"))
async def stack(request: Request) -> Response:
    """`POST /api/stack/`: join arrays along a new axis; the answer is the path of the new one."""
    return await _join(request, "stack")


async def _join(request: Request, function: str) -> Response:
    state, caller = await any_writer(request)
    body = await read_valid(request, JoinBody)
    if isinstance(body, Response):
        return body
    path = DatasetPath.parse(body.dst)
    state.permissions.check(caller, "write", path)
    if not path.name.endswith(".b2nd"):
        raise BadRequestError(f"{path} is no name of an array: give one that ends in .b2nd")
    # Each dataset is one operand, however often it is named.
    names = {src: f"a{n}" for n, src in enumerate(dict.fromkeys(body.srcs))}
    arrays = ", ".join(names[src] for src in body.srcs)
    text = f"{function}([{arrays}], axis={body.axis})"
    definition = Definition.of(text, {name: src for src, name in names.items()})
    return await keep_values(request, state, caller, path, definition)


ROUTES = (
    Route("/api/concat/", concat, methods=["POST"]),
    Route("/api/stack/", stack, methods=["POST"]),
)
