"""Bad input on the operator's routes gets a 4xx that names the field, and changes nothing. Only operators may ask."""

import json
import logging
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.app import ENDPOINTS
from services.gateway.http.auth import OPERATE
from services.gateway.http.endpoints import Endpoint
from shared.jobs.admin import run_queries
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY
from tests.component.job_rows import JOB, actions, add_job, engine_of
from tests.conftest import database, running_system
from tests.support import value

NOBODY = UUID(int=4711)
HUGE = 2**63
OPERATED = [endpoint for endpoint in ENDPOINTS if endpoint.scope == OPERATE]


@pytest.fixture(scope="module")
def system(postgres: str, template: dict[str, str]) -> Iterator[System]:
    """One system for all tests: a refused request leaves nothing behind."""
    with database(postgres, template) as urls, running_system(urls) as system:
        add_job(system)
        add_job(system, "after_it", after=JOB, schedule="off")
        yield system


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[DocumentedClient]:
    with DocumentedClient(system.app(), headers=KEY) as client:
        yield client


def cursor(*key: Any) -> str:
    return encoded(json.dumps(key))


def encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/runs?limit=0", "limit"),
        ("/api/runs?limit=501", "limit"),
        ("/api/runs?limit=many", "limit"),
        ("/api/runs?state=asleep", "state"),
        ("/api/runs?outcome=meh", "outcome"),
        ("/api/runs?trigger=magic", "trigger"),
        ("/api/runs?parent=7", "parent"),
        ("/api/runs?from=yesterday", "from"),
        ("/api/runs?from=2026-01-01T00:00:00", "from"),
        ("/api/runs?to=9999-12-31T23:59:59Z", "to"),
        ("/api/runs?from=0001-01-01T00:00:00Z", "from"),
        ("/api/runs?color=red", "color"),
        ("/api/runs?job=", "job"),
        ("/api/runs?job=%01", "job"),
        ("/api/runs?cursor=nonsense", "cursor"),
        ("/api/runs?cursor=%F0%9F%8E%B2", "cursor"),
        (f"/api/runs?cursor={cursor()}", "cursor"),
        (f"/api/runs?cursor={encoded('7')}", "cursor"),
        (f"/api/runs?cursor={encoded('[' * 5000)}", "cursor"),
        (f"/api/runs?cursor={cursor('9999-12-31T23:59:59-23:59', str(NOBODY))}", "cursor"),
        (f"/api/logs?cursor={cursor('2026-01-01T00:00:00Z', str(NOBODY))}", "cursor"),
        (f"/api/actions?cursor={cursor(HUGE)}", "cursor"),
        (f"/api/dead-letters?cursor={cursor('2026-01-01T00:00:00Z', 'orders')}", "cursor"),
        ("/api/runs/not-an-id", "run_id"),
        ("/api/logs?level=LOUD", "level"),
        ("/api/logs?run_id=7", "run_id"),
        ("/api/logs?q=", "q"),
        (f"/api/logs?q={'x' * 201}", "q"),
        ("/api/alerts?open=maybe", "open"),
        (f"/api/jobs/{JOB}/figures?hours=0", "hours"),
        (f"/api/jobs/{JOB}/figures?hours=745", "hours"),
        (f"/api/jobs/{JOB}/figures?hours=NaN", "hours"),
        ("/api/dead-letters/orders/seven", "dead_letter"),
        (f"/api/dead-letters/orders/{HUGE}", "dead_letter"),
        ("/api/dead-letters/orders/-1", "dead_letter"),
    ],
)
def test_a_wrong_query_is_a_422_that_names_the_parameter(client: DocumentedClient, path: str, field: str) -> None:
    """The same holds for parts of the path."""
    answer = client.get(path)
    assert (answer.status_code, answer.json().get("field")) == (422, field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schedule": "5 parsecs"}, "schedule"),
        ({"schedule": "0s"}, "schedule"),
        ({"interval": "0"}, "interval"),
        ({"interval": "1h", "schedule": "1h"}, "interval"),
        ({"schedule": "0 0 31 2 *"}, "schedule"),
        ({"schedule": 5}, "schedule"),
        ({"schedule": "off", "phases": {"regular": "off"}}, "phases"),
        ({"phases": {"lunch": "5s"}}, "phases.lunch"),
        ({"phases": {"regular": "often"}}, "phases.regular"),
        ({"phases": [1]}, "phases"),
        ({"market": "XMOON"}, "market"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"enabled": "maybe"}, "enabled"),
        ({"retries": -1}, "retries"),
        ({"retries": 1.5}, "retries"),
        ({"retries": True}, "retries"),
        ({"priority": "extreme"}, "priority"),
        ({"overlap": "pile"}, "overlap"),
        ({"after": "no_such_job"}, "after"),
        ({"after": JOB}, "after"),
        ({"after": "after_it"}, "after"),
        ({"after": "a\x00b"}, "after"),
        ({"after": "\ud800"}, "after"),
        ({"color": "red"}, "color"),
        ({"color": None}, "color"),
    ],
)
def test_a_wrong_setting_is_a_422_and_changes_nothing(
    system: System, client: DocumentedClient, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], field: str
) -> None:
    """The error has the client's name of the setting. The job stays as it was, and no action is recorded."""
    with caplog.at_level(logging.ERROR):
        answer = client.patch(f"/api/jobs/{JOB}", content=json.dumps(changes))
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert value(engine_of(system), "SELECT overrides FROM jobs.jobs WHERE name = :j", j=JOB) == {}
    assert actions(system) == []
    assert caplog.records == []


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (f"/api/jobs/{JOB}/trigger", {"parameters": []}, "parameters"),
        (f"/api/jobs/{JOB}/trigger", {"parameters": {"a": "\x00"}}, "parameters"),
        (f"/api/jobs/{JOB}/trigger", {"parameters": {"a": "\ud800"}}, "parameters"),
        (f"/api/jobs/{JOB}/trigger", {"parameters": {"days": 3}}, "parameters.days"),
        (f"/api/jobs/{JOB}/trigger", {"when": "now"}, "when"),
        (f"/api/jobs/{JOB}/trigger", [], "body"),
        (f"/api/jobs/{JOB}/backfill", {}, "from"),
        (f"/api/jobs/{JOB}/backfill", {"from": "2026-01-01T00:00:00Z"}, "to"),
        (f"/api/jobs/{JOB}/backfill", {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "to"),
        (f"/api/jobs/{JOB}/backfill", {"from": "2026-01-01T00:00:00Z", "to": "1e999"}, "to"),
        (f"/api/jobs/{JOB}/backfill", {"from": "1970-01-01T00:00:00Z", "to": "2199-01-01T00:00:00Z"}, "to"),
        ("/api/jobs/after_it/backfill", {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}, "from"),
        ("/api/dead-letters/orders/requeue", {"dead_letters": []}, "dead_letters"),
        ("/api/dead-letters/orders/requeue", {"dead_letters": [HUGE]}, "dead_letters.0"),
        ("/api/dead-letters/orders/requeue", {"dead_letters": ["a"]}, "dead_letters.0"),
        ("/api/dead-letters/orders/discard", {}, "dead_letters"),
    ],
)
def test_a_wrong_body_is_a_422_and_does_nothing(
    system: System, client: DocumentedClient, path: str, body: Any, field: str
) -> None:
    """No run is queued, no message is sent, and no action is recorded."""
    answer = client.post(path, content=json.dumps(body))
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert value(engine_of(system), "SELECT count(*) FROM jobs.job_runs") == 0
    assert actions(system) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/jobs/no_such_job"),
        ("GET", "/api/jobs/no_such_job/figures"),
        ("PATCH", "/api/jobs/no_such_job"),
        ("POST", "/api/jobs/no_such_job/trigger"),
        ("PUT", "/api/jobs/no_such_job/toggle?enabled=true"),
        ("POST", "/api/jobs/no_such_job/backfill"),
        ("GET", f"/api/runs/{NOBODY}"),
        ("POST", f"/api/runs/{NOBODY}/cancel"),
        ("POST", f"/api/runs/{NOBODY}/retry"),
        ("POST", "/api/queues/no.such.queue/pause"),
        ("POST", "/api/queues/orders.jobs.DQ/resume"),
        ("GET", "/api/dead-letters/orders/7"),
        ("GET", "/api/dead-letters/gateway/7"),
        ("POST", "/api/dead-letters/nobody/requeue"),
        ("POST", "/api/dead-letters/orders/discard"),
    ],
)
def test_an_unknown_subject_is_a_404_that_names_it(
    system: System, client: DocumentedClient, method: str, path: str
) -> None:
    """Subjects are jobs, runs, queues, services and dead letters. No action is recorded."""
    bodies = {
        "PATCH": {"retries": 1},
        "backfill": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"},
        "requeue": {"dead_letters": [7]},
        "discard": {"dead_letters": [7]},
    }
    body = bodies.get(path.rpartition("/")[2], bodies.get(method))
    answer = client.request(method, path, json=body)
    assert (answer.status_code, bool(answer.json()["field"])) == (404, True)
    assert actions(system) == []


