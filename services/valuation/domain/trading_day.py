"""The trading day that a run summarizes. A day lasts from the close of the day before to its own close."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)


class NoTradingDay(LookupError):
    """No close of the market is known that a summary could follow."""


@dataclass(frozen=True)
class TradingDay:
    """From ``begin``, the close before, to ``end``, its own close, or now while it is under way. ``begin`` is excluded.

    An account's last value until ``until`` counts for the day.
    """

    day: date
    begin: datetime
    end: datetime
    until: datetime


def trading_day(closes: Sequence[datetime], slot: datetime | None, now: datetime, zone: tzinfo) -> TradingDay:
    """The latest day that had closed at the slot. Without a slot, today if the market has yet to close today.

    ``closes`` are the market's, in order. Raises NoTradingDay where none of them lies before the slot.
    """
    past = [close for close in closes if close <= (slot or now)]
    if not past:
        raise NoTradingDay(f"no close before {slot or now} is known; run update_sessions, which writes them")
    today = now.astimezone(zone).date()
    if slot is None and any(_date(close, zone) == today for close in closes if close > now):
        return TradingDay(today, past[-1], now, now)
    begin = past[-2] if len(past) > 1 else past[-1] - _DAY
    # the current value belongs to a later day if another day has closed since
    superseded = any(past[-1] < close <= now for close in closes)
    until = slot if slot and superseded else now
    return TradingDay(_date(past[-1], zone), begin, past[-1], until)


def _date(close: datetime, zone: tzinfo) -> date:
    """The day that ends with the close. A close at midnight ends the day before."""
    return (close - _INSTANT).astimezone(zone).date()
