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
        """Report progress, which is shown within about a second. Raises what ``check`` raises."""
        self.check()
        self.signals.done = done
        self.signals.total = self.signals.total if total is None else total

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
