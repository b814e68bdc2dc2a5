"""The sessions of a trading day, from the hours that the exchange's calendar gives it.

A midday break divides regular trading into two sessions. New York also trades before and after: from 04:00, and for
four hours after the close, which on a half day is 13:00 to 17:00.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from shared.contracts.markets import KnownMarket

#: Markets that trade outside of regular hours.
EXTENDED = frozenset({"XNYS", "XNAS"})
PRE_MARKET_OPENS = time(4)
AFTER_HOURS = timedelta(hours=4)


@dataclass(frozen=True, slots=True)
class Hours:
    """Regular trading of one day, in UTC. The times of a midday break are None where there is none.

    ``forecast`` marks a day that the exchange has not announced yet.
    """

    day: date
    open_at: datetime
    close_at: datetime
    early_close: bool = False
    break_start: datetime | None = None
    break_end: datetime | None = None
    forecast: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """``kind`` is pre, regular or post. ``early_close`` marks every session of a short day."""

    market: str
    day: date
    kind: str
    open_at: datetime
    close_at: datetime
    early_close: bool
    forecast: bool = False


def sessions_of(market: KnownMarket, hours: Hours) -> list[Session]:
    """The day's sessions in order, none overlapping another."""
    if hours.break_start is None or hours.break_end is None:
        spans = [("regular", hours.open_at, hours.close_at)]
    else:
        spans = [("regular", hours.open_at, hours.break_start), ("regular", hours.break_end, hours.close_at)]
    if market.code in EXTENDED:
        first = datetime.combine(hours.day, PRE_MARKET_OPENS, ZoneInfo(market.timezone)).astimezone(UTC)
        spans = [("pre", first, hours.open_at), *spans, ("post", hours.close_at, hours.close_at + AFTER_HOURS)]
    # a day that ends with its morning has a break without length, and no afternoon
    return [
        Session(market.code, hours.day, kind, begin, end, hours.early_close, hours.forecast)
        for kind, begin, end in spans
        if begin < end
    ]


def hours_of(sessions: Sequence[Session]) -> Hours | None:
    """The regular hours of one day's sessions. None where it has none."""
    regular = sorted((each for each in sessions if each.kind == "regular"), key=lambda each: each.open_at)
    if not regular:
        return None
    first, last = regular[0], regular[-1]
    hours = Hours(first.day, first.open_at, last.close_at, first.early_close, forecast=first.forecast)
    return hours if first is last else replace(hours, break_start=first.close_at, break_end=last.open_at)


def with_times(hours: Hours, open_at: datetime | None, close_at: datetime | None) -> Hours:
    """The hours with another open or close. The midday break stays where it still lies between the two."""
    opens, closes = open_at or hours.open_at, close_at or hours.close_at
    early = closes < hours.close_at or (hours.early_close and closes == hours.close_at)
    changed = replace(hours, open_at=opens, close_at=closes, early_close=early)
    start, end = hours.break_start, hours.break_end
    if start is not None and end is not None and opens < start and end < closes:
        return changed
    return replace(changed, break_start=None, break_end=None)
