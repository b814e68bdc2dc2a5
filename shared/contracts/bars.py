"""Bars of prices as they are named in requests: their intervals, and how they are adjusted."""

from datetime import timedelta
from enum import StrEnum


class Interval(StrEnum):
    """The length of a stored bar."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    QUARTER = "15m"
    HOUR = "1h"
    DAY = "1d"


class Adjustment(StrEnum):
    """The corporate actions after a bar that its prices are adjusted for, in the words of Alpaca."""

    RAW = "raw"
    SPLIT = "split"
    DIVIDEND = "dividend"
    ALL = "all"


LENGTHS: dict[str, timedelta] = {
    Interval.MINUTE: timedelta(minutes=1),
    Interval.FIVE_MINUTES: timedelta(minutes=5),
    Interval.QUARTER: timedelta(minutes=15),
    Interval.HOUR: timedelta(hours=1),
    Interval.DAY: timedelta(days=1),
}
