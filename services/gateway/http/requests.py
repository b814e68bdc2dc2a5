"""What every request goes through: who asks, may they, and a body that is small, valid JSON."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from psycopg.errors import QueryCanceled
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.auth import KeyRing, Principal
from services.gateway.http.errors import (
    BodyTooLarge,
    Forbidden,
    Malformed,
    NotReady,
    RequestRefused,
    Unauthorized,
    invalid_fields,
    refusal_response,
)
from services.gateway.settings import Settings
from services.gateway.streams.hub import Hub
from shared.bus.amqp.queue_stats import QueueFigures
from shared.bus.tracing import tracing
from shared.bus.unit_of_work import ServiceContext
from shared.storage.errors import is_transient

MAX_BODY_BYTES = 64 * 1024
#: A larger body is read on and thrown away up to this size, so that the sender sees the refusal.
DRAIN_BYTES = 32 * 1024 * 1024
COOKIE = "paperprofit_session"

#: Who asks where no key is needed.
NOBODY = Principal("", UUID(int=0), frozenset())

Model = TypeVar("Model")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Gateway:
    """What the handlers work with. ``queue_figures`` asks the broker; None where it cannot be asked."""

    context: ServiceContext
    hub: Hub
    settings: Settings
    keys: KeyRing
    queue_figures: Callable[[], Sequence[QueueFigures]] | None = None


Handler = Callable[[Gateway, Request, Principal], Awaitable[Response]]


def guarded(handler: Handler, scope: str | None) -> Callable[[Request], Awaitable[Response]]:
    """The handler behind a key of this scope, open to all without one; what it refuses becomes the answer.

    Each request is part of a trace.
    """

    async def endpoint(request: Request) -> Response:
        with tracing(request.headers.get("traceparent")) as traceparent:
            answer = await answered(request)
        answer.headers["traceparent"] = traceparent
        return answer

    async def answered(request: Request) -> Response:
        gateway: Gateway = request.app.state.gateway
        try:
            _refuse_nul(request)
            principal = NOBODY if scope is None else await run_in_threadpool(authenticate, gateway, request)
            if scope is not None and scope not in principal.scopes:
                raise Forbidden(f"this key may not {scope}")
            return await handler(gateway, request, principal)
        except RequestRefused as refused:
            return refusal_response(request, refused)
        except SQLAlchemyError as error:
            return refusal_response(request, _not_ready(error))

    return endpoint


def _not_ready(error: SQLAlchemyError) -> NotReady:
    """What passes by itself, or with a smaller question; any other error is raised on."""
    if isinstance(getattr(error, "orig", None), QueryCanceled):
        return NotReady("the answer took too long to find; ask for less, such as a shorter time")
    if not is_transient(error):
        raise error
    return NotReady("the database or a service is not ready; try again in a moment")


def _refuse_nul(request: Request) -> None:
    """No row can hold a NUL, so nothing can be found under one."""
    if "\0" in request.scope["path"] or any("\0" in value for value in request.query_params.values()):
        raise Malformed("the address holds a NUL character")


def authenticate(gateway: Gateway, request: Request) -> Principal:
    """The key of the headers, or the session of the cookie."""
    key_id = request.headers.get("APCA-API-KEY-ID", "")
    secret = request.headers.get("APCA-API-SECRET-KEY", "")
    token = request.cookies.get(COOKIE, "")
    principal = None
    if key_id and secret:
        principal = gateway.keys.verify(key_id[:64], secret[:200])
    elif token:
        principal = gateway.keys.session(token, gateway.context.clock())
    if principal is None:
        raise Unauthorized("request is not authorized: send a valid APCA-API-KEY-ID and APCA-API-SECRET-KEY")
    return principal


async def read(
    gateway: Gateway,
    query: Callable[Concatenate[Connection, Arguments], Result],
    *arguments: Arguments.args,
    **options: Arguments.kwargs,
) -> Result:
    """Run a query of the store on a thread, in a transaction of its own."""

    def run() -> Result:
        with gateway.context.engine.begin() as connection:
            return query(connection, *arguments, **options)

    return await run_in_threadpool(run)


async def read_body(request: Request, model: TypeAdapter[Model], *, needed: bool = True) -> Model:
    """The body as this model; a wrong field is named. None is validated where it is empty and may be."""
    body = await _read(request)
    if not body and not needed:
        return validated(model, None)
    try:
        fields = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not valid JSON: {error}") from None
    return validated(model, fields)


def validated(model: TypeAdapter[Model], fields: Any) -> Model:
    try:
        return model.validate_python(fields)
    except ValidationError as error:
        raise invalid_fields(error) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


async def _read(request: Request) -> bytes:
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            body += chunk
        elif size > DRAIN_BYTES:
            break
    if size > MAX_BODY_BYTES:
        raise BodyTooLarge(f"body: larger than {MAX_BODY_BYTES} bytes", field="body")
    return bytes(body)
