"""A worker of orders on the in-process bus that runs a test's own jobs, and the runs of a job."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from dramatiq import Worker

from shared.bus.actors import Actors
from shared.bus.inprocess import InProcessBroker
from shared.bus.relay import Relay
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.admin import control
from shared.jobs.declaration import Job, Jobs
from shared.jobs.engine import claims
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.engine.tick import WATCHED_TICKS, Tick
from shared.jobs.run_context import Counts, RunContext
from shared.markets import PublishedCalendar, load_market
from shared.service import Service, attach, make_middleware
from tests.support import eventually, rows, value

Body = Callable[[RunContext], Counts]


class OutOfShares(RuntimeError):
    """The error of a test's failing job."""


def a_job(run: Body, name: str = "sweep", **settings: Any) -> Job:
    """Make a job that runs every second and is not retried, unless ``settings`` say otherwise."""
    given = {"schedule": "1s", "retries": 0, **settings}
    return Job(name, "orders", "A job of these tests.", run, given)


@dataclass
class JobWorker:
    """A worker whose heartbeat beats only when the test says so."""

    context: ServiceContext
    heartbeat: Heartbeat
    dramatiq: Worker
    broker: InProcessBroker
    ticker: Tick

    def tick(self) -> None:
        """Run one tick of the scheduler, and wait until its messages are handled."""
        self.ticker.run()
        self.handled()

    def handled(self) -> None:
        """Wait until every message is handled: its row stays in the outbox until then."""
        waiting = "SELECT count(*) FROM orders.outbox"
        eventually(lambda: value(self.context.engine, waiting) == 0, what="the outbox drained")

    def trigger(self, job: str = "sweep", **parameters: Any) -> UUID:
        """Queue a run as an operator does."""
        with self.context.unit_of_work() as uow:
            return control.trigger(uow, job, parameters=parameters, who="OPERATOR1")

    def cancel(self, run_id: UUID) -> str:
        """Cancel a run as an operator does."""
        with self.context.unit_of_work() as uow:
            return control.cancel(uow, run_id, who="OPERATOR1")


@contextmanager
def job_worker(context: ServiceContext, *jobs: Job, threads: int = 4) -> Iterator[JobWorker]:
    """Run a worker and a relay of the service with these jobs."""
    with context.engine.begin() as connection:
        claims.declare(connection, jobs, context.clock(), load_market=load_market)
    broker = InProcessBroker(middleware=make_middleware({"orders": context}), queues=["orders.jobs"])
    heartbeat = attach(Service("orders", Actors(), Jobs("orders")), broker, context, {job.name: job for job in jobs})
    worker = Worker(broker, worker_timeout=50, worker_threads=threads)
    relay = Relay(context, broker, poll=0.1)
    worker.start()
    relay.start()
    try:
        ticker = Tick(context, PublishedCalendar(context.engine, context.clock))
        yield JobWorker(context, heartbeat, worker, broker, ticker)
    finally:
        relay.stop()
        worker.stop()


@dataclass
class Gate:
    """A job's body that waits until the test opens the gate."""

    entered: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    runs: list[RunContext] = field(default_factory=list)

    def __call__(self, run: RunContext) -> Counts:
        self.runs.append(run)
        self.entered.set()
        while not self.opened.wait(0.01):
            run.check()
        return {}


def runs(context: ServiceContext, job: str = "sweep") -> list[Any]:
    """Read the job's runs, oldest first, parts after their parent."""
    return rows(
        context.engine, "SELECT * FROM jobs.job_runs WHERE job = :j ORDER BY queued_at, part NULLS FIRST", j=job
    )


def silent(context: ServiceContext, seconds: float = 60) -> None:
    """Have the last heartbeat of each run be so many seconds ago, by PostgreSQL's clock."""
    update = "UPDATE jobs.job_runs SET heartbeat_at = now() - make_interval(secs => %(seconds)s)"
    with context.engine.begin() as connection:
        connection.exec_driver_sql(update, {"seconds": seconds})


def watched(worker: JobWorker) -> None:
    """Have the scheduler tick often enough to judge others."""
    for _ in range(WATCHED_TICKS):
        worker.ticker.run()


def started_by_a_worker_that_died(context: ServiceContext) -> UUID:
    """Add a run in progress of a worker that sends no more heartbeats."""
    with context.engine.begin() as connection:
        insert = """INSERT INTO jobs.job_runs (id, job, service, trigger, state, attempt, queued_at, started_at, worker,
                                               heartbeat_at)
                    VALUES (gen_random_uuid(), 'sweep', 'orders', 'manual', 'running', 1, %(now)s, %(now)s,
                            'dead:1', now())
                    RETURNING id"""
        run_id: UUID = connection.exec_driver_sql(insert, {"now": context.clock()}).scalar_one()
        return run_id
