"""The rows of alerts on a real PostgreSQL: one for each alert, however many replicas evaluate it how often."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from services.gateway.alerts import rules
from services.gateway.alerts.evaluator import Evaluator
from shared.bus.amqp.management import ManagementRefused
from shared.bus.amqp.queue_stats import QueueStats
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_rows import (
    add_job,
    add_outcomes,
    evaluate_until_resolved,
    execute,
    held_before,
    make_evaluator,
    notifications,
    open_alerts,
)
from tests.component.watching import context_of, statements
from tests.conftest import FakeClock, run_sql
from tests.support import eventually, rows, value

EVALUATORS = 4
ROUNDS = 10


def fail(context: ServiceContext, clock: FakeClock, job: str, times: int = 3) -> None:
    add_outcomes(context, clock, job, ["failed"] * times)


def test_an_alert_that_stands_is_one_row_with_the_latest_facts(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """Each evaluation updates the row. The alert is logged once when it opens and once when it is resolved."""
    add_job(gateway, "revalue")
    fail(gateway, clock, "revalue")
    with capture_logs() as logs:
        evaluator.evaluate()
        opened_at = clock.now
        clock.move(seconds=5)
        fail(gateway, clock, "revalue", 1)
        evaluator.evaluate()
        (row,) = notifications(gateway)
        assert (row.opened_at, row.seen_at, row.resolved_at) == (opened_at, clock.now, None)
        assert row.facts["failed_at"] == (clock.now - timedelta(seconds=1)).isoformat()
        add_outcomes(gateway, clock, "revalue", ["succeeded"] * 3)
        evaluate_until_resolved(evaluator, clock)
    (row,) = notifications(gateway)
    assert row.resolved_at == clock.now
    assert [entry["event"] for entry in logs] == ["alert opened", "alert resolved"]


def test_an_alert_that_is_absent_once_does_not_flap(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """An alert that returns before two evaluations have missed it is the same one. Later it is another."""
    _open_breaker(gateway, clock)
    for absences in (1, 1, 2):
        evaluator.evaluate()
        assert open_alerts(gateway) == [("breaker_open", "yahoo")]
        execute(gateway, "UPDATE jobs.breakers SET state = 'closed'")
        for _ in range(absences):
            clock.move(seconds=5)
            evaluator.evaluate()
        execute(gateway, "UPDATE jobs.breakers SET state = 'open'")
        clock.move(seconds=1)
    assert len(notifications(gateway)) == 1
    evaluator.evaluate()
    assert len(notifications(gateway)) == 2
    assert open_alerts(gateway) == [("breaker_open", "yahoo")]


def _open_breaker(context: ServiceContext, clock: FakeClock) -> None:
    execute(
        context,
        "INSERT INTO jobs.breakers (name, state, since, updated_at) VALUES ('yahoo', 'open', :now, :now)",
        now=clock.now,
    )


def test_evaluators_at_the_same_time_make_one_row(urls: dict[str, str], clock: FakeClock) -> None:
    """With four replicas each alert opens once and is resolved once, and no evaluation fails."""
    with ExitStack() as stack:
        contexts = [stack.enter_context(context_of("gateway", urls, clock)) for _ in range(EVALUATORS)]
        all_alerts = [make_evaluator(context, clock) for context in contexts]
        pool = stack.enter_context(ThreadPoolExecutor(EVALUATORS))
        gate = threading.Barrier(EVALUATORS, timeout=20)

        def evaluate(evaluator: Evaluator) -> bool:
            gate.wait()
            return evaluator.evaluate()

        _open_breaker(contexts[0], clock)
        for number in range(1, ROUNDS + 1):
            for state, expected in (("open", 1), ("closed", 0)):
                execute(contexts[0], "UPDATE jobs.breakers SET state = :state", state=state)
                clock.move(seconds=11)
                assert any(pool.map(evaluate, all_alerts))
                assert len(open_alerts(contexts[0])) == expected
            assert len(notifications(contexts[0])) == number


def test_only_one_replica_evaluates_at_a_time(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock, urls: dict[str, str]
) -> None:
    """The other neither waits nor writes."""
    with context_of("gateway", urls, clock) as other, ThreadPoolExecutor(1) as pool:
        with held_before(other.engine, "jobs.breakers") as (reached, go_on):
            evaluated = pool.submit(make_evaluator(other, clock).evaluate)
            assert reached.wait(20)
            assert not evaluator.evaluate()
            go_on.set()
        assert evaluated.result(20)
    assert evaluator.evaluate()


def test_queues_without_figures_neither_open_nor_resolve_an_alert(gateway: ServiceContext, clock: FakeClock) -> None:
    """While the management API is away, the alert stands and one line is logged. It is resolved afterwards."""
    queues: list[QueueStats] | None = [QueueStats("orders.commands", 4, 0, 1, 0.0, 0.0, 400.0)]

    def figures() -> list[QueueStats]:
        if queues is None:
            raise ManagementRefused("GET queues: 503")
        return queues

    evaluator = make_evaluator(gateway, clock, figures)
    evaluator.evaluate()
    queues = None
    with capture_logs() as logs:
        evaluate_until_resolved(evaluator, clock)
        assert open_alerts(gateway) == [("queue_old", "orders.commands")]
        queues = []
        evaluator.evaluate()
    assert open_alerts(gateway) == []
    assert [entry["event"] for entry in logs] == [
        "RabbitMQ's management API is away; waiting for it",
        "RabbitMQ's management API is back",
        "alert resolved",
    ]


def test_the_evaluator_runs_on_its_own_thread_and_outlives_the_database(
    gateway: ServiceContext, clock: FakeClock, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections are cut while it runs. It logs that once, and goes on when the database is back."""
    monkeypatch.setattr("services.gateway.alerts.evaluator.EVERY_SECONDS", 0.01)
    _open_breaker(gateway, clock)
    evaluator = make_evaluator(gateway, clock)
    with capture_logs() as logs:
        evaluator.start()
        try:
            eventually(lambda: [entry["event"] for entry in logs] == ["alert opened"], what="the alert is open")
            _cut_off(gateway, urls)
            eventually(lambda: logs[-1]["event"] == "the database is back", what="it is back")
            assert evaluator.alive
        finally:
            evaluator.stop()
    assert [entry["event"] for entry in logs] == [
        "alert opened",
        "the database is away; waiting for it",
        "the database is back",
    ]
    assert not evaluator.alive


