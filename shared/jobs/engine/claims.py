"""The scheduler's rows: the jobs that are declared, those that are due, and the slots that are claimed.

The number of statements does not depend on how many jobs are due. A due job's row is locked to the end of the
transaction and skipped by the other replicas, so one of them decides about a slot. Unique indexes would refuse a
second run.

A scheduler lists its jobs in its row of ``jobs.workers``. A job that no live scheduler lists any more, because it was
renamed or removed from the code, is retired: it keeps its settings and its history, has no slots and raises no alert,
until a replica declares it again or an operator removes it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import uuid4

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection, text

from shared.bus.unit_of_work import UnitOfWork
from shared.jobs.declaration import Job
from shared.jobs.engine.dispatch import SENT, send_runs
from shared.jobs.schedule.calendar import LoadMarket, market_without_sessions
from shared.jobs.schedule.planning import CLOCK_TOLERANCE, SUPERSEDED, DueJob, Plan
from shared.jobs.schedule.planning import plan as plan_job
from shared.jobs.settings import TIMING, InvalidSetting, JobSettings, check_window, read_settings
from shared.outage import first_line

log = structlog.get_logger(__name__)


def declare(connection: Connection, jobs: Iterable[Job], now: datetime, *, load_market: LoadMarket) -> None:
    """Save the declarations, and keep what operators set.

    If the timing has changed, earlier slots are decided by the timing before, and the others count from now on.
    """
    listed = list(jobs)
    declared = {
        "names": [job.name for job in listed],
        "declared": [JobSettings.model_validate(dict(job.settings)).model_dump_json() for job in listed],
        "others": sorted(set(JobSettings.model_fields) - TIMING),
    }
    changed = list(connection.execute(_CHANGED, declared).scalars())
    decide_up_to_now(connection, changed, now, load_market=load_market)
    stored = connection.execute(
        _DECLARE,
        {
            **declared,
            "services": [job.service for job in listed],
            "descriptions": [job.description for job in listed],
            "parameters": [
                json.dumps(job.parameters.model_json_schema()) if job.parameters else None for job in listed
            ],
            "now": now,
        },
    ).all()
    for row in stored:
        _check_stored(row.name, row.settings)


def _check_stored(job: str, settings: str) -> None:
    """Warn of settings in effect that cannot be kept. The job then runs as well as it can."""
    try:
        check_window(read_settings(settings))
    except ValidationError as error:
        _warn_unreadable(job, first_line(error))
    except InvalidSetting as error:
        log.warning("settings of a job cannot be kept: only the latest missed slots run", job=job, error=str(error))


@lru_cache(maxsize=1000)
def _warn_unreadable(job: str, error: str) -> None:
    """Warn once, and not at each tick, of settings that a newer version wrote."""
    log.warning("settings of a job cannot be read", job=job, error=error)


def decide_up_to_now(connection: Connection, jobs: Sequence[str], now: datetime, *, load_market: LoadMarket) -> None:
    """Decide the slots up to now of jobs whose timing is about to change, as a tick would have.

    Their runs wait for the next tick, which sends them.
    """
    if not jobs:
        return
    plans = []
    for row in connection.execute(_UNDECIDED, {"jobs": list(jobs)}).all():
        job = _read_job(row, row.service)
        if job is None:
            continue
        code, since = job.settings.market, job.considered_until or now
        market = market_without_sessions(code)
        if not market.always_open:
            market = load_market(connection, code, since - _AROUND, now + _AROUND) or market
        plans.append((job, replace(plan_job(job, market, now), send_first=False)))
    _save(connection, plans, now)


def retire(connection: Connection, service: str) -> None:
    """Retire the service's jobs that no live scheduler lists, and take up those that one lists again.

    No job is retired while no scheduler lives, or one of an older version that lists none.
    """
    for row in connection.execute(_RETIRE, {"service": service, "listed_for": LISTED_FOR}).all():
        if row.retired_at is None:
            log.info("a retired job is declared again", job=row.name)
        else:
            log.warning("a job is retired: no replica declares it any more", job=row.name)


def may_be_declared(connection: Connection, service: str, job: str, *, retired: bool) -> bool:
    """Tell whether a live scheduler lists the job, or is of an older version that lists none.

    If no scheduler lives, the job was ``retired`` before the last one ended, or may return with the next one.
    """
    given = {"service": service, "job": job, "listed_for": LISTED_FOR}
    listed = connection.execute(_MAY_BE_DECLARED, given).scalar_one()
    return not retired if listed is None else bool(listed)


def plan_again(connection: Connection, service: str, markets: Iterable[str]) -> None:
    """Make the service's jobs due whose schedules follow one of the markets."""
    connection.execute(_PLAN_AGAIN, {"service": service, "markets": sorted(markets)})


