"""A market's trading calendar: which phase of the trading day a moment lies in.

A midday break is closed. A moment without a session is on a weekend or a holiday by the market's own date, not by UTC.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from typing import Protocol
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from shared.contracts.markets import MARKETS

#: Slots are looked for, and sessions are loaded, this far ahead.
HORIZON = timedelta(days=370)
_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)
_SATURDAY = 5


class Phase(StrEnum):
    """The phases of a trading day, and the days without one."""

    PRE_MARKET = "pre_market"
    REGULAR = "regular"
    AFTER_HOURS = "after_hours"
    CLOSED = "closed"
    WEEKEND = "weekend"
    HOLIDAY = "holiday"


@dataclass(frozen=True)
class Session:
    """Trading of one phase, from its open up to its close. ``day`` is the market's trading day."""

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
    """A market with its known sessions, none of which overlap. Without sessions it is closed."""

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
        """Find the phase that a moment lies in."""
        return self._span_at(moment).phase

    def spans(self, begin: datetime, end: datetime) -> Iterator[Span]:
        """List the phases from ``begin`` to ``end``, in order and without a gap. Neighbours may have the same phase."""
        while begin < end:
            span = self._span_at(begin)
            yield Span(span.phase, begin, min(span.end, end))
            begin = span.end

    def opens(self, begin: datetime, end: datetime) -> list[datetime]:
        """List the first regular open of each day, from ``begin`` to before ``end``.

        An always-open market opens at each midnight, which is also the close of the day before.
        """
        if self.always_open:
            return list(self._midnights(begin, end))
        first: dict[date, datetime] = {}
        for session in self._regular(begin, end):
            first.setdefault(session.day, session.open_at)
        return [moment for moment in first.values() if begin <= moment < end]

    def closes(self, begin: datetime, end: datetime) -> list[datetime]:
        """List the last regular close of each day, from ``begin`` to before ``end``."""
        if self.always_open:
            return list(self._midnights(begin, end))
        last = {session.day: session.close_at for session in self._regular(begin, end)}
        return [moment for moment in last.values() if begin <= moment < end]

    def _midnights(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        midnight = self._midnight_after(begin - _INSTANT)
        while midnight < end:
            yield midnight
            midnight = self._midnight_after(midnight)

    def _regular(self, begin: datetime, end: datetime) -> Iterator[Session]:
        """List the regular sessions of the days that are whole or in part between the two moments."""
        first, last = bisect_left(self._opens, begin - 2 * _DAY), bisect_right(self._opens, end + 2 * _DAY)
        return (session for session in self.sessions[first:last] if session.phase is Phase.REGULAR)

    def _span_at(self, moment: datetime) -> Span:
        midnight = self._midnight_after(moment)
        if self.always_open:
            return Span(Phase.REGULAR, moment, midnight)
        number = bisect_right(self._opens, moment)
        if number and moment < self.sessions[number - 1].close_at:
            session = self.sessions[number - 1]
            return Span(session.phase, moment, session.close_at)
        following = self._opens[number] if number < len(self._opens) else midnight
        day = moment.astimezone(self.zone).date()
        without_session = Phase.WEEKEND if day.weekday() >= _SATURDAY else Phase.HOLIDAY
        phase = Phase.CLOSED if day in self._days else without_session
        return Span(phase, moment, min(following, midnight))

    def _midnight_after(self, moment: datetime) -> datetime:
        day = moment.astimezone(self.zone).date() + _DAY
        return datetime.combine(day, time(), self.zone).astimezone(moment.tzinfo)


class Calendar(Protocol):
    """The markets as they are now, which the scheduler is given."""

    def market(self, code: str) -> Market:
        """Look up a known market, which has no sessions until they are published."""

    def changed(self) -> list[str]:
        """List the markets whose sessions have changed since the last call."""


#: Loads a market with the sessions that overlap the time between two moments. The market is None if it is unpublished.
LoadMarket = Callable[[Connection, str, datetime, datetime], Market | None]


@cache
def market_without_sessions(code: str) -> Market:
    """Make a known market before its sessions are published. Raises KeyError for an unknown market."""
    known = MARKETS[code]
    return Market(code, ZoneInfo(known.timezone), always_open=known.always_open)
