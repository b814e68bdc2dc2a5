"""Jobs over HTTP: their status, settings and figures, and job control."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from embedded.system import System
from shared.clock import utc_now
from shared.jobs.settings import JobSettings
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY
from tests.component.job_rows import JOB, LONG_AGO, actions, add_job, add_run, engine_of
from tests.support import eventually, rows, value

MINUTE = timedelta(minutes=1)


@pytest.fixture
def client(system: System) -> Iterator[DocumentedClient]:
    with DocumentedClient(system.app(), headers=KEY) as client:
        yield client


def status_of(client: DocumentedClient, name: str) -> Any:
    return {job["name"]: job for job in client.get("/api/jobs/status").json()["jobs"]}[name]


def test_the_status_shows_every_job_with_its_latest_run_and_its_active_run(
    system: System, client: DocumentedClient
) -> None:
    """The latest run is the one that was queued last, without parts. The active run shows its progress."""
    add_job(system)
    add_run(system, at=LONG_AGO)
    latest = add_run(system, at=LONG_AGO + MINUTE, outcome="failed", error="Traceback\n  x\nValueError: no price\n")
    running: dict[str, Any] = {"state": "running", "outcome": None, "finished_at": None}
    active = add_run(system, at=LONG_AGO - MINUTE, trigger="manual", scheduled_for=None, done=3, total=4, **running)
    add_run(system, at=LONG_AGO + 2 * MINUTE, trigger="part", part=0, parent_run_id=active, **running)
    shown = status_of(client, JOB)
    assert shown["active_run"] == {
        "id": str(active),
        "state": "running",
        "started_at": shown["active_run"]["started_at"],
        "done": 3,
        "total": 4,
    }
    assert (shown["last_run"]["id"], shown["last_run"]["outcome"]) == (str(latest), "failed")
    assert shown["last_run"]["error"] == "ValueError: no price"
    assert shown["settings"] == JobSettings(schedule="1m").model_dump(mode="json")
    assert (shown["enabled"], shown["schedule"], shown["market_open"]) == (True, "1m", True)


def test_a_disabled_job_has_no_next_slot(system: System, client: DocumentedClient) -> None:
    """It has none even before the scheduler has checked it again."""
    add_job(system)
    with engine_of(system).begin() as connection:
        connection.exec_driver_sql("UPDATE jobs.jobs SET next_slot = now() WHERE name = %s", (JOB,))
    assert status_of(client, JOB)["next_slot"] is not None
    client.put(f"/api/jobs/{JOB}/toggle", params={"enabled": "false"})
    assert status_of(client, JOB)["next_slot"] is None
    assert client.get(f"/api/jobs/{JOB}").json()["next_slots"] == []


def test_one_job_is_shown_with_its_next_five_slots(system: System, client: DocumentedClient) -> None:
    """They follow from the schedule and the time, not from the scheduler's progress."""
    add_job(system, schedule="1h")
    shown = client.get(f"/api/jobs/{JOB}").json()
    hour = utc_now().replace(minute=0, second=0, microsecond=0)
    assert len(shown["next_slots"]) == 5
    assert shown["next_slots"][0] in {f"{hour + timedelta(hours=each):%Y-%m-%dT%H:00:00Z}" for each in (1, 2)}
    assert (shown["overrides"], shown["parameters"], shown["last_run"]) == ({}, None, None)


def test_a_setting_is_overridden_while_everything_runs_and_restored(system: System, client: DocumentedClient) -> None:
    """The response has all settings in effect. Both changes are recorded with the values before and after."""
    add_job(system)
    changed = client.patch(f"/api/jobs/{JOB}", json={"schedule": "30 9 * * 1-5", "retries": 5})
    assert changed.status_code == 200
    assert (changed.json()["settings"]["schedule"], changed.json()["settings"]["retries"]) == ("30 9 * * 1-5", 5)
    shown = client.get(f"/api/jobs/{JOB}").json()
    assert shown["overrides"] == {"schedule": "30 9 * * 1-5", "retries": 5}
    assert (shown["declared"]["schedule"], shown["settings"]["schedule"]) == ("1m", "30 9 * * 1-5")
    back = client.patch(f"/api/jobs/{JOB}", json={"schedule": None})
    assert (back.json()["settings"]["schedule"], back.json()["settings"]["retries"]) == ("1m", 5)
    assert [action[:3] for action in actions(system)] == [("TESTKEY", "edit", JOB)] * 2
    assert actions(system)[1][3:] == ({"schedule": "30 9 * * 1-5"}, {"schedule": "1m"})


def test_a_wrong_setting_is_named_and_changes_nothing(system: System, client: DocumentedClient) -> None:
    """The job stays as it was, and no action is recorded."""
    add_job(system)
    refused = client.patch(f"/api/jobs/{JOB}", json={"retries": 5, "schedule": "5 parsecs"})
    assert (refused.status_code, refused.json()["field"]) == (422, "schedule")
    assert client.get(f"/api/jobs/{JOB}").json()["overrides"] == {}
    assert actions(system) == []


def test_a_run_is_triggered_with_parameters(system: System, client: DocumentedClient) -> None:
    """The run and the recorded action have them. A job without parameters refuses them by name."""
    add_job(system)
    refused = client.post(f"/api/jobs/{JOB}/trigger", json={"parameters": {"days": 3}})
    assert (refused.status_code, refused.json()["field"]) == (422, "parameters.days")
    schema = '{"type": "object", "properties": {"days": {"type": "number"}}}'
    with engine_of(system).begin() as connection:
        connection.exec_driver_sql("UPDATE jobs.jobs SET parameters = %s WHERE name = %s", (schema, JOB))
    taken = client.post(f"/api/jobs/{JOB}/trigger", json={"parameters": {"days": 2.5}})
    assert taken.status_code == 202
    run_id = taken.json()["run_id"]
    assert client.get(f"/api/runs/{run_id}").json()["parameters"] == {"days": 2.5}
    assert actions(system) == [("TESTKEY", "trigger", JOB, None, {"run_id": run_id, "parameters": {"days": 2.5}})]
    wrong = client.post(f"/api/jobs/{JOB}/trigger", json={"parameters": {"days": "three"}})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "parameters.days")


