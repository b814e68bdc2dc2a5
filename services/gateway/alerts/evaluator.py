"""The alerts: every few seconds the rules are evaluated, and the rows of ``jobs.notifications`` follow what stands.

What stands and has no open row opens one; an open row that no rule has yielded for a while is resolved. So an alert is
opened once, however long it stands, and one that comes and goes within that while is one alert. Of several replicas
one evaluates at a time.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any
from zlib import crc32

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from services.gateway.alerts import rules
from services.gateway.alerts.alert import Alert
from services.gateway.alerts.notifier import CLAIMED_FOR
from shared.background import Background
from shared.bus.amqp.management import ManagementRefused
from shared.bus.amqp.queue_stats import QueueStats
from shared.bus.unit_of_work import ServiceContext
from shared.outage import Outage

log = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
#: An alert that no evaluation has yielded for so long is over: two evaluations without it.
ABSENT_FOR = timedelta(seconds=10)
#: For so long after our start, what went wrong before it is left to those who are starting beside us.
STARTING = timedelta(seconds=60)
_KEY = crc32(b"gateway:alerts")
_EVER = datetime.min.replace(tzinfo=UTC)

#: The figures of all queues; raises what a management API does that does not answer.
Figures = Callable[[], Sequence[QueueStats]]


class Alerts(Background):
    """Without ``figures`` nothing is known of the queues' age, which may be ``queue_age`` at most."""

    def __init__(self, context: ServiceContext, figures: Figures | None, *, queue_age: timedelta) -> None:
        super().__init__("alerts")
        self._context = context
        self._figures = figures
        self._queue_age = queue_age
        self._started_at = context.clock()
        self._database = Outage("the database", part="alerts")
        self._management = Outage("RabbitMQ's management API", part="alerts")

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.evaluate()
                self._database.passed()
                pause = EVERY_SECONDS
            except SQLAlchemyError as error:
                pause = self._database.failed(error)
            self.stopping.wait(pause)

    def evaluate(self) -> bool:
        """Let the rows follow what stands now; False where another replica does so at this moment."""
        figures = self._read_queues()  # not inside the transaction: it may take its time
        with self._context.engine.begin() as connection:
            if not connection.execute(_LOCK, {"key": _KEY}).scalar_one():
                return False
            now = self._context.clock()
            standing = rules.from_rows(connection, now, self._begun(now))
            judged: tuple[str, ...] = rules.FROM_ROWS
            if figures is not None:
                standing += rules.from_queues(connection, figures, self._queue_age)
                judged += rules.FROM_QUEUES
            opened, over = follow(connection, standing, judged, now)
        _tell(opened, over)
        return True

    def _begun(self, now: datetime) -> datetime:
        return self._started_at if now < self._started_at + STARTING else _EVER

    def _read_queues(self) -> Sequence[QueueStats] | None:
        """None where they are not known: then no queue's alert is opened, and none is resolved."""
        if self._figures is None:
            return None
        try:
            figures = self._figures()
        except (ManagementRefused, OSError, HTTPException, ValueError) as error:
            self._management.failed(error)
            return None
        self._management.passed()
        return figures


def follow(
    connection: Connection, standing: Iterable[Alert], judged: Sequence[str], now: datetime
) -> tuple[list[Any], list[Any]]:
    """Note what stands, and resolve what of the judged kinds has not stood for a while; the rows of both."""
    connection.execute(_HOLD)
    noted = connection.execute(_NOTE, {"now": now, **_columns({(a.kind, a.subject): a for a in standing}.values())})
    values = {"now": now, "kinds": list(judged), "absent": now - ABSENT_FOR, "claimed": now + CLAIMED_FOR}
    over = connection.execute(_RESOLVE, values).all()
    return [row for row in noted if row.opened], list(over)


def _columns(alerts: Iterable[Alert]) -> dict[str, list[str]]:
    ordered = list(alerts)
    return {
        "kinds": [alert.kind for alert in ordered],
        "subjects": [alert.subject for alert in ordered],
        "severities": [alert.severity for alert in ordered],
        "messages": [alert.message for alert in ordered],
        "facts": [json.dumps(dict(alert.facts)) for alert in ordered],
    }


def _tell(opened: Iterable[Any], over: Iterable[Any]) -> None:
    for row in opened:
        log.warning("alert", alert=row.id, kind=row.kind, subject=row.subject, says=row.message)
    for row in over:
        log.info("alert is over", alert=row.id, kind=row.kind, subject=row.subject)


_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")
#: In the order in which the notifier locks its rows, so that nobody waits in a circle.
_HOLD = text("SELECT FROM jobs.notifications WHERE resolved_at IS NULL ORDER BY id FOR UPDATE")
#: Who knows of the alert (``told``) is the notifier's to say. A row that was not there before has no xmax.
_NOTE = text("""
INSERT INTO jobs.notifications AS n (kind, subject, severity, message, facts, opened_at, seen_at)
SELECT kind, subject, severity, message, CAST(facts AS jsonb), :now, :now
FROM unnest(CAST(:kinds AS text[]), CAST(:subjects AS text[]), CAST(:severities AS text[]), CAST(:messages AS text[]),
            CAST(:facts AS text[])) AS given (kind, subject, severity, message, facts)
ON CONFLICT (kind, subject) WHERE resolved_at IS NULL DO UPDATE SET
  severity = excluded.severity, message = excluded.message, seen_at = excluded.seen_at,
  facts = excluded.facts || CASE WHEN n.facts ? 'told' THEN jsonb_build_object('told', n.facts -> 'told') ELSE '{}' END
RETURNING id, kind, subject, message, xmax = 0 AS opened
""")
#: A notifier that is at work on the row has claimed it for so long at most; longer pauses end with the alert.
_RESOLVE = text("""
UPDATE jobs.notifications SET
  resolved_at = :now, tries = 0, next_try_at = CASE WHEN next_try_at > :claimed THEN :claimed ELSE next_try_at END
WHERE resolved_at IS NULL AND kind = ANY(:kinds) AND seen_at <= :absent
RETURNING id, kind, subject
""")