def _cut_off(context: ServiceContext, urls: dict[str, str]) -> None:
    """Terminate the sessions of the engine until one of them was busy."""
    with context_of("gateway", urls) as cutting:
        cut = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND usename = current_user AND datname = current_database() AND state <> 'idle'"
        )
        eventually(lambda: value(cutting.engine, cut), what="a session at work")


def test_an_evaluation_takes_as_many_statements_for_200_jobs_as_for_one(
    gateway: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """All of them fail, and their alerts are opened, updated and resolved."""

    def counted(first: int, last: int) -> set[int]:
        names = [f"job_{number}" for number in range(first, last)]
        for name in names:
            add_job(gateway, name)
        _finish_all(gateway, names, clock, "failed", 3)
        found = {_statements(gateway, evaluator), _statements(gateway, evaluator)}
        assert len(open_alerts(gateway)) == len(names)
        clock.move(seconds=20)
        _finish_all(gateway, names, clock, "succeeded", 3)
        found.add(_statements(gateway, evaluator))
        assert open_alerts(gateway) == []
        return found

    assert counted(0, 1) == counted(1, 201)


def _statements(context: ServiceContext, evaluator: Evaluator) -> int:
    with statements(context.engine) as seen:
        evaluator.evaluate()
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


def test_the_last_runs_of_a_job_are_read_off_the_index(
    postgres: str, gateway: ServiceContext, clock: FakeClock
) -> None:
    """However many runs there are, an evaluation reads a few rows of each job, and the active runs."""
    add_job(gateway, "often")
    for _ in range(100):
        _finish_all(gateway, ["often"], clock, "succeeded", 200)
        clock.move(minutes=5)
    database = make_url(postgres).set(database=gateway.engine.url.database).render_as_string(hide_password=False)
    run_sql(database, b"ANALYZE jobs.job_runs")  # as a superuser: the table is no service's
    plans = {
        sql: _plan(gateway, str(sql), clock) for sql in (rules._FAILING, rules._TOO_LONG, rules._LATE, rules._MISSED)
    }
    assert [plan for plan in plans.values() if "Seq Scan on job_runs" in plan] == []
    assert "job_runs_latest" in plans[rules._FAILING]
    assert "job_runs_by_time" in plans[rules._MISSED]


def _plan(context: ServiceContext, sql: str, clock: FakeClock) -> str:
    values = {"now": clock.now, "since": clock.now, "missed": clock.now - rules.MISSED_IS_NEW}
    return "\n".join(row[0] for row in rows(context.engine, f"EXPLAIN {sql}", **values))