def test_a_triggered_run_is_executed_and_found_by_its_id(client: DocumentedClient) -> None:
    """The body may be empty, as in the specification."""
    run_id = client.post("/api/jobs/update_positions/trigger").json()["run_id"]
    run = eventually(lambda: (run := client.get(f"/api/runs/{run_id}").json())["state"] == "finished" and run)
    assert (run["job"], run["trigger"], run["outcome"]) == ("update_positions", "manual", "succeeded")
    assert (run["requested_by"], run["attempt"], run["duration"] >= 0) == ("TESTKEY", 1, True)


def test_a_period_is_backfilled_slot_by_slot(system: System, client: DocumentedClient) -> None:
    """It gets a run for each slot, the oldest first. The begin is inclusive, the end is exclusive."""
    add_job(system, schedule="1h")
    answer = client.post(
        f"/api/jobs/{JOB}/backfill", json={"from": "2026-01-05T10:00:00Z", "to": "2026-01-05T13:00:00Z"}
    )
    assert (answer.status_code, answer.json()["runs"]) == (202, 3)
    for hour, run_id in zip((10, 11, 12), answer.json()["run_ids"], strict=True):
        run = client.get(f"/api/runs/{run_id}").json()
        assert (run["trigger"], run["scheduled_for"]) == ("backfill", f"2026-01-05T{hour}:00:00Z")
    assert [action[:3] for action in actions(system)] == [("TESTKEY", "backfill", JOB)]


def test_a_backfill_without_a_slot_or_with_too_many_is_refused(system: System, client: DocumentedClient) -> None:
    """Nothing is queued."""
    add_job(system, schedule="1s")
    for begin, end in (
        ("2026-01-05T10:00:00.1Z", "2026-01-05T10:00:00.2Z"),
        ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
    ):
        refused = client.post(f"/api/jobs/{JOB}/backfill", json={"from": begin, "to": end})
        assert (refused.status_code, refused.json()["field"]) == (422, "from")
    refused = client.post(
        f"/api/jobs/{JOB}/backfill", json={"from": "2026-01-01T00:00:00Z", "to": "2126-01-01T00:00:00Z"}
    )
    assert (refused.status_code, refused.json()["field"]) == (422, "to")
    assert refused.json()["detail"] == "to: must not lie in the future: the time to backfill must have passed"
    assert value(engine_of(system), "SELECT count(*) FROM jobs.job_runs") == 0


def test_figures_cover_the_last_hours(system: System, client: DocumentedClient) -> None:
    """Durations, lateness, success rate and counts match a known history. Older runs are left out."""
    add_job(system)
    now = utc_now()
    for number in range(1, 101):
        slot = now - number * MINUTE / 2
        begun = slot + timedelta(milliseconds=10 * number)
        outcome = "failed" if number % 10 == 0 else "succeeded"
        times: dict[str, Any] = {"scheduled_for": slot, "queued_at": slot, "started_at": begun}
        end = begun + timedelta(seconds=number)
        add_run(system, outcome=outcome, counts={"rows": 2}, finished_at=min(end, now), **times)
    add_run(system, at=now - timedelta(hours=30), outcome="failed")
    add_run(system, at=now - MINUTE / 4, outcome="skipped", reason="test", slots=7, started_at=None, finished_at=now)
    figures = client.get(f"/api/jobs/{JOB}/figures").json()
    assert (figures["runs"], figures["succeeded"], figures["failed"], figures["skipped_slots"]) == (100, 90, 10, 7)
    assert (figures["success_rate"], figures["counts"]) == (0.9, {"rows": 200})
    assert figures["lateness_p50"] == pytest.approx(0.505, abs=0.01)
    assert figures["lateness_p99"] == pytest.approx(0.99, abs=0.02)
    assert 0 < figures["duration_p50"] < figures["duration_p95"] <= figures["duration_max"] <= 100
    assert len(figures["by_hour"]) in {24, 25}
    assert sum(hour["runs"] for hour in figures["by_hour"]) == 100
    assert client.get(f"/api/jobs/{JOB}/figures", params={"hours": 48}).json()["failed"] == 11


def test_figures_of_a_job_that_never_ran_are_null(system: System, client: DocumentedClient) -> None:
    """Only the counts are zero."""
    add_job(system)
    figures = client.get(f"/api/jobs/{JOB}/figures").json()
    assert (figures["runs"], figures["success_rate"], figures["duration_p50"], figures["lateness_p99"]) == (
        0,
        None,
        None,
        None,
    )


def test_a_repeated_toggle_keeps_the_state(system: System, client: DocumentedClient) -> None:
    """Both toggles are recorded."""
    add_job(system)
    for _ in range(2):
        assert client.put(f"/api/jobs/{JOB}/toggle?enabled=false").json() == {"name": JOB, "enabled": False}
    assert [action[3:] for action in actions(system)] == [
        ({"enabled": True}, {"enabled": False}),
        ({"enabled": False}, {"enabled": False}),
    ]
    assert rows(engine_of(system), "SELECT overrides FROM jobs.jobs WHERE name = :j", j=JOB)[0].overrides == {
        "enabled": False
    }
