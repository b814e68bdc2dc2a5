"""What a running job works with: its parameters and slot, progress, and whether somebody wants it to end."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from shared.bus.unit_of_work import ServiceContext

#: What a run counted, such as ``{"prices_written": 5}``; shown in its history.
Counts = Mapping[str, int]


class RunCanceled(Exception):
    """Somebody canceled the run, and it has noticed."""


class RunInterrupted(Exception):
    """The worker is being stopped, or the run was given to another; it begins again elsewhere."""


@dataclass
class Signals:
    """Between a run's thread and the one that beats for it."""

    canceled: threading.Event = field(default_factory=threading.Event)
    interrupted: threading.Event = field(default_factory=threading.Event)
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class RunContext:
    """``now`` is when it began by the service's clock, ``slot`` the time that it was scheduled for, if any.

    ``part`` is its number among the parts of a run. A run that is tried again keeps its ``id``. ``market`` is that of
    its schedule.
    """

    id: UUID
    context: ServiceContext
    now: datetime
    parameters: Mapping[str, Any]
    slot: datetime | None = None
    attempt: int = 1
    part: int | None = None
    market: str = "DEMO"
    signals: Signals = field(default_factory=Signals)

    def progress(self, done: int, total: int | None = None) -> None:
        """How far it has come, which is shown within about a second; a good place to be canceled too."""
        self.check()
        self.signals.done = done
        self.signals.total = self.signals.total if total is None else total

    def check(self) -> None:
        """Raise RunCanceled or RunInterrupted if somebody wants the run to end; call it where it may end."""
        if self.signals.canceled.is_set():
            raise RunCanceled
        if self.signals.interrupted.is_set():
            raise RunInterrupted

    @property
    def log(self) -> structlog.stdlib.BoundLogger:
        """Its lines are kept with the run."""
        logger: structlog.stdlib.BoundLogger = structlog.get_logger("job")
        return logger
