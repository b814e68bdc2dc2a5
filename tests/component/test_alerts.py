"""The rows of alerts on a real PostgreSQL: one for each alert however often and by whomever it is evaluated."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from services.gateway.alerts import rules
from services.gateway.alerts.evaluator import Alerts
from shared.bus.amqp.management import ManagementRefused
from shared.bus.amqp.queue_stats import QueueStats
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_desk import (
    add_job,
    add_outcomes,
    evaluate_until_over,
    execute,
    held_before,
    notifications,
    open_alerts,
    watching,
)
from tests.component.watching import statements, unit_of
from tests.conftest import FakeClock
from tests.support import eventually, rows, value

EVALUATORS = 4
ROUNDS = 10


def fail(context: ServiceContext, clock: FakeClock, job: str, times: int = 3) -> None:
    add_outcomes(context, clock, job, ["failed"] * times)


def test_an_alert_that_stands_is_one_row_with_the_latest_facts(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock
) -> None:
    """Evaluated again, it is seen again; it is logged once when it opens and once when it is over."""
    add_job(gateway, "revalue")
    fail(gateway, clock, "revalue")
    with capture_logs() as logs:
        alerts.evaluate()
        opened_at = clock.now
        clock.move(seconds=5)
        fail(gateway, clock, "revalue", 1)
        alerts.evaluate()
        (row,) = notifications(gateway)
        assert (row.opened_at, row.seen_at, row.resolved_at) == (opened_at, clock.now, None)
        assert row.facts["failed_at"] == (clock.now - timedelta(seconds=1)).isoformat()
        add_outcomes(gateway, clock, "revalue", ["succeeded"])
        evaluate_until_over(alerts, clock)
    (row,) = notifications(gateway)
    assert row.resolved_at == clock.now
    assert [entry["event"] for entry in logs] == ["alert", "alert is over"]


def test_an_alert_that_is_absent_once_does_not_flap(gateway: ServiceContext, alerts: Alerts, clock: FakeClock) -> None:
    """What comes back before two evaluations have missed it is the same alert; what comes back later is another."""
    _open_breaker(gateway, clock)
    for absences in (1, 1, 2):
        alerts.evaluate()
        assert open_alerts(gateway) == [("breaker_open", "yahoo")]
        execute(gateway, "UPDATE jobs.breakers SET state = 'closed'")
        for _ in range(absences):
            clock.move(seconds=5)
            alerts.evaluate()
        execute(gateway, "UPDATE jobs.breakers SET state = 'open'")
        clock.move(seconds=1)
    assert len(notifications(gateway)) == 1
    alerts.evaluate()
    assert len(notifications(gateway)) == 2
    assert open_alerts(gateway) == [("breaker_open", "yahoo")]


def _open_breaker(context: ServiceContext, clock: FakeClock) -> None:
    execute(
        context,
        "INSERT INTO jobs.breakers (name, state, since, updated_at) VALUES ('yahoo', 'open', :now, :now)",
        now=clock.now,
    )


def test_evaluators_at_the_same_time_make_one_row(urls: dict[str, str], clock: FakeClock) -> None:
    """Four replicas side by side: each alert opens once, is resolved once, and none of them trips on another."""
    with ExitStack() as stack:
        contexts = [stack.enter_context(unit_of("gateway", urls, clock)) for _ in range(EVALUATORS)]
        all_alerts = [watching(context, clock) for context in contexts]
        pool = stack.enter_context(ThreadPoolExecutor(EVALUATORS))
        gate = threading.Barrier(EVALUATORS, timeout=20)

        def evaluate(alerts: Alerts) -> bool:
            gate.wait()
            return alerts.evaluate()

        _open_breaker(contexts[0], clock)
        for number in range(1, ROUNDS + 1):
            for state, expected in (("open", 1), ("closed", 0)):
                execute(contexts[0], "UPDATE jobs.breakers SET state = :state", state=state)
                clock.move(seconds=11)
                assert any(pool.map(evaluate, all_alerts))
                assert len(open_alerts(contexts[0])) == expected
            assert len(notifications(contexts[0])) == number


def test_while_one_evaluates_another_leaves_it_to_it(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock, urls: dict[str, str]
) -> None:
    """It neither waits nor writes."""
    with unit_of("gateway", urls, clock) as other, ThreadPoolExecutor(1) as pool:
        with held_before(other.engine, "jobs.breakers") as (reached, go_on):
            evaluated = pool.submit(watching(other, clock).evaluate)
            assert reached.wait(20)
            assert not alerts.evaluate()
            go_on.set()
        assert evaluated.result(20)
    assert alerts.evaluate()


def test_queues_that_nobody_tells_of_neither_open_nor_resolve_an_alert(
    gateway: ServiceContext, clock: FakeClock
) -> None:
    """While the management API is away the alert stands, and that it is away is said once; back, it is resolved."""
    told: list[QueueStats] | None = [QueueStats("orders.commands", 4, 0, 1, 0.0, 0.0, 400.0)]

    def figures() -> list[QueueStats]:
        if told is None:
            raise ManagementRefused("GET queues: 503")
        return told

    alerts = watching(gateway, clock, figures)
    alerts.evaluate()
    told = None
    with capture_logs() as logs:
        evaluate_until_over(alerts, clock)
        assert open_alerts(gateway) == [("queue_old", "orders.commands")]
        told = []
        alerts.evaluate()
    assert open_alerts(gateway) == []
    assert [entry["event"] for entry in logs] == [
        "RabbitMQ's management API is away; waiting for it",
        "RabbitMQ's management API is back",
        "alert is over",
    ]


def test_alerts_are_evaluated_on_a_thread_of_their_own_and_outlive_the_database(
    gateway: ServiceContext, clock: FakeClock, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections are cut while it runs; one line says so, and alerts open again."""
    monkeypatch.setattr("services.gateway.alerts.evaluator.EVERY_SECONDS", 0.01)
    _open_breaker(gateway, clock)
    alerts = watching(gateway, clock)
    alerts.start()
    try:
        eventually(lambda: open_alerts(gateway))
        with capture_logs() as logs:
            _cut_off(gateway, urls)
            eventually(lambda: [entry["event"] for entry in logs][-1:] == ["the database is back"], what="it is back")
            assert [entry["event"] for entry in logs] == [
                "the database is away; waiting for it",
                "the database is back",
            ]
        assert alerts.alive
    finally:
        alerts.stop()
    assert not alerts.alive


