"""A run's row while a worker holds it: started once per message, and finished once.

``attempt`` counts the starts. Every change names the attempt that its worker holds, so a worker that was taken for dead
and wakes up again changes nothing. One statement starts a run and one finishes it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.bus.unit_of_work import UnitOfWork
from shared.jobs.engine.dispatch import dispatch
from shared.jobs.engine.followers import FOLLOWERS, ended_columns
from shared.jobs.engine.parts import advance
from shared.jobs.run_context import Outcome, Trigger
from shared.jobs.schedule.planning import CLOCK_TOLERANCE
from shared.jobs.settings import JobSettings, read_settings
from shared.storage.driver import COMMIT, call, together


@dataclass(frozen=True)
class StartedRun:
    """A run that this worker holds. If ``joining``, its parts have ended and their counts are to be joined.

    A run with ``only_part`` runs that part of an earlier run again, and takes the results of the other parts from it.
    """

    id: UUID
    job: str
    trigger: Trigger
    attempt: int
    failures: int
    slot: datetime | None
    parameters: Mapping[str, Any]
    part: int | None
    only_part: int | None
    joining: bool
    canceled: bool
    settings: JobSettings
    postponed_until: datetime | None
    started_at: datetime


def start(
    connection: Connection,
    run_id: UUID,
    *,
    attempt: int | None,
    worker: str,
    held: bool,
    needs: Sequence[str],
    now: datetime,
) -> StartedRun | None:
    """Start the run and commit, in one round trip.

    None if it is done, canceled or held by another worker, or if the message is of an earlier attempt. Raises
    ValidationError after the commit if the settings cannot be read.
    A run of this worker that is not ``held`` starts again: the worker lost it while the database was down.
    """
    given = {"id": run_id, "attempt": attempt, "worker": worker, "held": held, "needs": list(needs), "now": now}
    started, _ = together(connection, call(_START, {**given, "tolerance": CLOCK_TOLERANCE}), COMMIT)
    if not started:
        return None
    row = started[0]
    settings = read_settings(row.settings)
    return StartedRun(
        id=run_id,
        job=row.job,
        trigger=Trigger(row.trigger),
        attempt=row.attempt,
        failures=row.failures,
        slot=row.scheduled_for,
        parameters=row.parameters,
        part=row.part,
        only_part=row.only_part,
        joining=row.parts is not None,
        canceled=row.cancel_requested_at is not None,
        settings=settings,
        postponed_until=row.postponed_until if settings.priority != "critical" and row.part is None else None,
        started_at=now,
    )


def give_back(connection: Connection, run_id: UUID, *, worker: str) -> None:
    """Queue a run again that this worker has just started and cannot run. It uses no attempt."""
    connection.execute(_GIVE_BACK, {"id": run_id, "worker": worker})


def hold_back(connection: Connection, run_id: UUID) -> bool:
    """Let the run wait if its job is retired. True if its message is not needed: it is not queued, or no longer."""
    held = connection.execute(_HOLD_BACK, {"id": run_id}).rowcount
    return bool(held) or not connection.execute(_IS_QUEUED, {"id": run_id}).scalar_one()


@dataclass(frozen=True)
class Finished:
    """The result of a run that ended. ``error`` is a traceback, ``reason`` a few words."""

    outcome: Outcome
    counts: Mapping[str, int] | None = None
    error: str | None = None
    kind: str | None = None
    reason: str | None = None
    done: int | None = None
    total: int | None = None


def finish(uow: UnitOfWork, run: StartedRun, result: Finished) -> bool:
    """Finish the run, and start the runs that follow it. False if this worker no longer holds it."""
    given = {
        "id": run.id,
        "attempt": run.attempt,
        "outcome": result.outcome,
        "counts": json.dumps(dict(result.counts or {})),
        "error": result.error,
        "kind": result.kind,
        "reason": result.reason,
        "done": result.done,
        "total": result.total,
        "failed": result.outcome is Outcome.FAILED,
        "now": uow.now,
    }
    if result.outcome is Outcome.SUCCEEDED:
        (finished,) = uow.run(call(_FINISH, given))
        row = finished[0] if finished else None
    else:  # its texts may be such as PostgreSQL refuses, which psycopg's cursors tell
        row = uow.connection.execute(_FINISH, given).first()
    if row is not None and row.part is not None:
        advance(uow, row.parent_run_id)
    elif row is not None and (row.more or row.chained):
        dispatch(uow, uow.schema)
    return row is not None


@dataclass(frozen=True)
class Postponed:
    """The run starts again later. A failed try uses up a retry, but waiting for a dependency does not."""

    until: datetime
    reason: str
    uses_retry: bool = False
    kind: str | None = None
    error: str | None = None


def postpone(uow: UnitOfWork, run: StartedRun, result: Postponed) -> bool:
    """Put the run back to wait. False if this worker no longer holds it."""
    given = {
        "id": run.id,
        "attempt": run.attempt,
        "not_before": result.until,
        "kind": result.kind,
        "error": result.error,
        "reason": result.reason,
        "failed": result.uses_retry,
        "now": uow.now,
    }
    return uow.connection.execute(_POSTPONE, given).rowcount == 1


def skip(uow: UnitOfWork, run: StartedRun, reason: str | None) -> bool:
    """Skip the run: it joins the row of the skips before it if they have the same reason.

    False if this worker no longer holds it.
    """
    given = {"id": run.id, "attempt": run.attempt, "job": run.job, "reason": reason, "now": uow.now}
    row = uow.connection.execute(_SKIP, given).one()
    if row.more:
        dispatch(uow, uow.schema)
    return bool(row.held)


_GIVE_BACK = text("""
UPDATE jobs.job_runs SET state = 'queued', attempt = attempt - 1, worker = NULL, heartbeat_at = NULL,
  started_at = CASE WHEN attempt > 1 THEN started_at END