@pytest.mark.parametrize("body", ["{", '{"retries": NaN}', "\x00", "[" * 50_000])
def test_a_body_that_is_not_json_is_a_400(client: DocumentedClient, body: str) -> None:
    """It is refused before anything else is checked."""
    assert client.patch(f"/api/jobs/{JOB}", content=body).status_code == 400
    assert client.post(f"/api/jobs/{JOB}/trigger", content=body).status_code == 400


@pytest.mark.parametrize("number", ["1e400", "1" + "0" * 4000, "1" + "0" * 5000])
def test_a_number_that_no_row_can_hold_is_refused(system: System, client: DocumentedClient, number: str) -> None:
    """It may be valid JSON."""
    answer = client.post(f"/api/jobs/{JOB}/trigger", content=f'{{"parameters": {{"n": {number}}}}}')
    assert answer.status_code in {400, 422}
    assert value(engine_of(system), "SELECT count(*) FROM jobs.job_runs") == 0


def test_a_query_that_times_out_is_a_503_that_says_so(
    client: DocumentedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database aborts it after its time limit. A smaller query may succeed."""

    def slow(connection: Connection, *_: object, **__: object) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 1")
        connection.exec_driver_sql("SELECT pg_sleep(10)")

    monkeypatch.setattr(run_queries, "figures", slow)
    answer = client.get(f"/api/jobs/{JOB}/figures")
    assert (answer.status_code, "narrow the time range" in answer.json()["detail"]) == (503, True)


def path_of(endpoint: Endpoint) -> str:
    """The endpoint's path with a value for each parameter."""
    return (
        endpoint.path.replace("{run_id}", str(NOBODY)).replace("{dead_letter}", "7").replace("{", "").replace("}", "")
    )


@pytest.mark.parametrize("endpoint", OPERATED, ids=lambda endpoint: endpoint.handler.__name__)
def test_a_key_that_may_only_trade_is_forbidden_here(system: System, endpoint: Endpoint) -> None:
    """Every route of the operator answers 403, whatever else is wrong with the request, and 401 without a key."""
    with engine_of(system).begin() as connection:
        connection.exec_driver_sql("UPDATE gateway.api_keys SET scopes = ARRAY['trade']")
    try:
        with TestClient(system.app(), headers=KEY) as trader:
            assert trader.request(endpoint.method, path_of(endpoint)).status_code == 403
        with TestClient(system.app()) as stranger:
            assert stranger.request(endpoint.method, path_of(endpoint)).status_code == 401
    finally:
        with engine_of(system).begin() as connection:
            connection.exec_driver_sql("UPDATE gateway.api_keys SET scopes = ARRAY['trade', 'operate', 'admin']")


def test_the_document_is_read_with_any_key(system: System, client: DocumentedClient) -> None:
    """It is made of the same table as the routes."""
    document = client.get("/api/openapi.json").json()
    assert {path for path in document["paths"] if path.startswith("/api/jobs")} == {
        endpoint.path for endpoint in ENDPOINTS if endpoint.path.startswith("/api/jobs")
    }
    with TestClient(system.app()) as stranger:
        assert stranger.get("/api/openapi.json").status_code == 401
