"""Retention: the gateway has no jobs, so it removes its old rows on a thread of its own, once an hour."""

from datetime import timedelta

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.maintenance import Keep, OldRows, engine_rows, remove
from shared.repeated import Repeated

EVERY_SECONDS = 3600.0
#: A client that repeats a request with its idempotency key does so within minutes.
IDEMPOTENCY_KEYS = timedelta(hours=24)
#: Browser sessions that have expired, submissions that became orders long ago, and old idempotency keys, wrong keys and
#: alerts.
OWN = (
    OldRows("gateway.sessions", "expires_at < :before", timedelta(0)),
    OldRows("gateway.submissions", "answered_at < :before AND rejected_at IS NULL", timedelta(days=7)),
    OldRows("gateway.idempotency_keys", "created_at < :before", IDEMPOTENCY_KEYS),
    OldRows("gateway.wrong_keys", "last_at < :before", timedelta(days=1)),
    OldRows("gateway.alert_deliveries", "at < :before", timedelta(days=30)),
    OldRows("jobs.notifications", "resolved_at < :before", timedelta(days=90)),
)


class Retention(Repeated):
    def __init__(self, context: ServiceContext) -> None:
        super().__init__("retention")
        self._context = context

    def step(self) -> float:
        self.remove_old_rows()
        return EVERY_SECONDS

    def remove_old_rows(self) -> dict[str, int]:
        """Remove old rows, and return their number by kind."""
        return remove(self._context, [*engine_rows(self._context.service, Keep()), *OWN])
