"""Monitoring over HTTP: the log, workers, queues, breakers, rate limits, alerts, and the actions of operators."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from embedded.system import System
from services.gateway.http.requests import Gateway
from shared.bus.amqp.management import ManagementRefused
from shared.bus.amqp.queue_stats import QueueStats
from shared.clock import utc_now
from shared.contracts.routing import QUEUES
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY
from tests.component.job_rows import LONG_AGO, actions, add_line, add_rows, ids

MINUTE = timedelta(minutes=1)


@pytest.fixture
def client(system: System) -> Iterator[DocumentedClient]:
    with DocumentedClient(system.app(), headers=KEY) as client:
        yield client


def lines(client: DocumentedClient, **asked: Any) -> list[str]:
    """The messages of the log at the time of these tests."""
    day = {"from": "2026-01-05T00:00:00Z", "to": "2026-01-06T00:00:00Z"}
    return [line["message"] for line in client.get("/api/logs", params={**day, **asked}).json()["items"]]


def test_the_log_is_searched(system: System, client: DocumentedClient) -> None:
    """The filters are service, lowest level, job, run, time and text. LIKE's wildcards have no meaning in the text."""
    run_id = uuid4()
    add_line(system, "prices are here", level="DEBUG", service="marketdata")
    add_line(system, "order 7 filled", at=LONG_AGO + MINUTE, run_id=run_id, job="sweep")
    add_line(system, "100% of Orders late_", at=LONG_AGO + 2 * MINUTE, level="WARNING")
    add_line(system, "it broke", at=LONG_AGO + 3 * MINUTE, level="ERROR", error="Traceback\nValueError: no\n")
    assert lines(client) == ["it broke", "100% of Orders late_", "order 7 filled", "prices are here"]
    assert lines(client, level="WARNING") == ["it broke", "100% of Orders late_"]
    assert lines(client, service="marketdata") == ["prices are here"]
    assert lines(client, run_id=run_id) == lines(client, job="sweep") == ["order 7 filled"]
    assert lines(client, q="oRDER") == ["100% of Orders late_", "order 7 filled"]
    assert (lines(client, q="0% o"), lines(client, q="r%o"), lines(client, q="late_")) == (
        ["100% of Orders late_"],
        [],
        ["100% of Orders late_"],
    )
    assert lines(client, **{"from": "2026-01-05T10:02:00Z"}) == ["it broke", "100% of Orders late_"]
    first = client.get("/api/logs", params={"to": "2026-01-06T00:00:00Z", "limit": 3}).json()
    rest = client.get("/api/logs", params={"to": "2026-01-06T00:00:00Z", "cursor": first["next"]}).json()
    assert [line["message"] for line in rest["items"]] == ["prices are here"]


def test_workers_show_the_time_since_their_last_heartbeat(system: System, client: DocumentedClient) -> None:
    """Running workers come first. A stopped one is not silent."""
    now = utc_now()
    worker = {
        "service": "orders",
        "host": "h",
        "pid": 7,
        "kind": "worker",
        "queues": ["orders.jobs"],
        "started_at": now,
    }
    silent, stopped = now - MINUTE, now - 2 * MINUTE
    add_rows(
        system,
        "jobs.workers",
        {**worker, "id": "here", "heartbeat_at": silent, "runs": 2},
        {**worker, "id": "gone", "heartbeat_at": stopped, "stopped_at": stopped},
    )
    found = {each["id"]: each for each in client.get("/api/workers").json()["items"]}
    assert found["here"]["silent"] == pytest.approx(60, abs=20)
    assert (found["here"]["runs"], found["here"]["queues"]) == (2, ["orders.jobs"])
    assert (found["gone"]["silent"], list(found)[-1]) == (None, "gone")


def test_breakers_and_rate_limits_are_shown(system: System, client: DocumentedClient) -> None:
    """A breaker shows its state and last error, a rate limit its allowed and its free calls."""
    now = utc_now()
    breaker = {"name": "yahoo", "state": "open", "failures": 5, "since": now, "updated_at": now}
    add_rows(system, "jobs.breakers", {**breaker, "next_attempt_at": now + MINUTE, "last_error": "away"})
    limit = {"name": "yahoo", "allowed": 60, "period_seconds": 60, "updated_at": now}
    add_rows(system, "jobs.rate_limits", {**limit, "full_until": now + MINUTE / 2})
    (shown,) = client.get("/api/breakers").json()["items"]
    assert (shown["name"], shown["state"], shown["failures"], shown["last_error"]) == ("yahoo", "open", 5, "away")
    (limit,) = client.get("/api/rate-limits").json()["items"]
    assert (limit["allowed"], limit["period"], limit["refused"]) == (60, 60.0, 0)
    assert 29 <= limit["available"] <= 50


