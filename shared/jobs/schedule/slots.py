"""Schedules as people write them, and their slots: pure functions of a market's calendar.

    5s, 10m, 1h, 1d                     an interval, whose slots are its multiples since 1970 in UTC
    30 9 * * 1-5                        cron by the market's clock: minute, hour, day, month, weekday (Sunday: 0 and 7)
    at open, 5m after open, at close,
    10m before close                    on every trading day of the market, half days included

A cron time that a daylight-saving change skips is due right after the gap. A cron time that comes twice is due the
first time only. An expression for all 24 hours follows the hours as they pass: it is due both times, and misses nothing
in a gap of whole hours.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import islice, takewhile
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from shared.jobs.schedule.calendar import HORIZON, Market, Phase
from shared.jobs.schedule.interval import InvalidInterval, format_interval, parse_interval
from shared.jobs.schedule.wall_clock import Stretch, stretches

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RELATIVE = re.compile(r"(?:at|(?P<distance>\S+) (?P<direction>before|after)) (?P<edge>open|close)")
_ZERO = timedelta(0)
_INSTANT = timedelta(microseconds=1)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
CRON_FIELDS = 5
HOURS_OF_DAY = 24
#: A schedule for rare days shows within this many slots whether it ever comes.
LOOK_AT = 5_000
OFF = "off"


class InvalidSchedule(ValueError):
    """The text is not a schedule, or the schedule never has a slot."""


class Schedule(Protocol):
    """Slots in all phases. ``str`` is the shortest text of the schedule."""

    def between(self, market: Market, begin: datetime, end: datetime) -> Iterator[datetime]:
        """List the slots from ``begin`` to before ``end``, in UTC and in order."""


@dataclass(frozen=True)
class Every:
    """An interval, whose slots are its multiples."""

    interval: timedelta

    def between(self, market: Market, begin: datetime, end: datetime) -> Iterator[datetime]:  # noqa: ARG002
        slot = _EPOCH - (_EPOCH - begin) // self.interval * self.interval
        while slot < end:
            yield slot
            slot += self.interval

    def __str__(self) -> str:
        return format_interval(self.interval)


@dataclass(frozen=True)
class Cron:
    """A cron expression by the clock of ``zone``, or of the market if that is None."""

    expression: str
    zone: ZoneInfo | None = None

    def between(self, market: Market, begin: datetime, end: datetime) -> Iterator[datetime]:
        after = begin.astimezone(UTC).replace(tzinfo=None)
        for stretch in stretches(self.zone or market.zone, begin, end):
            first, last = stretch.shown
            if begin <= stretch.begin and self._misses(stretch):
                yield stretch.begin
                first += _MINUTE
            new = first if self._all_hours else max(first, stretch.first_new)
            for time in self._shown(max(new, after + stretch.offset), last):
                yield (time - stretch.offset).replace(tzinfo=UTC)

    def _misses(self, stretch: Stretch) -> bool:
        """Tell whether the clock skipped a time of the expression just before the stretch."""
        if self._all_hours and not (stretch.offset - stretch.before) % _HOUR:
            return False
        return next(self._shown(*stretch.skipped), None) is not None

    def _shown(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        """List the times on the clock from ``begin`` to before ``end``, all without a zone."""
        return takewhile(lambda time: time < end, CronSim(self.expression, begin - _INSTANT))

    @cached_property
    def _all_hours(self) -> bool:
        return len(CronSim(self.expression, _EPOCH).hours) == HOURS_OF_DAY

    def __str__(self) -> str:
        return self.expression


@dataclass(frozen=True)
class Relative:
    """A distance from the market's open or close. A negative distance lies before it."""

    edge: str
    distance: timedelta

    def between(self, market: Market, begin: datetime, end: datetime) -> Iterator[datetime]:
        edges = market.opens if self.edge == "open" else market.closes
        return (moment.astimezone(UTC) + self.distance for moment in edges(begin - self.distance, end - self.distance))

    def __str__(self) -> str:
        if not self.distance:
            return f"at {self.edge}"
        return f"{format_interval(abs(self.distance))} {'after' if self.distance > _ZERO else 'before'} {self.edge}"


@lru_cache(maxsize=4096)
def parse_schedule(text: str, zone: ZoneInfo | None = None) -> Schedule:
    """Read a schedule. Cron goes by the clock of ``zone``. Raises InvalidSchedule, which quotes the text."""
    relative = _RELATIVE.fullmatch(text)
    try:
        if relative is not None:
            distance = parse_interval(relative["distance"]) if relative["distance"] else _ZERO
            return Relative(relative["edge"], -distance if relative["direction"] == "before" else distance)
        if len(text.split()) == CRON_FIELDS:
            CronSim(text, _EPOCH)  # also refuses days that no month has
            return Cron(text, zone)
        return Every(parse_interval(text))
    except InvalidInterval as error:
        raise InvalidSchedule(
            f"{error}, a cron expression such as 30 9 * * 1-5, or a time such as 5m after open"
        ) from None
    except CronSimError as error:
        raise InvalidSchedule(f"{text!r} is not a cron expression of five fields: {error}") from None


@dataclass(frozen=True)
class Timing:
    """When a job is due: its schedule, and other schedules in some phases of its market.

    A phase that maps to ``off`` has no slots. Raises InvalidSchedule if every phase is off.
    """

    default: str
    phases: Mapping[Phase, str] = field(default_factory=dict)
    zone: ZoneInfo | None = None

    def __post_init__(self) -> None:
        if not any(self.schedules.values()):
            raise InvalidSchedule("every phase is off, so the job never runs: set enabled = false instead")

    @cached_property
    def schedules(self) -> dict[Phase, Schedule | None]:
        """The schedule of each phase, or None if the phase is off."""
        texts = {phase: self.phases.get(phase, self.default) for phase in Phase}
        return {phase: None if text == OFF else parse_schedule(text, self.zone) for phase, text in texts.items()}

    def slots(self, market: Market, begin: datetime, end: datetime) -> Iterator[datetime]:
        """List the slots from ``begin`` to before ``end``, in order. Each follows the schedule of its own phase."""
        if not self.phases:
            default = self.schedules[Phase.REGULAR]
            return iter(()) if default is None else default.between(market, begin, end)
        return (
            slot
            for span in market.spans(begin, end)
            if (schedule := self.schedules[span.phase]) is not None
            for slot in schedule.between(market, span.begin, span.end)
        )

    def ever_comes(self, market: Market, begin: datetime, end: datetime) -> bool:
        """Tell whether a slot of some phase's schedule lies in that phase, if only on a rare day of a later year."""
        return self.next_slot(market, begin, HORIZON) is not None or any(
            market.phase_at(slot) is phase
            for phase, schedule in self.schedules.items()
            if schedule is not None
            for slot in islice(schedule.between(market, begin, end), LOOK_AT)
        )

    def next_slot(self, market: Market, now: datetime, horizon: timedelta) -> datetime | None:
        """Find the first slot after ``now`` within the horizon."""
        return next(self.slots(market, now + timedelta(microseconds=1), now + horizon), None)
