"""The context of a running job: its parameters and slot, its progress, and requests to end it."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog

from shared.bus.unit_of_work import ServiceContext
from shared.contracts.markets import DEFAULT_MARKET

#: The counts of a run, such as ``{"prices_written": 5}``; its history shows them.
Counts = Mapping[str, int]
#: The bounds of what a run may count and report.
MOST_COUNTS, LONGEST_NAME, LARGEST_COUNT = 100, 100, 2**63 - 1


class Trigger(StrEnum):
    """The cause of a run."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    RETRY = "retry"
    BACKFILL = "backfill"
    CHAIN = "chain"
    PART = "part"


class Outcome(StrEnum):
    """The outcome of a finished run. A lost run is one whose worker died."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    SKIPPED = "skipped"
    LOST = "lost"


class RunCanceled(Exception):
    """The run noticed that somebody canceled it."""


class RunInterrupted(Exception):
    """The worker is being stopped, or the run was given to another worker. The run begins again elsewhere."""


class InvalidCount(ValueError):
    """A job counted or reported something that is no whole number, or is too large to be stored."""


def count_of(name: str, number: object) -> int:
    """Return the number. Raises InvalidCount."""
    if not isinstance(number, int) or not -LARGEST_COUNT <= number <= LARGEST_COUNT:
        shown = type(number).__name__ if not isinstance(number, int) else f"{len(f'{number:x}')} hexadecimal digits"
        raise InvalidCount(f"{name}: must be a whole number of at most 63 bits, not {shown}")
    return int(number)


def counts_of(given: object) -> Counts:
    """Return the counts of a run as they are stored. A job that counts nothing may return None.

    Raises InvalidCount.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or len(given) > MOST_COUNTS:
        shown = len(given) if isinstance(given, Mapping) else type(given).__name__
        raise InvalidCount(f"a job returns a mapping of at most {MOST_COUNTS} counts, not {shown}")
    for name in given:
        if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST_NAME):
            raise InvalidCount(f"a count's name is printable text of at most {LONGEST_NAME} characters")
    return {name: count_of(name, number) for name, number in given.items()}


@dataclass
class Signals:
    """State that a run's thread shares with the heartbeat."""

    canceled: threading.Event = field(default_factory=threading.Event)
    interrupted: threading.Event = field(default_factory=threading.Event)
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class RunContext:
    """A run as its job sees it.

    ``now`` is when it began by the service's clock, ``slot`` the time that it was scheduled for, if any. A retried run
    keeps its ``id``. ``part`` is its number among the parts of a run, and ``market`` the market of its schedule.
    """

    id: UUID
    context: ServiceContext
    now: datetime
    parameters: Mapping[str, Any]
    slot: datetime | None = None
    attempt: int = 1
    part: int | None = None
    market: str = DEFAULT_MARKET
    signals: Signals = field(default_factory=Signals)

    def progress(self, done: int, total: int | None = None) -> None:
        """Report progress, which is shown within about a second.

        Raises what ``check`` raises, and InvalidCount for a number that cannot be stored.
        """
        self.check()
        self.signals.done = count_of("done", done)
        self.signals.total = self.signals.total if total is None else count_of("total", total)

    def check(self) -> None:
        """End the run here if it should end: raises RunCanceled or RunInterrupted."""
        if self.signals.canceled.is_set():
            raise RunCanceled
        if self.signals.interrupted.is_set():
            raise RunInterrupted

    @property
    def log(self) -> structlog.stdlib.BoundLogger:
        """A logger whose lines are kept with the run."""
        logger: structlog.stdlib.BoundLogger = structlog.get_logger("job")
        return logger
