"""Running a job: the one place where any failure is caught, because it becomes the run's outcome."""

import os
import socket
import traceback

import structlog

from shared.bus.actors import Actors
from shared.bus.transaction import Unit
from shared.contracts.jobs import RunJob
from shared.jobs import store
from shared.jobs.declaration import Counts, Job, JobRun
from shared.storage.errors import is_transient

log = structlog.get_logger(__name__)

WORKER = f"{socket.gethostname()}:{os.getpid()}"


def declare_runner(actors: Actors, service: str, jobs: dict[str, Job]) -> None:
    """Add the actor that obeys RunJob for the service's jobs."""

    @actors.raw(RunJob, queue=f"{service}.jobs")
    def run_job(command: RunJob, unit: Unit) -> None:
        with unit.engine.begin() as connection:
            started = store.start_run(connection, command.run_id, worker=WORKER, now=unit.clock())
        if started:
            _run(jobs[command.job], command, unit)


def _run(job: Job, command: RunJob, unit: Unit) -> None:
    logger = log.bind(job=job.name, run_id=str(command.run_id))
    logger.info("job started")
    counts, outcome, error = _outcome(job, command, unit)
    with unit.engine.begin() as connection:
        store.finish_run(connection, command.run_id, outcome=outcome, error=error, counts=counts, now=unit.clock())
    if error:
        logger.error("job failed", error=error.splitlines()[-1])
    else:
        logger.info("job finished", **counts)


def _outcome(job: Job, command: RunJob, unit: Unit) -> tuple[Counts, str, str | None]:
    run = JobRun(command.run_id, unit, unit.clock(), command.parameters)
    try:
        return job.run(run), "succeeded", None
    except Exception as error:
        if is_transient(error):
            raise  # the message is tried again when the database is back
        return {}, "failed", "".join(traceback.format_exception(error))
