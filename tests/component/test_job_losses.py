"""Runs whose worker, message or database is lost: each run is finished, and none twice."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from dramatiq import Worker
from sqlalchemy.exc import OperationalError

from shared.bus.actors import Actors
from shared.bus.envelope import encode
from shared.bus.inprocess import InProcessBroker
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.jobs import RunJob
from shared.jobs.admin import control
from shared.jobs.declaration import Job, Jobs
from shared.jobs.engine import run_store
from shared.jobs.engine.dispatch import LOST_AFTER, rescue
from shared.jobs.engine.tick import GAP, WATCHED_TICKS, LossWatch
from shared.jobs.run_context import Counts, RunContext
from shared.service import Service, attach, make_middleware
from tests.component.job_worker import (
    Gate,
    a_job,
    job_worker,
    runs,
    silent,
    started_by_a_worker_that_died,
    watched,
)
from tests.conftest import FakeClock
from tests.support import eventually, rows, send


@pytest.mark.parametrize(("on_lost", "outcome", "attempts"), [("rerun", "succeeded", 2), ("fail", "lost", 1)])
def test_a_run_whose_worker_died_is_detected(
    orders: ServiceContext, clock: FakeClock, on_lost: str, outcome: str, attempts: int
) -> None:
    """After ten seconds without a heartbeat the run begins again or is lost, as the job's settings say."""
    ran: list[int] = []

    def record(run: RunContext) -> Counts:
        ran.append(run.attempt)
        return {}

    with job_worker(orders, a_job(record, enabled=False, on_lost=on_lost, retries=0)) as worker:
        run_id = started_by_a_worker_that_died(orders)
        watched(worker)
        silent(orders, 9.0)
        worker.tick()
        assert runs(orders)[0].state == "running"
        silent(orders, LOST_AFTER.total_seconds())
        worker.tick()
    (run,) = runs(orders)
    assert (run.id, run.outcome, run.attempt, len(ran)) == (run_id, outcome, attempts, attempts - 1)
    assert run.reason == (None if on_lost == "rerun" else "its worker dead:1 died")


@pytest.mark.parametrize(
    ("retries", "failed", "reruns"), [(0, 0, 1), (1, 0, 1), (3, 0, 3), (2, 2, 1), (2, 1, 1)], ids=str
)
def test_a_run_that_is_lost_again_and_again_ends_as_lost(
    orders: ServiceContext, clock: FakeClock, retries: int, failed: int, reruns: int
) -> None:
    """It begins again at least once, also if its retries are used up."""
    job, beside = a_job(lambda _: {}, schedule="off", retries=retries), {"after": "sweep", "schedule": "off"}
    hears = a_job(lambda _: {}, "hears", after_outcome="finished", **beside)
    with job_worker(orders, job, hears, a_job(lambda _: {}, "deaf", **beside)) as worker:
        started_by_a_worker_that_died(orders)
        _run_update(orders, f"failures = {failed}, reason = 'OutOfShares: sold 11 of 10'")
        for _ in range(reruns):
            silent(orders)
            rescue_runs(orders)
            assert runs(orders)[0].state == "waiting"
            _run_update(orders, "state = 'running'")
        watched(worker)
        silent(orders)
        worker.tick()
        assert [run.outcome for run in runs(orders)] == ["lost"]
        assert [run.outcome for run in runs(orders, "hears")] == ["succeeded"]
        assert runs(orders, "deaf") == []


def _run_update(context: ServiceContext, changes: str) -> None:
    with context.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE jobs.job_runs SET {changes} WHERE job = 'sweep'")


def rescue_runs(context: ServiceContext) -> None:
    with context.unit_of_work() as uow:
        rescue(uow, "orders")


def test_a_canceled_run_whose_worker_died_ends_canceled(orders: ServiceContext, clock: FakeClock) -> None:
    """It is not run again, and starts no follower."""
    follower = a_job(lambda _: {}, "follower", after="sweep", after_outcome="finished", schedule="off")
    with job_worker(orders, a_job(lambda _: {}, schedule="off"), follower) as worker:
        worker.cancel(started_by_a_worker_that_died(orders))
        watched(worker)
        silent(orders)
        worker.tick()
    assert [run.outcome for run in runs(orders)] == ["canceled"]
    assert runs(orders, "follower") == []


