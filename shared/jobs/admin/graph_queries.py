"""The graph of jobs: who follows whom on which condition, and the latest run of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from shared.jobs.edges import edges_of


@dataclass(frozen=True)
class Follows:
    """An edge of the graph: ``job`` follows ``parent`` if its run has the outcome and meets the condition."""

    parent: str
    job: str
    outcome: str
    when: str | None


@dataclass(frozen=True)
class Graph:
    """All jobs and their edges. Jobs that are followed but not declared are ``missing``."""

    jobs: Sequence[Mapping[str, Any]]
    edges: Sequence[Follows]
    missing: Sequence[str]


def graph(connection: Connection) -> Graph:
    """Read the graph, the jobs by service and name."""
    jobs = [dict(row._mapping) for row in connection.execute(_JOBS)]  # noqa: SLF001 - SQLAlchemy's public name for it
    edges = [
        Follows(edge.job, job["name"], edge.outcome, edge.when) for job in jobs for edge in edges_of(job["settings"])
    ]
    known = {job["name"] for job in jobs}
    return Graph(jobs, edges, sorted({edge.parent for edge in edges} - known))


#: BETWEEN and the order by job leave the planner only the index that begins with the job.
_JOBS = text("""
SELECT j.name, j.service, j.description, CAST(j.settings ->> 'enabled' AS boolean) AS enabled, j.retired_at,
       j.settings ->> 'schedule' AS schedule, COALESCE(j.settings ->> 'join', 'all') AS "join", j.settings,
       latest.run AS last_run
FROM jobs.jobs j
LEFT JOIN LATERAL (
  SELECT to_json(run) AS run FROM (
    SELECT id, trigger, state, outcome, reason, round, queued_at, started_at, finished_at
    FROM jobs.job_runs r WHERE r.job BETWEEN j.name AND j.name AND r.part IS NULL
    ORDER BY r.job, r.queued_at DESC, r.id DESC LIMIT 1
  ) run
) latest ON true
ORDER BY j.service, j.name
""")
