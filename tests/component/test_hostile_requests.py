"""Hostile numbers, text and bodies in place of every field of every route: a small 4xx, and nothing is stored."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.app import ENDPOINTS
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.openapi import document
from tests.component.http_trader import KEY, ORDER, stored
from tests.conftest import database, running_system
from tests.support import value

Json = dict[str, Any]
DOCUMENT = document(ENDPOINTS)
ZEROS = "1." + "0" * 16_384
#: JSON numbers that are refused before their field is known.
NUMBERS = [ZEROS, "9" * 5_000, "1e9999999999999999999", "1e-2000000", "NaN", "-Infinity"]
#: JSON that no field takes: text and numbers without end, and invisible text.
VALUES = [f'"{ZEROS}"', f'"{"9" * 5_000}"', r'"\u202e1"', r'"\u0085"', r'"\ud800"', r'"1\u2028"', '"\\u0000"']
#: The same in a URL. A lone surrogate cannot be encoded there.
TEXTS = [ZEROS, "9" * 5_000, "\u202e1", "\x85", "1\u2028", "\ufeff1"]
HEADERS = [ZEROS.encode(), b"a\x85b", "\u202e".encode()]
BODIES = [
    *(number.encode() for number in (*NUMBERS, "[1e9999999999999999999]", '{"a": ' + ZEROS + "}")),
    "{}".encode("utf-16"),
    "{}".encode("utf-32"),
    "{}".encode("utf-8-sig"),
    b"[" * 50 + b"]" * 50,
    b'{"qty": "1", "qty": "2"}',
    b'{"\\ud800": 1}',
    b'{"\xff": 1}',
    b"\x00",
    b'{"' + b"x" * 60_000 + b'": 1}',
]
FORMATS = {"date-time": "2026-11-23T15:00:00Z", "date": "2026-11-23", "uuid": "00000000-0000-0000-0000-000000000001"}
#: Bodies whose fields have to fit together.
_BACKTEST: Json = {
    "strategy": {"kind": "sma_crossover"}, "symbols": ["AAPL"], "interval": "1d",
    "from": "2026-11-23T15:00:00Z", "to": "2026-11-24T15:00:00Z",
}  # fmt: skip
BODY = {
    "/v2/orders": {**ORDER, "symbol": "AAPL"},
    "/api/corporate-actions": {"symbol": "AAPL", "kind": "split", "ratio": "2", "effective_at": FORMATS["date-time"]},
    "/api/indicators": {"symbol": "AAPL", "interval": "1d", "name": "rsi"},
    "/api/backtests": _BACKTEST,
    "/api/optimisations": {**_BACKTEST, "search": {"parameters": {"fast": [5]}}},
    "/api/account/rebalance/preview": {"weights": {"AAPL": "0.5"}},
    "/api/account/targets": {"weights": {"AAPL": "0.5"}},
    "/api/jobs/{name}/backfill": {"from": "2026-11-23T15:00:00Z", "to": "2026-11-24T15:00:00Z"},
    "/api/jobs/{name}": {},
}
#: Text that no parameter of a job may have.
PARAMETERS = [r"\u202e", r"\u0085", r"\u0000", r"\u001b", r"\ud800"]
#: A refused text must not be in any of these.
_STORED = """
SELECT count(*) FROM (
  SELECT row_to_json(a)::text AS text FROM jobs.operator_actions a
  UNION ALL SELECT row_to_json(r)::text FROM jobs.job_runs r
  UNION ALL SELECT row_to_json(s)::text FROM gateway.submissions s
  UNION ALL SELECT row_to_json(j)::text FROM jobs.jobs j
) t WHERE text ~ '[\u0085\u202e\u2028]' OR strpos(text, repeat('0', 500)) + strpos(text, repeat('9', 500)) > 0
"""


@pytest.fixture(scope="module")
def system(postgres: str, template: dict[str, str]) -> Iterator[System]:
    with database(postgres, template) as urls, running_system(urls) as system:
        yield system


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[TestClient]:
    headers = {**KEY, "Content-Type": "application/json"}
    with TestClient(system.app(), headers=headers, raise_server_exceptions=False) as client:
        yield client


def resolved(schema: Json) -> Json:
    """The schema itself, or of several the first that is not null."""
    while "$ref" in schema or "anyOf" in schema:
        if "$ref" in schema:
            schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        else:
            schema = next(each for each in reversed(schema["anyOf"]) if each != {"type": "null"})
    return schema


def sample(schema: Json) -> Any:
    """The smallest value that the schema allows."""
    schema = resolved(schema)
    kind = schema.get("type")
    if "enum" in schema or "const" in schema:
        return schema.get("const") or schema["enum"][0]
    if kind == "object":
        return {name: sample(schema["properties"][name]) for name in schema.get("required", [])}
    if kind == "array":
        return [sample(schema["items"])] * schema.get("minItems", 0)
    if kind == "string":
        return FORMATS.get(schema.get("format", ""), "USD" if schema.get("maxLength") == 3 else "1")
    return {"boolean": True}.get(str(kind), max(1, schema.get("minimum", 1)))


def fields_of(schema: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all fields of an object, and of those in it."""
    for name, each in resolved(schema).get("properties", {}).items():
        yield (*path, name)
        yield from fields_of(each, (*path, name))