def test_a_worker_that_was_taken_for_dead_writes_nothing(orders: ServiceContext, clock: FakeClock) -> None:
    """Another worker took over the run of a frozen worker, so the frozen one's outcome is not saved."""
    gates = [Gate(), Gate()]
    taken = iter(gates)

    def hold(run: RunContext) -> Counts:
        gate = next(taken)
        gate.entered.set()
        gate.opened.wait(20)
        return {"attempt": run.attempt}

    with job_worker(orders, a_job(hold, enabled=False, retries=1)) as worker:
        worker.trigger()
        assert gates[0].entered.wait(10)
        watched(worker)
        silent(orders)
        worker.ticker.run()  # this process wrote no heartbeat
        # the run begins again; this process would refuse it, so another one takes it
        with working_beside(orders, a_job(hold, enabled=False, retries=1)):
            assert gates[1].entered.wait(10)
            gates[0].opened.set()
            eventually(lambda: runs(orders)[0].attempt == 2)
            gates[1].opened.set()
            eventually(lambda: runs(orders)[0].state == "finished")
    (run,) = runs(orders)
    assert (run.outcome, run.attempt, run.counts) == ("succeeded", 2, {"attempt": 2})


@contextmanager
def working_beside(context: ServiceContext, job: Job) -> Iterator[None]:
    """Run a second worker process, which gets the message of the only run."""
    broker = InProcessBroker(middleware=make_middleware({"orders": context}), queues=["orders.jobs"])
    attach(Service("orders", Actors(), Jobs("orders")), broker, context, {job.name: job})
    worker = Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    (row,) = rows(context.engine, "SELECT id, attempt FROM jobs.job_runs")
    try:
        broker.send(encode(RunJob(to="orders", run_id=row.id, job=job.name, attempt=row.attempt)))
        yield
    finally:
        worker.stop()


def test_a_message_that_is_delivered_again_starts_nothing(orders: ServiceContext) -> None:
    """The run is over when its message, or that of an earlier attempt, is delivered again."""
    ran: list[UUID] = []

    def record(run: RunContext) -> Counts:
        ran.append(run.id)
        return {"times": len(ran)}

    with job_worker(orders, a_job(record, enabled=False)) as worker:
        run_id = worker.trigger()
        worker.handled()
        (first,) = runs(orders)
        for attempt in (None, 0, 1):
            send(orders, RunJob(to="orders", run_id=run_id, job="sweep", attempt=attempt))
            worker.handled()
        assert runs(orders) == [first]
    assert ran == [run_id]


