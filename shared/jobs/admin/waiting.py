"""Why a run or a job has not begun: for what it waits, in a sentence and as a code. Computed when somebody asks.

Code            For what it waits
retired         no replica declares the job
disabled        an operator has disabled the job
market_closed   the market is closed, and the job runs in market hours only
slot            the next slot of the schedule
request         somebody: neither a schedule nor another job starts it
parent          the jobs that it follows
retry           the time of the next try
breaker         the next attempt of an open circuit breaker
rate_limit      the time of the next call that a rate limit allows
queue_paused    an operator, who has paused the queue
run_before      another run of the same job
no_worker       a worker process: none is alive
worker          a free worker
parts           its parts, which are in progress
scheduler       the next tick of a scheduler of the service
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, text

from shared.jobs.edges import edges_of
from shared.jobs.engine.followers import round_of
from shared.jobs.engine.joins import describe
from shared.storage.keyset import Record, record, records

Code = Literal[
    "retired", "disabled", "market_closed", "slot", "request", "parent", "retry", "breaker", "rate_limit",
    "queue_paused", "run_before", "no_worker", "worker", "parts", "scheduler",
]  # fmt: skip
#: A process without a heartbeat for this long is not alive, by PostgreSQL's clock.
ALIVE = timedelta(seconds=15)
#: A slot that passed so long ago should have been claimed.
OVERDUE = timedelta(seconds=5)
#: How the states of a run read in a sentence.
_WORDS = {"queued": "waits for a worker", "joining": "waits for its parts", "running": "runs", "waiting": "waits"}


@dataclass(frozen=True)
class Waited:
    """A run that is waited for. If it has not been made yet, its id is None and its state ``none``."""

    job: str
    state: str
    run_id: UUID | None = None


@dataclass(frozen=True)
class Waiting:
    """For what a run or a job waits, and until when if that is known."""

    code: Code
    message: str
    until: datetime | None = None
    runs: Sequence[Waited] = ()


def of_run(connection: Connection, run_id: UUID, now: datetime) -> Waiting | None:
    """Say why the run has not begun or not ended, or return None if it is in progress or has ended."""
    row = connection.execute(_RUN, {"id": run_id, "alive": ALIVE}).first()
    if row is None or row.state in {"running", "finished"}:
        return None
    if row.retired_at is not None:
        return _for_a_declaration(row.retired_at)
    if row.state == "joining":
        return Waiting("parts", f"waits for its parts: {row.done or 0} of {row.parts} have ended")
    if row.parents is not None and row.state == "waiting":
        given = {"parents": [name for name in row.parents if name not in row.satisfied], "round": row.round}
        return _for_parents(row, records(connection, _PARENTS, **given))
    return explain_run(record(row), now)


def _for_a_declaration(retired_at: datetime) -> Waiting:
    return Waiting("retired", f"no replica declares the job since {retired_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")


def explain_run(run: Mapping[str, Any], now: datetime) -> Waiting:
    """Say for what a queued or waiting run waits, other than its parents."""
    if run["state"] == "waiting" and run["not_before"] is not None and run["not_before"] > now:
        return _for_its_time(run)
    if run["paused"]:
        return Waiting("queue_paused", f"the queue {run['queue']} is paused; resume it to let its runs begin")
    if run["state"] == "queued":
        return _for_a_worker(run)
    if run["active_id"] is not None:
        before = Waited(run["job"], run["active_state"], run["active_id"])
        return Waiting("run_before", f"waits for the run before it, which {_WORDS[before.state]}", runs=[before])
    if run["waiting_before"]:
        return Waiting("run_before", f"waits for {run['waiting_before']} runs of {run['job']} that go before it")
    return Waiting("scheduler", f"waits for the next tick of a scheduler of {run['service']}")


def _for_a_worker(run: Mapping[str, Any]) -> Waiting:
    """The message of a queued run is in the queue of its service."""
    if not run["workers"]:
        return Waiting("no_worker", f"no worker process of {run['service']} is alive; start one")
    ahead = f"{run['queued_before']} runs of {run['service']} were queued before it"
    return Waiting("worker", f"waits for a free worker: {ahead}, and {run['workers']} worker processes are alive")


def _for_its_time(run: Mapping[str, Any]) -> Waiting:
    """A run waits for a time after a failed try, or until a dependency may be called again."""
    until = run["not_before"]
    reason = run["reason"] or ""
    if run["error_kind"] == "rate_limited":
        return Waiting("rate_limit", f"waits until {until:%H:%M:%S} UTC for a rate limit: {reason}", until)
    if run["error_kind"] is None or "BreakerOpen" in reason:
        return Waiting("breaker", f"waits until {until:%H:%M:%S} UTC for an open circuit breaker: {reason}", until)
    return Waiting("retry", f"waits until {until:%H:%M:%S} UTC for its next try; it failed with {reason}", until)


def _for_parents(join: Any, found: Sequence[Record]) -> Waiting:
    words, runs = [], []
    for parent in found:
        runs.append(Waited(parent["job"], parent["state"] or "none", parent["id"]))
        if parent["state"]:
            words.append(f"{parent['job']}, whose run {_WORDS[parent['state']]}")
        elif parent["job"] in join.unsatisfied:
            words.append(f"{parent['job']}: {describe(parent['job'], join.unsatisfied[parent['job']])}")
        else:
            words.append(f"{parent['job']}, which has no run in this round yet")
    any_of = "any of " if join.any_parent and len(words) > 1 else ""
    return Waiting("parent", f"waits for {any_of}{'; '.join(words)}", runs=runs)


def of_job(connection: Connection, name: str, now: datetime, *, open_markets: Sequence[str]) -> Waiting | None:
    """Say for what the next run of the job waits, or return None if a run is in progress or there is no such job."""
    row = connection.execute(_JOB, {"job": name, "open_markets": list(open_markets)}).first()
    if row is None or row.active_state == "running":
        return None
    unfinished = row.active_id or row.waiting_id
    if unfinished is not None:
        return of_run(connection, unfinished, now)
    if parents := [edge.job for edge in edges_of(row.settings)]:
        given = {"parents": parents, "round": None}
        return explain_job(record(row), now, records(connection, _PARENTS, **given))
    return explain_job(record(row), now, [])


def explain_job(job: Mapping[str, Any], now: datetime, parents: Sequence[Record]) -> Waiting:
    """Say for what a job without unfinished runs waits. ``parents`` are unfinished runs of the jobs that it follows."""
    if job["retired_at"] is not None:
        return _for_a_declaration(job["retired_at"])
    if not job["enabled"]:
        return Waiting("disabled", "the job is disabled; it runs only on request")
    if job["settings"]["schedule"] != "off" or job["settings"]["phases"]:
        return _for_its_slot(job, now)
    if not parents:
        return Waiting("request", "neither a schedule nor another job starts it; it runs only on request")
    runs = [Waited(parent["job"], parent["state"] or "none", parent["id"]) for parent in parents]
    words = [f"{run.job} ({_WORDS[run.state] if run.run_id else 'no run of it is in progress'})" for run in runs]
    return Waiting("parent", f"follows {', '.join(words)}", runs=runs)


def _for_its_slot(job: Mapping[str, Any], now: datetime) -> Waiting:
    """A job waits for its schedule."""
    slot = job["next_slot"]
    if slot is not None and slot < now - OVERDUE:
        return Waiting("scheduler", f"its slot of {slot:%H:%M:%S} UTC waits for a scheduler of {job['service']}", slot)
    at = f"at {slot:%Y-%m-%d %H:%M:%S} UTC" if slot else "not known yet"
    if job["settings"]["market_hours_only"] and not job["market_open"]:
        return Waiting("market_closed", f"the market {job['market']} is closed; the next slot is {at}", slot)
    return Waiting("slot", f"waits for its next slot, which is {at}", slot)


#: The order of a job's runs is that of shared.jobs.engine.dispatch.
_RUN = text(f"""
SELECT r.id, r.job, r.service, r.state, r.not_before, r.error_kind, r.reason, r.done, r.parts, {round_of("r")} AS round,
  (SELECT j.retired_at FROM jobs.jobs j WHERE j.name = r.job) AS retired_at,
  k.parents, k.any_parent, k.satisfied, k.unsatisfied, r.service || '.jobs' AS queue,
  EXISTS (SELECT FROM jobs.queue_controls c WHERE c.queue = r.service || '.jobs' AND c.paused) AS paused,
  (SELECT count(*) FROM jobs.workers w WHERE w.service = r.service AND w.kind = 'worker' AND w.stopped_at IS NULL
     AND w.heartbeat_at > now() - CAST(:alive AS interval)) AS workers,
  (SELECT count(*) FROM jobs.job_runs q WHERE q.service = r.service AND q.active AND q.state = 'queued'
     AND q.sent_at < r.sent_at) AS queued_before,
  a.id AS active_id, a.state AS active_state,
  (SELECT count(*) FROM jobs.job_runs o WHERE o.job = r.job AND NOT o.active AND o.part IS NULL AND o.id <> r.id
     AND (o.not_before IS NULL) AND NOT EXISTS (
       SELECT FROM jobs.joins h WHERE h.run_id = o.id AND h.started_by IS NULL)
     AND (o.trigger = 'backfill', -o.priority, o.queued_at, COALESCE(o.scheduled_for, 'infinity'), o.id)
       < (r.trigger = 'backfill', -r.priority, r.queued_at, COALESCE(r.scheduled_for, 'infinity'), r.id)
  ) AS waiting_before
