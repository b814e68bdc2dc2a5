"""Bounded growth: every table has a retention or a reason to be kept, and updates of runs and prices stay in place."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, make_url

from services.gateway.retention import OWN as GATEWAY
from services.marketdata.jobs import old_news
from services.marketdata.persistence import partitions
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.persistence.prices import save_prices
from services.marketdata.settings import Settings
from services.strategy.jobs import OWN as STRATEGY
from services.strategy.service import DEMO_STRATEGIES
from services.valuation.jobs import OWN as VALUATION
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.routing import SERVICES
from shared.jobs.declaration import Job
from shared.jobs.maintenance import Keep, OldRows, engine_rows
from shared.jobs.run_context import Counts, RunContext
from shared.jobs.schedule.interval import parse_interval
from shared.storage import driver
from shared.storage.engine import make_engine
from shared.storage.migrate import ROOT
from tests.component.job_worker import Gate, a_job, job_worker
from tests.component.scripted_prices import made_up_quote
from tests.component.watching import context_of
from tests.conftest import FakeClock
from tests.support import rows

DOCUMENT = ROOT / "docs" / "operations.md"
TABLES = """
SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema)'
"""
#: A row of each table that grows in the demo, as of the n-th of :number, with values of the usual length.
ROWS = {
    "orders.inbox": "'orders.prices/PricesUpdated.v1', gen_random_uuid(), now()",
    "marketdata.market_data": """'AAPL', 'replay', now() - n * interval '1 second', 123.45, 124.56, 122.34, 123.45,
                                 123456, 'simulated'""",
    "strategy.decisions": """(SELECT id FROM strategy.strategies), 'AAPL', gen_random_uuid(), now(), now(), 'hold',
                             'The averages did not cross.', 0, NULL, 1, 'held', NULL, 123.45, 123.46, now(), 10,
                             100123.45, '[["the averages cross", false, {"fast": "123.4567", "slow": "122.3456",
                             "fast before": "123.4567", "slow before": "122.3456"}]]', '{}'""",
    "strategy.trading_signals": """gen_random_uuid(), (SELECT id FROM strategy.strategies), 'AAPL',
                                   now() - n * interval '1 second', now(), 'buy', 123.45,
                                   'The fast average crossed above the slow one.', 'enter_long', 1, 1, 1,
                                   '{"fast": 123.4567, "slow": 122.3456}', gen_random_uuid()""",
    "valuation.account_summaries": """gen_random_uuid(), gen_random_uuid(), now(), 1e5, 1e5, 2e5, 1e3, 3, 1, 1e5, 0,
                                      1e5, 1e2, 1.012345678901234, 1.012345678901234, 2e5, 0""",
    "valuation.position_values": """gen_random_uuid(), 'AAPL', gen_random_uuid(), now(), 50, 123.45, 6e3, 6e3, 1e2, 1,
                                    1e2, 1e2, now(), false""",
}
ADD_RUNS = """
INSERT INTO jobs.job_runs (id, job, service, trigger, scheduled_for, queued_at, sent_at, started_at, heartbeat_at,
                           finished_at, attempt, worker, outcome, counts, state)
SELECT gen_random_uuid(), 'process_orders', 'orders', 'schedule', at, at, at, at, at, at, 1,
       'orders:0123456789ab:12:abcdef', 'succeeded', '{"orders_filled": 0, "orders_expired": 0}', 'finished'
FROM (SELECT now() - n * interval '5 seconds' AS at FROM generate_series(1, 2000) n) each
"""
ADD_STRATEGY = """
INSERT INTO strategy.strategies (id, name, kind, account_id, symbols, interval, created_at, updated_at)
VALUES (gen_random_uuid(), 'demo-sma', 'sma_crossover', gen_random_uuid(), '{AAPL}', 'replay', now(), now())
"""
GIGABYTE = 1e9


def documented() -> dict[str, str]:
    """Read the table of the section Retention: a table's name → how long its rows are kept."""
    section = DOCUMENT.read_text().partition("\n## Retention\n")[2].partition("\n## ")[0]
    found: dict[str, str] = {}
    for line in re.findall(r"^\| (`.*?) \|$", section, re.MULTILINE):
        tables, kept, _ = line.split(" | ")
        for name in re.findall(r"`([^`]+)`", tables):
            schemas = [*SERVICES, *(["jobs"] if "alembic" in name else [])] if name.startswith("*") else [""]
            found |= {name.replace("*", schema): kept for schema in schemas}
    return found


