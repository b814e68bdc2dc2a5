"""What is known of jobs and their runs: how they stand, what has become of them, and the figures of the last hours."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.jobs.markets import load_markets
from shared.jobs.schedule import planning
from shared.jobs.settings import HORIZON, JobSettings
from shared.storage.keyset import Keyset, Record, record, records

#: Of a run's parts, and of each kind of run that followed it, no more are told at once.
MOST_PARTS = 500


def statuses(connection: Connection, now: datetime) -> str:
    """Every job with its settings, its next slot, its latest run, and the one that is under way: a list, as JSON.

    The database writes it, since 500 jobs would take Python longer than all the rest of the answer.
    """
    written: str = connection.execute(_STATUSES, {"now": now}).scalar_one()
    return written


def job(connection: Connection, name: str, now: datetime) -> Record | None:
    """One job as it stands, with what is declared, what operators set over it, and what its runs may be given."""
    row = connection.execute(_JOB, {"job": name, "now": now}).first()
    return None if row is None else record(row)


def exists(connection: Connection, job: str) -> bool:
    return connection.execute(_EXISTS, {"job": job}).first() is not None


def next_slots(connection: Connection, settings: Mapping[str, Any], now: datetime, count: int) -> list[datetime]:
    """The next slots of a job with these settings, at most ``count``, as far as its market's sessions are known."""
    known = JobSettings.model_validate(settings)
    market = load_markets(connection, [known.market], now, now + HORIZON).get(known.market)
    return planning.next_slots(known, market, now, count) if market else []


def runs(
    connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
) -> list[Record]:
    """A page of runs, the newest first. Parts of a run come only where they or the runs of a parent are asked for."""
    whole = {} if "parent" in filters or filters.get("trigger") == "part" else {"whole": True}
    return _RUNS.page(connection, {**filters, **whole}, after=after, limit=limit)


def run(connection: Connection, run_id: UUID) -> Record | None:
    """All that is known of one run, with its parameters, its whole error, its parts and what followed it."""
    row = connection.execute(_RUN, {"id": run_id}).first()
    if row is None:
        return None
    related = {name: _followers(connection, run_id, trigger) for name, trigger in _FOLLOWERS.items()}
    parts = {row.state: row.runs for row in connection.execute(_PART_STATES, {"id": run_id})}
    return {**record(row), "part_states": parts, **related}


def _followers(connection: Connection, run_id: UUID, trigger: str) -> list[Record]:
    return records(connection, _OF_PARENT, id=run_id, trigger=trigger, limit=MOST_PARTS)


def figures(connection: Connection, job: str, *, since: datetime, now: datetime) -> Record:
    """How the job did since then: durations and lateness in seconds, runs by hour, what its runs counted in sum.

    Parts count as their run. Skipped slots count among no runs, and canceled runs neither for nor against success.
    """
    given = {"job": job, "since": since, "now": now}
    by_hour = {row.hour: record(row) for row in connection.execute(_BY_HOUR, given)}
    hours = [by_hour.get(hour, {"hour": hour, "runs": 0, "failed": 0}) for hour in _hours(since, now)]
    counts = {row.key: int(row.total) for row in connection.execute(_COUNTS, given)}
    return {**record(connection.execute(_FIGURES, given).one()), "by_hour": hours, "counts": counts}


def _hours(since: datetime, now: datetime) -> list[datetime]:
    first = since.replace(minute=0, second=0, microsecond=0)
    return [first + timedelta(hours=number) for number in range(int((now - first) / timedelta(hours=1)) + 1)]


#: A traceback's last line says what happened.
_LAST_LINE = "reverse(split_part(reverse(rtrim(r.error, E' \\n')), E'\\n', 1)) AS error"
_COLUMNS = """
r.id, r.job, r.service, r.trigger, r.state, r.outcome, r.reason, r.scheduled_for, r.last_slot, r.slots, r.queued_at,
r.not_before, r.started_at, r.finished_at,
CAST(extract(epoch FROM r.finished_at - r.started_at) AS float8) AS duration,
r.attempt, r.failures, r.worker, r.heartbeat_at, r.priority, r.done, r.total,
CAST(LEAST(round(100.0 * r.done / NULLIF(r.total, 0), 1), 100) AS float8) AS percent,
r.error_kind, r.counts,
r.parent_run_id, r.part, r.parts, r.requested_by, r.cancel_requested_at
"""
_RUNS = Keyset(
    f"SELECT {_COLUMNS}, {_LAST_LINE} FROM jobs.job_runs r",
    ("queued_at", "id"),
    {
        "whole": "r.part IS NULL",
        "job": "r.job = :job",
        "service": "r.service = :service",
        "state": "r.state = :state",
        "outcome": "r.outcome = :outcome",
        "trigger": "r.trigger = :trigger",
        "begin": "r.queued_at >= :begin",
        "end": "r.queued_at < :end",
        "parent": "r.parent_run_id = :parent",
    },
    table="r.",
)
_RUN = text(f"SELECT {_COLUMNS}, r.error, r.parameters, r.traceparent FROM jobs.job_runs r WHERE r.id = :id")
_FOLLOWERS = {"part_runs": "part", "chained": "chain", "retries": "retry"}
_OF_PARENT = text(f"""
SELECT {_COLUMNS}, {_LAST_LINE} FROM jobs.job_runs r WHERE r.parent_run_id = :id AND r.trigger = :trigger
ORDER BY r.part, r.queued_at, r.id LIMIT :limit
""")
_PART_STATES = text("""
SELECT COALESCE(outcome, state) AS state, count(*) AS runs
FROM jobs.job_runs WHERE parent_run_id = :id AND part IS NOT NULL GROUP BY 1
""")

