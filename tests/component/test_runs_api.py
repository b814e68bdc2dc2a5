"""Runs over HTTP: filtered lists in pages, the detail of a run, cancel and retry."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from embedded.system import System
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY
from tests.component.job_rows import JOB, LONG_AGO, actions, add_job, add_line, add_run, engine_of, ids
from tests.support import eventually, value

MINUTE = timedelta(minutes=1)
UNFINISHED: dict[str, Any] = {"outcome": None, "finished_at": None}


@pytest.fixture
def client(system: System) -> Iterator[DocumentedClient]:
    add_job(system)
    with DocumentedClient(system.app(), headers=KEY) as client:
        yield client


def listed(client: DocumentedClient, **asked: Any) -> list[str]:
    return ids(client.get("/api/runs", params=asked).json()["items"])


def texts(*run_ids: UUID) -> list[str]:
    return [str(run_id) for run_id in run_ids]


def test_runs_are_listed_newest_first_and_filtered(system: System, client: DocumentedClient) -> None:
    """The filters are job, service, state, outcome, trigger and time, and they can be combined."""
    add_job(system, "other")
    first = add_run(system)
    failed = add_run(system, at=LONG_AGO + MINUTE, outcome="failed", error="boom")
    by_hand = add_run(system, "other", at=LONG_AGO + 2 * MINUTE, trigger="manual", scheduled_for=None)
    waiting = add_run(system, at=LONG_AGO + 3 * MINUTE, state="waiting", started_at=None, **UNFINISHED)
    assert listed(client) == texts(waiting, by_hand, failed, first)
    assert listed(client, job=JOB) == texts(waiting, failed, first)
    assert listed(client, service="marketdata") == []
    assert listed(client, state="waiting") == texts(waiting)
    assert listed(client, outcome="failed") == texts(failed)
    assert listed(client, trigger="manual") == texts(by_hand)
    assert listed(client, **{"from": "2026-01-05T10:01:00Z", "to": "2026-01-05T10:03:00Z"}) == texts(by_hand, failed)
    assert listed(client, job=JOB, outcome="succeeded", state="finished") == texts(first)


def test_pages_have_every_run_once_while_new_runs_arrive(system: System, client: DocumentedClient) -> None:
    """Runs may have been queued at the same time. Runs that arrive after the first page are on no later page."""
    by_hand: dict[str, Any] = {"trigger": "manual", "scheduled_for": None}
    there = {str(add_run(system, at=LONG_AGO + MINUTE * (number // 3), **by_hand)) for number in range(20)}
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get("/api/runs", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += ids(page["items"])
        cursor = page["next"]
        add_run(system, at=LONG_AGO + timedelta(days=1, minutes=len(seen)))
    assert len(seen) == len(set(seen)) == 20
    assert set(seen) == there


@pytest.mark.parametrize(
    ("done", "total", "percent"), [(None, None, None), (5, None, None), (1, 0, None), (7, 5, 100.0), (-5, 10, 0.0)]
)
def test_a_run_that_reports_no_total_has_no_percent(
    system: System, client: DocumentedClient, done: int | None, total: int | None, percent: float | None
) -> None:
    """It is neither complete nor at the beginning. A body may report any numbers."""
    run_id = add_run(system, done=done, total=total)
    assert client.get(f"/api/runs/{run_id}").json()["percent"] == percent


def test_the_detail_shows_everything_about_a_run(system: System, client: DocumentedClient) -> None:
    """It has parameters, progress, the whole traceback, counts, and the run's log lines in their order."""
    trace = "Traceback (most recent call last):\n  File\nValueError: no price\n"
    run_id = add_run(
        system,
        outcome="failed",
        error=trace,
        error_kind="permanent",
        parameters={"days": 3},
        counts={"rows": 5},
        done=1,
        total=3,
    )
    for number in range(3):
        add_line(system, f"step {number}", run_id=run_id, job=JOB, at=LONG_AGO + number * MINUTE)
    add_line(system, "of another run", run_id=uuid4(), job=JOB)
    run = client.get(f"/api/runs/{run_id}").json()
    assert (run["error"], run["error_kind"], run["duration"]) == (trace, "permanent", 1.0)
    assert (run["parameters"], run["counts"]) == ({"days": 3}, {"rows": 5})
    assert (run["done"], run["total"], run["percent"]) == (1, 3, 33.3)
    assert [line["message"] for line in run["log"]] == ["step 0", "step 1", "step 2"]
    assert client.get("/api/runs").json()["items"][0]["error"] == "ValueError: no price"


