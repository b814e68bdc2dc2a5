"""The table of routes. What a route takes and answers stands in its handler's signature, and nowhere else: requests are
read by it, and the document (``openapi.py``) describes it.

    async def get_runs(gateway: Gateway, query: RunQuery) -> Page[RunItem]:
        '''Its first line is the summary.'''

    Endpoint("GET", "/api/runs", get_runs, OPERATE)

``gateway``, ``request`` and ``principal`` are given; ``query`` and ``body`` are models, a body that may be missing is
one ``| None``; every other parameter is in the path. An answer is told by its type; a ``Response`` that the handler
makes itself says in ``Annotated`` what it holds.
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
from services.gateway.http.errors import Invalid
from services.gateway.http.requests import Gateway, guarded, read_body, validated


class _SymbolConvertor(PathConvertor):
    """A symbol may hold a slash, such as EUR/USD, percent-encoded or not."""

    regex = "[^/]+(/[^/]+)?"


register_url_convertor("symbol", _SymbolConvertor())
_GIVEN = {"gateway", "request", "principal"}
_MODELS = {"query", "body"}


@dataclass(frozen=True)
class Endpoint:
    """``scope`` is what the key must allow, None for a route that is open; ``status`` that of success.

    ``refusals`` are statuses beside those that follow from the signature.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    scope: str | None
    status: int = 200
    media: str = "application/json"
    refusals: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if set(self.in_path) != set(re.findall(r"\{(\w+)\}", self.path)):
            raise TypeError(f"{self.path} and the parameters of {self.handler.__name__} differ")

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The types of the handler's parameters, and of its answer as ``return``."""
        return get_type_hints(self.handler, include_extras=True)

    @cached_property
    def in_path(self) -> dict[str, TypeAdapter[Any]]:
        names = inspect.signature(self.handler).parameters.keys() - _GIVEN - _MODELS
        return {name: TypeAdapter(self.hints[name]) for name in sorted(names)}

    @cached_property
    def query(self) -> TypeAdapter[Any] | None:
        return TypeAdapter(self.hints["query"]) if "query" in self.hints else None

    @cached_property
    def body(self) -> TypeAdapter[Any] | None:
        return TypeAdapter(self.hints["body"]) if "body" in self.hints else None

    @property
    def needs_body(self) -> bool:
        return self.body is not None and type(None) not in get_args(self.hints["body"])

    @cached_property
    def answer(self) -> TypeAdapter[Any]:
        told = self.hints["return"]
        return TypeAdapter(get_args(told)[1] if get_origin(told) is Annotated and self._responds else told)

    @property
    def _responds(self) -> bool:
        """Whether the handler makes the response itself."""
        told = self.hints["return"]
        return inspect.isclass(made := get_args(told)[0] if get_args(told) else told) and issubclass(made, Response)

    def route(self) -> Route:
        path = self.path.replace("{symbol}", "{symbol:symbol}")
        return Route(path, guarded(self._answer, self.scope), methods=[self.method])

    async def _answer(self, gateway: Gateway, request: Request, principal: Principal) -> Response:
        taken = inspect.signature(self.handler).parameters
        given = {"gateway": gateway, "request": request, "principal": principal}
        arguments = {name: value for name, value in given.items() if name in taken}
        told = await self.handler(**arguments, **await self._asked(request))
        if isinstance(told, Response):
            return told
        if self.status == 204:
            return Response(status_code=204)
        return Response(self.answer.dump_json(told, by_alias=True), self.status, media_type=self.media)

    async def _asked(self, request: Request) -> dict[str, Any]:
        """What the request says, by the names of the handler's parameters; raises RequestRefused."""
        asked = {name: _in_path(name, kind, request.path_params[name]) for name, kind in self.in_path.items()}
        if self.query is not None:
            asked["query"] = validated(self.query, dict(request.query_params))
        if self.body is not None:
            asked["body"] = await read_body(request, self.body, needed=self.needs_body)
        return asked


def _in_path(name: str, kind: TypeAdapter[Any], text: str) -> Any:
    try:
        return kind.validate_python(text)
    except ValidationError as error:
        raise Invalid(f"{name}: {error.errors(include_url=False)[0]['msg']}", field=name) from None