def due_jobs(connection: Connection, service: str, now: datetime) -> list[DueJob]:
    """Lock and load the service's jobs that are due.

    A job that was planned in the future was planned before the clock went back, and is due. A job whose settings a
    newer version wrote, and this one cannot read, is left to a replica of that version.
    """
    rows = connection.execute(_DUE, {"service": service, "now": now, "ahead": now + CLOCK_TOLERANCE}).all()
    return [job for row in rows if (job := _read_job(row, service)) is not None]


def _read_job(row: Any, service: str) -> DueJob | None:
    try:
        settings = read_settings(row.settings)
    except ValidationError as error:
        _warn_unreadable(row.name, first_line(error))
        return None
    return DueJob(row.name, service, settings, row.considered_until, row.last_slot, row.unfinished, row.busy)


def claim(uow: UnitOfWork, plans: Sequence[tuple[DueJob, Plan]]) -> int:
    """Save the plans, send the command of each run that starts at once, and return the number of new runs."""
    added = _save(uow.connection, plans, uow.now)
    send_runs(uow, [row for row in added if row.state == "queued"])
    return len(added)


def _save(connection: Connection, plans: Sequence[tuple[DueJob, Plan]], now: datetime) -> Sequence[Any]:
    if not plans:
        return []
    superseded = [job.name for job, plan in plans if plan.cancel_unfinished]
    if superseded:
        connection.execute(_CANCEL, {"jobs": superseded, "reason": SUPERSEDED, "now": now})
    added = _add_runs(connection, plans, now)
    _add_skips(connection, plans, now)
    connection.execute(
        _SAVE_PLANS,
        {
            "names": [job.name for job, _ in plans],
            "last_slots": [max(plan.runs, default=None) for _, plan in plans],
            "next_slots": [plan.next_slot for _, plan in plans],
            "due_ats": [plan.due_at for _, plan in plans],
            "now": now,
            "tolerance": CLOCK_TOLERANCE,
        },
    )
    return added


def _add_runs(connection: Connection, plans: Sequence[tuple[DueJob, Plan]], now: datetime) -> Sequence[Any]:
    runs = [(job, slot, n == 0 and plan.send_first) for job, plan in plans for n, slot in enumerate(plan.runs)]
    if not runs:
        return []
    return connection.execute(
        _ADD_RUNS,
        {
            "ids": [uuid4() for _ in runs],
            "jobs": [job.name for job, _, _ in runs],
            "services": [job.service for job, _, _ in runs],
            "slots": [slot for _, slot, _ in runs],
            "priorities": [job.settings.urgency for job, _, _ in runs],
            "states": ["queued" if sent else "waiting" for _, _, sent in runs],
            "now": now,
        },
    ).all()


def _add_skips(connection: Connection, plans: Sequence[tuple[DueJob, Plan]], now: datetime) -> None:
    """Add skips to the row of the job's last run if that was skipped for the same reason, else add a row."""
    for number in range(max(len(plan.skips) for _, plan in plans)):  # two at most, and the second is rare
        skips = [(job, plan.skips[number]) for job, plan in plans if len(plan.skips) > number]
        connection.execute(
            _ADD_SKIPS,
            {
                "ids": [uuid4() for _ in skips],
                "jobs": [job.name for job, _ in skips],
                "services": [job.service for job, _ in skips],
                "firsts": [skip.first for _, skip in skips],
                "lasts": [skip.last for _, skip in skips],
                "slots": [skip.slots for _, skip in skips],
                "reasons": [skip.reason for _, skip in skips],
                "now": now,
            },
        )


