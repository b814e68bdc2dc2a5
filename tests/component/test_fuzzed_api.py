"""Every route under generated requests: valid and invalid ones, by the document's schemas."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from services.gateway.app import ENDPOINTS
from services.gateway.http.endpoints import Endpoint
from tests.component.http_trader import KEY
from tests.conftest import database, running_system

#: A stream does not end by itself.
FUZZED = [endpoint for endpoint in ENDPOINTS if endpoint.media == "application/json"]
CASES = [
    *((endpoint, GenerationMode.POSITIVE) for endpoint in FUZZED),
    *((endpoint, GenerationMode.NEGATIVE) for endpoint in FUZZED if endpoint.query or endpoint.body),
]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 8


@pytest.fixture(scope="module")
def schema(postgres: str, template: dict[str, str]) -> Iterator[BaseSchema]:
    """The document from the running application."""
    with database(postgres, template) as urls, running_system(urls) as system:
        app = system.app()
        with TestClient(app):
            yield schemathesis.openapi.from_asgi("/api/openapi.json", app, headers=KEY)


@pytest.mark.parametrize(("endpoint", "mode"), CASES, ids=[f"{e.handler.__name__}-{mode.value}" for e, mode in CASES])
def test_every_response_is_one_that_the_document_describes(
    schema: BaseSchema, endpoint: Endpoint, mode: GenerationMode
) -> None:
    """No 5xx, and no undocumented status, media type or body, for valid and for invalid values."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[endpoint.path][endpoint.method].as_strategy(generation_mode=mode))
    def ask(case: Case[Any]) -> None:
        case.call_and_validate(headers=KEY, checks=CHECKS)

    ask()
