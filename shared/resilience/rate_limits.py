"""Rate limits that all replicas share: together they call no more often than a provider allows.

The generic cell rate algorithm: each call takes its part of the period, and ``full_until`` is when all taken parts are
over. A call passes while they reach at most one period ahead. One statement decides and takes. Replicas that call at
the same time wait for each other at its row.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, text

from shared.bus.unit_of_work import ServiceContext

NO_WAIT = timedelta(0)
_MICROSECOND = timedelta(microseconds=1)
#: Clocks may differ by this much.
CLOCK_TOLERANCE = timedelta(seconds=10)


class Rate(NamedTuple):
    """The number of calls that are allowed in each period."""

    allowed: int
    period: timedelta


class RateLimited(Exception):
    """The provider was not called, since it allows no call before ``retry_at``."""

    def __init__(self, name: str, retry_at: datetime) -> None:
        super().__init__(f"{name} allows no call before {retry_at:%Y-%m-%d %H:%M:%S %Z}")
        self.name = name
        self.retry_at = retry_at


class RateLimit:
    """``allowed`` calls may come at once, then one for each part of the ``period`` that passes.

    After a rest, one period may hold nearly twice as many calls. For a provider that counts strictly, give half of its
    limit. The replicas' clocks should agree: a clock that is ahead allows more calls at once, but no higher rate.
    ``pause`` waits for some seconds, and returns True if the process is to stop.
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
        self._given = {
            "name": name,
            "allowed": allowed,
            "seconds": period.total_seconds(),
            "part": self._part,
            "room": self._room,
            "tolerance": CLOCK_TOLERANCE,
        }

    def take(self, *, wait: timedelta = NO_WAIT) -> None:
        """Take a call, and wait for its turn. Callers that wait go in the order in which they came.

        Raises RateLimited if the turn would not come within ``wait``, or the process is to stop.
        """
        now = self._context.clock()
        row = self._execute(_TAKE, now=now, most=now + self._room + wait)
        if row is None:
            refused = self._execute(_REFUSE, now=now)
            raise RateLimited(self.name, max(now, refused.full_until + self._part - self._room))
        turn = row.full_until - self._room
        if turn > now and self._pause((turn - now).total_seconds()):
            raise RateLimited(self.name, turn)

    def hold(self, until: datetime) -> None:
        """Allow no call before ``until``: the provider said when it takes the next one.

        Callers that wait for their turn already still make their calls. Nothing is allowed sooner than it was.
        """
        self._execute(_HOLD, now=self._context.clock(), until=until)

    def give_back(self) -> None:
        """Return a call that was taken and not made."""
        self._execute(_GIVE_BACK)

    def _execute(self, statement: TextClause, **values: Any) -> Any:
        """Return the row of a statement, if any. It has its own transaction, since a call counts even if it fails."""
        with self._context.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            return connection.execute(statement, {**self._given, **values}).first()


def rate_limit_rows(connection: Connection, now: datetime) -> list[dict[str, Any]]:
    """Read all limits that were ever used, by name, with the calls available now and the time of the next free one."""
    limits = []
    for row in connection.execute(_ALL):
        period = timedelta(seconds=float(row.period_seconds))
        part = _part(row.allowed, period)
        free = now + part * row.allowed - max(row.full_until, now)
        limits.append(
            {
                "name": row.name,
                "allowed": row.allowed,
                "period": period,
                "available": max(0, free // part),
                "next_free_at": max(now, now + part - free),
                "refused": row.refused,
            }
        )
    return limits


def _part(allowed: int, period: timedelta) -> timedelta:
    """The part of the period that one call takes. It is rounded up, so never more calls pass than are allowed."""
    return _MICROSECOND * -(-(period // _MICROSECOND) // allowed)


#: If the limit has changed, or the clock went back since, earlier calls count for at most a period of the limit.
_FULL_UNTIL = """
CASE WHEN (l.allowed, l.period_seconds) = (:allowed, CAST(:seconds AS numeric))
          AND l.updated_at <= CAST(:now AS timestamptz) + CAST(:tolerance AS interval) THEN l.full_until
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
#: The call at ``until`` is the only one that fits then.
_HELD_UNTIL = "CAST(:until AS timestamptz) + CAST(:room AS interval) - CAST(:part AS interval)"
_HOLD = text(f"""
INSERT INTO jobs.rate_limits AS l (name, allowed, period_seconds, full_until, updated_at)
VALUES (:name, :allowed, CAST(:seconds AS numeric), {_HELD_UNTIL}, :now)
ON CONFLICT (name) DO UPDATE SET allowed = excluded.allowed, period_seconds = excluded.period_seconds,
  full_until = GREATEST({_FULL_UNTIL}, excluded.full_until), updated_at = excluded.updated_at
RETURNING full_until
""")
_GIVE_BACK = text("""
UPDATE jobs.rate_limits SET full_until = full_until - CAST(:part AS interval) WHERE name = :name RETURNING full_until
""")
_ALL = text("SELECT name, allowed, period_seconds, full_until, refused FROM jobs.rate_limits ORDER BY name")
