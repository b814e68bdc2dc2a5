"""Removing rows that nobody needs any more, of the bus and of the job engine; a service may add kinds of its own.

Each batch is a transaction of its own. A table is gone through once, from its beginning: a batch goes on behind the
last row of the one before, so that what was just deleted is not looked at again; and no statement reads more than SPAN
blocks, so that none takes long in a large table, which needs no index for it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.run_context import Counts, RunContext

BATCH = 5_000
#: Blocks of 8 kB.
SPAN = 25_000


@dataclass(frozen=True)
class Keep:
    """For how long rows are kept. What operators did, dead letters and unfinished runs stay."""

    inbox: timedelta = timedelta(days=14)
    #: Messages follow each other within ten minutes: shared/bus/outbox.py.
    outbox_heads: timedelta = timedelta(days=1)
    job_runs: timedelta = timedelta(days=90)
    system_log: timedelta = timedelta(days=30)
    notifications: timedelta = timedelta(days=90)
    workers: timedelta = timedelta(days=7)


@dataclass(frozen=True)
class OldRows:
    """The rows of a table for which the condition holds; it may name ``:before``, which ``keep`` goes back to, and
    ``:service``.
    """

    table: str
    condition: str
    keep: timedelta


def prune(run: RunContext, keep: Keep = Keep()) -> Counts:
    """Remove the old rows of the run's service; table by table, how many they were."""
    return remove(run.context, engine_rows(run.context.service, keep), run.progress)


def engine_rows(service: str, keep: Keep) -> tuple[OldRows, ...]:
    """What the bus and the job engine keep for a service."""
    of_service = "service = :service AND"
    return (
        OldRows(f"{service}.inbox", "processed_at < :before", keep.inbox),
        OldRows(f"{service}.outbox_heads", "sent_at < :before", keep.outbox_heads),
        OldRows("jobs.job_runs", f"{of_service} state = 'finished' AND finished_at < :before", keep.job_runs),
        OldRows("jobs.system_log", f"{of_service} at < :before", keep.system_log),
        OldRows("jobs.notifications", "resolved_at < :before", keep.notifications),
        OldRows("jobs.workers", f"{of_service} heartbeat_at < :before", keep.workers),
    )


def remove(
    context: ServiceContext, kinds: Iterable[OldRows], progress: Callable[[int], None] = lambda _: None
) -> dict[str, int]:
    """Delete the rows, batch by batch; ``{"inbox_removed": 5000}``. ``progress`` is given how many they are so far."""
    removed: dict[str, int] = {}
    for rows in kinds:
        name = f"{rows.table.partition('.')[2]}_removed"
        removed[name] = 0
        for number in _batches(context, rows):
            removed[name] += number
            progress(sum(removed.values()))
    return removed


def _batches(context: ServiceContext, rows: OldRows) -> Iterator[int]:
    values = {"before": context.clock() - rows.keep, "service": context.service, "batch": BATCH}
    for block in range(0, _blocks(context, rows.table), SPAN):
        place, found = f"({block},0)", BATCH
        while found == BATCH:
            batch = _remove_batch(context, rows, {**values, "place": place, "end": f"({block + SPAN},0)"})
            place, found = batch.place, batch.found
            yield batch.removed


def _blocks(context: ServiceContext, table: str) -> int:
    with context.engine.begin() as connection:
        blocks: int = connection.execute(_BLOCKS, {"table": table}).scalar_one()
    return blocks


def _remove_batch(context: ServiceContext, rows: OldRows, values: Mapping[str, object]) -> Row[Any]:
    """Delete the next rows behind a place in the table: how many were found, the place of the last, how many went."""
    statement = text(_REMOVE.format(table=rows.table, condition=rows.condition))
    with context.engine.begin() as connection:
        return connection.execute(statement, values).one()


_BLOCKS = text("""
SELECT pg_relation_size(CAST(:table AS regclass)) / CAST(current_setting('block_size') AS bigint) AS blocks
""")
#: The condition stands twice: a row that was changed meanwhile is looked at again before it is deleted.
_REMOVE = """
WITH old AS (
  SELECT ctid FROM {table}
  WHERE ctid > CAST(:place AS tid) AND ctid < CAST(:end AS tid) AND {condition} LIMIT :batch
), removed AS (
  DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) AND {condition} RETURNING 1
)
SELECT count(*) AS found, CAST(max(ctid) AS text) AS place, (SELECT count(*) FROM removed) AS removed FROM old
"""
