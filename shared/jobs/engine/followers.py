"""The runs that follow a run: part of the statement that ends it, so both happen or neither.

A job that follows one job by its name has a run for each run that it follows. A job with a list of edges is joined once
a round. Its row in ``jobs.joins`` has what each parent did in the round. Parents that end at the same moment change
that row one after the other, and the one that satisfies the last edge starts the run. The run is made by the first
parent that ends, and waits until then.

A scheduled run belongs to the round of its slot. Any other run that follows none begins a round. Chained runs and
retries belong to the round of the run before them.
"""

from shared.jobs.schedule.planning import FULL
from shared.jobs.settings import MAX_WAITING

_ROUND = """COALESCE({run}.round, CASE {run}.trigger
  WHEN 'schedule' THEN to_char({run}.scheduled_for AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
  ELSE CAST({run}.id AS text) END)"""


def round_of(run: str) -> str:
    """Return the SQL expression of the round that a run belongs to. ``run`` is the alias of its row."""
    return _ROUND.format(run=run)


def ended_columns(run: str) -> str:
    """Return the columns that ``ended`` must have. ``run`` is the alias of a row of ``jobs.job_runs``."""
    names = ("id", "job", "service", "outcome", "part", "priority", "traceparent", "counts")
    return f"{', '.join(f'{run}.{name}' for name in names)}, {round_of(run)} AS round"


#: A finished run has succeeded, failed or been lost, and a lost run counts as failed.
_OUTCOME_HOLDS = """CASE {wanted}
    WHEN 'succeeded' THEN ended.outcome = 'succeeded'
    WHEN 'failed' THEN ended.outcome IN ('failed', 'lost')
    ELSE ended.outcome IN ('succeeded', 'failed', 'lost') END"""
#: The written form of a condition has three words: shared/jobs/edges.py. A run that lacks the count does not meet it.
_CONDITION_HOLDS = """CASE
    WHEN edge ->> 'when' IS NULL THEN true
    WHEN edge ->> 'when' !~ '^[A-Za-z0-9_]+ (>|>=|<|<=|==|!=) -?[0-9]{1,19}$' THEN false
    ELSE COALESCE((
      SELECT CASE split_part(edge ->> 'when', ' ', 2)
        WHEN '>' THEN counted > number WHEN '>=' THEN counted >= number
        WHEN '<' THEN counted < number WHEN '<=' THEN counted <= number
        WHEN '==' THEN counted = number ELSE counted <> number END
      FROM (SELECT ended.counts -> split_part(edge ->> 'when', ' ', 1) AS counted,
                   to_jsonb(CAST(split_part(edge ->> 'when', ' ', 3) AS numeric)) AS number) AS compared), false) END"""


def _complete(satisfied: str) -> str:
    return (
        f"CASE WHEN excluded.any_parent THEN {satisfied} ?| excluded.parents ELSE {satisfied} ?& excluded.parents END"
    )


