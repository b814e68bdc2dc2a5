"""Helpers of the tests of slots: jobs that are declared and ticked, and the rows that follow."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.declaration import Job
from shared.jobs.engine import claims
from shared.jobs.engine.tick import Tick
from shared.markets import PublishedCalendar, load_market
from tests.component.watching import context_of, outbox
from tests.support import rows

SECOND = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def a_job(name: str = "sweep", **settings: Any) -> Job:
    """Make a job that runs every second, unless ``settings`` say otherwise."""
    return Job(name, "orders", "A job that only these tests have.", lambda _: {}, {"schedule": "1s", **settings})


JOB = a_job()


def slot_at(moment: datetime, interval: timedelta) -> datetime:
    return EPOCH + (moment - EPOCH) // interval * interval


def declare(context: ServiceContext, *jobs: Job) -> None:
    with context.engine.begin() as connection:
        claims.declare(connection, jobs, context.clock(), load_market=load_market)


def tick(context: ServiceContext) -> None:
    """Run one tick of a scheduler that has just started."""
    ticker(context).run()


def ticker(context: ServiceContext) -> Tick:
    return Tick(context, PublishedCalendar(context.engine, context.clock))


def finish_runs(context: ServiceContext) -> None:
    """Finish every run that was sent, as workers would, since a run in progress makes the next one wait."""
    with context.engine.begin() as connection:
        connection.exec_driver_sql(
            """UPDATE jobs.job_runs SET state = 'finished', outcome = 'succeeded', finished_at = queued_at
               WHERE state NOT IN ('waiting', 'finished')"""
        )


def claimed(context: ServiceContext, job: str = JOB.name) -> list[datetime]:
    """Read the slots of the job's runs, in order."""
    found = rows(
        context.engine,
        "SELECT scheduled_for FROM jobs.job_runs WHERE job = :j AND outcome IS DISTINCT FROM 'skipped' ORDER BY 1",
        j=job,
    )
    return [row.scheduled_for for row in found]


def skipped(context: ServiceContext, job: str = JOB.name) -> list[tuple[datetime, datetime, int, str]]:
    """Read the job's skips in order: first slot, last slot, number and reason."""
    found = rows(
        context.engine,
        """SELECT scheduled_for, last_slot, slots, reason FROM jobs.job_runs
           WHERE job = :j AND outcome = 'skipped' ORDER BY scheduled_for""",
        j=job,
    )
    return [tuple(row) for row in found]


def run_ids(context: ServiceContext) -> list[UUID]:
    return [row.id for row in rows(context.engine, "SELECT id FROM jobs.job_runs WHERE state <> 'waiting'")]


def sent_runs(context: ServiceContext) -> Counter[UUID]:
    return Counter(UUID(sent.body["run_id"]) for sent in outbox(context))


def add_session(urls: dict[str, str], opens: datetime, closes: datetime) -> None:
    with context_of("marketdata", urls) as context, context.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO marketdata.market_sessions (market, day, open_at, close_at) VALUES ('XNYS', %s, %s, %s)",
            (opens.date(), opens, closes),
        )
