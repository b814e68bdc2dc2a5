"""The evaluator: it evaluates the rules every few seconds and updates the rows of ``jobs.notifications``.

A standing alert without an open row opens one. An open row that no rule has yielded for a while is resolved.
Therefore an alert is opened once, however long it stands, and an alert that comes and goes within that while is one
alert. After a pause of this process or of the database, other processes get the time to beat again. Only one of
several replicas evaluates at a time.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from zlib import crc32

import structlog
from sqlalchemy import text

from services.gateway.alerts import account_alerts, account_halts, account_reports, rules
from services.gateway.alerts.notifier import CLAIMED_FOR
from shared.bus.amqp.management import ManagementRefused
from shared.bus.amqp.queue_stats import QueueStats
from shared.bus.unit_of_work import ServiceContext
from shared.observability.progress import PRICE_SECONDS
from shared.outage import Outage
from shared.repeated import Repeated
from shared.resilience.rate_limits import CLOCK_TOLERANCE

log = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
#: An alert that no evaluation has yielded for this long is resolved: two evaluations without it.
ABSENT_FOR = timedelta(seconds=10)
#: A job that fails three times in four, or starts each slot late, is one alert: it must be absent for longer. A job
#: whose last ``alert_failures`` runs all succeeded is healed at once.
HELD_FOR = {"job_failing": timedelta(minutes=15), "slot_late": timedelta(minutes=1)}
#: For this long after our start, or after a pause, failures from before it raise no alert: other processes may be
#: starting, or waking up, beside us.
STARTING = timedelta(seconds=60)
#: Evaluations further apart than this had a pause between them: the machine slept, or the database stood still.
PAUSE = timedelta(seconds=12)
#: The kinds that a pause makes look true. Through the grace after it they are opened for later failures only, and
#: none is resolved.
_GRACED = ("slot_late", "heartbeat_gone")
_KEY = crc32(b"gateway:alerts")
_EVER = datetime.min.replace(tzinfo=UTC)

#: Reads the figures of all queues. Raises ManagementRefused, OSError, HTTPException or ValueError.
Figures = Callable[[], Sequence[QueueStats]]


class Evaluator(Repeated):
    """Without ``figures`` no queue raises an alert.

    ``queue_age`` is the greatest age of a queue's oldest message, ``price_age`` that of the newest price in seconds.
    A headline of a held symbol raises an alert if its score is at most ``news_score``.
    """

    def __init__(
        self,
        context: ServiceContext,
        figures: Figures | None,
        *,
        queue_age: timedelta,
        price_age: float = PRICE_SECONDS,
        news_score: float = -1.0,
    ) -> None:
        super().__init__("alerts")
        self._context = context
        self._figures = figures
        self._queue_age = queue_age
        self._price_age = price_age
        self._news_score = news_score
        self._started_at = self._grace_from = context.clock()
        self._last: tuple[datetime, float] | None = None
        self._failed = False
        self._management = Outage("RabbitMQ's management API", part="alerts")

    def step(self) -> float:
        self.evaluate()
        return EVERY_SECONDS

    def failed(self) -> None:
        self._failed = True

    def evaluate(self) -> bool:
        """Update the rows to the alerts that stand now. Return False if another replica is evaluating."""
        figures = self._read_figures()  # not inside the transaction: it may take its time
        with self._context.engine.begin() as connection:
            locked = connection.execute(_LOCK, {"key": _KEY}).scalar_one()
            now = self._context.clock()
            grace = self._in_grace(now)
            self._started_at = min(self._started_at, now)  # it lies ahead if the clock went back
            if not locked:
                return False
            since = self._grace_from if grace else _EVER
            standing = rules.from_rows(connection, now, since)
            standing += rules.from_progress(connection, now, self._started_at, self._price_age)
            standing += rules.from_news(connection, now, self._news_score)
            standing += account_alerts.standing(connection) + account_halts.standing(connection)
            judged: tuple[str, ...] = (*rules.FROM_ROWS, *rules.FROM_PROGRESS, *rules.FROM_NEWS, *account_alerts.KINDS)
            judged += (account_halts.KIND,)
            if figures is not None:
                standing += rules.from_queues(connection, figures, self._queue_age)
                judged += rules.FROM_QUEUES
            connection.execute(_LOCK_OPEN_ROWS)
            if grace:
                judged = tuple(kind for kind in judged if kind not in _GRACED)
            alerts = {(alert.kind, alert.subject): asdict(alert) for alert in standing}
            recorded = connection.execute(_RECORD, {"now": now, "alerts": json.dumps(list(alerts.values()))}).all()
            absent = {
                "kinds": list(judged),
                "absents": [now - HELD_FOR.get(kind, ABSENT_FOR) for kind in judged],
                "healed": now - ABSENT_FOR,
                "ahead": now + CLOCK_TOLERANCE,
                "claimed": now + CLAIMED_FOR,
            }
            resolved = connection.execute(_RESOLVE, {"now": now, **absent}).all()
            account_reports.announce(connection, now)
        for row in recorded:
            if row.opened:
                log.warning("alert opened", alert=row.id, kind=row.kind, subject=row.subject, text=row.message)
        for row in resolved:
            log.info("alert resolved", alert=row.id, kind=row.kind, subject=row.subject)
        return True

    def _in_grace(self, now: datetime) -> bool:
        """Begin a grace after a pause, by either clock, or after a database error. Tell whether one lasts."""
        ticks = time.monotonic()
        if self._last is not None:
            at, ticked = self._last
            if self._failed or abs(now - at) > PAUSE or ticks - ticked > PAUSE.total_seconds():
                self._grace_from = now
        self._grace_from = min(self._grace_from, now)
        self._last, self._failed = (now, ticks), False
        return now < self._grace_from + STARTING

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
#: A notifier that works on the row has claimed it for at most this long. A longer pause ends with the alert. An alert
#: that was seen in the future was seen before the clock went back.
_RESOLVE = text("""
UPDATE jobs.notifications n SET
  resolved_at = :now, tries = 0, next_try_at = CASE WHEN next_try_at > :claimed THEN :claimed ELSE next_try_at END
FROM unnest(CAST(:kinds AS text[]), CAST(:absents AS timestamptz[])) AS held (judged, absent)
WHERE n.resolved_at IS NULL AND n.kind = held.judged
  AND (n.seen_at <= held.absent OR n.seen_at > :ahead OR n.kind = 'job_failing' AND n.seen_at <= :healed AND EXISTS (
    SELECT FROM jobs.jobs j CROSS JOIN LATERAL (
      SELECT bool_and(newest.outcome = 'succeeded') AS succeeded FROM (
        SELECT r.outcome FROM jobs.job_runs r
        WHERE r.job BETWEEN j.name AND j.name AND r.part IS NULL AND r.outcome IN ('succeeded', 'failed', 'lost')
        ORDER BY r.job, r.queued_at DESC, r.id DESC
        LIMIT COALESCE(CAST(j.settings ->> 'alert_failures' AS integer), 3)
      ) AS newest
    ) AS latest WHERE j.name = n.subject AND latest.succeeded))
RETURNING n.id, n.kind, n.subject
""")
