"""Running a job: the one place where any failure is caught, because it becomes the run's outcome."""

import traceback
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psycopg
import structlog
from dramatiq.middleware import TimeLimitExceeded
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from shared.bus.actors import Actors
from shared.bus.retries import TryAgainLater
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.jobs import RunJob
from shared.jobs.declaration import Job
from shared.jobs.engine import parts, run_store
from shared.jobs.engine.failures import Permanent, judge
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.engine.metrics import observe
from shared.jobs.engine.run_store import Begun, Ending, PutOff
from shared.jobs.run_context import Counts, RunCanceled, RunContext, RunInterrupted, Signals
from shared.observability.log_record import redacted
from shared.outage import first_line
from shared.storage.errors import is_transient

log = structlog.get_logger(__name__)

#: dramatiq's own limit stands behind the run's, which the pulse keeps.
ACTOR_LIMIT_MS = 7 * 86_400_000
UNKNOWN_PAUSE_MS = 5_000
#: What people ask for runs whatever its condition says.
BY_HAND = frozenset({"manual", "retry", "backfill"})


class PartsFailed(Permanent):
    """Some parts of the run did not succeed."""


def declare_runner(actors: Actors, service: str, jobs: Mapping[str, Job], heartbeat: Heartbeat) -> None:
    """Add the actor that obeys RunJob for the service's jobs."""
    runner = Runner(jobs, heartbeat)

    @actors.raw(RunJob, queue=f"{service}.jobs", time_limit=ACTOR_LIMIT_MS)
    def run_job(command: RunJob, context: ServiceContext) -> None:
        runner.obey(command, context)


class Runner:
    """Obeys RunJob. How a run went that cannot be written, since the database is away, is written after a later beat.

    Until then the run is held, so that nobody takes it for lost: work that is done is not done again.
    """

    def __init__(self, jobs: Mapping[str, Job], heartbeat: Heartbeat) -> None:
        self._jobs = jobs
        self._heartbeat = heartbeat
        self._unwritten: deque[tuple[Begun, Ending | PutOff | None, ServiceContext]] = deque()
        heartbeat.after_beat = self._write_waiting

    def obey(self, command: RunJob, context: ServiceContext) -> None:
        job = self._jobs.get(command.job)
        if job is None:  # declared by a newer replica, which can run it
            raise TryAgainLater(f"this replica has no job {command.job}", pause_ms=UNKNOWN_PAUSE_MS)
        with self._heartbeat.taking(command.run_id):
            begun = self._begin(job, command, context)
            if begun is None:
                return
            signals = self._heartbeat.hold(begun.id, begun.attempt, begun.settings.seconds("time_limit"))
        with structlog.contextvars.bound_contextvars(service=job.service, job=job.name, run_id=str(begun.id)):
            result = self._outcome(job, begun, context, signals)
            self._settle(begun, result, context)

    def _begin(self, job: Job, command: RunJob, context: ServiceContext) -> Begun | None:
        with context.engine.begin() as connection:
            return run_store.begin(
                connection,
                command.run_id,
                attempt=command.attempt,
                worker=self._heartbeat.worker,
                held=self._heartbeat.holds(command.run_id),
                needs=job.needs,
                now=context.clock(),
            )

    def _outcome(self, job: Job, begun: Begun, context: ServiceContext, signals: Signals) -> Ending | PutOff | None:
        """How it went; None where its parts have only begun."""
        try:
            with self._heartbeat.limiting(begun.id, begun.attempt):
                return _refused(job, begun) or _work(job, begun, context, signals)
        except RunCanceled:
            return Ending("canceled", reason="canceled while it ran", done=signals.done, total=signals.total)
        except RunInterrupted:
            return PutOff(context.clock(), "its worker was stopped")
        except (Exception, TimeLimitExceeded) as error:  # noqa: BLE001 - it becomes the run's outcome
            return _failure(error, begun, context.clock(), signals)

    def _settle(self, begun: Begun, result: Ending | PutOff | None, context: ServiceContext) -> None:
        """Write how it went, and let go of the run; both later, where the database is away."""
        try:
            if result is not None:
                _write(begun, result, context)
        except (SQLAlchemyError, psycopg.Error) as error:
            if is_transient(error):
                self._unwritten.append((begun, result, context))
                log.warning("how a run went is written when the database is back", run_id=str(begun.id))
                return
            self._heartbeat.let_go(begun.id, begun.attempt)
            raise
        self._heartbeat.let_go(begun.id, begun.attempt)

    def _write_waiting(self) -> None:
        for _ in range(len(self._unwritten)):
            self._settle(*self._unwritten.popleft())


