"""Queries on the log, alerts, operators' actions, workers and paused queues."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from shared.storage.keyset import Keyset, Record, records

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def log_lines(
    connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
) -> list[Record]:
    """Read a page of the services' log, the newest line first.

    The filter ``level`` means that level and above. ``q`` is searched for in the message.
    """
    wanted = dict(filters)
    if "level" in wanted:
        wanted["level"] = list(LEVELS[LEVELS.index(wanted["level"]) :])
    return _LOG.page(connection, wanted, after=after, limit=limit)


def log_of_run(connection: Connection, run_id: object, limit: int) -> list[Record]:
    """Read the first log lines of a run, in their order."""
    return records(connection, _LOG_OF_RUN, run_id=run_id, limit=limit)


def alerts(
    connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
) -> list[Record]:
    """Read a page of alerts, the newest first."""
    return _ALERTS.page(connection, filters, after=after, limit=limit)


def actions(
    connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
) -> list[Record]:
    """Read a page of operators' actions, the newest first."""
    return _ACTIONS.page(connection, filters, after=after, limit=limit)


def workers(connection: Connection) -> list[Record]:
    """Read the known processes, running ones first, and for how many seconds each has been silent."""
    return records(connection, _WORKERS)


def paused_queues(connection: Connection) -> dict[str, Record]:
    """Read whether each queue is paused, since when, and by whom. Queues that were never paused are left out."""
    return {row["queue"]: row for row in records(connection, _PAUSES)}


_LINE = "id, at, service, level, logger, message, fields, error, worker, job, run_id, trace_id"
_LOG = Keyset(
    f"SELECT {_LINE} FROM jobs.system_log",
    ("at", "id"),
    {
        "service": "service = :service",
        "level": "level = ANY(:level)",
        "job": "job = :job",
        "run_id": "run_id = :run_id",
        "q": "position(lower(:q) IN lower(message)) > 0",
        "begin": "at >= :begin",
        "end": "at < :end",
    },
)
_LOG_OF_RUN = text(f"SELECT {_LINE} FROM jobs.system_log WHERE run_id = :run_id ORDER BY id LIMIT :limit")
_ALERTS = Keyset(
    """
    SELECT id, kind, subject, severity, message, facts, resolved_at IS NULL AS open, opened_at, seen_at, resolved_at,
           sent_at, recovery_sent_at, tries, error
    FROM jobs.notifications
    """,
    ("opened_at", "id"),
    {"open": "(resolved_at IS NULL) = :open", "kind": "kind = :kind"},
)
_ACTIONS = Keyset(
    "SELECT id, at, who, what, subject, before, after FROM jobs.operator_actions",
    ("id",),
    {"who": "who = :who", "what": "what = :what", "subject": "subject = :subject"},
)
_WORKERS = text("""
SELECT id, service, host, pid, kind, queues, runs, started_at, heartbeat_at, stopped_at,
  CASE WHEN stopped_at IS NULL THEN CAST(GREATEST(0, extract(epoch FROM now() - heartbeat_at)) AS float8) END AS silent
FROM jobs.workers ORDER BY stopped_at DESC NULLS FIRST, service, kind, id LIMIT 1000
""")
_PAUSES = text("SELECT queue, paused, changed_at, changed_by FROM jobs.queue_controls")
