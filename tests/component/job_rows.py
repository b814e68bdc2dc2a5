"""Helpers of the operations tests: rows of jobs, runs and the log, and the recorded actions of operators."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, text

from embedded.system import System
from shared.jobs.settings import JobSettings
from tests.support import rows

JOB = "sweep"
#: A time before anything that the running system writes.
LONG_AGO = datetime.fromisoformat("2026-01-05T10:00:00+00:00")


def engine_of(system: System) -> Engine:
    return system.contexts["gateway"].engine


def add_job(system: System, name: str = JOB, **settings: Any) -> str:
    """Add a job of orders that no code runs, by default every minute."""
    declared = JobSettings.model_validate({"schedule": "1m", **settings}).model_dump_json()
    with engine_of(system).begin() as connection:
        connection.execute(_ADD_JOB, {"name": name, "declared": declared})
    return name


def add_run(system: System, job: str = JOB, **columns: Any) -> UUID:
    """Add a run, by default a scheduled one that took a second and succeeded."""
    at = columns.pop("at", LONG_AGO)
    given = {
        "id": uuid4(),
        "job": job,
        "service": "orders",
        "trigger": "schedule",
        "scheduled_for": at,
        "queued_at": at,
        "started_at": at,
        "finished_at": at + timedelta(seconds=1),
        "attempt": 1,
        "state": "finished",
        "outcome": "succeeded",
        "counts": {},
        **columns,
    }
    _insert(engine_of(system), "jobs.job_runs", given)
    return UUID(str(given["id"]))


def add_line(system: System, message: str, **columns: Any) -> None:
    """Add a line to the log, by default of level INFO."""
    given = {"at": LONG_AGO, "service": "orders", "level": "INFO", "logger": "test", "worker": "w"}
    _insert(engine_of(system), "jobs.system_log", {**given, "message": message, **columns})


def add_rows(system: System, table: str, *each: dict[str, Any]) -> None:
    for row in each:
        _insert(engine_of(system), table, row)


def _insert(engine: Engine, table: str, row: dict[str, Any]) -> None:
    values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}
    names = ", ".join(f":{name}" for name in row)
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({names})"), values)


def actions(system: System) -> list[tuple[Any, ...]]:
    """The operators' actions, the oldest first: who, what, subject, before, after."""
    found = rows(engine_of(system), "SELECT who, what, subject, before, after FROM jobs.operator_actions ORDER BY id")
    return [tuple(row) for row in found]


def ids(items: Iterable[dict[str, Any]]) -> list[Any]:
    return [item["id"] for item in items]


_ADD_JOB = text("""
INSERT INTO jobs.jobs (name, service, description, market, declared, updated_at)
VALUES (:name, 'orders', 'A job that only these tests have.', 'DEMO', CAST(:declared AS jsonb), now())
""")
