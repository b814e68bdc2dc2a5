"""A market's days: which phase a moment lies in, by the sessions that marketdata keeps.

A midday break is closed. A moment without a session is on a weekend or a holiday by the market's own date, not by UTC.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)
_SATURDAY = 5


class Phase(StrEnum):
    PRE_MARKET = "pre_market"
    REGULAR = "regular"
    AFTER_HOURS = "after_hours"
    CLOSED = "closed"
    WEEKEND = "weekend"
    HOLIDAY = "holiday"


@dataclass(frozen=True)
class Session:
    """Trading of one phase, from its opening up to its close; ``day`` is the market's trading day."""

    day: date
    phase: Phase
    open_at: datetime
    close_at: datetime


@dataclass(frozen=True)
class Span:
    """A stretch of one phase: ``begin`` belongs to it, ``end`` does not."""

    phase: Phase
    begin: datetime
    end: datetime


@dataclass(frozen=True)
class Market:
    """A market with the sessions that are known of it, none overlapping another; without them it is closed."""

    code: str
    zone: ZoneInfo
    sessions: tuple[Session, ...] = ()
    always_open: bool = False
    _days: frozenset[date] = field(init=False, repr=False, compare=False)
    _opens: tuple[datetime, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.sessions, key=lambda session: session.open_at))
        object.__setattr__(self, "sessions", ordered)
        object.__setattr__(self, "_opens", tuple(session.open_at for session in ordered))
        object.__setattr__(self, "_days", frozenset(session.day for session in ordered))

    def phase_at(self, moment: datetime) -> Phase:
        return self._span_at(moment).phase

    def spans(self, begin: datetime, end: datetime) -> Iterator[Span]:
        """The phases from ``begin`` to ``end``, in order and without a gap; neighbours may be of the same phase."""
        while begin < end:
            span = self._span_at(begin)
            yield Span(span.phase, begin, min(span.end, end))
            begin = span.end

    def opens(self, begin: datetime, end: datetime) -> list[datetime]:
        """The first regular opening of each day, where it lies from ``begin`` to before ``end``.

        An always-open market opens at each midnight, and closes with it the day that ends.
        """
        if self.always_open:
            return list(self._midnights(begin, end))
        first: dict[date, datetime] = {}
        for session in self._regular():
            first.setdefault(session.day, session.open_at)
        return [moment for moment in first.values() if begin <= moment < end]

    def closes(self, begin: datetime, end: datetime) -> list[datetime]:
        """The last regular close of each day, where it lies from ``begin`` to before ``end``."""
        if self.always_open:
            return list(self._midnights(begin, end))
        last = {session.day: session.close_at for session in self._regular()}
        return [moment for moment in last.values() if begin <= moment < end]

    def _midnights(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        midnight = self._midnight_after(begin - _INSTANT)
        while midnight < end:
            yield midnight
            midnight = self._midnight_after(midnight)

    def _regular(self) -> Iterator[Session]:
        return (session for session in self.sessions if session.phase is Phase.REGULAR)

    def _span_at(self, moment: datetime) -> Span:
        midnight = self._midnight_after(moment)
        if self.always_open:
            return Span(Phase.REGULAR, moment, midnight)
        number = bisect_right(self._opens, moment)
        if number and moment < self.sessions[number - 1].close_at:
            session = self.sessions[number - 1]
            return Span(session.phase, moment, session.close_at)
        following = self._opens[number] if number < len(self._opens) else midnight
        return Span(self._phase_of_closed(moment.astimezone(self.zone).date()), moment, min(following, midnight))

    def _phase_of_closed(self, day: date) -> Phase:
        if day in self._days:
            return Phase.CLOSED
        return Phase.WEEKEND if day.weekday() >= _SATURDAY else Phase.HOLIDAY

    def _midnight_after(self, moment: datetime) -> datetime:
        day = moment.astimezone(self.zone).date() + _DAY
        return datetime.combine(day, time(), self.zone).astimezone(moment.tzinfo)