def removed() -> Iterator[OldRows]:
    """List what the code removes, at the default settings."""
    for service in SERVICES:
        yield from engine_rows(service, Keep())
    yield from (*GATEWAY, *STRATEGY, *VALUATION)
    settings = Settings()
    yield from old_news(settings)
    for days in (settings.keep_bars_days, settings.keep_demo_bars_days):
        yield OldRows("marketdata.market_data", partitions.KEPT, timedelta(days=days))


def test_every_table_is_documented_with_its_retention(orders: ServiceContext) -> None:
    """A new table cannot be forgotten, and the periods are those of the code."""
    kept = documented()
    assert set(kept) == {row.name for row in rows(orders.engine, TABLES)}
    coded = list(removed())
    for each in coded:
        if each.keep:
            unit = "day" if each.keep.days == 1 else "days"
            assert f"{each.keep.days} {unit}" in kept[each.table], each.table
    assert {name for name, text in kept.items() if "day" in text} == {each.table for each in coded if each.keep}


@contextmanager
def hot_updates(engine: Engine) -> Iterator[list[tuple[str, int, int]]]:
    """Record each statement about runs with its number of updates and of HOT ones."""
    seen: list[tuple[str, int, int]] = []
    count = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relid = 'jobs.job_runs'::regclass"
    before: dict[object, tuple[int, int]] = {}

    def note(_connection: object, cursor: Any, statement: str, *_: object) -> None:
        if "jobs.job_runs" in statement:
            before[cursor.connection] = cursor.connection.execute(count).fetchone()

    def record(_connection: object, cursor: Any, statement: str, *_: object) -> None:
        if "jobs.job_runs" in statement:
            updates, hot = before.pop(cursor.connection)
            now, now_hot = cursor.connection.execute(count).fetchone()
            seen.append((statement, now - updates, now_hot - hot))

    run = driver.run_prepared

    def run_one_by_one(used: Any, prepared: set[bytes], calls: Sequence[driver.Call]) -> list[Any]:
        """The commit last, since PostgreSQL counts within the transaction."""
        answers: list[Any] = []
        for statement, values in calls:
            updates, hot = used.execute(count).fetchone()
            answers += run(used, prepared, [driver.COMMIT if statement == "COMMIT" else (statement, values)])
            if "jobs.job_runs" in statement:
                now, now_hot = used.execute(count).fetchone()
                seen.append((statement, now - updates, now_hot - hot))
        return answers

    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "after_cursor_execute", record)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "run_prepared", run_one_by_one)
        try:
            yield seen
        finally:
            event.remove(engine, "before_cursor_execute", note)
            event.remove(engine, "after_cursor_execute", record)


def test_a_run_s_start_and_beats_and_a_growing_skip_are_hot(orders: ServiceContext, clock: FakeClock) -> None:
    """They change no column of an index, so indexes do not grow with the length of a run or the number of skips."""

    def body(run: RunContext) -> Counts:
        run.progress(5, 10)
        worker.heartbeat.beat()
        return {}

    reasons = iter(["closed", "closed"])
    skipped = Job("rest", "orders", "Rest.", lambda _: {}, {"schedule": "1s"}, when=lambda _: next(reasons))
    with job_worker(orders, a_job(body, enabled=False), skipped) as worker:
        with hot_updates(orders.engine) as seen:
            worker.trigger()
            worker.handled()
        worker.tick()
        clock.move(seconds=1)
        with hot_updates(orders.engine) as grown:
            worker.tick()
    for mark in ("SET state = 'running'", "SET heartbeat_at"):
        assert [counted for statement, *counted in seen if mark in statement] == [[1, 1]], mark
    assert [counted for statement, *counted in grown if "slots = r.slots + 1" in statement] == [[1, 1]]


