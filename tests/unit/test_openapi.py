"""The document of the HTTP surface: complete, valid, and of one piece with the routes."""

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
from shared.storage.migrate import ROOT

Json = dict[str, Any]
DOCUMENT = document(ENDPOINTS)
OPERATIONS = [operation for operations in DOCUMENT["paths"].values() for operation in operations.values()]


def test_it_is_a_valid_openapi_document() -> None:
    """As the specification's own schema has it, with every reference resolved."""
    errors = OpenAPIV31SpecValidator(json.loads(json.dumps(DOCUMENT))).iter_errors()
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_it_has_every_route_of_the_api_and_no_other() -> None:
    """What the application answers under /api and /v2 is in it, method by method; a symbol may hold a slash."""
    no_request_is_made: Any = None
    app = make_app(no_request_is_made, dict)
    routed = {
        (route.path.replace("{symbol:symbol}", "{symbol}"), method.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith(("/api", "/v2"))
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routed == {(path, method) for path, operations in DOCUMENT["paths"].items() for method in operations}


def test_each_operation_has_a_name_of_its_own_and_a_summary_of_one_line() -> None:
    """They become the functions of generated clients, and their documentation."""
    names = [operation["operationId"] for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert [operation["operationId"] for operation in OPERATIONS if not operation["summary"].endswith(".")] == []


def test_each_operation_says_which_scope_its_key_needs() -> None:
    """Only signing in needs no key; the job engine needs one that may operate."""
    needed = {operation["operationId"]: operation["security"] for operation in OPERATIONS}
    assert [name for name, schemes in needed.items() if not schemes] == ["post_session"]
    assert needed["post_trigger"][0] == {"keyId": [OPERATE], "secretKey": [OPERATE]}
    assert needed["post_order"][1] == {"session": ["trade"]}


def test_its_version_and_licence_are_the_projects() -> None:
    """They stand in pyproject.toml, which an image does not carry."""
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{VERSION}"' in project
    assert f'license = "{LICENSE}"' in project


def test_a_path_and_its_handler_cannot_disagree() -> None:
    """A route whose handler does not take what stands in the path cannot be made."""

    async def handler(gateway: Gateway, name: str) -> None:
        """Never called."""

    with pytest.raises(TypeError, match="/api/things/\\{id\\} and the parameters of handler differ"):
        Endpoint("GET", "/api/things/{id}", handler, OPERATE)


@pytest.mark.parametrize(
    ("path", "method", "name", "told"),
    [
        ("/api/runs", "get", "limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
        ("/api/runs", "get", "from", {"type": "string", "format": "date-time"}),
        ("/api/runs", "get", "cursor", {"type": "string"}),
        ("/api/runs/{run_id}", "get", "run_id", {"type": "string", "format": "uuid"}),
        ("/api/jobs/{name}/toggle", "put", "enabled", {"type": "boolean"}),
    ],
)
def test_a_parameter_is_described_as_it_is_read(path: str, method: str, name: str, told: Json) -> None:
    """From the same models that the requests are read by."""
    parameters = {each["name"]: each for each in DOCUMENT["paths"][path][method]["parameters"]}
    assert parameters[name]["schema"] == told


def test_settings_can_be_changed_one_by_one_or_given_back() -> None:
    """The body of a change has the engine's own settings, all optional, each of them or null."""
    body = DOCUMENT["components"]["schemas"]["SettingChanges"]
    assert body["properties"]["retries"] == {
        "anyOf": [{"type": "integer", "minimum": 0, "maximum": 20}, {"type": "null"}]
    }
    assert "required" not in body
