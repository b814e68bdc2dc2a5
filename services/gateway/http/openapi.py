"""The HTTP API as an OpenAPI 3.1 document, generated from the route table."""

from collections.abc import Iterable, Mapping, Sequence
from inspect import cleandoc
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import AlpacaError, Problem, RequestRefused, is_alpaca_path
from services.gateway.http.same_origin import SAFE_METHODS

Json = dict[str, Any]

VERSION = "0.1.0"
LICENSE = "Apache-2.0"
DESCRIPTION = """\
Paper trading and the jobs behind it. `/v2` has the shape of Alpaca's Trading API, so that its clients work with \
another base URL. `/api` manages accounts and jobs.

**Keys.** Send a key in two headers, as the user and password of HTTP's Basic scheme, or the session cookie from \
`POST /api/session`. A key has scopes: `read` for its own account and the market, `trade` to place and cancel orders, \
`fund` for the account's cash and settings, `operate` for jobs and instruments, `admin` for accounts and keys. `admin` \
includes all, `operate` includes `fund`, and each includes `read`. Each operation names the scope that it needs.

**Browsers.** A request with the session cookie must come from this server's own page: with `Sec-Fetch-Site: \
same-origin`, or with an `Origin` that equals the `Host`. Its body must be `application/json`. Else the answer is 403 \
or 415. A request with a key in its headers needs neither.

**Numbers.** Money, prices and quantities are strings, so that no digit is lost: ASCII digits, with a point or an \
exponent from -30 to 30, of at most 128 characters. Times are RFC 3339. Send them with `Z`.

**Text.** Bodies are JSON in UTF-8, without a name twice in an object. Text has no control, direction or other \
invisible characters. Symbols are ASCII.

**Lists.** The newest item comes first. `next` is the cursor of the next page: send it unchanged. It is null on the \
last page.

**Errors.** Under `/api` an error is a problem (RFC 9457) whose `field` names the wrong field. Under `/v2` it has a \
code and a message, and may have the figures behind the error as more fields. A 503 is temporary: retry in a moment."""

_KEY: Json = {"type": "apiKey", "in": "header"}
_KEY_SCHEMES: Json = {
    "keyId": {**_KEY, "name": "APCA-API-KEY-ID", "description": "The key's id."},
    "secretKey": {**_KEY, "name": "APCA-API-SECRET-KEY", "description": "Its secret."},
    "basic": {"type": "http", "scheme": "basic", "description": "The key's id and its secret."},
}
TITLES: Mapping[int, str] = {refused.status: refused.title for refused in RequestRefused.__subclasses__()}


_PROBLEM: TypeAdapter[Any] = TypeAdapter(Problem)
_ALPACA_ERROR: TypeAdapter[Any] = TypeAdapter(AlpacaError)


def document(endpoints: Iterable[Endpoint], cookie: str = "paperprofit") -> Json:
    """Return the whole document, in the order of the table. ``cookie`` is the name of the instance's cookie."""
    table = list(endpoints)
    schemas = _Schemas(table)
    paths: Json = {}
    for endpoint in table:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    session = {"type": "apiKey", "in": "cookie", "name": cookie, "description": "From `POST /api/session`."}
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
        "components": {"schemas": schemas.shared, "securitySchemes": {**_KEY_SCHEMES, "session": session}},
    }


