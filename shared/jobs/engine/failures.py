"""Classification of failed tries, and the time of the next try."""

from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import NamedTuple

import psycopg
from dramatiq.middleware import TimeLimitExceeded
from sqlalchemy.exc import DataError

from shared.jobs.settings import JobSettings
from shared.outage import pause_seconds
from shared.resilience.breakers import MISTAKES, BreakerOpen
from shared.resilience.rate_limits import RateLimited
from shared.storage.errors import is_transient

LONGEST_BACKOFF = timedelta(minutes=10)
#: The database would refuse the same values again.
REFUSED_VALUES = (DataError, psycopg.DataError)


class Permanent(ValueError):
    """Raised by a job when a retry would fail too."""


class Kind(StrEnum):
    """Transient errors pass by themselves, rate limits at a known time. Permanent errors are never retried."""

    TRANSIENT = "transient"
    RATE_LIMITED = "rate_limited"
    PERMANENT = "permanent"
    UNEXPECTED = "unexpected"


class Verdict(NamedTuple):
    """``retry_at`` is None if the run has failed for good. Waiting for a dependency uses up no retry."""

    kind: Kind
    retry_at: datetime | None
    uses_retry: bool = True


def kind_of(error: BaseException) -> Kind:
    """Classify an error that a job raised."""
    if isinstance(error, (RateLimited, BreakerOpen)):
        return Kind.RATE_LIMITED if isinstance(error, RateLimited) else Kind.TRANSIENT
    if is_transient(error) or isinstance(error, (OSError, TimeLimitExceeded)):
        return Kind.TRANSIENT
    return Kind.PERMANENT if isinstance(error, (*MISTAKES, *REFUSED_VALUES)) else Kind.UNEXPECTED


def judge(
    error: BaseException, *, failures: int, settings: JobSettings, now: datetime, jitter: Random | None = None
) -> Verdict:
    """Decide whether and when the run is retried. ``failures`` counts its failed tries, including this one."""
    kind = kind_of(error)
    if isinstance(error, BreakerOpen):
        return Verdict(kind, error.next_attempt_at, uses_retry=False)
    if isinstance(error, RateLimited):
        return Verdict(kind, error.retry_at, uses_retry=False)
    if kind is Kind.PERMANENT or failures > settings.retries:
        return Verdict(kind, None)
    retry_at = now + backoff(failures, settings, jitter)
    return Verdict(kind, retry_at)


def backoff(failures: int, settings: JobSettings, jitter: Random | None = None) -> timedelta:
    """The delay before the next try. It doubles with each failure, and half of it is random.

    After the first failure it is half of the setting to all of it.
    """
    longest = LONGEST_BACKOFF.total_seconds()
    seconds = pause_seconds(failures - 1, first=settings.seconds("backoff"), longest=longest, jitter=jitter)
    return timedelta(seconds=seconds)