#: A scheduler without a heartbeat for this long no longer declares its jobs.
LISTED_FOR = timedelta(minutes=1)
#: A session that begins or ends outside of the time that is decided may have a slot in it.
_AROUND = timedelta(days=2)
_CHANGED = text("""
SELECT job.name FROM jobs.jobs job
JOIN unnest(CAST(:names AS text[]), CAST(:declared AS text[])) AS given (name, declared) USING (name)
WHERE job.declared - CAST(:others AS text[]) <> CAST(given.declared AS jsonb) - CAST(:others AS text[])
""")
#: A job that no tick has decided since its timing changed counts from that change.
_UNDECIDED = text("""
WITH locked AS (
  SELECT name, service, settings, COALESCE(considered_until, updated_at) AS considered_until, last_slot
  FROM jobs.jobs WHERE name = ANY(:jobs) ORDER BY name FOR UPDATE
)
SELECT j.name, j.service, CAST(j.settings AS text) AS settings, j.considered_until, j.last_slot,
       unfinished.slots AS unfinished, unfinished.busy
FROM locked j, LATERAL (
  SELECT count(*) FILTER (WHERE r.trigger = 'schedule') AS slots, COALESCE(bool_or(r.active), false) AS busy
  FROM jobs.job_runs r WHERE r.job = j.name AND r.active IS NOT NULL AND r.part IS NULL
) AS unfinished
""")
_DECLARE = text("""
INSERT INTO jobs.jobs AS job (name, service, description, market, declared, parameters, updated_at)
SELECT name, service, description, CAST(declared AS jsonb) ->> 'market', CAST(declared AS jsonb),
       CAST(parameters AS jsonb), :now
FROM unnest(CAST(:names AS text[]), CAST(:services AS text[]), CAST(:descriptions AS text[]),
            CAST(:declared AS text[]), CAST(:parameters AS text[]))
  AS given (name, service, description, declared, parameters)
ORDER BY name
ON CONFLICT (name) DO UPDATE SET
  service = excluded.service, description = excluded.description, market = excluded.market,
  declared = excluded.declared, parameters = excluded.parameters, due_at = NULL, retired_at = NULL,
  considered_until = CASE
    WHEN job.declared - CAST(:others AS text[]) = excluded.declared - CAST(:others AS text[]) THEN job.considered_until
  END,
  updated_at = CASE
    WHEN job.declared - CAST(:others AS text[]) = excluded.declared - CAST(:others AS text[]) THEN job.updated_at
    ELSE excluded.updated_at
  END
RETURNING name, CAST(settings AS text) AS settings
""")
#: PostgreSQL's clock tells how old a heartbeat is. One from the future was written before that clock went back.
_LIVE = """
SELECT jobs FROM jobs.workers
WHERE service = :service AND stopped_at IS NULL AND (kind = 'scheduler' OR jobs IS NOT NULL)
  AND abs(extract(epoch FROM now() - heartbeat_at)) <= extract(epoch FROM CAST(:listed_for AS interval))
"""
_RETIRE = text(f"""
WITH live AS MATERIALIZED ({_LIVE}),
listed AS MATERIALIZED (SELECT DISTINCT unnest(jobs) AS name FROM live),
changed AS (
  SELECT j.name, listed.name IS NOT NULL AS lives
  FROM jobs.jobs j LEFT JOIN listed ON listed.name = j.name
  WHERE j.service = :service AND (j.retired_at IS NOT NULL) = (listed.name IS NOT NULL)
    AND (listed.name IS NOT NULL OR (SELECT bool_and(jobs IS NOT NULL) FROM live))
  FOR UPDATE OF j SKIP LOCKED
)
UPDATE jobs.jobs j SET
  retired_at = CASE WHEN NOT changed.lives THEN now() END, due_at = CASE WHEN NOT changed.lives THEN j.due_at END
FROM changed WHERE j.name = changed.name
RETURNING j.name, j.retired_at
""")
_MAY_BE_DECLARED = text(f"""
SELECT bool_or(jobs IS NULL OR :job = ANY(jobs)) AS listed FROM ({_LIVE}) AS live
""")
_DUE = text("""
SELECT j.name, CAST(j.settings AS text) AS settings, j.considered_until, j.last_slot,
       unfinished.slots AS unfinished, unfinished.busy
FROM jobs.jobs j, LATERAL (
  SELECT count(*) FILTER (WHERE r.trigger = 'schedule') AS slots, COALESCE(bool_or(r.active), false) AS busy
  FROM jobs.job_runs r WHERE r.job = j.name AND r.active IS NOT NULL AND r.part IS NULL
) AS unfinished
WHERE j.service = :service AND j.retired_at IS NULL
  AND (j.due_at IS NULL OR j.due_at <= :now OR j.considered_until > :ahead)
FOR UPDATE OF j SKIP LOCKED
""")
_PLAN_AGAIN = text("""
UPDATE jobs.jobs SET due_at = NULL WHERE service = :service AND settings ->> 'market' = ANY(:markets)
""")
_ADD_RUNS = text(f"""
INSERT INTO jobs.job_runs AS r (id, job, service, trigger, scheduled_for, priority, state, queued_at, sent_at)
SELECT id, job, service, 'schedule', slot, priority, state, :now, CASE state WHEN 'queued' THEN :now END
FROM unnest(CAST(:ids AS uuid[]), CAST(:jobs AS text[]), CAST(:services AS text[]), CAST(:slots AS timestamptz[]),
            CAST(:priorities AS smallint[]), CAST(:states AS text[]))
  AS given (id, job, service, slot, priority, state)
ON CONFLICT (job, scheduled_for) WHERE trigger = 'schedule' DO NOTHING
RETURNING {SENT}
""")
_ADD_SKIPS = text("""
WITH given AS (
  SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:jobs AS text[]), CAST(:services AS text[]),
                       CAST(:firsts AS timestamptz[]), CAST(:lasts AS timestamptz[]), CAST(:slots AS bigint[]),
                       CAST(:reasons AS text[])) AS g (id, job, service, first, last, slots, reason)
), grown AS (
  UPDATE jobs.job_runs r SET last_slot = given.last, slots = r.slots + given.slots, finished_at = :now
  FROM given, LATERAL (
    SELECT latest.id FROM jobs.job_runs latest
    WHERE latest.job = given.job AND latest.part IS NULL AND latest.trigger = 'schedule'
    ORDER BY latest.queued_at DESC, latest.id DESC LIMIT 1
  ) AS latest
  WHERE r.id = latest.id AND r.outcome = 'skipped' AND r.reason = given.reason
  RETURNING r.job
)
INSERT INTO jobs.job_runs (id, job, service, trigger, scheduled_for, last_slot, slots, reason, queued_at, finished_at,
                           state, outcome)
SELECT id, job, service, 'schedule', first, last, slots, reason, :now, :now, 'finished', 'skipped'
FROM given WHERE NOT EXISTS (SELECT FROM grown WHERE grown.job = given.job)
ON CONFLICT (job, scheduled_for) WHERE trigger = 'schedule' DO NOTHING
""")
_CANCEL = text("""
WITH earlier AS (
  SELECT id FROM jobs.job_runs WHERE job = ANY(:jobs) AND active IS NOT NULL AND part IS NULL AND trigger = 'schedule'
)
UPDATE jobs.job_runs SET
  cancel_requested_at = COALESCE(cancel_requested_at, :now), reason = :reason,
  state = CASE state WHEN 'waiting' THEN 'finished' ELSE state END,
  outcome = CASE state WHEN 'waiting' THEN 'canceled' END,
  finished_at = CASE state WHEN 'waiting' THEN CAST(:now AS timestamptz) END
WHERE active IS NOT NULL AND job = ANY(:jobs)
  AND (id IN (TABLE earlier) OR (part IS NOT NULL AND parent_run_id IN (TABLE earlier)))
""")
_SAVE_PLANS = text("""
UPDATE jobs.jobs j SET
  considered_until = :now, next_slot = given.next_slot,
  due_at = given.due_at,
  -- one from the future was saved before the clock went back
  last_slot = CASE WHEN j.last_slot > :now + CAST(:tolerance AS interval) THEN given.last_slot
                   ELSE GREATEST(j.last_slot, given.last_slot) END
FROM unnest(CAST(:names AS text[]), CAST(:last_slots AS timestamptz[]), CAST(:next_slots AS timestamptz[]),
            CAST(:due_ats AS timestamptz[])) AS given (name, last_slot, next_slot, due_at)
WHERE j.name = given.name
""")
