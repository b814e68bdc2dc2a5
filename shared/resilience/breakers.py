"""Circuit breakers that all replicas share: a dependency that keeps failing is left alone for a while.

closed ──failures in a row──▶ open ──the pause is over──▶ half_open ──success──▶ closed
                                ▲                            │ failure: a longer pause
                                └────────────────────────────┘

A row of ``jobs.breakers`` is the breaker, made by the first failure. Each change is one statement, so that of all
replicas one opens it, one makes the attempt after the pause, and one closes it.
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
from shared.resilience.rate_limits import RateLimited

log = structlog.get_logger(__name__)

ERROR_CHARACTERS = 500


class BreakerOpen(Exception):
    """The dependency is left alone until ``next_attempt_at``; nothing was asked of it."""

    def __init__(self, name: str, next_attempt_at: datetime) -> None:
        super().__init__(f"{name} keeps failing; the next attempt is at {next_attempt_at:%Y-%m-%d %H:%M:%S %Z}")
        self.name = name
        self.next_attempt_at = next_attempt_at


#: Who raises one of these has looked at what was given, and would see the same the next time.
MISTAKES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError, AssertionError)
#: These say nothing of the dependency: it was not asked, the mistake is in what it was asked, or our database failed.
_NOT_ITS_FAULT = (BreakerOpen, RateLimited, *MISTAKES, SQLAlchemyError, psycopg.Error)


def is_its_fault(error: BaseException) -> bool:
    """Whether the dependency is away or unwell; also one that kept its caller waiting until the time limit."""
    return isinstance(error, Exception | TimeLimitExceeded) and not isinstance(error, _NOT_ITS_FAULT)


class _Attempt(NamedTuple):
    """A call that was let through: the failures in a row before it, and of the attempt after a pause its place."""

    failures: int = 0
    since: datetime | None = None
    openings: int = 0


class Breaker:
    """``with Breaker(unit, "yahoo"): call()`` calls, or raises BreakerOpen at once.

    After ``failures`` in a row, over all replicas, it opens for a random half to all of ``pause``; each failed attempt
    doubles that, up to ``longest``. An attempt that was not heard of for ``trial`` is taken for dead, and another is
    made. ``counts`` says which errors are failures; any other passes through and changes nothing.

    A call costs one statement that only reads, as long as none fails. May be shared by threads.
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
        counts: Callable[[BaseException], bool] = is_its_fault,
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
        self._here.attempt = self._admit()

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        attempt: _Attempt = self._here.attempt
        if error is None:
            self._succeeded(attempt)
        elif self._counts(error):
            self._failed(attempt, error)
        elif attempt.since:
            self._execute(_GIVE_BACK, since=attempt.since)

    def _admit(self) -> _Attempt:
        now = self._context.clock()
        row = self._execute(_ADMIT, now=now, trial_ends=now + self._trial)
        if row is None:
            return _Attempt()
        if row.mine:
            return _Attempt(row.failures, now, row.openings)
        if row.state == "closed":
            return _Attempt(row.failures)
        waits_for_time = row.state == "open" and row.next_attempt_at > now  # else another's attempt is under way
        raise BreakerOpen(self.name, row.next_attempt_at if waits_for_time else now + min(self._pause, self._trial))

    def _succeeded(self, attempt: _Attempt) -> None:
        now = self._context.clock()
        if attempt.since:
            if self._execute(_CLOSE, since=attempt.since, now=now):
                log.info("breaker closed", breaker=self.name)
        elif attempt.failures:
            self._execute(_RESET, now=now)

    def _failed(self, attempt: _Attempt, error: BaseException) -> None:
        now = self._context.clock()
        told = redacted(f"{type(error).__name__}: {first_line(error)}")[:ERROR_CHARACTERS]
        if not attempt.since and self._execute(_COUNT, now=now, error=told).failures < self._failures:
            return
        opened = self._execute(
            _OPEN, now=now, error=told, since=attempt.since, most=self._failures, next=now + self._pause_after(attempt)
        )
        if opened:
            until = opened.next_attempt_at.isoformat(timespec="seconds")
            log.warning("breaker opened", breaker=self.name, error=told, failures=opened.failures, until=until)

    def _pause_after(self, attempt: _Attempt) -> timedelta:
        first, longest = self._pause.total_seconds(), self._longest.total_seconds()
        return timedelta(seconds=pause_seconds(attempt.openings, first=first, longest=longest))

    def _execute(self, statement: TextClause, **values: Any) -> Any:
        """The row that the statement answers with, if any. It commits by itself: the caller's work may roll back."""
        with self._context.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            return connection.execute(statement, {"name": self.name, **values}).first()


def breaker_rows(connection: Connection) -> list[dict[str, Any]]:
    """Every breaker that ever counted a failure, by name."""
    return [dict(row) for row in connection.execute(_ALL).mappings()]


#: One round trip, which writes only where the attempt after a pause is due. The columns are those before that.
_ADMIT = text("""
WITH attempt AS (
  UPDATE jobs.breakers SET state = 'half_open', since = :now, next_attempt_at = :trial_ends, updated_at = :now
  WHERE name = :name AND state <> 'closed' AND next_attempt_at <= :now
  RETURNING 1
)
SELECT state, failures, openings, next_attempt_at, EXISTS (SELECT FROM attempt) AS mine
FROM jobs.breakers WHERE name = :name
""")
#: A breaker that is no longer closed was opened by others, and stays as they left it.
_COUNT = text("""
INSERT INTO jobs.breakers AS b (name, state, failures, since, last_error, updated_at)
VALUES (:name, 'closed', 1, :now, :error, :now)
ON CONFLICT (name) DO UPDATE SET failures = b.failures + CAST(b.state = 'closed' AS integer),
  last_error = excluded.last_error, updated_at = excluded.updated_at
RETURNING failures
""")
#: By the last of the failures in a row, unless a success came between; or by the attempt after a pause.
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
#: An attempt that found out nothing: the next caller makes it.
_GIVE_BACK = text("""
UPDATE jobs.breakers SET state = 'open', next_attempt_at = since, updated_at = since
WHERE name = :name AND state = 'half_open' AND since = :since
RETURNING 1
""")
_ALL = text("""
SELECT name, state, failures, since, next_attempt_at, last_error FROM jobs.breakers ORDER BY name
""")
