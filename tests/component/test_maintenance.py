"""Removal of old rows of the bus and of the job engine, in batches, and only of the service's own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from services.gateway.http.auth import add_key
from services.gateway.retention import Retention
from services.marketdata.jobs import jobs as marketdata_jobs
from services.orders.jobs import jobs as orders_jobs
from services.strategy.jobs import jobs as strategy_jobs
from services.strategy.persistence import strategies
from services.strategy.service import DEMO_STRATEGIES
from services.valuation.jobs import jobs as valuation_jobs
from shared.bus.unit_of_work import ServiceContext
from shared.jobs import maintenance
from shared.jobs.declaration import Job
from shared.jobs.maintenance import Keep, OldRows, prune, remove
from shared.jobs.run_context import RunCanceled, RunContext
from tests.component.watching import context_of, statements
from tests.conftest import FakeClock
from tests.support import eventually, rows, value

SECOND = timedelta(seconds=1)
#: A row of each kind, as of :at. The runs are of a removed job, of which no history is kept.
ADD = {
    "inbox": "INSERT INTO {service}.inbox VALUES ('actor', gen_random_uuid(), %(at)s)",
    "outbox_heads": "INSERT INTO {service}.outbox_heads VALUES (gen_random_uuid(), gen_random_uuid(), NULL, %(at)s)",
    "job_runs": """INSERT INTO jobs.job_runs (id, job, service, trigger, queued_at, finished_at, state, outcome)
                   VALUES (gen_random_uuid(), 'removed_job', '{service}', 'manual', %(at)s, %(at)s, 'finished',
                           'skipped')""",
    "joins": """INSERT INTO jobs.joins VALUES ('removed_job', '{service}', gen_random_uuid(), gen_random_uuid(), '{{}}',
                  false, '{{}}', '{{}}', gen_random_uuid(), %(at)s, gen_random_uuid())""",
    "system_log": """INSERT INTO jobs.system_log (at, service, level, logger, message, worker)
                     VALUES (%(at)s, '{service}', 'INFO', 'test', 'said', 'host:1')""",
    "workers": """INSERT INTO jobs.workers (id, service, host, pid, kind, started_at, heartbeat_at)
                  VALUES (gen_random_uuid(), '{service}', 'host', 1, 'worker', %(at)s, %(at)s)""",
}
#: Rows that are never removed.
STAYS = (
    """INSERT INTO jobs.job_runs (id, job, service, trigger, queued_at)
       VALUES (gen_random_uuid(), '{service}_job', '{service}', 'manual', '2000-01-01 00:00+00')""",
    """INSERT INTO jobs.joins VALUES ('{service}_job', '{service}', 'r', gen_random_uuid(), '{{}}', false, '{{}}',
       '{{}}', gen_random_uuid(), '2000-01-01 00:00+00')""",
    """INSERT INTO jobs.operator_actions (at, who, what, subject)
       VALUES ('2000-01-01 00:00+00', 'OPERATOR1', 'trigger', '{service}_job')""",
)


@pytest.fixture
def orders(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with context_of("orders", urls, clock) as context:
        add_job(context)
        yield context


@pytest.fixture
def other(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with context_of("strategy", urls, clock) as context:
        add_job(context)
        yield context


def add_job(context: ServiceContext) -> None:
    with context.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs.jobs (name, service, description, market, updated_at) VALUES (%s, %s, '', 'DEMO', now())",
            (f"{context.service}_job", context.service),
        )


def add(context: ServiceContext, kind: str, age: timedelta, number: int = 1) -> None:
    with context.engine.begin() as connection:
        for _ in range(number):
            connection.exec_driver_sql(ADD[kind].format(service=context.service), {"at": context.clock() - age})


def a_run(context: ServiceContext) -> RunContext:
    return RunContext(uuid4(), context, context.clock(), {})


def count(context: ServiceContext, kind: str) -> int:
    schema = context.service if kind in {"inbox", "outbox_heads"} else "jobs"
    number: int = value(context.engine, f"SELECT count(*) FROM {schema}.{kind}")
    return number


@pytest.mark.parametrize("kind", ADD)
def test_each_kind_of_row_is_kept_for_its_retention_period(orders: ServiceContext, kind: str) -> None:
    """A row a second too old is removed, and one a second younger is kept. A second run finds nothing."""
    keep: timedelta = getattr(Keep(), kind)
    add(orders, kind, keep + SECOND, number=3)
    add(orders, kind, keep - SECOND)
    nothing = {f"{each}_removed": 0 for each in ADD}
    assert prune(a_run(orders)) == {**nothing, f"{kind}_removed": 3}
    assert prune(a_run(orders)) == nothing
    assert count(orders, kind) == 1


#: Finished runs, an hour apart.
ADD_RUNS = """
INSERT INTO jobs.job_runs (id, job, service, trigger, queued_at, finished_at, state, outcome)
SELECT gen_random_uuid(), %(job)s, 'orders', 'schedule', at, at, 'finished', %(outcome)s
FROM (SELECT CAST(%(at)s AS timestamptz) - n * interval '1 hour' AS at FROM generate_series(1, %(number)s) n) each
"""
ADD_PARTS = """
INSERT INTO jobs.job_runs (id, job, service, trigger, queued_at, finished_at, state, outcome, parent_run_id, part)
SELECT gen_random_uuid(), job, service, 'part', queued_at, finished_at, 'finished', 'succeeded', id, n
FROM jobs.job_runs whole, generate_series(0, 2) n WHERE whole.job = %(job)s AND whole.part IS NULL
"""


def add_runs(context: ServiceContext, job: str, outcome: str, age: timedelta, number: int = 1) -> None:
    given = {"job": job, "outcome": outcome, "at": context.clock() - age, "number": number}
    with context.engine.begin() as connection:
        connection.exec_driver_sql(ADD_RUNS, given)


def test_runs_that_failed_are_kept_for_longer(orders: ServiceContext) -> None:
    """Successes and skips go after a week, failures and losses after 90 days."""
    outcomes = ("succeeded", "skipped", "canceled", "failed", "lost")
    for age in (8, 89, 91):
        for outcome in outcomes:
            add_runs(orders, "removed_job", outcome, timedelta(days=age))
    assert prune(a_run(orders))["job_runs_removed"] == 3 + 3 + 5
    left = rows(orders.engine, "SELECT outcome FROM jobs.job_runs ORDER BY outcome, queued_at")
    assert [row.outcome for row in left] == ["failed", "failed", "lost", "lost"]


def test_the_latest_runs_of_each_job_stay_with_their_parts(orders: ServiceContext) -> None:
    """A monthly job keeps its history. Of a frequent job the runs beyond the latest hundred go, and their parts."""
    with orders.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs.jobs (name, service, description, market, updated_at) VALUES"
            " ('monthly', 'orders', '', 'DEMO', now()), ('frequent', 'orders', '', 'DEMO', now())"
        )
    add_runs(orders, "monthly", "succeeded", timedelta(days=400), number=12)
    add_runs(orders, "frequent", "succeeded", timedelta(days=8), number=104)
    add_runs(orders, "frequent", "failed", timedelta(hours=1), number=10)
    with orders.engine.begin() as connection:
        connection.exec_driver_sql(ADD_PARTS, {"job": "frequent"})
    assert prune(a_run(orders))["job_runs_removed"] == 14 * (1 + 3)
    left = rows(orders.engine, "SELECT job, part IS NULL AS whole, count(*) FROM jobs.job_runs GROUP BY 1, 2")
    assert {tuple(row) for row in left} == {("monthly", True, 12), ("frequent", True, 100), ("frequent", False, 300)}
    assert prune(a_run(orders))["job_runs_removed"] == 0


def test_unfinished_runs_and_operators_actions_stay(orders: ServiceContext) -> None:
    """Their age does not matter."""
    with orders.engine.begin() as connection:
        for statement in STAYS:
            connection.exec_driver_sql(statement.format(service="orders"))
    assert sum(prune(a_run(orders)).values()) == 0
    assert [count(orders, kind) for kind in ("job_runs", "operator_actions")] == [1, 1]


def test_the_rows_of_another_service_stay(orders: ServiceContext, other: ServiceContext) -> None:
    """Its role could not remove those in the schema of the job engine either."""
    for kind in ADD:
        add(other, kind, timedelta(days=400))
    assert sum(prune(a_run(orders)).values()) == 0
    assert {kind: count(other, kind) for kind in ADD} == dict.fromkeys(ADD, 1)
    with orders.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM jobs.job_runs")
    assert count(other, "job_runs") == 1


def test_rows_go_in_batches_until_none_is_left(orders: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is a transaction and reports progress. Old and young rows are mixed."""
    monkeypatch.setattr(maintenance, "BATCH", 10)
    for _ in range(12):
        add(orders, "inbox", timedelta(days=15), number=3)
        add(orders, "inbox", timedelta(days=1), number=2)
    told: list[int] = []
    with statements(orders.engine) as seen:
        old = OldRows("orders.inbox", "processed_at < :before", timedelta(days=14))
        assert remove(orders, [old], told.append) == {"inbox_removed": 36}
    assert told == [10, 20, 30, 36]
    assert len([statement for statement in seen if "DELETE" in statement]) == 4
    assert count(orders, "inbox") == 24


