"""Slots on a real PostgreSQL: each due slot is claimed once, by one of several schedulers."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from uuid import UUID

from structlog.testing import capture_logs

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.engine.dispatch import RESEND_AFTER
from shared.jobs.engine.tick import Tick
from shared.jobs.schedule.planning import MISSED, OVERLAPS
from shared.storage.migrate import ROOT
from tests.component.schedule_rows import (
    JOB,
    SECOND,
    a_job,
    add_session,
    claimed,
    declare,
    finish_runs,
    run_ids,
    sent_runs,
    skipped,
    slot_at,
    tick,
    ticker,
)
from tests.component.watching import context_of, outbox, statements
from tests.conftest import FakeClock
from tests.support import eventually, rows, value

SLOTS = 200
REPLICAS = TICKERS_EACH = 2

#: A replica's scheduler, reduced to its tick.
SCHEDULER = """
import sys
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.engine.tick import Tick, run_scheduler
from shared.markets import PublishedCalendar
from shared.storage.engine import make_engine
context = ServiceContext("orders", make_engine(sys.stdin.readline().strip(), name="orders"))
run_scheduler([Tick(context, PublishedCalendar(context.engine, context.clock))])
"""


def test_racing_schedulers_claim_every_slot_once(urls: dict[str, str], clock: FakeClock) -> None:
    """Two replicas with two schedulers each claim 200 slots of three jobs. Each slot has one run and one RunJob."""
    jobs = [a_job(f"every_{n}s", schedule=f"{n}s") for n in (1, 2, 3)]
    moments = [clock.now + number * SECOND for number in range(SLOTS)]
    with ExitStack() as stack, capture_logs() as logs:
        replicas = [stack.enter_context(context_of("orders", urls, clock)) for _ in range(REPLICAS)]
        declare(replicas[0], *jobs)
        _race([ticker(context) for context in replicas for _ in range(TICKERS_EACH)], clock)
        for n, job in enumerate(jobs, start=1):
            assert claimed(replicas[0], job.name) == sorted({slot_at(moment, n * SECOND) for moment in moments})
        assert sent_runs(replicas[0]) == Counter(run_ids(replicas[0]))
    assert [entry for entry in logs if entry["log_level"] == "warning"] == []


def _race(tickers: list[Tick], clock: FakeClock) -> None:
    """Move the clock slot by slot. All schedulers tick at the same moment in each."""
    gate = threading.Barrier(len(tickers), timeout=20)

    def wake(scheduler: Tick) -> None:
        gate.wait()
        scheduler.send_with_options()

    with ThreadPoolExecutor(len(tickers)) as pool:
        for _ in range(SLOTS):
            for future in [pool.submit(wake, scheduler) for scheduler in tickers]:
                future.result()
            finish_runs(tickers[0]._context)
            clock.move(seconds=1)


def test_a_restart_inside_a_slot_does_not_run_it_again(urls: dict[str, str], clock: FakeClock) -> None:
    """The second start declares the jobs again and finds the slot claimed."""
    clock.now = slot_at(clock.now, 60 * SECOND)
    for _ in range(2):
        with context_of("orders", urls, clock) as context:
            declare(context, a_job(schedule="1m"))
            tick(context)
            finish_runs(context)
            assert len(claimed(context)) == len(outbox(context)) == 1
        clock.move(seconds=30)


def test_after_an_outage_the_latest_slot_runs_once(orders: ServiceContext, clock: FakeClock) -> None:
    """After three hours the current minute runs, and the missed minutes are one row."""
    declare(orders, a_job(schedule="1m"))
    tick(orders)
    finish_runs(orders)
    (before,) = claimed(orders)
    clock.move(hours=3)
    for _ in range(2):
        tick(orders)
        finish_runs(orders)
    latest = slot_at(clock.now, 60 * SECOND)
    assert claimed(orders) == [before, latest]
    assert skipped(orders) == [(before + 60 * SECOND, latest - 60 * SECOND, 179, MISSED)]


def test_with_run_all_the_slots_of_an_outage_run_in_their_order(orders: ServiceContext, clock: FakeClock) -> None:
    """Each run is sent when the previous one has ended."""
    declare(orders, a_job(schedule="1m", misfire="run_all", misfire_window="5m"))
    tick(orders)
    finish_runs(orders)
    clock.move(hours=1)
    tick(orders)
    started = []
    while waiting := rows(orders.engine, "SELECT scheduled_for, state FROM jobs.job_runs WHERE state <> 'finished'"):
        (active,) = [row.scheduled_for for row in waiting if row.state == "queued"]
        started.append(active)
        with orders.engine.begin() as connection:
            connection.exec_driver_sql(
                """UPDATE jobs.job_runs SET state = 'finished', outcome = 'succeeded', finished_at = queued_at
                   WHERE state = 'queued'"""
            )
        tick(orders)
    latest = slot_at(clock.now, 60 * SECOND)
    assert started == [slot for n in range(5, -1, -1) if (slot := latest - n * 60 * SECOND) >= clock.now - 300 * SECOND]


def test_a_disabled_job_enqueues_nothing(orders: ServiceContext) -> None:
    """There is neither a run nor a message."""
    declare(orders, a_job(enabled=False))
    tick(orders)
    assert (claimed(orders), outbox(orders)) == ([], [])


def test_a_job_for_market_hours_waits_for_its_market_to_open(
    orders: ServiceContext, urls: dict[str, str], clock: FakeClock
) -> None:
    """The market is closed outside of its sessions, and at the moment that a session ends."""
    clock.now = slot_at(clock.now, SECOND)
    opens = clock.now + 60 * SECOND
    add_session(urls, opens, opens + 60 * SECOND)
    declare(orders, a_job(market="XNYS", market_hours_only=True))
    tick(orders)
    assert claimed(orders) == []
    assert value(orders.engine, "SELECT next_slot FROM jobs.jobs") == opens
    for seconds, runs in ((59, 0), (1, 1), (59, 2), (1, 2)):
        clock.move(seconds=seconds)
        tick(orders)
        finish_runs(orders)
        assert len(claimed(orders)) == len(outbox(orders)) == runs


def test_slots_during_a_slow_run_are_one_row_with_the_reason(orders: ServiceContext, clock: FakeClock) -> None:
    """Runs of a job do not pile up. When the slow run has ended, the next slot runs."""
    declare(orders, JOB)
    tick(orders)
    (slow,) = claimed(orders)
    for _ in range(3):
        clock.move(seconds=1)
        tick(orders)
    assert skipped(orders) == [(slow + SECOND, slow + 3 * SECOND, 3, OVERLAPS)]
    finish_runs(orders)
    clock.move(seconds=1)
    tick(orders)
    assert claimed(orders) == [slow, slow + 4 * SECOND]
    clock.move(seconds=1)
    tick(orders)
    later = slow + 5 * SECOND
    assert skipped(orders) == [(slow + SECOND, slow + 3 * SECOND, 3, OVERLAPS), (later, later, 1, OVERLAPS)]


def test_with_overlap_cancel_a_later_slot_replaces_the_run(orders: ServiceContext, clock: FakeClock) -> None:
    """The run in progress is canceled, and the later one begins when it has ended."""
    declare(orders, a_job(overlap="cancel"))
    tick(orders)
    clock.move(seconds=1)
    tick(orders)
    first, second = rows(orders.engine, "SELECT * FROM jobs.job_runs ORDER BY scheduled_for")
    assert (first.state, first.cancel_requested_at, second.state) == ("queued", clock.now, "waiting")
    finish_runs_of(orders, first.id)
    tick(orders)
    assert value(orders.engine, "SELECT state FROM jobs.job_runs WHERE id = :id", id=second.id) == "queued"


def finish_runs_of(context: ServiceContext, run_id: UUID) -> None:
    with context.engine.begin() as connection:
        connection.exec_driver_sql(
            """UPDATE jobs.job_runs SET state = 'finished', outcome = 'canceled', finished_at = queued_at
               WHERE id = %s""",
            (run_id,),
        )


def test_a_run_whose_message_was_lost_is_sent_again(orders: ServiceContext, clock: FakeClock) -> None:
    """Ten minutes after its queue was wiped the message is sent again, for the same attempt."""
    declare(orders, a_job(schedule="1h"))
    tick(orders)
    (first,) = outbox(orders)
    with orders.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM orders.outbox")
    for waited, sent in ((RESEND_AFTER, 0), (SECOND, 1), (SECOND, 1)):
        clock.now += waited
        tick(orders)
        assert len(outbox(orders)) == sent
    (again,) = outbox(orders)
    assert (again.id, again.body) == (first.id, first.body)


def test_a_tick_takes_as_many_statements_for_200_jobs_as_for_one(orders: ServiceContext, clock: FakeClock) -> None:
    """A tick reads, claims, saves its plans and notifies the relays by one statement each."""

    def counted(jobs: int) -> int:
        declare(orders, *(a_job(f"job_{number}") for number in range(jobs)))
        finish_runs(orders)
        clock.move(seconds=1)
        before = len(outbox(orders))
        scheduler = ticker(orders)
        with statements(orders.engine) as seen:
            assert scheduler.claim_due() == jobs
        assert len(outbox(orders)) == before + jobs
        return len(seen)

    assert counted(1) == counted(200) == 4


def test_periodiq_ticks_once_a_second_on_the_main_thread_of_a_process(urls: dict[str, str]) -> None:
    """The real scheduler runs for five seconds, and every second has one run."""
    with context_of("orders", urls) as context:

        def five_seconds_ran() -> bool:
            finish_runs(context)
            return len(claimed(context)) > 5

        with _scheduler(urls["orders"]):
            declare(context, a_job(misfire="run_all", misfire_window="10m"))
            eventually(five_seconds_ran, seconds=30, what="five seconds of runs")
        _, *slots = claimed(context)  # it started within the first second
        assert slots == [slots[0] + number * SECOND for number in range(len(slots))]
        assert sent_runs(context) == Counter(run_ids(context))


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
