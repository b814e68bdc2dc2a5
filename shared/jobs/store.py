"""The job engine's rows. Statements are constant in number, however many jobs there are."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from shared.bus.transaction import Transaction
from shared.contracts.jobs import RunJob
from shared.contracts.priority import Priority
from shared.jobs.declaration import Job
from shared.jobs.schedule import LiveJob

#: An unfinished run keeps the next slot of its job waiting for this long; then it is taken for lost.
LOST_AFTER = timedelta(minutes=10)


class UnknownJob(LookupError):
    """No service has declared a job of this name."""


@dataclass(frozen=True)
class Slot:
    job: str
    service: str
    scheduled_for: datetime


def declare(connection: Connection, jobs: Iterable[Job], now: datetime) -> None:
    """Write the declarations; what operators have set stays."""
    for job in jobs:
        connection.execute(
            _DECLARE,
            {
                "name": job.name,
                "service": job.service,
                "description": job.description,
                "market": job.market,
                "enabled": job.enabled,
                "seconds": int(job.interval.total_seconds()),
                "market_hours_only": job.market_hours_only,
                "now": now,
            },
        )


def live_jobs(connection: Connection, service: str, now: datetime) -> list[LiveJob]:
    """The service's jobs with their live settings, in one statement."""
    rows = connection.execute(_LIVE, {"service": service, "now": now, "lost": now - LOST_AFTER})
    return [
        LiveJob(
            name=row.name,
            service=service,
            enabled=row.enabled,
            interval=timedelta(seconds=row.interval_seconds),
            market_hours_only=row.market_hours_only,
            market_open=row.market_open,
            last_slot=row.last_slot,
            unfinished=row.unfinished,
        )
        for row in rows
    ]


def claim(tx: Transaction, slots: list[Slot]) -> list[UUID]:
    """Claim the slots that nobody has claimed yet, and send the command that runs each."""
    ids = [uuid4() for _ in slots]
    rows = tx.connection.execute(
        _CLAIM,
        {
            "ids": ids,
            "jobs": [slot.job for slot in slots],
            "services": [slot.service for slot in slots],
            "slots": [slot.scheduled_for for slot in slots],
            "now": tx.now,
        },
    ).all()
    for row in rows:
        tx.publish(RunJob(to=row.service, run_id=row.id, job=row.job), message_id=row.id)
    return [row.id for row in rows]


def trigger(tx: Transaction, job: str, *, parameters: Mapping[str, Any], who: str) -> UUID:
    """Queue a run by hand: also of a disabled job, and in a closed market."""
    run_id = uuid4()
    row = tx.connection.execute(
        _TRIGGER, {"id": run_id, "job": job, "parameters": json.dumps(dict(parameters)), "now": tx.now}
    ).first()
    if row is None:
        raise UnknownJob(job)
    command = RunJob(
        to=row.service, run_id=run_id, job=job, parameters=dict(parameters), priority=Priority.HIGH
    )  # somebody waits for it
    tx.publish(command, message_id=run_id)
    _note_action(tx, who, "trigger", job, None, {"run_id": str(run_id)})
    return run_id


def set_enabled(tx: Transaction, job: str, *, enabled: bool, who: str) -> None:
    """Enable or disable a job from now on; the scheduler follows within two seconds."""
    row = tx.connection.execute(_BEFORE_TOGGLE, {"job": job}).first()
    if row is None:
        raise UnknownJob(job)
    tx.connection.execute(_TOGGLE, {"job": job, "enabled": enabled, "now": tx.now})
    _note_action(tx, who, "toggle", job, {"enabled": row.enabled}, {"enabled": enabled})


def _note_action(tx: Transaction, who: str, what: str, subject: str, before: object, after: object) -> None:
    tx.connection.execute(
        _ACTION,
        {
            "now": tx.now,
            "who": who,
            "what": what,
            "subject": subject,
            "before": json.dumps(before),
            "after": json.dumps(after),
        },
    )


def start_run(connection: Connection, run_id: UUID, *, worker: str, now: datetime) -> bool:
    """Mark the run as started; False when it has finished before, so that there is nothing to do."""
    return connection.execute(_START, {"id": run_id, "worker": worker, "now": now}).rowcount == 1


def finish_run(
    connection: Connection,
    run_id: UUID,
    *,
    outcome: str,
    error: str | None,
    counts: Mapping[str, int],
    now: datetime,
) -> None:
    connection.execute(
        _FINISH,
        {"id": run_id, "outcome": outcome, "error": error, "counts": json.dumps(dict(counts)), "now": now},
    )


