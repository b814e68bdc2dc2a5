"""Runs on their way to a worker: those whose turn has come, and those that were lost on the way or with their worker.

What waits is a row; its message is sent when none of its job is under way. A message that is lost is sent again, and a
message that comes twice begins one run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import IntegrityError

from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.jobs import RunJob
from shared.contracts.priority import Priority

#: A running one whose worker has not said that it lives for so long is lost.
LOST_AFTER = timedelta(seconds=10)
#: The message of a run that has waited for a worker so long is sent again; the queue may have been wiped.
SEND_AGAIN_AFTER = timedelta(minutes=10)
#: The columns of ``jobs.job_runs r`` that send_runs takes.
SENT = "r.id, r.job, r.service, r.parameters, r.attempt, r.priority, r.traceparent, r.state"


def send_runs(uow: UnitOfWork, rows: Iterable[Any]) -> None:
    """Send the command of each run; ``rows`` have id, job, service, parameters, attempt, priority and traceparent."""
    for row in rows:
        command = RunJob(
            to=row.service,
            run_id=row.id,
            job=row.job,
            parameters=row.parameters,
            priority=Priority(row.priority),
            attempt=row.attempt,
        )
        uow.publish(command, message_id=message_id(row.id, row.attempt), trace=row.traceparent)


def message_id(run_id: UUID, attempt: int) -> UUID:
    return uuid5(run_id, str(attempt))


def dispatch(uow: UnitOfWork, service: str) -> int:
    """Send the waiting runs of the service whose turn has come: of each job one at a time, the more urgent first."""
    return send_if_free(uow, _DISPATCH, {"service": service, "now": uow.now})


def send_if_free(uow: UnitOfWork, statement: TextClause, given: Mapping[str, Any]) -> int:
    """Send the runs that the statement queues; none, where another run of their job was queued in the same moment."""
    try:
        with uow.connection.begin_nested():
            rows = uow.connection.execute(statement, given).all()
    except IntegrityError:  # of job_runs_one_active; what waits is looked at again with the next tick
        return 0
    send_runs(uow, rows)
    return len(rows)


@dataclass(frozen=True)
class Lost:
    """A run whose worker died, and what became of it: ``waiting`` to begin again, or ``finished``."""

    id: UUID
    job: str
    worker: str
    state: str


def rescue_lost(uow: UnitOfWork, service: str) -> list[Lost]:
    """Runs whose worker no longer says that it lives begin again, or are lost, as their job has it."""
    rows = uow.connection.execute(_LOST, {"service": service, "now": uow.now, "silent_since": uow.now - LOST_AFTER})
    return [Lost(row.id, row.job, row.worker, row.state) for row in rows]


def send_again(uow: UnitOfWork, service: str) -> int:
    """Runs that no worker has begun for long; a message that comes twice begins one run."""
    rows = uow.connection.execute(
        _SEND_AGAIN, {"service": service, "now": uow.now, "sent_before": uow.now - SEND_AGAIN_AFTER}
    ).all()
    send_runs(uow, rows)
    return len(rows)


def joining_runs(connection: Connection, service: str) -> list[UUID]:
    """Runs of which parts are under way."""
    return [row.id for row in connection.execute(_JOINING, {"service": service})]


#: Parts are sent by their parent (shared.jobs.engine.parts).
_DISPATCH = text(f"""
WITH first AS (
  SELECT id, row_number() OVER (PARTITION BY job ORDER BY priority DESC, queued_at, scheduled_for, id) AS place
  FROM jobs.job_runs WHERE service = :service AND state = 'waiting' AND part IS NULL
    AND (not_before IS NULL OR not_before <= :now)
), ready AS (
  SELECT w.id FROM jobs.job_runs w JOIN first ON first.id = w.id AND first.place = 1
  WHERE w.state = 'waiting' AND NOT EXISTS (
    SELECT FROM jobs.job_runs active WHERE active.job = w.job AND active.part IS NULL
      AND active.state IN ('queued', 'running', 'joining'))
  FOR UPDATE OF w SKIP LOCKED
)
UPDATE jobs.job_runs r SET state = 'queued', sent_at = :now, not_before = NULL FROM ready WHERE r.id = ready.id
RETURNING {SENT}
""")
_LOST = text("""
WITH silent AS (
  SELECT r.id, (j.settings ->> 'on_lost') = 'rerun' AND r.cancel_requested_at IS NULL
               AND r.failures < CAST(j.settings ->> 'retries' AS integer) AS again
  FROM jobs.job_runs r JOIN jobs.jobs j ON j.name = r.job
  WHERE r.service = :service AND r.state = 'running' AND r.heartbeat_at < :silent_since
  FOR UPDATE OF r SKIP LOCKED
)
UPDATE jobs.job_runs r SET
  state = CASE WHEN silent.again THEN 'waiting' ELSE 'finished' END,
  outcome = CASE WHEN NOT silent.again THEN 'lost' END,
  finished_at = CASE WHEN NOT silent.again THEN CAST(:now AS timestamptz) END,
  not_before = CASE WHEN silent.again THEN CAST(:now AS timestamptz) END,
  failures = r.failures + 1, error_kind = 'transient', reason = 'its worker ' || r.worker || ' died'
FROM silent WHERE r.id = silent.id
RETURNING r.id, r.job, r.worker, r.state
""")
_SEND_AGAIN = text(f"""
UPDATE jobs.job_runs r SET sent_at = :now
WHERE r.id IN (SELECT id FROM jobs.job_runs WHERE service = :service AND state = 'queued' AND sent_at < :sent_before
               FOR UPDATE SKIP LOCKED)
RETURNING {SENT}
""")
_JOINING = text("SELECT id FROM jobs.job_runs WHERE service = :service AND state = 'joining'")