def _cut_off(context: ServiceContext, urls: dict[str, str]) -> None:
    """End the sessions of the unit's engine until one of them was at work."""
    with unit_of("gateway", urls) as cutting:
        cut = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND usename = current_user AND datname = current_database() AND state <> 'idle'"
        )
        eventually(lambda: value(cutting.engine, cut), what="a session at work")


def test_an_evaluation_takes_as_many_statements_for_200_jobs_as_for_one(
    gateway: ServiceContext, alerts: Alerts, clock: FakeClock
) -> None:
    """All of them failing, and their alerts opened, touched and resolved."""

    def counted(first: int, last: int) -> set[int]:
        names = [f"job_{number}" for number in range(first, last)]
        for name in names:
            add_job(gateway, name)
        _finish_all(gateway, names, clock, "failed", 3)
        found = {_statements(gateway, alerts), _statements(gateway, alerts)}
        assert len(open_alerts(gateway)) == len(names)
        clock.move(seconds=20)
        _finish_all(gateway, names, clock, "succeeded", 1)
        found.add(_statements(gateway, alerts))
        assert open_alerts(gateway) == []
        return found

    assert counted(0, 1) == counted(1, 201)


def _statements(context: ServiceContext, alerts: Alerts) -> int:
    with statements(context.engine) as seen:
        alerts.evaluate()
    return len(seen)


def _finish_all(context: ServiceContext, jobs: list[str], clock: FakeClock, outcome: str, times: int) -> None:
    execute(
        context,
        "INSERT INTO jobs.job_runs (id, job, service, trigger, queued_at, finished_at, state, outcome)"
        " SELECT gen_random_uuid(), job, 'valuation', 'manual', :now, :now, 'finished', :outcome"
        " FROM unnest(CAST(:jobs AS text[])) AS job, generate_series(1, :times)",
        jobs=jobs,
        times=times,
        outcome=outcome,
        now=clock.now,
    )


def test_the_last_runs_of_a_job_are_read_off_the_index(gateway: ServiceContext, clock: FakeClock) -> None:
    """However many runs there are, an evaluation reads a few rows of each job, and those that are under way."""
    add_job(gateway, "often")
    for _ in range(100):
        _finish_all(gateway, ["often"], clock, "succeeded", 200)
        clock.move(minutes=5)
    execute(gateway, "SET LOCAL ROLE paperprofit_jobs; ANALYZE jobs.job_runs")
    plans = {
        sql: _plan(gateway, str(sql), clock) for sql in (rules._FAILING, rules._TOO_LONG, rules._LATE, rules._MISSED)
    }
    assert [plan for plan in plans.values() if "Seq Scan on job_runs" in plan] == []
    assert "job_runs_latest" in plans[rules._FAILING]
    assert "job_runs_by_time" in plans[rules._MISSED]


def _plan(context: ServiceContext, sql: str, clock: FakeClock) -> str:
    values = {"now": clock.now, "begun": clock.now, "missed": clock.now - rules.MISSED_IS_NEW}
    return "\n".join(row[0] for row in rows(context.engine, f"EXPLAIN {sql}", **values))
