"""Bars between two polls of a provider that gives figures of the whole day.

A poll says that the day's high is 103 and 8,000 shares were traded. The poll before said 101 and 7,000. Between them
1,000 shares were traded, and the price was at 103, since it had not been there before.
"""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class DayFigures:
    """A day's trading until ``at``. High, low and volume are those since its open, and None where unknown."""

    day: date
    at: datetime
    last: Decimal
    high: Decimal | None
    low: Decimal | None
    volume: Decimal | None


@dataclass(frozen=True, slots=True)
class Traded:
    """The trades from ``start`` until the newest price. ``start`` is None where nothing is known from before."""

    start: datetime | None
    open: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal


def traded_between(before: DayFigures | None, after: DayFigures) -> Traded:
    """The bar between two figures. Without earlier ones of the same day, it is the newest price alone.

    A high or low counts only if it is new in ``after``. An older one may be from any time of the day.
    """
    last = after.last
    if before is None or before.day != after.day or before.at >= after.at:
        return Traded(None, last, last, last, Decimal(0))
    highs, lows = [before.last, last], [before.last, last]
    if after.high is not None and before.high is not None and after.high > before.high:
        highs.append(after.high)
    if after.low is not None and before.low is not None and after.low < before.low:
        lows.append(after.low)
    volume = after.volume - before.volume if after.volume is not None and before.volume is not None else Decimal(0)
    return Traded(before.at, before.last, max(highs), min(lows), max(volume, Decimal(0)))
