"""Joins that cannot start any more: a run that waits for its parents in vain is skipped, and says why.

A parent can still satisfy its edge while a run of it, or of a job before it in the graph, is unfinished in the round,
or while the slot of the round is not decided for one of them. If a retry satisfies the edge later, the join starts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.bus.unit_of_work import UnitOfWork
from shared.jobs.edges import ancestors
from shared.jobs.engine.followers import FOLLOWERS, ended_columns, round_of

#: The joins that one tick looks at.
MOST = 1000
LONGEST_REASON = 500
#: How a parent is described that has this outcome and does not satisfy its edge.
_ENDED = {"failed": "failed", "lost": "was lost", "canceled": "was canceled", "skipped": "was skipped"}


@dataclass(frozen=True)
class Round:
    """The state of the round of a join: unfinished jobs, and those that have not decided the round's slot yet."""

    unfinished: frozenset[str]
    undecided: frozenset[str]


def skip_hopeless(uow: UnitOfWork, service: str) -> int:
    """Skip the waiting runs of the service whose parents cannot satisfy their edges, and return their number.

    Of each job one run is skipped at a time, so that skips for one reason can be one row.
    """
    joins = uow.connection.execute(_OPEN, {"service": service, "most": MOST}).all()
    if not joins:
        return 0
    jobs = {row.name: row for row in uow.connection.execute(_JOBS)}
    after = {name: row.after for name, row in jobs.items()}
    rounds = _rounds(uow.connection, {join.round for join in joins}, jobs.values())
    hopeless = {}
    for join in joins:
        why = why_hopeless(join, after, rounds[join.round])
        if why is not None and join.job not in hopeless:
            hopeless[join.job] = (join, why)
    if hopeless:
        _skip(uow, list(hopeless.values()))
    return len(hopeless)


def _rounds(connection: Connection, names: Iterable[str], jobs: Iterable[Any]) -> dict[str, Round]:
    unfinished: dict[str, set[str]] = {name: set() for name in names}
    for row in connection.execute(_UNFINISHED, {"rounds": list(unfinished)}):
        unfinished[row.round].add(row.job)
    scheduled = [job for job in jobs if job.scheduled]
    return {
        name: Round(frozenset(active), frozenset(job.name for job in scheduled if _decides_later(job, slot_of(name))))
        for name, active in unfinished.items()
    }


def slot_of(round_name: str) -> datetime | None:
    """Return the slot of a round that a schedule began, and None for any other."""
    try:
        return datetime.fromisoformat(round_name)
    except ValueError:  # the id of a run
        return None


def _decides_later(job: Any, slot: datetime | None) -> bool:
    return slot is not None and (job.due_at is None or job.due_at <= slot)


def why_hopeless(join: Any, after: Mapping[str, object], state: Round) -> str | None:
    """Say why the join cannot start any more, or return None if it can."""
    missing = [parent for parent in join.parents if parent not in join.satisfied]
    lost = [parent for parent in missing if not ancestors(after, parent) & (state.unfinished | state.undecided)]
    if not lost or (join.any_parent and lost != missing):
        return None
    return " and ".join(describe(parent, join.unsatisfied.get(parent)) for parent in lost)[:LONGEST_REASON]


def describe(parent: str, unsatisfied: str | None) -> str:
    """Say what a parent did that does not satisfy its edge. ``unsatisfied`` is its outcome, or its edge's condition."""
    if unsatisfied is None:
        return f"{parent} has no run in this round"
    if unsatisfied == "succeeded":
        return f"{parent} did not fail"
    return f"{parent} {_ENDED.get(unsatisfied, f'ended without {unsatisfied}')}"


def _skip(uow: UnitOfWork, hopeless: Sequence[tuple[Any, str]]) -> None:
    given = {
        "runs": [join.run_id for join, _ in hopeless],
        "reasons": [why for _, why in hopeless],
        "now": uow.now,
    }
    skipped: list[UUID] = list(uow.connection.execute(_SKIP, given).scalars())
    uow.connection.execute(_GROW, {"ids": skipped, "now": uow.now})


_OPEN = text("""
SELECT job, round, run_id, parents, any_parent, satisfied, unsatisfied FROM jobs.joins
WHERE service = :service AND started_by IS NULL AND skipped_at IS NULL
ORDER BY opened_at, job, round LIMIT :most FOR UPDATE SKIP LOCKED
""")
#: A job that nobody declares any more has no slots.
_JOBS = text("""
SELECT name, settings -> 'after' AS after, due_at,
       CAST(settings ->> 'enabled' AS boolean) AND retired_at IS NULL
         AND (settings ->> 'schedule' <> 'off' OR settings -> 'phases' <> '{}') AS scheduled
FROM jobs.jobs
""")
_UNFINISHED = text(f"""
SELECT DISTINCT job, round FROM (
  SELECT r.job, {round_of("r")} AS round FROM jobs.job_runs r WHERE r.active IS NOT NULL AND r.part IS NULL
) AS unfinished WHERE round = ANY(:rounds)
""")
#: The jobs that follow a skipped run hear of it.
_SKIP = text(f"""
WITH given AS (
  SELECT * FROM unnest(CAST(:runs AS uuid[]), CAST(:reasons AS text[])) AS g (run_id, reason)
), closed AS (
  UPDATE jobs.joins k SET skipped_at = :now FROM given WHERE k.run_id = given.run_id AND k.started_by IS NULL
), ended AS (
  UPDATE jobs.job_runs r SET state = 'finished', outcome = 'skipped', reason = given.reason, finished_at = :now
  FROM given WHERE r.id = given.run_id AND r.state = 'waiting'
  RETURNING {ended_columns("r")}
), {FOLLOWERS}
SELECT id FROM ended
""")
#: A skip joins the row of the one before it if both have the same reason and nothing follows it.
_GROW = text("""
WITH skipped AS (
  SELECT r.id, earlier.id AS earlier FROM jobs.job_runs r, LATERAL (
    SELECT e.id, e.outcome, e.reason FROM jobs.job_runs e
    WHERE e.job = r.job AND e.part IS NULL AND e.id <> r.id AND e.queued_at <= r.queued_at
    ORDER BY e.queued_at DESC, e.id DESC LIMIT 1
  ) AS earlier
  WHERE r.id = ANY(:ids) AND earlier.outcome = 'skipped' AND earlier.reason = r.reason
    AND NOT EXISTS (SELECT FROM jobs.job_runs f WHERE f.parent_run_id = r.id)
), grown AS (
  UPDATE jobs.job_runs r SET slots = r.slots + 1, last_slot = :now, finished_at = :now
  FROM skipped WHERE r.id = skipped.earlier
)
DELETE FROM jobs.job_runs WHERE id IN (SELECT id FROM skipped)
""")
