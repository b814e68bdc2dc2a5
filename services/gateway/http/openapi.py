"""The HTTP surface as an OpenAPI 3.1 document, for whoever writes a client. All of it follows from the route table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import cleandoc
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from typing_extensions import TypedDict

from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import RequestRefused
from services.gateway.http.requests import COOKIE
from services.gateway.trading.schemas import Refusal

Json = dict[str, Any]

VERSION = "0.1.0"
LICENSE = "Apache-2.0"
DESCRIPTION = """\
Paper trading and the jobs behind it. `/v2` has the shape of Alpaca's Trading API, so that its clients work with \
another base URL; `/api` shows and steers accounts and jobs.

**Keys.** Each request brings a key in two headers, or the session cookie that a key was traded for. What a key may \
do is its scopes: `trade` for its account, `operate` for the jobs and for how accounts trade and are funded. Each \
operation names the one that it needs.

**Numbers.** Money, prices and quantities are strings, so that no digit is lost. Times are RFC 3339; send them with `Z`.

**Lists.** The newest come first. `next` is the cursor of the next page, to be sent as it is; it is null after the last.

**Refusals.** Under `/api` a refusal is a problem (RFC 9457) whose `field` names what is wrong; under `/v2` it has a \
code and a message. A 503 passes: ask again in a moment."""

_KEY: Json = {"type": "apiKey", "in": "header"}
SECURITY_SCHEMES: Json = {
    "keyId": {**_KEY, "name": "APCA-API-KEY-ID", "description": "The key's id."},
    "secretKey": {**_KEY, "name": "APCA-API-SECRET-KEY", "description": "Its secret."},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "From `POST /api/session`."},
}
TITLES: Mapping[int, str] = {refused.status: refused.title for refused in RequestRefused.__subclasses__()}


class Problem(TypedDict, total=False):
    """Why a request under ``/api`` was refused."""

    type: str
    title: str
    status: int
    detail: str
    field: str


_PROBLEM: TypeAdapter[Any] = TypeAdapter(Problem)
_REFUSAL: TypeAdapter[Any] = TypeAdapter(Refusal)


def document(endpoints: Iterable[Endpoint]) -> Json:
    """The whole document; the same for the same table."""
    table = list(endpoints)
    schemas = _Schemas(table)
    paths: Json = {}
    for endpoint in table:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PaperProfit",
            "version": VERSION,
            "license": {"name": LICENSE, "identifier": LICENSE},
            "description": DESCRIPTION,
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas.shared, "securitySchemes": SECURITY_SCHEMES},
    }


class _Schemas:
    """The schemas of everything that the table takes and answers, each model once."""

    def __init__(self, table: Sequence[Endpoint]) -> None:
        adapters = {adapter: mode for endpoint in table for adapter, mode in _adapters(endpoint)}
        adapters |= {_PROBLEM: "serialization", _REFUSAL: "serialization"}
        inputs = [(number, mode, adapter) for number, (adapter, mode) in enumerate(adapters.items())]
        found, definitions = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
        self._of = {adapter: found[number, mode] for number, mode, adapter in inputs}
        self._all: Json = definitions["$defs"]
        self._queries = {self._of[each.query]["$ref"].rpartition("/")[2] for each in table if each.query is not None}

    @property
    def shared(self) -> Json:
        """Those that are referred to; what a query takes stands with its parameters."""
        return {name: schema for name, schema in self._all.items() if name not in self._queries}

    def of(self, adapter: TypeAdapter[Any]) -> Json:
        return dict(self._of[adapter])

    def refusal(self, path: str) -> Json:
        """The media type and schema of what is refused there."""
        if path.startswith("/v2"):
            return {"application/json": {"schema": self._of[_REFUSAL]}}
        return {"application/problem+json": {"schema": self._of[_PROBLEM]}}

    def resolved(self, schema: Json) -> Json:
        """The schema itself where it is a reference."""
        return dict(self._all[schema["$ref"].rpartition("/")[2]]) if "$ref" in schema else schema


def _adapters(endpoint: Endpoint) -> Iterator[tuple[TypeAdapter[Any], JsonSchemaMode]]:
    for adapter in (*endpoint.in_path.values(), endpoint.query, endpoint.body):
        if adapter is not None:
            yield adapter, "validation"
    yield endpoint.answer, "serialization"


def _operation(endpoint: Endpoint, schemas: _Schemas) -> Json:
    summary, _, description = cleandoc(endpoint.handler.__doc__ or "").partition("\n")
    operation: Json = {
        "operationId": endpoint.handler.__name__,
        "summary": summary,
        **({"description": description.strip()} if description.strip() else {}),
        "tags": [endpoint.path.split("/")[2].partition(":")[0]],
        "parameters": [*_path_parameters(endpoint, schemas), *_query_parameters(endpoint, schemas)],
        "responses": _responses(endpoint, schemas),
        "security": _security(endpoint),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.needs_body,
            "content": {"application/json": {"schema": schemas.of(endpoint.body)}},
        }
    return operation


def _security(endpoint: Endpoint) -> list[Json]:
    """One of these; the scope is told as the role that the key needs."""
    if endpoint.scope is None:
        return []
    role = [endpoint.scope]
    return [{"keyId": role, "secretKey": role}, {"session": role}]


def _path_parameters(endpoint: Endpoint, schemas: _Schemas) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas.of(adapter)}
        for name, adapter in endpoint.in_path.items()
    ]


def _query_parameters(endpoint: Endpoint, schemas: _Schemas) -> list[Json]:
    if endpoint.query is None:
        return []
    model = schemas.resolved(schemas.of(endpoint.query))
    required = model.get("required", [])
    return [_query_parameter(name, schema, name in required) for name, schema in model["properties"].items()]


def _query_parameter(name: str, schema: Json, required: bool) -> Json:
    """In an address nothing is null: what may be left out is left out."""
    told = {key: value for key, value in schema.items() if key not in {"title", "description", "default"}}
    if schema.get("default") is not None:
        told["default"] = schema["default"]
    alternatives = [kind for kind in told.pop("anyOf", []) if kind != {"type": "null"}]
    told |= alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives} if alternatives else {}
    described = {"description": text} if (text := schema.get("description") or told.pop("description", "")) else {}
    return {"name": name, "in": "query", "required": required, **described, "schema": told}


def _responses(endpoint: Endpoint, schemas: _Schemas) -> Json:
    success: Json = {"description": "Success."}
    if endpoint.status != 204:
        success["content"] = {endpoint.media: {"schema": schemas.of(endpoint.answer)}}
    refusal = schemas.refusal(endpoint.path)
    refusals = {str(status): {"description": TITLES[status], "content": refusal} for status in _refusals(endpoint)}
    return {str(endpoint.status): success, **refusals}


def _refusals(endpoint: Endpoint) -> list[int]:
    """The statuses that follow from what the endpoint takes, and those that it names."""
    taken = endpoint.in_path or endpoint.query or endpoint.body
    statuses = {
        400,
        *({401, 403} if endpoint.scope else ()),
        *((404,) if endpoint.in_path else ()),
        *((413,) if endpoint.body else ()),
        *((422,) if taken else ()),
        503,
        *endpoint.refusals,
    }
    return sorted(statuses)