def test_a_run_shows_its_parts_chained_runs_and_retries(system: System, client: DocumentedClient) -> None:
    """The states of its parts are counted too."""
    parent = add_run(system, state="joining", parts=4, done=2, total=4, **UNFINISHED)
    outcomes = ("succeeded", "succeeded", "failed")
    parts = [
        add_run(system, trigger="part", scheduled_for=None, parent_run_id=parent, part=number, outcome=outcome)
        for number, outcome in enumerate(outcomes)
    ]
    part: dict[str, Any] = {"trigger": "part", "scheduled_for": None, "parent_run_id": parent, "state": "running"}
    parts.append(add_run(system, part=3, **part, **UNFINISHED))
    add_job(system, "after_it")
    chained = add_run(system, "after_it", trigger="chain", scheduled_for=None, parent_run_id=parent)
    again = add_run(system, at=LONG_AGO + MINUTE, trigger="retry", parent_run_id=parent)
    run = client.get(f"/api/runs/{parent}").json()
    assert run["part_states"] == {"succeeded": 2, "failed": 1, "running": 1}
    assert (ids(run["part_runs"]), ids(run["chained"]), ids(run["retries"])) == (
        texts(*parts),
        texts(chained),
        texts(again),
    )
    assert (run["parts"], run["percent"]) == (4, 50.0)
    assert client.get(f"/api/runs/{chained}").json()["parent_run_id"] == str(parent)
    assert listed(client) == texts(again, *sorted((parent, chained), reverse=True))
    assert set(listed(client, parent=parent)) == set(texts(*parts, chained, again))
    assert set(listed(client, trigger="part")) == set(texts(*parts))


def test_a_waiting_run_is_canceled_at_once(system: System, client: DocumentedClient) -> None:
    """The response has the new state, and the action is recorded. A second cancel is a conflict."""
    run_id = add_run(system, state="waiting", started_at=None, **UNFINISHED)
    answer = client.post(f"/api/runs/{run_id}/cancel")
    assert (answer.status_code, answer.json()) == (202, {"run_id": str(run_id), "state": "finished"})
    assert client.get(f"/api/runs/{run_id}").json()["outcome"] == "canceled"
    assert actions(system) == [("TESTKEY", "cancel", str(run_id), {"state": "waiting"}, {"state": "finished"})]
    again = client.post(f"/api/runs/{run_id}/cancel")
    assert (again.status_code, again.json()["field"]) == (409, "run_id")


def test_a_running_run_keeps_its_state_until_its_next_check(system: System, client: DocumentedClient) -> None:
    """The run shows that a cancel was requested."""
    run_id = add_run(system, state="running", worker="elsewhere", **UNFINISHED)
    assert client.post(f"/api/runs/{run_id}/cancel").json()["state"] == "running"
    assert client.get(f"/api/runs/{run_id}").json()["cancel_requested_at"] is not None


def test_a_finished_run_is_retried(system: System, client: DocumentedClient) -> None:
    """The retry is a new run for the same slot. A running run cannot be retried."""
    failed = add_run(system, outcome="failed", error="boom", parameters={})
    answer = client.post(f"/api/runs/{failed}/retry")
    assert answer.status_code == 202
    again = client.get(f"/api/runs/{answer.json()['run_id']}").json()
    assert (again["trigger"], again["parent_run_id"]) == ("retry", str(failed))
    assert again["scheduled_for"] == "2026-01-05T10:00:00Z"
    assert actions(system) == [("TESTKEY", "retry", str(failed), {"outcome": "failed"}, {"run_id": again["id"]})]
    running = add_run(system, add_job(system, "other"), state="running", worker="elsewhere", **UNFINISHED)
    refused = client.post(f"/api/runs/{running}/retry")
    assert (refused.status_code, refused.json()["field"]) == (409, "run_id")


def test_a_run_is_canceled_although_one_of_its_parts_ends(system: System, client: DocumentedClient) -> None:
    """The part has locked its own row and wants that of the whole run, and cancel the other way round."""
    whole = add_run(system, trigger="manual", state="joining", parts=1, **UNFINISHED)
    part = add_run(system, trigger="part", state="queued", part=1, parent_run_id=whole, **UNFINISHED)
    lock = "SELECT id FROM jobs.job_runs WHERE id = %s FOR UPDATE"
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with ThreadPoolExecutor() as pool, engine_of(system).begin() as ending:
        ending.exec_driver_sql(lock, (part,))
        canceling = pool.submit(client.post, f"/api/runs/{whole}/cancel")
        eventually(lambda: value(engine_of(system), waits) == 1, what="cancel waiting for the part")
        ending.exec_driver_sql(lock, (whole,))
    assert canceling.result().status_code == 202
    assert client.get(f"/api/runs/{part}").json()["outcome"] == "canceled"
