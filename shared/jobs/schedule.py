"""When a job is due: pure functions of its live settings and the time.

A slot is a multiple of the interval since 1970 in UTC. The latest slot that began is due until it has been
claimed: after an outage a job runs once, at once, and not for every slot it missed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class LiveJob:
    """A job as the live table has it now."""

    name: str
    service: str
    enabled: bool
    interval: timedelta
    market_hours_only: bool
    market_open: bool
    last_slot: datetime | None
    unfinished: bool

    @property
    def may_run(self) -> bool:
        return self.enabled and not self.unfinished and (self.market_open or not self.market_hours_only)


def slot_at(now: datetime, interval: timedelta) -> datetime:
    """The start of the slot that ``now`` lies in."""
    return EPOCH + (now - EPOCH) // interval * interval


def due_slot(job: LiveJob, now: datetime) -> datetime | None:
    """The slot to claim now, if any."""
    slot = slot_at(now, job.interval)
    claimed = job.last_slot is not None and job.last_slot >= slot
    return slot if job.may_run and not claimed else None
