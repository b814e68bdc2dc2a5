"""The alerts of what jobs depend on, on a real PostgreSQL: breakers, letters, queues and workers."""

from datetime import timedelta

from services.gateway.alerts.evaluator import Alerts
from shared.bus.amqp.queue_stats import QueueStats
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_desk import (
    MINUTE,
    add_job,
    add_worker,
    evaluate_until_over,
    execute,
    notifications,
    only,
    open_alerts,
    watching,
)
from tests.component.watching import unit_of
from tests.conftest import FakeClock


def test_an_open_breaker_is_told_until_it_closes(gateway: ServiceContext, alerts: Alerts, clock: FakeClock) -> None:
    """Half open it still stands: it may open again."""
    execute(
        gateway,
        "INSERT INTO jobs.breakers (name, state, failures, since, last_error, updated_at)"
        " VALUES ('yahoo', 'open', 5, :now, 'HTTP 503', :now), ('stooq', 'closed', 0, :now, NULL, :now)",
        now=clock.now,
    )
    alerts.evaluate()
    assert open_alerts(gateway) == [("breaker_open", "yahoo")]
    assert "HTTP 503" in only(gateway).message
    execute(gateway, "UPDATE jobs.breakers SET state = 'half_open' WHERE name = 'yahoo'")
    evaluate_until_over(alerts, clock)
    assert open_alerts(gateway) == [("breaker_open", "yahoo")]
    execute(gateway, "UPDATE jobs.breakers SET state = 'closed'")
    evaluate_until_over(alerts, clock)
    assert open_alerts(gateway) == []


def test_new_dead_letters_are_told_until_none_is_new(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock, urls: dict[str, str]
) -> None:
    """Old ones that nobody has looked at stay rows and are no alert; one more is."""
    with unit_of("orders", urls, clock) as orders:
        _bury(orders, clock, 3)
        alerts.evaluate()
        assert open_alerts(gateway) == [("dead_letters", "orders")]
        assert only(gateway).message == (
            "3 messages of orders became a dead letter in the last 15 minutes, mostly in orders.commands"
            " for KeyError: 'qty'; mend the cause, then send them again or discard them."
        )
        clock.move(minutes=15)
        evaluate_until_over(alerts, clock)
        assert open_alerts(gateway) == []
        _bury(orders, clock, 1)
        alerts.evaluate()
        assert notifications(gateway)[-1].facts["fresh"] == 1


def _bury(context: ServiceContext, clock: FakeClock, count: int) -> None:
    execute(
        context,
        "INSERT INTO orders.dead_letters (queue, message_id, actor, body, size, reason, error, died_at)"
        " SELECT 'orders.commands', gen_random_uuid(), 'SubmitOrder.v1', '', 0, 'KeyError: ''qty''', '', :now"
        " FROM generate_series(1, :count)",
        now=clock.now,
        count=count,
    )


def test_a_service_whose_view_is_not_there_yet_is_left_out(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock, urls: dict[str, str]
) -> None:
    """The letters of the others are told all the same."""
    with unit_of("strategy", urls, clock) as strategy, unit_of("orders", urls, clock) as orders:
        execute(strategy, "DROP VIEW strategy.dead_letters_v1")
        _bury(orders, clock, 1)
    alerts.evaluate()
    assert open_alerts(gateway) == [("dead_letters", "orders")]


def test_a_queue_whose_oldest_message_waits_too_long_is_told_unless_it_is_paused(
    gateway: ServiceContext, clock: FakeClock
) -> None:
    """What waits for a later try, and a queue of one gateway process, may be as old as it likes."""
    ages = {"orders.commands": 301.0, "valuation.fills": 300.0, "orders.commands.DQ": 9000.0, "gateway.box.1": 9000.0}
    alerts = watching(gateway, clock, lambda: _figures(ages))
    alerts.evaluate()
    assert open_alerts(gateway) == [("queue_old", "orders.commands")]
    assert "nothing consumes it, so see that orders runs" in only(gateway).message
    execute(gateway, "INSERT INTO jobs.queue_controls VALUES ('orders.commands', true, now(), 'OPERATOR1')")
    evaluate_until_over(alerts, clock)
    assert open_alerts(gateway) == []


def _figures(ages: dict[str, float]) -> list[QueueStats]:
    empty = QueueStats("valuation.prices", 0, 0, 1, 0.0, 0.0, None)
    return [empty, *(QueueStats(queue, 4, 0, 0, 0.0, 0.0, age) for queue, age in ages.items())]


def test_a_worker_that_beats_no_more_is_told_until_it_beats_again_or_says_that_it_stopped(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock
) -> None:
    """With no other left it is critical; a stop in good order is no alert."""
    add_worker(gateway, "box:7:1", beat=clock.now, started=clock.now)
    clock.move(seconds=15)
    alerts.evaluate()
    assert open_alerts(gateway) == []
    for end in ("heartbeat_at = :now", "stopped_at = :now"):
        clock.move(seconds=16)
        alerts.evaluate()
        assert open_alerts(gateway) == [("heartbeat_gone", "box:7:1")]
        assert notifications(gateway)[-1].severity == "critical"
        execute(gateway, f"UPDATE jobs.workers SET {end}", now=clock.now + timedelta(seconds=10))
        evaluate_until_over(alerts, clock)
        assert open_alerts(gateway) == []


def test_a_crashed_replica_that_was_replaced_is_over_after_ten_minutes(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock
) -> None:
    """Its row never says that it stopped. One that works since before the crash replaces nobody."""
    add_worker(gateway, "old", beat=clock.now, started=clock.now - MINUTE)
    add_worker(gateway, "twin", beat=clock.now, started=clock.now - MINUTE)
    clock.move(seconds=20)
    _beat(gateway, "twin")
    alerts.evaluate()
    assert open_alerts(gateway) == [("heartbeat_gone", "old")]
    assert notifications(gateway)[-1].severity == "warning"
    clock.move(minutes=11)
    _beat(gateway, "twin")
    evaluate_until_over(alerts, clock)
    assert open_alerts(gateway) == [("heartbeat_gone", "old")]
    add_worker(gateway, "new", beat=clock.now, started=clock.now)
    _beat(gateway, "twin")
    evaluate_until_over(alerts, clock)
    assert open_alerts(gateway) == []


def _beat(context: ServiceContext, worker: str) -> None:
    execute(context, "UPDATE jobs.workers SET heartbeat_at = :now WHERE id = :id", id=worker, now=context.clock())


def test_what_was_lost_before_our_start_is_left_a_minute_to_come_back(
    gateway: ServiceContext, clock: FakeClock
) -> None:
    """When everything is started together, yesterday's workers and slots are nobody's failure yet."""
    add_worker(gateway, "yesterday", beat=clock.now - timedelta(days=1), started=clock.now - timedelta(days=2))
    add_job(gateway, "revalue", due_at=clock.now - timedelta(days=1))
    alerts = Alerts(gateway, None, queue_age=MINUTE)
    alerts.evaluate()
    assert open_alerts(gateway) == []
    clock.move(seconds=61)
    alerts.evaluate()
    assert open_alerts(gateway) == [("heartbeat_gone", "yesterday"), ("slot_late", "revalue")]
