"""Differences between a market's calendar and a second source of it.

Sources may mean different things by a close: Sydney's regular trading ends at 16:00, and its closing auction ten
minutes later. Such a difference of every day is reported once, and a day differs where it departs from that.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from services.marketdata.domain.known_days import CORRECTIONS
from services.marketdata.domain.sessions import Session

#: The open and close of a day. None where a source has only the day.
Times = tuple[datetime, datetime] | None
_NONE = timedelta(0), timedelta(0)
EVERY_DAY = "the same difference on every day: the sources mean different things by an open or a close"
#: Markets whose second source has no half days.
WITHOUT_HALF_DAYS = frozenset({"XHKG"})


class Kind(StrEnum):
    """One source trades and the other does not, or the hours of the day differ, or those of every day."""

    TRADING_DAY = "trading_day"
    HOURS = "hours"
    USUAL_HOURS = "usual_hours"


@dataclass(frozen=True, slots=True)
class Difference:
    """``open_at`` and ``close_at`` are those of our sessions, ``other_…`` those of the second ``source``.

    They are None where that has no trading, or no hours. ``known`` says why ours are right, where that is known.
    """

    market: str
    day: date
    kind: Kind
    source: str
    open_at: datetime | None
    close_at: datetime | None
    other_open_at: datetime | None
    other_close_at: datetime | None
    known: str | None = None


@dataclass(frozen=True)
class Calendars:
    """Computed sessions and their differences from the second sources.

    ``failed`` are the markets without a calendar, and ``unchecked`` those without a second source, each with the cause.
    """

    sessions: list[Session] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unchecked: dict[str, str] = field(default_factory=dict)


def compare(market: str, sessions: Sequence[Session], other: Mapping[date, Times], source: str) -> list[Difference]:
    """List the differences by day. ``sessions`` are all of the market's in the days that both sources know."""
    ours: dict[date, tuple[datetime, datetime]] = {}
    for each in sessions:
        if each.kind == "regular":
            begin, end = ours.get(each.day, (each.open_at, each.close_at))
            ours[each.day] = min(begin, each.open_at), max(end, each.close_at)
    early = {each.day for each in sessions if each.early_close}
    shifts = {
        day: (theirs[0] - ours[day][0], theirs[1] - ours[day][1])
        for day, theirs in other.items()
        if theirs is not None and day in ours
    }
    usual = Counter(shifts.values()).most_common(1)[0][0] if shifts else _NONE
    found = dict.fromkeys(ours.keys() ^ other.keys(), Kind.TRADING_DAY)
    found |= {day: Kind.HOURS for day, shift in shifts.items() if shift not in (usual, _NONE)}
    if usual != _NONE:
        first = min(day for day, shift in shifts.items() if shift == usual)
        found[first] = Kind.USUAL_HOURS
    differences = []
    for day in sorted(found):
        known = EVERY_DAY if found[day] is Kind.USUAL_HOURS else _known(market, day, is_early=day in early)
        (opens, closes), (other_opens, other_closes) = (times.get(day) or (None, None) for times in (ours, other))
        differences.append(Difference(market, day, found[day], source, opens, closes, other_opens, other_closes, known))
    return differences


def _known(market: str, day: date, *, is_early: bool) -> str | None:
    correction = CORRECTIONS.get((market, day))
    if correction is not None:
        return f"{correction.reason} ({correction.source})"
    lacking = is_early and market in WITHOUT_HALF_DAYS
    return f"{market} has half days, which the second source lacks" if lacking else None
