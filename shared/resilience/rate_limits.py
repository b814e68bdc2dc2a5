"""Rate limits that all replicas share, so that together they call no more often than a provider allows.

The generic cell rate algorithm: each call takes up its part of the period, and ``full_until`` is when all parts that
were taken are over. A call passes while they reach no further than a period ahead. One statement decides and takes;
replicas that call at the same time wait for each other at its row.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, text

from shared.bus.unit_of_work import ServiceContext

NO_WAIT = timedelta(0)
_MICROSECOND = timedelta(microseconds=1)


class Rate(NamedTuple):
    """So many calls in each period."""

    allowed: int
    period: timedelta


class RateLimited(Exception):
    """The provider allows no call before ``retry_at``; it was not asked."""

    def __init__(self, name: str, retry_at: datetime) -> None:
        super().__init__(f"{name} allows no call before {retry_at:%Y-%m-%d %H:%M:%S %Z}")
        self.name = name
        self.retry_at = retry_at


class RateLimit:
    """``allowed`` calls at once, and then one for each part of the ``period`` that is over.

    After a rest one period may thus hold nearly twice as many: for a provider that counts strictly, say half of what it
    allows. The clocks of the replicas should agree: one that is ahead adds to the calls at once, not to those after.
    ``pause`` waits for so many seconds, and answers True where it was told to stop.
    """

    def __init__(
        self,
        context: ServiceContext,
        name: str,
        *,
        allowed: int,
        period: timedelta,
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        self.name = name
        self._context = context
        self._part = _part(allowed, period)
        self._room = self._part * allowed
        self._pause = pause or threading.Event().wait
        self._given = {"name": name, "allowed": allowed, "seconds": period.total_seconds(), "room": self._room}

    def take(self, *, wait: timedelta = NO_WAIT) -> None:
        """Take a call; raises RateLimited where its turn would not come within ``wait``.

        Who waits has taken its turn already, so those who wait go in the order in which they came.
        """
        now = self._context.clock()
        row = self._execute(_TAKE, now=now, most=now + self._room + wait)
        if row is None:
            raise RateLimited(self.name, self._refused(now))
        turn = row.full_until - self._room
        if turn > now and self._pause((turn - now).total_seconds()):
            raise RateLimited(self.name, turn)

    def _refused(self, now: datetime) -> datetime:
        """Count it; when a call would pass."""
        row = self._execute(_REFUSE, now=now)
        free: datetime = row.full_until + self._part - self._room
        return max(now, free)

    def _execute(self, statement: TextClause, **values: Any) -> Any:
        """The row that the statement answers with, if any. It commits by itself: a call counts whatever comes of it."""
        with self._context.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            return connection.execute(statement, {**self._given, "part": self._part, **values}).first()


def rate_limit_rows(connection: Connection, now: datetime) -> list[dict[str, Any]]:
    """Every limit that was ever used, by name: how many calls it allows, and now, and when the next one may come."""
    return [_shown(row, now) for row in connection.execute(_ALL)]


def _shown(row: Any, now: datetime) -> dict[str, Any]:
    period = timedelta(seconds=float(row.period_seconds))
    part = _part(row.allowed, period)
    free = now + part * row.allowed - max(row.full_until, now)
    return {
        "name": row.name,
        "allowed": row.allowed,
        "period": period,
        "available": max(0, free // part),
        "next_free_at": max(now, now + part - free),
        "refused": row.refused,
    }


def _part(allowed: int, period: timedelta) -> timedelta:
    """What one call takes up of the period, rounded up: never more calls than are allowed."""
    return _MICROSECOND * -(-(period // _MICROSECOND) // allowed)


#: Where the limit was changed, what was taken under the old one reaches no further than a period of the new one.
_FULL_UNTIL = """
CASE WHEN (l.allowed, l.period_seconds) = (:allowed, CAST(:seconds AS numeric)) THEN l.full_until
     ELSE LEAST(l.full_until, CAST(:now AS timestamptz) + CAST(:room AS interval)) END
"""
_WITH_THIS = f"GREATEST({_FULL_UNTIL}, :now) + CAST(:part AS interval)"
_TAKE = text(f"""
INSERT INTO jobs.rate_limits AS l (name, allowed, period_seconds, full_until, updated_at)
VALUES (:name, :allowed, CAST(:seconds AS numeric), CAST(:now AS timestamptz) + CAST(:part AS interval), :now)
ON CONFLICT (name) DO UPDATE SET allowed = excluded.allowed, period_seconds = excluded.period_seconds,
  full_until = {_WITH_THIS}, updated_at = excluded.updated_at
WHERE {_WITH_THIS} <= :most
RETURNING full_until
""")
_REFUSE = text(f"""
UPDATE jobs.rate_limits l SET allowed = :allowed, period_seconds = CAST(:seconds AS numeric),
  full_until = {_FULL_UNTIL}, refused = refused + 1, updated_at = :now
WHERE name = :name RETURNING full_until
""")
_ALL = text("SELECT name, allowed, period_seconds, full_until, refused FROM jobs.rate_limits ORDER BY name")
