"""Alert rules for the dependencies of jobs on a real PostgreSQL: breakers, dead letters, queues and workers."""

from datetime import timedelta

import pytest

from services.gateway.alerts.evaluator import Evaluator
from services.gateway.http import wrong_keys
from services.gateway.retention import Retention
from shared.bus.amqp.queue_stats import QueueStats
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_rows import (
    MINUTE,
    add_worker,
    beat,
    evaluate_for,
    evaluate_until_resolved,
    execute,
    let_pass,
    make_evaluator,
    notifications,
    only_notification,
    open_alerts,
)
from tests.component.watching import context_of
from tests.conftest import FakeClock
from tests.support import rows

NOW = 500


def test_an_open_breaker_raises_an_alert_until_it_closes(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """A half-open breaker still raises it, because it may open again."""
    execute(
        gateway,
        "INSERT INTO jobs.breakers (name, state, failures, since, last_error, updated_at)"
        " VALUES ('yahoo', 'open', 5, :now, 'HTTP 503', :now), ('stooq', 'closed', 0, :now, NULL, :now)",
        now=clock.now,
    )
    evaluator.evaluate()
    assert open_alerts(gateway) == [("breaker_open", "yahoo")]
    assert "HTTP 503" in only_notification(gateway).message
    execute(gateway, "UPDATE jobs.breakers SET state = 'half_open' WHERE name = 'yahoo'")
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == [("breaker_open", "yahoo")]
    execute(gateway, "UPDATE jobs.breakers SET state = 'closed'")
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


def test_new_dead_letters_raise_an_alert_until_none_is_new(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock, urls: dict[str, str]
) -> None:
    """Old dead letters raise none, even if nobody has handled them. One new dead letter raises another alert."""
    with context_of("orders", urls, clock) as orders:
        _dead_letter(orders, clock, 3)
        evaluator.evaluate()
        assert open_alerts(gateway) == [("dead_letters", "orders")]
        assert only_notification(gateway).message == (
            "3 messages of orders became dead letters in the last 15 minutes, mostly in orders.commands"
            " for KeyError: 'qty'; fix the cause, then requeue or discard them."
        )
        clock.move(minutes=15)
        evaluate_until_resolved(evaluator, clock)
        assert open_alerts(gateway) == []
        _dead_letter(orders, clock, 1)
        evaluator.evaluate()
        assert notifications(gateway)[-1].facts["fresh"] == 1


def _dead_letter(context: ServiceContext, clock: FakeClock, count: int) -> None:
    execute(
        context,
        "INSERT INTO orders.dead_letters (queue, message_id, actor, body, size, reason, error, died_at)"
        " SELECT 'orders.commands', gen_random_uuid(), 'SubmitOrder.v1', '', 0, 'KeyError: ''qty''', '', :now"
        " FROM generate_series(1, :count)",
        now=clock.now,
        count=count,
    )


def test_a_service_without_its_view_is_left_out(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock, urls: dict[str, str]
) -> None:
    """The dead letters of the other services still raise an alert."""
    with context_of("strategy", urls, clock) as strategy, context_of("orders", urls, clock) as orders:
        execute(strategy, "DROP VIEW strategy.dead_letters_v1")
        _dead_letter(orders, clock, 1)
    evaluator.evaluate()
    assert open_alerts(gateway) == [("dead_letters", "orders")]


def test_an_old_message_in_a_queue_raises_an_alert_unless_the_queue_is_paused(
    gateway: ServiceContext, clock: FakeClock
) -> None:
    """Messages that wait for a retry, and those in the queue of a gateway process, raise none at any age."""
    ages = {"orders.commands": 301.0, "valuation.fills": 300.0, "orders.commands.DQ": 9000.0, "gateway.box.1": 9000.0}
    evaluator = make_evaluator(gateway, clock, lambda: _figures(ages))
    evaluator.evaluate()
    assert open_alerts(gateway) == [("queue_old", "orders.commands")]
    assert "nothing consumes it, so make sure that orders is running" in only_notification(gateway).message
    execute(gateway, "INSERT INTO jobs.queue_controls VALUES ('orders.commands', true, now(), 'OPERATOR1')")
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


def _figures(ages: dict[str, float]) -> list[QueueStats]:
    empty = QueueStats("valuation.prices", 0, 0, 1, 0.0, 0.0, None)
    return [empty, *(QueueStats(queue, 4, 0, 0, 0.0, 0.0, age) for queue, age in ages.items())]


def test_a_worker_without_heartbeats_raises_an_alert_until_it_beats_or_has_stopped(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """The alert of the last worker is critical. A clean stop resolves it."""
    add_worker(gateway, "box:7:1", beat=clock.now, started=clock.now)
    let_pass(gateway, clock, seconds=14)
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    for end in ("heartbeat_at", "stopped_at"):
        evaluate_for(evaluator, clock, seconds=16)
        assert open_alerts(gateway) == [("heartbeat_gone", "box:7:1")]
        assert notifications(gateway)[-1].severity == "critical"
        execute(gateway, f"UPDATE jobs.workers SET {end} = now()")
        evaluate_until_resolved(evaluator, clock)
        assert open_alerts(gateway) == []


def test_the_alert_of_a_replaced_replica_is_resolved_after_ten_minutes(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """A crashed replica never records its stop. A replica that was started before the crash does not replace it."""
    add_worker(gateway, "old", beat=clock.now, started=clock.now - MINUTE)
    add_worker(gateway, "twin", beat=clock.now, started=clock.now - MINUTE)
    let_pass(gateway, clock, seconds=20)
    beat(gateway, "twin")
    evaluator.evaluate()
    assert open_alerts(gateway) == [("heartbeat_gone", "old")]
    assert notifications(gateway)[-1].severity == "warning"
    evaluate_for(evaluator, clock, seconds=11 * 60)
    beat(gateway, "twin")
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == [("heartbeat_gone", "old")]
    add_worker(gateway, "new", beat=clock.now, started=clock.now)
    beat(gateway, "twin")
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


@pytest.mark.parametrize(
    ("processes", "alerts"),
    [
        # an upgrade: the old container was killed, and a new one, on another host, works
        ([("old", 0, 100), ("new", 105, NOW)], []),
        # both replicas, one after the other
        ([("old 1", 0, 100), ("new 1", 110, NOW), ("old 2", 0, 120), ("new 2", 130, NOW)], []),
        # the new replica is started before the old one is killed
        ([("old", 0, 300), ("new", 270, NOW)], []),
        # crashes, each of which was followed by a restart
        ([("1", 0, 50), ("2", 55, 90), ("3", 95, 140), ("4", 150, NOW)], []),
        # a lost replica beside one that was started with it, or long before
        ([("lost", 1, 100), ("twin", 2, NOW)], ["lost"]),
        ([("lost", 0, 400), ("other", 300, NOW)], ["lost"]),
        # two were lost, and one was replaced
        ([("lost", 0, 100), ("replaced", 0, 101), ("new", 120, NOW)], ["lost"]),
        # the replacement was lost, too
        ([("old", 0, 100), ("replacement", 110, 200)], ["replacement"]),
        # the only new process is of another service
        ([("lost", 0, 100), ("other service", 110, NOW)], ["lost"]),
    ],
)
def test_a_lost_process_raises_an_alert_unless_another_was_started_in_its_place(
    gateway: ServiceContext,
    evaluator: Evaluator,
    clock: FakeClock,
    processes: list[tuple[str, int, int]],
    alerts: list[str],
) -> None:
    """Processes are (id, start, last heartbeat), in seconds."""
    begin = clock.move(seconds=NOW) - timedelta(seconds=NOW)
    for worker, started, last in processes:
        service = "valuation" if worker == "other service" else "orders"
        times = {"started": begin + timedelta(seconds=started), "beat": begin + timedelta(seconds=last)}
        add_worker(gateway, worker, service=service, **times)
    evaluator.evaluate()
    assert open_alerts(gateway) == [("heartbeat_gone", worker) for worker in alerts]


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


def test_wrong_keys_raise_an_alert_until_they_stop(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """By address, and by key id where no address alone explains it. A row is kept for a day."""
    spread = {("PK1", f"10.0.0.{n}"): 10 for n in range(3)}
    wrong_keys.flush(gateway, {**spread, ("PK2", "203.0.113.9"): 20, ("PK3", "203.0.113.9"): 1})
    evaluator.evaluate()
    assert open_alerts(gateway) == [("keys_guessed", "key PK1")]
    wrong_keys.flush(gateway, {("PK2", "203.0.113.9"): 9})
    evaluator.evaluate()
    assert open_alerts(gateway) == [("keys_guessed", "address 203.0.113.9"), ("keys_guessed", "key PK1")]
    clock.move(minutes=5)
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []
    wrong_keys.flush(gateway, {("PK2", "203.0.113.9"): 3})  # the earlier tries are over
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []
    clock.move(hours=24)
    wrong_keys.flush(gateway, {("PK4", "203.0.113.9"): 1})
    Retention(gateway).remove_old_rows()
    assert [tuple(row) for row in rows(gateway.engine, "SELECT key_id, tries FROM gateway.wrong_keys")] == [("PK4", 1)]


def test_a_live_process_whose_clock_is_off_raises_an_alert_until_it_is_right(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """Two seconds either way are allowed. A process without heartbeats raises none."""
    execute(
        gateway,
        "INSERT INTO jobs.workers (id, service, host, pid, kind, started_at, stopped_at, heartbeat_at, clock_ahead)"
        " SELECT id, 'orders', 'box', 7, 'worker', now(), stopped_at, now() - quiet, ahead"
        " FROM (VALUES ('ahead', NULL::timestamptz, interval '0', interval '2.5 s'), ('behind', NULL, '0', '-3 s'),"
        " ('right', NULL, '0', '2 s'), ('silent', NULL, '20 s', '1 h'), ('stopped', now(), '0', '1 h'))"
        " AS given (id, stopped_at, quiet, ahead)",
    )
    evaluator.evaluate()
    assert [each for each in open_alerts(gateway) if each[0] == "clock_off"] == [
        ("clock_off", "ahead"),
        ("clock_off", "behind"),
    ]
    (behind,) = [row for row in notifications(gateway) if (row.kind, row.subject) == ("clock_off", "behind")]
    assert behind.severity == "warning"
    assert behind.message == (
        "The clock of box, which runs a worker of orders, is 3.0 seconds behind PostgreSQL's;"
        " synchronize both hosts by NTP."
    )
    execute(gateway, "UPDATE jobs.workers SET clock_ahead = interval '0'")
    evaluate_until_resolved(evaluator, clock)
    assert [each for each in open_alerts(gateway) if each[0] == "clock_off"] == []
