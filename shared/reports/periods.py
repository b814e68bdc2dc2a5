"""The periods of reports: days, weeks and months by the clock of a market, and stretches of a client's choice.

A day lasts from midnight to midnight of the market, so that trading after the close belongs to it. Days on which the
market does not trade belong to the next trading day. A week begins on Monday.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

ONE_DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
#: Longer than any market stays closed.
LONGEST_CLOSURE = timedelta(days=30)


class PeriodKind(StrEnum):
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    CUSTOM = "custom"


#: The kinds whose finished reports are kept.
REGULAR = (PeriodKind.DAILY, PeriodKind.WEEKLY, PeriodKind.MONTHLY)


@dataclass(frozen=True)
class Period:
    """The days from ``first`` to ``last``, and their times from ``begin`` to ``end``, all of them included.

    The last day is the name of the period: that of a day is its trading day.
    """

    kind: PeriodKind
    first: date
    last: date
    begin: datetime
    end: datetime


def period_of(kind: PeriodKind, first: date, last: date, zone: tzinfo) -> Period:
    """The period of these days in the zone."""
    return Period(kind, first, last, midnight(first, zone), midnight(last + ONE_DAY, zone) - INSTANT)


def midnight(day: date, zone: tzinfo) -> datetime:
    """The begin of the day, in UTC."""
    return datetime.combine(day, datetime.min.time(), zone).astimezone(ZoneInfo("UTC"))


def period_around(kind: PeriodKind, day: date, days: Sequence[date], zone: tzinfo) -> Period:
    """The period of the kind that the day is in. ``days`` are trading days around it, in order.

    The day stands for itself if no trading day is known before it or after it.
    """
    if kind is PeriodKind.WEEKLY:
        monday = day - timedelta(days=day.weekday())
        return period_of(kind, monday, monday + timedelta(days=6), zone)
    if kind is PeriodKind.MONTHLY:
        first = day.replace(day=1)
        return period_of(kind, first, (first + timedelta(days=31)).replace(day=1) - ONE_DAY, zone)
    place = bisect_left(days, day)
    if place in {0, len(days)}:
        return period_of(kind, day, day, zone)
    return period_of(kind, days[place - 1] + ONE_DAY, days[place], zone)


def period_before(period: Period, days: Sequence[date], zone: tzinfo) -> Period:
    """The period of the same kind before this one."""
    return period_around(period.kind, period.first - ONE_DAY, days, zone)


def trading_days(connection: Connection, market: dict[str, Any], first: date, last: date) -> list[date]:
    """Return the trading days of the market from ``first`` to ``last``. Each day is one where it never closes."""
    if market["always_open"]:
        return [first + timedelta(days=number) for number in range((last - first).days + 1)]
    found = connection.execute(_DAYS, {"market": market["code"], "first": first, "last": last})
    return list(found.scalars())


def days_around(connection: Connection, market: dict[str, Any], first: date, last: date) -> list[date]:
    """Return the trading days with which the periods from ``first`` to ``last`` can be told."""
    return trading_days(connection, market, first - LONGEST_CLOSURE, last + LONGEST_CLOSURE)


_DAYS = text("""
SELECT day FROM marketdata.trading_days_v1 WHERE market = :market AND day >= :first AND day <= :last ORDER BY day
""")
