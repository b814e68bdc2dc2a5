"""What a failed try means, and when the next one comes."""

from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import NamedTuple

from dramatiq.middleware import TimeLimitExceeded

from shared.jobs.settings import JobSettings
from shared.outage import pause_seconds
from shared.resilience.breakers import MISTAKES, BreakerOpen
from shared.resilience.rate_limits import RateLimited
from shared.storage.errors import is_transient

LONGEST_PAUSE = timedelta(minutes=10)


class Permanent(ValueError):
    """Raised by a job that no further try would help."""


class Kind(StrEnum):
    """Transient ones pass by themselves, rate-limited ones at a known time; permanent ones are never tried again."""

    TRANSIENT = "transient"
    RATE_LIMITED = "rate_limited"
    PERMANENT = "permanent"
    UNEXPECTED = "unexpected"


class Verdict(NamedTuple):
    """``again_at`` is None where the run has failed for good. Waiting for a dependency does not count as a try."""

    kind: Kind
    again_at: datetime | None
    counts: bool = True


def kind_of(error: BaseException) -> Kind:
    if isinstance(error, (RateLimited, BreakerOpen)):
        return Kind.RATE_LIMITED if isinstance(error, RateLimited) else Kind.TRANSIENT
    if is_transient(error) or isinstance(error, (OSError, TimeLimitExceeded)):
        return Kind.TRANSIENT
    return Kind.PERMANENT if isinstance(error, MISTAKES) else Kind.UNEXPECTED


def judge(
    error: BaseException, *, failures: int, settings: JobSettings, now: datetime, jitter: Random | None = None
) -> Verdict:
    """``failures`` is how many tries of the run have failed, this one included."""
    kind = kind_of(error)
    if isinstance(error, BreakerOpen):
        return Verdict(kind, error.next_attempt_at, counts=False)
    if kind is Kind.PERMANENT or failures > settings.retries:
        return Verdict(kind, None)
    pause = backoff(failures, settings, jitter)
    return Verdict(kind, max(now + pause, error.retry_at) if isinstance(error, RateLimited) else now + pause)


def backoff(failures: int, settings: JobSettings, jitter: Random | None = None) -> timedelta:
    """Doubling with each failure, half of it random: from half of the setting to all of it after the first."""
    longest = LONGEST_PAUSE.total_seconds()
    seconds = pause_seconds(failures - 1, first=settings.seconds("backoff"), longest=longest, jitter=jitter)
    return timedelta(seconds=seconds)