def test_a_large_table_is_scanned_piece_by_piece(orders: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """No statement reads more than SPAN blocks, and no block is left out."""
    monkeypatch.setattr(maintenance, "SPAN", 2)
    monkeypatch.setattr(maintenance, "BATCH", 50)
    with orders.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO orders.inbox"
            " SELECT 'actor', gen_random_uuid(), now() - make_interval(days => mod(n, 30), hours => 12)"
            " FROM generate_series(1, 1500) n"
        )
    blocks = value(orders.engine, "SELECT pg_relation_size('orders.inbox') / 8192")
    assert blocks > 10
    with statements(orders.engine) as seen:
        removed = prune(a_run(orders))["inbox_removed"]
    assert (removed, count(orders, "inbox")) == (1150, 350)
    assert len([statement for statement in seen if "DELETE FROM orders.inbox" in statement]) >= blocks / 2


def test_a_run_that_is_canceled_has_removed_whole_batches(
    orders: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run removes the rest."""
    monkeypatch.setattr(maintenance, "BATCH", 5)
    add(orders, "inbox", timedelta(days=15), number=12)
    run = a_run(orders)
    run.signals.canceled.set()
    with pytest.raises(RunCanceled):
        prune(run)
    assert count(orders, "inbox") == 7
    assert prune(a_run(orders))["inbox_removed"] == 7


def test_a_row_that_becomes_young_meanwhile_stays(orders: ServiceContext) -> None:
    """A key's outbox head is updated while its old version is about to be removed."""
    add(orders, "outbox_heads", timedelta(days=2))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    with ThreadPoolExecutor(1) as pool:
        with orders.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE orders.outbox_heads SET sent_at = %s", (orders.clock(),))
            pruned = pool.submit(prune, a_run(orders))
            eventually(lambda: value(orders.engine, waiting) or pruned.done())
        assert pruned.result()["outbox_heads_removed"] == 0
    assert count(orders, "outbox_heads") == 1


@pytest.mark.parametrize(
    ("service", "job"),
    [
        ("marketdata", marketdata_jobs.declared["maintain_market_data"]),
        ("orders", orders_jobs.declared["maintain_orders"]),
        ("valuation", valuation_jobs.declared["maintain_valuation"]),
        ("strategy", strategy_jobs.declared["maintain_strategy"]),
    ],
)
def test_every_service_with_jobs_removes_its_own_rows(
    urls: dict[str, str], clock: FakeClock, service: str, job: Job
) -> None:
    """Each service has a job for it, and its role has the rights."""
    with context_of(service, urls, clock) as context:
        add_job(context)
        for kind in ADD:
            add(context, kind, timedelta(days=400))
        counts = job.run(a_run(context))
        assert {kind: counts[f"{kind}_removed"] for kind in ADD} == dict.fromkeys(ADD, 1)
        assert rows(context.engine, "SELECT 1 FROM jobs.system_log") == []


def test_the_gateway_removes_its_own_rows_beside_its_requests(urls: dict[str, str], clock: FakeClock) -> None:
    """Expired browser sessions, submissions answered long ago, old keys and resolved alerts.

    A submission without an answer and an open alert stay.
    """
    with context_of("gateway", urls, clock) as context:
        add_alerts(context, timedelta(days=90) + SECOND, timedelta(days=89), None)
        add_job(context)
        for kind in ADD:
            add(context, kind, timedelta(days=400))
        add_sessions(context, -SECOND, SECOND)
        add_submissions(context, timedelta(days=8), timedelta(days=6), None)
        add_idempotency_keys(context, timedelta(hours=25), timedelta(hours=23))
        add_wrong_keys(context, timedelta(hours=25), timedelta(hours=23))
        add_alert_deliveries(context, timedelta(days=31), timedelta(days=29))
        retention = Retention(context)
        kinds = [*ADD, "sessions", "submissions", "idempotency_keys", "wrong_keys", "notifications", "alert_deliveries"]
        assert retention.remove_old_rows() == dict.fromkeys((f"{kind}_removed" for kind in kinds), 1)
        assert sum(retention.remove_old_rows().values()) == 0
        assert value(context.engine, "SELECT count(*) FROM gateway.sessions") == 1
        assert value(context.engine, "SELECT count(*) FROM gateway.submissions") == 2
        assert value(context.engine, "SELECT count(*) FROM gateway.idempotency_keys") == 1
        assert value(context.engine, "SELECT count(*) FROM gateway.wrong_keys") == 1
        assert value(context.engine, "SELECT count(*) FROM jobs.notifications") == 2
        assert value(context.engine, "SELECT count(*) FROM gateway.alert_deliveries") == 1


def add_alerts(context: ServiceContext, *resolved_ago: timedelta | None) -> None:
    """Add alerts about jobs that were resolved so long ago, or are open."""
    with context.engine.begin() as connection:
        for number, ago in enumerate(resolved_ago):
            connection.exec_driver_sql(
                "INSERT INTO jobs.notifications (kind, subject, severity, message, opened_at, seen_at, resolved_at)"
                " VALUES ('job_failing', %s, 'warning', 'late', '2000-01-01 00:00+00', '2000-01-01 00:00+00', %s)",
                (f"job {number}", None if ago is None else context.clock() - ago),
            )


def add_alert_deliveries(context: ServiceContext, *ago: timedelta) -> None:
    with context.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO gateway.alert_channels (id, account_id, url, created_at)"
            " VALUES (gen_random_uuid(), gen_random_uuid(), 'https://hooks.example.com', now())"
        )
        for each in ago:
            connection.exec_driver_sql(
                "INSERT INTO gateway.alert_deliveries (channel_id, alert_id, status, kind, message, at)"
                " SELECT id, gen_random_uuid(), 'raised', 'drawdown', 'late', %s FROM gateway.alert_channels",
                (context.clock() - each,),
            )


