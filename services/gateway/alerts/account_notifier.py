"""The notifier of accounts: it sends the alerts and halts of an account to the account's own webhooks.

Each webhook gets a message when an alert is raised and one when it has recovered. A claim is a transaction
that ends before anything is sent, as in ``notifier``. Delivery is at least once.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text

from services.gateway.alerts import webhooks
from services.gateway.alerts.alert import moment
from shared.bus.unit_of_work import ServiceContext
from shared.outage import pause_seconds
from shared.repeated import Repeated

POLL_SECONDS = 2.0
#: All of a batch are sent at the same time, and within the claim.
BATCH_SIZE = 10
CLAIMED_FOR = timedelta(minutes=1)
MOST_TRIES = 20
#: An alert that is older than this is not news any more.
NEWS = timedelta(days=1)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 3600.0

Post = Callable[[str, Mapping[str, str]], str | None]


class AccountNotifier(Repeated):
    """``post`` sends a body to a URL and returns the reason if it was refused."""

    def __init__(self, context: ServiceContext, post: Post = webhooks.post) -> None:
        super().__init__("account notifier")
        self._context = context
        self._post = post

    def step(self) -> float:
        return 0.0 if self.send() == BATCH_SIZE else POLL_SECONDS

    def send(self) -> int:
        """Send one batch of deliveries that are due, and return its size."""
        now = self._context.clock()
        with self._context.engine.begin() as connection:
            if not connection.execute(_IS_READY).scalar_one():
                return 0
            connection.execute(_GATHER, {"since": now - NEWS, "now": now})
            due = connection.execute(_CLAIM, {"now": now, "until": now + CLAIMED_FOR, "limit": BATCH_SIZE}).all()
        if due:
            with ThreadPoolExecutor(len(due), "account-webhook") as pool:
                refusals = list(pool.map(self._deliver, due))
            self._record(due, refusals)
        return len(due)

    def _deliver(self, delivery: Row[Any]) -> str | None:
        body = {name: str(getattr(delivery, name)) for name in ("account_id", "alert_id", "status", "kind", "message")}
        return self._post(delivery.url, {**body, "at": moment(delivery.at)})

    def _record(self, due: Sequence[Row[Any]], refusals: Sequence[str | None]) -> None:
        now, outcomes = self._context.clock(), []
        for each, refusal in zip(due, refusals, strict=True):
            pause = pause_seconds(each.tries - 1, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
            again = refusal is not None and each.tries < MOST_TRIES
            outcome = {
                "channel_id": str(each.channel_id),
                "alert_id": str(each.alert_id),
                "status": each.status,
                "error": refusal,
                "next_try_at": (now + timedelta(seconds=pause)).isoformat() if again else None,
            }
            outcomes.append(outcome)
        with self._context.engine.begin() as connection:
            connection.execute(_RECORD, {"now": now, "outcomes": json.dumps(outcomes)})


_IS_READY = text("""
SELECT COALESCE(has_table_privilege(to_regclass('valuation.alerts_v1'), 'SELECT'), false)
         AND COALESCE(has_table_privilege(to_regclass('orders.account_halts_v1'), 'SELECT'), false)
         AND EXISTS (SELECT FROM gateway.alert_channels)
""")
#: An alert from before the webhook was added is not sent to it, nor is its recovery.
_GATHER = text("""
INSERT INTO gateway.alert_deliveries (channel_id, alert_id, status, kind, message, at, next_try_at)
SELECT c.id, e.id, e.status, e.kind, e.message, e.at, :now
FROM gateway.alert_channels c
CROSS JOIN LATERAL (
  SELECT a.id, s.status, a.kind, a.message, s.at
  FROM valuation.alerts_v1 a
  CROSS JOIN LATERAL (VALUES ('raised', a.raised_at), ('recovered', a.recovered_at)) AS s (status, at)
  WHERE a.account_id = c.account_id AND a.raised_at >= c.created_at AND s.at > :since
  UNION ALL
  SELECT h.id, s.status, 'halted', 'The account is halted: ' || h.reason, s.at
  FROM orders.account_halts_v1 h
  CROSS JOIN LATERAL (VALUES ('raised', h.halted_at), ('recovered', h.ended_at)) AS s (status, at)
  WHERE h.account_id = c.account_id AND h.halted_at >= c.created_at AND s.at > :since
) e
ON CONFLICT DO NOTHING
""")
_CLAIM = text("""
WITH mine AS MATERIALIZED (
  SELECT channel_id, alert_id, status FROM gateway.alert_deliveries
  WHERE next_try_at <= :now ORDER BY next_try_at, at, status LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE gateway.alert_deliveries d SET tries = d.tries + 1, next_try_at = :until
FROM mine JOIN gateway.alert_channels c ON c.id = mine.channel_id
WHERE (d.channel_id, d.alert_id, d.status) = (mine.channel_id, mine.alert_id, mine.status)
RETURNING d.channel_id, d.alert_id, d.status, d.kind, d.message, d.at, d.tries, c.account_id, c.url
""")
_RECORD = text("""
UPDATE gateway.alert_deliveries d SET
  sent_at = CASE WHEN o.error IS NULL THEN CAST(:now AS timestamptz) END, next_try_at = o.next_try_at, error = o.error
FROM jsonb_to_recordset(CAST(:outcomes AS jsonb))
  AS o (channel_id uuid, alert_id uuid, status text, error text, next_try_at timestamptz)
WHERE (d.channel_id, d.alert_id, d.status) = (o.channel_id, o.alert_id, o.status)
""")
