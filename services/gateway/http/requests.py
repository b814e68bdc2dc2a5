"""Steps of every request: authentication, the scope, a small and valid JSON body, and errors as responses."""

from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args, get_origin
from uuid import UUID

from psycopg.errors import QueryCanceled
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.auth import KeyRing, Principal
from services.gateway.http.errors import (
    BodyTooLarge,
    Forbidden,
    Invalid,
    Malformed,
    NotReady,
    RequestRefused,
    Unauthorized,
    invalid_fields,
    refusal_response,
)
from services.gateway.http.rate_limit import verified
from services.gateway.http.same_origin import check_same_origin
from services.gateway.settings import Settings
from services.gateway.streams.hub import Hub
from shared.bus.amqp.queue_stats import QueueStats
from shared.bus.tracing import tracing
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.written import read_json
from shared.storage.errors import DATABASE_ERRORS, is_transient

MAX_BODY_BYTES = 64 * 1024
#: A larger body is read and discarded up to this size, so that the sender sees the 413.
DRAIN_BYTES = 32 * 1024 * 1024
#: The characters of a parameter's name that an error repeats.
SHOWN = 100

#: The principal of a request to a route that needs no key.
NOBODY = Principal("", UUID(int=0), frozenset())

Model = TypeVar("Model")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Gateway:
    """The dependencies of the handlers. ``queue_figures`` reads the broker's statistics, None if it has no API."""

    context: ServiceContext
    hub: Hub
    settings: Settings
    keys: KeyRing
    queue_figures: Callable[[], Sequence[QueueStats]] | None = None


Handler = Callable[[Gateway, Request, Principal], Awaitable[Response]]


def guarded(handler: Handler, scope: str | None) -> Callable[[Request], Awaitable[Response]]:
    """Wrap the handler: only a key with the scope may call it, and its errors become responses.

    With the scope None, anybody may. Each request is part of a trace. Raises a database error that is not transient.
    """

    async def endpoint(request: Request) -> Response:
        with tracing(request.headers.get("traceparent")) as traceparent:
            response = await respond(request)
        response.headers["traceparent"] = traceparent
        return response

    async def respond(request: Request) -> Response:
        """Call the handler, or return the response for its error. Raises a database error that is not transient."""
        gateway: Gateway = request.app.state.gateway
        try:
            if "\0" in request.scope["path"] or any("\0" in value for _, value in request.query_params.multi_items()):
                raise Malformed("the URL must not contain a NUL character")  # PostgreSQL cannot store one
            if scope is None:
                check_same_origin(request, needed=bool(request.cookies))
            principal = NOBODY if scope is None else await authenticate(gateway, request)
            if scope is not None and not principal.may(scope):
                raise Forbidden(f"this key lacks the scope {scope!r}: use a key that has it")
            return await handler(gateway, request, principal)
        except RequestRefused as refused:
            return refusal_response(request, refused)
        except DATABASE_ERRORS as error:
            if isinstance(getattr(error, "orig", None), QueryCanceled):
                return refusal_response(request, NotReady("query timed out; narrow the time range"))
            if not is_transient(error):
                raise
            return refusal_response(request, NotReady("the database is not ready; retry in a moment"))

    return endpoint


async def authenticate(gateway: Gateway, request: Request) -> Principal:
    """Return the principal of the key in the headers, or of the session cookie, and note the use of the key.

    The key may also stand in ``Authorization: Basic``. Raises Unauthorized if none is valid, and RequestRefused if a
    page of another origin uses the cookie.
    """
    key_id = request.headers.get("APCA-API-KEY-ID", "")
    secret = request.headers.get("APCA-API-SECRET-KEY", "")
    if not (key_id and secret):
        key_id, secret = _basic_key(request.headers.get("Authorization", ""))
    principal = None
    if key_id and secret:
        principal = await verified(gateway.keys, request, key_id[:64], secret[:200])
    elif request.cookies:
        principal = await run_in_threadpool(gateway.keys.signed_in, request.cookies, gateway.context.clock())
        if principal is not None:
            check_same_origin(request)
    if principal is None:
        raise Unauthorized("request is not authorized: send a valid APCA-API-KEY-ID and APCA-API-SECRET-KEY")
    gateway.keys.note_use(principal.key_id, gateway.context.clock())
    return principal


def _basic_key(authorization: str) -> tuple[str, str]:
    """Return the key's id and secret of the header, empty if it has none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        key_id, _, secret = b64decode(encoded.strip()).decode().partition(":")
    except ValueError:
        return "", ""
    return key_id, secret


async def read(
    gateway: Gateway,
    query: Callable[Concatenate[Connection, Arguments], Result],
    *arguments: Arguments.args,
    **options: Arguments.kwargs,
) -> Result:
    """Run a query on a thread, in a transaction of its own."""

    def run() -> Result:
        with gateway.context.engine.begin() as connection:
            return query(connection, *arguments, **options)

    return await run_in_threadpool(run)


async def read_bytes(request: Request, *, most: int = MAX_BODY_BYTES) -> bytearray:
    """Read the body. Raises BodyTooLarge if it has more than ``most`` bytes."""
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
            body += chunk
        elif size > DRAIN_BYTES:
            break
    if size > most:
        raise BodyTooLarge(f"body: must not be larger than {most} bytes", field="body")
    return body


async def read_body(
    request: Request, model: TypeAdapter[Model], *, needed: bool = True, most: int = MAX_BODY_BYTES
) -> Model:
    """Parse the body as this model. An empty body is parsed as null where it is not ``needed``.

    Raises BodyTooLarge, Malformed if it is not JSON, and Invalid with the name of a wrong field.
    """
    body = await read_bytes(request, most=most)
    if not body and not needed:
        return validated(model, None)
    try:
        fields = read_json(body)
    except ValueError as error:
        raise Malformed(f"body: is not valid JSON in UTF-8: {error}", field="body") from None
    return validated(model, fields)


def query_fields(model: type[BaseModel], given: QueryParams) -> dict[str, Any]:
    """Return the values of the query parameters by name.

    A field of the model that is a tuple of any length gets all values of its parameter, which JavaScript's clients
    write as ``symbols[]``. Raises Invalid for an unknown parameter, and for another one that is repeated.
    """
    known = {field.alias or name: _is_many(field.annotation) for name, field in model.model_fields.items()}
    fields: dict[str, Any] = {}
    for name, value in given.multi_items():
        plain = name.removesuffix("[]")
        if known.get(plain):
            fields.setdefault(plain, []).append(value)
        elif name not in known:
            raise Invalid(f"{name[:SHOWN]}: is not a query parameter here; use {', '.join(known)}", field=name[:SHOWN])
        elif name in fields:
            raise Invalid(f"{name}: must not be repeated", field=name)
        else:
            fields[name] = value
    return fields


def _is_many(annotation: Any) -> bool:
    """Return True for a tuple of any length, also if it may be None."""
    parts = get_args(annotation)
    return (get_origin(annotation) is tuple and ... in parts) or any(_is_many(part) for part in parts)


def header_fields(model: type[BaseModel], given: Headers) -> dict[str, str]:
    """Return the headers that the model has."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    return {name: given[name] for name in names if name in given}


def validated(model: TypeAdapter[Model], fields: Any) -> Model:
    """Parse the fields as this model. Raises Invalid with the name of a wrong field."""
    try:
        return model.validate_python(fields)
    except ValidationError as error:
        raise invalid_fields(error) from None
