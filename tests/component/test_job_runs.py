"""Runs on the in-process bus and a real PostgreSQL: started by their message, finished once, whatever happens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from dramatiq import Worker
from sqlalchemy import text

from shared.bus.actors import Actors
from shared.bus.inprocess import InProcessBroker
from shared.bus.relay import Relay
from shared.bus.transaction import Unit
from shared.contracts.jobs import RunJob
from shared.jobs import store
from shared.jobs.declaration import Counts, Job, JobRun, Jobs
from shared.jobs.running import WORKER
from shared.jobs.scheduler import Tick
from shared.service import Service, attach, make_middleware
from tests.component.watching import unit_of
from tests.conftest import FakeClock
from tests.support import eventually, rows, send, value

Body = Callable[[JobRun], Counts]


class OutOfShares(RuntimeError):
    """What the failing job of these tests raises."""


@pytest.fixture
def orders(urls: dict[str, str], clock: FakeClock) -> Iterator[Unit]:
    with unit_of("orders", urls, clock) as unit:
        yield unit


@contextmanager
def working(unit: Unit, body: Body, *, enabled: bool = True) -> Iterator[None]:
    """A worker and a relay of the service, with one job of this body every second."""
    job = Job("sweep", "orders", "A job of these tests.", body, timedelta(seconds=1), "DEMO", enabled=enabled)
    with unit.engine.begin() as connection:
        store.declare(connection, [job], unit.clock())
    broker = InProcessBroker(middleware=make_middleware({"orders": unit}), queues=["orders.jobs"])
    attach(Service("orders", Actors(), Jobs("orders")), broker, unit, {job.name: job})
    worker = Worker(broker, worker_timeout=50, worker_threads=2)
    relay = Relay(unit, broker, poll=0.1)
    worker.start()
    relay.start()
    try:
        yield
    finally:
        relay.stop()
        worker.stop()


def tick(unit: Unit) -> None:
    ticker = Tick(unit)
    if ticker.validate(unit.clock()):
        ticker.send_with_options()


def trigger(unit: Unit, **parameters: Any) -> UUID:
    with unit.transaction() as tx:
        return store.trigger(tx, "sweep", parameters=parameters, who="OPERATOR1")


def runs(unit: Unit) -> list[Any]:
    """The job's runs, oldest first."""
    return rows(unit.engine, "SELECT * FROM jobs.job_runs ORDER BY queued_at")


def handled(unit: Unit) -> None:
    """Every message that was sent has been handled: only then its row leaves the outbox."""
    eventually(lambda: value(unit.engine, "SELECT count(*) FROM orders.outbox") == 0, what="the outbox drained")


def send_again(unit: Unit, run_id: UUID) -> None:
    send(unit, RunJob(to="orders", run_id=run_id, job="sweep"), message_id=run_id)
    handled(unit)


def test_a_run_leaves_who_ran_it_when_and_what_it_counted(orders: Unit, clock: FakeClock) -> None:
    """The row that the tick wrote is filled in by the worker."""
    queued_at = clock.now
    with working(orders, lambda _: {"orders_filled": 3}):
        tick(orders)
        clock.move(seconds=2)
        handled(orders)
    (run,) = runs(orders)
    assert (run.trigger, run.attempt, run.outcome, run.counts) == ("schedule", 1, "succeeded", {"orders_filled": 3})
    assert (run.worker, run.error) == (WORKER, None)
    assert queued_at == run.queued_at <= run.started_at <= run.finished_at


def test_a_trigger_runs_a_disabled_job_with_its_parameters(orders: Unit) -> None:
    """By hand a job runs at any time, and the operator's action is on record with the run's id."""
    given: list[Any] = []

    def note(run: JobRun) -> Counts:
        given.append((run.id, run.parameters))
        return {}

    with working(orders, note, enabled=False):
        run_id = trigger(orders, symbols=["AAPL"])
        handled(orders)
    (run,) = runs(orders)
    assert given == [(run_id, {"symbols": ["AAPL"]})]
    assert (run.id, run.trigger, run.scheduled_for, run.outcome) == (run_id, "manual", None, "succeeded")
    (action,) = rows(orders.engine, "SELECT * FROM jobs.operator_actions")
    assert (action.who, action.what, action.subject) == ("OPERATOR1", "trigger", "sweep")
    assert (action.before, action.after) == (None, {"run_id": str(run_id)})


def test_a_job_that_raises_leaves_its_traceback_and_the_next_slot_runs(orders: Unit, clock: FakeClock) -> None:
    """A failure is an outcome: it is not tried again, and nothing goes to the dead letters."""
    failures = [OutOfShares("sold 11 of 10")]

    def fail_once(_run: JobRun) -> Counts:
        if failures:
            raise failures.pop()
        return {}

    with working(orders, fail_once):
        for _ in range(2):
            tick(orders)
            handled(orders)
            clock.move(seconds=1)
    failed, succeeded = runs(orders)
    assert (failed.outcome, failed.attempt, failed.counts) == ("failed", 1, {})
    assert failed.error.startswith("Traceback (most recent call last):")
    assert "fail_once" in failed.error
    assert failed.error.splitlines()[-1].endswith("OutOfShares: sold 11 of 10")
    assert (succeeded.outcome, succeeded.error) == ("succeeded", None)
    assert value(orders.engine, "SELECT count(*) FROM orders.dead_letters") == 0


def test_a_run_whose_worker_died_runs_again_and_a_finished_one_does_not(orders: Unit) -> None:
    """The bus delivers a message again that nobody finished: started is not finished."""
    ran: list[UUID] = []

    def note(run: JobRun) -> Counts:
        ran.append(run.id)
        return {"times": len(ran)}

    with working(orders, note, enabled=False):
        run_id = _started_by_a_worker_that_died(orders)
        send_again(orders, run_id)
        (first,) = runs(orders)
        assert (ran, first.attempt, first.worker, first.counts) == ([run_id], 2, WORKER, {"times": 1})
        send_again(orders, run_id)
        assert runs(orders) == [first]
        assert ran == [run_id]


def _started_by_a_worker_that_died(unit: Unit) -> UUID:
    with unit.engine.begin() as connection:
        insert = """INSERT INTO jobs.job_runs (id, job, service, trigger, queued_at)
                    VALUES (gen_random_uuid(), 'sweep', 'orders', 'manual', :now) RETURNING id"""
        run_id: UUID = connection.execute(text(insert), {"now": unit.clock()}).scalar_one()
        assert store.start_run(connection, run_id, worker="dead:1", now=unit.clock())
    return run_id


def test_a_run_that_lost_the_database_is_tried_again(orders: Unit) -> None:
    """It is not failed by an outage: its message comes again, and the same run succeeds."""
    outages = [1]

    def lose_the_database_once(run: JobRun) -> Counts:
        with run.unit.transaction() as tx:
            if outages:
                outages.pop()
                tx.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return {"done": 1}

    with working(orders, lose_the_database_once):
        tick(orders)
        handled(orders)
    (run,) = runs(orders)
    assert (run.attempt, run.outcome, run.error, run.counts) == (2, "succeeded", None, {"done": 1})