def _write(begun: Begun, result: Ending | PutOff, context: ServiceContext) -> None:
    with context.unit_of_work() as uow:
        held = _written(uow, begun, result)
    if held:
        _tell(begun, result, uow.now)
    else:
        log.warning("the run was taken from this worker; how it went is not written", run_id=str(begun.id))


def _refused(job: Job, begun: Begun) -> Ending | PutOff | None:
    """Why the run is not to begin now."""
    if begun.canceled:
        return Ending("canceled", reason="canceled before it began")
    if begun.put_off_until is not None:
        return PutOff(begun.put_off_until, f"waits for {' or '.join(job.needs)}")
    return None


def _work(job: Job, begun: Begun, context: ServiceContext, signals: Signals) -> Ending | None:
    log.info("run started", attempt=begun.attempt, part=begun.part)
    given = _parameters(job.parameters, begun.parameters)
    market = begun.settings.market
    run = RunContext(begun.id, context, context.clock(), given, begun.slot, begun.attempt, begun.part, market, signals)
    if begun.joining:
        return Ending("succeeded", _joined(job, run))
    if begun.part is None and begun.trigger not in BY_HAND and job.when and (reason := job.when(run)):
        return Ending("skipped", reason=reason)
    if job.parts is None or begun.part is not None:
        return Ending("succeeded", job.run(run), done=signals.done, total=signals.total)
    each = job.parts(run)
    with context.unit_of_work() as uow:
        parts.split(uow, begun.id, begun.attempt, begun.parameters, each)
    return None


def _failure(error: BaseException, begun: Begun, now: datetime, signals: Signals) -> Ending | PutOff:
    verdict = judge(error, failures=begun.failures + 1, settings=begun.settings, now=now)
    text, reason = redacted("".join(traceback.format_exception(error))), _told(error)
    if verdict.again_at is not None:
        return PutOff(verdict.again_at, reason, verdict.counts, verdict.kind, text)
    return Ending("failed", None, text, verdict.kind, reason, signals.done, signals.total)


def _written(uow: UnitOfWork, begun: Begun, result: Ending | PutOff) -> bool:
    if isinstance(result, PutOff):
        return run_store.put_off(uow, begun, result)
    if result.outcome == "skipped":
        return run_store.skip(uow, begun, result.reason)
    return run_store.finish(uow, begun, result)


def _tell(begun: Begun, result: Ending | PutOff, now: datetime) -> None:
    seconds = round((now - begun.begun_at).total_seconds(), 6)
    if isinstance(result, PutOff):
        report = log.warning if result.failed else log.info
        report("run put off", reason=result.reason, until=result.until.isoformat(), seconds=seconds)
        return
    observe(begun, result.outcome, seconds)
    report = log.error if result.outcome == "failed" else log.info
    report("run finished", outcome=result.outcome, reason=result.reason, seconds=seconds, **dict(result.counts or {}))


def _parameters(model: type[BaseModel] | None, given: Mapping[str, Any]) -> Mapping[str, Any]:
    if model is None:
        return given
    try:
        return model.model_validate(given).model_dump()
    except ValidationError as error:
        raise Permanent(f"parameters: {error}") from error


def _joined(job: Job, run: RunContext) -> Counts:
    with run.context.engine.connect() as connection:
        results = parts.part_results(connection, run.id)
    wrong = [f"{row.part} {row.outcome}" for row in results if row.outcome != "succeeded"]
    if wrong:
        raise PartsFailed(f"{len(wrong)} of {len(results)} parts did not succeed: {', '.join(wrong[:10])}")
    counts = [row.counts for row in results]
    return job.join(run, counts) if job.join else _summed(counts)


def _summed(results: list[Counts]) -> Counts:
    return {name: sum(counts.get(name, 0) for counts in results) for counts in results for name in counts}


def _told(error: BaseException) -> str:
    """The error in one line, without secrets and what no row can hold."""
    return str(redacted(first_line("".join(traceback.format_exception_only(error)).strip())[:500]))