FROM jobs.job_runs r
LEFT JOIN jobs.joins k ON k.run_id = r.id AND k.started_by IS NULL
LEFT JOIN jobs.job_runs a ON a.job = r.job AND a.active AND a.part IS NULL AND a.id <> r.id AND r.part IS NULL
WHERE r.id = :id
""")
#: The unfinished run of each parent in the round, or in any round.
_PARENTS = text(f"""
SELECT p.job, r.id, r.state FROM unnest(CAST(:parents AS text[])) WITH ORDINALITY AS p (job, number)
LEFT JOIN LATERAL (
  SELECT r.id, r.state FROM jobs.job_runs r
  WHERE r.job = p.job AND r.active IS NOT NULL AND r.part IS NULL
    AND (CAST(:round AS text) IS NULL OR {round_of("r")} = :round)
  ORDER BY r.active DESC, r.queued_at LIMIT 1
) AS r ON true
ORDER BY p.number
""")
_JOB = text("""
SELECT j.name, j.service, j.settings, j.retired_at, CAST(j.settings ->> 'enabled' AS boolean) AS enabled,
  j.next_slot, j.settings ->> 'market' AS market,
  j.settings ->> 'market' = ANY(CAST(:open_markets AS text[])) AS market_open,
  a.id AS active_id, a.state AS active_state,
  (SELECT w.id FROM jobs.job_runs w WHERE w.job = j.name AND NOT w.active AND w.part IS NULL
   ORDER BY w.trigger = 'backfill', w.priority DESC, w.queued_at, w.scheduled_for, w.id LIMIT 1) AS waiting_id
FROM jobs.jobs j LEFT JOIN jobs.job_runs a ON a.job = j.name AND a.active AND a.part IS NULL
WHERE j.name = :job
""")
