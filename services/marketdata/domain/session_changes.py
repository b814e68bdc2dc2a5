"""Changes of a day's sessions by an operator, over those of the exchange's calendar."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from services.marketdata.domain.sessions import Hours, Session, hours_of, sessions_of, with_times
from shared.contracts.markets import MARKETS
from shared.contracts.sessions import SessionChange

#: (market, day).
DayKey = tuple[str, date]


class ImpossibleChange(ValueError):
    """The times of a change and those of the calendar leave no trading, or the day has none to change."""


def by_day(sessions: Iterable[Session]) -> dict[DayKey, list[Session]]:
    days: dict[DayKey, list[Session]] = {}
    for each in sessions:
        days.setdefault((each.market, each.day), []).append(each)
    return days


def changed_day(change: SessionChange, calendar: Sequence[Session]) -> list[Session]:
    """The day's sessions after the change, over those of the exchange's calendar. Raises ImpossibleChange."""
    if change.closed:
        return []
    hours = hours_of(calendar)
    if hours is None and (change.open_at is None or change.close_at is None):
        raise ImpossibleChange(f"{change.market} has no trading on {change.day}: send open_at and close_at")
    if hours is None and change.open_at is not None and change.close_at is not None:
        hours = Hours(change.day, change.open_at, change.close_at)
    changed = None if hours is None else with_times(hours, change.open_at, change.close_at)
    if changed is None or changed.open_at >= changed.close_at:
        raise ImpossibleChange(f"{change.market} would close before it opens on {change.day}: send both times")
    return sessions_of(MARKETS[change.market], changed)


def with_changes(sessions: Sequence[Session], changes: Mapping[DayKey, SessionChange]) -> list[Session]:
    """The calendar's sessions with the changes of their days. A change that has become impossible is left out."""
    calendar = by_day(sessions)
    kept = [each for each in sessions if (each.market, each.day) not in changes]
    for key, change in changes.items():
        try:
            kept += changed_day(change, calendar.get(key, ()))
        except ImpossibleChange:
            kept += calendar.get(key, ())
    return kept