def with_field(body: Json, path: tuple[str, ...], schema: Json) -> str:
    """The body as JSON with a mark in place of this field."""
    body = json.loads(json.dumps(body))
    place, inner = body, resolved(schema)
    for name in path[:-1]:
        inner = resolved(inner["properties"][name])
        place = place.setdefault(name, sample(inner))
    place[path[-1]] = "MARK"
    return json.dumps(body)


def url_of(endpoint: Endpoint, given: Json | None = None) -> str:
    """The path with values that its parameters allow, or with the given ones."""
    operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
    known = {each["name"]: sample(each["schema"]) for each in operation["parameters"] if each["in"] == "path"}
    known |= {"symbol": "AAPL", "service": "orders"}
    if endpoint.path.startswith("/api/jobs"):
        known["name"] = "process_orders"
    return endpoint.path.format(
        **{name: quote(str(each), safe="") for name, each in {**known, **(given or {})}.items()}
    )


def check(answer: Any, names: str, asked: object) -> None:
    """Assert a small 4xx that names the field."""
    about = f"{str(asked)[:200]}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code in {400, 422}, about
    assert len(answer.content) < 2_000, about
    assert names in answer.text, about


ASKED = [endpoint for endpoint in ENDPOINTS if endpoint.in_path or endpoint.query or endpoint.headers or endpoint.body]


@pytest.mark.parametrize("endpoint", ASKED, ids=lambda endpoint: endpoint.handler.__name__)
def test_a_hostile_value_is_refused_in_place_of_every_field(
    system: System, client: TestClient, endpoint: Endpoint
) -> None:
    """No 5xx, the error names the field and is small, and no part of the value is stored."""
    before = stored(system)
    operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
    needed = {
        each["name"]: sample(each["schema"])
        for each in operation["parameters"]
        if each["in"] == "query" and each.get("required")
    }
    body = None
    if endpoint.body is not None:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = {**sample(schema), **BODY.get(endpoint.path, {})}
        for path in fields_of(schema):
            marked = with_field(body, path, schema)
            for hostile in (*NUMBERS, *VALUES):
                sent = marked.replace('"MARK"', hostile).encode()
                answer = client.request(endpoint.method, url_of(endpoint), content=sent, params=needed)
                check(answer, "body" if hostile in NUMBERS else path[-1], (path, hostile))
        for hostile_body in BODIES:
            answer = client.request(endpoint.method, url_of(endpoint), content=hostile_body, params=needed)
            check(answer, "", hostile_body)
    for parameter in operation["parameters"]:
        name, place = parameter["name"], parameter["in"]
        for text in TEXTS if place != "header" else HEADERS:
            asked: Json = {"json": body} if body is not None else {}
            asked |= {"params": {**needed, **({name: text} if place == "query" else {})}}
            asked |= {"headers": {name: text}} if place == "header" else {}
            url = url_of(endpoint, {name: text} if place == "path" else None)
            check(client.request(endpoint.method, url, **asked), name, (name, text))
    assert stored(system)[0] == before[0]
    assert value(system.contexts["gateway"].engine, _STORED) == 0


@pytest.mark.parametrize("text", PARAMETERS)
def test_hostile_text_is_refused_in_the_parameters_of_a_run(client: TestClient, text: str) -> None:
    """They may have any names and values that an operator can read."""
    for parameters in (f'{{"a": "{text}"}}', f'{{"a": [{{"{text}": 1}}]}}'):
        sent = f'{{"parameters": {parameters}}}'
        check(client.post("/api/jobs/process_orders/trigger", content=sent), "", sent)


def test_hostile_bodies_are_refused_without_a_key(client: TestClient) -> None:
    """Anybody can send one to the route that opens sessions."""
    for hostile in BODIES:
        check(client.post("/api/session", content=hostile, headers=dict.fromkeys(KEY, "")), "", hostile)
