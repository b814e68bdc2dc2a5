"""The OpenAPI document: valid, complete, and in agreement with the routes."""

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from services.gateway.app import ENDPOINTS, make_app
from services.gateway.http.auth import OPERATE
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.openapi import LICENSE, VERSION, document
from services.gateway.http.requests import Gateway
from shared.contracts.orders import OrderTerms
from shared.storage.migrate import ROOT

Json = dict[str, Any]
DOCUMENT = document(ENDPOINTS)
OPERATIONS = [operation for operations in DOCUMENT["paths"].values() for operation in operations.values()]


def test_it_is_a_valid_openapi_document() -> None:
    """By the schema of the specification, with every reference resolved."""
    errors = OpenAPIV31SpecValidator(json.loads(json.dumps(DOCUMENT))).iter_errors()
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_it_has_exactly_the_routes_of_the_api() -> None:
    """Each method of each path under /api and /v2. A symbol may contain a slash."""
    no_request_is_made: Any = None
    app = make_app(no_request_is_made, dict, dict)
    routed = {
        (route.path.replace("{symbol:symbol}", "{symbol}"), method.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith(("/api", "/v2"))
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routed == {(path, method) for path, operations in DOCUMENT["paths"].items() for method in operations}


def test_each_operation_has_a_unique_name_and_a_one_line_summary() -> None:
    """Generated clients make functions and documentation from them."""
    names = [operation["operationId"] for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert [operation["operationId"] for operation in OPERATIONS if not operation["summary"].endswith(".")] == []


def test_the_errors_that_a_handler_raises_are_not_part_of_its_description() -> None:
    """They name classes, and clients see statuses."""

    async def post_thing(gateway: Gateway) -> None:
        """Make a thing.

        It has
        two lines.

        Raises Invalid.
        """

    operation = document([Endpoint("POST", "/api/things", post_thing, OPERATE)])["paths"]["/api/things"]["post"]
    assert (operation["summary"], operation["description"]) == ("Make a thing.", "It has\ntwo lines.")
    assert [name for each in OPERATIONS if "Raises " in (name := str(each.get("description")))] == []


def test_each_operation_names_the_scope_that_its_key_needs() -> None:
    """Only signing in needs no key. The job engine needs the scope to operate."""
    needed = {operation["operationId"]: operation["security"] for operation in OPERATIONS}
    assert [name for name, schemes in needed.items() if not schemes] == ["post_session"]
    assert needed["post_trigger"][0] == {"keyId": [OPERATE], "secretKey": [OPERATE]}
    assert needed["post_order"][1] == {"session": ["trade"]}


def test_its_version_and_license_are_the_project_s() -> None:
    """They are repeated from pyproject.toml, which is not part of an image."""
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{VERSION}"' in project
    assert f'license = "{LICENSE}"' in project


def test_a_path_and_its_handler_must_have_the_same_parameters() -> None:
    """A route whose handler lacks a parameter of the path cannot be created."""

    async def handler(gateway: Gateway, name: str) -> None:
        """Never called."""

    with pytest.raises(TypeError, match="/api/things/\\{id\\} and the parameters of handler differ"):
        Endpoint("GET", "/api/things/{id}", handler, OPERATE)


@pytest.mark.parametrize(
    ("path", "method", "name", "described"),
    [
        ("/api/runs", "get", "limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
        ("/api/runs", "get", "from", {"type": "string", "format": "date-time"}),
        ("/api/runs", "get", "cursor", {"type": "string", "maxLength": 1000}),
        ("/api/runs/{run_id}", "get", "run_id", {"type": "string", "format": "uuid"}),
        ("/api/jobs/{name}/toggle", "put", "enabled", {"type": "boolean"}),
    ],
)
def test_a_parameter_is_described_as_it_is_parsed(path: str, method: str, name: str, described: Json) -> None:
    """Its schema comes from the model that parses the request."""
    parameters = {each["name"]: each for each in DOCUMENT["paths"][path][method]["parameters"]}
    assert parameters[name]["schema"] == described


def test_settings_are_changed_one_by_one_or_reset() -> None:
    """The body of a change has the engine's settings, each optional and nullable."""
    body = DOCUMENT["components"]["schemas"]["SettingChanges"]
    assert body["properties"]["retries"] == {
        "anyOf": [{"type": "integer", "minimum": 0, "maximum": 20}, {"type": "null"}]
    }
    assert "required" not in body


def test_each_term_of_an_order_is_in_the_request_and_in_the_response() -> None:
    """A term that the contract gains reaches clients with one more line of ``Order``. Exits are orders of their own."""
    schemas = DOCUMENT["components"]["schemas"]
    assert OrderTerms.model_fields.keys() <= schemas["NewOrder"]["properties"].keys()
    assert OrderTerms.model_fields.keys() - {"take_profit", "stop_loss"} <= schemas["Order"]["properties"].keys()


def test_each_string_and_number_of_a_request_has_bounds() -> None:
    """A generated client refuses what the API would, and no field takes text or numbers without end."""
    unbounded = []
    for endpoint in ENDPOINTS:
        operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
        given = {each["name"]: each["schema"] for each in operation["parameters"]}
        if "requestBody" in operation:
            (content,) = operation["requestBody"]["content"].values()
            given["body"] = content["schema"]
        unbounded += [f"{endpoint.method} {endpoint.path} {path}" for path in _unbounded(given, ())]
    assert unbounded == []


@pytest.mark.parametrize("path", ["/api/bars/import", "/api/instruments/import"])
def test_the_body_of_a_file_is_described(path: str) -> None:
    """A generated client sends CSV there, and no JSON."""
    body = DOCUMENT["paths"][path]["post"]["requestBody"]
    assert (body["required"], list(body["content"])) == (True, ["text/csv"])


def _unbounded(schema: Any, path: tuple[str, ...]) -> list[str]:
    """Return the paths of strings without a longest length and of numbers without a smallest or largest value."""
    if isinstance(schema, list):
        return [found for number, each in enumerate(schema) for found in _unbounded(each, (*path, str(number)))]
    if not isinstance(schema, dict):
        return []
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _unbounded(DOCUMENT["components"]["schemas"][name], (*path, name))
    limits = {
        "string": [{"maxLength", "enum", "const", "format"}],
        "integer": [{"minimum", "exclusiveMinimum", "enum", "const"}, {"maximum", "exclusiveMaximum", "enum", "const"}],
    }
    limits["number"] = limits["integer"]
    kind = schema.get("type")
    found = [name for each, value in schema.items() if each != "default" for name in _unbounded(value, (*path, each))]
    if isinstance(kind, str) and not all(any_of & schema.keys() for any_of in limits.get(kind, [])):
        found.append(".".join(path))
    return found
