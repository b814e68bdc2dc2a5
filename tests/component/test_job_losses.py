"""Runs whose worker, message or database is lost: each is done, and none is done twice."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
from shared.jobs.engine import run_store as job_runs
from shared.jobs.engine.dispatch import LOST_AFTER
from shared.jobs.run_context import Counts, RunContext
from shared.service import Service, attach, make_middleware
from tests.component.run_desk import Gate, a_job, runs, working
from tests.conftest import FakeClock
from tests.support import eventually, rows, send


@pytest.mark.parametrize(("on_lost", "outcome", "attempts"), [("rerun", "succeeded", 2), ("fail", "lost", 1)])
def test_a_run_whose_worker_died_is_detected(
    orders: ServiceContext, clock: FakeClock, on_lost: str, outcome: str, attempts: int
) -> None:
    """It says nothing for ten seconds: the run begins again, or is lost, as its job has it."""
    ran: list[int] = []

    def note(run: RunContext) -> Counts:
        ran.append(run.attempt)
        return {}

    with working(orders, a_job(note, enabled=False, on_lost=on_lost, retries=1)) as at_work:
        run_id = _begun_by_a_worker_that_died(orders)
        clock.now += LOST_AFTER
        at_work.tick()
        assert runs(orders)[0].state == "running"
        clock.move(seconds=0.001)
        at_work.tick()
    (run,) = runs(orders)
    assert (run.id, run.outcome, run.attempt, len(ran)) == (run_id, outcome, attempts, attempts - 1)
    assert run.reason == (None if on_lost == "rerun" else "its worker dead:1 died")


def _begun_by_a_worker_that_died(context: ServiceContext) -> UUID:
    with context.engine.begin() as connection:
        insert = """INSERT INTO jobs.job_runs (id, job, service, trigger, state, attempt, queued_at, started_at, worker,
                                               heartbeat_at)
                    VALUES (gen_random_uuid(), 'sweep', 'orders', 'manual', 'running', 1, %(now)s, %(now)s,
                            'dead:1', %(now)s)
                    RETURNING id"""
        run_id: UUID = connection.exec_driver_sql(insert, {"now": context.clock()}).scalar_one()
        return run_id


def test_a_worker_that_was_taken_for_dead_writes_nothing(orders: ServiceContext, clock: FakeClock) -> None:
    """It was frozen; meanwhile another ran its run. It is told to end, and what it found stays unwritten."""
    gates = [Gate(), Gate()]
    taken = iter(gates)

    def hold(run: RunContext) -> Counts:
        gate = next(taken)
        gate.entered.set()
        gate.opened.wait(20)
        return {"attempt": run.attempt}

    with working(orders, a_job(hold, enabled=False, retries=1)) as at_work:
        at_work.trigger()
        assert gates[0].entered.wait(10)
        clock.now += 2 * LOST_AFTER
        at_work.ticker.move_on()  # this process's pulse did not beat
        # the run begins again; here the same process would refuse it, so another takes it
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
    """A second worker process's runner on the messages that the first one does not take."""
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


def test_a_message_that_comes_again_begins_nothing(orders: ServiceContext) -> None:
    """Neither while the run is under way nor afterwards, nor that of an earlier attempt."""
    ran: list[UUID] = []

    def note(run: RunContext) -> Counts:
        ran.append(run.id)
        return {"times": len(ran)}

    with working(orders, a_job(note, enabled=False)) as at_work:
        run_id = at_work.trigger()
        at_work.handled()
        (first,) = runs(orders)
        for attempt in (None, 0, 1):
            send(orders, RunJob(to="orders", run_id=run_id, job="sweep", attempt=attempt))
            at_work.handled()
        assert runs(orders) == [first]
    assert ran == [run_id]


def test_a_late_message_does_not_swallow_the_next_one(orders: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both come at once after an outage, an earlier try's first: the run begins all the same (found by a fault run)."""
    entered, never, begin = threading.Event(), threading.Event(), job_runs.begin

    def begin_slowly(connection: Any, run_id: UUID, **given: Any) -> Any:
        if given["attempt"] == 7:  # the late one
            entered.set()
            never.wait(0.5)  # as long as the other message takes to be there
        return begin(connection, run_id, **given)

    monkeypatch.setattr("shared.jobs.engine.run_store.begin", begin_slowly)
    with working(orders, a_job(lambda _: {}, enabled=False)) as at_work:
        with orders.unit_of_work() as uow:
            run_id = control.trigger(uow, "sweep", parameters={}, who="OPERATOR1")
            uow.outgoing.clear()
        late, right = (RunJob(to="orders", run_id=run_id, job="sweep", attempt=attempt) for attempt in (7, 0))
        send(orders, late)
        assert entered.wait(10)
        send(orders, right)
        at_work.handled()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 1)]


