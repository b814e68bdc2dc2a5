"""The alerts of jobs on a real PostgreSQL: failures, long runs, late and missed slots."""

from datetime import timedelta

import pytest

from services.gateway.alerts.evaluator import Alerts
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_desk import (
    MINUTE,
    add_job,
    add_outcomes,
    add_run,
    evaluate_until_over,
    execute,
    only,
    open_alerts,
)
from tests.conftest import FakeClock


def test_a_job_that_fails_three_times_in_a_row_is_alerted_until_it_succeeds(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock
) -> None:
    """Two failures open no alert. The third opens one with the latest error, and a success resolves it."""
    add_job(gateway, "revalue")
    add_outcomes(gateway, clock, "revalue", ["succeeded", "failed", "lost"])
    alerts.evaluate()
    assert open_alerts(gateway) == []
    add_outcomes(gateway, clock, "revalue", ["failed"])
    alerts.evaluate()
    opened = only(gateway)
    assert (opened.kind, opened.subject, opened.severity) == ("job_failing", "revalue", "critical")
    assert opened.message == (
        "The last 3 runs of job revalue (valuation) failed, the latest with: ValueError: no price;"
        " mend the cause, then trigger the job to see it pass."
    )
    assert opened.facts["failures"] == 3
    add_outcomes(gateway, clock, "revalue", ["succeeded"])
    evaluate_until_over(alerts, clock)
    assert open_alerts(gateway) == []


def test_skipped_and_canceled_runs_and_parts_neither_open_nor_resolve_an_alert(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock
) -> None:
    """They do not count between failures. The number of failures is the job's setting."""
    add_job(gateway, "revalue", alert_failures=2)
    add_outcomes(gateway, clock, "revalue", ["failed", "skipped", "canceled"])
    add_outcomes(gateway, clock, "revalue", ["failed", "succeeded"], part=1)
    alerts.evaluate()
    assert open_alerts(gateway) == []
    add_outcomes(gateway, clock, "revalue", ["failed", "skipped"])
    add_outcomes(gateway, clock, "revalue", ["succeeded"], part=2)
    alerts.evaluate()
    assert open_alerts(gateway) == [("job_failing", "revalue")]


@pytest.mark.parametrize("state", ["running", "joining"])
def test_a_run_that_takes_longer_than_its_job_allows_is_alerted_until_it_ends(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock, state: str
) -> None:
    """The facts name the run, and the subject is the job."""
    add_job(gateway, "revalue", alert_runtime="2m")
    run_id = add_run(gateway, "revalue", state=state, started_at=clock.now, worker="box:7:1")
    clock.move(minutes=2)
    alerts.evaluate()
    assert open_alerts(gateway) == []
    clock.move(seconds=1)
    alerts.evaluate()
    assert open_alerts(gateway) == [("run_too_long", "revalue")]
    assert only(gateway).facts["run_id"] == str(run_id)
    assert "longer than 2 minutes" in only(gateway).message
    execute(gateway, "UPDATE jobs.job_runs SET state = 'finished', outcome = 'succeeded', finished_at = now()")
    evaluate_until_over(alerts, clock)
    assert open_alerts(gateway) == []


def test_a_job_that_no_scheduler_plans_is_late(gateway: ServiceContext, alerts: Alerts, clock: FakeClock) -> None:
    """The alert opens after the job's limit, but not for a disabled job. A scheduler that plans the job resolves it."""
    add_job(gateway, "revalue", due_at=clock.now, alert_late="1m")
    add_job(gateway, "disabled", due_at=clock.now, enabled=False)
    clock.move(minutes=1)
    alerts.evaluate()
    assert open_alerts(gateway) == []
    clock.move(seconds=1)
    alerts.evaluate()
    assert open_alerts(gateway) == [("slot_late", "revalue")]
    assert "no scheduler of valuation has looked at it" in only(gateway).message
    execute(gateway, "UPDATE jobs.jobs SET due_at = :next", next=clock.now + MINUTE)
    evaluate_until_over(alerts, clock)
    assert open_alerts(gateway) == []


@pytest.mark.parametrize("state", ["queued", "waiting"])
def test_a_scheduled_run_that_no_worker_begins_is_late(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock, state: str
) -> None:
    """The alert is resolved when the run begins."""
    add_job(gateway, "revalue")
    run_id = add_run(gateway, "revalue", trigger="schedule", scheduled_for=clock.now, state=state)
    clock.move(seconds=61)
    alerts.evaluate()
    assert open_alerts(gateway) == [("slot_late", "revalue")]
    assert only(gateway).facts["run_id"] == str(run_id)
    execute(gateway, "UPDATE jobs.job_runs SET state = 'running', started_at = :now", now=clock.now)
    evaluate_until_over(alerts, clock)
    assert open_alerts(gateway) == []


def test_a_run_that_waits_for_its_time_is_not_late(gateway: ServiceContext, alerts: Alerts, clock: FakeClock) -> None:
    """A postponed run and a manual run open no alert."""
    add_job(gateway, "revalue")
    hour = timedelta(hours=1)
    add_run(
        gateway, "revalue", trigger="schedule", scheduled_for=clock.now, state="waiting", not_before=clock.now + hour
    )
    add_run(gateway, "revalue", scheduled_for=clock.now, state="queued")
    clock.move(minutes=10)
    alerts.evaluate()
    assert open_alerts(gateway) == []


def test_missed_slots_are_alerted_until_none_was_missed_for_five_minutes(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock
) -> None:
    """One missed slot opens the alert. A skip for another reason does not."""
    add_job(gateway, "revalue")
    add_job(gateway, "busy")
    missed = {"trigger": "schedule", "outcome": "skipped", "scheduled_for": clock.now - MINUTE}
    add_run(
        gateway, "revalue", **missed, slots=12, last_slot=clock.now, reason="missed: nobody claimed the slot in time"
    )
    add_run(gateway, "busy", **missed, reason="the previous run is still in progress")
    add_outcomes(gateway, clock, "revalue", ["succeeded"])
    alerts.evaluate()
    assert open_alerts(gateway) == [("slot_missed", "revalue")]
    assert only(gateway).message.startswith("Job revalue missed 12 slots, the last at ")
    clock.move(minutes=5)
    evaluate_until_over(alerts, clock)
    assert open_alerts(gateway) == []


def test_another_missed_slot_in_the_same_row_opens_a_new_alert(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock
) -> None:
    """A row of skips keeps the age of its first slot, but the alert goes by the latest."""
    add_job(gateway, "revalue")
    reason = "missed: nobody claimed the slot in time"
    add_run(gateway, "revalue", trigger="schedule", outcome="skipped", scheduled_for=clock.now, reason=reason)
    clock.move(hours=1)
    alerts.evaluate()
    assert open_alerts(gateway) == []
    execute(gateway, "UPDATE jobs.job_runs SET slots = 2, finished_at = :now, last_slot = :now", now=clock.now)
    alerts.evaluate()
    assert open_alerts(gateway) == [("slot_missed", "revalue")]
