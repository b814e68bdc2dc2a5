"""Outages of a dependency: the pause before the next try, and one log line when an outage begins and ends."""

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
    """Seconds to wait: doubling with each failure, half of it random, so that not all clients come back at once."""
    most = min(longest, first * 2 ** min(failures, 30))
    return (jitter or random).uniform(most / 2, most)


class Outage:
    """Thread-safe. ``dependency`` is its name for operators, and ``facts`` are fields of each log line."""

    def __init__(self, dependency: str, **facts: object) -> None:
        self._log = log.bind(**facts)
        self._dependency = dependency
        self._failures = 0
        self._lock = threading.Lock()

    def failed(self, error: object) -> float:
        """Record a failed try, and return the seconds to wait before the next one."""
        with self._lock:
            self._failures += 1
            if self._failures == 1:
                self._log.warning(f"{self._dependency} is away; waiting for it", error=first_line(error))
            return pause_seconds(self._failures - 1)

    def passed(self) -> bool:
        """Record a successful try. True where it ends an outage."""
        if not self._failures:
            return False
        with self._lock:
            was_away, self._failures = self._failures > 0, 0
        if was_away:
            self._log.info(f"{self._dependency} is back")
        return was_away


def first_line(error: object) -> str:
    """The first line of the error's text that says something, or its type's name where none does."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
