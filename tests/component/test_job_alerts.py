"""Alert rules for jobs on a real PostgreSQL: failures, long runs, late and missed slots."""

from datetime import timedelta

import pytest

from services.gateway.alerts.evaluator import Evaluator
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_rows import (
    MINUTE,
    add_job,
    add_outcomes,
    add_run,
    evaluate_for,
    evaluate_until_resolved,
    execute,
    only_notification,
    open_alerts,
)
from tests.conftest import FakeClock


def test_a_job_that_fails_three_times_in_a_row_raises_an_alert_until_it_succeeds(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """Two failures raise none. The third opens it with the latest error, and three successes resolve it."""
    add_job(gateway, "revalue")
    add_outcomes(gateway, clock, "revalue", ["succeeded", "failed", "lost"])
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    add_outcomes(gateway, clock, "revalue", ["failed"])
    evaluator.evaluate()
    opened = only_notification(gateway)
    assert (opened.kind, opened.subject, opened.severity) == ("job_failing", "revalue", "critical")
    assert opened.message == (
        "The last 3 runs of job revalue (valuation) failed, the latest with: ValueError: no price;"
        " fix the cause, then trigger the job to check it."
    )
    assert opened.facts["failures"] == 3
    add_outcomes(gateway, clock, "revalue", ["succeeded"] * 3)
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


def test_skipped_and_canceled_runs_and_parts_neither_fail_nor_fix_a_job(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """They do not count between failures. A setting of the job is the number of failures."""
    add_job(gateway, "revalue", alert_failures=2)
    add_outcomes(gateway, clock, "revalue", ["failed", "skipped", "canceled"])
    add_outcomes(gateway, clock, "revalue", ["failed", "succeeded"], part=1)
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    add_outcomes(gateway, clock, "revalue", ["failed", "skipped"])
    add_outcomes(gateway, clock, "revalue", ["succeeded"], part=2)
    evaluator.evaluate()
    assert open_alerts(gateway) == [("job_failing", "revalue")]


@pytest.mark.parametrize("state", ["running", "joining"])
def test_a_run_longer_than_its_job_allows_raises_an_alert_until_it_ends(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock, state: str
) -> None:
    """The facts name the run, and the subject is the job."""
    add_job(gateway, "revalue", alert_runtime="2m")
    run_id = add_run(gateway, "revalue", state=state, started_at=clock.now, worker="box:7:1")
    clock.move(minutes=2)
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    clock.move(seconds=1)
    evaluator.evaluate()
    assert open_alerts(gateway) == [("run_too_long", "revalue")]
    assert only_notification(gateway).facts["run_id"] == str(run_id)
    assert "longer than 2 minutes" in only_notification(gateway).message
    execute(gateway, "UPDATE jobs.job_runs SET state = 'finished', outcome = 'succeeded', finished_at = now()")
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


def test_a_job_that_no_scheduler_checks_is_late(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """It is not late before its limit or while it is disabled. A scheduler that checks it resolves the alert."""
    add_job(gateway, "revalue", due_at=clock.now, alert_late="1m")
    add_job(gateway, "disabled", due_at=clock.now, enabled=False)
    clock.move(minutes=1)
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    clock.move(seconds=1)
    evaluator.evaluate()
    assert open_alerts(gateway) == [("slot_late", "revalue")]
    assert "no scheduler of valuation has checked it" in only_notification(gateway).message
    execute(gateway, "UPDATE jobs.jobs SET due_at = :next", next=clock.now + 5 * MINUTE)
    evaluate_for(evaluator, clock, seconds=60)
    assert open_alerts(gateway) == []


@pytest.mark.parametrize("state", ["queued", "waiting"])
def test_a_scheduled_run_that_no_worker_starts_is_late(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock, state: str
) -> None:
    """The alert is resolved when the run starts."""
    add_job(gateway, "revalue")
    run_id = add_run(gateway, "revalue", trigger="schedule", scheduled_for=clock.now, state=state)
    clock.move(seconds=61)
    evaluator.evaluate()
    assert open_alerts(gateway) == [("slot_late", "revalue")]
    assert only_notification(gateway).facts["run_id"] == str(run_id)
    execute(gateway, "UPDATE jobs.job_runs SET state = 'running', started_at = :now", now=clock.now)
    evaluate_for(evaluator, clock, seconds=60)
    assert open_alerts(gateway) == []


def test_a_run_that_waits_for_its_time_is_not_late(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """A postponed run and a triggered run are not late."""
    add_job(gateway, "revalue")
    hour = timedelta(hours=1)
    add_run(
        gateway, "revalue", trigger="schedule", scheduled_for=clock.now, state="waiting", not_before=clock.now + hour
    )
    add_run(gateway, "revalue", scheduled_for=clock.now, state="queued")
    clock.move(minutes=10)
    evaluator.evaluate()
    assert open_alerts(gateway) == []


def test_missed_slots_raise_an_alert_until_none_was_missed_for_five_minutes(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """One missed slot is enough. A slot that was skipped for another reason does not count."""
    add_job(gateway, "revalue")
    add_job(gateway, "busy")
    missed = {"trigger": "schedule", "outcome": "skipped", "scheduled_for": clock.now - MINUTE}
    add_run(
        gateway, "revalue", **missed, slots=12, last_slot=clock.now, reason="missed: nobody claimed the slot in time"
    )
    add_run(gateway, "busy", **missed, reason="the previous run is still in progress")
    add_outcomes(gateway, clock, "revalue", ["succeeded"])
    evaluator.evaluate()
    assert open_alerts(gateway) == [("slot_missed", "revalue")]
    assert only_notification(gateway).message.startswith("Job revalue missed 12 slots, the last at ")
    clock.move(minutes=5)
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


def test_a_skip_that_grows_is_missed_anew(gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock) -> None:
    """The row of a job's last skips is as old as the first of them, but it counts by the latest."""
    add_job(gateway, "revalue")
    reason = "missed: nobody claimed the slot in time"
    add_run(gateway, "revalue", trigger="schedule", outcome="skipped", scheduled_for=clock.now, reason=reason)
    clock.move(hours=1)
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    execute(gateway, "UPDATE jobs.job_runs SET slots = 2, finished_at = :now, last_slot = :now", now=clock.now)
    evaluator.evaluate()
    assert open_alerts(gateway) == [("slot_missed", "revalue")]


def test_a_job_that_fails_three_times_in_four_is_one_alert(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """A single success between failures does not end it. Fifteen minutes without three failures in a row do."""
    add_job(gateway, "revalue")
    for _ in range(5):
        add_outcomes(gateway, clock, "revalue", ["failed"] * 3)
        evaluator.evaluate()
        add_outcomes(gateway, clock, "revalue", ["succeeded"])
        evaluate_for(evaluator, clock, seconds=30)
    assert open_alerts(gateway) == [("job_failing", "revalue")]
    assert only_notification(gateway).resolved_at is None
    evaluate_for(evaluator, clock, seconds=15 * 60)
    assert only_notification(gateway).resolved_at is not None


@pytest.mark.parametrize("state", ["queued", "waiting"])
def test_a_run_in_a_paused_queue_is_not_late(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock, state: str
) -> None:
    """It is late once the queue is resumed."""
    add_job(gateway, "revalue")
    add_run(gateway, "revalue", trigger="schedule", scheduled_for=clock.now, state=state)
    execute(gateway, "INSERT INTO jobs.queue_controls VALUES ('valuation.jobs', true, now(), 'OPERATOR1')")
    clock.move(seconds=61)
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    execute(gateway, "UPDATE jobs.queue_controls SET paused = false")
    evaluator.evaluate()
    assert open_alerts(gateway) == [("slot_late", "revalue")]