def test_alerts_are_listed_open_or_resolved(system: System, client: DocumentedClient) -> None:
    """They are listed newest first, filtered by state and kind."""
    alert = {"severity": "critical", "message": "it fails", "seen_at": LONG_AGO, "facts": {"failures": 3}}
    add_rows(
        system,
        "jobs.notifications",
        {**alert, "kind": "job_failing", "subject": "a", "opened_at": LONG_AGO},
        {**alert, "kind": "job_failing", "subject": "b", "opened_at": LONG_AGO + MINUTE, "resolved_at": LONG_AGO},
        {**alert, "kind": "queue_old", "subject": "c", "opened_at": LONG_AGO + 2 * MINUTE},
    )

    def subjects(**asked: Any) -> list[str]:
        shown = client.get("/api/alerts", params={"limit": 500, **asked}).json()["items"]
        return [each["subject"] for each in shown if each["message"] == "it fails"]

    assert subjects() == ["c", "b", "a"]
    assert (subjects(open=True), subjects(open=False)) == (["c", "a"], ["b"])
    assert subjects(kind="queue_old") == ["c"]
    page = client.get("/api/alerts", params={"limit": 1, "kind": "job_failing"}).json()
    assert client.get("/api/alerts", params={"cursor": page["next"], "kind": "job_failing"}).json()["items"] != []


def test_actions_of_operators_are_listed(client: DocumentedClient) -> None:
    """They are listed newest first, filtered by who, what and subject, page by page."""
    client.put("/api/jobs/trading_bot/toggle?enabled=false")
    client.put("/api/jobs/process_orders/toggle?enabled=false")
    client.post("/api/queues/orders.jobs/pause")
    shown = client.get("/api/actions").json()["items"]
    assert [each["subject"] for each in shown] == ["orders.jobs", "process_orders", "trading_bot"]
    assert (shown[1]["before"], shown[1]["after"]) == ({"enabled": True}, {"enabled": False})
    assert ids(client.get("/api/actions?what=pause&who=TESTKEY").json()["items"]) == [shown[0]["id"]]
    assert client.get("/api/actions?who=nobody").json() == {"items": [], "next": None}
    first = client.get("/api/actions?limit=2").json()
    assert ids(client.get("/api/actions", params={"cursor": first["next"]}).json()["items"]) == [shown[2]["id"]]


def test_a_queue_is_paused_and_resumed(system: System, client: DocumentedClient) -> None:
    """The queue shows who paused it, and both actions are recorded."""
    queue = "valuation.jobs"
    assert client.post(f"/api/queues/{queue}/pause").json() == {"queue": queue, "paused": True}
    shown = {each["queue"]: each for each in client.get("/api/queues").json()["items"]}
    assert (shown[queue]["paused"], shown[queue]["changed_by"]) == (True, "TESTKEY")
    assert not shown["orders.jobs"]["paused"]
    assert client.post(f"/api/queues/{queue}/resume").json() == {"queue": queue, "paused": False}
    assert actions(system) == [
        ("TESTKEY", "pause", queue, {"paused": False}, {"paused": True}),
        ("TESTKEY", "resume", queue, {"paused": True}, {"paused": False}),
    ]


def test_queues_have_the_figures_of_the_bus_in_this_process(client: DocumentedClient) -> None:
    """Every queue of a service has its depth, rates and consumers."""
    answer = client.get("/api/queues").json()
    assert answer["why"] is None
    shown = {each["queue"]: each for each in answer["items"]}
    assert set(QUEUES) <= set(shown)
    assert shown["orders.jobs"]["figures"] is not None
    assert (shown["orders.jobs"]["figures"]["consumers"], shown["orders.jobs"]["pausable"]) == (1, True)
    assert not shown["orders.jobs.DQ"]["pausable"]


def refused() -> Sequence[QueueStats]:
    raise ManagementRefused("GET queues/%2F: 401 not authorised")


def away() -> Sequence[QueueStats]:
    raise ConnectionRefusedError(111, "Connection refused")


@pytest.mark.parametrize(
    ("figures", "why"),
    [(None, "PAPERPROFIT_RABBITMQ_MANAGEMENT_URL"), (refused, "401 not authorised"), (away, "Connection refused")],
)
def test_without_figures_the_response_says_why(system: System, figures: Any, why: str) -> None:
    """The queues are still listed, with their pauses."""
    app = system.app()
    gateway: Gateway = app.state.gateway
    app.state.gateway = Gateway(gateway.context, gateway.hub, gateway.settings, gateway.keys, figures)
    with DocumentedClient(app, headers=KEY) as client:
        answer = client.get("/api/queues").json()
    assert why in answer["why"]
    assert {each["queue"] for each in answer["items"]} == set(QUEUES)
    assert all(each["figures"] is None for each in answer["items"])
