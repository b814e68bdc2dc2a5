"""Execution of a run: any failure is caught here, and only here, because it becomes the run's outcome."""

import traceback
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
from dramatiq.middleware import TimeLimitExceeded
from prometheus_client import Counter, Histogram
from pydantic import BaseModel, ValidationError

from shared.bus.actors import Actors
from shared.bus.retries import TryAgainLater
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.jobs import RunJob
from shared.jobs.declaration import Job
from shared.jobs.engine import parts, run_store
from shared.jobs.engine.failures import Kind, Permanent, judge
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.engine.run_store import Finished, Postponed, StartedRun
from shared.jobs.run_context import (
    Counts,
    Outcome,
    RunCanceled,
    RunContext,
    RunInterrupted,
    Signals,
    Trigger,
    counts_of,
)
from shared.observability.log_record import redacted
from shared.outage import first_line
from shared.storage.errors import DATABASE_ERRORS, is_transient
from shared.tracebacks import traceback_of

log = structlog.get_logger(__name__)

#: The heartbeat keeps a run's own time limit; dramatiq's is only a backstop.
ACTOR_LIMIT_MS = 7 * 86_400_000
UNKNOWN_JOB_DELAY_MS = 5_000
ERROR_CHARACTERS = 500
#: Runs that people start ignore the job's condition.
MANUAL = frozenset({Trigger.MANUAL, Trigger.RETRY, Trigger.BACKFILL})

RUNS = Counter("paperprofit_job_runs", "Runs that ended", ["job", "outcome"])
SECONDS = Histogram(
    "paperprofit_job_seconds",
    "From a run's beginning to its end",
    ["job"],
    buckets=(0.01, 0.05, 0.2, 1, 5, 20, 60, 300),
)
LATENESS = Histogram(
    "paperprofit_job_lateness_seconds",
    "From the slot of a scheduled run to its first beginning",
    ["job"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300),
)


#: The result of a run whose own cannot be stored, whatever it is.
UNSTORABLE = Finished(Outcome.FAILED, kind=Kind.PERMANENT, reason="the database refused the outcome; see the log")


class PartsFailed(Permanent):
    """Some parts of the run did not succeed."""


def declare_executor(actors: Actors, service: str, jobs: Mapping[str, Job], heartbeat: Heartbeat) -> None:
    """Add the actor that handles RunJob for the service's jobs."""
    executor = Executor(jobs, heartbeat)

    @actors.raw(RunJob, queue=f"{service}.jobs", time_limit=ACTOR_LIMIT_MS)
    def run_job(command: RunJob, context: ServiceContext) -> None:
        executor.execute(command, context)


class Executor:
    """Executes RunJob commands.

    If the database is down when a run ends, its outcome is saved after the next successful heartbeat. Until then the
    run stays held, so it is not taken for lost and its work is not done twice.
    """

    def __init__(self, jobs: Mapping[str, Job], heartbeat: Heartbeat) -> None:
        self._jobs = jobs
        self._heartbeat = heartbeat
        self._unsaved: deque[tuple[StartedRun, Finished | Postponed | None, ServiceContext]] = deque()
        heartbeat.after_beat = self._save_unsaved

    def execute(self, command: RunJob, context: ServiceContext) -> None:
        """Run the job once, unless the run is done, canceled or in progress elsewhere.

        Raises TryAgainLater if this replica does not know the job or cannot read its settings: a newer one declared
        it, and can run it. The run of a retired job waits until a replica declares the job, and that of a removed one
        has ended.
        """
        job = self._jobs.get(command.job)
        if job is None:
            with context.engine.begin() as connection:
                if run_store.hold_back(connection, command.run_id):
                    return
            raise TryAgainLater(f"this replica has no job {command.job}", pause_ms=UNKNOWN_JOB_DELAY_MS)
        with self._heartbeat.exclusively(command.run_id):
            try:
                with context.engine.begin() as connection:
                    run = run_store.start(
                        connection,
                        command.run_id,
                        attempt=command.attempt,
                        worker=self._heartbeat.worker,
                        held=self._heartbeat.holds(command.run_id),
                        needs=job.needs,
                        now=context.clock(),
                    )
            except ValidationError:
                with context.engine.begin() as connection:
                    run_store.give_back(connection, command.run_id, worker=self._heartbeat.worker)
                reason = f"this replica cannot read the settings of {command.job}"
                raise TryAgainLater(reason, pause_ms=UNKNOWN_JOB_DELAY_MS) from None
            if run is None:
                return
            signals = self._heartbeat.hold(run.id, run.attempt, run.settings.seconds("time_limit"))
        with structlog.contextvars.bound_contextvars(service=job.service, job=job.name, run_id=str(run.id)):
            self._save(run, self._attempt(job, run, context, signals), context)

    def _attempt(
        self, job: Job, run: StartedRun, context: ServiceContext, signals: Signals
    ) -> Finished | Postponed | None:
        """Run the job, and turn an error into a result. The result is None if the run was split into parts."""
        try:
            with self._heartbeat.time_limited(run.id, run.attempt):
                return _run(job, run, context, signals)
        except RunCanceled:
            return Finished(Outcome.CANCELED, reason="canceled while it ran", done=signals.done, total=signals.total)
        except BaseException as error:  # noqa: BLE001 - it becomes the run's outcome, also sys.exit() of a body
            if isinstance(error, RunInterrupted) and signals.interrupted.is_set():
                return Postponed(context.clock(), "its worker was stopped")
            if isinstance(error, TimeLimitExceeded) and signals.canceled.is_set():
                return Finished(Outcome.CANCELED, reason="canceled, and ended by its time limit", done=signals.done)
            verdict = judge(error, failures=run.failures + 1, settings=run.settings, now=context.clock())
            trace = redacted(traceback_of(error))
            summary = first_line("".join(traceback.format_exception_only(error)).strip())
            reason = str(redacted(summary[:ERROR_CHARACTERS]))
            if verdict.retry_at is not None:
                return Postponed(verdict.retry_at, reason, verdict.uses_retry, verdict.kind, trace)
            return Finished(Outcome.FAILED, None, trace, verdict.kind, reason, signals.done, signals.total)

    def _save(self, run: StartedRun, result: Finished | Postponed | None, context: ServiceContext) -> None:
        """Save the result and release the run, or do both later if the database is down."""
        try:
            if result is not None:
                with context.unit_of_work() as uow:
                    if isinstance(result, Postponed):
                        saved = run_store.postpone(uow, run, result)
                    elif result.outcome is Outcome.SKIPPED:
                        saved = run_store.skip(uow, run, result.reason)
                    else:
                        saved = run_store.finish(uow, run, result)
                if saved:
                    _report(run, result, uow.now)
                else:
                    log.warning("another worker has the run now; its outcome is not saved", run_id=str(run.id))
        except (*DATABASE_ERRORS, UnicodeError) as error:
            if is_transient(error):
                self._unsaved.append((run, result, context))
                log.warning("a run's outcome is saved when the database is back", run_id=str(run.id))
                return
            if result != UNSTORABLE:
                log.warning("the database refuses a run's outcome", run_id=str(run.id), error=first_line(error))
                self._save(run, UNSTORABLE, context)
                return
            self._heartbeat.release(run.id, run.attempt)
            raise
        self._heartbeat.release(run.id, run.attempt)

    def _save_unsaved(self) -> None:
        for _ in range(len(self._unsaved)):
            self._save(*self._unsaved.popleft())