def status(connection: Connection, now: datetime) -> list[Any]:
    """Every job with its live settings and its latest run, in one statement."""
    return list(connection.execute(_STATUS, {"now": now}))


#: 24/7 markets are open; any other needs a session row that covers the time.
_MARKET_OPEN = """
EXISTS (SELECT FROM marketdata.sessions_v1 s WHERE s.market = j.market AND :now >= s.open_at AND :now < s.close_at)
"""
_SETTINGS = """
COALESCE(j.enabled, j.declared_enabled) AS enabled,
COALESCE(j.interval_seconds, j.declared_interval_seconds) AS interval_seconds,
COALESCE(j.market_hours_only, j.declared_market_hours_only) AS market_hours_only
"""
_DECLARE = text("""
INSERT INTO jobs.jobs (name, service, description, market, declared_enabled, declared_interval_seconds,
                       declared_market_hours_only, updated_at)
VALUES (:name, :service, :description, :market, :enabled, :seconds, :market_hours_only, :now)
ON CONFLICT (name) DO UPDATE SET
  service = excluded.service, description = excluded.description, market = excluded.market,
  declared_enabled = excluded.declared_enabled,
  declared_interval_seconds = excluded.declared_interval_seconds,
  declared_market_hours_only = excluded.declared_market_hours_only
""")
_LIVE = text(f"""
SELECT j.name, {_SETTINGS}, j.last_slot, {_MARKET_OPEN} AS market_open,
       EXISTS (SELECT FROM jobs.job_runs r WHERE r.job = j.name AND r.finished_at IS NULL
                AND r.queued_at > :lost) AS unfinished
FROM jobs.jobs j WHERE j.service = :service
""")
_CLAIM = text("""
WITH claimed AS (
  INSERT INTO jobs.job_runs (id, job, service, trigger, scheduled_for, queued_at)
  SELECT slot.id, slot.job, slot.service, 'schedule', slot.scheduled_for, :now
  FROM unnest(CAST(:ids AS uuid[]), CAST(:jobs AS text[]), CAST(:services AS text[]),
              CAST(:slots AS timestamptz[])) AS slot (id, job, service, scheduled_for)
  ON CONFLICT (job, scheduled_for) DO NOTHING
  RETURNING id, job, service, scheduled_for
), noted AS (
  UPDATE jobs.jobs j SET last_slot = GREATEST(j.last_slot, claimed.scheduled_for)
  FROM claimed WHERE j.name = claimed.job
)
SELECT id, job, service FROM claimed
""")
_TRIGGER = text("""
INSERT INTO jobs.job_runs (id, job, service, trigger, parameters, queued_at)
SELECT CAST(:id AS uuid), name, service, 'manual', CAST(:parameters AS jsonb), CAST(:now AS timestamptz)
FROM jobs.jobs WHERE name = :job
RETURNING service
""")
_BEFORE_TOGGLE = text("""
SELECT COALESCE(enabled, declared_enabled) AS enabled FROM jobs.jobs WHERE name = :job FOR UPDATE
""")
_TOGGLE = text("UPDATE jobs.jobs SET enabled = :enabled, updated_at = :now WHERE name = :job")
_ACTION = text("""
INSERT INTO jobs.operator_actions (at, who, what, subject, before, after)
VALUES (:now, :who, :what, :subject, CAST(:before AS jsonb), CAST(:after AS jsonb))
""")
_START = text("""
UPDATE jobs.job_runs SET started_at = :now, attempt = attempt + 1, worker = :worker
WHERE id = :id AND finished_at IS NULL
""")
_FINISH = text("""
UPDATE jobs.job_runs SET finished_at = :now, outcome = :outcome, error = :error, counts = CAST(:counts AS jsonb)
WHERE id = :id AND finished_at IS NULL
""")
_STATUS = text(f"""
SELECT j.name, j.service, j.description, j.market, {_SETTINGS}, {_MARKET_OPEN} AS market_open, j.last_slot,
       r.id AS run_id, r.trigger, r.scheduled_for, r.queued_at, r.started_at, r.finished_at, r.attempt,
       r.worker, r.outcome, r.error, r.counts
FROM jobs.jobs j
LEFT JOIN LATERAL (
  SELECT * FROM jobs.job_runs r WHERE r.job = j.name ORDER BY r.queued_at DESC LIMIT 1
) r ON true
ORDER BY j.service, j.name
""")
