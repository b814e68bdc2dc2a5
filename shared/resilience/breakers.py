"""Circuit breakers that all replicas share: a dependency that keeps failing is not called for a while.

closed ──failures in a row──▶ open ──the pause is over──▶ half_open ──success──▶ closed
                                ▲                            │ failure: a longer pause
                                └────────────────────────────┘

A breaker is a row of ``jobs.breakers``, which its first failure inserts. Each change is one statement, so one replica
opens it, one makes the attempt after the pause, and one closes it.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, NamedTuple

import psycopg
import structlog
from dramatiq.middleware import TimeLimitExceeded
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import SQLAlchemyError

from shared.bus.unit_of_work import ServiceContext
from shared.observability.log_record import redacted
from shared.outage import first_line, pause_seconds
from shared.resilience.rate_limits import CLOCK_TOLERANCE, RateLimited

log = structlog.get_logger(__name__)

ERROR_CHARACTERS = 500


class BreakerOpen(Exception):
    """The dependency was not called, and will not be until ``next_attempt_at``."""

    def __init__(self, name: str, next_attempt_at: datetime) -> None:
        super().__init__(f"{name} keeps failing; the next attempt is at {next_attempt_at:%Y-%m-%d %H:%M:%S %Z}")
        self.name = name
        self.next_attempt_at = next_attempt_at


#: Mistakes in the call itself: the same call would fail again.
MISTAKES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError, AssertionError)
#: These errors say nothing about the dependency: it was not called, the call was wrong, or our database failed.
_NOT_A_FAILURE = (BreakerOpen, RateLimited, *MISTAKES, SQLAlchemyError, psycopg.Error)


def is_failure(error: BaseException) -> bool:
    """Tell whether the error is a failure of the dependency. A call that reached its time limit is one."""
    return isinstance(error, Exception | TimeLimitExceeded) and not isinstance(error, _NOT_A_FAILURE)


class _Attempt(NamedTuple):
    """A call that was let through.

    ``failures`` are those in a row before it. ``since`` and ``openings`` belong to the attempt after a pause.
    """

    failures: int = 0
    since: datetime | None = None
    openings: int = 0


class Breaker:
    """``with Breaker(context, "yahoo"): call()`` makes the call, or raises BreakerOpen at once.

    After ``failures`` in a row, over all replicas, it opens for a random half to all of ``pause``. Each failed attempt
    doubles the pause, up to ``longest``. An attempt without a result after ``trial`` is taken for dead, and another is
    made. ``counts`` tells which errors are failures. Any other error passes through and changes nothing.

    While no call fails, a call costs one statement, which only reads. Thread-safe.
    """

    def __init__(
        self,
        context: ServiceContext,
        name: str,
        *,
        failures: int = 5,
        pause: timedelta = timedelta(seconds=30),
        longest: timedelta = timedelta(minutes=10),
        trial: timedelta = timedelta(minutes=2),
        counts: Callable[[BaseException], bool] = is_failure,
    ) -> None:
        self.name = name
        self._context = context
        self._failures = failures
        self._pause = pause
        self._longest = longest
        self._trial = trial
        self._counts = counts
        self._here = threading.local()

    def __enter__(self) -> None:
        now = self._context.clock()
        row = self._execute(_ADMIT, now=now, trial_ends=now + self._trial, tolerance=CLOCK_TOLERANCE)
        if row is None:
            self._here.attempt = _Attempt()
        elif row.mine:
            self._here.attempt = _Attempt(row.failures, now, row.openings)
        elif row.state == "closed":
            self._here.attempt = _Attempt(row.failures)
        else:
            paused = row.state == "open" and row.next_attempt_at > now  # else another replica makes the attempt
            raise BreakerOpen(self.name, row.next_attempt_at if paused else now + min(self._pause, self._trial))

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        attempt: _Attempt = self._here.attempt
        now = self._context.clock()
        if error is not None and self._counts(error):
            self._count_failure(attempt, error, now)
        elif error is not None:
            if attempt.since:
                self._execute(_GIVE_BACK, since=attempt.since)
        elif attempt.since:
            if self._execute(_CLOSE, since=attempt.since, now=now):
                log.info("breaker closed", breaker=self.name)
        elif attempt.failures:
            self._execute(_RESET, now=now)

    def _count_failure(self, attempt: _Attempt, error: BaseException, now: datetime) -> None:
        message = redacted(f"{type(error).__name__}: {first_line(error)}")[:ERROR_CHARACTERS]
        if not attempt.since and self._execute(_COUNT, now=now, error=message).failures < self._failures:
            return
        first, longest = self._pause.total_seconds(), self._longest.total_seconds()
        pause = timedelta(seconds=pause_seconds(attempt.openings, first=first, longest=longest))
        opened = self._execute(
            _OPEN, now=now, error=message, since=attempt.since, most=self._failures, next=now + pause
        )
        if opened:
            until = opened.next_attempt_at.isoformat(timespec="seconds")
            log.warning("breaker opened", breaker=self.name, error=message, failures=opened.failures, until=until)

    def _execute(self, statement: TextClause, **values: Any) -> Any:
        """Return the row of a statement, if any. It has its own transaction, since the caller's may roll back."""
        with self._context.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            return connection.execute(statement, {"name": self.name, **values}).first()


