"""The notifier: it sends each alert to the channels when it opens and when it is resolved.

To claim a notification, the notifier moves its next try a minute ahead, in a transaction that ends before anything is
sent. Therefore one of several replicas sends it, none holds a row lock while it waits for the network, and the claims
of a killed replica are sent again. Delivery is at least once. A repeated message carries the same alert id.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy import text

from services.gateway.alerts import account_reports
from services.gateway.alerts.channels import TIMEOUT_SECONDS, Channel
from services.gateway.alerts.notification import REPORT, Notification, messages
from shared.bus.unit_of_work import ServiceContext
from shared.outage import Outage, pause_seconds
from shared.repeated import Repeated

log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
BATCH_SIZE = 100
#: A claim lasts this long. The last message must start early enough to end within it.
CLAIMED_FOR = timedelta(minutes=1)
SENDING_FOR = CLAIMED_FOR - timedelta(seconds=2 * TIMEOUT_SECONDS)
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 3600.0
LONGEST_PAUSE = timedelta(seconds=LONGEST_PAUSE_SECONDS)
#: A report that no channel took for this long is not sent any more.
REPORT_IS_OLD = timedelta(days=7)


@dataclass(frozen=True)
class Delivery:
    """The ids of the notifications that a channel took, and the reason if it refused the next one."""

    channel: str
    delivered: frozenset[int]
    refusal: str | None = None


class Notifier(Repeated):
    """``channels`` are not empty: without channels there is no notifier, and the rows are just kept."""

    def __init__(self, context: ServiceContext, channels: Sequence[Channel]) -> None:
        super().__init__("notifier")
        self._context = context
        self._channels = channels
        self._labels = [channel.label for channel in channels]
        self._outages = {label: Outage("an alert channel", channel=label) for label in self._labels}

    def step(self) -> float:
        return 0.0 if self.send() == BATCH_SIZE else POLL_SECONDS

    def send(self) -> int:
        """Send one batch of notifications that are due, and return its size."""
        notifications = self.claim()
        if notifications:
            until = self._context.clock() + SENDING_FOR
            with self._context.engine.begin() as connection:
                pages = account_reports.pages(connection, notifications)
            with ThreadPoolExecutor(len(self._channels), "alert-channel") as pool:  # a slow one does not delay others
                deliveries = list(pool.map(partial(self._deliver, notifications, pages, until), self._channels))
            self.record(notifications, deliveries)
        return len(notifications)

    def claim(self) -> list[Notification]:
        """Claim at most one batch of notifications that are due, the oldest first."""
        now = self._context.clock()
        values = {"now": now, "until": now + CLAIMED_FOR, "ahead": now + LONGEST_PAUSE, "limit": BATCH_SIZE}
        values |= {"report": REPORT, "old": now - REPORT_IS_OLD}
        with self._context.engine.begin() as connection:
            rows = connection.execute(_CLAIM, values).mappings().all()
        claimed = [Notification(**{**row, "sent_to": frozenset(row["sent_to"])}) for row in rows]
        return sorted(claimed, key=lambda notification: notification.id)

    def _deliver(
        self, notifications: Sequence[Notification], pages: Mapping[int, str], until: datetime, channel: Channel
    ) -> Delivery:
        """Send the channel its pending notifications, until it refuses one or the time is up."""
        delivered: frozenset[int] = frozenset()
        pending = [each for each in notifications if channel.label in each.pending(self._labels)]
        for message in messages(pending, pages):
            if self.stopping.is_set() or self._context.clock() > until:
                break
            if refusal := channel.send(message):
                self._outages[channel.label].failed(refusal)
                return Delivery(channel.label, delivered, refusal)
            self._outages[channel.label].passed()
            delivered |= set(message.notifications)
        return Delivery(channel.label, delivered)

    def record(self, notifications: Iterable[Notification], deliveries: Sequence[Delivery]) -> None:
        """Record the deliveries. A notification is sent if no channel waits for it, otherwise it is retried later."""
        now = self._context.clock()
        outcomes = []
        for each in notifications:
            delivered = frozenset(delivery.channel for delivery in deliveries if each.id in delivery.delivered)
            waiting = each.pending(self._labels) - delivered
            refusals = [f"{d.channel}: {d.refusal}" for d in deliveries if d.channel in waiting and d.refusal]
            pause = pause_seconds(each.tries - 1, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
            outcome = {
                "id": each.id,
                "sent": not waiting,
                "resolved": each.resolved_at is not None,
                "sent_to": sorted(each.sent_to_after(self._labels, delivered)),
                "next_try_at": (now + timedelta(seconds=pause)).isoformat(),
                "error": "; ".join(refusals) or None,
            }
            outcomes.append(outcome)
        with self._context.engine.begin() as connection:
            connection.execute(_RECORD, {"now": now, "outcomes": json.dumps(outcomes)})
        if sent := [outcome["id"] for outcome in outcomes if outcome["sent"]]:
            log.info("alerts sent", alerts=sent)


#: The first condition is the index's. An alert that was resolved before any channel knew of it is not sent.
#: A next try further ahead than the longest pause was set before the clock went back.
_CLAIM = text("""
WITH mine AS MATERIALIZED (
  SELECT id FROM jobs.notifications
  WHERE (sent_at IS NULL OR (resolved_at IS NOT NULL AND recovery_sent_at IS NULL))
    AND (resolved_at IS NULL OR sent_at IS NOT NULL OR facts ? 'sent_to')
    AND (next_try_at IS NULL OR next_try_at <= :now OR next_try_at > :ahead)
    AND (kind <> :report OR opened_at > :old)
  ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE jobs.notifications n SET tries = tries + 1, next_try_at = :until FROM mine WHERE n.id = mine.id
RETURNING n.id, kind, subject, severity, message, opened_at, resolved_at, COALESCE(facts -> 'sent_to', '[]') AS sent_to,
          tries
""")
#: The evaluator locks rows in the same order. A row that was resolved meanwhile is due again at once.
_RECORD = text("""
WITH outcome AS MATERIALIZED (
  SELECT o.* FROM jsonb_to_recordset(CAST(:outcomes AS jsonb))
    AS o (id bigint, sent boolean, resolved boolean, sent_to jsonb, next_try_at timestamptz, error text)
  JOIN jobs.notifications locked ON locked.id = o.id ORDER BY o.id FOR UPDATE OF locked
)
UPDATE jobs.notifications n SET
  facts = (n.facts - 'sent_to')
    || CASE WHEN outcome.sent_to <> '[]' THEN jsonb_build_object('sent_to', outcome.sent_to) ELSE '{}' END,
  sent_at = CASE WHEN outcome.sent THEN COALESCE(n.sent_at, :now) ELSE n.sent_at END,
  recovery_sent_at
    = CASE WHEN outcome.sent AND outcome.resolved THEN CAST(:now AS timestamptz) ELSE n.recovery_sent_at END,
  next_try_at
    = CASE WHEN NOT outcome.sent AND outcome.resolved = (n.resolved_at IS NOT NULL) THEN outcome.next_try_at END,
  error = outcome.error
FROM outcome WHERE n.id = outcome.id
""")