WHERE id = :id AND state = 'running' AND worker = :worker
""")
#: It is sent when a replica declares the job again: see shared.jobs.engine.dispatch.
_HOLD_BACK = text("""
UPDATE jobs.job_runs r SET state = 'waiting', reason = 'its job is retired: no replica declares it'
FROM jobs.jobs j
WHERE r.id = :id AND r.state = 'queued' AND j.name = r.job AND j.retired_at IS NOT NULL
""")
_IS_QUEUED = text("SELECT EXISTS (SELECT FROM jobs.job_runs WHERE id = :id AND state = 'queued') AS queued")
_START = text("""
UPDATE jobs.job_runs r SET state = 'running', started_at = COALESCE(r.started_at, :now), heartbeat_at = now(),
  worker = :worker, attempt = r.attempt + 1, not_before = NULL
FROM jobs.jobs j
WHERE r.id = :id AND j.name = r.job AND (
  (r.state = 'queued' AND (CAST(:attempt AS integer) IS NULL OR r.attempt = :attempt))
  OR (r.state = 'running' AND r.worker = :worker AND NOT :held))
RETURNING r.job, r.trigger, r.attempt, r.failures, r.scheduled_for, r.parameters, r.part, r.only_part, r.parts,
  r.cancel_requested_at, CAST(j.settings AS text) AS settings,
  (SELECT max(b.next_attempt_at) FROM jobs.breakers b
   WHERE b.name = ANY(:needs) AND b.state <> 'closed' AND b.next_attempt_at > :now
     -- a breaker from the future was opened before the clock went back
     AND b.updated_at <= CAST(:now AS timestamptz) + CAST(:tolerance AS interval)) AS postponed_until
""")
_FINISH = text(f"""
WITH ended AS (
  UPDATE jobs.job_runs r SET state = 'finished', outcome = :outcome, finished_at = :now, error = :error,
    counts = CAST(:counts AS jsonb), error_kind = :kind, reason = :reason,
    done = COALESCE(:done, done), total = COALESCE(:total, total),
    failures = failures + CASE WHEN :failed THEN 1 ELSE 0 END
  WHERE id = :id AND state = 'running' AND attempt = :attempt
  RETURNING r.parent_run_id, {ended_columns("r")}
), {FOLLOWERS}
SELECT ended.part, ended.parent_run_id,
  EXISTS (SELECT FROM jobs.job_runs w WHERE w.job = ended.job AND NOT w.active AND w.part IS NULL) AS more,
  EXISTS (SELECT FROM following WHERE following.service = ended.service) AS chained
FROM ended
""")
_POSTPONE = text("""
UPDATE jobs.job_runs SET state = 'waiting', not_before = :not_before, sent_at = :now, error = :error,
  error_kind = :kind, reason = :reason, failures = failures + CASE WHEN :failed THEN 1 ELSE 0 END
WHERE id = :id AND state = 'running' AND attempt = :attempt
""")
_SKIP = text("""
WITH skipped AS (
  SELECT id, scheduled_for, queued_at FROM jobs.job_runs WHERE id = :id AND state = 'running' AND attempt = :attempt
), grown AS (
  UPDATE jobs.job_runs r SET last_slot = COALESCE(skipped.scheduled_for, :now), slots = r.slots + 1, finished_at = :now
  FROM skipped, LATERAL (
    SELECT latest.id FROM jobs.job_runs latest
    WHERE latest.job = :job AND latest.part IS NULL AND latest.queued_at <= skipped.queued_at AND latest.id <> :id
    ORDER BY latest.queued_at DESC, latest.id DESC LIMIT 1
  ) AS latest
  WHERE r.id = latest.id AND r.outcome = 'skipped' AND r.reason = :reason
  RETURNING r.id
), removed AS (
  DELETE FROM jobs.job_runs WHERE id IN (SELECT id FROM skipped) AND EXISTS (SELECT FROM grown)
), ended AS (
  UPDATE jobs.job_runs r SET state = 'finished', outcome = 'skipped', reason = :reason, finished_at = :now,
    last_slot = r.scheduled_for
  FROM skipped WHERE r.id = skipped.id AND NOT EXISTS (SELECT FROM grown)
)
SELECT EXISTS (SELECT FROM skipped) AS held,
  EXISTS (SELECT FROM jobs.job_runs WHERE job = :job AND NOT active AND part IS NULL) AS more
""")