def add_sessions(context: ServiceContext, *lives: timedelta) -> None:
    with context.engine.begin() as connection:
        add_key(connection, "KEY1", "secret", uuid4(), [], context.clock())
        for number, life in enumerate(lives):
            connection.exec_driver_sql(
                "INSERT INTO gateway.sessions VALUES (%s, 'KEY1', %s)", (bytes([number]), context.clock() + life)
            )


def add_submissions(context: ServiceContext, *answered_ago: timedelta | None) -> None:
    """Add orders that were submitted a year ago."""
    long_ago = context.clock() - timedelta(days=365)
    with context.engine.begin() as connection:
        for ago in answered_ago:
            connection.exec_driver_sql(
                "INSERT INTO gateway.submissions VALUES (gen_random_uuid(), gen_random_uuid(), 'mine',"
                " gen_random_uuid(), '{}', %s, %s, %s)",
                (long_ago, long_ago, None if ago is None else context.clock() - ago),
            )


def add_wrong_keys(context: ServiceContext, *ages: timedelta) -> None:
    with context.engine.begin() as connection:
        for age in ages:
            connection.exec_driver_sql(
                "INSERT INTO gateway.wrong_keys VALUES (gen_random_uuid()::text, '127.0.0.1', 1, %(at)s, %(at)s)",
                {"at": context.clock() - age},
            )


