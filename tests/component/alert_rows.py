"""Helpers of the alert tests: rows as the job engine writes them, and the alerts that follow from them."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, event, text

from services.gateway.alerts.alert import Alert
from services.gateway.alerts.evaluator import STARTING, Evaluator, Figures
from shared.bus.unit_of_work import ServiceContext
from tests.conftest import FakeClock
from tests.support import rows

MINUTE = timedelta(minutes=1)


def make_evaluator(context: ServiceContext, clock: FakeClock, figures: Figures | None = None) -> Evaluator:
    """An evaluator that started long enough ago to judge failures from before its start."""
    evaluator = Evaluator(context, figures, queue_age=5 * MINUTE)
    clock.now += STARTING
    return evaluator


def execute(context: ServiceContext, statement: str, **values: Any) -> None:
    with context.engine.begin() as connection:
        connection.execute(text(statement), values)


def add_job(context: ServiceContext, name: str, *, due_at: datetime | None = None, **settings: Any) -> None:
    execute(
        context,
        "INSERT INTO jobs.jobs (name, service, description, market, declared, due_at, updated_at)"
        " VALUES (:name, 'valuation', '', 'DEMO', CAST(:declared AS jsonb), :due_at, :now)",
        name=name,
        declared=json.dumps(settings),
        due_at=due_at,
        now=context.clock(),
    )


def add_run(context: ServiceContext, job: str, **columns: Any) -> UUID:
    """Add a run that started now, finished if the columns have an outcome."""
    now = context.clock()
    given = {
        "id": uuid4(),
        "job": job,
        "service": "valuation",
        "trigger": "manual",
        "queued_at": now,
        "state": "finished" if "outcome" in columns else "running",
        "finished_at": now if "outcome" in columns else None,
        **columns,
    }
    names = ", ".join(given)
    execute(context, f"INSERT INTO jobs.job_runs ({names}) VALUES ({', '.join(f':{name}' for name in given)})", **given)
    return UUID(str(given["id"]))


def add_outcomes(context: ServiceContext, clock: FakeClock, job: str, outcomes: Sequence[str], **columns: Any) -> None:
    """Add runs that finished one after the other, a second apart."""
    for outcome in outcomes:
        add_run(
            context, job, outcome=outcome, error=None if outcome == "succeeded" else "ValueError: no price", **columns
        )
        clock.move(seconds=1)


def add_worker(
    context: ServiceContext, worker: str, *, service: str = "orders", beat: datetime, started: datetime
) -> None:
    """Add a process by times of the test's clock. Its row has those of PostgreSQL's."""
    execute(
        context,
        "INSERT INTO jobs.workers (id, service, host, pid, kind, started_at, heartbeat_at)"
        " VALUES (:id, :service, 'box', 7, 'worker', now() - CAST(:age AS interval), now() - CAST(:quiet AS interval))",
        id=worker,
        service=service,
        age=context.clock() - started,
        quiet=context.clock() - beat,
    )


def let_pass(context: ServiceContext, clock: FakeClock, **by: float) -> None:
    """Move the clock, and have the processes' heartbeats age with it."""
    clock.move(**by)
    passed = timedelta(**by)
    execute(
        context,
        "UPDATE jobs.workers SET started_at = started_at - CAST(:passed AS interval),"
        " heartbeat_at = heartbeat_at - CAST(:passed AS interval)",
        passed=passed,
    )


def beat(context: ServiceContext, worker: str) -> None:
    execute(context, "UPDATE jobs.workers SET heartbeat_at = now() WHERE id = :id", id=worker)


def open_alerts(context: ServiceContext) -> list[tuple[str, str]]:
    """The kind and subject of each open alert."""
    found = rows(
        context.engine, "SELECT kind, subject FROM jobs.notifications WHERE resolved_at IS NULL ORDER BY kind, subject"
    )
    return [(row.kind, row.subject) for row in found]


def notifications(context: ServiceContext) -> list[Any]:
    return rows(context.engine, "SELECT * FROM jobs.notifications ORDER BY id")


def evaluate_for(evaluator: Evaluator, clock: FakeClock, *, seconds: int) -> None:
    """Evaluate at least every ten seconds, so that there is no pause."""
    end = clock.now + timedelta(seconds=seconds)
    while clock.now < end:
        let_pass(evaluator._context, clock, seconds=min(10, (end - clock.now).total_seconds()))
        evaluator.evaluate()


def evaluate_until_resolved(evaluator: Evaluator, clock: FakeClock) -> None:
    """Evaluate twice, so that an absent alert is resolved."""
    for _ in range(2):
        let_pass(evaluator._context, clock, seconds=5)
        evaluator.evaluate()


def open_alert(context: ServiceContext, subject: str = "revalue") -> None:
    open_many(context, [Alert("job_failing", subject, "critical", f"Job {subject} fails.", {})])


def open_many(context: ServiceContext, alerts: Sequence[Alert]) -> None:
    for alert in alerts:
        execute(
            context,
            "INSERT INTO jobs.notifications (kind, subject, severity, message, opened_at, seen_at)"
            " VALUES (:kind, :subject, :severity, :message, :now, :now)",
            kind=alert.kind,
            subject=alert.subject,
            severity=alert.severity,
            message=alert.message,
            now=context.clock(),
        )


def resolve_all(context: ServiceContext) -> None:
    execute(context, "UPDATE jobs.notifications SET resolved_at = :now, tries = 0", now=context.clock())


@contextmanager
def held_before(engine: Engine, part: str) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Make statements with this part set the first event and wait for the second."""
    reached, go_on = threading.Event(), threading.Event()

    def hold(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if part in statement:
            reached.set()
            go_on.wait(20)

    event.listen(engine, "before_cursor_execute", hold)
    try:
        yield reached, go_on
    finally:
        go_on.set()


def only_notification(context: ServiceContext) -> Any:
    """The only notification, if there is exactly one."""
    (found,) = notifications(context)
    return found
