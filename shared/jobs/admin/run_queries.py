"""Queries on jobs and their runs: their status, their history, and the figures of the last hours."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.jobs.engine.followers import round_of
from shared.jobs.run_context import Trigger
from shared.jobs.schedule import planning
from shared.jobs.schedule.calendar import HORIZON, LoadMarket
from shared.jobs.settings import InvalidSetting, stored_settings
from shared.storage.keyset import Keyset, Record, record, records

#: The most parts of a run, and runs of each kind that followed it, in one answer.
MAX_FOLLOWERS = 500


def statuses(connection: Connection, open_markets: Sequence[str]) -> str:
    """List every job with its settings, its next slot, its latest run and its active run, as JSON.

    The database writes the JSON, since encoding 500 jobs in Python would take longer than the rest of the request.
    """
    written: str = connection.execute(_STATUSES, {"open_markets": list(open_markets)}).scalar_one()
    return written


def job(connection: Connection, name: str, open_markets: Sequence[str]) -> Record | None:
    """Read the status of one job, its declared settings, operators' overrides, and the schema of its parameters."""
    row = connection.execute(_JOB, {"job": name, "open_markets": list(open_markets)}).first()
    return None if row is None else record(row)


def exists(connection: Connection, job: str) -> bool:
    """Tell whether a service has declared the job."""
    return connection.execute(_EXISTS, {"job": job}).first() is not None


def next_slots(
    connection: Connection, settings: Mapping[str, Any], now: datetime, count: int, *, load_market: LoadMarket
) -> list[datetime]:
    """List at most ``count`` next slots of a job with these settings, as far as its market's sessions are known.

    Settings of a newer version that this one cannot read have none.
    """
    try:
        known = stored_settings(settings)
    except InvalidSetting:
        return []
    market = load_market(connection, known.market, now, now + HORIZON)
    return planning.next_slots(known, market, now, count) if market else []


def runs(
    connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
) -> list[Record]:
    """Read a page of runs, the newest first. Parts are left out, unless parts or the runs of a parent are asked for."""
    whole = {} if "parent" in filters or filters.get("trigger") == "part" else {"whole": True}
    return _RUNS.page(connection, {**filters, **whole}, after=after, limit=limit)


def run(connection: Connection, run_id: UUID) -> Record | None:
    """Read one run with its parameters, its whole error, its parts and the runs that followed it."""
    row = connection.execute(_RUN, {"id": run_id}).first()
    if row is None:
        return None
    related = {
        name: records(connection, _OF_PARENT, id=run_id, trigger=trigger, limit=MAX_FOLLOWERS)
        for name, trigger in _FOLLOWERS.items()
    }
    parts = {row.state: row.runs for row in connection.execute(_PART_STATES, {"id": run_id})}
    return {**record(row), "part_states": parts, **related}


def figures(connection: Connection, job: str, *, since: datetime, now: datetime) -> Record:
    """Compute the figures of a job: durations and lateness in seconds, runs by hour, and the sums of its runs' counts.

    Parts count as their run. Skipped slots are not runs, and the success rate leaves canceled runs out.
    """
    given = {"job": job, "since": since, "now": now}
    by_hour = {row.hour: record(row) for row in connection.execute(_BY_HOUR, given)}
    first = since.replace(minute=0, second=0, microsecond=0)
    hours = [first + timedelta(hours=number) for number in range(int((now - first) / timedelta(hours=1)) + 1)]
    history = [by_hour.get(hour, {"hour": hour, "runs": 0, "failed": 0}) for hour in hours]
    counts = {row.key: int(row.total) for row in connection.execute(_COUNTS, given)}
    return {**record(connection.execute(_FIGURES, given).one()), "by_hour": history, "counts": counts}


#: A traceback's last line says what happened.
_LAST_LINE = "reverse(split_part(reverse(rtrim(r.error, E' \\n')), E'\\n', 1)) AS error"
_COLUMNS = """
r.id, r.job, r.service, r.trigger, r.state, r.outcome, r.reason, r.scheduled_for, r.last_slot, r.slots, r.queued_at,
r.not_before, r.started_at, r.finished_at,
CAST(extract(epoch FROM r.finished_at - r.started_at) AS float8) AS duration,
r.attempt, r.failures, r.worker, r.heartbeat_at, r.priority, r.done, r.total,
CAST(CASE WHEN r.done IS NOT NULL AND r.total > 0 THEN GREATEST(0, LEAST(100, round(100.0 * r.done / r.total, 1))) END
     AS float8) AS percent,
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
_RUN = text(f"""
SELECT {_COLUMNS}, r.error, r.parameters, r.traceparent, {round_of("r")} AS round FROM jobs.job_runs r WHERE r.id = :id
""")
_FOLLOWERS = {"part_runs": Trigger.PART, "chained": Trigger.CHAIN, "retries": Trigger.RETRY}
_OF_PARENT = text(f"""
SELECT {_COLUMNS}, {_LAST_LINE} FROM jobs.job_runs r WHERE r.parent_run_id = :id AND r.trigger = :trigger
ORDER BY r.part, r.queued_at, r.id LIMIT :limit
""")
_PART_STATES = text("""
SELECT COALESCE(outcome, state) AS state, count(*) AS runs
FROM jobs.job_runs WHERE parent_run_id = :id AND part IS NOT NULL GROUP BY 1
""")

_EXISTS = text("SELECT FROM jobs.jobs WHERE name = :job")
_STATUS = """
j.name, j.service, j.description, CAST(j.settings ->> 'enabled' AS boolean) AS enabled,
j.settings ->> 'schedule' AS schedule, j.settings,
j.settings ->> 'market' = ANY(CAST(:open_markets AS text[])) AS market_open,
j.retired_at,
CASE WHEN CAST(j.settings ->> 'enabled' AS boolean) AND j.retired_at IS NULL THEN j.next_slot END AS next_slot,
(SELECT to_json(held) FROM (SELECT a.id, a.state, a.started_at, a.done, a.total WHERE a.id IS NOT NULL) held)
  AS active_run,
latest.run AS last_run
"""
#: BETWEEN and the order by job leave the planner only the index that begins with the job. With an equality it may scan
#: the runs of all jobs by time until it finds one of a job that seldom runs.
_JOBS = f"""
FROM jobs.jobs j
LEFT JOIN jobs.job_runs a ON a.job = j.name AND a.active AND a.part IS NULL
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
SELECT CAST(COALESCE(json_agg(status), '[]') AS text)
FROM (SELECT {_STATUS} {_JOBS} ORDER BY j.service, j.name) status
""")
_JOB = text(f"SELECT {_STATUS}, j.declared, j.overrides, j.parameters {_JOBS} WHERE j.name = :job")

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
