"""The evaluator: it evaluates the rules every few seconds and updates the rows of ``jobs.notifications``.

A standing alert without an open row opens one. An open row that no rule has yielded for a while is resolved.
Therefore an alert is opened once, however long it stands, and an alert that comes and goes within that while is one
alert. Only one of several replicas evaluates at a time.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from zlib import crc32

import structlog
from sqlalchemy import text

from services.gateway.alerts import rules
from services.gateway.alerts.notifier import CLAIMED_FOR
from shared.background import Background
from shared.bus.amqp.management import ManagementRefused
from shared.bus.amqp.queue_stats import QueueStats
from shared.bus.unit_of_work import ServiceContext
from shared.observability.progress import PRICE_SECONDS
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS

log = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
#: An alert that no evaluation has yielded for this long is resolved: two evaluations without it.
ABSENT_FOR = timedelta(seconds=10)
#: For this long after our start, failures from before it raise no alert: other processes may be starting beside us.
STARTING = timedelta(seconds=60)
_KEY = crc32(b"gateway:alerts")
_EVER = datetime.min.replace(tzinfo=UTC)

#: Reads the figures of all queues. Raises ManagementRefused, OSError, HTTPException or ValueError.
Figures = Callable[[], Sequence[QueueStats]]


class Evaluator(Background):
    """Without ``figures`` no queue raises an alert.

    ``queue_age`` is the greatest age of a queue's oldest message, ``price_age`` that of the newest price in seconds.
    """

    def __init__(
        self,
        context: ServiceContext,
        figures: Figures | None,
        *,
        queue_age: timedelta,
        price_age: float = PRICE_SECONDS,
    ) -> None:
        super().__init__("alerts")
        self._context = context
        self._figures = figures
        self._queue_age = queue_age
        self._price_age = price_age
        self._started_at = context.clock()
        self._database = Outage("the database", part="alerts")
        self._management = Outage("RabbitMQ's management API", part="alerts")

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.evaluate()
                self._database.passed()
                pause = EVERY_SECONDS
            except DATABASE_ERRORS as error:
                pause = self._database.failed(error)
            self.stopping.wait(pause)

    def evaluate(self) -> bool:
        """Update the rows to the alerts that stand now. Return False if another replica is evaluating."""
        figures = self._read_figures()  # not inside the transaction: it may take its time
        with self._context.engine.begin() as connection:
            if not connection.execute(_LOCK, {"key": _KEY}).scalar_one():
                return False
            now = self._context.clock()
            since = self._started_at if now < self._started_at + STARTING else _EVER
            standing = rules.from_rows(connection, now, since)
            standing += rules.from_progress(connection, now, self._started_at, self._price_age)
            judged: tuple[str, ...] = rules.FROM_ROWS + rules.FROM_PROGRESS
            if figures is not None:
                standing += rules.from_queues(connection, figures, self._queue_age)
                judged += rules.FROM_QUEUES
            connection.execute(_LOCK_OPEN_ROWS)
            alerts = {(alert.kind, alert.subject): asdict(alert) for alert in standing}
            recorded = connection.execute(_RECORD, {"now": now, "alerts": json.dumps(list(alerts.values()))}).all()
            absent = {"kinds": list(judged), "absent": now - ABSENT_FOR, "claimed": now + CLAIMED_FOR}
            resolved = connection.execute(_RESOLVE, {"now": now, **absent}).all()
        for row in recorded:
            if row.opened:
                log.warning("alert opened", alert=row.id, kind=row.kind, subject=row.subject, text=row.message)
        for row in resolved:
            log.info("alert resolved", alert=row.id, kind=row.kind, subject=row.subject)
        return True

    def _read_figures(self) -> Sequence[QueueStats] | None:
        """Return None if the figures are not known. Then no queue's alert is opened or resolved."""
        if self._figures is None:
            return None
        try:
            figures = self._figures()
        except (ManagementRefused, OSError, HTTPException, ValueError) as error:
            self._management.failed(error)
            return None
        self._management.passed()
        return figures


_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")
#: The notifier locks its rows in this order too, so the two cannot deadlock.
_LOCK_OPEN_ROWS = text("SELECT FROM jobs.notifications WHERE resolved_at IS NULL ORDER BY id FOR UPDATE")
#: ``sent_to`` belongs to the notifier. A row that was inserted just now has no xmax.
_RECORD = text("""
INSERT INTO jobs.notifications AS n (kind, subject, severity, message, facts, opened_at, seen_at)
SELECT kind, subject, severity, message, facts, :now, :now
FROM jsonb_to_recordset(CAST(:alerts AS jsonb))
  AS alert (kind text, subject text, severity text, message text, facts jsonb)
ON CONFLICT (kind, subject) WHERE resolved_at IS NULL DO UPDATE SET
  severity = excluded.severity, message = excluded.message, seen_at = excluded.seen_at,
  facts = excluded.facts
    || CASE WHEN n.facts ? 'sent_to' THEN jsonb_build_object('sent_to', n.facts -> 'sent_to') ELSE '{}' END
RETURNING id, kind, subject, message, xmax = 0 AS opened
""")
#: A notifier that works on the row has claimed it for at most this long. A longer pause ends with the alert.
_RESOLVE = text("""
UPDATE jobs.notifications SET
  resolved_at = :now, tries = 0, next_try_at = CASE WHEN next_try_at > :claimed THEN :claimed ELSE next_try_at END
WHERE resolved_at IS NULL AND kind = ANY(:kinds) AND seen_at <= :absent
RETURNING id, kind, subject
""")