def add_idempotency_keys(context: ServiceContext, *ages: timedelta) -> None:
    with context.engine.begin() as connection:
        for age in ages:
            connection.exec_driver_sql(
                "INSERT INTO gateway.idempotency_keys VALUES (gen_random_uuid(), 'mine', '', gen_random_uuid(), %s)",
                (context.clock() - age,),
            )


def test_strategy_and_valuation_remove_their_own_old_rows(urls: dict[str, str], clock: FakeClock) -> None:
    """Decisions, signals and values of positions. Summaries of accounts stay."""
    with context_of("strategy", urls, clock) as context:
        with context.engine.begin() as connection:
            strategies.add(connection, DEMO_STRATEGIES[0], clock())
            kept = (("decisions", "ordered", 30), ("decisions", "held", 7), ("trading_signals", "", 90))
            for table, outcome, days in kept:
                for number, age in enumerate((timedelta(days=days) + SECOND, timedelta(days=days) - SECOND)):
                    given = {"at": clock() - age, "symbol": f"{outcome}{number}", "outcome": outcome}
                    connection.exec_driver_sql(ADD_OWN[table], {"strategy": DEMO_STRATEGIES[0].id, **given})
        counts = strategy_jobs.declared["maintain_strategy"].run(a_run(context))
        assert (counts["decisions_removed"], counts["trading_signals_removed"]) == (2, 1)
        left = {row.symbol for row in rows(context.engine, "SELECT symbol FROM strategy.decisions")}
        assert left == {"ordered1", "held1"}
    with context_of("valuation", urls, clock) as context:
        with context.engine.begin() as connection:
            for table in ("position_values", "account_summaries"):
                for age in (timedelta(days=90) + SECOND, timedelta(days=90) - SECOND):
                    connection.exec_driver_sql(ADD_OWN[table], {"at": clock() - age})
        assert valuation_jobs.declared["maintain_valuation"].run(a_run(context))["position_values_removed"] == 1
        assert value(context.engine, "SELECT count(*) FROM valuation.position_values") == 1
        assert value(context.engine, "SELECT count(*) FROM valuation.account_summaries") == 2


