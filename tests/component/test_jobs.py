"""Slots on a real PostgreSQL: each that is due is claimed once, by whoever comes first, and only while it may be."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from shared.bus.transaction import Unit
from shared.jobs import store
from shared.jobs.declaration import Job
from shared.jobs.schedule import slot_at
from shared.jobs.scheduler import Tick
from shared.storage.migrate import ROOT
from tests.component.watching import outbox, statements, unit_of
from tests.conftest import FakeClock
from tests.support import eventually, rows, value

SECOND = timedelta(seconds=1)
JOB = Job("sweep", "orders", "A job that only these tests have.", lambda _: {}, SECOND, market="DEMO")
SLOTS = 200
REPLICAS = TICKERS_EACH = 2

#: A service's scheduler as each replica runs it, cut down to its tick.
SCHEDULER = """
import sys
from shared.bus.transaction import Unit
from shared.jobs.scheduler import Tick, run_scheduler
from shared.storage.engine import make_engine
run_scheduler([Tick(Unit("orders", make_engine(sys.stdin.readline().strip(), name="orders")))])
"""


@pytest.fixture
def orders(urls: dict[str, str], clock: FakeClock) -> Iterator[Unit]:
    with unit_of("orders", urls, clock) as unit:
        yield unit


def declare(unit: Unit, *jobs: Job) -> None:
    with unit.engine.begin() as connection:
        store.declare(connection, jobs, unit.clock())


def tick(unit: Unit) -> None:
    """One wake-up of a scheduler that has just started."""
    ticker = Tick(unit)
    if ticker.validate(unit.clock()):
        ticker.send_with_options()


def finish_runs(unit: Unit) -> None:
    """End every run, as workers would: an unfinished one keeps its job's next slot waiting."""
    with unit.engine.begin() as connection:
        for row in connection.exec_driver_sql("SELECT id FROM jobs.job_runs WHERE finished_at IS NULL").all():
            store.finish_run(connection, row.id, outcome="succeeded", error=None, counts={}, now=unit.clock())


def claimed(unit: Unit, job: str = JOB.name) -> list[datetime]:
    """The slots of the job's runs, in order."""
    found = rows(unit.engine, "SELECT scheduled_for FROM jobs.job_runs WHERE job = :j ORDER BY 1", j=job)
    return [row.scheduled_for for row in found]


def run_ids(unit: Unit) -> list[UUID]:
    return [row.id for row in rows(unit.engine, "SELECT id FROM jobs.job_runs")]


def test_racing_schedulers_claim_every_slot_once(urls: dict[str, str], clock: FakeClock) -> None:
    """Two replicas, two tickers each, 200 slots, three jobs: one run, one RunJob, and no ticker trips on another."""
    jobs = [replace(JOB, name=f"every_{n}s", interval=n * SECOND) for n in (1, 2, 3)]
    moments = [clock.now + number * SECOND for number in range(SLOTS)]
    with ExitStack() as stack, capture_logs() as logs:
        replicas = [stack.enter_context(unit_of("orders", urls, clock)) for _ in range(REPLICAS)]
        declare(replicas[0], *jobs)
        _race([Tick(unit) for unit in replicas for _ in range(TICKERS_EACH)], clock)
        for job in jobs:
            assert claimed(replicas[0], job.name) == sorted({slot_at(moment, job.interval) for moment in moments})
        assert Counter(sent.id for sent in outbox(replicas[0])) == Counter(run_ids(replicas[0]))
    assert [entry for entry in logs if entry["log_level"] == "warning"] == []


def _race(tickers: list[Tick], clock: FakeClock) -> None:
    """Move the clock slot by slot; in every other slot all tickers have looked before the first one claims."""
    gate = threading.Barrier(len(tickers), timeout=20)

    def wake(ticker: Tick, number: int) -> None:
        gate.wait()
        due = ticker.validate(clock())
        if number % 2:
            gate.wait()
        if due:
            ticker.send_with_options()

    with ThreadPoolExecutor(len(tickers)) as pool:
        for number in range(SLOTS):
            for future in [pool.submit(wake, ticker, number) for ticker in tickers]:
                future.result()
            finish_runs(tickers[0]._unit)
            clock.move(seconds=1)


def test_a_restart_inside_a_slot_does_not_run_it_again(urls: dict[str, str], clock: FakeClock) -> None:
    """The second start declares its jobs anew and finds the slot claimed."""
    clock.now = slot_at(clock.now, 60 * SECOND)
    for _ in range(2):
        with unit_of("orders", urls, clock) as unit:
            declare(unit, replace(JOB, interval=60 * SECOND))
            tick(unit)
            finish_runs(unit)
            assert len(claimed(unit)) == len(outbox(unit)) == 1
            assert not Tick(unit).validate(clock())
        clock.move(seconds=30)


def test_after_an_outage_the_latest_slot_runs_once(orders: Unit, clock: FakeClock) -> None:
    """Three hours of missed minutes are one run, of the minute that it is now."""
    declare(orders, replace(JOB, interval=60 * SECOND))
    tick(orders)
    finish_runs(orders)
    before = claimed(orders)
    clock.move(hours=3)
    for _ in range(2):
        tick(orders)
        finish_runs(orders)
    assert claimed(orders) == [*before, slot_at(clock.now, 60 * SECOND)]


