"""Dispatch of runs to workers: runs whose turn has come, and runs that were lost on the way or with their worker.

A waiting run is a row. Its message is sent when no other run of its job is in progress. A lost message is sent again,
and a message that comes twice starts one run.
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
from shared.jobs.engine.followers import FOLLOWERS, HELD, ended_columns
from shared.jobs.schedule.planning import CLOCK_TOLERANCE

#: A run is lost if its worker has sent no heartbeat for this long.
LOST_AFTER = timedelta(seconds=10)
#: The message of a run that has waited this long for a worker is sent again, in case its queue was wiped.
RESEND_AFTER = timedelta(minutes=10)
#: True for a waiting run whose time has come. A run was put off before a clock went back if its last heartbeat lies in
#: the future of PostgreSQL's clock, or ``sent_at``, which was written when it was put off, in the future of ours. Its
#: ``not_before`` then says nothing.
TURN_HAS_COME = """(
  not_before IS NULL OR not_before <= :now
  OR heartbeat_at > now() + CAST(:tolerance AS interval)
  OR sent_at > CAST(:now AS timestamptz) + CAST(:tolerance AS interval))"""
#: The columns of ``jobs.job_runs r`` that send_runs takes.
SENT = "r.id, r.job, r.service, r.parameters, r.attempt, r.priority, r.traceparent, r.state"


def send_runs(uow: UnitOfWork, rows: Iterable[Any]) -> None:
    """Send the command of each run. ``rows`` have id, job, service, parameters, attempt, priority and traceparent."""
    for row in rows:
        command = RunJob(
            to=row.service,
            run_id=row.id,
            job=row.job,
            parameters=row.parameters,
            priority=Priority(row.priority),
            attempt=row.attempt,
        )
        uow.publish(command, message_id=uuid5(row.id, str(row.attempt)), trace=row.traceparent)


def dispatch(uow: UnitOfWork, service: str) -> int:
    """Send the waiting runs of the service whose turn has come: one at a time of each job, the most urgent first.

    A backfill goes after all other runs of its job. The runs of a retired job wait.
    """
    return send_if_idle(uow, _DISPATCH, {"service": service, "now": uow.now, "tolerance": CLOCK_TOLERANCE})


def send_if_idle(uow: UnitOfWork, statement: TextClause, given: Mapping[str, Any]) -> int:
    """Send the runs that the statement queues, unless another run of their job was queued at the same moment."""
    try:
        with uow.connection.begin_nested():
            rows = uow.connection.execute(statement, given).all()
    except IntegrityError:  # job_runs_one_active; the next tick dispatches the waiting runs
        return 0
    send_runs(uow, rows)
    return len(rows)


@dataclass(frozen=True)
class RescuedRun:
    """A run whose worker died. Its ``state`` is ``waiting`` if it starts again, else ``finished``."""

    id: UUID
    job: str
    worker: str
    state: str


def rescue(uow: UnitOfWork, service: str) -> list[RescuedRun]:
    """Requeue the runs whose worker died, or finish them as lost, as the job's ``on_lost`` says.

    PostgreSQL's clock tells how old a heartbeat is. One from the future was written before that clock went back.
    """
    rows = uow.connection.execute(_RESCUE, {"service": service, "now": uow.now, "lost_after": LOST_AFTER})
    return [RescuedRun(row.id, row.job, row.worker, row.state) for row in rows]


def resend(uow: UnitOfWork, service: str) -> int:
    """Send the message of queued runs again that no worker has started for long, or since the clock went back."""
    given = {"sent_before": uow.now - RESEND_AFTER, "sent_after": uow.now + CLOCK_TOLERANCE}
    rows = uow.connection.execute(_RESEND, {"service": service, "now": uow.now, **given}).all()
    send_runs(uow, rows)
    return len(rows)


def has_open_joins(connection: Connection, service: str) -> bool:
    """Tell whether runs of the service wait for their parents."""
    return bool(connection.execute(_HAS_OPEN_JOINS, {"service": service}).scalar_one())


def split_runs(connection: Connection, service: str) -> list[UUID]:
    """List the runs whose parts are in progress."""
    return [row.id for row in connection.execute(_SPLIT, {"service": service})]


#: Parts are sent by their parent (shared.jobs.engine.parts).
_DISPATCH = text(f"""
WITH first AS (
  SELECT id, row_number() OVER (
    PARTITION BY job ORDER BY trigger = 'backfill', priority DESC, queued_at, scheduled_for, id) AS place
  FROM jobs.job_runs w WHERE service = :service AND NOT active AND part IS NULL AND NOT {HELD.format(run="w")}
    AND {TURN_HAS_COME}
), ready AS (
  SELECT w.id FROM jobs.job_runs w JOIN first ON first.id = w.id AND first.place = 1
  WHERE NOT w.active AND NOT EXISTS (
    SELECT FROM jobs.job_runs other WHERE other.job = w.job AND other.part IS NULL AND other.active)
    AND NOT EXISTS (SELECT FROM jobs.jobs j WHERE j.name = w.job AND j.retired_at IS NOT NULL)
  FOR UPDATE OF w SKIP LOCKED
)
UPDATE jobs.job_runs r SET state = 'queued', sent_at = :now, not_before = NULL FROM ready WHERE r.id = ready.id
RETURNING {SENT}
""")
#: A run may be lost once even if its retries are used up, and it is not run again if it was lost in its last try, too.
_RESCUE = text(f"""
WITH silent AS (
  SELECT r.id, (j.settings ->> 'on_lost') = 'rerun' AND r.cancel_requested_at IS NULL
               AND (r.failures < CAST(j.settings ->> 'retries' AS integer)
                    OR (r.failures = CAST(j.settings ->> 'retries' AS integer)
                        AND COALESCE(r.reason NOT LIKE 'its worker % died', true))) AS again
  FROM jobs.job_runs r JOIN jobs.jobs j ON j.name = r.job
  WHERE r.service = :service AND r.active AND r.state = 'running'
    AND abs(extract(epoch FROM now() - r.heartbeat_at)) > extract(epoch FROM CAST(:lost_after AS interval))
  FOR UPDATE OF r SKIP LOCKED
), ended AS (
UPDATE jobs.job_runs r SET
  state = CASE WHEN silent.again THEN 'waiting' ELSE 'finished' END,
  outcome = CASE WHEN NOT silent.again THEN CASE WHEN r.cancel_requested_at IS NULL THEN 'lost' ELSE 'canceled' END END,
  finished_at = CASE WHEN NOT silent.again THEN CAST(:now AS timestamptz) END,
  not_before = CASE WHEN silent.again THEN CAST(:now AS timestamptz) END,
  failures = r.failures + 1, error_kind = 'transient', reason = 'its worker ' || r.worker || ' died'
FROM silent WHERE r.id = silent.id
RETURNING r.worker, r.state, {ended_columns("r")}
), {FOLLOWERS}
SELECT id, job, worker, state FROM ended
""")
_RESEND = text(f"""
UPDATE jobs.job_runs r SET sent_at = :now
WHERE r.id IN (SELECT id FROM jobs.job_runs
               WHERE service = :service AND active AND state = 'queued'
                 AND (sent_at < :sent_before OR sent_at > :sent_after)
               FOR UPDATE SKIP LOCKED)
RETURNING {SENT}
""")
_SPLIT = text("SELECT id FROM jobs.job_runs WHERE service = :service AND active AND state = 'joining'")
_HAS_OPEN_JOINS = text("""
SELECT EXISTS (
  SELECT FROM jobs.joins WHERE service = :service AND started_by IS NULL AND skipped_at IS NULL) AS found
""")