ADD_OWN = {
    "decisions": """INSERT INTO strategy.decisions (strategy_id, symbol, run_id, at, action, outcome, reason)
                    VALUES (%(strategy)s, %(symbol)s, gen_random_uuid(), %(at)s, 'hold', %(outcome)s, 'waits')""",
    "trading_signals": """INSERT INTO strategy.trading_signals
                          VALUES (gen_random_uuid(), %(strategy)s, %(symbol)s, %(at)s, %(at)s, 'buy', 1, 'crossed',
                                  'enter_long')""",
    "position_values": """INSERT INTO valuation.position_values
                          VALUES (gen_random_uuid(), 'AAPL', gen_random_uuid(), %(at)s, 1, 1, 1, 1, 0)""",
    "account_summaries": """INSERT INTO valuation.account_summaries
                            VALUES (gen_random_uuid(), gen_random_uuid(), %(at)s, 1, 1, 1, 1, 0)""",
}


def test_the_gateways_retention_waits_for_the_database(urls: dict[str, str]) -> None:
    """It starts before its tables can be reached, and works when they can."""
    with context_of("gateway", urls) as context:
        add_sessions(context, -SECOND)
        with context.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE gateway.inbox RENAME TO inbox_away")
        retention = Retention(context)
        with capture_logs() as logs:
            retention.start()
            eventually(lambda: logs, what="retention has noticed")
            with context.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE gateway.inbox_away RENAME TO inbox")
            eventually(lambda: value(context.engine, "SELECT count(*) FROM gateway.sessions") == 0)
        retention.stop()
        assert not retention.alive