_MERGED = "(known.satisfied || excluded.satisfied)"
#: A join that was skipped begins again if a retry satisfies its last edge after all.
_BEGINS_AGAIN = f"known.skipped_at IS NOT NULL AND known.started_by IS NULL AND {_complete(_MERGED)}"
#: Expressions of a statement whose ``ended`` has the runs that have just ended. ``following`` has the services whose
#: runs may be sent now. Parts start no followers. If MAX_WAITING runs of a follower are unfinished, another one is
#: skipped. The order of the rows keeps two such statements from a deadlock.
FOLLOWERS = f"""
edges AS (
  SELECT j.name AS job, j.service, j.settings, ended.id, ended.job AS parent, ended.round,
         CASE WHEN NOT {_OUTCOME_HOLDS.format(wanted="edge ->> 'outcome'")} THEN ended.outcome
              WHEN NOT {_CONDITION_HOLDS} THEN edge ->> 'when' END AS unsatisfied
  FROM ended
  JOIN jobs.jobs j ON jsonb_typeof(j.settings -> 'after') = 'array'
    AND j.settings -> 'after' @> jsonb_build_array(jsonb_build_object('job', ended.job))
  CROSS JOIN LATERAL jsonb_array_elements(j.settings -> 'after') AS edge
  WHERE edge ->> 'job' = ended.job AND ended.part IS NULL AND ended.outcome IS NOT NULL
    AND CAST(j.settings ->> 'enabled' AS boolean) AND j.retired_at IS NULL
), arrived AS (
  INSERT INTO jobs.joins AS known (job, service, round, run_id, parents, any_parent, satisfied, unsatisfied, opened_by,
                                   opened_at, started_by)
  SELECT job, service, round, gen_random_uuid(), parents, any_parent, satisfied, unsatisfied, opened_by, :now,
         CASE WHEN CASE WHEN any_parent THEN satisfied ?| parents ELSE satisfied ?& parents END THEN opened_by END
  FROM (
    SELECT edges.job, edges.service, edges.round, (array_agg(edges.id))[1] AS opened_by,
           ARRAY(SELECT each ->> 'job' FROM jsonb_array_elements(edges.settings -> 'after') AS each) AS parents,
           COALESCE(edges.settings ->> 'join' = 'any', false) AS any_parent,
           COALESCE(jsonb_object_agg(edges.parent, edges.id) FILTER (WHERE edges.unsatisfied IS NULL), '{{}}')
             AS satisfied,
           COALESCE(jsonb_object_agg(edges.parent, edges.unsatisfied) FILTER (WHERE edges.unsatisfied IS NOT NULL),
                    '{{}}') AS unsatisfied
    FROM edges GROUP BY edges.job, edges.service, edges.round, edges.settings
  ) AS each
  ORDER BY job, round
  ON CONFLICT (job, round) DO UPDATE SET
    satisfied = {_MERGED}, unsatisfied = known.unsatisfied || excluded.unsatisfied,
    parents = excluded.parents, any_parent = excluded.any_parent,
    started_by = CASE WHEN known.started_by IS NULL THEN CASE WHEN {_complete(_MERGED)} THEN excluded.opened_by END
                      ELSE known.started_by END,
    run_id = CASE WHEN {_BEGINS_AGAIN} THEN excluded.run_id ELSE known.run_id END,
    opened_by = CASE WHEN {_BEGINS_AGAIN} THEN excluded.opened_by ELSE known.opened_by END,
    skipped_at = CASE WHEN {_BEGINS_AGAIN} THEN NULL ELSE known.skipped_at END
  RETURNING job, service, round, run_id, opened_by, started_by
), chained AS (
  INSERT INTO jobs.job_runs (id, job, service, trigger, parent_run_id, priority, queued_at, traceparent, round,
                             state, outcome, reason, finished_at)
  SELECT follower.*, CASE WHEN full_up THEN 'finished' ELSE 'waiting' END, CASE WHEN full_up THEN 'skipped' END,
         CASE WHEN full_up THEN '{FULL}' END, CASE WHEN full_up THEN CAST(:now AS timestamptz) END
  FROM (
    SELECT gen_random_uuid() AS id, j.name AS job, j.service, 'chain', ended.id AS parent, ended.priority,
           CAST(:now AS timestamptz), ended.traceparent, ended.round
    FROM ended JOIN jobs.jobs j ON j.settings ->> 'after' = ended.job
    WHERE ended.part IS NULL AND CAST(j.settings ->> 'enabled' AS boolean) AND j.retired_at IS NULL
      AND {_OUTCOME_HOLDS.format(wanted="j.settings ->> 'after_outcome'")}
    UNION ALL
    SELECT arrived.run_id, arrived.job, arrived.service, 'chain', ended.id, ended.priority,
           CAST(:now AS timestamptz), ended.traceparent, arrived.round
    FROM arrived JOIN ended ON ended.id = arrived.opened_by
  ) AS follower CROSS JOIN LATERAL (
    SELECT count(*) >= {MAX_WAITING} AS full_up FROM jobs.job_runs w
    WHERE w.job = follower.job AND w.active IS NOT NULL AND w.part IS NULL
  ) AS backlog
  RETURNING service
), following AS (
  SELECT service FROM chained
  UNION ALL SELECT arrived.service FROM arrived JOIN ended ON ended.id = arrived.started_by
)
"""
#: True of a run of a join that still waits for its parents. ``{run}`` is the alias of its row.
HELD = """({run}.round IS NOT NULL AND EXISTS (
  SELECT FROM jobs.joins k WHERE k.run_id = {run}.id AND k.started_by IS NULL))"""
