"""Something we depend on that comes and goes: how long to wait before the next try, and one log line per change."""

import random
import threading

import structlog

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


def pause_seconds(
    failures: int,
    *,
    first: float = FIRST_PAUSE_SECONDS,
    longest: float = LONGEST_PAUSE_SECONDS,
    jitter: random.Random | None = None,
) -> float:
    """Doubling with each failure, half of it random, so that many who wait do not come back at once."""
    most = min(longest, first * 2 ** min(failures, 30))
    return (jitter or random).uniform(most / 2, most)


class Outage:
    """Thread-safe. ``what`` is the dependency as an operator knows it; ``facts`` go with each line."""

    def __init__(self, what: str, **facts: object) -> None:
        self._log = log.bind(**facts)
        self._what = what
        self._failures = 0
        self._lock = threading.Lock()

    @property
    def lasts(self) -> bool:
        return self._failures > 0

    def failed(self, error: object) -> float:
        """Note a failed try; returns the seconds to wait before the next."""
        with self._lock:
            self._failures += 1
            if self._failures == 1:
                self._log.warning(f"{self._what} is away; waiting for it", error=first_line(error))
            return pause_seconds(self._failures - 1)

    def passed(self) -> bool:
        """Note that it answers; True when it had been away."""
        if not self._failures:
            return False
        with self._lock:
            was_away, self._failures = self._failures > 0, 0
        if was_away:
            self._log.info(f"{self._what} is back")
        return was_away


def first_line(error: object) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
