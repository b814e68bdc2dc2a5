"""The notifier: tells the targets of each alert when it opens and when it is over.

A notice is claimed by moving its next try a minute ahead, in a transaction that ends before anything is sent: so of
several replicas one sends it, none holds a row while it waits for the network, and what a killed replica had claimed is
sent again. Each target is told at least once; a repeat has the same number.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError

from services.gateway.alerts.channels import TIMEOUT_SECONDS, Target
from services.gateway.alerts.notice import Notice, texts
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.outage import Outage, pause_seconds

log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
AT_ONCE = 100
#: A claim holds so long. The last message must begin early enough to end within it.
CLAIMED_FOR = timedelta(minutes=1)
SENDING_FOR = CLAIMED_FOR - timedelta(seconds=2 * TIMEOUT_SECONDS)
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 3600.0


@dataclass(frozen=True)
class Delivery:
    """Which notices a target took, and why it took no more, if it refused one."""

    target: str
    taken: frozenset[int]
    refusal: str | None = None


class Notifier(Background):
    """``targets`` are not empty: where there are none, nobody has to be told, and the rows are just kept."""

    def __init__(self, context: ServiceContext, targets: Sequence[Target]) -> None:
        super().__init__("notifier")
        self._context = context
        self._targets = targets
        self._labels = [target.label for target in targets]
        self._database = Outage("the database", part="notifier")
        self._outages = {label: Outage("a target of alerts", target=label) for label in self._labels}

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                more = self.send() == AT_ONCE
                self._database.passed()
                pause = 0.0 if more else POLL_SECONDS
            except SQLAlchemyError as error:
                pause = self._database.failed(error)
            self.stopping.wait(pause)

    def send(self) -> int:
        """Tell what there is to tell now, in one round; the number of notices that were claimed for it."""
        notices = self._claim()
        if notices:
            until = self._context.clock() + SENDING_FOR
            with ThreadPoolExecutor(len(self._targets), "alert-target") as pool:  # a slow target keeps no other waiting
                deliveries = list(pool.map(partial(self._deliver, notices, until), self._targets))
            self._note(notices, deliveries)
        return len(notices)

    def _claim(self) -> list[Notice]:
        now = self._context.clock()
        values = {"now": now, "until": now + CLAIMED_FOR, "most": AT_ONCE}
        with self._context.engine.begin() as connection:
            rows = connection.execute(_CLAIM, values).all()
        return sorted((_notice(row) for row in rows), key=lambda notice: notice.id)

    def _deliver(self, notices: Sequence[Notice], until: datetime, target: Target) -> Delivery:
        """What this target has not been told yet, until it refuses one or the time is up."""
        taken: frozenset[int] = frozenset()
        for message in texts([notice for notice in notices if target.label in notice.pending(self._labels)]):
            if self.stopping.is_set() or self._context.clock() > until:
                break
            if refusal := target.take(message):
                self._outages[target.label].failed(refusal)
                return Delivery(target.label, taken, refusal)
            self._outages[target.label].passed()
            taken |= set(message.notices)
        return Delivery(target.label, taken)

    def _note(self, notices: Iterable[Notice], deliveries: Sequence[Delivery]) -> None:
        now = self._context.clock()
        given = [self._outcome(notice, deliveries, now) for notice in notices]
        with self._context.engine.begin() as connection:
            connection.execute(_SENT, {"now": now, "given": json.dumps(given)})
        if sent := [each["id"] for each in given if each["done"]]:
            log.info("alerts sent", alerts=sent)

    def _outcome(self, notice: Notice, deliveries: Iterable[Delivery], now: datetime) -> Mapping[str, Any]:
        """What becomes of its row: done when all who had to be told were, else another try after a pause."""
        taken = frozenset(delivery.target for delivery in deliveries if notice.id in delivery.taken)
        waiting = notice.pending(self._labels) - taken
        refusals = [f"{d.target}: {d.refusal}" for d in deliveries if d.target in waiting and d.refusal]
        pause = pause_seconds(notice.tries - 1, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
        return {
            "id": notice.id,
            "done": not waiting,
            "over": notice.resolved_at is not None,
            "told": sorted(notice.told_after(self._labels, taken)),
            "next_try_at": (now + timedelta(seconds=pause)).isoformat(),
            "error": "; ".join(refusals) or None,
        }


def _notice(row: Row[Any]) -> Notice:
    return Notice(
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        severity=row.severity,
        message=row.message,
        opened_at=row.opened_at,
        resolved_at=row.resolved_at,
        told=frozenset(row.facts.get("told", ())),
        tries=row.tries,
    )


#: The first condition is the index's. An alert that was over before anybody was told of it is not to be sent.
_CLAIM = text("""
WITH mine AS MATERIALIZED (
  SELECT id FROM jobs.notifications
  WHERE (sent_at IS NULL OR (resolved_at IS NOT NULL AND recovery_sent_at IS NULL))
    AND (resolved_at IS NULL OR sent_at IS NOT NULL OR facts ? 'told')
    AND (next_try_at IS NULL OR next_try_at <= :now)
  ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE jobs.notifications n SET tries = tries + 1, next_try_at = :until FROM mine WHERE n.id = mine.id
RETURNING n.id, kind, subject, severity, message, facts, opened_at, resolved_at, tries
""")
#: Rows are locked in the order in which the evaluation locks them. What was resolved meanwhile is told so at once.
_SENT = text("""
WITH given AS MATERIALIZED (
  SELECT g.* FROM jsonb_to_recordset(CAST(:given AS jsonb))
    AS g (id bigint, done boolean, over boolean, told jsonb, next_try_at timestamptz, error text)
  JOIN jobs.notifications locked ON locked.id = g.id ORDER BY g.id FOR UPDATE OF locked
)
UPDATE jobs.notifications n SET
  facts = (n.facts - 'told') || CASE WHEN given.told <> '[]' THEN jsonb_build_object('told', given.told) ELSE '{}' END,
  sent_at = CASE WHEN given.done THEN COALESCE(n.sent_at, :now) ELSE n.sent_at END,
  recovery_sent_at = CASE WHEN given.done AND given.over THEN CAST(:now AS timestamptz) ELSE n.recovery_sent_at END,
  next_try_at = CASE WHEN NOT given.done AND given.over = (n.resolved_at IS NOT NULL) THEN given.next_try_at END,
  error = given.error
FROM given WHERE n.id = given.id
""")
