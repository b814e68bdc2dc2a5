"""A worker of orders on the in-process bus with jobs of a test's own, and its runs."""

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
from shared.jobs.engine.tick import Tick
from shared.jobs.run_context import Counts, RunContext
from shared.service import Service, attach, make_middleware
from tests.support import eventually, rows, value

Body = Callable[[RunContext], Counts]


class OutOfShares(RuntimeError):
    """What a failing job of the tests raises."""


def a_job(run: Body, name: str = "sweep", **settings: Any) -> Job:
    """Every second, and failed for good with its first failure, unless told otherwise."""
    given = {"schedule": "1s", "retries": 0, **settings}
    return Job(name, "orders", "A job of these tests.", run, given)


@dataclass
class Working:
    """A worker with its pulse, which a test lets beat, so that no beat comes unasked."""

    context: ServiceContext
    heartbeat: Heartbeat
    worker: Worker
    broker: InProcessBroker
    ticker: Tick

    def tick(self) -> None:
        self.ticker.move_on()
        self.handled()

    def handled(self) -> None:
        """Every message that was sent has been handled: only then its row leaves the outbox."""
        waiting = "SELECT count(*) FROM orders.outbox"
        eventually(lambda: value(self.context.engine, waiting) == 0, what="the outbox drained")

    def trigger(self, job: str = "sweep", **parameters: Any) -> UUID:
        with self.context.unit_of_work() as uow:
            return control.trigger(uow, job, parameters=parameters, who="OPERATOR1")

    def cancel(self, run_id: UUID) -> str:
        with self.context.unit_of_work() as uow:
            return control.cancel(uow, run_id, who="OPERATOR1")


@contextmanager
def working(context: ServiceContext, *jobs: Job, threads: int = 4) -> Iterator[Working]:
    """A worker and a relay of the service with these jobs."""
    with context.engine.begin() as connection:
        claims.declare(connection, jobs, context.clock())
    broker = InProcessBroker(middleware=make_middleware({"orders": context}), queues=["orders.jobs"])
    heartbeat = attach(Service("orders", Actors(), Jobs("orders")), broker, context, {job.name: job for job in jobs})
    worker = Worker(broker, worker_timeout=50, worker_threads=threads)
    relay = Relay(context, broker, poll=0.1)
    worker.start()
    relay.start()
    try:
        yield Working(context, heartbeat, worker, broker, Tick(context))
    finally:
        relay.stop()
        worker.stop()


@dataclass
class Gate:
    """A body that holds its run until the test opens the gate."""

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
    """The job's runs, oldest first, parts after their parent."""
    return rows(
        context.engine, "SELECT * FROM jobs.job_runs WHERE job = :j ORDER BY queued_at, part NULLS FIRST", j=job
    )
