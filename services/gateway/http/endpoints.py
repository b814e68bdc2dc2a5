"""The table of routes.

A handler's signature is the single description of its route. Requests are parsed by it, and
``openapi.py`` documents it.

    async def get_runs(gateway: Gateway, query: RunQuery) -> Page[RunItem]:
        '''Its first line is the summary, and what follows the description, but for a paragraph "Raises …".'''

    Endpoint("GET", "/api/runs", get_runs, OPERATE)

``gateway``, ``request`` and ``principal`` are passed in. ``query``, ``headers`` and ``body`` are models. A query
parameter that may be repeated is a tuple of any length. A body of the type ``Model | None`` may be missing. Every other
parameter is part of the path. The return type is the JSON of the response. A handler that builds the ``Response``
itself names its content in ``Annotated``.
"""

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.gateway.http.auth import Principal
from services.gateway.http.errors import FIELD_CODE, Invalid, is_alpaca_path
from services.gateway.http.requests import (
    MAX_BODY_BYTES,
    Gateway,
    guarded,
    header_fields,
    query_fields,
    read_body,
    validated,
)


class _SymbolConvertor(PathConvertor):
    """A symbol in a path. It may contain one slash, such as EUR/USD, percent-encoded or not."""

    regex = "[^/]+(/[^/]+)?"


register_url_convertor("symbol", _SymbolConvertor())
_GIVEN = {"gateway", "request", "principal"}
_MODELS = {"query", "headers", "body"}


@dataclass(frozen=True)
class Endpoint:
    """A route. ``scope`` is the scope that the key needs, None if no key is needed.

    ``status`` is that of success. A handler that builds the response may choose one of ``other_media``. ``refusals``
    are error statuses beside those that follow from the signature. ``most_bytes`` bounds a body. ``file`` is the media
    type of a body that the handler reads from the request itself. Raises TypeError if
    the path and the handler's parameters differ.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    scope: str | None
    status: int = 200
    media: str = "application/json"
    other_media: tuple[str, ...] = ()
    refusals: tuple[int, ...] = ()
    most_bytes: int = MAX_BODY_BYTES
    file: str | None = None

    def __post_init__(self) -> None:
        if set(self.in_path) != set(re.findall(r"\{(\w+)\}", self.path)):
            raise TypeError(f"{self.path} and the parameters of {self.handler.__name__} differ")

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The types of the handler's parameters, and its return type as ``return``."""
        return get_type_hints(self.handler, include_extras=True)

    @cached_property
    def in_path(self) -> dict[str, TypeAdapter[Any]]:
        """The parameters of the path."""
        names = inspect.signature(self.handler).parameters.keys() - _GIVEN - _MODELS
        return {name: TypeAdapter(self.hints[name]) for name in sorted(names)}

    @cached_property
    def query(self) -> TypeAdapter[Any] | None:
        """The model of the query parameters."""
        return TypeAdapter(self.hints["query"]) if "query" in self.hints else None

    @cached_property
    def headers(self) -> TypeAdapter[Any] | None:
        """The model of the headers that the handler reads."""
        return TypeAdapter(self.hints["headers"]) if "headers" in self.hints else None

    @cached_property
    def body(self) -> TypeAdapter[Any] | None:
        """The model of the body."""
        return TypeAdapter(self.hints["body"]) if "body" in self.hints else None

    @property
    def needs_body(self) -> bool:
        """True if the body may not be missing."""
        return self.body is not None and type(None) not in get_args(self.hints["body"])

    @cached_property
    def answer(self) -> TypeAdapter[Any]:
        """The model of the response's content."""
        returned = self.hints["return"]
        if get_origin(returned) is Annotated:
            built, content, *_ = get_args(returned)
            if inspect.isclass(built) and issubclass(built, Response):
                return TypeAdapter(content)
        return TypeAdapter(returned)

    def route(self) -> Route:
        """Return the Starlette route."""
        path = self.path.replace("{symbol}", "{symbol:symbol}")
        return Route(path, guarded(self._respond, self.scope), methods=[self.method])

    async def _respond(self, gateway: Gateway, request: Request, principal: Principal) -> Response:
        """Parse the request, call the handler and serialize its result. Raises RequestRefused."""
        if self.query is None:
            refuse_query(request)
        parameters = inspect.signature(self.handler).parameters
        given = {"gateway": gateway, "request": request, "principal": principal}
        arguments: dict[str, Any] = {name: value for name, value in given.items() if name in parameters}
        for name, adapter in self.in_path.items():
            try:
                arguments[name] = adapter.validate_python(request.path_params[name])
            except ValidationError as error:
                if is_alpaca_path(self.path):  # Alpaca's answer to an id that is no UUID
                    raise Invalid(f"{name} is missing", field=name, code=FIELD_CODE) from None
                raise Invalid(f"{name}: {error.errors(include_url=False)[0]['msg']}", field=name) from None
        if self.query is not None:
            arguments["query"] = validated(self.query, query_fields(self.hints["query"], request.query_params))
        if self.headers is not None:
            arguments["headers"] = validated(self.headers, header_fields(self.hints["headers"], request.headers))
        if self.body is not None:
            arguments["body"] = await read_body(request, self.body, needed=self.needs_body, most=self.most_bytes)
        result = await self.handler(**arguments)
        if isinstance(result, Response):
            return result
        if self.status == 204:
            return Response(status_code=204)
        return Response(self.answer.dump_json(result, by_alias=True), self.status, media_type=self.media)


def refuse_query(request: Request) -> None:
    """Raise Invalid if the request has a query parameter. For routes that have none."""
    for name in request.query_params:
        raise Invalid(f"{name}: is not a query parameter here; there are none", field=name)
