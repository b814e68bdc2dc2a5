"""A run's row while a worker has it: begun once for each message, finished once, whoever else wants to.

``attempt`` counts the beginnings. Whoever changes a run names the attempt that it holds, so a worker that was taken for
dead and wakes up again changes nothing. One statement begins a run and one finishes it.
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
from shared.jobs.engine.parts import advance
from shared.jobs.settings import JobSettings, read_settings


@dataclass(frozen=True)
class Begun:
    """A run that this worker holds. ``joining``: its parts have ended, and what they counted has to be joined."""

    id: UUID
    job: str
    trigger: str
    attempt: int
    failures: int
    slot: datetime | None
    parameters: Mapping[str, Any]
    part: int | None
    joining: bool
    canceled: bool
    settings: JobSettings
    put_off_until: datetime | None
    begun_at: datetime


def begin(
    connection: Connection,
    run_id: UUID,
    *,
    attempt: int | None,
    worker: str,
    held: bool,
    needs: Sequence[str],
    now: datetime,
) -> Begun | None:
    """Take the run; None when it is not to be run: done, canceled, taken by another, or of an earlier attempt.

    One that is this worker's, though not ``held``, begins again: it lost sight of it when the database was away.
    """
    given = {"id": run_id, "attempt": attempt, "worker": worker, "held": held, "needs": list(needs), "now": now}
    row = connection.execute(_BEGIN, given).first()
    if row is None:
        return None
    settings = read_settings(row.settings)
    put_off = row.put_off_until if settings.priority != "critical" and row.part is None else None
    return Begun(
        id=run_id,
        job=row.job,
        trigger=row.trigger,
        attempt=row.attempt,
        failures=row.failures,
        slot=row.scheduled_for,
        parameters=row.parameters,
        part=row.part,
        joining=row.parts is not None,
        canceled=row.cancel_requested_at is not None,
        settings=settings,
        put_off_until=put_off,
        begun_at=now,
    )


@dataclass(frozen=True)
class Ending:
    """How a run ended. ``error`` is a traceback, ``reason`` a few words."""

    outcome: str
    counts: Mapping[str, int] | None = None
    error: str | None = None
    kind: str | None = None
    reason: str | None = None
    done: int | None = None
    total: int | None = None


def finish(uow: UnitOfWork, run: Begun, ending: Ending) -> bool:
    """End the run and let follow what follows it; False when it is no longer this worker's."""
    row = uow.connection.execute(
        _FINISH,
        {
            "id": run.id,
            "attempt": run.attempt,
            "outcome": ending.outcome,
            "counts": json.dumps(dict(ending.counts or {})),
            "error": ending.error,
            "kind": ending.kind,
            "reason": ending.reason,
            "done": ending.done,
            "total": ending.total,
            "failed": ending.outcome == "failed",
            "now": uow.now,
        },
    ).first()
    if row is not None and row.part is not None:
        advance(uow, row.parent_run_id)
    elif row is not None and (row.more or row.chained):
        dispatch(uow, uow.schema)
    return row is not None


@dataclass(frozen=True)
class PutOff:
    """The run begins again later. Where ``failed``, a try was used up; waiting for something is none."""

    until: datetime
    reason: str
    failed: bool = False
    kind: str | None = None
    error: str | None = None


def put_off(uow: UnitOfWork, run: Begun, later: PutOff) -> bool:
    """Let the run wait; False when it is no longer this worker's."""
    given = {
        "id": run.id,
        "attempt": run.attempt,
        "not_before": later.until,
        "kind": later.kind,
        "error": later.error,
        "reason": later.reason,
        "failed": later.failed,
    }
    return uow.connection.execute(_PUT_OFF, given).rowcount == 1


def skip(uow: UnitOfWork, run: Begun, reason: str | None) -> bool:
    """The run is not to be: it joins the skips before it where they had the same reason."""
    given = {"id": run.id, "attempt": run.attempt, "job": run.job, "reason": reason, "now": uow.now}
    row = uow.connection.execute(_SKIP, given).one()
    if row.more:
        dispatch(uow, uow.schema)
    return bool(row.held)


_BEGIN = text("""
UPDATE jobs.job_runs r SET state = 'running', started_at = COALESCE(r.started_at, :now), heartbeat_at = :now,
  worker = :worker, attempt = r.attempt + 1, not_before = NULL
FROM jobs.jobs j
WHERE r.id = :id AND j.name = r.job AND (
  (r.state = 'queued' AND (CAST(:attempt AS integer) IS NULL OR r.attempt = :attempt))
  OR (r.state = 'running' AND r.worker = :worker AND NOT :held))
RETURNING r.job, r.trigger, r.attempt, r.failures, r.scheduled_for, r.parameters, r.part, r.parts,
  r.cancel_requested_at, CAST(j.settings AS text) AS settings,
  (SELECT max(b.next_attempt_at) FROM jobs.breakers b
   WHERE b.name = ANY(:needs) AND b.state <> 'closed' AND b.next_attempt_at > :now) AS put_off_until
""")
_FINISH = text("""
WITH ended AS (
  UPDATE jobs.job_runs SET state = 'finished', outcome = :outcome, finished_at = :now, counts = CAST(:counts AS jsonb),
    error = :error, error_kind = :kind, reason = :reason, done = COALESCE(:done, done), total = COALESCE(:total, total),
    failures = failures + CASE WHEN :failed THEN 1 ELSE 0 END
  WHERE id = :id AND state = 'running' AND attempt = :attempt
  RETURNING id, job, service, outcome, part, parent_run_id, traceparent, priority
), chained AS (
  INSERT INTO jobs.job_runs (id, job, service, trigger, parent_run_id, priority, state, queued_at, traceparent)
  SELECT gen_random_uuid(), j.name, j.service, 'chain', ended.id, ended.priority, 'waiting', :now, ended.traceparent
  FROM ended JOIN jobs.jobs j ON j.settings ->> 'after' = ended.job
  WHERE ended.part IS NULL AND CAST(j.settings ->> 'enabled' AS boolean)
    AND (ended.outcome = 'succeeded' OR (ended.outcome = 'failed' AND j.settings ->> 'after_outcome' = 'finished'))
  RETURNING service
)
SELECT ended.part, ended.parent_run_id,
  EXISTS (SELECT FROM jobs.job_runs w WHERE w.job = ended.job AND w.state = 'waiting' AND w.part IS NULL) AS more,
  EXISTS (SELECT FROM chained WHERE chained.service = ended.service) AS chained
FROM ended
""")
_PUT_OFF = text("""
UPDATE jobs.job_runs SET state = 'waiting', not_before = :not_before, error = :error, error_kind = :kind,
  reason = :reason, failures = failures + CASE WHEN :failed THEN 1 ELSE 0 END
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
  EXISTS (SELECT FROM jobs.job_runs WHERE job = :job AND state = 'waiting' AND part IS NULL) AS more
""")
