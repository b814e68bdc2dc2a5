"""Removal of old rows of the bus and of the job engine. A service may add kinds of its own.

Each batch is its own transaction. A table is scanned once, from its beginning: each batch continues after the last row
of the previous batch, so deleted rows are not scanned again. No statement reads more than SPAN blocks, so none takes
long in a large table, and no index is needed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.run_context import Counts, RunContext

BATCH = 5_000
#: The latest runs of each job that are kept however old they are, so that a monthly job has a history.
LATEST_RUNS = 100
#: Blocks of 8 kB.
SPAN = 25_000


@dataclass(frozen=True)
class Keep:
    """Retention periods. Operators' actions, dead letters and unfinished runs are never removed."""

    #: A message that comes twice comes again within hours.
    inbox: timedelta = timedelta(days=7)
    #: A message follows its predecessor within ten minutes: shared/bus/outbox.py.
    outbox_heads: timedelta = timedelta(days=1)
    #: Runs that succeeded, were skipped or were canceled.
    job_runs: timedelta = timedelta(days=7)
    #: What the parents of a job did in a round. Until then a retry starts no follower twice.
    joins: timedelta = timedelta(days=7)
    #: Runs that failed or were lost. Parts go with the run that they belong to.
    failed_runs: timedelta = timedelta(days=90)
    system_log: timedelta = timedelta(days=30)
    workers: timedelta = timedelta(days=7)


@dataclass(frozen=True)
class OldRows:
    """The rows of a table that meet a condition, which may use ``:before``, the time ``keep`` ago, and ``:service``."""

    table: str
    condition: str
    keep: timedelta


def prune(run: RunContext, keep: Keep = Keep()) -> Counts:
    """Remove the old rows of the run's service, and count them by table. Raises what ``run.progress`` raises."""
    return remove(run.context, engine_rows(run.context.service, keep), run.progress)


def engine_rows(service: str, keep: Keep) -> tuple[OldRows, ...]:
    """List the old rows of the bus and of the job engine for a service."""
    of_service = "service = :service AND"
    return (
        OldRows(f"{service}.inbox", "processed_at < :before", keep.inbox),
        OldRows(f"{service}.outbox_heads", "sent_at < :before", keep.outbox_heads),
        OldRows("jobs.job_runs", f"{of_service} {_PASSED} AND {_OLD_RUN}", keep.job_runs),
        OldRows("jobs.job_runs", f"{of_service} NOT {_PASSED} AND {_OLD_RUN}", keep.failed_runs),
        OldRows("jobs.job_runs", f"{of_service} {_ORPHAN}", keep.job_runs),
        OldRows("jobs.joins", f"{of_service} {_CLOSED} AND opened_at < :before", keep.joins),
        OldRows("jobs.system_log", f"{of_service} at < :before", keep.system_log),
        OldRows("jobs.workers", f"{of_service} heartbeat_at < :before", keep.workers),
    )


def remove(
    context: ServiceContext, kinds: Iterable[OldRows], progress: Callable[[int], None] = lambda _: None
) -> dict[str, int]:
    """Delete the rows in batches, and count them by table: ``{"inbox_removed": 5000}``.

    ``progress`` is called after each batch with the number of rows removed so far.
    """
    removed: dict[str, int] = {}
    for rows in kinds:
        name = f"{rows.table.partition('.')[2]}_removed"
        removed.setdefault(name, 0)
        for number in _remove_in_batches(context, rows):
            removed[name] += number
            progress(sum(removed.values()))
    return removed


def _remove_in_batches(context: ServiceContext, rows: OldRows) -> Iterator[int]:
    statement = text(_REMOVE.format(table=rows.table, condition=rows.condition))
    values = {"before": context.clock() - rows.keep, "service": context.service, "batch": BATCH}
    with context.engine.begin() as connection:
        blocks = connection.execute(_BLOCKS, {"table": rows.table}).scalar_one()
    for block in range(0, blocks, SPAN):
        position, found = f"({block},0)", BATCH
        while found == BATCH:
            with context.engine.begin() as connection:
                batch = connection.execute(
                    statement, {**values, "position": position, "end": f"({block + SPAN},0)"}
                ).one()
            position, found = batch.position, batch.found
            yield batch.removed


_PASSED = "outcome IN ('succeeded', 'skipped', 'canceled')"
#: A finished run of a job that has at least LATEST_RUNS later ones. The subselect has no reference to the run's row, so
#: each statement evaluates it once. The runs of a removed job are all old.
_OLD_RUN = f"""
part IS NULL AND finished_at < :before AND queued_at < COALESCE(CAST((
  SELECT jsonb_object_agg(j.name, COALESCE((
    SELECT r.queued_at FROM jobs.job_runs r WHERE r.job = j.name AND r.part IS NULL
    ORDER BY r.queued_at DESC, r.id DESC OFFSET {LATEST_RUNS - 1} LIMIT 1), '-infinity'))
  FROM jobs.jobs j WHERE j.service = :service) ->> job AS timestamptz), 'infinity')
"""
#: A part whose run was removed. A retry of one part reads the others, so all parts stay as long as their run.
_ORPHAN = """
part IS NOT NULL AND finished_at < :before
AND NOT EXISTS (SELECT FROM jobs.job_runs whole WHERE whole.id = job_runs.parent_run_id)
"""
_CLOSED = "(started_by IS NOT NULL OR skipped_at IS NOT NULL)"
_BLOCKS = text("""
SELECT pg_relation_size(CAST(:table AS regclass)) / CAST(current_setting('block_size') AS bigint) AS blocks
""")
#: The condition is tested again before the deletion, in case the row was changed meanwhile.
_REMOVE = """
WITH old AS (
  SELECT ctid FROM {table}
  WHERE ctid > CAST(:position AS tid) AND ctid < CAST(:end AS tid) AND {condition} LIMIT :batch
), removed AS (
  DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) AND {condition} RETURNING 1
)
SELECT count(*) AS found, CAST(max(ctid) AS text) AS position, (SELECT count(*) FROM removed) AS removed FROM old
"""