def breaker_rows(connection: Connection) -> list[dict[str, Any]]:
    """Read all breakers that ever counted a failure, by name."""
    return [dict(row) for row in connection.execute(_ALL).mappings()]


#: One round trip, which writes only if the attempt after a pause is due. A row from the future was written before the
#: clock went back, so its pause says nothing. It returns the row as it was before.
_ADMIT = text("""
WITH attempt AS (
  UPDATE jobs.breakers SET state = 'half_open', since = :now, next_attempt_at = :trial_ends, updated_at = :now
  WHERE name = :name AND state <> 'closed'
    AND (next_attempt_at <= :now OR updated_at > CAST(:now AS timestamptz) + CAST(:tolerance AS interval))
  RETURNING 1
)
SELECT state, failures, openings, next_attempt_at, EXISTS (SELECT FROM attempt) AS mine
FROM jobs.breakers WHERE name = :name
""")
#: A breaker that is not closed was opened by another replica, and does not change.
_COUNT = text("""
INSERT INTO jobs.breakers AS b (name, state, failures, since, last_error, updated_at)
VALUES (:name, 'closed', 1, :now, :error, :now)
ON CONFLICT (name) DO UPDATE SET failures = b.failures + CAST(b.state = 'closed' AS integer),
  last_error = excluded.last_error, updated_at = excluded.updated_at
RETURNING failures
""")
#: After the last failure in a row, unless a success came between, or after a failed attempt.
_OPEN = text("""
UPDATE jobs.breakers SET state = 'open', failures = failures + CAST(state = 'half_open' AS integer),
  openings = openings + 1, next_attempt_at = :next, last_error = :error, since = :now, updated_at = :now
WHERE name = :name AND ((state = 'closed' AND failures >= :most) OR (state = 'half_open' AND since = :since))
RETURNING failures, next_attempt_at
""")
_CLOSE = text("""
UPDATE jobs.breakers SET state = 'closed', failures = 0, openings = 0, next_attempt_at = NULL,
  since = :now, updated_at = :now
WHERE name = :name AND state = 'half_open' AND since = :since
RETURNING 1
""")
_RESET = text("""
UPDATE jobs.breakers SET failures = 0, updated_at = :now WHERE name = :name AND state = 'closed' AND failures > 0
RETURNING 1
""")
#: The attempt showed nothing about the dependency, so the next caller makes another.
_GIVE_BACK = text("""
UPDATE jobs.breakers SET state = 'open', next_attempt_at = since, updated_at = since
WHERE name = :name AND state = 'half_open' AND since = :since
RETURNING 1
""")
_ALL = text("""
SELECT name, state, failures, since, next_attempt_at, last_error FROM jobs.breakers ORDER BY name
""")
