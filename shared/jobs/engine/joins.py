"""Joins whose rounds are over: runs that wait for their parents in vain are skipped, and say why.

A parent can still satisfy its edge while a run of it, or of a job before it in the graph, is unfinished in the round,
or while the slot of the round is not decided for one of them. If a retry satisfies the edge later, the join starts.

If nothing of the round leads to a parent, as for two jobs that people start one after the other, the join waits for the
next run of that parent, of whatever round.
"""

from collections import defaultdict
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
    """The state of the round of a join: unfinished jobs, those that have not decided the round's slot yet, and roots.

    A round begins with runs of its ``roots``.
    """

    unfinished: frozenset[str]
    undecided: frozenset[str]
    roots: frozenset[str]


def settle(uow: UnitOfWork, service: str) -> int:
    """Skip the waiting runs of the service whose parents cannot satisfy their edges, and return their number.

    A job skips one run at a time, so that skips for one reason can be one row. Runs that wait for a parent
    of another round become one, which starts when it has them all.
    """
    joins = uow.connection.execute(_OPEN, {"service": service, "most": MOST}).all()
    jobs = {row.name: row for row in uow.connection.execute(_JOBS)}
    after = {name: row.after for name, row in jobs.items()}
    rounds = _rounds(uow.connection, {join.round for join in joins}, jobs.values())
    hopeless, open_ended = {}, defaultdict(list)
    for join in joins:
        if waits_for_another_round(join, after, rounds[join.round]):
            open_ended[join.job].append(join)
        elif join.job not in hopeless and (why := why_hopeless(join, after, rounds[join.round])):
            hopeless[join.job] = (join, why)
    _unite(uow, [same_job for same_job in open_ended.values() if len(same_job) > 1])
    if hopeless:
        _skip(uow, list(hopeless.values()))
    return len(hopeless)


def _rounds(connection: Connection, names: set[str], jobs: Iterable[Any]) -> dict[str, Round]:
    unfinished: dict[str, set[str]] = {name: set() for name in names}
    for row in connection.execute(_UNFINISHED, {"rounds": list(names)}):
        unfinished[row.round].add(row.job)
    first = {row.id: row.job for row in connection.execute(_FIRST, {"rounds": list(names)})}
    scheduled = [job for job in jobs if job.scheduled]
    rounds = {}
    for name, active in unfinished.items():
        slot = slot_of(name)
        roots = {first.get(name, "")} if slot is None else {job.name for job in scheduled}
        undecided = {job.name for job in scheduled if slot and (job.due_at is None or job.due_at <= slot)}
        rounds[name] = Round(frozenset(active), frozenset(undecided), frozenset(roots))
    return rounds


def slot_of(round_name: str) -> datetime | None:
    """Return the slot of a round that a schedule began, and None for any other."""
    try:
        return datetime.fromisoformat(round_name)
    except ValueError:  # the id of a run
        return None


def _lost(join: Any, after: Mapping[str, object], state: Round) -> list[str]:
    """List the parents that have not satisfied their edges, and of which no run can come in the round."""
    missing = [parent for parent in join.parents if parent not in join.satisfied]
    lost = [parent for parent in missing if not ancestors(after, parent) & (state.unfinished | state.undecided)]
    return [] if join.any_parent and lost != missing else lost


def waits_for_another_round(join: Any, after: Mapping[str, object], state: Round) -> bool:
    """Tell whether all parents that the join lacks are ones that nothing of the round leads to."""
    lost = [] if join.any_parent else _lost(join, after, state)
    return bool(lost) and not any(
        parent in join.unsatisfied or ancestors(after, parent) & state.roots for parent in lost
    )


def why_hopeless(join: Any, after: Mapping[str, object], state: Round) -> str | None:
    """Say why the join cannot start any more, or return None if it can."""
    lost = _lost(join, after, state)
    return " and ".join(describe(parent, join.unsatisfied.get(parent)) for parent in lost)[:LONGEST_REASON] or None