def test_a_late_message_does_not_swallow_the_next_one(orders: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of an earlier attempt comes just before the right one, and the run starts (found by a fault run)."""
    entered, never, start = threading.Event(), threading.Event(), run_store.start

    def start_slowly(connection: Any, run_id: UUID, **given: Any) -> Any:
        if given["attempt"] == 7:  # the late message
            entered.set()
            never.wait(0.5)  # until the other message is there
        return start(connection, run_id, **given)

    monkeypatch.setattr("shared.jobs.engine.run_store.start", start_slowly)
    with job_worker(orders, a_job(lambda _: {}, enabled=False)) as worker:
        with orders.unit_of_work() as uow:
            run_id = control.trigger(uow, "sweep", parameters={}, who="OPERATOR1")
            uow.outgoing.clear()
        late, right = (RunJob(to="orders", run_id=run_id, job="sweep", attempt=attempt) for attempt in (7, 0))
        send(orders, late)
        assert entered.wait(10)
        send(orders, right)
        worker.handled()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 1)]


def test_a_run_that_lost_the_database_is_retried(orders: ServiceContext, clock: FakeClock) -> None:
    """An outage does not fail the run: the same run succeeds later."""
    outages = [1]

    def lose_the_database_once(run: RunContext) -> Counts:
        with run.context.unit_of_work() as uow:
            if outages:
                outages.pop()
                uow.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return {"done": 1}

    with job_worker(orders, a_job(lose_the_database_once, schedule="1d", retries=1)) as worker:
        worker.tick()
        (run,) = runs(orders)
        assert (run.state, run.error_kind) == ("waiting", "transient")
        clock.now = run.not_before
        worker.tick()
    (run,) = runs(orders)
    assert (run.attempt, run.outcome, run.error, run.counts) == (2, "succeeded", None, {"done": 1})


def test_an_outcome_is_saved_when_the_database_is_back(
    orders: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finished run is neither run twice nor taken for lost, though no message comes for it again."""
    ran: list[UUID] = []
    outages = [1, 1]
    finish = run_store.finish

    def fail_twice(uow: Any, run: Any, result: Any) -> bool:
        if outages:
            outages.pop()
            uow.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return bool(finish(uow, run, result))

    def record(run: RunContext) -> Counts:
        ran.append(run.id)
        return {"done": 1}

    monkeypatch.setattr("shared.jobs.engine.run_store.finish", fail_twice)
    with job_worker(orders, a_job(record, enabled=False)) as worker:
        run_id = worker.trigger()
        worker.handled()
        for outages_left in (1, 0):
            watched(worker)
            silent(orders)
            assert (runs(orders)[0].state, len(outages)) == ("running", outages_left)
            worker.heartbeat.beat()
            worker.tick()
    (run,) = runs(orders)
    assert (run.outcome, run.attempt, run.counts, ran) == ("succeeded", 1, {"done": 1}, [run_id])


def test_an_unsaved_outcome_does_not_replace_that_of_the_next_attempt(
    orders: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was taken for lost and began again on the same worker. The later attempt counts."""
    outages = [1]
    finish = run_store.finish

    def fail_once(uow: Any, run: Any, result: Any) -> bool:
        if outages:
            outages.pop()
            uow.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return bool(finish(uow, run, result))

    monkeypatch.setattr("shared.jobs.engine.run_store.finish", fail_once)
    job = a_job(lambda run: {"attempt": run.attempt}, enabled=False, retries=1)
    with job_worker(orders, job) as worker:
        worker.trigger()
        worker.handled()
        watched(worker)
        silent(orders)
        worker.tick()
        assert [(run.outcome, run.attempt, run.counts) for run in runs(orders)] == [("succeeded", 2, {"attempt": 2})]
        (before,) = runs(orders)
        worker.heartbeat.beat()  # would save the first attempt's outcome
        assert runs(orders) == [before]
        assert not worker.heartbeat.holds(before.id)


def test_a_run_begins_again_elsewhere_when_its_worker_is_stopped(orders: ServiceContext) -> None:
    """A deployment interrupts a run that checks for it, and that uses up no retry."""
    gate = Gate()
    with job_worker(orders, a_job(gate, enabled=False)) as worker:
        worker.trigger()
        assert gate.entered.wait(10)
        worker.heartbeat.interrupt()
        worker.handled()
        (run,) = runs(orders)
        assert (run.state, run.failures, run.reason) == ("waiting", 0, "its worker was stopped")
        gate.opened.set()
        worker.tick()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 2)]


def test_an_outage_of_the_database_kills_no_run(orders: ServiceContext, clock: FakeClock) -> None:
    """No heartbeat could be written during the outage, so the worker has ten more seconds after it."""
    gate = Gate()
    with job_worker(orders, a_job(gate, enabled=False)) as worker:
        worker.trigger()
        assert gate.entered.wait(10)
        watched(worker)
        silent(orders)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker.ticker, "run", _database_down)
            worker.ticker.send_with_options()
        worker.ticker.send_with_options()
        assert runs(orders)[0].state == "running"
        worker.heartbeat.beat()
        gate.opened.set()
        worker.handled()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 1)]


def _database_down() -> None:
    raise OperationalError("", {}, Exception("away"))


@pytest.mark.parametrize("gap", [GAP + timedelta(seconds=1), timedelta(hours=3), -timedelta(seconds=1)])
def test_a_scheduler_that_did_not_run_itself_calls_nobody_dead(gap: timedelta) -> None:
    """Everything slept, or the clock was set: workers have their time once more."""
    watch, now = LossWatch(), datetime(2026, 3, 9, 12, tzinfo=UTC)
    seconds = [timedelta(seconds=1)] * WATCHED_TICKS
    judged = []
    for pause in [*seconds, timedelta(seconds=1), gap, *seconds]:
        now += pause
        judged.append(watch.may_judge(now))
    assert [number for number, may in enumerate(judged) if may] == [WATCHED_TICKS, 2 * WATCHED_TICKS + 1]
