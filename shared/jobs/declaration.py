"""Declaring a job, next to the service's actors.

jobs = Jobs("marketdata")

@jobs.job("update_market_data", every="1m", description="Fetch current prices from the provider.")
def update_market_data(run: JobRun) -> Counts: ...
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.bus.transaction import Unit
from shared.jobs.interval import parse_interval

#: What a run counted, such as ``{"prices_written": 5}``; shown in its history.
Counts = Mapping[str, int]


@dataclass(frozen=True)
class JobRun:
    """What a running job is given. ``now`` is the slot's start time by the service's clock."""

    id: UUID
    unit: Unit
    now: datetime
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A job as declared: its defaults, which the configuration file and the live table override."""

    name: str
    service: str
    description: str
    run: Callable[[JobRun], Counts]
    interval: timedelta
    market: str
    market_hours_only: bool = False
    enabled: bool = True


@dataclass
class Jobs:
    """The jobs of one service."""

    service: str
    market: str = "DEMO"
    declared: dict[str, Job] = field(default_factory=dict)

    def job(
        self, name: str, *, every: str, description: str, market_hours_only: bool = False
    ) -> Callable[[Callable[[JobRun], Counts]], Callable[[JobRun], Counts]]:
        def declare(run: Callable[[JobRun], Counts]) -> Callable[[JobRun], Counts]:
            self.declared[name] = Job(
                name, self.service, description, run, parse_interval(every), self.market, market_hours_only
            )
            return run

        return declare

    def configured(self, overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Job]:
        """The declared jobs with the configuration file's settings over them."""
        return {name: replace(job, **overrides.get(name, {})) for name, job in self.declared.items()}