def test_a_disabled_job_enqueues_nothing(orders: Unit) -> None:
    """Neither a run nor a message."""
    declare(orders, replace(JOB, enabled=False))
    tick(orders)
    assert (claimed(orders), outbox(orders)) == ([], [])


def test_a_job_for_market_hours_waits_for_its_market_to_open(
    orders: Unit, urls: dict[str, str], clock: FakeClock
) -> None:
    """Without a session that covers the time the market is closed; the end of a session is outside it."""
    declare(orders, replace(JOB, market="XNYS", market_hours_only=True))
    tick(orders)
    assert claimed(orders) == []
    opens = clock.now + 60 * SECOND
    _add_session(urls, opens, opens + 60 * SECOND)
    for seconds, runs in ((59, 0), (1, 1), (59, 2), (1, 2)):
        clock.move(seconds=seconds)
        tick(orders)
        finish_runs(orders)
        assert len(claimed(orders)) == len(outbox(orders)) == runs


def _add_session(urls: dict[str, str], opens: datetime, closes: datetime) -> None:
    with unit_of("marketdata", urls) as unit, unit.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO marketdata.markets VALUES ('XNYS', 'New York', 'America/New_York')")
        connection.exec_driver_sql(
            "INSERT INTO marketdata.market_sessions (market, open_at, close_at) VALUES ('XNYS', %s, %s)",
            (opens, closes),
        )


def test_a_toggle_acts_at_the_next_tick_and_is_on_record(orders: Unit, clock: FakeClock) -> None:
    """Off: the next slot passes. On: the one after runs. A new declaration does not undo what the operator set."""
    declare(orders, JOB)
    for enabled, runs in ((False, 0), (True, 1)):
        with orders.transaction() as tx:
            store.set_enabled(tx, JOB.name, enabled=enabled, who="OPERATOR1")
        declare(orders, JOB)
        tick(orders)
        assert len(claimed(orders)) == runs
        clock.move(seconds=1)
    noted = rows(orders.engine, "SELECT who, what, subject, before, after FROM jobs.operator_actions ORDER BY id")
    assert [tuple(row) for row in noted] == [
        ("OPERATOR1", "toggle", JOB.name, {"enabled": True}, {"enabled": False}),
        ("OPERATOR1", "toggle", JOB.name, {"enabled": False}, {"enabled": True}),
    ]


def test_an_unknown_job_can_be_neither_toggled_nor_triggered(orders: Unit) -> None:
    """It is named in the error, and nothing is written."""
    with pytest.raises(store.UnknownJob, match="no_such_job"), orders.transaction() as tx:
        store.set_enabled(tx, "no_such_job", enabled=True, who="OPERATOR1")
    with pytest.raises(store.UnknownJob, match="no_such_job"), orders.transaction() as tx:
        store.trigger(tx, "no_such_job", parameters={}, who="OPERATOR1")
    assert value(orders.engine, "SELECT count(*) FROM jobs.operator_actions") == 0
    assert (run_ids(orders), outbox(orders)) == ([], [])


def test_an_unfinished_run_keeps_the_next_slot_waiting_until_it_is_taken_for_lost(
    orders: Unit, clock: FakeClock
) -> None:
    """Runs of a job do not pile up behind a slow one; one that never ends holds its job up for LOST_AFTER."""
    declare(orders, JOB)
    queued_at = clock.now
    tick(orders)
    for waited in (SECOND, store.LOST_AFTER - SECOND):
        clock.now = queued_at + waited
        tick(orders)
        assert len(claimed(orders)) == 1
    clock.now = queued_at + store.LOST_AFTER
    tick(orders)
    assert claimed(orders) == [slot_at(queued_at, SECOND), slot_at(clock.now, SECOND)]


def test_a_tick_takes_as_many_statements_for_200_jobs_as_for_one(orders: Unit, clock: FakeClock) -> None:
    """Looking, claiming and sending are one statement each, however many jobs are due."""

    def counted(jobs: int) -> int:
        declare(orders, *(replace(JOB, name=f"job_{number}") for number in range(jobs)))
        finish_runs(orders)
        clock.move(seconds=1)
        before = len(outbox(orders))
        with statements(orders.engine) as seen:
            tick(orders)
        assert len(outbox(orders)) == before + jobs
        return len(seen)

    assert counted(1) == counted(200) == 3


def test_periodiq_ticks_once_a_second_on_the_main_thread_of_a_process(urls: dict[str, str]) -> None:
    """The real scheduler for five seconds: every second has its run, and none has two."""
    with unit_of("orders", urls) as unit, _scheduler(urls["orders"]):
        declare(unit, JOB)

        def five_seconds_ran() -> bool:
            finish_runs(unit)
            return len(claimed(unit)) > 5

        eventually(five_seconds_ran, seconds=30, what="five seconds of runs")
        _, *slots = claimed(unit)  # it started somewhere inside the first
        assert slots == [slots[0] + number * SECOND for number in range(len(slots))]
        assert Counter(sent.id for sent in outbox(unit)) == Counter(run_ids(unit))


@contextmanager
def _scheduler(url: str) -> Iterator[None]:
    command = [sys.executable, "-c", SCHEDULER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        process.stdin.write(url + "\n")
        process.stdin.flush()
        try:
            yield
            assert process.poll() is None, "the scheduler ended by itself"
        finally:
            process.kill()
