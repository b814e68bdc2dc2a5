"""Alerts after a start, a pause and a set clock: nothing that only stood still is called late or dead."""

import time
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from services.gateway.alerts.evaluator import PAUSE, Evaluator
from services.gateway.alerts.notifier import LONGEST_PAUSE
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_rows import (
    MINUTE,
    add_job,
    add_worker,
    beat,
    evaluate_for,
    evaluate_until_resolved,
    execute,
    let_pass,
    make_evaluator,
    notifications,
    only_notification,
    open_alert,
    open_alerts,
)
from tests.component.webhook import Webhook, notifier_to
from tests.conftest import FakeClock

HOUR = timedelta(hours=1)


def test_failures_from_before_our_start_raise_no_alert_for_a_minute(gateway: ServiceContext, clock: FakeClock) -> None:
    """When everything is started together, yesterday's workers and slots are no failures yet."""
    add_worker(gateway, "yesterday", beat=clock.now - timedelta(days=1), started=clock.now - timedelta(days=2))
    add_job(gateway, "revalue", due_at=clock.now - timedelta(days=1))
    evaluator = Evaluator(gateway, None, queue_age=MINUTE)
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    evaluate_for(evaluator, clock, seconds=61)
    assert open_alerts(gateway) == [("heartbeat_gone", "yesterday"), ("slot_late", "revalue")]


def test_after_a_pause_slots_and_heartbeats_from_before_it_raise_no_alert_for_a_minute(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """An alert that was open before stays open. A failure that lasts raises its alert after the grace."""
    add_job(gateway, "late", due_at=clock.now - 2 * MINUTE)
    evaluator.evaluate()
    opened = only_notification(gateway)
    add_job(gateway, "revalue", due_at=clock.now)
    add_worker(gateway, "box:7:1", beat=clock.now, started=clock.now)
    let_pass(gateway, clock, minutes=5)
    evaluator.evaluate()
    evaluate_for(evaluator, clock, seconds=50)
    assert open_alerts(gateway) == [("slot_late", "late")]
    assert only_notification(gateway).id == opened.id
    evaluate_for(evaluator, clock, seconds=20)
    assert open_alerts(gateway) == [("heartbeat_gone", "box:7:1"), ("slot_late", "late"), ("slot_late", "revalue")]


def test_after_a_sleep_that_the_clock_does_not_show_slots_from_before_it_raise_no_alert(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of a machine that was resumed may be set late. The monotonic clock tells of the gap."""
    evaluator.evaluate()
    add_job(gateway, "revalue", due_at=clock.now - 2 * MINUTE)
    asleep = time.monotonic() + PAUSE.total_seconds() + 1
    monkeypatch.setattr("services.gateway.alerts.evaluator.time.monotonic", lambda: asleep)
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    evaluate_for(evaluator, clock, seconds=61)
    assert open_alerts(gateway) == [("slot_late", "revalue")]


def test_after_an_outage_of_the_database_slots_from_before_it_raise_no_alert(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short the gap between two evaluations: nobody could claim a slot."""
    evaluator.evaluate()
    add_job(gateway, "revalue", due_at=clock.now - 2 * MINUTE)
    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "evaluate", _database_down)
        patch.setattr(evaluator.stopping, "wait", lambda _: evaluator.stopping.set())
        evaluator.run()
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    evaluate_for(evaluator, clock, seconds=61)
    assert open_alerts(gateway) == [("slot_late", "revalue")]


def _database_down() -> None:
    raise OperationalError("", {}, Exception("away"))


@pytest.mark.parametrize("hours", [-1, 1])
def test_heartbeats_are_judged_by_the_clock_of_postgresql(
    gateway: ServiceContext, clock: FakeClock, hours: int
) -> None:
    """The clock of the gateway is off, and no process is called dead, or alive, for that."""
    add_worker(gateway, "alive", beat=clock.now, started=clock.now)
    add_worker(gateway, "dead", service="strategy", beat=clock.now - MINUTE, started=clock.now - MINUTE)
    clock.move(hours=hours)
    make_evaluator(gateway, clock).evaluate()
    assert open_alerts(gateway) == [("heartbeat_gone", "dead")]


def test_a_clock_that_goes_back_during_a_start_makes_no_long_grace(gateway: ServiceContext, clock: FakeClock) -> None:
    """It is a minute, and not the whole jump."""
    add_worker(gateway, "alive", beat=clock.now, started=clock.now)
    add_worker(gateway, "dead", service="strategy", beat=clock.now - MINUTE, started=clock.now - MINUTE)
    evaluator = Evaluator(gateway, None, queue_age=MINUTE)
    clock.now -= HOUR
    evaluate_for(evaluator, clock, seconds=75)
    beat(gateway, "alive")
    evaluator.evaluate()
    assert ("heartbeat_gone", "dead") in open_alerts(gateway)


def test_an_alert_is_resolved_after_the_clock_went_back(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """It was last seen an hour ahead."""
    execute(
        gateway,
        "INSERT INTO jobs.breakers (name, state, since, updated_at) VALUES ('yahoo', 'open', :now, :now)",
        now=clock.now,
    )
    evaluator.evaluate()
    execute(gateway, "UPDATE jobs.breakers SET state = 'closed'")
    clock.now -= HOUR
    evaluate_until_resolved(evaluator, clock)
    assert [row.resolved_at is not None for row in notifications(gateway)] == [True]


def test_an_alert_is_sent_after_the_clock_went_back(gateway: ServiceContext, clock: FakeClock, hook: Webhook) -> None:
    """Its next try lies further ahead than any pause is long."""
    open_alert(gateway)
    ahead = clock.now + LONGEST_PAUSE + MINUTE
    execute(gateway, "UPDATE jobs.notifications SET next_try_at = :ahead", ahead=ahead)
    assert notifier_to(gateway, hook).send() == 1
    assert len(hook.titles) == 1