class _Schemas:
    """The JSON schemas of all requests and responses of the table, each model once."""

    def __init__(self, table: Sequence[Endpoint]) -> None:
        adapters: dict[TypeAdapter[Any], JsonSchemaMode] = {}
        for endpoint in table:
            parsed = (*endpoint.in_path.values(), endpoint.query, endpoint.headers, endpoint.body)
            adapters |= {adapter: "validation" for adapter in parsed if adapter is not None}
            adapters[endpoint.answer] = "serialization"
        adapters |= {_PROBLEM: "serialization", _ALPACA_ERROR: "serialization"}
        inputs = [(number, mode, adapter) for number, (adapter, mode) in enumerate(adapters.items())]
        found, definitions = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
        self._of = {adapter: found[number, mode] for number, mode, adapter in inputs}
        self._all: Json = definitions["$defs"]
        parameters = [model for each in table for model in (each.query, each.headers) if model is not None]
        self._inlined = {self._of[each]["$ref"].rpartition("/")[2] for each in parameters}

    @property
    def shared(self) -> Json:
        """The schemas under ``components``. Those of parameters are inlined in their operations."""
        return {name: schema for name, schema in self._all.items() if name not in self._inlined}

    def of(self, adapter: TypeAdapter[Any]) -> Json:
        """Return the schema, or the reference to it."""
        return dict(self._of[adapter])

    def error(self, path: str) -> Json:
        """Return the media type and schema of an error under this path."""
        if is_alpaca_path(path):
            return {"application/json": {"schema": self._of[_ALPACA_ERROR]}}
        return {"application/problem+json": {"schema": self._of[_PROBLEM]}}

    def resolved(self, schema: Json) -> Json:
        """Return the schema that a reference names, or the schema itself."""
        return dict(self._all[schema["$ref"].rpartition("/")[2]]) if "$ref" in schema else schema


def _operation(endpoint: Endpoint, schemas: _Schemas) -> Json:
    summary, *paragraphs = cleandoc(endpoint.handler.__doc__ or "").split("\n\n")
    description = "\n\n".join(each for each in paragraphs if not each.startswith("Raises "))
    role = [endpoint.scope]  # any of the schemes will do, and the scope stands as the role that it needs
    success: Json = {"description": "Success."}
    if endpoint.status != 204:
        schema = schemas.of(endpoint.answer)
        success["content"] = {media: {"schema": schema} for media in (endpoint.media, *endpoint.other_media)}
    error = schemas.error(endpoint.path)
    errors = {str(status): {"description": TITLES[status], "content": error} for status in _error_statuses(endpoint)}
    keys: list[Json] = [{"keyId": role, "secretKey": role}, {"session": role}, {"basic": role}]
    operation: Json = {
        "operationId": endpoint.handler.__name__,
        "summary": summary,
        **({"description": description} if description else {}),
        "tags": [endpoint.path.split("/")[2].partition(":")[0]],
        "parameters": _parameters(endpoint, schemas),
        "responses": {str(endpoint.status): success, **errors},
        "security": [] if endpoint.scope is None else keys,
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.needs_body,
            "content": {"application/json": {"schema": schemas.of(endpoint.body)}},
        }
    if endpoint.file is not None:
        text = {"type": "string", "maxLength": endpoint.most_bytes}
        operation["requestBody"] = {"required": True, "content": {endpoint.file: {"schema": text}}}
    return operation


def _parameters(endpoint: Endpoint, schemas: _Schemas) -> list[Json]:
    """Return the parameters of the path, of the query and of the headers."""
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": schemas.of(adapter)}
        for name, adapter in endpoint.in_path.items()
    ]
    models = {"query": endpoint.query, "header": endpoint.headers}
    return in_path + [
        parameter
        for place, adapter in models.items()
        if adapter is not None
        for parameter in _parameters_of(schemas.resolved(schemas.of(adapter)), place)
    ]


def _parameters_of(model: Json, place: str) -> list[Json]:
    """Return a parameter for each field of the model. In a URL or a header nothing is null."""
    parameters = []
    for name, schema in model["properties"].items():
        parameter: Json = {"name": name, "in": place, "required": name in model.get("required", [])}
        shown = {key: value for key, value in schema.items() if key not in {"title", "description", "default"}}
        if schema.get("default") is not None:
            shown["default"] = schema["default"]
        alternatives = [kind for kind in shown.pop("anyOf", []) if kind != {"type": "null"}]
        shown |= alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives} if alternatives else {}
        if description := schema.get("description") or shown.pop("description", ""):
            parameter["description"] = description
        parameters.append({**parameter, "schema": shown})
    return parameters


def _error_statuses(endpoint: Endpoint) -> list[int]:
    """Return the statuses that follow from the signature, and those that the endpoint names."""
    statuses = {
        400,
        403,
        *({401, 429} if endpoint.scope else ()),
        *((404,) if endpoint.in_path else ()),
        *((408, 413) if endpoint.body else ()),
        *((415,) if endpoint.method not in SAFE_METHODS else ()),
        422,
        503,
        *endpoint.refusals,
    }
    return sorted(statuses)