def _run(job: Job, run: StartedRun, context: ServiceContext, signals: Signals) -> Finished | Postponed | None:
    if run.canceled:
        return Finished(Outcome.CANCELED, reason="canceled before it began")
    if run.postponed_until is not None:
        return Postponed(run.postponed_until, f"waits for {' or '.join(job.needs)}")
    log.info("run started", attempt=run.attempt, part=run.part)
    parameters = _read_parameters(job.parameters, run.parameters)
    market = run.settings.market
    job_run = RunContext(run.id, context, context.clock(), parameters, run.slot, run.attempt, run.part, market, signals)
    if run.joining:
        return Finished(Outcome.SUCCEEDED, counts_of(_join_parts(job, job_run)))
    if run.part is None and run.trigger not in MANUAL and job.when and (reason := job.when(job_run)):
        return Finished(Outcome.SKIPPED, reason=str(reason)[:ERROR_CHARACTERS])
    if job.parts is None or run.part is not None:
        return Finished(Outcome.SUCCEEDED, counts_of(job.run(job_run)), done=signals.done, total=signals.total)
    if run.only_part is None:
        parameters_of_parts = parts.storable(run.parameters, job.parts(job_run))
        with context.unit_of_work() as uow:
            parts.split(uow, run.id, run.attempt, parameters_of_parts)
    else:
        with context.unit_of_work() as uow:
            parts.split_again(uow, run.id, run.attempt)
    return None


def _read_parameters(model: type[BaseModel] | None, given: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return given if model is None else model.model_validate(given).model_dump()
    except ValidationError as error:
        raise Permanent(f"parameters: {error}") from error


def _join_parts(job: Job, run: RunContext) -> Counts:
    with run.context.engine.connect() as connection:
        results = parts.part_results(connection, run.id)
    wrong = [f"{row.part} {row.outcome}" for row in results if row.outcome != Outcome.SUCCEEDED]
    if wrong:
        raise PartsFailed(f"{len(wrong)} of {len(results)} parts did not succeed: {', '.join(wrong[:10])}")
    counts = [row.counts for row in results]
    if job.join:
        return job.join(run, counts)
    return {name: sum(each.get(name, 0) for each in counts) for part in counts for name in part}


def _report(run: StartedRun, result: Finished | Postponed, now: datetime) -> None:
    """Log the result, and count a finished run for Prometheus."""
    seconds = round((now - run.started_at).total_seconds(), 6)
    if isinstance(result, Postponed):
        write = log.warning if result.uses_retry else log.info
        write("run postponed", reason=result.reason, until=result.until.isoformat(), seconds=seconds)
        return
    RUNS.labels(run.job, result.outcome).inc()
    SECONDS.labels(run.job).observe(seconds)
    if run.slot is not None and run.trigger is Trigger.SCHEDULE and run.attempt == 1:
        LATENESS.labels(run.job).observe(max(0.0, (run.started_at - run.slot).total_seconds()))
    write = log.error if result.outcome is Outcome.FAILED else log.info
    counts = dict(result.counts or {})
    write("run finished", outcome=result.outcome, reason=result.reason, seconds=seconds, counts=counts)
