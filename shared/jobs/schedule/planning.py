"""What a tick does with one job: pure functions of its live settings, its market and the time.

Slots are taken in the order in which they come, each once: those after ``considered_until`` and not after now. What
does not become a run becomes a skip that says why.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from shared.jobs.schedule.calendar import Market
from shared.jobs.schedule.slots import Every, Timing
from shared.jobs.settings import HORIZON, JobSettings

#: A slot that is claimed within this time was not missed.
ON_TIME = timedelta(seconds=10)
#: A job is looked at so often at the least: its market's sessions may have changed.
LOOK_EVERY = timedelta(minutes=15)
#: Longer ago than this, missed slots are not even counted.
LOOK_BACK = timedelta(days=7)
#: Runs of one job that may wait for each other.
MOST_WAITING = 1000
NEVER = timedelta(days=3650)
_INSTANT = timedelta(microseconds=1)

MISSED = "missed: nobody claimed the slot in time"
OVERLAPS = "the run before it is still under way"
FULL = f"{MOST_WAITING} runs wait already"
SUPERSEDED = "a later slot came"


@dataclass(frozen=True)
class LiveJob:
    """A job as the live tables have it now. ``unfinished`` is how many of its runs wait or are under way."""

    name: str
    service: str
    settings: JobSettings
    considered_until: datetime | None = None
    last_slot: datetime | None = None
    unfinished: int = 0


@dataclass(frozen=True)
class Skip:
    """Consecutive slots that did not become runs, for one reason."""

    first: datetime
    last: datetime
    slots: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """``runs`` are the slots to run, in order; the first begins at once if ``at_once``, the others wait for their turn.

    ``instead`` means that what is unfinished has to be canceled first.
    """

    due_at: datetime
    next_slot: datetime | None = None
    runs: tuple[datetime, ...] = ()
    skips: tuple[Skip, ...] = ()
    at_once: bool = False
    instead: bool = False


def plan(job: LiveJob, market: Market, now: datetime) -> Plan:
    timing = job.settings.timing
    if timing is None or not job.settings.enabled:
        return Plan(now + NEVER)
    slots = list(timing.slots(market, _begin(job, timing, market, now), now + _INSTANT))
    chosen, missed = _misfire(job.settings, slots, now)
    following = timing.next_slot(market, now, HORIZON)
    empty = Plan(min(following or now + LOOK_EVERY, now + LOOK_EVERY), following, skips=_skip(missed, MISSED))
    return _overlap(job, chosen, empty)


def next_slots(settings: JobSettings, market: Market, now: datetime, count: int) -> list[datetime]:
    """The next slots after now, at most ``count``; none of a job that has no schedule or is disabled."""
    if settings.timing is None or not settings.enabled:
        return []
    return list(islice(settings.timing.slots(market, now + _INSTANT, now + HORIZON), count))


def slots_between(settings: JobSettings, market: Market, begin: datetime, end: datetime) -> Iterator[datetime]:
    """All slots from ``begin`` to before ``end``, whether the job is enabled or not."""
    return iter(()) if settings.timing is None else settings.timing.slots(market, begin, end)


def _begin(job: LiveJob, timing: Timing, market: Market, now: datetime) -> datetime:
    """Slots from here on are decided. Of a new or changed job the interval that has begun counts, nothing before it."""
    if job.considered_until is not None:
        return max(job.considered_until + _INSTANT, now - LOOK_BACK)
    schedule = timing.schedules[market.phase_at(now)]
    begin = now - schedule.interval + _INSTANT if isinstance(schedule, Every) else now
    return max(begin, job.last_slot + _INSTANT) if job.last_slot else begin


def _misfire(settings: JobSettings, slots: Sequence[datetime], now: datetime) -> tuple[list[datetime], list[datetime]]:
    """The slots to run, and those that were missed."""
    if settings.misfire == "run_all":
        earliest = now - timedelta(seconds=settings.seconds("misfire_window"))
        window = [slot for slot in slots if slot >= earliest][-MOST_WAITING:]
        return window, list(slots[: len(slots) - len(window)])
    late = bool(slots) and now - slots[-1] > ON_TIME
    if not slots or (late and settings.misfire == "skip"):
        return [], list(slots)
    return [slots[-1]], list(slots[:-1])


def _overlap(job: LiveJob, chosen: list[datetime], rest: Plan) -> Plan:
    """The slots to run, beside what is unfinished already."""
    if not chosen or not job.unfinished:
        return replace(rest, runs=tuple(chosen), at_once=bool(chosen))
    if job.settings.overlap == "cancel":
        superseded = _skip(chosen[:-1], SUPERSEDED)
        return replace(rest, runs=(chosen[-1],), skips=rest.skips + superseded, instead=True)
    waits = job.settings.misfire == "run_all" or job.settings.overlap == "queue"
    if not waits:
        return replace(rest, skips=rest.skips + _skip(chosen, OVERLAPS))
    room = max(0, MOST_WAITING - job.unfinished)
    return replace(rest, runs=tuple(chosen[:room]), skips=rest.skips + _skip(chosen[room:], FULL))


def _skip(slots: Sequence[datetime], reason: str) -> tuple[Skip, ...]:
    return (Skip(slots[0], slots[-1], len(slots), reason),) if slots else ()