def test_a_run_that_lost_the_database_is_tried_again(orders: ServiceContext, clock: FakeClock) -> None:
    """It is not failed by an outage: the same run succeeds."""
    outages = [1]

    def lose_the_database_once(run: RunContext) -> Counts:
        with run.context.unit_of_work() as uow:
            if outages:
                outages.pop()
                uow.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return {"done": 1}

    with working(orders, a_job(lose_the_database_once, schedule="1d", retries=1)) as at_work:
        at_work.tick()
        (run,) = runs(orders)
        assert (run.state, run.error_kind) == ("waiting", "transient")
        clock.now = run.not_before
        at_work.tick()
    (run,) = runs(orders)
    assert (run.attempt, run.outcome, run.error, run.counts) == (2, "succeeded", None, {"done": 1})


def test_how_a_run_went_is_written_when_the_database_is_back(
    orders: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job has done its work: it is neither done twice nor taken for lost, though no message comes for it again."""
    ran: list[UUID] = []
    outages = [1, 1]
    finish = job_runs.finish

    def fail_twice(uow: Any, run: Any, ending: Any) -> bool:
        if outages:
            outages.pop()
            uow.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return bool(finish(uow, run, ending))

    def note(run: RunContext) -> Counts:
        ran.append(run.id)
        return {"done": 1}

    monkeypatch.setattr("shared.jobs.engine.run_store.finish", fail_twice)
    with working(orders, a_job(note, enabled=False)) as at_work:
        run_id = at_work.trigger()
        at_work.handled()
        for outages_left in (1, 0):
            clock.now += 2 * LOST_AFTER
            assert (runs(orders)[0].state, len(outages)) == ("running", outages_left)
            at_work.heartbeat.beat()
            at_work.tick()
    (run,) = runs(orders)
    assert (run.outcome, run.attempt, run.counts, ran) == ("succeeded", 1, {"done": 1}, [run_id])


def test_what_was_not_written_does_not_swallow_the_next_try(
    orders: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker was silent for so long that the run began again, on itself: of both tries the later one counts."""
    outages = [1]
    finish = job_runs.finish

    def fail_once(uow: Any, run: Any, ending: Any) -> bool:
        if outages:
            outages.pop()
            uow.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return bool(finish(uow, run, ending))

    monkeypatch.setattr("shared.jobs.engine.run_store.finish", fail_once)
    job = a_job(lambda run: {"attempt": run.attempt}, enabled=False, retries=1)
    with working(orders, job) as at_work:
        at_work.trigger()
        at_work.handled()
        clock.now += 2 * LOST_AFTER
        at_work.tick()
        assert [(run.outcome, run.attempt, run.counts) for run in runs(orders)] == [("succeeded", 2, {"attempt": 2})]
        (before,) = runs(orders)
        at_work.heartbeat.beat()  # writes what the first try came to, which is no longer wanted
        assert runs(orders) == [before]
        assert not at_work.heartbeat.holds(before.id)


def test_a_run_goes_on_elsewhere_when_its_worker_is_stopped(orders: ServiceContext) -> None:
    """A run that looks is not lost to a deployment, and the try does not count."""
    gate = Gate()
    with working(orders, a_job(gate, enabled=False)) as at_work:
        at_work.trigger()
        assert gate.entered.wait(10)
        at_work.heartbeat.interrupt()
        at_work.handled()
        (run,) = runs(orders)
        assert (run.state, run.failures, run.reason) == ("waiting", 0, "its worker was stopped")
        gate.opened.set()
        at_work.tick()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 2)]


def test_an_outage_of_the_database_kills_no_run(orders: ServiceContext, clock: FakeClock) -> None:
    """Nobody could say that it lives while PostgreSQL was away: its worker has ten seconds once more."""
    gate = Gate()
    with working(orders, a_job(gate, enabled=False)) as at_work:
        at_work.trigger()
        assert gate.entered.wait(10)
        clock.now += 3 * LOST_AFTER
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(at_work.ticker, "move_on", _away)
            at_work.ticker.send_with_options()
        at_work.ticker.send_with_options()
        assert runs(orders)[0].state == "running"
        at_work.heartbeat.beat()
        gate.opened.set()
        at_work.handled()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 1)]


def _away() -> None:
    raise OperationalError("", {}, Exception("away"))
