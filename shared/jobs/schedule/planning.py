"""The decisions of a tick about one job: pure functions of its settings, its market and the time.

Slots are taken in order, each once: those after ``considered_until`` and not after now. A slot that does not become a
run becomes a skip with a reason.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from shared.jobs.schedule.calendar import HORIZON, Market, Phase
from shared.jobs.schedule.slots import Every, Relative, Timing
from shared.jobs.settings import LOOKBACK, MAX_WAITING, JobSettings

#: A slot that is claimed within this time is not a misfire.
MISFIRE_GRACE = timedelta(seconds=10)
#: Every job is planned at least this often, since its market's sessions may have changed.
REPLAN_EVERY = timedelta(minutes=15)
#: A time that lies further ahead than it can be by this much was saved before the clock went back.
CLOCK_TOLERANCE = timedelta(seconds=10)
#: Missed slots that are older than LOOKBACK are counted up to this number, those of a bare interval without a limit.
MOST_COUNTED = 10_000
NEVER = timedelta(days=3650)
_INSTANT = timedelta(microseconds=1)

MISSED = "missed: nobody claimed the slot in time"
MISSED_AT_LEAST = f"{MISSED}; there are more, which were not counted"
OVERLAPS = "the previous run is still in progress"
FULL = f"{MAX_WAITING} runs are already waiting"
SUPERSEDED = "superseded by a later slot"


@dataclass(frozen=True)
class DueJob:
    """A job with its current settings.

    ``unfinished`` counts the runs of its earlier slots that wait or are in progress. ``busy`` is true while any run of
    it is in progress, also one that somebody asked for.
    """

    name: str
    service: str
    settings: JobSettings
    considered_until: datetime | None = None
    last_slot: datetime | None = None
    unfinished: int = 0
    busy: bool = False


@dataclass(frozen=True)
class Skip:
    """Consecutive slots that did not become runs, for one reason."""

    first: datetime
    last: datetime
    slots: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """The slots to run, in order, and those to skip.

    The first run is sent at once if ``send_first``, and the others wait for their turn. If ``cancel_unfinished``, the
    unfinished runs of the job's earlier slots are canceled first. The job is planned again at ``due_at``.
    """

    due_at: datetime
    next_slot: datetime | None = None
    runs: tuple[datetime, ...] = ()
    skips: tuple[Skip, ...] = ()
    send_first: bool = False
    cancel_unfinished: bool = False


def plan(job: DueJob, market: Market, now: datetime) -> Plan:
    """Decide which slots of the job run now and which are skipped: first misfires, then the overlap of runs."""
    timing = job.settings.timing
    if timing is None or not job.settings.enabled:
        return Plan(now + NEVER)
    slots, older = _undecided(job, timing, market, now)
    due, missed = _split_misfires(job.settings, slots, now)
    following = timing.next_slot(market, now, HORIZON)
    replan_at = min(following or now + REPLAN_EVERY, now + REPLAN_EVERY)
    rest = Plan(replan_at, following, skips=_joined(older, missed))
    if not due or not job.unfinished:
        return replace(rest, runs=tuple(due), send_first=bool(due) and not job.busy)
    if job.settings.overlap == "cancel":
        skips = rest.skips + _skips(due[:-1], SUPERSEDED)
        return replace(rest, runs=(due[-1],), skips=skips, cancel_unfinished=True)
    if job.settings.misfire != "run_all" and job.settings.overlap != "queue":
        return replace(rest, skips=rest.skips + _skips(due, OVERLAPS))
    room = max(0, MAX_WAITING - job.unfinished)
    return replace(rest, runs=tuple(due[:room]), skips=rest.skips + _skips(due[room:], FULL))


def next_slots(settings: JobSettings, market: Market, now: datetime, count: int) -> list[datetime]:
    """List at most ``count`` slots after now. A disabled job and a job without a schedule have none."""
    if settings.timing is None or not settings.enabled:
        return []
    return list(islice(settings.timing.slots(market, now + _INSTANT, now + HORIZON), count))


def slots_between(settings: JobSettings, market: Market, begin: datetime, end: datetime) -> Iterator[datetime]:
    """List all slots from ``begin`` to before ``end``, even if the job is disabled."""
    return iter(()) if settings.timing is None else settings.timing.slots(market, begin, end)


def _first_moment(job: DueJob, timing: Timing, market: Market, now: datetime) -> datetime:
    """The moment from which slots are decided.

    For a new or changed job that is the beginning of the current interval. Earlier slots do not count. After the clock
    went back slots count from now on, and those that have a run keep it.
    """
    if max(job.considered_until or now, job.last_slot or now) > now + CLOCK_TOLERANCE:
        return now
    if job.considered_until is not None:
        return max(job.considered_until + _INSTANT, now - LOOKBACK)
    schedule = timing.schedules[market.phase_at(now)]
    begin = now - schedule.interval + _INSTANT if isinstance(schedule, Every) else now
    return max(begin, job.last_slot + _INSTANT) if job.last_slot else begin


def _undecided(job: DueJob, timing: Timing, market: Market, now: datetime) -> tuple[list[datetime], Skip | None]:
    """List the slots that are decided now, and count those that are too old for it.

    If no slot is younger than LOOKBACK, the latest of the older ones is in the list, so that run_once can run it.
    """
    slots = list(timing.slots(market, _first_moment(job, timing, market, now), now + _INSTANT))
    begin, end = (job.considered_until or now) + _INSTANT, now - LOOKBACK
    if begin >= end:
        return slots, None
    if not slots and (latest := _latest(timing, market, begin, end)):
        slots, end = [latest], latest
    return slots, _count(timing, market, begin, end)


def _latest(timing: Timing, market: Market, begin: datetime, end: datetime) -> datetime | None:
    """Find the last slot before ``end``, in stretches of time that double until one has a slot."""
    back, start = LOOKBACK, end
    while start > begin:
        start = max(begin, end - back)
        if found := deque(timing.slots(market, start, end), maxlen=1):
            return found[0]
        back *= 2
    return None


def _count(timing: Timing, market: Market, begin: datetime, end: datetime) -> Skip | None:
    """Count the slots from ``begin`` to before ``end``. The reason says so if there are more than were counted.

    Slots that follow a market's sessions are known only since its first session.
    """
    schedules = timing.schedules.values()
    follows = not market.always_open and (bool(timing.phases) or any(isinstance(each, Relative) for each in schedules))
    known = max(begin, market.sessions[0].open_at) if follows and market.sessions else begin
    counted = list(islice(timing.slots(market, known, end), MOST_COUNTED + 1))
    last = _latest(timing, market, known, end) if len(counted) > MOST_COUNTED else counted[-1] if counted else None
    if last is None:
        return None
    every = None if timing.phases else timing.schedules[Phase.REGULAR]
    if isinstance(every, Every):
        return Skip(counted[0], last, (last - counted[0]) // every.interval + 1, MISSED)
    more = known > begin or len(counted) > MOST_COUNTED
    return Skip(counted[0], last, min(len(counted), MOST_COUNTED), MISSED_AT_LEAST if more else MISSED)


def _joined(older: Skip | None, missed: Sequence[datetime]) -> tuple[Skip, ...]:
    """One row of all missed slots."""
    if older is None or not missed:
        return (older,) if older else _skips(missed, MISSED)
    return (replace(older, last=missed[-1], slots=older.slots + len(missed)),)


def _split_misfires(
    settings: JobSettings, slots: list[datetime], now: datetime
) -> tuple[list[datetime], list[datetime]]:
    """Divide the slots into those to run and those that were missed."""
    if settings.misfire == "run_all":
        earliest = now - timedelta(seconds=settings.seconds("misfire_window"))
        due = [slot for slot in slots if slot >= earliest][-MAX_WAITING:]
        return due, slots[: len(slots) - len(due)]
    late = bool(slots) and now - slots[-1] > MISFIRE_GRACE
    return ([], slots) if late and settings.misfire == "skip" else (slots[-1:], slots[:-1])


def _skips(slots: Sequence[datetime], reason: str) -> tuple[Skip, ...]:
    return (Skip(slots[0], slots[-1], len(slots), reason),) if slots else ()