def test_the_growing_skip_of_a_busy_job_is_hot(orders: ServiceContext, clock: FakeClock) -> None:
    """The slots that come during a slow run are one row, however many they are."""
    gate = Gate()
    with job_worker(orders, a_job(gate)) as worker:
        worker.ticker.run()
        assert gate.entered.wait(10)
        with hot_updates(orders.engine) as grown:
            for _ in range(4):
                clock.move(seconds=1)
                worker.ticker.run()
        gate.opened.set()
        worker.handled()
    counted = [counted for statement, *counted in grown if "slots = r.slots + given.slots" in statement]
    assert counted == [[0, 0], *[[1, 1]] * 3]


def test_new_prices_of_all_instruments_are_hot(urls: dict[str, str], clock: FakeClock) -> None:
    """A batch updates every row of a page, and finds room for the new ones on the same page."""
    symbols = [f"S{number}" for number in range(300)]
    counts = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'instruments'"
    with context_of("marketdata", urls, clock) as context:
        with context.engine.begin() as connection:
            add_instruments(connection, [Instrument(symbol, symbol) for symbol in symbols])
        for _ in range(8):  # the first ones move rows off the pages that were filled when they were added
            clock.move(minutes=1)
            with context.engine.begin() as connection:
                save_prices(connection, [made_up_quote(symbol, "123.45", clock.now) for symbol in symbols], clock.now)
                updates, hot = connection.exec_driver_sql(counts).one()
    assert hot >= 0.9 * updates > 0


def rows_a_day() -> dict[str, tuple[float, int]]:
    """Estimate rows a day from the demo's schedules, and the days that they are kept: table → both."""
    config = tomllib.loads((ROOT / "config" / "jobs.demo.toml").read_text())
    a_day = timedelta(days=1)
    runs = {job: a_day / parse_interval(given.get("interval", "1d")) for job, given in config.items()}
    assert not any(each.schedule for each in DEMO_STRATEGIES)
    runs["trading_bot_schedules"] = 1  # skipped in one row, as no strategy has a schedule
    feed, symbols, traded = a_day / timedelta(seconds=Settings().replay_speed), 5, 3
    decisions = sum(len(each.symbols) for each in DEMO_STRATEGIES) * runs["trading_bot"]
    prices = feed + runs["update_market_data"]
    return {
        "orders.inbox": (2 * prices, Keep().inbox.days),  # with valuation's
        "marketdata.market_data": (symbols * prices, Settings().keep_demo_bars_days),
        "jobs.job_runs": (sum(runs.values()), Keep().job_runs.days),
        "strategy.decisions": (decisions, STRATEGY[0].keep.days),  # those to hold, which nearly all are
        "strategy.trading_signals": (decisions / 20, STRATEGY[2].keep.days),
        "valuation.account_summaries": (runs["update_positions"] + runs["snapshot_accounts"], 30),
        "valuation.position_values": (traded * runs["update_positions"], VALUATION[0].keep.days),
    }


def test_the_first_month_of_the_demo_needs_less_than_a_gigabyte(orders: ServiceContext, postgres: str) -> None:
    """Rows a day, times measured bytes with indexes, times the days that they are kept and one until they are removed.

    Orders and their books come on top, and so do rare lines of the system log.
    """
    measured = make_engine(
        make_url(postgres).set(database=orders.engine.url.database).render_as_string(hide_password=False), name="m"
    )
    sizes = {}
    with measured.begin() as connection:
        connection.exec_driver_sql(ADD_STRATEGY)
        connection.exec_driver_sql(ADD_RUNS)
        for table, values in ROWS.items():
            connection.exec_driver_sql(f"INSERT INTO {table} SELECT {values} FROM generate_series(1, 2000) n")
        for table, (number, days) in rows_a_day().items():
            place = f"{table}_other" if table == "marketdata.market_data" else table
            size = connection.exec_driver_sql(f"SELECT pg_total_relation_size('{place}')").scalar_one() / 2000
            sizes[table] = number * size * min(30, days + 1)
            if table == "strategy.decisions":  # of 500 symbols in each minute of a trading day
                assert size * 500 * 390 <= GIGABYTE / 5
            print(f"{table:30} {number:9,.0f} rows/day {size:5.0f} B {days:3} days {sizes[table] / 1e6:6.0f} MB")
    measured.dispose()
    assert sum(sizes.values()) <= GIGABYTE