_EXISTS = text("SELECT FROM jobs.jobs WHERE name = :job")
_STANDING = """
j.name, j.service, j.description, CAST(j.settings ->> 'enabled' AS boolean) AS enabled,
j.settings ->> 'schedule' AS schedule, j.settings,
j.settings ->> 'market' IN (
  SELECT market FROM marketdata.sessions_v1 WHERE open_at <= :now AND close_at > :now) AS market_open,
CASE WHEN CAST(j.settings ->> 'enabled' AS boolean) THEN j.next_slot END AS next_slot,
(SELECT to_json(active) FROM (SELECT a.id, a.state, a.started_at, a.done, a.total WHERE a.id IS NOT NULL) active)
  AS active_run,
latest.run AS last_run
"""
#: BETWEEN and the order by job leave the planner only the index that begins with the job: by an equality it may read
#: the runs of all jobs by time, until it has found one of a job that seldom runs.
_JOBS = f"""
FROM jobs.jobs j
LEFT JOIN jobs.job_runs a ON a.job = j.name AND a.state IN ('queued', 'running', 'joining') AND a.part IS NULL
LEFT JOIN LATERAL (
  SELECT to_json(run) AS run FROM (
    SELECT id, trigger, state, outcome, reason, scheduled_for, queued_at, started_at, finished_at, attempt, worker,
           counts, {_LAST_LINE}
    FROM jobs.job_runs r WHERE r.job BETWEEN j.name AND j.name AND r.part IS NULL
    ORDER BY r.job, r.queued_at DESC, r.id DESC LIMIT 1
  ) run
) latest ON true
"""
_STATUSES = text(f"""
SELECT CAST(COALESCE(json_agg(standing), '[]') AS text)
FROM (SELECT {_STANDING} {_JOBS} ORDER BY j.service, j.name) standing
""")
_JOB = text(f"SELECT {_STANDING}, j.declared, j.overrides, j.parameters {_JOBS} WHERE j.name = :job")

_LATELY = "job = :job AND part IS NULL AND queued_at >= :since AND outcome <> 'skipped'"
_DURATION = "extract(epoch FROM finished_at - started_at)"
_LATENESS = "extract(epoch FROM started_at - scheduled_for)"
_FIGURES = text(f"""
SELECT count(*) AS runs,
  count(*) FILTER (WHERE outcome = 'succeeded') AS succeeded, count(*) FILTER (WHERE outcome = 'failed') AS failed,
  count(*) FILTER (WHERE outcome = 'lost') AS lost, count(*) FILTER (WHERE outcome = 'canceled') AS canceled,
  (SELECT CAST(COALESCE(sum(slots), 0) AS bigint) FROM jobs.job_runs
   WHERE job = :job AND part IS NULL AND queued_at >= :since AND outcome = 'skipped') AS skipped_slots,
  CAST(count(*) FILTER (WHERE outcome = 'succeeded') AS float8)
    / NULLIF(count(*) FILTER (WHERE outcome <> 'canceled'), 0) AS success_rate,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY {_DURATION}) AS duration_p50,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY {_DURATION}) AS duration_p95,
  CAST(max({_DURATION}) AS float8) AS duration_max,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY {_LATENESS}) FILTER (WHERE trigger = 'schedule') AS lateness_p50,
  percentile_cont(0.99) WITHIN GROUP (ORDER BY {_LATENESS}) FILTER (WHERE trigger = 'schedule') AS lateness_p99
FROM jobs.job_runs WHERE {_LATELY}
""")
_BY_HOUR = text(f"""
SELECT date_trunc('hour', finished_at) AS hour, count(*) AS runs,
       count(*) FILTER (WHERE outcome <> 'succeeded') AS failed
FROM jobs.job_runs WHERE {_LATELY} AND finished_at <= :now GROUP BY 1
""")
_COUNTS = text(f"""
SELECT key, sum(CAST(value AS numeric)) AS total FROM jobs.job_runs, jsonb_each(counts)
WHERE {_LATELY} AND jsonb_typeof(value) = 'number' GROUP BY key ORDER BY key
""")
