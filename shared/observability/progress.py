"""The progress of the system: how far its prices, its values and its outboxes are behind the time.

Processes can be alive and their servers reachable while nothing moves. Each service measures its parts for its health,
and the gateway measures them for its alerts:

outbox   of each service: the age of the oldest message that is not sent. Its process saves it in ``jobs.progress``.
prices   of marketdata: the age of the newest price, while a market is open that has priced instruments
values   of valuation: the age of the oldest price that is not in the values of its holders
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from shared.bus.unit_of_work import ServiceContext
from shared.repeated import Repeated
from shared.storage.driver import Call

EVERY_SECONDS = 10.0
#: A figure that was saved longer ago belongs to a process that has ended.
MEASURED_LATELY = timedelta(seconds=30)
OUTBOX_SECONDS = 60.0
PRICE_SECONDS = 120.0
VALUE_SECONDS = 120.0
#: Values are reported as computed at most this often.
SAVED_EVERY = timedelta(seconds=5)


@dataclass(frozen=True)
class Progress:
    """``part`` is ``behind`` by so many seconds. More than ``most`` is a problem."""

    part: str
    behind: float
    most: float

    @property
    def is_late(self) -> bool:
        return self.behind > self.most


def outbox(connection: Connection, schema: str) -> Progress:
    """Measure the outbox of the service that owns the schema."""
    lag = connection.execute(text(_OUTBOX.format(schema=schema))).scalar()
    return Progress("outbox", float(lag or 0), OUTBOX_SECONDS)


def prices(connection: Connection, now: datetime, since: datetime, least: float) -> list[Progress]:
    """Measure the prices, unless no market with prices is open. A price may be as old as two intervals of its job.

    The age counts from ``since``, the start of the process that measures, from the opening of the market, or from the
    newest price, whichever is the latest. Prices of ``least`` seconds are never too old. A delayed price is as old as
    the time since it came.
    """
    row = connection.execute(_PRICES, {"now": now, "since": since, "least": least}).first()
    return [] if row is None else [Progress("prices", float(row.behind), float(row.most))]


def values(connection: Connection, now: datetime, since: datetime) -> list[Progress]:
    """Measure the values of accounts that hold positions, unless there are none. The age counts at most from ``since``.

    Prices that come rarely are valued rarely: only a price without its value is behind.
    """
    behind = connection.execute(_VALUES, {"now": now, "since": since}).scalar()
    return [] if behind is None else [Progress("values", float(behind), VALUE_SECONDS)]


def valued(until: datetime, now: datetime) -> Call:
    """The statement by which valuation reports that all prices until that time are in the values."""
    return _VALUED, {"until": until, "before": until - SAVED_EVERY, "now": now}


class ProgressMonitor(Repeated):
    """Measures the parts of a service every few seconds, and saves the state of its outbox."""

    def __init__(self, context: ServiceContext, *, price_age: float = PRICE_SECONDS) -> None:
        super().__init__(f"progress of {context.service}", part="progress", service=context.service)
        self._context = context
        self._price_age = price_age
        self._since = context.clock()
        self._measured: Sequence[Progress] = ()

    def step(self) -> float:
        self.measure()
        return EVERY_SECONDS

    def failed(self) -> None:
        self._measured = ()  # the check of the database says more

    def measure(self) -> None:
        """Measure each part once. Raises DATABASE_ERRORS."""
        service, now = self._context.service, self._context.clock()
        self._since = min(self._since, now)  # it lies ahead if the clock went back
        with self._context.engine.begin() as connection:
            measured = [outbox(connection, service)]
            if service == "marketdata":
                measured += prices(connection, now, self._since, self._price_age)
            if service == "valuation":
                measured += values(connection, now, self._since)
            reached = now - timedelta(seconds=measured[0].behind)
            connection.execute(_SAVE, {"service": service, "reached": reached, "now": now})
        self._measured = measured

    def checks(self) -> dict[str, bool | float]:
        """Tell whether each part keeps up, and how far behind: ``{"outbox": True, "outbox_behind_seconds": 0.2}``."""
        found: dict[str, bool | float] = {}
        for each in self._measured:
            found[each.part] = not each.is_late
            found[f"{each.part}_behind_seconds"] = round(each.behind, 1)
        return found


_OUTBOX = "SELECT extract(epoch FROM now() - created_at) FROM {schema}.outbox ORDER BY id LIMIT 1"
_SAVE = text("""
INSERT INTO jobs.progress (service, part, reached_at, measured_at) VALUES (:service, 'outbox', :reached, :now)
ON CONFLICT (service, part) DO UPDATE SET reached_at = excluded.reached_at, measured_at = excluded.measured_at
""")
_VALUED = """
UPDATE jobs.progress SET reached_at = %(until)s, measured_at = %(now)s
WHERE service = 'valuation' AND part = 'values' AND reached_at < %(before)s
"""
#: A job that runs in the hours of its market only need not have run when that is closed. An interval is written 90s or
#: 5m. That of another schedule is taken from its slots.
_PRICES = text("""
WITH job AS (
  SELECT 2 * extract(epoch FROM CASE
           WHEN settings ->> 'schedule' ~ '^[0-9]+[smhd]$' THEN CAST(settings ->> 'schedule' AS interval)
           ELSE next_slot - last_slot END) AS most,
         CASE WHEN CAST(settings ->> 'market_hours_only' AS boolean) THEN market END AS within
  FROM jobs.jobs WHERE name = 'update_market_data'
), open AS (
  SELECT market, max(open_at) AS open_at FROM marketdata.sessions_v1
  WHERE open_at <= :now AND close_at > :now GROUP BY market
)
SELECT extract(epoch FROM :now - GREATEST(max(CASE WHEN i.delayed THEN i.received_at ELSE i.quoted_at END),
                                          max(open.open_at), :since)) AS behind,
       GREATEST(CAST(:least AS numeric), (SELECT most FROM job)) AS most
FROM marketdata.instruments_v1 i JOIN open ON open.market = i.market
WHERE i.tradable AND i.halted_at IS NULL AND i.quoted_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM job WHERE job.within IS NOT NULL AND job.within NOT IN (SELECT market FROM open))
HAVING count(*) > 0
""")
#: The held symbol with the newest price. If the price before that is not valued either, the values have
#: stood still since the last one that was.
_VALUES = text("""
SELECT extract(epoch FROM CASE
         WHEN newest.quoted_at <= valued.at THEN interval '0'
         WHEN newest.since > valued.at THEN :now - valued.at
         ELSE GREATEST(:now - newest.quoted_at, interval '0') END)
FROM (
  SELECT GREATEST(reached_at, :since) AS at FROM jobs.progress WHERE service = 'valuation' AND part = 'values'
) AS valued
CROSS JOIN LATERAL (
  SELECT i.quoted_at, i.since FROM marketdata.instruments_v1 i
  WHERE i.quoted_at IS NOT NULL AND EXISTS (SELECT FROM orders.positions_v1 p WHERE p.symbol = i.symbol)
  ORDER BY i.quoted_at DESC LIMIT 1
) AS newest
""")