def describe(parent: str, unsatisfied: str | None) -> str:
    """Say what a parent did that does not satisfy its edge. ``unsatisfied`` is its outcome, or its edge's condition."""
    if unsatisfied is None:
        return f"{parent} has no run in this round"
    if unsatisfied == "succeeded":
        return f"{parent} did not fail"
    return f"{parent} {_ENDED.get(unsatisfied, f'ended without {unsatisfied}')}"


def _unite(uow: UnitOfWork, joins: Sequence[Sequence[Any]]) -> None:
    """Put what the later joins of a job have into the first one, which waits longest, and remove the later runs."""
    if not joins:
        return
    ids = [join.run_id for same_job in joins for join in same_job]
    locked = set(uow.connection.execute(_LOCK, {"runs": ids}).scalars())
    for first, *later in joins:
        if all(join.run_id in locked for join in (first, *later)):  # the others are changed by somebody else now
            given = {"first": first.run_id, "later": [join.run_id for join in later], "latest": later[-1].opened_by}
            uow.connection.execute(_UNITE, {**given, "now": uow.now})


def _skip(uow: UnitOfWork, hopeless: Sequence[tuple[Any, str]]) -> None:
    given = {
        "runs": [join.run_id for join, _ in hopeless],
        "reasons": [why for _, why in hopeless],
        "now": uow.now,
    }
    skipped: list[UUID] = list(uow.connection.execute(_SKIP, given).scalars())
    uow.connection.execute(_GROW, {"ids": skipped, "now": uow.now})


_OPEN = text("""
SELECT job, round, run_id, parents, any_parent, satisfied, unsatisfied, opened_by FROM jobs.joins
WHERE service = :service AND started_by IS NULL AND skipped_at IS NULL
ORDER BY opened_at, job, round LIMIT :most
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
#: The run that a round is named after.
_FIRST = text("""
SELECT CAST(id AS text) AS id, job FROM jobs.job_runs WHERE id IN (
  SELECT CAST(name AS uuid) FROM unnest(CAST(:rounds AS text[])) AS name WHERE name ~ '^[0-9a-f-]{36}$')
""")
_LOCK = text("""
SELECT run_id FROM jobs.joins WHERE run_id = ANY(:runs) AND started_by IS NULL AND skipped_at IS NULL
FOR UPDATE SKIP LOCKED
""")
_UNITE = text("""
WITH gathered AS (
  SELECT COALESCE(jsonb_object_agg(each.key, each.value ORDER BY l.opened_at), '{}') AS satisfied
  FROM jobs.joins l, jsonb_each(l.satisfied) AS each WHERE l.run_id = ANY(:later)
), first AS (
  UPDATE jobs.joins k SET satisfied = k.satisfied || gathered.satisfied,
    started_by = CASE WHEN (k.satisfied || gathered.satisfied) ?& k.parents THEN CAST(:latest AS uuid) END
  FROM gathered WHERE k.run_id = :first
), later AS (
  UPDATE jobs.joins SET skipped_at = :now WHERE run_id = ANY(:later)
)
DELETE FROM jobs.job_runs WHERE id = ANY(:later) AND state = 'waiting'
""")
#: The jobs that follow a skipped run hear of it.
_SKIP = text(f"""
WITH given AS (
  SELECT * FROM unnest(CAST(:runs AS uuid[]), CAST(:reasons AS text[])) AS g (run_id, reason)
), closed AS (
  UPDATE jobs.joins k SET skipped_at = :now FROM given
  WHERE k.run_id = given.run_id AND k.started_by IS NULL AND k.skipped_at IS NULL
  RETURNING given.run_id, given.reason
), ended AS (
  UPDATE jobs.job_runs r SET state = 'finished', outcome = 'skipped', reason = closed.reason, finished_at = :now
  FROM closed WHERE r.id = closed.run_id AND r.state = 'waiting'
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
